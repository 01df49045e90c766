"""Fetch one raw file of a dataset card."""

from georecon.data.fetch import fetch
from georecon.job import job

with job(snakemake.log[0]) as log:
    params = snakemake.params
    fetch(params.card, snakemake.output[0], mirror=params.mirror, offline=params.offline)
    log.write(f"fetched {snakemake.output[0]}")
