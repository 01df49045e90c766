"""Fetch one raw file of a dataset card."""

import os

from georecon.data.fetch import fetch
from georecon.job import job

with job(snakemake.log[0]) as log:
    mirror, offline = os.environ.get("GEORECON_MIRROR"), bool(os.environ.get("GEORECON_OFFLINE"))
    fetch(snakemake.params.card, snakemake.output[0], mirror=mirror or None, offline=offline)
    log.write(f"fetched {snakemake.output[0]}")
