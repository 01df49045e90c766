"""Write the summary of all tables and figures."""

from pathlib import Path

from georecon.job import job
from georecon.report import write_report

with job(snakemake.log[0]):
    files, params = snakemake.input, snakemake.params
    write_report(
        list(files.tables),
        list(files.figures),
        list(files.records),
        expected=params.expected,
        banner=params.banner,
        folder=Path(snakemake.output.markdown).parent,
    )
