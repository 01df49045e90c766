"""Dynamics at constant energy with one fine-tuned force model."""

from georecon.jobs import warm

warm.hand_over(snakemake)  # before the imports that take long

from pathlib import Path

from georecon.files import write_json
from georecon.jobs.gpus import own_gpus
from georecon.jobs.job import job, prepare_torch
from georecon.records.record import RunRecord
from georecon.records.start import take
from georecon.stages.nve import nve
from georecon.training.kernel import say_kernel

gpus = snakemake.resources.get("gpu", 0)
with job(snakemake.log[0]) as log:
    files, output, settings = snakemake.input, snakemake.output, snakemake.params.settings
    record = RunRecord("nve", settings, dict(files.items()))
    outputs = {"metrics": output.metrics, "curve": output.curve}
    if not take(record, output.run, outputs, log.say):
        with own_gpus(gpus, log.say):
            device = prepare_torch(snakemake.threads, gpus)
            say_kernel(device, log.say)
            paths = (Path(files.store).parent, Path(files.split), Path(files.model))
            write_json(output.metrics, nve(settings, *paths, Path(output.curve), device=device))
            record.write(output.run, outputs)
