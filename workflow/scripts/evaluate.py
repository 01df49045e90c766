"""Test outputs of one fine-tuned model to predictions and errors."""

from georecon.jobs import warm

warm.hand_over(snakemake)  # before the imports that take long

from pathlib import Path

from georecon.jobs.job import job
from georecon.records.record import RunRecord
from georecon.stages.evaluate import evaluate

with job(snakemake.log[0]):
    files, output = snakemake.input, snakemake.output
    settings = {"unit": snakemake.params.unit, "code": snakemake.params.code}
    record = RunRecord("evaluate", settings, dict(files.items()))
    paths = {"predictions": output.predictions, "metrics": output.metrics}
    found = map(Path, (files.outputs, files.split, *paths.values()))
    evaluate(*found, unit=snakemake.params.unit)
    record.write(output.run, paths)
