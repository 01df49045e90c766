"""Build one table."""

from pathlib import Path

from georecon.job import job
from georecon.tables import build, write_table

with job(snakemake.log[0]):
    table = build(snakemake.params.spec, list(snakemake.input.leaks))
    write_table(table, Path(snakemake.output.json).with_suffix(""))
