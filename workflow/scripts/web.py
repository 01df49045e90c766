"""Write the page of an edition as it is now, also while its jobs run."""

from pathlib import Path

from georecon.jobs.job import job
from georecon.reporting.web.site import write_site

with job(snakemake.log[0]) as log:
    params, page = snakemake.params, Path(snakemake.params.page)
    write_site(params.plan, params.expected, page, root=Path(), live=True)
    log.say(f"state of the run: {page}")
