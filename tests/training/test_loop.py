"""The loop's rules: batches, schedules, early stopping, refusals, the curve."""

from __future__ import annotations

import math
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from georecon.data.store import Store
from georecon.errors import TrainingError
from georecon.training.batches import ShuffledBatches, in_order, load_batch
from georecon.training.loop import Curve, Trainer
from georecon.training.schedule import Plateau, warmup_cosine
from tests.training.toy_run import make_task, run, settings


class Scripted:
    """A one-parameter task whose validation scores are given."""

    def __init__(self, scores: list[float], loss: str = "sound", bad_step: int = 3) -> None:
        self.model = nn.Linear(1, 1, bias=False)
        nn.init.ones_(self.model.weight)
        self.scores, self.kind, self.bad_step = list(scores), loss, bad_step

    def parts(self, step: int) -> int:
        return 1

    def loss(self, step: int, part: int) -> dict[str, Tensor]:
        weight = self.model.weight.sum()
        value = weight.square()
        if step == self.bad_step and self.kind == "nan":
            value = value * math.nan
        if step == self.bad_step and self.kind == "inf":
            value = value + math.inf
        if step == self.bad_step and self.kind == "gradient":
            value = value + (weight - weight.detach()).sqrt()  # 0, with an infinite derivative
        return {"loss": value, "part": value.detach()}

    def molecules(self, step: int) -> list[int]:
        return [1000 + step, 7]

    def validate(self) -> dict[str, float]:
        return {"score": self.scores.pop(0), "mae": 1.0}


@pytest.mark.parametrize(
    ("kind", "words"),
    [("nan", "loss is nan"), ("inf", "loss is inf"), ("gradient", "gradient norm is")],
)
@pytest.mark.parametrize("clip", [0.0, 1.0])
def test_non_finite_step_is_refused_before_it_changes_anything(
    kind: str, words: str, clip: float, tmp_path: Path
) -> None:
    task = Scripted([1.0] * 10, kind)
    trainer = Trainer(task, settings(clip=clip), tmp_path, "d")
    for _ in range(3):
        trainer.train_step()
    weights = task.model.weight.detach().clone()
    moments = {n: t.clone() for n, t in trainer.optimizer.state().items()}
    with pytest.raises(TrainingError, match=words) as error:
        trainer.train_step()
    assert "step 3" in str(error.value)
    assert "1003, 7" in str(error.value)
    assert torch.equal(task.model.weight, weights)
    for name, value in trainer.optimizer.state().items():
        assert torch.equal(value, moments[name]), name
    assert trainer.step == 3


@pytest.mark.parametrize("kind", ["nan", "gradient"])
def test_fit_stops_there_and_keeps_no_damaged_state(kind: str, tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match="molecules of the batch"):
        run(Scripted([1.0] * 10, kind, bad_step=12), tmp_path, checkpoint_seconds=1e-9)
    assert sorted(p.name for p in tmp_path.glob("step-*"))[-1] == "step-000000012"


