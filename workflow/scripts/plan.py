"""What the edition would cost."""

from pathlib import Path

from georecon.errors import GeoreconError
from georecon.experiments.experiments import Experiments
from georecon.experiments.plan import plan, trainings_left
from georecon.experiments.rates import read_rates
from georecon.jobs.gpus import why_no_gpus
from georecon.jobs.job import job
from georecon.jobs.planned_jobs import attempts, job_lines, limit_lines, planned_jobs
from georecon.training.bracket import bracket_lines

with job(snakemake.log[0]) as log:
    params, root = snakemake.params, Path(snakemake.scriptdir).parents[1]
    experiments, folder, results = (
        Experiments.from_json(params.config),
        Path.cwd(),
        Path(params.rates),
    )
    for line in plan(experiments, folder, results):
        log.say(line)
    rates, _ = read_rates(results)
    if experiments.config.gpus and not rates:
        for line in bracket_lines(experiments, folder):
            log.say(line)
    if (problem := why_no_gpus(experiments.config.gpus)) is not None:
        log.say(f"WARNING: {problem}")
    try:
        jobs = planned_jobs(root, folder, snakemake.config)
    except GeoreconError as error:
        log.say(f"Jobs by rule are not known: {error}")
    else:
        left = trainings_left(experiments, folder)
        for line in job_lines(jobs) + limit_lines(jobs, left, rates, attempts(root)):
            log.say(line)
