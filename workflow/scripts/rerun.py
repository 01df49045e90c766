"""Say old, new and difference of a cell whose runs were made again."""

from dataclasses import asdict
from pathlib import Path

from georecon.audit.rerun import compare, lines
from georecon.commands import command
from georecon.errors import ConfigError
from georecon.experiments.experiments import Experiments
from georecon.files import write_json
from georecon.jobs.job import job

with job(snakemake.log[0]) as log:
    again = Experiments.from_json(snakemake.params.config)
    cell = again.config.cell
    if cell is None:
        how = command("rerun", pairs=["cell=<table>/<row>/<column>"])
        raise ConfigError(f"cell is not given: {how}")
    found = compare(again.published(), again, cell)
    write_json(f"{snakemake.params.folder}/comparison.json", asdict(found))
    for line in lines(found):
        log.say(line)
    log.say(f"remove {Path(snakemake.params.folder)} to compute it anew")
