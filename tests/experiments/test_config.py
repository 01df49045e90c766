"""Bad configurations: refused with the dotted key and what is allowed, before anything runs."""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml

from georecon.errors import ConfigError
from georecon.experiments.config import load_config, merge, objective_parameters, read_yaml

CONFIG = Path(__file__).resolve().parents[2] / "config"
EDITIONS = sorted(path.stem for path in (CONFIG / "editions").glob("*.yaml"))


def refused(folder: Path = CONFIG, **overrides: Any) -> str:
    """Message of the refusal."""
    with pytest.raises(ConfigError) as error:
        load_config(folder, {"edition": "laptop", **overrides})
    return str(error.value)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A copy of the configuration, to be spoiled."""
    return Path(shutil.copytree(CONFIG, tmp_path / "config"))


def replace(path: Path, old: str, new: str) -> None:
    text = path.read_text(encoding="utf-8")
    assert old in text, f"{path} has no {old!r}"
    path.write_text(text.replace(old, new, 1), encoding="utf-8")


@pytest.mark.parametrize("edition", EDITIONS)
def test_every_edition_is_sound(edition: str) -> None:
    config = load_config(CONFIG, {"edition": edition})
    assert config["edition"] == edition
    assert set(EDITIONS) >= {"laptop", "paper", "tiny"}


BAD: dict[str, tuple[dict[str, Any], list[str]]] = {
    "unknown key, with the nearest": (
        {"encoder": {"chanels": 32}},
        ["encoder.chanels: unknown key", "channels", "did you mean 'channels'?"],
    ),
    "unknown section": (
        {"finetuning": {}},
        ["finetuning: unknown key", "did you mean 'finetune'?"],
    ),
    "unknown key deep inside": (
        {"finetune": {"property": {"train": {"lrate": 1}}}},
        ["finetune.property.train.lrate: unknown key", "lr"],
    ),
    "wrong type": ({"encoder": {"layers": "three"}}, ["encoder.layers", "'three'", "integer"]),
    "fraction for a whole number": ({"encoder": {"layers": 2.5}}, ["encoder.layers", "2.5"]),
    "1e-3 as text": (
        {"pretrain": {"train": {"lr": "1e-3"}}},
        ["pretrain.train.lr", "1.0e-3"],
    ),
    "negative cutoff": (
        {"encoder": {"cutoff": -5.0}},
        ["encoder.cutoff", "-5.0", "greater than 0"],
    ),
    "no steps": ({"pretrain": {"train": {"steps": 0}}}, ["pretrain.train.steps", "at least 1"]),
    "channels and heads": (
        {"encoder": {"channels": 30, "heads": 4}},
        ["encoder.channels", "30", "multiple of encoder.heads"],
    ),
    "unknown choice": (
        {"encoder": {"vector_norm": "svd"}},
        ["encoder.vector_norm", "'svd'", "whitened, none"],
    ),
    "unknown schedule": ({"pretrain": {"train": {"schedule": "step"}}}, ["cosine, plateau"]),
    "unknown objective": (
        {"methods": {"coord": {"objective": "denoize"}}},
        ["methods.coord", "'denoize'", "denoise, frad, reconstruct", "did you mean 'denoise'?"],
    ),
    "unknown parameter of an objective": (
        {"methods": {"coord": {"params": {"sgima": 0.1}}}},
        ["methods.coord.params.sgima: unknown key", "did you mean 'sigma'?"],
    ),
    "missing parameter of an objective": (
        {"methods": {"mine": {"label": "Mine", "objective": "denoise"}}},
        ["methods.mine.params.sigma: missing"],
    ),
    "parameters without an objective": (
        {"methods": {"scratch": {"params": {"sigma": 1.0}}}},
        ["methods.scratch.params: without an objective"],
    ),
    "variant of an unknown method": (
        {"methods": {"mine": {"label": "Mine", "of": "geo"}}},
        ["methods.mine.of", "'geo'", "coord, georecon"],
    ),
    "variant with an objective of its own": (
        {"methods": {"mine": {"label": "Mine", "of": "coord", "objective": "denoise"}}},
        ["methods.mine.of", "instead of an objective"],
    ),
    "unknown parameter of a variant": (
        {"methods": {"mine": {"label": "Mine", "of": "coord", "params": {"sigm": 0.1}}}},
        ["methods.mine.params.sigm: unknown key", "did you mean 'sigma'?"],
    ),
    "name of a method that is no name of a folder": (
        {"methods": {"my method": {"label": "Mine"}}},
        ["methods", "'my method'"],
    ),
    "method switched off that a table names": (
        {"methods": {"georecon": None}},
        ["tables.noise_scale.rows", "'georecon'"],
    ),
    "unknown method in a table": (
        {"tables": {"unimol": {"rows": {"methods": ["scratch", "geo"]}}}},
        ["tables.unimol.rows", "'geo'", "coord, georecon,", "scratch"],
    ),
    "unknown set in a table": (
        {"tables": {"unimol": {"columns": [{"source": "finetune", "set": "props"}]}}},
        ["tables.unimol.columns.0.set", "'props'", "property"],
    ),
    "unknown dataset": (
        {"sets": {"property": {"dataset": "qm8"}}},
        ["sets.property.dataset", "'qm8'", "qm9"],
    ),
    "no seeds": ({"finetune": {"seeds": []}}, ["finetune.seeds"]),
    "seed given twice": ({"finetune": {"seeds": [1, 1]}}, ["finetune.seeds"]),
    "negative seed": ({"finetune": {"seeds": [-1]}}, ["finetune.seeds.0", "at least 0"]),
    "unknown map": ({"smoothness": {"maps": ["max"]}}, ["smoothness.maps.0", "mean"]),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD)
def test_bad_value_is_refused_with_its_key_and_what_is_allowed(case: str) -> None:
    overrides, words = BAD[case]
    message = refused(**overrides)
    for word in words:
        assert word in message, f"{word!r} not in: {message}"


@pytest.mark.parametrize("edition", ["laptp", "", None, 3, ["laptop"]])
def test_unknown_edition_lists_the_editions(edition: Any) -> None:
    message = refused(edition=edition)
    assert "edition is" in message
    assert all(name in message for name in EDITIONS)
    if edition == "laptp":
        assert "did you mean 'laptop'?" in message


@pytest.mark.parametrize("section", ["encoder", "pretrain", "finetune", "smoothness", "sets"])
def test_missing_section_is_named(section: str, folder: Path) -> None:
    path = folder / "editions" / "laptop.yaml"
    text = path.read_text(encoding="utf-8")
    kept = re.sub(rf"(?ms)^{section}:.*?(?=^\S|\Z)", "", text)
    assert kept != text
    path.write_text(kept, encoding="utf-8")
    assert f"{section}: missing" in refused(folder)


def test_missing_key_is_named(folder: Path) -> None:
    replace(folder / "editions" / "laptop.yaml", "  cutoff: 5.0\n", "")
    assert "encoder.cutoff: missing" in refused(folder)


def test_set_without_fine_tuning_settings_is_named() -> None:
    sets = {"large_force": {"dataset": "md22"}}
    config = load_config(CONFIG, {"edition": "laptop", "sets": sets})
    assert "missing" in config["sets"]["large_force"]  # a merge does not take the reason away


def test_duplicate_key_names_file_and_line(folder: Path) -> None:
    path = folder / "editions" / "laptop.yaml"
    replace(path, "  layers:", "  channels: 64\n  layers:")
    message = refused(folder)
    assert "laptop.yaml, line" in message
    assert "'channels' is given twice" in message


def test_broken_yaml_names_the_file(folder: Path) -> None:
    (folder / "methods.yaml").write_text("scratch: {label: [}\n")
    message = refused(folder)
    assert "methods.yaml" in message
    assert "not valid YAML" in message


@pytest.mark.parametrize("text", ["", "- a\n- b\n", "just words\n"])
@pytest.mark.parametrize("name", ["methods.yaml", "tables.yaml", "editions/laptop.yaml"])
def test_file_that_is_no_mapping_is_refused(name: str, text: str, folder: Path) -> None:
    (folder / name).write_text(text)
    assert refused(folder)


def test_missing_file_is_named(folder: Path) -> None:
    (folder / "tables.yaml").unlink()
    assert "tables.yaml" in refused(folder)


def test_all_findings_come_at_once() -> None:
    message = refused(encoder={"chanels": 1, "cutoff": -1}, pretrain={"train": {"steps": "x"}})
    for key in ("encoder.chanels", "encoder.cutoff", "pretrain.train.steps"):
        assert key in message


def test_yaml_reads_1e_3_as_text_from_a_file(folder: Path) -> None:
    path = folder / "editions" / "laptop.yaml"
    text, changes = re.subn(r"lr: \S+", "lr: 1e-3", path.read_text(encoding="utf-8"), count=1)
    assert changes
    path.write_text(text, encoding="utf-8")
    message = refused(folder)
    assert "train.lr" in message
    assert "1.0e-3" in message


def test_overrides_win_and_the_rest_stays() -> None:
    plain = load_config(CONFIG, {"edition": "laptop"})
    changed = load_config(CONFIG, {"edition": "laptop", "encoder": {"layers": 7}})
    assert changed["encoder"] == {**plain["encoder"], "layers": 7}
    assert {k: v for k, v in changed.items() if k != "encoder"} == {
        k: v for k, v in plain.items() if k != "encoder"
    }


def test_merge_replaces_lists_and_keeps_its_inputs() -> None:
    base = {"a": {"x": 1, "y": [1, 2]}, "b": 2}
    over = {"a": {"y": [3]}, "c": 4}
    assert merge(base, over) == {"a": {"x": 1, "y": [3]}, "b": 2, "c": 4}
    assert base == {"a": {"x": 1, "y": [1, 2]}, "b": 2}


def test_yaml_anchors_and_merges_are_no_duplicates(tmp_path: Path) -> None:
    path = tmp_path / "x.yaml"
    path.write_text("a: &a {x: 1}\nb:\n  <<: *a\n  x: 2\n")
    assert read_yaml(path)["b"] == {"x": 2}


def test_objective_parameters_are_read_without_an_import() -> None:
    assert objective_parameters("denoise") == ["sigma"]
    assert "sigma_rec" in objective_parameters("reconstruct")


def test_files_read_as_by_pyyamls_own_parser() -> None:
    files = [*CONFIG.rglob("*.yaml"), *(CONFIG.parent / "reports/expected").glob("*.yaml")]
    assert len(files) > 15
    for path in files:
        assert read_yaml(path) == yaml.safe_load(path.read_text(encoding="utf-8")), path
