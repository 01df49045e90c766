"""Count test molecules of one split whose structure occurs in the pre-training set."""

from pathlib import Path

from georecon.jobs.job import job
from georecon.records.record import RunRecord
from georecon.stages.split import write_leak_report

with job(snakemake.log[0]) as log:
    files, output = snakemake.input, snakemake.output
    record = RunRecord("leak", {"code": snakemake.params.code}, dict(files.items()))
    report = write_leak_report(
        Path(files.store).parent,
        files.split,
        Path(files.pretrain_store).parent,
        files.pretrain_split,
        output.report,
    )
    log.write(f"{report.shared} of {report.test_molecules} test molecules")
    record.write(output.record, {"leak": output.report})
