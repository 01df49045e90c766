"""State of a PBS job for Snakemake: ``python pbs/status.py 12.server`` prints one word of three.

A server that does not answer is asked again later: the job counts as running. One that does not
know the job has forgotten it, and whether it ended well; it counts as failed, since a job that runs
again finds its own saves.
"""

from __future__ import annotations

import json
import subprocess
import sys

UNKNOWN_JOB = 153  # exit code of qstat
ENDED = ("F", "X")


def status(job: str) -> str:
    """running, success or failed."""
    asked = ["qstat", "-x", "-f", "-F", "json", job]
    done = subprocess.run(asked, capture_output=True, text=True, check=False)
    if done.returncode == UNKNOWN_JOB:
        print(
            f"pbs/status.py: the server does not know job {job} any more: does it keep the history "
            "of jobs (job_history_enable)?",
            file=sys.stderr,
        )
        return "failed"
    try:
        (found,) = json.loads(done.stdout)["Jobs"].values()
        ended = found["job_state"] in ENDED
    except (ValueError, KeyError):
        print(f"pbs/status.py: no answer about {job}: {done.stderr.strip()}", file=sys.stderr)
        return "running"
    if not ended:
        return "running"
    return "success" if found.get("Exit_status") == 0 else "failed"


if __name__ == "__main__":
    print(status(sys.argv[1]))
