"""What the edition would cost."""

from pathlib import Path

from georecon.experiments import Experiments
from georecon.job import job
from georecon.plan import plan

with job(snakemake.log[0]) as log:
    params = snakemake.params
    for line in plan(Experiments(params.config), Path.cwd(), Path(params.rates)):
        log.say(line)
