"""Test outputs of one fine-tuned model to predictions and errors."""

from pathlib import Path

from georecon.evaluate import evaluate
from georecon.job import job
from georecon.provenance import RunRecord

with job(snakemake.log[0]):
    files, output = snakemake.input, snakemake.output
    settings = {"unit": snakemake.params.unit, "code": snakemake.params.code}
    record = RunRecord("evaluate", settings, {"outputs": files.outputs})
    paths = {"predictions": output.predictions, "metrics": output.metrics}
    evaluate(Path(files.outputs), *map(Path, paths.values()), unit=snakemake.params.unit)
    record.write(output.run, paths)
