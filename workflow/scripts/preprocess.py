"""Raw files of one dataset to its store."""

from pathlib import Path

from georecon.jobs.job import job
from georecon.records.record import RunRecord
from georecon.stages.preprocess import preprocess

with job(snakemake.log[0]) as log:
    files, output, params = snakemake.input, snakemake.output, snakemake.params
    target = snakemake.wildcards.get("target")
    settings = {"card": params.card, "target": target, "code": params.code}
    record = RunRecord("preprocess", settings, {Path(path).name: path for path in files})
    raw, store = Path(files[0]).parent, Path(output.manifest).parent
    manifest = preprocess(params.card, raw, store, target, processes=snakemake.threads)
    log.write(f"{manifest.counts}")
    record.write(output.record, {"store": output.manifest})
