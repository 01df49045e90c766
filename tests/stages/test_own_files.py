"""Fine-tuning on one's own files: isolated atoms as references, test files with energies only."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file

from georecon.data.store import Store
from georecon.errors import ConfigError, DataError, GeoreconError
from georecon.experiments.experiments import Experiments
from georecon.experiments.settings import EncoderSettings
from georecon.files import read_json
from georecon.keys import as_json
from georecon.stages.evaluate import evaluate
from georecon.stages.finetune import finetune
from georecon.stages.split import make_split
from georecon.training.unlearned import isolated_atoms
from georecon.training.world import World
from georecon.units import convert
from tests.data.test_bring_your_own import SPLIT, card, load, store_of
from tests.own_data import ATOMS, SYMBOLS, frames, write_npz, write_xyz
from tests.training.toy_run import settings as train_settings

EV = {"energy": "eV", "forces": "eV/Å"}
CARD = {"force": {"references": "card", "split": SPLIT}}
SIZES = EncoderSettings(channels=8, layers=1, heads=2, rbf=8, max_z=20)


def trained(found: Experiments, folder: Path, target: str = "x", steps: int = 2) -> Path:
    """A run from scratch on a store, and its metrics; the folder of its outputs."""
    part = "force"
    store = store_of(found, folder, target)
    name = found.data.split(part, target, 1).rsplit("/", 1)[-1].removesuffix(".npz")
    plan = found.data.split_plan("mine", name).as_json()
    make_split(plan, store.path, folder / "split.npz", folder / "raw")
    run = replace(
        found.runs.finetune_settings(part, target, "scratch", 1),
        encoder=SIZES,
        train=train_settings(steps=steps, evaluations=1),
        recipe=replace(found.runs.recipe("force", target), noise_sigma=0.0),
    )
    out = folder / "out"
    out.mkdir()
    finetune(
        run.as_json(), store.path, folder / "split.npz", None, out,
        state=folder / "state", world=World(), say=print,
    )  # fmt: skip
    files = out / "outputs.safetensors", folder / "split.npz"
    made = out / "predictions.parquet", out / "metrics.json"
    evaluate(*files, *made, unit="eV", store_path=store.path)
    return out


def own(folder: Path, atomref: str | None, unit: str = "eV") -> Experiments:
    """Ethanol after its isolated atoms, with or without references."""
    path = write_xyz(folder / "own.xyz", 12, atoms=True)
    given = card("frames", {"x": {"local": str(path)}}, raw_units=EV)
    known = {symbol: float(convert(value, "eV", unit)) for symbol, value in ATOMS.items()}
    given |= {"units": {"energy": unit}, "atomrefs": {"given": known}}
    return load({**given, "targets": {"x": {"atomref": atomref}}}, finetune=CARD)


# ---- isolated atoms ----------------------------------------------------------------------------


@pytest.mark.parametrize("unit", ["eV", "kcal/mol", "Ha"])
def test_isolated_atoms_of_the_file_are_its_references(unit: str, tmp_path: Path) -> None:
    """Bit for bit what the same numbers in the card give."""
    outputs = {}
    for atomref in ("given", "isolated_atoms"):
        folder = tmp_path / atomref
        folder.mkdir()
        outputs[atomref] = load_file(
            trained(own(folder, atomref, unit), folder) / "outputs.safetensors"
        )
    assert outputs["given"].keys() == outputs["isolated_atoms"].keys()
    for name, values in outputs["given"].items():
        assert np.array_equal(values, outputs["isolated_atoms"][name]), name
    # mean of what is left, plus the atoms of an ethanol
    atoms = float(convert(sum(ATOMS[symbol] for symbol in SYMBOLS), "eV", unit))
    left = convert(frames(12)[1], "eV", unit) - atoms
    assert np.all(np.abs(outputs["given"]["baseline"] - atoms - left.mean()) < np.ptp(left))


def test_without_the_key_they_are_no_references_and_no_molecules(tmp_path: Path) -> None:
    found = own(tmp_path, None)
    store = store_of(found, tmp_path, "x")
    assert len(store) == 12
    assert store.manifest.isolated_atoms == {"energy": ATOMS}
    assert not found.runs.recipe("force", "x").isolated_atoms
    assert found.runs.recipe("force", "x").atomref == {}


def test_they_are_kept_in_the_unit_of_the_store(tmp_path: Path) -> None:
    path = write_xyz(tmp_path / "own.xyz", 12, atoms=True)
    given = card("frames", {"x": {"local": str(path)}}, raw_units=EV)
    found = load({**given, "units": {"energy": "meV"}})
    store = store_of(found, tmp_path, "x")
    assert store.manifest.isolated_atoms["energy"]["H"] == pytest.approx(-13600.0, rel=1e-14)
    assert isolated_atoms(store, "energy")[8] == pytest.approx(-2042.0e3, rel=1e-14)
    assert "energy: {O: -2042000.0} meV" in store.manifest.rejected[2].reason
    assert Store.open(store.path, verify=True).manifest == store.manifest


def change(folder: Path, old: str, new: str) -> None:
    text = (folder / "own.xyz").read_text()
    assert old in text
    (folder / "own.xyz").write_text(text.replace(old, new, 1))


@pytest.mark.parametrize(
    ("old", "new", "kind", "words"),
    [
        ("energy=-2042.0", "energy=-2042.0 config_type=other", DataError, "given twice"),
        ("energy=-2042.0", "other=1", ConfigError, r"no value for Z = \[8\]; given: \[1, 6\]"),
        (
            "C 0.0 0.0 0.0",
            "H 0.0 0.0 0.0",
            DataError,
            r"isolated H has energy -1029\.5, in another",
        ),
    ],
)
def test_references_that_do_not_do_are_refused(
    old: str, new: str, kind: type[GeoreconError], words: str, tmp_path: Path
) -> None:
    found = own(tmp_path, "isolated_atoms")
    change(tmp_path, old, new)
    with pytest.raises(kind, match=words):
        trained(found, tmp_path)


def test_a_file_without_isolated_atoms_has_no_references(tmp_path: Path) -> None:
    path = write_npz(tmp_path / "own.npz", 12)
    given = card("frames", {"x": {"local": str(path)}}, raw_units=EV)
    found = load({**given, "targets": {"x": {"atomref": "isolated_atoms"}}}, finetune=CARD)
    with pytest.raises(DataError, match="no frame with config_type=IsolatedAtom"):
        trained(found, tmp_path)


# ---- energies only -----------------------------------------------------------------------------


def three(folder: Path, why: str | None, suffix: str = "xyz") -> Experiments:
    """Train on one file, test on two, the second of which has no forces."""
    files: dict[str, Any] = {}
    for seed, (role, sigma) in enumerate([("cold", 0.03), ("warm", 0.04), ("hot", 0.06)]):
        path = folder / f"{role}.{suffix}"
        if suffix == "xyz":
            write_xyz(path, 12, seed=seed, sigma=sigma, forces=role != "hot")
        else:
            write_npz(path, 12, seed)
            with np.load(path) as arrays:
                kept = {name: arrays[name] for name in arrays if role != "hot" or name != "F"}
            np.savez(path, **kept)
        files[role] = {"local": str(path)}
    files["hot"]["no_forces"] = why
    parts = {"it": {"train": "cold", "test": {"600K": "warm", "1200K": "hot"}}}
    given = card("frames", files, raw_units=EV, parts=parts)
    split = {"rule": "files", "name": "mine", "train": 8, "val": 4, "test": None}
    return load({**given, "targets": {"it": None}}, finetune={"force": {"split": split}})


@pytest.mark.parametrize("suffix", ["xyz", "npz"])
def test_a_test_file_with_energies_only_has_errors_of_energies(suffix: str, tmp_path: Path) -> None:
    out = trained(three(tmp_path, "energies only", suffix), tmp_path, "it")
    metrics = read_json(out / "metrics.json")
    assert set(metrics["parts"]["600K"]) == {"property", "force"}
    assert set(metrics["parts"]["1200K"]) == {"property"}
    assert metrics["parts"]["1200K"]["property"]["n"] == 12
    assert metrics["force"] == pytest.approx(metrics["parts"]["600K"]["force"], rel=1e-14)
    assert metrics["property"]["n"] == 24
    store = Store.open(tmp_path / "store")
    assert store.forces is not None
    assert np.isnan(store.forces).all(axis=1).sum() == 12 * 9


def test_a_file_that_does_not_say_so_is_refused_with_what_to_say(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"hot\.xyz, record 0: has no forces.*`no_forces: <why>`"):
        store_of(three(tmp_path, None), tmp_path, "it")
    with pytest.raises(DataError, match=r"hot\.npz: has no F; it has.*`no_forces: <why>`"):
        store_of(three(tmp_path, None, "npz"), tmp_path, "it")


# ---- no energies -------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", ["xyz", "npz"])
@pytest.mark.parametrize("role", ["cold", "warm", "hot"])
def test_a_part_without_energies_is_refused_by_its_file(
    role: str, suffix: str, tmp_path: Path
) -> None:
    """Forces without energies: refused wherever it stands; `missing` leaves its cells empty."""
    found = three(tmp_path, "energies only", suffix)
    path = tmp_path / f"{role}.{suffix}"
    if suffix == "xyz":
        path.write_text(re.sub(r" energy=\S+", "", path.read_text()))
    else:
        with np.load(path) as arrays:
            kept = {name: arrays[name] for name in arrays if name != "E"}
        np.savez(path, **kept)
    words = {"xyz": "record 0: has no energy", "npz": "has no E; it has: "}[suffix]
    with pytest.raises(DataError, match=rf"{role}\.{suffix}(, |: ){words}"):
        store_of(found, tmp_path, "it")
    assert not (tmp_path / "store").exists()
    if role != "cold":
        left = without(tmp_path, role, suffix)
        cells = left.tables.spec("md17").cells
        part = {"warm": "600K", "hot": "1200K"}[role]
        assert {cell.column for cell in cells if cell.reason == "no energies"} == {part}
        assert len(store_of(left, tmp_path, "it")) == 24


def without(folder: Path, role: str, suffix: str) -> Experiments:
    """The same set, whose card says why one of its files is not to be had."""
    found = three(folder, "energies only", suffix)
    given: Any = as_json(found.config.datasets["mine"])
    given["sources"]["local"]["files"][role] |= {"missing": "no energies"}
    split = {"rule": "files", "name": "mine", "train": 8, "val": 4, "test": None}
    return load(given, finetune={"force": {"split": split}})
