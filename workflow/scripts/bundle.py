"""Write the bundle of an edition whose audit finds no broken chain."""

from pathlib import Path

from georecon.audit import audit
from georecon.audit.bundle import write_bundle
from georecon.experiments.experiments import Experiments
from georecon.jobs.job import job

with job(snakemake.log[0]) as log:
    params = snakemake.params
    experiments = Experiments.from_json(params.config)
    result = audit(Path.cwd(), experiments, params.expected)
    for line in result.lines():
        log.say(line)
    made = write_bundle(Path.cwd(), experiments, result, Path(params.file))
    log.say(f"{made.path}: {made.files} files, {made.bytes / 1e6:.1f} MB, sha256 {made.sha256}")
