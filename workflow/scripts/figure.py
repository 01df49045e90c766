"""Render one figure's notebook."""

from pathlib import Path

from georecon.jobs.job import job
from georecon.records.record import RunRecord
from georecon.reporting.render import render

with job(snakemake.log[0]):
    output, params = snakemake.output, snakemake.params
    settings = {"figure": snakemake.wildcards.figure, "spec": params.spec, "code": params.code}
    settings |= {"notebook": params.notebook}
    record = RunRecord("figure", settings, {path: path for path in snakemake.input})
    notebooks = Path(snakemake.scriptdir).parents[1] / "reports" / "notebooks"
    parameters = {
        "edition": params.edition,
        "spec": params.spec,
        "outputs": [output.pdf, output.png],
    }
    render(
        notebooks / f"{snakemake.wildcards.figure}.ipynb",
        parameters,
        executed=Path(output.notebook),
        page=Path(output.html),
        log=Path(snakemake.log[0]),
    )
    record.write(output.record, {n: path for n, path in output.items() if n != "record"})
