"""The trial of editions on a machine that has torch but little else: one kind after another.

``--write FILE`` lists the kinds of editions where georecon is installed, ``--jobs FILE`` measures
them on the other machine, as ``snakemake trial`` does (:mod:`georecon.stages.measure`), each in a
child of this process, whose imports its start is charged with. Files go to ``--out``, as
``resources/trial`` has them, where ``plan`` reads them once they are copied there. After
``--minutes`` no kind is begun; those left are named.
"""

from __future__ import annotations

import argparse
import json
import os
import time
import traceback
from pathlib import Path

from georecon.experiments.rates import write_rate
from georecon.experiments.trial import TrialJob
from georecon.files import write_json
from georecon.keys import from_json
from georecon.stages.measure import line, measure

IMPORTS = time.process_time()  # [s]


def say(text: str) -> None:
    """Print at once."""
    print(text, flush=True)


def run(job: TrialJob, out: Path, threads: int, gpus: int) -> bool:
    """Measure a kind in a child; False if that failed, and why is printed."""
    child = os.fork()
    if child:
        return os.waitpid(child, 0)[1] == 0
    code = 1
    try:
        begun = time.perf_counter() - IMPORTS
        found = measure(job.as_json(), out, started=begun, threads=threads, gpus=gpus, say=say)
        write_rate(out / f"{job.kind}.json", found)
        say(line(job, found))
        code = 0
    except BaseException:  # the child must not go on as its parent
        say(f"{job.name}: {traceback.format_exc()}")
    finally:
        os._exit(code)


def kinds(editions: list[str]) -> list[TrialJob]:
    """Jobs of their trials, each kind once."""
    from georecon.experiments.experiments import Experiments
    from georecon.experiments.trial import trial_jobs

    found: dict[str, TrialJob] = {}
    for edition in editions:
        found |= trial_jobs(Experiments.load(Path("config"), {"edition": edition}))
    return list(found.values())


def main() -> None:
    """Write the kinds, or measure them."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("editions", nargs="*")
    parser.add_argument("--write", type=Path)
    parser.add_argument("--jobs", type=Path)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--minutes", type=float, default=600.0)
    parser.add_argument("--threads", type=int, default=4)
    parser.add_argument("--gpus", type=int, default=1)
    given = parser.parse_args()
    if not (given.write and given.editions) and not (given.jobs and given.out):
        parser.error("either --write FILE and editions, or --jobs FILE and --out FOLDER")
    if given.write:
        write_json(given.write, [job.as_json() for job in kinds(given.editions)])
        return
    jobs = [from_json(TrialJob, one) for one in json.loads(given.jobs.read_text())]
    given.out.mkdir(parents=True, exist_ok=True)
    end = time.perf_counter() + 60 * given.minutes
    say(f"{len(jobs)} kinds; imports took {IMPORTS:.1f} s")
    left = [
        job.name
        for job in jobs
        if time.perf_counter() > end or not run(job, given.out, given.threads, given.gpus)
    ]
    say(f"not measured: {', '.join(left) or 'none'}")


if __name__ == "__main__":
    main()
