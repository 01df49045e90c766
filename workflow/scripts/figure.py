"""Render one figure's notebook."""

from pathlib import Path

from georecon.job import job
from georecon.render import render

with job(snakemake.log[0]):
    output = snakemake.output
    notebooks = Path(snakemake.scriptdir).parents[1] / "reports" / "notebooks"
    parameters = {
        "edition": snakemake.params.edition,
        "spec": snakemake.params.spec,
        "outputs": [output.pdf, output.png],
    }
    render(
        notebooks / f"{snakemake.wildcards.figure}.ipynb",
        parameters,
        executed=Path(output.notebook),
        page=Path(output.html),
        log=Path(snakemake.log[0]),
    )
