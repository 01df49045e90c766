"""State of a Grid Engine job for Snakemake: ``python sge/status.py 12`` prints one word of three.

A qmaster that does not answer is asked again later: the job counts as running. A job that has left
the queue is looked up in the accounting; one that is not there counts as failed, since a job that
runs again finds its own saves. One that Grid Engine holds in error has not begun, and never will
by itself: it is deleted, so that it cannot begin beside its next attempt.
"""

from __future__ import annotations

import re
import subprocess
import sys
import time

BOOKED_SECONDS = 60.0
"""Time that the qmaster is given to write an ended job down (flush_time, 15 s by default)."""


def status(job: str) -> str:
    """running, success or failed."""
    asked = _ask("qstat", "-j", job)
    if asked.returncode == 0:
        reasons = re.findall(r"^error reason.*$", asked.stdout, re.MULTILINE)
        if not reasons:
            return "running"
        _say(f"job {job} is deleted, Grid Engine holds it in error: {reasons[-1]}")
        _ask("qdel", job)
        return "failed"
    if "do not exist" not in asked.stdout + asked.stderr:
        _say(f"no answer about job {job}: {(asked.stderr or asked.stdout).strip()}")
        return "running"
    return _ended(job)


def _ended(job: str) -> str:
    """How a job ended, by its last record in the accounting."""
    until = time.monotonic() + BOOKED_SECONDS
    while (asked := _ask("qacct", "-j", job)).returncode != 0:
        if time.monotonic() > until:
            _say(
                f"no record of job {job} ({asked.stderr.strip()}): was it deleted before it began, "
                "or can this host not read the accounting?"
            )
            return "failed"
        time.sleep(2)
    words = [line.split() for line in asked.stdout.splitlines()]
    record = {name: " ".join(value) for name, *value in filter(None, words)}
    failed, code = record["failed"], record["exit_status"]
    if failed == code == "0":
        return "success"
    _say(f"job {job}: failed {failed}, exit_status {code}, maxvmem {record['maxvmem']}")
    return "failed"


def _ask(*command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, capture_output=True, text=True, check=False)


def _say(line: str) -> None:
    print(f"sge/status.py: {line}", file=sys.stderr)


if __name__ == "__main__":
    print(status(sys.argv[1]))
