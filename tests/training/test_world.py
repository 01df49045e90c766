"""Several processes give the run of one: loss sequence, validation, decisions, resume."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from georecon import objectives
from georecon.errors import ConfigError
from georecon.noise import NoiseSource
from georecon.training.batches import Share
from georecon.training.loop import EXIT_INTERRUPTED
from georecon.training.world import World
from tests.toy_graphs import random_batch, singles
from tests.training import toy_world
from tests.training.test_resume import last, wait_for
from tests.training.toy_run import Interposed
from tests.training.toy_world import PARAMS, curve, encoder_for, finish, make, start, train

KINDS = ("denoise", "reconstruct", "force")
TOLERANCE = 1e-6
LR = {"lr": 4e-4}  # the paper's


@pytest.fixture(scope="session")
def alone(toy_store: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Folder of the one-process run of a kind, made once."""
    base = tmp_path_factory.mktemp("alone")

    def folder(kind: str) -> Path:
        if not (base / kind).exists():
            train(kind, toy_store, base / kind, World(), **LR)
        return base / kind

    return folder


def difference(folder: Path, expected: Path, column: str = "train_loss") -> float:
    """Largest relative difference of two loss sequences."""
    mine, other = curve(folder, column), curve(expected, column)
    assert len(mine) == len(other) == toy_world.STEPS
    return float(np.abs(mine / other - 1.0).max())


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("size", [2, pytest.param(4, marks=pytest.mark.slow)])
def test_loss_sequence_is_that_of_one_process(
    size: int, kind: str, alone: Callable[[str], Path], toy_store: Path, tmp_path: Path
) -> None:
    """50 steps; a batch of nine molecules of 5 to 9 atoms makes unequal shares."""
    assert finish(start(size, kind, toy_store, tmp_path, **LR)) == [0] * size
    assert difference(tmp_path, alone(kind)) < TOLERANCE
    assert difference(tmp_path, alone(kind), "val_score") < TOLERANCE


class EqualShares:
    """A broken twin: every process weights its mean as if all had the same number of atoms."""

    def __init__(self, task: Any, world: World) -> None:
        task.batches.share = lambda step, part=0: Share(1.0 / world.size, 1.0 / world.size)
        self.task = task

    def __getattr__(self, name: str) -> Any:
        return getattr(self.task, name)


@pytest.mark.parametrize("kind", ["denoise", "force"])
def test_equal_weights_for_unequal_shares_would_be_noticed(
    kind: str, alone: Callable[[str], Path], toy_store: Path, tmp_path: Path
) -> None:
    few = {**LR, "steps": 5, "evaluations": 5}
    assert finish(start(2, kind, toy_store, tmp_path, spoil=EqualShares, **few)) == [0, 0]
    expected = curve(alone(kind))[:3]
    assert np.abs(curve(tmp_path)[:3] / expected - 1.0).max() > 1e3 * TOLERANCE


@pytest.mark.parametrize("size", [1, 2, 3, 7])
@pytest.mark.parametrize("kind", KINDS)
def test_shares_cover_the_batch_once(kind: str, size: int, toy_store: Path) -> None:
    whole = make(kind, toy_store, World()).batches
    for step in (0, 1, 5):
        worlds = [World() for _ in range(size)]
        for number, world in enumerate(worlds):
            world.rank, world.size = number, size
        parts = [make(kind, toy_store, world).batches for world in worlds]
        ids = [i for part in parts for i in part.at(step).graph.ids.tolist()]
        assert sorted(ids) == sorted(whole.at(step).graph.ids.tolist())
        assert all(part.ids_at(step) == whole.ids_at(step) for part in parts)
        shares = [part.share(step) for part in parts]
        assert sum(s.atoms for s in shares) == pytest.approx(1.0, abs=1e-12)
        assert sum(s.molecules for s in shares) == pytest.approx(1.0, abs=1e-12)


def test_one_process_has_whole_shares(toy_store: Path) -> None:
    value = torch.ones(())
    share = make("denoise", toy_store, World()).batches.share(0)
    assert share.of("atoms", value) is value


def test_more_processes_than_molecules_are_refused(toy_store: Path) -> None:
    world = World()
    world.size = 10
    with pytest.raises(ConfigError, match=r"batch_size is 9.*\(10\)"):
        make("denoise", toy_store, world)


@pytest.mark.parametrize("name", objectives.available())
def test_an_objective_says_what_its_losses_are_means_over(name: str) -> None:
    """For every file in objectives/: the loss of a batch is the weighted mean of its molecules'."""
    torch.manual_seed(0)
    objective = objectives.build(name, encoder_for(name), PARAMS[name]).double()
    graph = random_batch(3, sizes=(5, 11, 8))
    noise = NoiseSource(1, 2)
    whole = objective(graph, noise)
    parts = [(objective(one, noise), len(one.z)) for one in singles(graph)]
    weights = {"atoms": [n for _, n in parts], "molecules": [1 for _ in parts]}
    for key, value in whole.items():
        mean = {
            over: sum(w * losses[key] for w, (losses, _) in zip(by, parts, strict=True)) / sum(by)
            for over, by in weights.items()
        }
        assert torch.allclose(value, mean[objective.mean_over], rtol=1e-10), key
    other = "molecules" if objective.mean_over == "atoms" else "atoms"
    assert not torch.allclose(whole["loss"], mean[other], rtol=1e-4) or key != "loss"


