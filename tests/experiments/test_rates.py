"""What the trial measured: read as written; what is no cost is said and not counted."""

from __future__ import annotations

import json
import math
import random
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from georecon.experiments.rates import Measurement, Rate, mean_of, read_rates, write_rate
from tests.experiments.toy_rates import RATE

ONE = Measurement("pretrain-1", "a GPU", "stored", "0f", RATE)


def test_the_error_is_that_of_a_mean() -> None:
    draw = random.Random(1)
    found = [mean_of([draw.gauss(10, 1) for _ in range(25)]) for _ in range(400)]
    means, errors, spreads = zip(*found, strict=True)
    centre = sum(means) / len(means)
    scatter = math.sqrt(sum((m - centre) ** 2 for m in means) / len(means))
    assert sum(errors) / len(errors) == pytest.approx(scatter, rel=0.1)
    assert sum(spreads) / len(spreads) == pytest.approx(1.0, rel=0.05)


def test_steps_that_alternate_cost_their_mean() -> None:
    mean, _, spread = mean_of([1.0, 3.0] * 5)
    assert mean == 2.0
    assert spread == pytest.approx(1.0, rel=0.1)


def test_rates_are_read_as_written(tmp_path: Path) -> None:
    write_rate(tmp_path / "a.json", ONE)
    write_rate(tmp_path / "b.json", ONE._replace(kind="finetune-2", molecules="synthetic"))
    found = read_rates(tmp_path)
    assert found.by_device == {"a GPU": {"pretrain-1": RATE, "finetune-2": RATE}}
    assert found.synthetic == {"finetune-2"}
    assert found.kinds() == {"pretrain-1", "finetune-2"}
    assert found.codes == {"pretrain-1": "0f", "finetune-2": "0f"}
    assert found.faults == []
    assert read_rates(tmp_path / "nowhere").by_device == {}


def test_devices_are_kept_apart(tmp_path: Path) -> None:
    write_rate(tmp_path / "a.json", ONE)
    write_rate(tmp_path / "b.json", ONE._replace(device="another"))
    assert read_rates(tmp_path).by_device.keys() == {"a GPU", "another"}


@pytest.mark.parametrize("name", [field for field in asdict(RATE)])
@pytest.mark.parametrize("value", [-1.0, math.nan, "fast", True, None])
def test_a_value_that_is_no_cost_counts_as_not_measured(
    name: str, value: Any, tmp_path: Path
) -> None:
    path = tmp_path / "a.json"
    write_rate(path, ONE)
    content = json.loads(path.read_text())
    content["rate"][name] = value
    path.write_text(json.dumps(content))
    found = read_rates(tmp_path)
    assert found.by_device == {}
    (fault,) = found.faults
    assert "a.json" in fault
    assert fault.endswith("counts as not measured")


def test_no_step_takes_no_time(tmp_path: Path) -> None:
    rate = Rate(**{**asdict(RATE), "seconds_per_step": 0.0})
    assert rate.fault() == "seconds_per_step is 0.0; must be a finite number above 0"
    assert Rate(**{**asdict(RATE), "device_bytes": 0.0}).fault() is None


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"rate": 1}', '{"kind": 1, "rate": {}}'])
def test_another_file_counts_as_not_measured(text: str, tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text(text)
    write_rate(tmp_path / "b.json", ONE)
    found = read_rates(tmp_path)
    assert found.kinds() == {"pretrain-1"}
    assert "a.json" in found.faults[0]
