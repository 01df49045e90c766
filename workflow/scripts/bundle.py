"""Write the bundle of an edition whose audit finds no broken chain."""

from dataclasses import replace
from pathlib import Path

from georecon.audit import audit
from georecon.audit.bundle import write_bundle
from georecon.audit.depth import Depth
from georecon.experiments.experiments import Experiments
from georecon.jobs.job import job
from georecon.jobs.surroundings import command_started

with job(snakemake.log[0]) as log:
    params = snakemake.params
    experiments = Experiments.from_json(params.config)
    depth = replace(Depth.of(experiments.config), full=True)
    since = command_started()
    result = audit(Path.cwd(), experiments, params.expected, depth=depth, say=log.say, since=since)
    for line in result.lines():
        log.say(line)
    weights = bool(experiments.config.bundle_weights)
    made = write_bundle(Path.cwd(), experiments, result, Path(params.file), weights=weights)
    log.say(f"{made.path}: {made.files} files, {made.bytes / 1e6:.1f} MB, sha256 {made.sha256}")