@pytest.mark.parametrize(("before", "after"), [(1, 2), (2, 1), (2, 3)])
def test_resume_with_another_number_of_processes(
    before: int, after: int, alone: Callable[[str], Path], toy_store: Path, tmp_path: Path
) -> None:
    stop = {**LR, "spoil": StopAt}
    codes = finish(start(before, "denoise", toy_store, tmp_path, **stop))
    assert codes == [EXIT_INTERRUPTED] * before
    assert last(tmp_path).step == StopAt.step
    assert finish(start(after, "denoise", toy_store, tmp_path, **LR)) == [0] * after
    assert difference(tmp_path, alone("denoise")) < TOLERANCE


class StopAt(Interposed):
    """SIGTERM to the last process alone, in the middle of a step: all stop after it."""

    step = 17

    def __init__(self, task: Any, world: World) -> None:
        super().__init__(task, self._ask)
        self.batches, self.world = task.batches, world

    def _ask(self, step: int) -> None:
        if step == self.step - 1 and self.world.rank == self.world.size - 1:
            os.kill(os.getpid(), signal.SIGTERM)


class Slow(Interposed):
    """Waits before each step, and says when it has begun."""

    def __init__(self, task: Any, world: World) -> None:
        super().__init__(task, self._wait)
        self.world = world

    def _wait(self, step: int) -> None:
        if step == 5:
            self.task.batches.store.path.with_name(f"begun-{self.world.rank}").touch()
        time.sleep(0.02)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP], ids=["dead", "silent"])
def test_a_lost_process_ends_the_run_with_its_rank(
    number: int, toy_store: Path, tmp_path: Path
) -> None:
    """Within the timeout (here 5 s) and the grace, naming the rank; the state stays usable."""
    for k in range(3):
        toy_store.with_name(f"begun-{k}").unlink(missing_ok=True)
    options = {**LR, "spoil": Slow, "checkpoint_seconds": 1e-9, "timeout": 5.0}
    processes = start(3, "denoise", toy_store, tmp_path, **options)
    wait_for(toy_store.with_name("begun-1"))
    os.kill(processes[1].pid, number)
    began = time.monotonic()
    codes = finish([processes[0], processes[2]], 40.0)
    assert time.monotonic() - began < 30
    processes[1].kill()
    processes[1].join()
    assert codes == [1, 1]
    for survivor in (0, 2):
        expected = f"rank {survivor} waited for rank 1, which is dead or silent"
        assert expected in toy_world.error(tmp_path, survivor)
    assert last(tmp_path).step >= 5


def test_processes_that_came_apart_are_noticed(toy_store: Path, tmp_path: Path) -> None:
    assert finish(start(2, "denoise", toy_store, tmp_path, spoil=Apart)) == [1, 1]
    for k in (0, 1):
        expected = f"processes differ in weights: rank {k} from rank {1 - k}"
        assert toy_world.error(tmp_path, k) == expected


class Apart(Interposed):
    """The second process's weights change by one bit at step 7."""

    def __init__(self, task: Any, world: World) -> None:
        super().__init__(task, self._nudge)
        self.world = world

    def _nudge(self, step: int) -> None:
        if step == 7 and self.world.rank == 1:
            weight = next(self.task.model.parameters())
            with torch.no_grad():
                weight.view(torch.int32).view(-1)[0] += 1


def test_non_finite_loss_of_one_share_stops_all_with_the_whole_batch(
    toy_store: Path, tmp_path: Path
) -> None:
    assert finish(start(2, "denoise", toy_store, tmp_path, spoil=Spoilt)) == [1, 1]
    texts = [toy_world.error(tmp_path, k) for k in (0, 1)]
    assert texts[0] == texts[1]
    assert texts[0].startswith("step 3: loss is nan; molecules of the batch: [")
    assert texts[0].count(",") == 8  # nine molecules


class Spoilt(Interposed):
    """The second process's losses are NaN at step 3."""

    def __init__(self, task: Any, world: World) -> None:
        super().__init__(task, lambda step: None)
        self.world = world

    def loss(self, step: int, part: int) -> dict[str, torch.Tensor]:
        losses = super().loss(step, part)
        bad = step == 3 and self.world.rank == 1
        return {name: value * float("nan") if bad else value for name, value in losses.items()}


def test_one_process_disagrees_with_nobody() -> None:
    World().agree("weights", 3)
    assert World().any(True)
    assert not World().any(False)
