"""Make one named split."""

from pathlib import Path

from georecon.data.partition import make_split
from georecon.job import job

with job(snakemake.log[0]) as log:
    store = Path(snakemake.input.store).parent
    description = make_split(snakemake.params.plan, store, snakemake.output.split)
    log.write(f"{description['counts']}")