@pytest.mark.parametrize("every", [2, 7, 100])
def test_losses_that_are_read_later_are_the_same(
    every: int, toy_store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Weights, curve and saved states to the bit, as a GPU's host reads them (``READ_EVERY``)."""
    right = run(make_task(toy_store), tmp_path / "each", clip=0.5)
    read_later(every, monkeypatch)
    task = make_task(toy_store)
    found = run(task, tmp_path / "later", clip=0.5)
    assert (found.best_score, found.final) == (right.best_score, right.final)
    for name in ("curve.csv", "step-000000040/state.safetensors"):
        each, later = (tmp_path / part / name for part in ("each", "later"))
        assert later.read_bytes() == each.read_bytes(), name


def read_later(every: int, patch: pytest.MonkeyPatch) -> None:
    """Trainers that read losses every so many steps."""
    prepare = Trainer.__init__

    def changed(trainer: Trainer, *given: object) -> None:
        prepare(trainer, *given)  # type: ignore[arg-type]
        trainer.read_every = every

    patch.setattr(Trainer, "__init__", changed)


@pytest.mark.parametrize("kind", ["nan", "gradient"])
@pytest.mark.parametrize("every", [2, 7, 100])
def test_a_step_that_is_read_later_is_named_and_not_saved(
    every: int, kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read_later(every, monkeypatch)
    with pytest.raises(TrainingError, match=r"^step 12: .*molecules of the batch: \[1012, 7\]"):
        run(Scripted([1.0] * 10, kind, bad_step=12), tmp_path, checkpoint_seconds=1e-9)
    assert sorted(p.name for p in tmp_path.glob("step-*"))[-1] == "step-000000012"


def test_non_finite_score_is_refused(tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match=r"step 10.*nan"):
        run(Scripted([1.0, math.nan, 1.0]), tmp_path)


def test_real_nan_label_names_the_molecules(toy_store: Path, tmp_path: Path) -> None:
    task = make_task(toy_store)
    with torch.no_grad():
        task.model.encoder.embedding.weight[6] = math.nan
    with pytest.raises(TrainingError, match=r"molecules of the batch: \[1\d\d"):
        run(task, tmp_path)


def test_evaluates_evenly_and_at_the_last_step(tmp_path: Path) -> None:
    run(Scripted([1.0] * 8), tmp_path)
    rows = (tmp_path / "curve.csv").read_text().splitlines()
    assert [int(row.split(",")[0]) for row in rows[1:]] == [5, 10, 15, 20, 25, 30, 35, 40]
    assert rows[0] == "step,lr,train_loss,train_part,val_score,val_mae"


@pytest.mark.parametrize(("steps", "evaluations"), [(10, 3), (7, 7), (5, 9), (1, 1), (100, 1)])
def test_number_of_evaluations(steps: int, evaluations: int, tmp_path: Path) -> None:
    run(Scripted([1.0] * 100), tmp_path, steps=steps, evaluations=evaluations)
    rows = (tmp_path / "curve.csv").read_text().splitlines()[1:]
    taken = [int(row.split(",")[0]) for row in rows]
    assert len(taken) == min(steps, evaluations)
    assert taken[-1] == steps


def test_curve_holds_mean_losses_since_the_last_evaluation(tmp_path: Path) -> None:
    task = Scripted([1.0] * 8)
    trainer = Trainer(task, settings(), tmp_path, "d")
    curve = Curve(tmp_path / "curve.csv", 0)
    losses = []
    for step in range(10):
        losses.append(trainer.train_step())
        if step == 4:
            trainer.evaluate(curve)
    trainer.evaluate(curve)
    assert curve.row(5)["train_loss"] == pytest.approx(np.mean(losses[:5]))
    assert curve.row(10)["train_loss"] == pytest.approx(np.mean(losses[5:]))


def test_early_stopping_waits_for_patience_and_returns_the_best(tmp_path: Path) -> None:
    task = Scripted([5.0, 3.0, 4.0, 3.5, 3.2, 1.0, 0.5, 0.1])
    result = run(task, tmp_path, patience=3)
    assert (result.steps, result.best_step, result.best_score) == (25, 10, 3.0)


def test_no_patience_means_no_early_stop(tmp_path: Path) -> None:
    result = run(Scripted([1.0, 2, 3, 4, 5, 6, 7, 8]), tmp_path, patience=0)
    assert (result.steps, result.best_step) == (40, 5)


def test_warmup_cosine() -> None:
    factors = [warmup_cosine(step, warmup=10, total=110) for step in range(110)]
    assert factors[:10] == pytest.approx([(k + 1) / 10 for k in range(10)])
    assert factors[10] == 1.0
    assert factors[60] == pytest.approx(0.5)
    assert all(a > b for a, b in pairwise(factors[10:]))
    assert 0 < factors[-1] < 1e-3
    assert warmup_cosine(0, warmup=0, total=10) == 1.0
    assert warmup_cosine(5, warmup=5, total=5) == 1.0


def test_learning_rate_follows_the_schedule(tmp_path: Path) -> None:
    task = Scripted([1.0] * 8)
    trainer = Trainer(task, settings(), tmp_path, "d")
    for step in range(STEPS := 40):
        trainer.train_step()
        rate = trainer.lr
        assert rate == pytest.approx(3e-3 * warmup_cosine(step, warmup=5, total=STEPS))


def test_plateau_follows_torch() -> None:
    scores = [5.0, 4.0, 4.0, 4.1, 4.2, 3.9, 4.0, 4.0, 4.0, 4.0, 4.0, 4.0, 1.0, 2.0, 2.0, 2.0]
    mine = Plateau(factor=0.5, patience=2, minimum=0.1)
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0)
    theirs = torch.optim.lr_scheduler.ReduceLROnPlateau(
        optimizer, factor=0.5, patience=2, threshold=0.0, min_lr=0.1
    )
    for score in scores:
        mine.observe(score)
        theirs.step(score)
        assert mine.scale == pytest.approx(optimizer.param_groups[0]["lr"])


def test_plateau_has_a_minimum_and_a_state() -> None:
    plateau = Plateau(factor=0.5, patience=0, minimum=0.2)
    for _ in range(10):
        plateau.observe(1.0)
    assert plateau.scale == 0.2
    other = Plateau()
    other.restore(plateau.state())
    assert (other.scale, other.best, other.waited) == (plateau.scale, plateau.best, plateau.waited)
    other.restore(Plateau().state())
    assert other.best == math.inf


def test_plateau_schedule_lowers_the_learning_rate_and_survives_a_resume(
    toy_store: Path, tmp_path: Path
) -> None:
    task = Scripted([1.0] + [2.0] * 79)
    changes = {"schedule": "plateau", "steps": 80, "evaluations": 80, "warmup": 0}
    run(task, tmp_path, **changes)
    rows = (tmp_path / "curve.csv").read_text().splitlines()[1:]
    rates = [float(row.split(",")[1]) for row in rows]
    assert rates[0] == pytest.approx(3e-3)
    assert rates[-1] == pytest.approx(3e-3 * 0.8**2)
    assert len(set(rates)) == 3


# ---- the curve -------------------------------------------------------------------------------


def curve_text(*rows: str) -> str:
    return "\n".join(["step,lr,loss", *rows]) + "\n"


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        (curve_text("5,0.1,1.0", "10,0.1,0.9", "15,0.1,0.8"), ["5,0.1,1.0", "10,0.1,0.9"]),
        (curve_text("5,0.1,1.0", "10,0.1"), ["5,0.1,1.0"]),
        (curve_text("5,0.1,1.0").rstrip("\n") + "\n1", ["5,0.1,1.0"]),
        (curve_text(), []),
        ("", []),
        ("step,l", []),
    ],
    ids=["later rows", "torn row", "torn step", "header only", "empty", "torn header"],
)
def test_curve_is_cut_back_on_resume(text: str, kept: list[str], tmp_path: Path) -> None:
    path = tmp_path / "curve.csv"
    path.write_text(text)
    curve = Curve(path, 10)
    curve.append({"step": 15, "lr": 0.1, "loss": 0.7})
    assert path.read_text() == curve_text(*kept, "15,0.1,0.7")
    assert curve.row(15) == {"lr": 0.1, "loss": 0.7}


