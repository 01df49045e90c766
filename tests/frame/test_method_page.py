"""docs/method.md says what the code does: names, deviations, keys and recipes exist."""

from __future__ import annotations

import importlib
import re
from collections import Counter
from functools import reduce
from pathlib import Path
from typing import Any

import pytest

from georecon.experiments.config import config_json, load_config

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "method.md").read_text(encoding="utf-8")
CONFIG = load_config(ROOT / "config", {"edition": "paper"})
PAPER = config_json(CONFIG)
LAPTOP = load_config(ROOT / "config", {"edition": "laptop"})


def section(title: str) -> str:
    """Text of one section of the page."""
    start = PAGE.index(f"## {title}")
    return PAGE[start : PAGE.index("\n## ", start)]


def column(text: str, index: int) -> list[str]:
    """Words in backticks of one column of a section's table."""
    rows = [line for line in text.splitlines() if line.startswith("| ")][1:]
    return [word for row in rows for word in re.findall("`([^`]+)`", row.split(" | ")[index])]


def resolve(name: str) -> object:
    """Object of ``georecon`` by dotted name."""
    module, attribute = name.rsplit(".", 1)
    return getattr(importlib.import_module(f"georecon.{module}"), attribute)


def test_every_symbol_has_code() -> None:
    names = column(section("Symbols and their names"), 2)
    assert len(names) > 10
    for name in names:
        assert resolve(name)
    with pytest.raises(AttributeError):
        resolve("graph.radius_edge")


def test_every_deviation_is_listed_and_every_listed_one_is_marked() -> None:
    marked: Counter[str] = Counter()
    for folder in ("src", "config", "rules", "workflow"):
        for path in (ROOT / folder).rglob("*"):
            if path.suffix in (".py", ".yaml", ".smk"):
                count = path.read_text(encoding="utf-8").count("DEVIATION:")
                marked[str(path.relative_to(ROOT))] += count
    assert Counter(column(section("Deviations"), 0)) == +marked


def look_up(key: str) -> Any:
    """Value of a dotted key in the paper edition's configuration."""
    return reduce(lambda value, part: value[part], key.split("."), PAPER)


def test_every_open_choice_has_a_key_in_the_configuration() -> None:
    keys = column(section("Choices the public text leaves open"), 2)
    assert len(keys) >= 9
    for key in keys:
        look_up(key)
    with pytest.raises(KeyError):
        look_up("methods.georecon.params.sigma_reconstruct")


# head, loss, standardised, atomic references, weight of Noisy Nodes: the lineage's recipes
RECIPES = {
    "mu": ("dipole", "mse", False, None, 0.2),
    "alpha": ("scalar", "smooth_l1", True, None, 0.2),
    "homo": ("scalar", "mse", True, None, 0.1),
    "lumo": ("scalar", "mse", True, None, 0.1),
    "gap": ("scalar", "smooth_l1", True, None, 0.2),
    "r2": ("spatial_extent", "mse", False, None, 0.2),
    "zpve": ("scalar", "mse", True, None, 0.1),
    "u0": ("scalar", "mse", False, "u0", 0.2),
    "u": ("scalar", "mse", False, "u", 0.2),
    "h": ("scalar", "mse", False, "h", 0.2),
    "g": ("scalar", "mse", False, "g", 0.2),
    "cv": ("scalar", "mse", True, None, 0.2),
}


def test_the_twelve_properties_have_the_lineages_recipes() -> None:
    names = ("head", "loss", "standardize", "atomref", "denoise_weight")
    targets = CONFIG.datasets["qm9"].targets or {}
    found = {t: tuple(getattr(entry, name) for name in names) for t, entry in targets.items()}
    assert found == RECIPES
    assert PAPER["finetune"]["property"]["noise_sigma"] == 0.005


def test_forces_have_the_lineages_weights_and_schedule() -> None:
    for name in ("md17", "md22", "3bpa"):
        nominal, effective = (found.datasets[name].targets or {} for found in (LAPTOP, CONFIG))
        for target in nominal:
            assert (nominal[target].energy_weight, nominal[target].force_weight) == (0.2, 0.8)
            assert effective[target].energy_weight == pytest.approx(0.2 * 0.05)  # ema_alpha_y
            assert effective[target].force_weight == 0.8
            assert effective[target].denoise_weight == 0.1
    train = PAPER["finetune"]["force"]["train"]
    assert (train["schedule"], train["patience"], train["warmup"]) == ("plateau", 300, 1000)
    assert (train["batch_size"], train["lr"]) == (8, 5e-4)
