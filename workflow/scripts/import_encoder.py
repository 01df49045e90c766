"""Take one encoder from a file."""

from pathlib import Path

from georecon.jobs.job import job
from georecon.records.record import RunRecord
from georecon.stages.import_encoder import import_encoder

with job(snakemake.log[0]) as log:
    files, output, settings = snakemake.input, snakemake.output, snakemake.params.settings
    record = RunRecord("import_encoder", settings, dict(files.items()))
    import_encoder(settings, Path(files.raw), Path(output.encoder), log.say)
    record.write(output.run, {"encoder": output.encoder})
