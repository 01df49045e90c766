"""Predictions that need no model, from training labels alone."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from georecon.data.manifest import Source
from georecon.data.naive import nearest_frame
from georecon.data.store import Store, StoreWriter
from georecon.experiments.settings import Recipe
from georecon.training.unlearned import unlearned, unlearned_test_set
from tests.data.test_naive import frames, molecules

ATOMREF = {1: -13.6, 6: -1029.8, 8: -2042.6}


def plain(forces: bool = False, **changes: object) -> Recipe:
    of_all = {"head": "scalar", "loss": "mse", "standardize": True, "atomref": {}, "fitted": True,
              "noise_sigma": 0.0, "noise_weight": 0.0}  # fmt: skip
    return Recipe(**{**of_all, "force_weight": 1.0 if forces else 0.0, **changes})


def test_predictions_without_a_model_see_the_training_labels_alone() -> None:
    train, test = molecules(60, 1), molecules(20, 2)
    found = unlearned(train, test, "u0", plain())
    np.testing.assert_allclose(found["baseline"], train.labels["u0"].mean(), rtol=1e-12)
    np.testing.assert_allclose(found["naive"], test.labels["u0"], rtol=1e-10)
    test.labels["u0"][:] = np.nan
    again = unlearned(train, test, "u0", plain())
    assert all(torch.equal(found[name], again[name]) for name in found)


def test_the_training_mean_stands_on_the_cards_references_where_they_are_used() -> None:
    train, test = molecules(60, 1), molecules(20, 2)
    recipe = plain(fitted=False, standardize=False, atomref=ATOMREF)
    found = unlearned(train, test, "u0", recipe)["baseline"]
    np.testing.assert_allclose(found, test.labels["u0"], rtol=1e-10)  # they are sums of these


def test_force_sets_take_the_nearest_frame() -> None:
    train, test = frames(30, 1), frames(7, 2)
    found = unlearned(train, test, "energy", plain(forces=True))
    assert set(found["naive"].tolist()) <= set(train.labels["energy"].tolist())
    _, forces = nearest_frame(train, test, "energy")
    off = (forces - test.forces).reshape(7, 18)
    np.testing.assert_allclose(found["naive_force_absolute"], np.abs(off).sum(axis=1), rtol=1e-12)
    np.testing.assert_allclose(found["naive_force_square"], (off**2).sum(axis=1), rtol=1e-12)
    assert found["naive_force_absolute"].sum() < np.abs(test.forces).sum()


@pytest.mark.parametrize("most", [1, 3, 100])
def test_a_test_set_in_parts_gives_the_same_predictions(
    most: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    train, test = frames(30, 1), frames(7, 2)
    units = {"pos": "Å", "energy": "eV", "forces": "eV/Å"}
    with StoreWriter(tmp_path / "s", dataset="toy", source=Source(), units=units) as writer:
        writer.append(test)
    monkeypatch.setattr("georecon.training.unlearned.PART_MOLECULES", most)
    store, ids = Store.open(tmp_path / "s"), test.ids[::-1].copy()
    found = unlearned_test_set(train, store, ids, "energy", plain(forces=True))
    whole = store.gather(store.rows(ids))
    wanted = unlearned(train, whole, "energy", plain(forces=True))
    wanted["label"] = torch.from_numpy(whole.labels["energy"])
    assert found.keys() == wanted.keys()
    assert all(torch.equal(found[name], values) for name, values in wanted.items())
