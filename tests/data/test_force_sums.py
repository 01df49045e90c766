"""Errors of forces by frame: sums over known components, in float64."""

from __future__ import annotations

import numpy as np
import pytest

from georecon.data.force_sums import force_sums


def test_sums_are_over_the_known_components_of_each_frame() -> None:
    label = np.arange(15.0).reshape(5, 3)
    label[0, 1] = np.nan
    label[3:] = np.nan
    prediction = np.nan_to_num(label) + np.array([[1.0], [2.0], [-3.0], [9.0], [9.0]])
    found = force_sums(label, prediction.astype(np.float32), np.array([2, 1, 2]))
    assert found.components.tolist() == [5, 3, 0]
    assert found.absolute.tolist() == [2 * 1.0 + 3 * 2.0, 9.0, 0.0]
    assert found.square.tolist() == [2 * 1.0 + 3 * 4.0, 27.0, 0.0]


def test_a_float32_prediction_is_compared_in_float64() -> None:
    label = np.full((1, 3), 1e4)
    prediction = np.full((1, 3), 1e4 + 1.0, dtype=np.float32)
    label += 1e-9
    found = force_sums(label, prediction, np.array([1]))
    assert found.absolute[0] == pytest.approx(3 * (1.0 - 1e-9), abs=1e-11)


def test_no_frame_has_no_sums() -> None:
    found = force_sums(np.zeros((0, 3)), np.zeros((0, 3)), np.zeros(0, dtype=np.int64))
    assert [len(array) for array in found] == [0, 0, 0]
