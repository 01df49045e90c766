"""Add up what the edition took."""

from pathlib import Path

from georecon.files import write_json
from georecon.jobs.books import read_books
from georecon.jobs.job import job
from georecon.records.chain import read_graph
from georecon.records.record import RunRecord
from georecon.reporting.costs import costs_of

with job(snakemake.log[0]):
    files, output, params = snakemake.input, snakemake.output, snakemake.params
    record = RunRecord("cost", {"code": params.code}, {path: path for path in files})
    graph = read_graph(Path(), params.edition)
    books = read_books(one.slurm for one in graph.records.values() if one.slurm)
    write_json(output.cost, costs_of(graph, Path(), books).as_json())
    record.write(output.record, {"cost": output.cost})
