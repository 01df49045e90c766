"""Raw files of one dataset to its store."""

from pathlib import Path

from georecon.data.preprocess import preprocess
from georecon.job import job

with job(snakemake.log[0]) as log:
    store = Path(snakemake.output.manifest).parent
    target = snakemake.wildcards.get("target")
    manifest = preprocess(snakemake.params.card, Path(snakemake.input[0]).parent, store, target)
    log.write(f"{manifest['counts']}")
