"""Fetch one raw file of a dataset card."""

import os
from dataclasses import asdict
from pathlib import Path

from georecon.data.raw.fetch import fetch
from georecon.data.raw.lock import fetched
from georecon.jobs.job import job
from georecon.jobs.snakefile import prepare
from georecon.records.record import RunRecord

with job(snakemake.log[0]) as log:
    dataset, name = snakemake.wildcards.dataset, snakemake.wildcards.file
    # the address is no parameter of the rule, so that a new one fetches nothing again
    experiments = prepare(Path(snakemake.scriptdir).parents[1], snakemake.config)
    card_file, output = experiments.data.card_file(dataset, name), snakemake.output
    record = RunRecord("fetch", {"dataset": dataset, "file": card_file}, {})
    fetch(
        card_file,
        output.file,
        mirror=os.environ.get("GEORECON_MIRROR") or None,
        offline=bool(os.environ.get("GEORECON_OFFLINE")),
        say=log.say,
    )
    found = fetched(output.file)
    log.write(f"{name}: {found.bytes} bytes, sha256 {found.sha256}, from {found.url}")
    record.write(output.record, {"raw": output.file}, {"fetched": asdict(found)})
