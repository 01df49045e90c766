"""Steps at which a curve must have its rows: those at which the loop validates."""

from __future__ import annotations

from pathlib import Path

import pytest
from torch import nn

from georecon.audit.trainings import _evaluations
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
