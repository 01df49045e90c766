"""Simulate one molecule of xmd17."""

from georecon.data.xmd17 import simulate
from georecon.job import job

with job(snakemake.log[0]) as log:
    made = simulate(snakemake.wildcards.target, snakemake.output.npz, **snakemake.params.simulation)
    log.write(f"{made['steps_per_second']} steps/s")
