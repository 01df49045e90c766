"""Fetch one raw file of a dataset card."""

import os

from georecon.data.fetch import fetch
from georecon.job import job
from georecon.provenance import RunRecord

with job(snakemake.log[0]) as log:
    mirror, offline = os.environ.get("GEORECON_MIRROR"), bool(os.environ.get("GEORECON_OFFLINE"))
    card, output = snakemake.params.card, snakemake.output
    record = RunRecord("fetch", {"dataset": snakemake.wildcards.dataset, "file": card}, {})
    fetch(card, output.file, mirror=mirror or None, offline=offline)
    log.write(f"fetched {output.file}")
    record.write(output.record, {"raw": output.file})
