"""The plan's bounds by table, from configuration and cards alone."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from georecon.experiments.experiments import Experiments
from georecon.experiments.trainings import all_trainings, trainings
from georecon.training.bracket import bracket_lines
from georecon.training.estimate import CPUS, GPUS
from tests.projects import ROOT

HOURS = ", ".join(rf"{device.name} (\S+) to (\S+) h" for device in GPUS)
LINE = re.compile(
    rf"  (\S+): {HOURS}; (\S+) to (\S+) GB of memory(?:, too much for [^;]+)?; (\S+) GB of disk"
)
FEW = {
    "edition": "paper",
    "tables": {name: None for name in ("choices", "noise_scale", "decoder_depth", "controls")},
}


def numbers(lines: list[str]) -> dict[str, list[float]]:
    found = (LINE.fullmatch(line) for line in lines)
    return {m[1]: [float(x.replace(",", "")) for x in m.groups()[1:]] for m in found if m}


@pytest.fixture(scope="module")
def paper() -> Experiments:
    return Experiments.load(ROOT / "config", FEW)


def test_every_table_has_bounds(paper: Experiments, tmp_path: Path) -> None:
    found = numbers(bracket_lines(paper, tmp_path))
    assert [*found] == [*paper.tables.names(), "all"]
    for values in found.values():
        pairs = zip(values[0:-1:2], values[1:-1:2], strict=True)
        assert all(low < high for low, high in pairs)
    everything = found.pop("all")
    assert everything[-4] < sum(values[-4] for values in found.values())  # shared runs count once
    assert everything[-2] == max(values[-2] for values in found.values())
    assert everything[-1] == pytest.approx(sum(v[-1] for v in found.values()), rel=0.05)


def test_what_is_done_is_not_counted(paper: Experiments, tmp_path: Path) -> None:
    before = numbers(bracket_lines(paper, tmp_path))
    for run in trainings(paper, "smoothness"):
        (tmp_path / run.folder).mkdir(parents=True)
        (tmp_path / run.folder / "run.json").touch()
    after = numbers(bracket_lines(paper, tmp_path))
    assert "smoothness" not in after
    assert after["qm9"][0] < before["qm9"][0]  # the same pre-trainings


def test_what_is_measured_needs_no_bounds(paper: Experiments, tmp_path: Path) -> None:
    kinds = {run.kind() for run in trainings(paper, "qm9")}
    lines = bracket_lines(paper, tmp_path, kinds)
    assert lines[0].startswith("Not measured, bounds only")
    assert "qm9" not in numbers(lines)
    assert "md17" in numbers(lines)
    assert bracket_lines(paper, tmp_path, {run.kind() for run in all_trainings(paper)}) == []


def test_a_card_that_is_too_small_is_named(paper: Experiments, tmp_path: Path) -> None:
    lines = {line.split(":")[0].strip(): line for line in bracket_lines(paper, tmp_path)}
    assert "too much for RTX 3060;" in lines["unimol"]
    assert "too much" not in lines["qm9"]


def test_an_edition_without_gpus_has_hours_of_cores(tmp_path: Path) -> None:
    laptop = Experiments.load(ROOT / "config", {"edition": "laptop"})
    words = ", ".join(rf"{device.name} (\S+) to (\S+) h" for device in CPUS)
    (line,) = (x for x in bracket_lines(laptop, tmp_path) if x.startswith("  all:"))
    found = re.fullmatch(rf"  all: {words}; (\S+) GB of disk", line)
    assert found is not None
    # 2,830 s of processor time in all (README), a sixth more steps than it has now
    assert float(found[1]) < 2830 / 3600 < float(found[2])


def test_a_set_without_a_size_is_named(tmp_path: Path) -> None:
    unknown = {"datasets": {"qm9": {"atoms": None}}}
    lines = bracket_lines(Experiments.load(ROOT / "config", {**FEW, **unknown}), tmp_path)
    assert lines[-1] == "  without those on qm9: no card says the sizes"
    assert "md17" in numbers(lines)
