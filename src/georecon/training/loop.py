"""The one training loop, for pre-training and fine-tuning.

A run is a pure function of its settings, data, code and seed: batches and noise are functions of
the step, so a run that is killed and continued gives the numbers of one that was not.
"""

from __future__ import annotations

import math
import shutil
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any, NamedTuple, Protocol

import torch
from filelock import FileLock, Timeout
from torch import Tensor, nn

from georecon.errors import TrainingError
from georecon.experiments.settings import TrainSettings
from georecon.jobs.progress import Progress
from georecon.kernels.autograd import only
from georecon.training import checkpoint
from georecon.training.curve import Curve
from georecon.training.optimizer import FlatAdamW
from georecon.training.precision import products
from georecon.training.replay import Recurring, Replay, Terms
from georecon.training.schedule import Plateau, warmup_cosine
from georecon.training.world import World

EXIT_INTERRUPTED = 75
"""Exit code of a run that was asked to stop, saved its state and can be continued (EX_TEMPFAIL)."""
READ_EVERY = 16
"""Steps between two readings of losses on a GPU."""
STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1)
"""What asks a run to stop; SIGUSR1 is for ``sbatch --signal=USR1@120``, ahead of a time limit."""


class Task(Protocol):
    """What the loop trains."""

    @property
    def model(self) -> nn.Module:
        """What is trained."""

    def parts(self, step: int) -> int:
        """Number of parts in which this process takes its share of a step's batch."""

    def loss(self, step: int, part: int) -> dict[str, Tensor]:
        """``"loss"`` and named terms on one of those parts.

        Each is a summand: over all parts and processes they add up to the mean over the batch.
        """

    def recurring(self, step: int, part: int) -> Recurring | None:
        """The same losses as a function of tensors, if their shapes recur; asked for on GPUs."""

    def molecules(self, step: int) -> list[int]:
        """Molecule ids of the whole batch of this step, for error messages."""

    def validate(self) -> dict[str, float]:
        """``"score"`` (smaller is better) and further measures on held-out molecules.

        The same numbers in every process.
        """


class _Stop:
    """Set by one of ``STOP_SIGNALS``; the loop saves and leaves at the next step."""

    def __init__(self) -> None:
        self.signal: int | None = None

    def __call__(self, number: int, frame: FrameType | None) -> None:
        self.signal = number


@contextmanager
def _stop_on_signal() -> Iterator[_Stop]:
    stop = _Stop()
    before = {number: signal.signal(number, stop) for number in STOP_SIGNALS}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


class _Taken(NamedTuple):
    """Losses (k,) float64 and norm of the gradient () of a step, still on the device."""

    step: int
    names: tuple[str, ...]
    losses: Tensor
    norm: Tensor


