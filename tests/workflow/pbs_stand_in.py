"""A PBS server in a folder, ``$PBS_STAND_IN``: ``python pbs_stand_in.py qsub|qstat …``.

A file of each job says how it was asked for and how it ended. Options other than those that
``pbs/`` uses are refused. In the folder, ``killed`` names the memory with which jobs do not
survive; where ``silent`` is, the server does not answer.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

PLACE = Path(os.environ["PBS_STAND_IN"])
KILLED = 271  # exit status of a job that SIGTERM ended
UNKNOWN_JOB = 153


def note(job: str, **facts: object) -> None:
    """Add facts to a job's file."""
    path = PLACE / f"{job}.json"
    before = json.loads(path.read_text()) if path.exists() else {}
    path.write_text(json.dumps({**before, **facts}))


def qsub(words: list[str]) -> None:
    """Start a job and print its name."""
    *words, script = words
    limits: dict[str, str] = {}
    name = ""
    while words:
        option = words.pop(0)
        if option == "-l":
            value = words.pop(0)
            parts = [value] if value.startswith("walltime=") else value.split(":")
            limits |= dict(part.split("=", 1) for part in parts)
        elif option in {"-N", "-j", "-o"}:
            value = words.pop(0)
            name = value if option == "-N" else name
        elif option != "-V":
            sys.exit(f"qsub: illegal option {option}")
    job = f"{len(list(PLACE.glob('*.json'))) + 1}.stand-in"
    note(job, name=name, **limits)
    killed = PLACE / "killed"
    dies = killed.exists() and limits["mem"] == killed.read_text()
    order = [sys.executable, __file__, "run", job, *([] if dies else [script])]
    none = subprocess.DEVNULL
    subprocess.Popen(order, start_new_session=True, stdin=none, stdout=none, stderr=none)
    print(job)


def run(words: list[str]) -> None:
    """A job, and how it ended."""
    job, *script = words
    code = subprocess.run(["sh", *script], check=False).returncode if script else KILLED
    note(job, code=code)


def qstat(words: list[str]) -> None:
    """A job's state, as PBS says it in JSON."""
    *options, job = words
    if options != ["-x", "-f", "-F", "json"]:
        sys.exit(f"qstat: {options}")
    if (PLACE / "silent").exists():
        sys.exit("cannot connect to server")
    path = PLACE / f"{job}.json"
    if not path.exists():
        sys.exit(UNKNOWN_JOB)
    facts = json.loads(path.read_text())
    state: dict[str, object] = {"job_state": "R"}
    if "code" in facts:
        state = {"job_state": "F", "Exit_status": facts["code"]}
    print(json.dumps({"Jobs": {job: state}}))


if __name__ == "__main__":
    {"qsub": qsub, "qstat": qstat, "run": run}[sys.argv[1]](sys.argv[2:])
