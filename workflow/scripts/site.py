"""Write the web report of a finished edition."""

from pathlib import Path

from georecon.files import sha256_json
from georecon.jobs.job import job
from georecon.records.record import RunRecord
from georecon.reporting.expected import expected_digest
from georecon.reporting.web.site import write_site

with job(snakemake.log[0]):
    files, output, params = snakemake.input, snakemake.output, snakemake.params
    settings = {"plan": sha256_json(params.plan), "expected": expected_digest(params.expected)}
    record = RunRecord("site", settings | {"code": params.code}, {path: path for path in files})
    write_site(params.plan, params.expected, Path(output.page), root=Path(), live=False)
    record.write(output.record, {"page": output.page})
