"""Bad configurations: refused with the dotted key and what is allowed, before anything runs."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from georecon.errors import ConfigError
from georecon.experiments.config import config_json, config_of, load_config, merge
from georecon.experiments.experiments import Experiments
from georecon.experiments.objective_keys import parameters
from georecon.experiments.yaml_files import read_mapping, read_yaml
from georecon.keys import key_hints

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
    assert config.edition == edition
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
        ["methods.mine.of", "'geo'", "coord, coord_long, georecon"],
    ),
    "variant with an objective of its own": (
        {"methods": {"mine": {"label": "Mine", "of": "coord", "objective": "denoise"}}},
        ["methods.mine.params.sigma: missing"],  # its parameters are its own
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
        ["tables.unimol.rows", "'geo'", "coord, coord_long, georecon,", "scratch"],
    ),
    "encoder that there is not": (
        {"methods": {"unimol": {"encoder": "unimo"}}},
        ["methods.unimol.encoder: is 'unimo'; allowed: unimol (did you mean 'unimol'?)"],
    ),
    "encoder switched off that a table's rows name": (
        {"methods": {"mine": {"label": "Mine", "encoder": "schnet"}},
         "tables": {"qm9": {"rows": {"methods": ["mine"], "compare": []}}}},
        ["methods.mine.encoder: is 'schnet'; allowed: unimol"],
    ),
    "architecture that there is not": (
        {"encoders": {"unimol": {"encoder": {"kind": "schnet"}}}},
        ["encoders.unimol.encoder.kind: is 'schnet'; allowed: unimol"],
    ),
    "size of another architecture": (
        {"encoders": {"unimol": {"encoder": {"cutoff": 5.0}}}},
        ["encoders.unimol.encoder.cutoff: unknown key"],
    ),
    "another architecture's channels and heads": (
        {"encoders": {"unimol": {"encoder": {"channels": 30}}}},
        ["encoders.unimol.encoder.channels: is 30; must be a multiple of "
         "encoders.unimol.encoder.heads (8)"],
    ),
    "objective of another architecture": (
        {"methods": {"unimol": {"objective": "denoise", "params": {"sigma": 0.1}}}},
        ["methods.unimol"],
    ),
    "objective of another architecture, alone": (
        {"methods": {"mine": {"label": "Mine", "encoder": "unimol", "objective": "denoise",
                              "params": {"sigma": 0.1}}}},
        ["methods.mine.objective: is 'denoise'; allowed: unimol (encoder: unimol)"],
    ),
    "Uni-Mol's objective for the equivariant transformer": (
        {"methods": {"unimol": {"encoder": None}}},
        ["methods.unimol.objective: is 'unimol'; allowed: conditioned, denoise, frad, reconstruct",
         "the equivariant transformer"],
    ),
    "forces of an encoder without a head for them": (
        {"tables": {"md17": {"rows": {"methods": ["unimol"], "compare": []}}}},
        ["sets.force.dataset: is 'xmd17'; encoder unimol has no head for forces",
         "(method unimol)"],
    ),
    "forces of a variant whose encoder has no head for them": (
        {"methods": {"mine": {"label": "Mine", "of": "unimol", "params": {"noise": 0.5}}},
         "tables": {"md17": {"rows": {"methods": ["coord", "mine"], "compare": []}}}},
        ["sets.force.dataset: is 'xmd17'; encoder unimol has no head for forces", "(method mine)"],
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
    "bool for a whole number": ({"encoder": {"layers": True}}, ["encoder.layers", "True"]),
    "text for a fraction": ({"encoder": {"cutoff": "5"}}, ["encoder.cutoff: is '5'", "number"]),
    "number for a text": ({"methods": {"coord": {"label": 3}}}, ["coord.label: is 3", "text"]),
    "not a number": ({"encoder": {"cutoff": float("nan")}}, ["encoder.cutoff: is nan", "finite"]),
    "infinity": (
        {"pretrain": {"train": {"lr": float("inf")}}}, ["pretrain.train.lr: is inf", "finite"]
    ),
    "infinity in a list": (
        {"smoothness": {"displacements": [0.1, float("inf")]}}, ["displacements.1: is inf"]
    ),
    "huge seed": ({"finetune": {"seeds": [2**70]}}, ["finetune.seeds.0: is 11805916207174113034"]),
    "huge seed of fine-tuning": ({"finetune": {"seeds": [1, 2**70]}}, ["finetune.seeds.1"]),
    "name that leads elsewhere": (
        {"finetune": {"property": {"split": {"name": "../x"}}}},
        ["finetune.property.split.name: is '../x'", "letters"],
    ),
    "name with the end of a line": (
        {"finetune": {"property": {"split": {"name": "x\n"}}}},
        ["finetune.property.split.name: is 'x\\n'"],
    ),
    "dataset that leads elsewhere": (
        {"datasets": {"../x": {}}}, ["datasets.../x", "letters, digits and _"]
    ),
    "table that leads elsewhere": ({"tables": {"a/b": {}}}, ["tables.a/b"]),
    "part with a blank": ({"sets": {"my set": {"dataset": "qm9"}}}, ["sets.my set: name is"]),
    "cell that leads elsewhere": ({"cell": "../../x"}, ["cell: is '../../x'", "<table>/<row>"]),
    "file that leads elsewhere": (
        {"datasets": {"qm9": {"sources": {"qm9pack": {"files": {"part1": {"name": ".."}}}}}}},
        ["datasets.qm9.sources.qm9pack.files.part1.name: is '..'"],
    ),
    "no methods": ({"methods": None}, ["methods: is None; must be a mapping"]),
    "no tables": ({"tables": None}, ["tables: is None; must be a mapping"]),
    "no encoder": ({"encoder": None}, ["encoder: is None; must be a mapping"]),
    "no fine-tuning": ({"finetune": None}, ["finetune: is None; must be a mapping"]),
    "list for a mapping": ({"sets": ["qm9"]}, ["sets: is ['qm9']; must be a mapping"]),
    "mapping for a list": ({"finetune": {"seeds": {"a": 1}}}, ["finetune.seeds", "must be a list"]),
    "number as a key": ({"methods": {300: {"label": "x"}}}, ["methods.300: key is 300", "quotes"]),
    "NO as a key": (
        {"datasets": {"qm9": {"sources": {"x": {"files": {False: {}}}}}}},
        ["datasets.qm9.sources.x.files.False: key is False", "quotes"],
    ),
    "parameter out of its range": (
        {"methods": {"coord": {"params": {"sigma": -1.0}}}},
        ["methods.coord.params.sigma: is -1.0; must be greater than 0"],
    ),
    "parameter of another type": (
        {"methods": {"georecon__decoder": {"params": {"depth": 1.5}}}},
        ["methods.georecon__decoder.params.depth: is 1.5; must be integer"],
    ),
    "unknown choice of a parameter": (
        {"methods": {"georecon__decoder": {"params": {"fusion": "fil"}}}},
        ["methods.georecon__decoder.params.fusion", "film, add, concat", "did you mean 'film'?"],
    ),
    "unknown weight": (
        {"methods": {"georecon__decoder": {"params": {"weights": {"claen": 1.0}}}}},
        ["methods.georecon__decoder.params.weights.claen: unknown key", "did you mean 'clean'?"],
    ),
    "sweep over an unknown parameter": (
        {"tables": {"noise_scale": {"rows": {"sweep": {"parameter": "sigma_recc"}}}}},
        ["tables.noise_scale.rows.sweep.parameter: is 'sigma_recc'", "did you mean 'sigma_rec'?"],
    ),
    "sweep over values that the objective refuses": (
        {"tables": {"decoder_depth": {"rows": {"sweep": {"values": [1, 2.5]}}}}},
        ["tables.decoder_depth.rows.sweep.values.1: is 2.5; must be integer"],
    ),
    "label with other braces": (
        {"tables": {"noise_scale": {"rows": {"sweep": {"label": "{valeu}"}}}}},
        ["tables.noise_scale.rows.sweep.label", "{value}"],
    ),
    "no methods in a table": (
        {"tables": {"unimol": {"rows": {"methods": []}}}}, ["tables.unimol.rows.methods: is empty"]
    ),
    "split without sizes": (
        {"finetune": {"property": {"split": {"train": None}}}},
        ["finetune.property.split.train: missing"],
    ),
    "unknown map": ({"smoothness": {"maps": ["max"]}}, ["smoothness.maps.0", "mean"]),
    "value of a sweep given twice": (
        {"tables": {"noise_scale": {"rows": {"sweep": {"values": [0.4, 0.1, 0.4]}}}}},
        ["tables.noise_scale.rows.sweep.values: has 0.4 twice"],
    ),
    "value of a sweep given twice, once as a fraction": (
        {"tables": {"decoder_depth": {"rows": {"sweep": {"values": [1, 1.0]}}}}},
        ["tables.decoder_depth.rows.sweep.values: has 1.0 twice"],
    ),
    "displacement given twice": (
        {"smoothness": {"displacements": [0.1, 0.10]}}, ["smoothness.displacements: has 0.1 twice"]
    ),
    "value of a sweep that is no number": (
        {"tables": {"noise_scale": {"rows": {"sweep": {"values": [0.4, float("nan")]}}}}},
        ["tables.noise_scale.rows.sweep.values.1: is nan"],
    ),
    "value of a sweep that is no name of a folder": (
        {"tables": {"noise_scale": {"rows": {"sweep": {"values": [0.4, 1e-9]}}}}},
        ["tables.noise_scale.rows.sweep.values.1: is 1e-09", "only 0-9 and ."],
    ),
    "infinite parameter": (
        {"methods": {"coord": {"params": {"sigma": float("inf")}}}},
        ["methods.coord.params.sigma: is inf", "finite"],
    ),
    "infinite range": (
        {"datasets": {"qm9": {"ranges": {"mu": [0.0, float("inf")]}}}},
        ["datasets.qm9.ranges.mu.1: is inf"],
    ),
    "huge seed of a split": (
        {"finetune": {"property": {"split": {"seed": 2**70}}}},
        ["finetune.property.split.seed: is 1180591620717411303424", "at most"],
    ),
    "method that is the folder above": ({"methods": {"..": {"label": "x"}}}, ["methods...: name"]),
    "table that leads far away": (
        {"tables": {"../../../x": {}}}, ["tables.../../../x: name is '../../../x'"]
    ),
    "method with the end of a line": (
        {"methods": {"mine\n": {"label": "x"}}}, ["name is 'mine\\n'; must be lower-case letters"]
    ),
    "edition with the end of a line": ({"edition": "laptop\n"}, ["edition is 'laptop\\n'"]),
    "cell with the end of a line": ({"cell": "qm9/coord/homo\n"}, ["cell: is 'qm9/coord/homo\\n'"]),
    "dataset with a hyphen": (
        {"datasets": {"my-set": {}}}, ["datasets.my-set: name is 'my-set'", "letters, digits and _"]
    ),
    "target with a blank": (
        {"datasets": {"qm9": {"targets": {"my gap": None}}}},
        ["datasets.qm9.targets.my gap: name is 'my gap'", "letters, digits, _ and -"],
    ),
    "target that leads elsewhere": (
        {"datasets": {"qm9": {"targets": {"../x": None}}}}, ["datasets.qm9.targets.../x: name"]
    ),
    "test part that leads elsewhere": (
        {"datasets": {"3bpa": {"sources": {"official": {
            "parts": {"3bpa": {"test": {"a/b": "x"}}}}}}}},
        ["datasets.3bpa.sources.official.parts.3bpa.test.a/b: name"],
    ),
    "title with other braces": (
        {"tables": {"md17": {"title": "{b}"}}}, ["tables.md17.title: is '{b}'", "{title} alone"]
    ),
    "title with an open brace": (
        {"tables": {"md17": {"title": "{title"}}}, ["tables.md17.title: is '{title'"]
    ),
    "measure of a pre-training that no objective has": (
        {"tables": {"controls": {"columns": [
            {"source": "pretrain", "metric": "val_code_usge", "label": "x"}]}}},
        ["tables.controls.columns.0.metric: is 'val_code_usge'", "mean 'val_code_usage'?"],
    ),
    "measure of training that no objective has": (
        {"tables": {"controls": {"columns": [
            {"source": "pretrain", "metric": "train_denoize", "label": "x"}]}}},
        ["tables.controls.columns.0.metric: is 'train_denoize'", "did you mean 'train_denoise'?"],
    ),
    "estimate of smoothness that there is not": (
        {"tables": {"smoothness": {"columns": [
            {"source": "smoothness", "metric": "scale_fre", "label": "x"}]}}},
        ["tables.smoothness.columns.0.metric: is 'scale_fre'", "did you mean 'scale_free'?"],
    ),
    "title with braces of a set that there is none of": (
        {"tables": {"smoothness": {"title": "{title}: x"}}},
        ["tables.smoothness.title: has {title}, and no column names a part"],
    ),
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


def test_a_reason_for_no_data_goes_with_its_dataset(folder: Path) -> None:
    path = folder / "editions" / "laptop.yaml"
    replace(path, "{dataset: xmd22, label", "{dataset: xmd22, missing: not here, label")

    def missing(dataset: str) -> str | None:
        sets = {"large_force": {"dataset": dataset}}
        return load_config(folder, {"edition": "laptop", "sets": sets}).sets["large_force"].missing

    assert missing("xmd22") == "not here"  # a merge does not take the reason away
    assert missing("md22") is None


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
    assert changed.encoder == dataclasses.replace(plain.encoder, layers=7)
    assert dataclasses.replace(changed, encoder=plain.encoder) == plain


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
    assert list(key_hints(parameters("denoise"))) == ["sigma", "sigma_strong"]
    assert "sigma_rec" in key_hints(parameters("reconstruct"))


def test_files_read_as_by_pyyamls_own_parser() -> None:
    files = [*CONFIG.rglob("*.yaml"), *(CONFIG.parent / "reports/expected").glob("*.yaml")]
    assert len(files) > 15
    for path in files:
        assert read_yaml(path) == yaml.safe_load(path.read_text(encoding="utf-8")), path


# ---- files of one's own -----------------------------------------------------------------------

OWN = """edition: tiny
datasets:
  mine:
    kind: forces
    sources:
      local:
        reader: frames
        raw_units: {pos: Angstrom, energy: eV, forces: eV/Angstrom}
        files:
          ROLE: {local: x.xyz}
