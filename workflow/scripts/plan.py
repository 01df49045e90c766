"""What the edition would cost."""

from pathlib import Path

from georecon.errors import GeoreconError
from georecon.experiments.experiments import Experiments
from georecon.experiments.plan import plan, read_rates, trainings_left
from georecon.jobs.job import job
from georecon.jobs.planned_jobs import attempts, job_lines, limit_lines, planned_jobs

with job(snakemake.log[0]) as log:
    params, root = snakemake.params, Path(snakemake.scriptdir).parents[1]
    experiments, folder, results = (
        Experiments.from_json(params.config),
        Path.cwd(),
        Path(params.rates),
    )
    for line in plan(experiments, folder, results):
        log.say(line)
    try:
        jobs = planned_jobs(root, folder, snakemake.config)
    except GeoreconError as error:
        log.say(f"Jobs by rule are not known: {error}")
    else:
        left = trainings_left(experiments, folder)
        for line in job_lines(jobs) + limit_lines(jobs, left, read_rates(results), attempts(root)):
            log.say(line)
