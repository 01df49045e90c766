"""Verify a bundle: snakemake verify_bundle --config bundle=PATH."""

import sys
from pathlib import Path

from georecon.audit.verify_bundle import report
from georecon.errors import ConfigError
from georecon.jobs.job import job

with job(snakemake.log[0]) as log:
    if not snakemake.params.file:
        raise ConfigError("which bundle? snakemake verify_bundle --config bundle=PATH")
    code = report(Path(snakemake.params.file), log.say)
    if code:
        sys.exit(code)
