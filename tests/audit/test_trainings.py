"""Steps at which a curve must have its rows: those at which the loop validates."""

from __future__ import annotations

from pathlib import Path

import pytest
from torch import nn

from georecon.audit.trainings import _evaluations, _rates
from georecon.training.loop import Trainer
from tests.training.toy_run import settings


class Task:
    model = nn.Linear(2, 2)


@pytest.mark.parametrize("steps", [1, 7, 20, 40, 2000])
@pytest.mark.parametrize("evaluations", [1, 2, 3, 8, 50])
def test_they_are_the_loops(steps: int, evaluations: int, tmp_path: Path) -> None:
    chosen = settings(steps=steps, evaluations=evaluations)
    wanted = Trainer(Task(), chosen, tmp_path, "d" * 64).evaluation_steps  # type: ignore[arg-type]
    assert set(_evaluations(chosen, [])) == {step for step in wanted if step > 0}


@pytest.mark.parametrize(
    ("scores", "last"), [([3, 2, 1, 0], 40), ([1, 2, 3], 30), ([2, 1, 1.5, 1], 40)]
)
def test_patience_may_end_them(scores: list[float], last: int) -> None:
    rows = [{"val_score": str(score)} for score in scores]
    found = _evaluations(settings(steps=40, evaluations=4, patience=2), rows)
    assert found[-1] == last


@pytest.mark.parametrize("schedule", ["cosine", "plateau"])
def test_rates_are_the_loops(schedule: str, tmp_path: Path) -> None:
    chosen = settings(steps=400, evaluations=100, schedule=schedule, warmup=10)
    trainer = Trainer(Task(), chosen, tmp_path, "d" * 64)  # type: ignore[arg-type]
    wanted, rows = [], []
    for step in _evaluations(chosen, []):
        trainer.step, score = step - 1, 1.0 + 1.0 / step if step < 50 else 2.0
        wanted.append(chosen.lr * trainer.factor())
        trainer.plateau.observe(score)
        rows.append({"step": str(step), "val_score": str(score)})
    assert list(_rates(chosen, rows)) == wanted
    assert len(set(wanted)) > 3
