"""A small pre-training run, in this process or in one of its own."""

from __future__ import annotations

import multiprocessing
import os
import resource
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from georecon import objectives
from georecon.data.store import Store
from georecon.experiments.settings import EncoderSettings, TrainSettings
from georecon.models.encoder import EquivariantTransformer
from georecon.stages.pretrain import PretrainTask
from georecon.training.batches import ShuffledBatches, in_order
from georecon.training.loop import FitResult, fit

STEPS = 40
DIGEST = "d" * 64
# Children start from a server that has imported torch but computed nothing: fresh and fast.
FRESH = multiprocessing.get_context("forkserver")
FRESH.set_forkserver_preload(["tests.training.preloaded"])


def settings(**changes: Any) -> TrainSettings:
    """Forty steps with eight evaluations."""
    plain = {
        "steps": STEPS,
        "batch_size": 4,
        "lr": 3e-3,
        "weight_decay": 0.01,
        "warmup": 5,
        "schedule": "cosine",
        "clip": 1.0,
        "evaluations": 8,
        "patience": 0,
        "checkpoint_seconds": 1e9,
    }
    return TrainSettings(**{**plain, **changes})


def make_task(store: Path, *, channels: int = 8, objective: str = "denoise") -> PretrainTask:
    """Task on the toy store: 20 training and 4 validation molecules."""
    data = Store.open(store)
    torch.manual_seed(1)
    sizes = EncoderSettings(channels=channels, layers=2, heads=2, rbf=8, max_z=20)
    encoder = EquivariantTransformer(sizes)
    model = objectives.build(objective, encoder, {"sigma": 0.04})
    ids = np.asarray(data.ids)
    batches = ShuffledBatches(data, ids[:20], batch_size=4, seed=1)
    return PretrainTask(model, batches, in_order(data, ids[20:], 4, None), seed=1)


class Interposed:
    """A task that calls ``before(step)`` ahead of each loss; otherwise the task it holds."""

    def __init__(self, task: PretrainTask, before: Callable[[int], None]) -> None:
        self.task, self.before, self.model = task, before, task.model

    def parts(self, step: int) -> int:
        return self.task.parts(step)

    def loss(self, step: int, part: int) -> dict[str, Tensor]:
        self.before(step)
        return self.task.loss(step, part)

    def molecules(self, step: int) -> list[int]:
        return self.task.molecules(step)

    def validate(self) -> dict[str, float]:
        return self.task.validate()


def run(task: Any, folder: Path, say: Callable[[str], None] = print, **changes: Any) -> FitResult:
    """Fit the task in ``folder``."""
    train = settings(**changes)
    return fit(task, train, folder=folder, digest=DIGEST, name="toy", say=say)


def child(
    store: Path, folder: Path, pause: float = 0.0, threads: int = 1, file_limit: int = 0,
    ready: Path | None = None, channels: int = 8, changes: dict[str, Any] | None = None,
) -> None:  # fmt: skip
    """Body of a process: a run that waits ``pause`` seconds before each step."""
    torch.set_num_threads(threads)
    if file_limit:
        resource.setrlimit(resource.RLIMIT_FSIZE, (file_limit, file_limit))

    def before(step: int) -> None:
        if ready is not None:
            ready.touch()
        time.sleep(pause)

    run(Interposed(make_task(store, channels=channels), before), folder, **(changes or {}))


def start(store: Path, folder: Path, **options: Any) -> Any:
    """Start a run in a fresh process."""
    process = FRESH.Process(target=child, args=(store, folder), kwargs=options)
    process.start()
    return process


def finish(process: Any, seconds: float = 60.0) -> int:
    """Wait for a process and give its exit code."""
    process.join(seconds)
    assert process.exitcode is not None, "process did not end"
    return int(process.exitcode)


def stop_self(at: int) -> Callable[[int], None]:
    """SIGTERM to this process in the middle of step ``at`` (from 0)."""

    def before(step: int) -> None:
        if step == at:
            os.kill(os.getpid(), signal.SIGTERM)

    return before
