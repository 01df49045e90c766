"""What the trial measured: read as written; what is no cost is said and not counted."""

from __future__ import annotations

import json
import math
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from georecon.experiments.rates import Measurement, Rate, read_rates, write_rate
from tests.experiments.toy_rates import RATE

ONE = Measurement("pretrain-1", "a GPU", "stored", "0f", RATE)


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
