"""Say whether this place can run the workflow; fail if it cannot."""

import sys
from pathlib import Path

from georecon.experiments.config import config_of
from georecon.jobs.doctor import FAILS, examine, examine_requests
from georecon.jobs.job import job

with job(snakemake.log[0]) as log:
    root, folder = Path(snakemake.scriptdir).parents[1], Path.cwd()
    findings = examine(root, folder, config_of(snakemake.params.config))
    findings += examine_requests(root, folder, snakemake.config)
    for finding in findings:
        log.say(str(finding))
    failing = sum(finding.verdict == FAILS for finding in findings)
    log.say(f"{failing} of {len(findings)} would fail" if failing else "all well")
sys.exit(bool(failing))
