"""A run that is stopped, killed or restarted gives the numbers of one that was not."""

from __future__ import annotations

import os
import random
import signal
import time
from contextlib import suppress
from pathlib import Path

import pytest
import torch

from georecon.errors import TrainingError
from georecon.training import checkpoint
from georecon.training.loop import EXIT_INTERRUPTED, STOP_SIGNALS
from tests.training.toy_run import (
    DIGEST,
    STEPS,
    Interposed,
    finish,
    make_task,
    run,
    start,
    stop_self,
)


def last(folder: Path) -> checkpoint.Checkpoint:
    found = checkpoint.load_latest(folder, DIGEST)
    assert found is not None
    return found


def assert_same(folder: Path, expected: Path) -> None:
    """Same weights, best weights, optimiser moments, small state and curve, to the bit."""
    mine, other = last(folder), last(expected)
    assert mine.step == other.step == STEPS
    assert mine.state == other.state
    assert mine.tensors.keys() == other.tensors.keys()
    for name, tensor in mine.tensors.items():
        assert torch.equal(tensor, other.tensors[name]), name
    assert (folder / "curve.csv").read_bytes() == (expected / "curve.csv").read_bytes()


def wait_for(path: Path, seconds: float = 60.0) -> None:
    end = time.monotonic() + seconds
    while not path.exists():
        assert time.monotonic() < end, f"{path} did not appear"
        time.sleep(0.01)


def test_checkpoint_holds_weights_best_weights_and_both_moments(whole: Path) -> None:
    found = last(whole)
    kinds = {name.partition("/")[0] for name in found.tensors}
    assert kinds == {"model", "best", "optimizer"}
    moments = {name.rpartition("/")[2] for name in found.tensors if name.startswith("optimizer")}
    assert moments == {"exp_avg", "exp_avg_sq"}


@pytest.mark.parametrize("k", range(1, STEPS))
def test_resume_is_exact_at_every_step(
    k: int, toy_store: Path, whole: Path, tmp_path: Path
) -> None:
    with pytest.raises(SystemExit) as stop:
        run(Interposed(make_task(toy_store), stop_self(k - 1)), tmp_path)
    assert stop.value.code == EXIT_INTERRUPTED
    assert last(tmp_path).step == k
    said: list[str] = []
    result = run(make_task(toy_store), tmp_path, said.append)
    assert (result.resumed_at, result.steps) == (k, STEPS)
    assert f"step {k} of {STEPS}" in said[0]
    assert_same(tmp_path, whole)


def test_resume_after_an_error_goes_back_to_the_last_save(
    toy_store: Path, whole: Path, tmp_path: Path
) -> None:
    """An error saves nothing; rows that the checkpoint has not seen leave the curve."""

    def fail(step: int) -> None:
        if step == 33:
            raise RuntimeError("power cut")

    with pytest.raises(SystemExit):
        run(Interposed(make_task(toy_store), stop_self(11)), tmp_path)
    with pytest.raises(RuntimeError, match="power cut"):
        run(Interposed(make_task(toy_store), fail), tmp_path)
    assert last(tmp_path).step == 12
    assert (tmp_path / "curve.csv").read_text().count("\n") > 3  # evaluated after step 12, too
    assert run(make_task(toy_store), tmp_path).resumed_at == 12
    assert_same(tmp_path, whole)


def test_resume_of_a_finished_run_trains_nothing(
    toy_store: Path, whole: Path, tmp_path: Path
) -> None:
    run(make_task(toy_store), tmp_path)
    task = make_task(toy_store)
    result = run(task, tmp_path)
    assert result.resumed_at == result.steps == STEPS
    assert_same(tmp_path, whole)
    best = {n.removeprefix("best/"): t for n, t in last(whole).tensors.items() if "best/" in n}
    assert all(torch.equal(t, best[n]) for n, t in task.model.state_dict().items())


def test_model_holds_the_best_weights_after_the_run(toy_store: Path, tmp_path: Path) -> None:
    task = make_task(toy_store)
    result = run(task, tmp_path)
    rows = (tmp_path / "curve.csv").read_text().splitlines()
    column = rows[0].split(",").index("val_score")
    scores = {int(r.split(",")[0]): float(r.split(",")[column]) for r in rows[1:]}
    assert result.best_score == min(scores.values())
    assert scores[result.best_step] == result.best_score
    assert task.validate()["score"] == pytest.approx(result.best_score, rel=1e-6)
    assert result.final["val_score"] == result.best_score


def test_two_fresh_processes_give_the_same_run(
    toy_store: Path, whole: Path, tmp_path: Path
) -> None:
    runs = [start(toy_store, tmp_path / name) for name in ("one", "two")]
    assert [finish(process) for process in runs] == [0, 0]
    assert_same(tmp_path / "one", tmp_path / "two")
    assert_same(tmp_path / "one", whole)


