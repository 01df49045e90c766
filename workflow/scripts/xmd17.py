"""Simulate one molecule of xmd17."""

from georecon.jobs.job import job
from georecon.records.record import RunRecord
from georecon.stages.xmd17 import simulate

with job(snakemake.log[0]) as log:
    output, simulation = snakemake.output, snakemake.params.simulation
    target = snakemake.wildcards.target
    settings = {"dataset": "xmd17", "target": target, "simulation": simulation}
    record = RunRecord("xmd17", settings | {"code": snakemake.params.code}, {})
    made = simulate(target, output.npz, **simulation)
    log.write(f"{made.steps_per_second} steps/s")
    record.write(output.record, {"raw": output.npz, "provenance": output.provenance})
