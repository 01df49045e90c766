"""Build one table."""

from pathlib import Path

from georecon.experiments.specs import TableSpec
from georecon.files import sha256_json
from georecon.jobs.job import job
from georecon.records.record import RunRecord
from georecon.reporting.outdated import mark_outdated
from georecon.reporting.tables import build, write_table

with job(snakemake.log[0]):
    files, output, params = snakemake.input, snakemake.output, snakemake.params
    settings = {"table": snakemake.wildcards.table, "spec": sha256_json(params.spec)}
    record = RunRecord("table", settings | {"code": params.code}, {path: path for path in files})
    spec = TableSpec.from_json(params.spec)
    table = build(spec, list(files.leaks), list(files.trajectories), params.published)
    write_table(table, Path(output.json).with_suffix(""))
    mark_outdated(Path(output.json).parents[1])
    record.write(output.record, {n: path for n, path in output.items() if n != "record"})
