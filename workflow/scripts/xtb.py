"""Compute one file of a force set: dynamics or a scan."""

from georecon.jobs.job import job
from georecon.records.record import RunRecord
from georecon.records.start import take
from georecon.stages.xtb import simulate

with job(snakemake.log[0]) as log:
    output, params = snakemake.output, snakemake.params
    place = {"dataset": snakemake.wildcards.dataset, "name": snakemake.wildcards.trajectory}
    settings = place | {"simulation": params.simulation}
    record = RunRecord("xtb", settings | {"code": params.code}, {})
    outputs = {"raw": output.npz, "provenance": output.provenance}
    if not take(record, output.record, outputs, log.say):
        simulate(**place, out_npz=output.npz, simulation=params.simulation, say=log.say)
        record.write(output.record, outputs)
