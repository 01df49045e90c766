"""Fine-tune one model and predict its test set."""

from pathlib import Path

from georecon.finetune import finetune
from georecon.job import job, prepare_torch
from georecon.provenance import RunRecord

with job(snakemake.log[0]) as log:
    device = prepare_torch(snakemake.threads)
    files, output, settings = snakemake.input, snakemake.output, snakemake.params.settings
    encoder = files.get("encoder")
    record = RunRecord("finetune", settings, dict(files.items()))
    result = finetune(
        settings,
        Path(files.store).parent,
        Path(files.split),
        encoder and Path(encoder),
        Path(output.run).parent,
        state=Path(snakemake.params.state),
        device=device,
        say=log.say,
    )
    outputs = {name: path for name, path in output.items() if name != "run"}
    record.write(output.run, outputs, result.facts())
    result.forget_state()