sets: {force: {dataset: mine}}
finetune:
  force:
    split: {rule: random, name: mine, train: 6, val: 2, seed: 1}
"""


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (OWN.replace("ROLE", "300"), ["line 10", '"300"']),
        (OWN.replace("ROLE", "NO"), ["line 10", "False", '"NO"']),
        (OWN.replace("ROLE", "x") + "finetune: {seeds: [7]}\n", ["line 15", "'finetune'", "twice"]),
        ("edition: tiny\nmirror: /k\xf6ln\n", ["line 2", "UTF-8"]),
    ],
)
def test_what_yaml_would_drop_is_refused_with_file_and_line(
    text: str, words: list[str], tmp_path: Path
) -> None:
    path = tmp_path / "my.yaml"
    path.write_text(text, encoding="latin-1")
    with pytest.raises(ConfigError) as error:
        read_mapping(path)
    for word in ["my.yaml", *words]:
        assert word in str(error.value)


def test_no_methods_at_all_are_refused(folder: Path) -> None:
    (folder / "methods.yaml").write_text("{}\n")
    (folder / "editions/laptop.yaml").write_text(
        re.sub(r"(?m)^methods:.*\n", "", (folder / "editions/laptop.yaml").read_text("utf-8"))
    )
    assert "methods: is empty; must have an entry" in refused(folder)


@pytest.mark.parametrize("role", ["T300.5", "a/b", "my molecule", "..", "x\\ny"])
def test_roles_that_are_no_names_of_folders_are_refused(role: str) -> None:
    own = yaml.safe_load(OWN.replace("ROLE", f'"{role}"'))
    with pytest.raises(ConfigError, match=r"datasets\.mine\.sources\.local\.files"):
        load_config(CONFIG, own)
    load_config(CONFIG, yaml.safe_load(OWN.replace("ROLE", "T300-5")))


def test_an_objective_without_a_description_is_imported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A description of other code is not used: nothing can be out of date."""
    from georecon.experiments import objective_keys

    plain = json.loads((CONFIG / "objectives.json").read_text(encoding="utf-8"))
    changed = {name: {**entry, "code": "0"} for name, entry in plain.items()}
    changed["denoise"]["parameters"] = {}
    imported: list[str] = []
    monkeypatch.setattr(objective_keys, "_descriptions", lambda: changed)
    declared = objective_keys.declared
    monkeypatch.setattr(
        objective_keys, "declared", lambda name: (imported.append(name), declared(name))[1]
    )
    objective_keys.parameters.cache_clear()
    assert list(key_hints(objective_keys.parameters("denoise"))) == ["sigma", "sigma_strong"]
    assert imported == ["denoise"]
    objective_keys.parameters.cache_clear()
    monkeypatch.setattr(objective_keys, "_descriptions", lambda: plain)
    assert list(key_hints(objective_keys.parameters("denoise"))) == ["sigma", "sigma_strong"]
    assert imported == ["denoise"]
    objective_keys.parameters.cache_clear()


