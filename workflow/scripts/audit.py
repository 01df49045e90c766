"""Audit one edition; fails if any chain is broken."""

import sys
from pathlib import Path

from georecon import paths
from georecon.audit import BROKEN, audit
from georecon.audit.depth import Depth
from georecon.audit.page import write_audit
from georecon.experiments.experiments import Experiments
from georecon.jobs.job import job
from georecon.jobs.surroundings import command_started

with job(snakemake.log[0]) as log:
    asked = Experiments.from_json(snakemake.params.config)
    experiments, depth = asked.published(), Depth.of(asked.config)
    expected = snakemake.params.expected
    since = command_started()
    result = audit(Path.cwd(), experiments, expected, depth=depth, say=log.say, since=since)
    folder = Path(experiments.runs.folder(paths.AUDIT))
    write_audit(result, folder)
    for line in result.lines():
        log.say(line)
    log.say(f"verdicts: {folder}/index.html")
    if result.status == BROKEN:
        sys.exit(1)
