"""What a training shows of itself: lines for a person, and rows that ``georecon.jobs.watch`` reads.

``progress.csv`` in a run's state folder gets a row every few seconds, appended and fsynced. It has
clock times in it, so it is kept apart from the curve, which is a function of settings, data and
seed.
"""

from __future__ import annotations

import csv
import io
import math
import os
import resource
import socket
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from georecon.duration import readable_time

PROGRESS_FILE = "progress.csv"
ROW_SECONDS, LINE_SECONDS = 2.0, 10.0


class Row(NamedTuple):
    """A line of ``progress.csv``.

    Attributes:
        time: of the clock [s].
        name: of the run.
        state: "running" or "stopped".
        step: taken, of ``steps``.
        molecules_per_second: of this process's steps.
        loss: of the last step, as text; ``val_score`` of the last validation, NaN before it.
        eta_seconds: time left [s].
        memory_mb: largest so far [MB].
        host: where it runs; ``pid`` is its process, ``job`` Slurm's number or nothing.
    """

    time: float
    name: str
    state: str
    step: int
    steps: int
    molecules_per_second: float
    loss: str
    val_score: str
    eta_seconds: float
    memory_mb: int
    host: str
    pid: int
    job: str


COLUMNS = Row._fields


def memory_mb() -> float:
    """Largest memory of this process so far [MB]: of the GPU if it uses one, else of the host."""
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_available() and torch.cuda.is_initialized():
        return float(torch.cuda.max_memory_allocated()) / 1e6
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 1e6 if sys.platform == "darwin" else peak / 1e3


class Progress:
    """Rows and lines of one training.

    Args:
        folder: state folder that gets ``progress.csv``; None writes and says nothing.
        name: how to call the run.
        steps: of the whole run.
        molecules: per step.
        first_step: where this process began; a rate is of its own steps.
        say: takes one line.
    """

    def __init__(
        self,
        folder: Path | None,
        *,
        name: str,
        steps: int,
        molecules: int,
        first_step: int,
        say: Callable[[str], None],
    ) -> None:
        self.folder, self.name, self.steps, self.say = folder, name, steps, say
        self.molecules, self.first_step = molecules, first_step
        self.started = self._said = time.monotonic()
        self._written = -math.inf
        if folder is not None and first_step:
            say(f"{name}: continues at step {first_step} of {steps}")

    def seconds(self) -> float:
        """Time since the start of this process's part of the run [s]."""
        return time.monotonic() - self.started

    def update(self, step: int, loss: float, score: float) -> None:
        """Write a row and say a line if it is time to.

        Args:
            step: steps taken.
            loss: of the last step.
            score: of the last validation, NaN before the first.
        """
        now = time.monotonic()
        if self.folder is None or now - self._written < ROW_SECONDS:
            return
        row = self._row("running", step, loss, score)
        self._append(row)
        self._written = now
        if now - self._said >= LINE_SECONDS:
            self._said = now
            self.say(line(row))

    def stopped(self, step: int) -> None:
        """Say that the run was asked to stop and can go on."""
        if self.folder is not None:
            self._append(self._row("stopped", step, math.nan, math.nan))
            self.say(f"{self.name}: stopped at step {step}, state saved")

    def _row(self, state: str, step: int, loss: float, score: float) -> Row:
        rate = (step - self.first_step) / max(self.seconds(), 1e-9)  # steps/s
        return Row(
            time=round(time.time(), 3),
            name=self.name,
            state=state,
            step=step,
            steps=self.steps,
            molecules_per_second=round(rate * self.molecules, 1),
            loss=f"{loss:.6g}",
            val_score=f"{score:.6g}",
            eta_seconds=round((self.steps - step) / rate, 1) if rate else math.inf,
            memory_mb=round(memory_mb()),
            host=socket.gethostname(),
            pid=os.getpid(),
            job=os.environ.get("SLURM_JOB_ID", ""),
        )

    def _append(self, row: Row) -> None:
        if self.folder is None:
            return
        with open(self.folder / PROGRESS_FILE, "a", newline="", encoding="utf-8") as handle:
            text = io.StringIO()  # written at once: a reader sees whole rows
            writer = csv.writer(text, lineterminator="\n")
            if not handle.tell():
                writer.writerow(COLUMNS)
            writer.writerow(row)
            handle.write(text.getvalue())
            handle.flush()
            os.fsync(handle.fileno())


def line(row: Row) -> str:
    """One row as a sentence."""
    score = float(row.val_score)
    validation = "" if math.isnan(score) else f", validation {score:.4g}"
    return (
        f"{row.name}: step {row.step}/{row.steps}, "
        f"{row.molecules_per_second:.0f} molecules/s, loss {float(row.loss):.4f}"
        f"{validation}, {readable_time(row.eta_seconds)} left, {row.memory_mb} MB"
    )
