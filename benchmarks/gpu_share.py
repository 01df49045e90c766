"""Several small trainings on one GPU at the same time: what each takes, and what the card does.

A training of 8 molecules with forces is bound by the host, which launches kernels one by one, so
the card waits. ``--jobs FILE`` (``benchmarks/trial_device.py --write``) gives the kinds; each of
them trains ``--steps`` steps alone and in ``--shares`` processes at once, in the same run. Steps
are those between the last process's first and the first process's last: raise ``--steps`` where
that is short. ``--json FILE`` writes it.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import tempfile
import time
import traceback
from pathlib import Path
from typing import NamedTuple

import torch
from publish import publish

from georecon.experiments.trial import TrialJob
from georecon.jobs.gpus import SHARE
from georecon.keys import from_json
from georecon.records.record import compute_device
from georecon.stages import measure

THREADS = 2  # of a training's process


class Ends(NamedTuple):
    """When a process's steps ended [s, of one clock for all], and its memory of the GPU [bytes]."""

    steps: list[float]
    memory: int


def train(
    job: TrialJob, steps: int, folder: str, results: multiprocessing.Queue[Ends | str]
) -> None:
    """One training, or why there was none; in a process of its own."""
    try:
        results.put(ends_of(job, steps, folder))
    except Exception:
        results.put(traceback.format_exc())


def ends_of(job: TrialJob, steps: int, folder: str) -> Ends:
    """Train, and note when each step ended."""
    measure.STEPS = steps
    ends: list[float] = []
    clock = measure.Clock.any

    def noted(self: measure.Clock, flag: bool) -> bool:
        found = clock(self, flag)
        ends.append(time.monotonic())
        return found

    measure.Clock.any = noted  # type: ignore[method-assign]
    os.environ[SHARE] = "99"
    started = time.perf_counter()
    measure.measure(
        job.as_json(), Path(folder), started=started, threads=THREADS, gpus=1, say=lambda line: None
    )
    return Ends(ends, torch.cuda.max_memory_reserved())


def together(job: TrialJob, share: int, steps: int) -> dict[str, float]:
    """Steps a second of all processes while all of them train, and memory."""
    context = multiprocessing.get_context("fork")  # torch is imported, CUDA not yet begun
    results: multiprocessing.Queue[Ends | str] = context.Queue()
    with tempfile.TemporaryDirectory() as folder:
        children = [
            context.Process(target=train, args=(job, steps, folder, results)) for _ in range(share)
        ]
        for child in children:
            child.start()
        given = [results.get(timeout=600) for _ in children]
        for child in children:
            child.join()
    if faults := [one for one in given if isinstance(one, str)]:
        raise SystemExit(faults[0])
    found = [one for one in given if isinstance(one, Ends)]
    begin = max(one.steps[4] for one in found)  # the first compile kernels
    end = min(one.steps[-1] for one in found)
    if end - begin < 1.0:
        raise SystemExit(f"{share} trained together for {end - begin:.1f} s only: more --steps")
    done = sum(sum(begin < t <= end for t in one.steps) for one in found)
    return {
        "share": share,
        "steps_per_second": done / (end - begin),
        "window_seconds": end - begin,
        "gigabytes": sum(one.memory for one in found) / 1e9,
    }


def main() -> None:
    """Measure."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--jobs", type=Path, required=True)
    parser.add_argument("--names", nargs="+", required=True)
    parser.add_argument("--shares", type=int, nargs="+", default=[1, 2, 4, 8])
    parser.add_argument("--steps", type=int, default=100)
    parser.add_argument("--json")
    given = parser.parse_args()
    jobs: dict[str, TrialJob] = {}
    for one in json.loads(given.jobs.read_text()):
        jobs.setdefault(one["name"], from_json(TrialJob, one))
    table = {}
    for name in given.names:
        table[name] = [together(jobs[name], share, given.steps) for share in given.shares]
        alone = table[name][0]["steps_per_second"]
        for row in table[name]:
            print(
                f"{name}: {row['share']:.0f} at a time: {row['steps_per_second']:.1f} steps/s, "
                f"{row['steps_per_second'] / alone:.2f} × one; {row['gigabytes']:.1f} GB",
                flush=True,
            )
    sizes = {"steps": given.steps, "threads": THREADS, "torch": torch.__version__}
    publish({"compute": compute_device(), **sizes, "kinds": table}, given.json)


if __name__ == "__main__":
    main()