class Trainer:
    """State of one run and the steps that change it; :func:`fit` drives it.

    Losses of a GPU are read every ``READ_EVERY`` steps and before anything is measured or saved, so
    that the host need not wait for each step.

    Attributes:
        loss: of the last step that was read, NaN before the first.
    """

    def __init__(
        self,
        task: Task,
        settings: TrainSettings,
        folder: Path,
        digest: str,
        world: World | None = None,
    ) -> None:
        self.task, self.settings, self.folder, self.digest = task, settings, folder, digest
        self.world = world or World()
        self.parameters = [p for p in task.model.parameters() if p.requires_grad]
        self.optimizer = FlatAdamW(self.parameters, settings.weight_decay)
        self.replay = Replay(self._differentiate) if self.world.device == "cuda" else None
        self.lr = 0.0  # of the last step
        self.plateau = Plateau()
        self.step = 0
        self.best_step, self.best_score, self.waited = 0, math.inf, 0
        self.last_score = math.nan  # of the last validation, for progress lines
        self.best: dict[str, Tensor] = {}
        self._sums: dict[str, float] = {}
        self._since = 0
        self.loss = math.nan
        ahead = self.world.device == "cuda" and self.world.size == 1
        self.read_every = READ_EVERY if ahead else 1
        self._unread: list[_Taken] = []
        self.evaluation_steps = set(settings.evaluation_steps())

    def factor(self) -> float:
        """Factor on the learning rate for the step about to be taken."""
        settings = self.settings
        if settings.schedule == "cosine":
            return warmup_cosine(self.step, warmup=settings.warmup, total=settings.steps)
        return min(1.0, (self.step + 1) / max(1, settings.warmup)) * self.plateau.scale

    def train_step(self) -> float:
        """Forward and backward by parts, check, clip, step; returns :attr:`loss`."""
        self.lr = self.settings.lr * self.factor()
        names, losses, gradient = self._terms()
        if self.world.size > 1:
            losses = self.world.sum(losses.cpu())
        gradient = self.world.sum(gradient)
        norm = gradient.norm()
        self._unread.append(_Taken(self.step, names, losses, norm))
        if len(self._unread) >= self.read_every:
            self.read()
        if self.settings.clip:
            factor = (self.settings.clip / norm.double()).clamp(max=1.0)
            gradient *= factor.to(gradient.dtype)
        self.optimizer.step(gradient, self.lr)
        self.step += 1
        return self.loss

    def read(self) -> None:
        """Losses of the steps since the last reading.

        Raises:
            TrainingError: one of them, or a gradient, is not finite; names the step.
        """
        taken, self._unread = self._unread, []
        if not taken:
            return
        numbers = torch.stack([torch.hstack([t.losses, t.norm.to(t.losses)]) for t in taken])
        for one, (*losses, norm) in zip(taken, numbers.tolist(), strict=True):
            values = dict(zip(one.names, losses, strict=True))
            self.loss = values["loss"]
            if not math.isfinite(self.loss):
                self._refuse(f"loss is {self.loss}", one.step)
            if not math.isfinite(norm):
                self._refuse(f"gradient norm is {norm}", one.step)
            for name, value in values.items():
                self._sums[name] = self._sums.get(name, 0.0) + value
            self._since += 1

    def _terms(self) -> Terms:
        """Losses and gradient of this process's share of the batch, its parts added up."""
        first, *rest = range(self.task.parts(self.step))
        names, values, gradient = self._part(first)
        for part in rest:
            more = self._part(part)
            values, gradient = values + more.values, gradient.add_(more.gradient)
        return Terms(names, values, gradient)

    def _part(self, part: int) -> Terms:
        """Losses and gradient of one part of the batch."""
        if self.replay and (recurring := self.task.recurring(self.step, part)):
            return self.replay(recurring)
        return self._differentiate(lambda: self.task.loss(self.step, part))

    def _differentiate(self, compute: Callable[[], dict[str, Tensor]]) -> Terms:
        self.optimizer.zero_grad()
        with products(self.settings.precision):
            losses = compute()
        with only("weights"):
            losses["loss"].backward(inputs=self.parameters)
        values = torch.stack([value.detach().double() for value in losses.values()])
        return Terms(tuple(losses), values, self.optimizer.gradient())

    def _refuse(self, what: str, step: int) -> None:
        ids = self.task.molecules(step)
        raise TrainingError(f"step {step}: {what}; molecules of the batch: {ids}")

    def check_agreement(self) -> None:
        """Refuse to go on if the processes' weights or steps have come apart."""
        if self.world.size > 1:
            flat = torch.cat([p.detach().flatten() for p in self.parameters])
            self.world.agree("step", self.step)
            self.world.agree("weights", int(flat.view(torch.int32).sum(dtype=torch.int64)))

    def evaluate(self, curve: Curve | None) -> None:
        """Validate, write a row of the curve, keep the best weights."""
        self.read()
        self.check_agreement()
        measures = self.task.validate()
        score = measures.pop("score")
        if not math.isfinite(score):
            self._refuse(f"validation score is {score}", self.step)
        means = {f"train_{name}": total / self._since for name, total in self._sums.items()}
        self._sums, self._since = {}, 0
        row = {"step": self.step, "lr": self.lr, **means, "val_score": score}
        row |= {f"val_{name}": value for name, value in measures.items()}
        self.last_score = score
        if curve is not None:
            curve.append(row)
        self.plateau.observe(score)
        self.waited += 1
        if score < self.best_score:
            self.best_step, self.best_score, self.waited = self.step, score, 0
            weights = self.task.model.state_dict()
            self.best = {name: value.detach().clone() for name, value in weights.items()}

    def finished(self) -> bool:
        """All steps taken, or validation has not improved for ``patience`` evaluations."""
        patience = self.settings.patience
        return self.step >= self.settings.steps or bool(patience and self.waited >= patience)

    def save(self) -> None:
        """Write a checkpoint of everything the rest of the run depends on (first process only)."""
        self.read()
        if not self.world.first:
            return
        tensors = {f"model/{n}": t for n, t in self.task.model.state_dict().items()}
        tensors |= {f"best/{n}": t for n, t in self.best.items()}
        tensors |= {f"optimizer/{n}": t for n, t in self.optimizer.state().items()}
        state = {
            "best_step": self.best_step,
            "best_score": None if math.isinf(self.best_score) else self.best_score,
            "waited": self.waited,
            "plateau": self.plateau.state(),
            "sums": [[name, total] for name, total in self._sums.items()],  # in order
            "since": self._since,
        }
        checkpoint.save(self.folder, checkpoint.Checkpoint(self.step, tensors, state), self.digest)

    def restore(self) -> None:
        """Continue from the newest sound checkpoint, if there is one."""
        found = checkpoint.load_latest(self.folder, self.digest)
        if found is None:
            return
        groups: dict[str, dict[str, Tensor]] = {"model": {}, "best": {}, "optimizer": {}}
        for name, tensor in found.tensors.items():
            kind, _, rest = name.partition("/")
            groups[kind][rest] = tensor
        self.task.model.load_state_dict(groups["model"])
        self.best = groups["best"]
        self.optimizer.restore(groups["optimizer"], found.step)
        state = found.state
        self.step, self.best_step, self.waited = found.step, state["best_step"], state["waited"]
        self.best_score = math.inf if state["best_score"] is None else state["best_score"]
        self.plateau.restore(state["plateau"])
        self._sums, self._since = dict(state["sums"]), state["since"]


