"""Make one named split."""

from pathlib import Path

from georecon.jobs.job import job
from georecon.records.record import RunRecord
from georecon.stages.split import make_split

with job(snakemake.log[0]) as log:
    files, output, params = snakemake.input, snakemake.output, snakemake.params
    others = {f"other{k}": path for k, path in enumerate(files.get("others", []))}
    settings = {"plan": params.plan, "code": params.code}
    record = RunRecord("split", settings, {"store": files.store, **others})
    store = Path(files.store).parent
    description = make_split(params.plan, store, output.split, Path(params.raw))
    log.write(f"{description['counts']}")
    record.write(output.record, {"split": output.split, "sidecar": output.sidecar})
