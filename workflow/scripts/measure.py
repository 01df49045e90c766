"""Measure one kind of training."""

import time

started = time.perf_counter()  # imports are a part of the start

from pathlib import Path

from georecon.experiments.rates import write_rate
from georecon.experiments.trial import TrialJob
from georecon.jobs.job import job
from georecon.keys import from_json
from georecon.stages.measure import line, measure

with job(snakemake.log[0]) as log:
    settings, output = snakemake.params.settings, Path(snakemake.output[0])
    found = measure(
        settings,
        output.parent,
        started=started,
        threads=snakemake.threads,
        gpus=int(snakemake.resources.get("gpu", 0)),
        say=log.say,
    )
    write_rate(output, found)
    log.say(line(from_json(TrialJob, settings), found))