@dataclass(frozen=True, slots=True)
class FitResult:
    """Outcome of :func:`fit`; the task's model holds the best weights by validation."""

    best_step: int
    best_score: float
    steps: int
    resumed_at: int
    seconds: float
    processes: int
    threads: int  # of each process
    precision: str
    final: dict[str, float]
    folder: Path

    def forget_state(self) -> None:
        """Remove the state folder: for when all outputs of the run have been written."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def facts(self) -> dict[str, Any]:
        """For run.json: steps, selection and the measures at the selected step."""
        return {
            "training": {
                "steps": self.steps,
                "best_step": self.best_step,
                "best_score": self.best_score,
                "resumed_at": self.resumed_at,
                "seconds": round(self.seconds, 3),
                "processes": self.processes,
                "threads": self.threads,
                "precision": self.precision,
            },
            "final": self.final,
        }


@contextmanager
def _only_trainer(folder: Path, world: World) -> Iterator[None]:
    """Hold the state folder for this run."""
    if not world.first:
        yield
        return
    folder.mkdir(parents=True, exist_ok=True)
    try:
        lock = FileLock(folder / "lock").acquire(timeout=0)
    except Timeout:
        raise TrainingError(f"{folder}: another process is training this run") from None
    with lock:
        yield


def fit(
    task: Task,
    settings: TrainSettings,
    *,
    folder: Path,
    digest: str,
    name: str,
    say: Callable[[str], None],
    world: World | None = None,
) -> FitResult:
    """Train to the end, continuing where an earlier call of the same run was stopped.

    Args:
        task: model, losses and validation.
        settings: length and optimiser.
        folder: state folder of this run, not an output of any rule; ``curve.csv`` and
            ``progress.csv`` grow in it.
        digest: identity of the run.
        name: how to call it in progress lines.
        say: takes one progress line.
        world: the processes that train it together; alone if None. The first one writes.

    Raises:
        TrainingError: a non-finite loss, gradient or score, another process trains this run, or
            one of the processes that share it is dead or silent.
        CheckpointError: the state cannot be written.
        SystemExit: code ``EXIT_INTERRUPTED`` after a stop signal, with the state saved.
    """
    world = world or World()
    with _only_trainer(folder, world), _stop_on_signal() as stop:
        trainer = Trainer(task, settings, folder, digest, world)
        trainer.restore()
        trainer.check_agreement()
        resumed_at = trainer.step
        curve = Curve(folder / "curve.csv", trainer.step) if world.first else None
        progress = Progress(
            folder if world.first else None,
            name=name,
            steps=settings.steps,
            molecules=settings.batch_size,
            first_step=resumed_at,
            say=say,
        )
        _run(trainer, curve, progress, stop)
        task.model.load_state_dict(trainer.best)
        return FitResult(
            best_step=trainer.best_step,
            best_score=trainer.best_score,
            steps=trainer.step,
            resumed_at=resumed_at,
            seconds=progress.seconds(),
            processes=world.size,
            threads=torch.get_num_threads(),
            precision=settings.precision,
            final=curve.row(trainer.best_step) if curve else {},
            folder=folder,
        )


def _run(trainer: Trainer, curve: Curve | None, progress: Progress, stop: _Stop) -> None:
    saved = time.monotonic()
    while not trainer.finished():
        loss = trainer.train_step()
        if trainer.step in trainer.evaluation_steps:
            trainer.evaluate(curve)
        progress.update(trainer.step, loss, trainer.last_score)
        if trainer.world.any(stop.signal is not None):
            trainer.save()
            progress.stopped(trainer.step)
            trainer.world.any(False)  # all leave together, after the save
            raise SystemExit(EXIT_INTERRUPTED)
        if time.monotonic() - saved > trainer.settings.checkpoint_seconds:
            trainer.save()
            saved = time.monotonic()
    trainer.save()
