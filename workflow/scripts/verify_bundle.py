"""Verify a bundle: snakemake verify_bundle --config bundle=PATH."""

import sys
from pathlib import Path

from georecon.errors import ConfigError
from georecon.job import job
from georecon.verify_bundle import report

with job(snakemake.log[0]) as log:
    if not snakemake.params.file:
        raise ConfigError("which bundle? snakemake verify_bundle --config bundle=PATH")
    code = report(Path(snakemake.params.file), log.say)
    if code:
        sys.exit(code)
