"""A new objective is one new file; the engine stays as it is, and short."""

from __future__ import annotations

import ast
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

import georecon
from georecon import objectives
from georecon.data.store import Store
from georecon.experiments.settings import EncoderSettings
from georecon.models.encoder import EquivariantTransformer
from georecon.stages.pretrain import PretrainTask
from georecon.training.batches import ShuffledBatches, in_order
from tests.training.toy_run import run

PACKAGE = Path(georecon.__file__).parent
ENGINE = [
    *sorted((PACKAGE / "training").glob("*.py")),
    *sorted((PACKAGE / "stages").glob("*.py")),
    *(PACKAGE / f"jobs/{name}.py" for name in ("progress", "watch")),
]
NEW = """
from dataclasses import dataclass
from typing import Annotated

import torch

from georecon.keys import Key
from georecon.graph import pool_mean
from georecon.objectives import PretrainingObjective


@dataclass(frozen=True, kw_only=True, slots=True)
class Parameters:
    width: Annotated[int, Key("outputs", at_least=1)]


class Objective(PretrainingObjective):
    '''Predict the number of atoms of a molecule from its pooled features.'''

    mean_over = "molecules"

    def __init__(self, encoder, parameters):
        super().__init__(encoder)
        self.head = torch.nn.Linear(encoder.settings.channels, parameters.width)

    def forward(self, graph, noise):
        counts = (graph.ptr[1:] - graph.ptr[:-1]).to(graph.pos.dtype) / 10.0
        found = self.head(pool_mean(self.encoder(graph)[0], graph)).mean(-1)
        loss = (found - counts).square().mean()
        return {"loss": loss, "atoms": loss}
"""


def test_a_new_objective_is_one_file(
    toy_store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "count_atoms.py").write_text(NEW)
    for path in Path(objectives.__path__[0]).glob("*.py"):
        shutil.copy(path, tmp_path)
    monkeypatch.setattr("georecon.experiments.objective_keys.FOLDER", tmp_path)
    monkeypatch.setattr(objectives, "__path__", [*objectives.__path__, str(tmp_path)])
    assert "count_atoms" in objectives.available()
    torch.manual_seed(1)
    encoder = EquivariantTransformer(EncoderSettings(channels=8, layers=1, heads=2, rbf=8))
    objective = objectives.build("count_atoms", encoder, {"width": 4})
    store = Store.open(toy_store)
    ids = np.asarray(store.ids)
    batches = ShuffledBatches(store, ids[:20], batch_size=4, seed=1)
    task = PretrainTask(objective, batches, in_order(store, ids[20:], 4, None), seed=1)
    result = run(task, tmp_path / "state", lr=3e-2)
    header = (tmp_path / "state/curve.csv").read_text().splitlines()[0]
    assert header == "step,lr,train_loss,train_atoms,val_score,val_atoms"
    first = (tmp_path / "state/curve.csv").read_text().splitlines()[1].split(",")
    assert result.best_score < 0.5 * float(first[4])


@pytest.mark.parametrize("path", sorted((PACKAGE / "training").glob("*.py")), ids=lambda p: p.stem)
def test_the_engine_names_no_objective(path: Path) -> None:
    words = {
        node.value if isinstance(node, ast.Constant) else getattr(node, "id", None)
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, (ast.Constant, ast.Name))
    }
    assert not words & {*objectives.available(), "coord", "georecon"}


def longest(source: str) -> int:
    """Lines of the longest function."""
    functions = (n for n in ast.walk(ast.parse(source)) if isinstance(n, ast.FunctionDef))
    return max((n.end_lineno - n.lineno + 1 for n in functions if n.end_lineno), default=0)


@pytest.mark.parametrize("path", ENGINE, ids=lambda p: p.stem)
def test_no_function_is_longer_than_sixty_lines(path: Path) -> None:
    assert longest(path.read_text(encoding="utf-8")) <= 60


def test_a_longer_one_would_be_noticed() -> None:
    assert longest("def f():\n" + "    x = 1\n" * 60) == 61
