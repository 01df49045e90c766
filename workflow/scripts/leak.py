"""Count test molecules of one split whose structure occurs in the pre-training set."""

from pathlib import Path

from georecon.data.partition import write_leak_report
from georecon.job import job

with job(snakemake.log[0]) as log:
    files = snakemake.input
    report = write_leak_report(
        Path(files.store).parent,
        files.split,
        Path(files.pretrain_store).parent,
        files.pretrain_split,
        snakemake.output[0],
    )
    log.write(f"{report['shared']} of {report['test_molecules']} test molecules")
