"""Compute one file of a force set: dynamics or a scan."""

from georecon.jobs.job import job
from georecon.records.record import RunRecord
from georecon.stages.xtb import simulate

with job(snakemake.log[0]) as log:
    output, params = snakemake.output, snakemake.params
    place = {"dataset": snakemake.wildcards.dataset, "name": snakemake.wildcards.trajectory}
    settings = place | {"simulation": params.simulation}
    record = RunRecord("xtb", settings | {"code": params.code}, {})
    simulate(**place, out_npz=output.npz, simulation=params.simulation, say=log.say)
    record.write(output.record, {"raw": output.npz, "provenance": output.provenance})