# ---- anything at all --------------------------------------------------------------------------

VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_subnormal=False)  # a training in this process flushes them
    | st.text(max_size=5)
    | st.sampled_from(["all", "qm9", "md17", "property", "force", "georecon", "mean", "x/../y"]),
    lambda inner: st.lists(inner, max_size=3)
    | st.dictionaries(st.text(max_size=4) | st.integers() | st.booleans(), inner, max_size=3),
    max_leaves=6,
)  # fmt: skip


def places(value: Any, path: tuple[str, ...] = ()) -> list[tuple[str, ...]]:
    """Dotted places of a document, three of each list or mapping of the like."""
    found = [path]
    if isinstance(value, dict):
        for key in list(value)[:14]:
            found += places(value[key], (*path, key))
    return found


BASE = config_json(load_config(CONFIG, {"edition": "tiny"}))
PLACES = [path for path in places({k: v for k, v in BASE.items() if k != "datasets"}) if path]
PLACES += [("datasets", "3bpa", *path) for path in places(BASE["datasets"]["3bpa"])]


@given(st.sampled_from(PLACES), VALUES)
@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_whatever_stands_at_a_key_there_is_no_other_error(
    path: tuple[str, ...], value: Any
) -> None:
    """It is refused with a message or it is a configuration whose tables can be planned."""
    change: Any = value
    for key in reversed(path):
        change = {key: change}
    with contextlib.suppress(ConfigError):
        found = Experiments(config_of(merge(BASE, change)))
        for table in found.tables.names():
            found.tables.spec(table)
            found.tables.files(table)
            found.tables.leaks(table)
