"""Audit one edition; fails if any chain is broken."""

import sys
from pathlib import Path

from georecon.audit import BROKEN, audit
from georecon.audit.page import write_audit
from georecon.experiments.experiments import Experiments
from georecon.jobs.job import job

with job(snakemake.log[0]) as log:
    params = snakemake.params
    result = audit(Path.cwd(), Experiments.from_json(params.config), params.expected)
    write_audit(result, Path(params.folder))
    for line in result.lines():
        log.say(line)
    log.say(f"verdicts: {params.folder}/index.html")
    if result.status == BROKEN:
        sys.exit(1)
