"""The workstation edition lies between laptop and paper and fits the machine it is for."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from georecon.data.cards import source_files
from georecon.experiments.experiments import Experiments
from georecon.experiments.trainings import all_trainings
from georecon.training.bracket import bracket_lines
from tests.projects import ROOT


def edition(name: str, **changes: object) -> Experiments:
    return Experiments.load(ROOT / "config", {"edition": name, **changes})


@pytest.fixture(scope="module")
def workstation() -> Experiments:
    return edition("workstation")


def test_its_sizes_lie_between_those_of_laptop_and_paper(workstation: Experiments) -> None:
    small, large = edition("laptop").config, edition("paper").config
    own = workstation.config
    for name in ("channels", "layers"):
        sizes = [getattr(config.encoder, name) for config in (small, own, large)]
        assert sizes == sorted({*sizes})
    steps = [config.pretrain.train.steps for config in (small, own, large)]
    assert steps == sorted({*steps})
    assert own.finetune.sets["property"].split.train == 110_000


def test_two_molecules_of_md17_are_all_that_it_downloads(workstation: Experiments) -> None:
    data = workstation.data
    for dataset in {run.dataset for run in all_trainings(workstation)}:
        used = {run.target for run in all_trainings(workstation) if run.dataset == dataset}
        files = [f for t in used for f in source_files(data.card(dataset), t or None).values()]
        fetched = {t for t in used if any(f.urls for f in files)}
        assert fetched == ({"ethanol", "aspirin"} if dataset == "md17" else set())


def hours(lines: list[str]) -> dict[str, tuple[float, float]]:
    (line,) = (line for line in lines if line.startswith("  all: "))
    found = re.findall(r"([\w ]+?) ([\d.,]+) to ([\d.,]+) h", line.removeprefix("  all:"))
    return {
        name.strip(): (float(low.replace(",", "")), float(high.replace(",", "")))
        for name, low, high in found
    }


def test_about_a_day_lies_between_the_bounds(workstation: Experiments, tmp_path: Path) -> None:
    lines = bracket_lines(workstation, tmp_path)
    cards = hours(lines)
    for name in ("RTX 3060", "RTX 3090"):
        low, high = cards[name]
        assert low < 24 < high < 100
    assert not [line for line in lines if "too much for" in line]  # 12 GB are enough
    cores = hours(bracket_lines(edition("workstation", gpus=0), tmp_path))
    low, high = cores["16 cores"]
    assert low < 24 < high < 100
