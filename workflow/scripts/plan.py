"""What the edition would cost."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from georecon import paths
from georecon.errors import GeoreconError
from georecon.experiments.experiments import Experiments
from georecon.experiments.plan import plan
from georecon.experiments.rates import read_rates
from georecon.experiments.trainings import trainings_left
from georecon.jobs.gpus import why_no_gpus
from georecon.jobs.job import job
from georecon.jobs.planned_jobs import attempts, job_lines, limit_lines, planned_jobs

with job(snakemake.log[0]) as log, ThreadPoolExecutor(1) as pool:
    params, root, folder = snakemake.params, Path(snakemake.scriptdir).parents[1], Path.cwd()
    dry_run = pool.submit(planned_jobs, root, folder, snakemake.config)  # takes longest
    from georecon.training.bracket import bracket_lines  # torch: seconds, beside the dry run

    experiments = Experiments.from_json(params.config)
    rates = read_rates(Path(paths.TRIAL).parent)
    for line in plan(experiments, folder, rates):
        log.say(line)
    for line in bracket_lines(experiments, folder, rates.kinds()):
        log.say(line)
    if (problem := why_no_gpus(experiments.config.gpus)) is not None:
        log.say(f"WARNING: {problem}")
    try:
        jobs = dry_run.result()
    except GeoreconError as error:
        log.say(f"Jobs by rule are not known: {error}")
    else:
        left = trainings_left(experiments, folder)
        for line in job_lines(jobs) + limit_lines(jobs, left, rates.by_device, attempts(root)):
            log.say(line)
