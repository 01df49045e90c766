"""Say whether this place can run the workflow; fail if it cannot."""

import sys
from pathlib import Path

from georecon.experiments.config import config_of
from georecon.jobs.doctor import FAILS, examine
from georecon.jobs.job import job

with job(snakemake.log[0]) as log:
    findings = examine(
        Path(snakemake.scriptdir).parents[1], Path.cwd(), config_of(snakemake.params.config)
    )
    for finding in findings:
        log.say(str(finding))
    failing = sum(finding.verdict == FAILS for finding in findings)
    log.say(f"{failing} of {len(findings)} would fail" if failing else "all well")
sys.exit(bool(failing))
