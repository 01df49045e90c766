"""Write the summary of all tables and figures."""

from pathlib import Path

from georecon.jobs.job import job
from georecon.records.record import RunRecord
from georecon.reporting.expected import expected_digest
from georecon.reporting.summary import write_report

with job(snakemake.log[0]):
    files, output, params = snakemake.input, snakemake.output, snakemake.params
    settings = {"expected": expected_digest(params.expected), "banner": params.banner}
    record = RunRecord("summary", settings | {"code": params.code}, {path: path for path in files})
    write_report(
        list(files.tables),
        list(files.figures),
        list(files.records),
        expected=params.expected,
        banner=params.banner,
        folder=Path(output.markdown).parent,
    )
    written = [path for path in output if path != output.record]
    record.write(output.record, {path: path for path in written})
