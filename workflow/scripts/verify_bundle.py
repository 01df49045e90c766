"""Verify the bundle that ``--config bundle=PATH`` names."""

import sys
from pathlib import Path

from georecon.audit.depth import Depth
from georecon.audit.verify_bundle import report
from georecon.commands import command
from georecon.errors import ConfigError
from georecon.experiments.experiments import Experiments
from georecon.jobs.job import job

with job(snakemake.log[0]) as log:
    config = Experiments.from_json(snakemake.params.config).config
    if not config.bundle:
        how = command("verify_bundle", pairs=["bundle=PATH"])
        raise ConfigError(f"bundle is not given: {how}")
    raw = Path(config.mirror) if config.mirror else None
    code = report(Path(config.bundle), log.say, depth=Depth.of(config), raw=raw)
    if code:
        sys.exit(code)