def test_thread_count_changes_nothing_beyond_rounding(toy_store: Path, tmp_path: Path) -> None:
    """64 channels, so that products are large enough to be shared by two threads."""
    few = {"steps": 10, "evaluations": 10}
    for threads in (1, 2):
        folder = tmp_path / str(threads)
        code = finish(start(toy_store, folder, threads=threads, channels=64, changes=few))
        assert code == 0
    curves = []
    for threads in (1, 2):
        rows = (tmp_path / str(threads) / "curve.csv").read_text().splitlines()[1:]
        curves.append(torch.tensor([[float(x) for x in row.split(",")] for row in rows]))
    error = ((curves[0] - curves[1]).abs() / curves[0].abs().clamp(min=1e-12)).max()
    assert error < 1e-5, error  # float32 through ten steps; the losses themselves:
    assert (curves[0][0] - curves[1][0]).abs().max() < 1e-6


KILLS = [*range(5), *(pytest.param(seed, marks=pytest.mark.slow) for seed in range(5, 20))]


@pytest.mark.parametrize("seed", KILLS)
def test_sigkill_at_a_random_moment(
    seed: int, toy_store: Path, whole: Path, tmp_path: Path
) -> None:
    """Saves after every step, so that kills fall into saves, too."""
    folder, ready = tmp_path / "state", tmp_path / "ready"
    always = {"checkpoint_seconds": 1e-9}
    process = start(toy_store, folder, ready=ready, changes=always)
    wait_for(ready)
    time.sleep(random.Random(seed).uniform(0.0, 0.3))
    with suppress(ProcessLookupError):  # it has ended
        os.kill(process.pid, signal.SIGKILL)
    assert finish(process) in (-signal.SIGKILL, 0)
    assert finish(start(toy_store, folder, changes=always)) == 0
    assert_same(folder, whole)
    assert not list(folder.glob(".tmp-*")), "half-written saves of the killed process remain"


@pytest.mark.parametrize(
    ("number", "pause"),
    [
        (signal.SIGTERM, 0.02),
        (signal.SIGTERM, 0.5),
        (signal.SIGINT, 0.02),
        (signal.SIGUSR1, 0.02),  # Slurm's, ahead of a time limit
    ],
)
def test_a_stop_signal_saves_and_ends_with_its_code(
    number: int, pause: float, toy_store: Path, whole: Path, tmp_path: Path
) -> None:
    folder, ready = tmp_path / "state", tmp_path / "ready"
    process = start(toy_store, folder, pause=pause, ready=ready)
    wait_for(ready)
    time.sleep(0.1)
    sent = time.monotonic()
    os.kill(process.pid, number)
    assert finish(process) == EXIT_INTERRUPTED == 75
    assert time.monotonic() - sent < 10
    assert 0 < last(folder).step < STEPS
    run(make_task(toy_store), folder)
    assert_same(folder, whole)


def test_signal_handlers_are_given_back(toy_store: Path, tmp_path: Path) -> None:
    before = {n: signal.getsignal(n) for n in STOP_SIGNALS}
    with pytest.raises(SystemExit):
        run(Interposed(make_task(toy_store), stop_self(0)), tmp_path)
    assert {n: signal.getsignal(n) for n in before} == before


def test_second_trainer_of_the_same_run_is_refused(
    toy_store: Path, whole: Path, tmp_path: Path
) -> None:
    folder, ready = tmp_path / "state", tmp_path / "ready"
    process = start(toy_store, folder, pause=0.05, ready=ready)
    wait_for(ready)
    with pytest.raises(TrainingError, match="another process is training this run"):
        run(make_task(toy_store), folder)
    assert finish(process) == 0
    assert_same(folder, whole)
    run(make_task(toy_store), folder)  # and the lock is free again


def test_full_disk_leaves_the_last_save_intact(
    toy_store: Path, whole: Path, tmp_path: Path
) -> None:
    """A limit on file sizes stands for the full disk: saves fail, the curve still fits."""
    with pytest.raises(SystemExit):
        run(Interposed(make_task(toy_store), stop_self(9)), tmp_path)
    size = next(tmp_path.glob("step-*/state.safetensors")).stat().st_size
    code = finish(start(toy_store, tmp_path, file_limit=size // 2))
    assert code not in (0, EXIT_INTERRUPTED)
    assert last(tmp_path).step == 10
    assert not list(tmp_path.glob(".tmp-*"))
    run(make_task(toy_store), tmp_path)
    assert_same(tmp_path, whole)
