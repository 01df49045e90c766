"""Fine-tune one model and predict its test set."""

from georecon.jobs import warm

warm.hand_over(snakemake)  # before the imports that take long

from pathlib import Path

from georecon.jobs.job import job
from georecon.records.record import RunRecord
from georecon.records.start import take
from georecon.training.processes import train

with job(snakemake.log[0]) as log:
    files, output, settings = snakemake.input, snakemake.output, snakemake.params.settings
    encoder = files.get("encoder")
    record = RunRecord("finetune", settings, dict(files.items()))
    arguments = {
        "settings": settings,
        "store_path": Path(files.store).parent,
        "split_path": Path(files.split),
        "encoder_path": encoder and Path(encoder),
        "output": Path(output.run).parent,
        "state": Path(snakemake.params.state),
    }
    outputs = {name: path for name, path in output.items() if name != "run"}
    if not take(record, output.run, outputs, log.say):
        result = train("finetune", arguments, snakemake.resources, snakemake.threads, log)
        record.write(output.run, outputs, result.facts())
        result.forget_state()
