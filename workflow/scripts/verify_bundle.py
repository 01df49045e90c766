"""Verify the bundle that ``--config bundle=PATH`` names."""

import sys
from pathlib import Path

from georecon.audit.verify_bundle import report
from georecon.commands import command
from georecon.errors import ConfigError
from georecon.jobs.job import job

with job(snakemake.log[0]) as log:
    if not snakemake.params.file:
        how = command("verify_bundle", pairs=["bundle=PATH"])
        raise ConfigError(f"bundle is not given: {how}")
    code = report(Path(snakemake.params.file), log.say)
    if code:
        sys.exit(code)
