"""Pre-train one encoder."""

from pathlib import Path

from georecon.job import job, prepare_torch
from georecon.pretrain import pretrain
from georecon.provenance import RunRecord

with job(snakemake.log[0]) as log:
    device = prepare_torch(snakemake.threads)
    files, output, settings = snakemake.input, snakemake.output, snakemake.params.settings
    record = RunRecord("pretrain", settings, {"store": files.store, "split": files.split})
    result = pretrain(
        settings,
        Path(files.store).parent,
        Path(files.split),
        Path(output.run).parent,
        state=Path(snakemake.params.state),
        device=device,
        say=log.say,
    )
    record.write(output.run, {"encoder": output.encoder, "metrics": output.metrics}, result.facts())
    result.forget_state()
