"""The plan's bounds by table, from configuration and cards alone."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from georecon.experiments.experiments import Experiments
from georecon.experiments.plan import trainings
from georecon.training.bracket import bracket_lines, molecules, sizes_of
from tests.projects import ROOT

LINE = re.compile(
    r"  (\S+): V100 (\S+) to (\S+) h, A100 (\S+) to (\S+) h, H100 (\S+) to (\S+) h; "
    r"(\S+) to (\S+) GB of memory; (\S+) GB of disk"
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
        assert all(low < high for low, high in zip(values[0:8:2], values[1:8:2], strict=True))
    everything = found.pop("all")
    assert everything[5] < sum(values[5] for values in found.values())  # shared runs count once
    assert everything[7] == max(values[7] for values in found.values())
    assert everything[8] == pytest.approx(sum(v[8] for v in found.values()), rel=0.05)


def test_what_is_done_is_not_counted(paper: Experiments, tmp_path: Path) -> None:
    before = numbers(bracket_lines(paper, tmp_path))
    for run in trainings(paper, "smoothness"):
        (tmp_path / run.folder).mkdir(parents=True)
        (tmp_path / run.folder / "run.json").touch()
    after = numbers(bracket_lines(paper, tmp_path))
    assert "smoothness" not in after
    assert after["qm9"][4] < before["qm9"][4]  # the same pre-trainings


def test_sizes_are_those_of_cards_and_configuration(paper: Experiments) -> None:
    run = next(r for r in trainings(paper, "md17") if r.target == "aspirin")
    assert sizes_of(paper, run) == (21, 50, 211762 - 1000)
    run = next(r for r in trainings(paper, "qm9") if r.stage == "finetune")
    assert sizes_of(paper, run) == (18.03, 10000, 10831)
    run = next(r for r in trainings(paper, "md22") if r.target == "DHA")
    assert sizes_of(paper, run) == (56, 800, 69753 - 8000)
    assert molecules(paper.data.card("md17"), "malonaldehyde") == 993237


def test_a_set_without_a_size_is_named(tmp_path: Path) -> None:
    unknown = {"datasets": {"qm9": {"atoms": None}}}
    lines = bracket_lines(Experiments.load(ROOT / "config", {**FEW, **unknown}), tmp_path)
    assert lines[-1] == "  without those on qm9: no card says the sizes"
    assert "md17" in numbers(lines)
