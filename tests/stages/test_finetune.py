"""What fine-tuning knows before it trains: references."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from georecon.data.molecules import Molecules
from georecon.experiments.experiments import Experiments
from georecon.experiments.settings import FinetuneSettings
from georecon.stages.finetune import _build_model
from tests.data.test_naive import molecules

CONFIG = Path(__file__).resolve().parents[2] / "config"
ATOMREF = {1: -13.6, 6: -1029.8, 8: -2042.6}


@pytest.fixture(scope="module")
def run() -> FinetuneSettings:
    tiny = Experiments.load(CONFIG, {"edition": "tiny"})
    return replace(tiny.runs.finetune_settings("property", "u0", "scratch", 1), label="u0")


def with_recipe(run: FinetuneSettings, **changes: object) -> FinetuneSettings:
    return replace(run, recipe=replace(run.recipe, **changes))


def residual(train: Molecules, atomref: torch.Tensor, shift: float) -> np.ndarray:
    sums = np.add.reduceat(atomref.numpy()[train.z], train.offsets[:-1])
    return train.labels["u0"] - sums - shift


def test_fitted_references_leave_what_composition_does_not_explain(run: FinetuneSettings) -> None:
    train = molecules(60, 1)
    train.labels["u0"] += np.random.default_rng(3).normal(size=60)  # geometry's part
    model = _build_model(run, train).property_model
    left = residual(train, model.atomref, float(model.shift))
    assert run.recipe.fitted
    assert abs(left.mean()) < 1e-9
    assert left.std() == pytest.approx(float(model.scale))
    assert left.std() < 1.1  # of labels whose own spread is thousands
    counts = np.stack([np.add.reduceat((train.z == z).astype(float), train.offsets[:-1])
                       for z in ATOMREF])  # fmt: skip
    np.testing.assert_allclose(counts @ left / 60, 0.0, atol=1e-8)  # least squares
    plain = with_recipe(run, fitted=False, standardize=True)
    assert float(_build_model(plain, train).property_model.scale) > 100.0


def test_fixed_references_are_the_cards(run: FinetuneSettings) -> None:
    fixed = with_recipe(run, fitted=False, standardize=False, atomref=ATOMREF)
    model = _build_model(fixed, molecules(20, 1)).property_model
    assert float(model.atomref[8]) == ATOMREF[8]
    assert (float(model.shift), float(model.scale)) == (0.0, 1.0)


def test_the_recipe_follows_the_edition() -> None:
    laptop, paper = (Experiments.load(CONFIG, {"edition": name}) for name in ("laptop", "paper"))
    for target in ("homo", "u0", "zpve"):
        recipe = laptop.runs.recipe("property", target)
        assert (recipe.fitted, recipe.standardize, dict(recipe.atomref)) == (True, True, {})
    for target in ("mu", "r2"):  # heads of their own form have no references
        assert not laptop.runs.recipe("property", target).fitted
    recipe = paper.runs.recipe("property", "u0")
    assert (recipe.fitted, recipe.standardize) == (False, False)
    assert set(recipe.atomref) == {1, 6, 7, 8, 9}
