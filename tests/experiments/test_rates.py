"""Measured costs: never zero or less, never without an uncertainty."""

from __future__ import annotations

import json
import math
import random
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from georecon.errors import DataError
from georecon.experiments.rates import Rate, median_of, read_rates, write_rates
from tests.frame.repository import load_script
from tests.projects import ROOT

RATE = Rate(seconds_per_step=0.5, step_error=0.01, seconds_per_validation=2.0, validation_error=0.1)


def calibrate() -> ModuleType:
    return load_script(ROOT / "benchmarks/calibrate.py")


@pytest.mark.parametrize(
    "values",
    [
        [0.0, 0.0, 0.0],
        [-1.0, -2.0, -1.5, 0.5, -0.1],
        [0.1, -0.1, 0.2, -0.2, 0.05],  # noise around zero
        [1.0, 2.0],  # too few to know how sure one is
        [1.0, math.nan, 1.0],
        [math.inf, 1.0, 1.0],
        [],
    ],
)
def test_what_cannot_be_told_from_zero_is_no_cost(values: list[float]) -> None:
    assert median_of(values) is None


def test_one_interrupted_measurement_changes_little() -> None:
    calm = median_of([1.0, 1.01, 0.99, 1.02, 0.98])
    disturbed = median_of([1.0, 1.01, 0.99, 1.02, 60.0])
    assert calm is not None
    assert disturbed is not None
    assert disturbed[0] == pytest.approx(calm[0], abs=0.02)
    assert 0 < calm[1] < 0.02


def test_the_error_is_that_of_a_median_of_normal_numbers() -> None:
    draw = random.Random(1)
    found = [median_of([draw.gauss(10, 1) for _ in range(25)]) for _ in range(400)]
    assert all(found)
    medians, errors = zip(*[each for each in found if each], strict=True)
    mean = sum(medians) / len(medians)
    spread = math.sqrt(sum((m - mean) ** 2 for m in medians) / len(medians))
    assert sum(errors) / len(errors) == pytest.approx(spread, rel=0.15)


@pytest.mark.parametrize("noise", [0.0, 0.001, 0.03])
def test_a_cost_is_found_through_noise_by_longer_trainings(noise: float) -> None:
    draw, module, asked = random.Random(2), calibrate(), []

    def time(number: int, most: int) -> float:
        asked.append(most)
        return 3.0 + 0.002 * number + draw.gauss(0, noise)

    found = module.cost(time, 4, 14)
    assert found is not None
    assert found[0] == pytest.approx(0.002, abs=4 * found[1] + 1e-12)
    assert (max(asked) > 14) == (noise == 0.03)


def test_no_cost_is_given_where_there_is_none_to_be_seen() -> None:
    draw, module = random.Random(3), calibrate()
    assert module.cost(lambda number, most: 3.0 + draw.gauss(0, 1), 4, 14) is None
    assert module.cost(lambda number, most: 3.0, 4, 14) is None


def test_rates_are_read_as_written(tmp_path: Path) -> None:
    write_rates(tmp_path / "rates-a.json", "a GPU", {"abc": RATE})
    assert read_rates(tmp_path) == ({"a GPU": {"abc": RATE}}, [])
    assert read_rates(tmp_path / "nowhere") == ({}, [])


@pytest.mark.parametrize(
    "change",
    [
        {"seconds_per_step": 0.0},
        {"seconds_per_validation": -1.0},
        {"step_error": -0.1},
        {"seconds_per_step": "fast"},
        {"seconds_per_step": True},
        {"step_error": None},
        {"another": 1.0},
    ],
)
def test_a_rate_that_is_none_counts_as_not_measured_and_is_said(
    change: dict[str, Any], tmp_path: Path
) -> None:
    path = tmp_path / "rates-a.json"
    write_rates(path, "a CPU", {"good": RATE, "bad": RATE})
    content = json.loads(path.read_text())
    content["rates"]["bad"] |= change
    path.write_text(json.dumps(content))
    rates, (fault,) = read_rates(tmp_path)
    assert rates == {"a CPU": {"good": RATE}}
    assert fault.startswith("rates-a.json: bad: ")
    assert fault.endswith("counts as not measured")


def test_rates_without_an_uncertainty_are_old_ones(tmp_path: Path) -> None:
    old = {"seconds_per_step": 0.0, "seconds_per_validation": 1.0}
    (tmp_path / "rates-a.json").write_text(json.dumps({"device": "x", "rates": {"w": old}}))
    rates, faults = read_rates(tmp_path)
    assert (rates, len(faults)) == ({"x": {}}, 1)


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"device": 1, "rates": {}}', "\x00", "{"])
def test_a_file_of_another_form_is_refused_by_name(text: str, tmp_path: Path) -> None:
    (tmp_path / "rates-a.json").write_text(text)
    with pytest.raises(DataError, match=r"rates-a\.json: no rates of"):
        read_rates(tmp_path)
