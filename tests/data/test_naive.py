"""Predictions without learning: exact where they must be, blind to pose, never of test labels."""

from __future__ import annotations

import numpy as np
import pytest

from georecon.data.molecules import Molecules
from georecon.data.naive import fit_composition, nearest_frame
from tests.toy_graphs import random_rotation


def molecules(count: int, seed: int, elements: tuple[int, ...] = (1, 6, 8)) -> Molecules:
    rng = np.random.default_rng(seed)
    z = [rng.choice(elements, size=rng.integers(2, 9)).astype(np.uint8) for _ in range(count)]
    pos = [rng.normal(size=(len(atoms), 3)).astype(np.float32) for atoms in z]
    of = {1: -13.6, 6: -1029.8, 8: -2042.6}
    energy = np.array([sum(of.get(int(a), 7.0) for a in atoms) + 3.5 for atoms in z])
    return Molecules.from_list(np.arange(count), z, pos, {"u0": energy})


def composition(train: Molecules, test: Molecules, label: str) -> np.ndarray:
    return fit_composition(train, label).predict(test)


def frames(count: int, seed: int, noise: float = 0.2) -> Molecules:
    """Frames of one molecule with forces −∂E/∂r of a sum of squared distances."""
    rng = np.random.default_rng(seed)
    at_rest = np.random.default_rng(0).normal(size=(6, 3)) * 2.0
    pos = [(at_rest + noise * rng.normal(size=(6, 3))).astype(np.float32) for _ in range(count)]
    wide = [p.astype(np.float64) for p in pos]
    energy = [0.5 * sum(((p[i] - p) ** 2).sum() for i in range(6)) / 2 for p in wide]
    forces = [-(6 * p - p.sum(axis=0)) for p in wide]
    z = [np.array([6, 6, 8, 1, 1, 1], dtype=np.uint8)] * count
    return Molecules.from_list(np.arange(count), z, pos, {"energy": np.array(energy)}, forces)


def turned(whole: Molecules, rotation: np.ndarray) -> Molecules:
    pos = (whole.pos @ rotation.T + np.array([1.0, -2.0, 30.0])).astype(np.float32)
    assert whole.forces is not None
    return Molecules(
        ids=whole.ids, z=whole.z, pos=pos, offsets=whole.offsets, labels=whole.labels,
        forces=whole.forces @ rotation.T,
    )  # fmt: skip


def test_a_label_that_is_a_sum_over_elements_is_predicted_exactly() -> None:
    train, test = molecules(40, 1), molecules(25, 2)
    found = composition(train, test, "u0")
    np.testing.assert_allclose(found, test.labels["u0"], rtol=1e-12)
    labels = {"u0": train.labels["u0"][::-1].copy()}  # the twin: labels of other molecules
    other = Molecules(ids=train.ids, z=train.z, pos=train.pos, offsets=train.offsets, labels=labels)
    assert np.abs(composition(other, test, "u0") - test.labels["u0"]).max() > 100.0


def test_an_element_of_the_test_set_alone_adds_nothing() -> None:
    train = molecules(40, 1, (1, 6))
    test = molecules(10, 2, (1, 6, 8))
    oxygen = np.add.reduceat((test.z == 8).astype(float), test.offsets[:-1])
    found = composition(train, test, "u0")
    np.testing.assert_allclose(found + 2042.6 * -oxygen, test.labels["u0"], rtol=1e-10)


def test_one_composition_gives_the_training_mean() -> None:
    train, test = frames(30, 1), frames(7, 2)
    found = composition(train, test, "energy")
    np.testing.assert_allclose(found, train.labels["energy"].mean(), rtol=1e-12)


def test_composition_sees_no_geometry_and_no_test_label() -> None:
    train, test = molecules(40, 1), molecules(25, 2)
    expected = composition(train, test, "u0")
    blind = Molecules(
        ids=test.ids, z=test.z, pos=test.pos + 9.0, offsets=test.offsets,
        labels={"u0": np.full(len(test), np.nan)},
    )  # fmt: skip
    np.testing.assert_array_equal(composition(train, blind, "u0"), expected)


def test_a_training_frame_in_another_pose_is_found_and_its_forces_turned() -> None:
    train = frames(30, 1)
    test = turned(train, random_rotation(3).numpy())
    energies, forces = nearest_frame(train, test, "energy")
    np.testing.assert_array_equal(energies, train.labels["energy"])
    assert test.forces is not None
    np.testing.assert_allclose(forces, test.forces, atol=2e-4)  # positions of 30 Å in float32
    assert train.forces is not None
    assert np.abs(train.forces - test.forces).max() > 1.0  # the twin: forces as they lie


def test_a_mirror_image_is_not_turned_onto_its_twin() -> None:
    train = frames(1, 1)
    mirror = np.diag([1.0, 1.0, -1.0])
    test = turned(train, mirror)
    _, forces = nearest_frame(train, test, "energy")
    assert test.forces is not None
    assert np.abs(forces - test.forces).max() > 0.1


def test_the_nearest_frame_beats_the_mean_where_frames_are_alike() -> None:
    train, test = frames(400, 1, noise=0.05), frames(50, 2, noise=0.05)
    energies, forces = nearest_frame(train, test, "energy")
    assert test.forces is not None
    mean = np.abs(test.forces).mean()
    assert np.abs(forces - test.forces).mean() < 0.2 * mean
    spread = np.abs(test.labels["energy"] - train.labels["energy"].mean()).mean()
    assert np.abs(energies - test.labels["energy"]).mean() < spread


def test_other_atoms_get_the_mean_and_no_force() -> None:
    train = frames(5, 1)
    test = molecules(3, 2)
    test = Molecules(
        ids=test.ids, z=test.z, pos=test.pos, offsets=test.offsets,
        labels={"energy": test.labels["u0"]}, forces=np.ones((len(test.z), 3)),
    )  # fmt: skip
    energies, forces = nearest_frame(train, test, "energy")
    np.testing.assert_allclose(energies, train.labels["energy"].mean())
    assert not forces.any()


@pytest.mark.parametrize("chunk", [1, 1000])
def test_chunks_change_nothing(monkeypatch: pytest.MonkeyPatch, chunk: int) -> None:
    train, test = frames(30, 1), frames(21, 2)
    expected = nearest_frame(train, test, "energy")
    monkeypatch.setattr("georecon.data.naive._CHUNK", chunk)
    for found, wanted in zip(nearest_frame(train, test, "energy"), expected, strict=True):
        np.testing.assert_array_equal(found, wanted)