def test_curve_of_a_fresh_run_forgets_an_old_one(tmp_path: Path) -> None:
    path = tmp_path / "curve.csv"
    path.write_text(curve_text("5,0.1,1.0"))
    Curve(path, 0)
    assert path.read_text() == ""


# ---- batches ---------------------------------------------------------------------------------


def test_every_epoch_visits_each_molecule_once(toy_store: Path) -> None:
    store = Store.open(toy_store)
    ids = np.asarray(store.ids)[:20]
    batches = ShuffledBatches(store, ids, batch_size=4, seed=3)
    epochs = []
    for epoch in range(3):
        seen = [i for k in range(5) for i in batches.at(5 * epoch + k).graph.ids.tolist()]
        assert sorted(seen) == ids.tolist()
        epochs.append(seen)
    assert epochs[0] != epochs[1] != epochs[2]


def test_batch_is_a_function_of_seed_and_step_alone(toy_store: Path) -> None:
    store = Store.open(toy_store)
    ids = np.asarray(store.ids)

    def fresh(seed: int = 3) -> ShuffledBatches:
        return ShuffledBatches(store, ids, batch_size=5, seed=seed)

    steady = fresh()
    in_turn = [steady.at(step).graph.ids.tolist() for step in range(12)]
    assert [fresh().at(step).graph.ids.tolist() for step in range(12)] == in_turn
    backwards = [steady.at(step).graph.ids.tolist() for step in reversed(range(12))]
    assert backwards[::-1] == in_turn
    assert [fresh(4).at(step).graph.ids.tolist() for step in range(12)] != in_turn


def test_batch_larger_than_the_set_is_the_set(toy_store: Path) -> None:
    store = Store.open(toy_store)
    batches = ShuffledBatches(store, store.ids[:6], batch_size=64, seed=1)
    assert sorted(batches.at(3).graph.ids.tolist()) == store.ids[:6].tolist()


def test_batch_holds_what_the_store_holds(toy_store: Path) -> None:
    store = Store.open(toy_store)
    rows = np.array([3, 0, 7])
    found = load_batch(store, rows, "energy")
    part = store.gather(rows)
    assert found.graph.ids.tolist() == [103, 100, 107]
    assert found.graph.z.tolist() == part.z.tolist()
    assert found.graph.pos.dtype == torch.float32
    assert np.array_equal(found.graph.pos.numpy(), part.pos)
    assert found.label is not None
    assert found.forces is not None
    assert np.array_equal(found.label.numpy(), part.labels["energy"])
    assert np.array_equal(found.forces.numpy(), part.forces)
    plain = load_batch(store, rows)
    assert not len(plain.label)
    assert not len(plain.forces)


def test_in_order_keeps_order_and_the_last_part(toy_store: Path) -> None:
    store = Store.open(toy_store)
    wanted = store.ids[::-1][:10]
    found = in_order(store, wanted, 4, None)
    assert [b.graph.num_graphs for b in found] == [4, 4, 2]
    assert [i for b in found for i in b.graph.ids.tolist()] == wanted.tolist()
