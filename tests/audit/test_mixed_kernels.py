"""Runs of one column on other kernels or processors: said, and no chain breaks."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from georecon.audit.conditions import check_kernels
from georecon.audit.findings import Context
from georecon.experiments.experiments import Experiments
from georecon.files import read_json, write_json
from georecon.records.chain import read_graph
from tests.audit.test_conditions import METHODS, SAME, findings
from tests.projects import ROOT

CPU = {"device": "cpu", "name": "a", "threads": 1}
V3 = CPU | {"kernel": "native", "instruction_set": "x86-64-v3"}


def column(folder: Path, compute: dict[str, dict[str, Any]]) -> Context:
    """A table of one column, with what each method's fine-tuning computed on."""
    findings(folder, dict.fromkeys(METHODS, 20), SAME)
    for method, machine in compute.items():
        (path,) = folder.glob(f"results/tiny/finetune/*/homo/{method}/seed1/run.json")
        write_json(path, read_json(path) | {"compute": machine})
    experiments = Experiments.load(ROOT / "config", {"edition": "tiny"})
    return Context(folder, experiments, read_graph(folder, "tiny"), bundle=False)


@pytest.mark.parametrize(
    "other",
    [
        {"instruction_set": "x86-64-v4"},
        {"kernel": "reference", "instruction_set": None},
        {"device": "cuda", "kernel": "triton", "instruction_set": None},
        {"device": "cuda", "kernel": "reference", "instruction_set": None},
    ],
)
def test_other_kernels_within_a_column_are_said_and_break_nothing(
    other: dict[str, Any], tmp_path: Path
) -> None:
    machine = V3 | other
    (found,) = check_kernels(
        column(tmp_path, dict.fromkeys(METHODS, V3) | {"georecon": machine}), "qm9"
    )
    assert (found.kind, found.breaks) == ("mixed kernels", False)
    assert found.touches == tuple(f"qm9/{method}/homo" for method in METHODS)
    assert "coord/seed1/run.json computed by cpu native x86-64-v3; " in found.text
    words = [machine[key] for key in ("device", "kernel", "instruction_set")]
    assert found.text.endswith(f"seed1/run.json computed by {' '.join(filter(None, words))}")


@pytest.mark.parametrize(
    "other", [V3, V3 | {"name": "another processor"}, V3 | {"threads": 2}, CPU, {}]
)
def test_equal_kernels_and_records_that_do_not_say_are_not(
    other: dict[str, Any], tmp_path: Path
) -> None:
    compute = dict.fromkeys(METHODS, V3) | {"coord": other}
    assert list(check_kernels(column(tmp_path, compute), "qm9")) == []
