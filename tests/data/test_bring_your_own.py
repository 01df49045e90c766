"""Files of one's own: every official layout from configuration alone to a store; refusals."""

from __future__ import annotations

import hashlib
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from georecon.data.cards import Card, File, Source, Target
from georecon.data.raw.fetch import fetch
from georecon.data.readers.extxyz import read_extxyz
from georecon.data.store import Store
from georecon.errors import ConfigError, DataError, FetchError
from georecon.experiments.config import load_config
from georecon.experiments.experiments import Experiments
from georecon.keys import as_json, key_hints
from georecon.stages.preprocess import preprocess
from georecon.units import BOHR_TO_ANGSTROM, EV_TO_KCAL_MOL, HARTREE_TO_EV, factor
from tests.frame.documented import own_data

ROOT = Path(__file__).resolve().parents[2]
SPLIT = {"rule": "random", "name": "mine", "train": 3, "val": 1, "test": None, "seed": 1}


def load(card: dict[str, Any], part: str = "force", **more: Any) -> Experiments:
    """The laptop edition with ``card`` laid over it as dataset ``mine``, playing ``part``."""
    given: dict[str, Any] = {
        "edition": "laptop",
        "sets": {part: {"dataset": "mine", "missing": None}},
        "datasets": {"mine": card},
        **({} if part == "pretrain" else {"finetune": {part: {"split": SPLIT}}}),
        **more,
    }
    return Experiments.load(ROOT / "config", given)


def store_of(
    found: Experiments, folder: Path, target: str | None = None, mirror: Path | None = None
) -> Store:
    """Through the workflow's own steps: plan, fetch, preprocess."""
    for name in found.data.raw_names("mine", target):
        fetch(
            found.data.card_file("mine", name), folder / "raw" / name, mirror=mirror, offline=True
        )
    preprocess(found.data.reading_card("mine", target), folder / "raw", folder / "store", target)
    return Store.open(folder / "store", verify=True)


def local(path: Path, **more: Any) -> dict[str, Any]:
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    return {"local": str(path), "sha256": digest, **more}


def card(reader: str, files: dict[str, Any], kind: str = "forces", **source: Any) -> dict[str, Any]:
    return {"kind": kind, "sources": {"local": {"reader": reader, "files": files, **source}}}


KCAL = {"energy": "kcal/mol", "forces": "kcal/mol/Å"}
EV = {"energy": "eV", "forces": "eV/Å"}
FORCE_LAYOUTS = {
    "MD17 npz": ("md17/raw/md17_toluene_subset2000.npz", KCAL, 2000),
    "sGDML npz": ("md17/ccsd/ethanol_ccsd_t-train.npz", KCAL, 1000),
    "rMD17 npz": ("rmd17/rmd17-npz/rmd17_uracil_train_01.npz", KCAL, 1000),
    "MD22 xyz": ("md22/raw/md22_Ac-Ala3-NHMe_first5frames.xyz", KCAL, 5),
    "3BPA xyz": ("3bpa/dataset_3BPA/train_mixedT.xyz", EV, 500),
}


@pytest.mark.parametrize("layout", FORCE_LAYOUTS)
def test_force_layouts(layout: str, mirror: Path, tmp_path: Path) -> None:
    name, units, frames = FORCE_LAYOUTS[layout]
    found = load(card("frames", {"molecule": local(mirror / name)}, raw_units=units))
    store = store_of(found, tmp_path, "molecule")
    assert len(store) == frames
    # the store has eV whatever the file has, and the tables too
    assert store.manifest.units == {"pos": "Å", "energy": "eV", "forces": "eV/Å"}
    ratio = factor(units["energy"], "eV")
    if name.endswith(".npz"):
        with np.load(mirror / name) as data:
            energies = data["E" if "E" in data else "energies"].reshape(-1)
            forces = data["F" if "F" in data else "forces"].reshape(-1, 3)
            assert np.array_equal(store.labels["energy"], energies * ratio)
            assert store.forces is not None
            assert np.array_equal(store.forces, forces * ratio)
    columns = [c for c in found.tables.columns("md17") if c.key == "molecule"]
    assert columns
    recipe = found.runs.recipe("force", "molecule")
    assert (recipe.energy_weight, recipe.force_weight) == (0.2, 0.8)


@pytest.mark.parametrize("npz", [True, False])
def test_md22_npz_and_a_set_in_hartree_and_bohr(npz: bool, mirror: Path, tmp_path: Path) -> None:
    source = mirror / "md22/raw/md22_Ac-Ala3-NHMe_first5frames.xyz"
    real = read_extxyz(source, ranges={}, units={"pos": "Å", **KCAL})
    assert real.forces is not None
    shape = (5, 42, 3)
    pos = real.pos.reshape(shape) / BOHR_TO_ANGSTROM
    energy = real.labels["energy"] / EV_TO_KCAL_MOL / HARTREE_TO_EV
    forces = real.forces.reshape(shape) / EV_TO_KCAL_MOL / HARTREE_TO_EV * BOHR_TO_ANGSTROM
    units = {"pos": "bohr", "energy": "Hartree", "forces": "Hartree/bohr"}
    if npz:
        file, keys = tmp_path / "md22_x.npz", {"energy": "dft_E", "forces": "dft_F"}
        np.savez(file, R=pos, z=real.z[:42], dft_E=energy, dft_F=forces)
    else:
        ase = pytest.importorskip("ase")
        pytest.importorskip("ase.io")
        file, keys = tmp_path / "x.extxyz", {"energy": "dft_E", "forces": "dft_F"}
        frames = []
        for k in range(5):
            atoms = ase.Atoms(numbers=real.z[:42], positions=pos[k])
            atoms.info["dft_E"] = energy[k]
            atoms.arrays["dft_F"] = forces[k]
            frames.append(atoms)
        ase.io.write(file, frames, format="extxyz")
    given = card("frames", {"x": local(file)}, raw_units=units, keys=keys)
    given["units"] = {"energy": "kcal/mol", "forces": "kcal/mol/Angstrom"}
    store = store_of(load(given, "large_force", finetune=LARGE), tmp_path, "x")
    np.testing.assert_allclose(store.pos, real.pos, atol=2e-6)
    np.testing.assert_allclose(store.labels["energy"], real.labels["energy"], rtol=1e-8)
    np.testing.assert_allclose(store.forces, real.forces, atol=1e-5)  # type: ignore[arg-type]


TRAIN = {
    "steps": 1, "batch_size": 1, "lr": 0.1, "weight_decay": 0, "warmup": 0, "schedule": "cosine",
    "clip": 0, "evaluations": 1, "patience": 0, "checkpoint_seconds": 1,
}  # fmt: skip
LARGE = {
    "large_force": {
        "split": SPLIT, "noise_sigma": 0, "references": "card", "evaluation_batch": 1,
        "train": TRAIN,
    }
}  # fmt: skip


def test_sdf_conformers_for_pretraining(mirror: Path, tmp_path: Path) -> None:
    file = mirror / "pretrain/conformers/conformer_benchmark_neutral_subset.sdf.gz"
    found = load(card("sdf", {"conformers": local(file)}, kind="geometries"), "pretrain")
    assert found.data.pretrain_store() == "resources/store/mine"
    assert len(store_of(found, tmp_path)) == 5528


def test_frames_for_pretraining_need_no_labels(mirror: Path, tmp_path: Path) -> None:
    files = {
        "a": local(mirror / "3bpa/dataset_3BPA/train_300K.xyz"),
        "b": local(mirror / "md22/raw/md22_Ac-Ala3-NHMe_first5frames.xyz"),
    }
    found = load(card("frames", files, kind="geometries"), "pretrain")
    store = store_of(found, tmp_path)
    assert len(store) == 505
    assert store.labels == {}
    assert store.forces is None
    # frames of the second file keep their row, at the second file's place
    assert store.ids[-5:].tolist() == [100_000_000 + k for k in range(5)]


def test_a_force_set_for_pretraining_is_one_store_of_all_files(
    mirror: Path, tmp_path: Path
) -> None:
    files = {n: local(mirror / f"md17/raw/md17_{n}_subset2000.npz") for n in ("toluene", "uracil")}
    found = load(card("frames", files, raw_units=KCAL), "pretrain")
    assert found.data.pretrain_store() == "resources/store/mine/all"
    store = store_of(found, tmp_path, "all")
    assert len(store) == 4000
    assert store.manifest.source.roles == ("toluene", "uracil")


@pytest.mark.parametrize("reader", ["qm9_xyz", "gdb9"])
def test_qm9_layouts(reader: str, mirror: Path, tmp_path: Path) -> None:
    names = {
        "qm9_xyz": {"archive": "dsgdb9nsd_subset12000.xyz.tar.bz2"},
        "gdb9": {"sdf": "gdb9_subset12000.sdf.gz", "csv": "gdb9_subset12000.sdf.csv"},
    }[reader]
    files = {role: local(mirror / "qm9/raw" / name) for role, name in names.items()}
    sources = {"mine": {"reader": reader, "files": files, "expected_molecules": 12_000}}
    config = load_config(
        ROOT / "config",
        {
            "edition": "laptop",
            "datasets": {"qm9": {"default_source": "mine", "sources": sources}},
            "finetune": {"property": {"split": {**SPLIT, "train": 1000}}},
        },
    )
    found = Experiments(config)
    for name in found.data.raw_names("qm9", None):
        fetch(found.data.card_file("qm9", name), tmp_path / "raw" / name, offline=True)
    manifest = preprocess(
        found.data.reading_card("qm9", None), tmp_path / "raw", tmp_path / "store"
    )
    assert (manifest.counts.molecules, manifest.counts.rejected) == (12_000, 0)
    store = Store.open(tmp_path / "store")
    methane = int(np.flatnonzero(store.ids == 1)[0])
    assert store.labels["u0"][methane] == -40.47893 * HARTREE_TO_EV


def test_left_out_molecules_are_counted_as_rejected(mirror: Path, tmp_path: Path) -> None:
    raw = mirror / "qm9/raw"
    shutil.copy(raw / "gdb9_subset12000.sdf.csv", tmp_path)
    shutil.copy(raw / "gdb9_subset12000.sdf.gz", tmp_path)
    (tmp_path / "some.txt").write_text("list\n4 x\n9 y\n")
    given = as_json(load_config(ROOT / "config", {"edition": "laptop"}).datasets["qm9"])
    files = {
        "sdf": {"name": "gdb9_subset12000.sdf.gz"},
        "csv": {"name": "gdb9_subset12000.sdf.csv"},
        "uncharacterized": {"name": "some.txt"},
    }
    given = {**given, "sources": {"x": {"reader": "gdb9", "files": files}}}
    given |= {"expected_molecules": 11_998, "default_source": "x"}
    manifest = preprocess(given, tmp_path, tmp_path / "s")
    assert manifest.counts.molecules + manifest.counts.rejected == 12_000
    assert [one.record for one in manifest.rejected] == ["gdb_4", "gdb_9"]
    assert not np.isin([4, 9], Store.open(tmp_path / "s").ids).any()


def test_example_of_the_readme(mirror: Path, tmp_path: Path) -> None:
    given = yaml.safe_load(own_data())
    file = given["datasets"]["mine"]["sources"]["local"]["files"]["my_molecule"]
    file["local"] = str(mirror / "3bpa/dataset_3BPA/train_300K.xyz")
    found = Experiments.load(ROOT / "config", given)
    assert len(store_of(found, tmp_path, "my_molecule")) == 500
    assert found.tables.spec("md17").as_json()["title"].startswith("Mine")


# ---- one more molecule of an official set ------------------------------------------------------

ACAC = {role: {"name": f"acac_{role}.xyz", "urls": ["https://x.invalid/a"]} for role in
        ("cold", "warm", "hot")}  # fmt: skip
MORE: dict[str, tuple[str, str, dict[str, Any], dict[str, Any]]] = {
    "md17": ("paper", "paracetamol", {"paracetamol": {"name": "md17_paracetamol.npz"}}, {}),
    "rmd17": (
        "paper",
        "azobenzene",
        {"azobenzene": {"name": "rmd17.tar.bz2", "member": "rmd17/npz_data/rmd17_azobenzene.npz"}},
        {},
    ),
    "md22": ("paper", "tetrapeptide", {"tetrapeptide": {"name": "md22_x.npz"}}, {}),
    "3bpa": (
        "paper",
        "acac",
        ACAC,
        {"parts": {"acac": {"train": "cold", "test": {"300K": "warm", "600K": "hot"}}}},
    ),
    "xmd17": (
        "laptop",
        "phenol",
        {"phenol": {"computed": True, "simulation": {"smiles": "Oc1ccccc1"}}},
        {},
    ),
}
"""Dataset → edition, new target, its files, and what else its source says."""


@pytest.mark.parametrize("dataset", MORE)
def test_a_new_molecule_is_a_column_by_configuration_alone(dataset: str) -> None:
    edition, name, files, more = MORE[dataset]
    before = Experiments.load(ROOT / "config", {"edition": edition})
    source = before.data.card(dataset).default_source
    entry = {"sources": {source: {"files": files, **more}}}
    entry["targets"] = {name: {"train_val": 6000} if dataset == "md22" else {}}
    after = Experiments.load(ROOT / "config", {"edition": edition, "datasets": {dataset: entry}})
    shown = 0
    for table in before.tables.names():
        for spec in before.config.tables[table].columns:
            here = spec.source == "finetune" and before.data.dataset_of(spec.set) == dataset
            if not here or spec.targets != "all" or spec.parts:
                continue
            shown += 1
            columns = after.tables.columns(table)
            added = {c.key for c in columns if c.target == name}
            assert added
            old = [c.target for c in before.tables.columns(table)]
            assert [c.target for c in columns if c.key not in added] == old
            cells = [c for c in after.tables.spec(table).cells if c.column in added]
            assert len(cells) == len(added) * len(after.tables.rows(table))
            assert all(cell.reason is None and cell.files for cell in cells)
            assert all(f"/{name}/" in file for cell in cells for file in cell.files.values())
    assert shown, "no table shows all molecules of the set"
    assert set(after.data.raw_names(dataset, name)) == {
        file.get("name", f"{dataset}_{role}.npz") for role, file in files.items()
    }


def test_its_file_of_the_official_layout_becomes_its_store(mirror: Path, tmp_path: Path) -> None:
    """As MD17's other molecules; real frames under a name that no card has."""
    copied = tmp_path / "mirror/md17_paracetamol.npz"
    copied.parent.mkdir()
    shutil.copy(mirror / "md17/raw/md17_toluene_subset2000.npz", copied)
    files = {"paracetamol": {"name": copied.name}}
    entry = {"sources": {"official": {"files": files}}, "targets": {"paracetamol": {}}}
    found = Experiments.load(ROOT / "config", {"edition": "paper", "datasets": {"md17": entry}})
    fetch(
        found.data.card_file("md17", copied.name), tmp_path / "raw" / copied.name,
        mirror=copied.parent, offline=True,
    )  # fmt: skip
    reading = found.data.reading_card("md17", "paracetamol")
    preprocess(reading, tmp_path / "raw", tmp_path / "store", "paracetamol")
    assert len(Store.open(tmp_path / "store", verify=True)) == 2000
    assert found.data.store("md17", "paracetamol") == "resources/store/md17/paracetamol"


def test_every_key_of_a_card_is_explained() -> None:
    text = (ROOT / "config/README.md").read_text(encoding="utf-8")
    for kind in (Card, Source, File, Target):
        for name, (_, key) in key_hints(kind).items():
            assert key.sentence, f"{kind.__name__}.{name}"
            assert f"| `{name}` | {key.sentence}" in text, f"{kind.__name__}.{name}"


# ---- refused before any work ------------------------------------------------------------------

GOOD = card("frames", {"x": {"local": "x.xyz"}}, raw_units=EV)
BAD: dict[str, tuple[dict[str, Any], list[str]]] = {
    "unknown reader": (
        card("frame", {"x": {"local": "x.xyz"}}, raw_units=EV),
        ["mine.sources.local.reader: is 'frame'", "allowed: qm9pack", "did you mean 'frames'",
         "frames reads extended XYZ and .npz"],
    ),
    "unknown unit": (
        card("frames", {"x": {"local": "x"}}, raw_units={**EV, "energy": "kcal"}),
        ["mine.sources.local.raw_units.energy", "unknown unit 'kcal'", "allowed: eV, meV, Ha"],
    ),
    "unit of another quantity": (
        card("frames", {"x": {"local": "x"}}, raw_units={**EV, "pos": "eV"}),
        ["raw_units.pos: is 'eV'; allowed: Å, a0, nm"],
    ),
    "unit of another quantity for energies": (
        card("frames", {"x": {"local": "x"}}, raw_units={**EV, "energy": "nm"}),
        ["raw_units.energy: is 'nm'; allowed: eV, meV, Ha"],
    ),
    "store unit of another quantity": (
        {**GOOD, "units": {"forces": "eV"}}, ["units.forces: is 'eV'; allowed: eV/Å"]
    ),
    "no unit of forces": (
        card("frames", {"x": {"local": "x"}}, raw_units={"energy": "eV"}),
        ["datasets.mine.units.forces: missing", "sources.local.raw_units"],
    ),
    "unit of nothing": (
        card("frames", {"x": {"local": "x"}}, raw_units={**EV, "charge": "1"}),
        ["raw_units.charge: unknown quantity; allowed: pos, energy, forces"],
    ),
    "positions not in Å": (
        GOOD | {"units": {"pos": "nm"}}, ["datasets.mine.units.pos: must be Å"]
    ),
    "key of another reader": (
        card("sdf", {"x": {"local": "x"}}, kind="geometries", keys={"energy": "E"}),
        ["sources.local.keys: reader sdf has no such key; allowed: reader, files"],
    ),
    "role that the reader does not know": (
        card("gdb9", {"sdf": {"local": "x"}}),
        ["files: are [sdf]; gdb9 takes [sdf, csv]"],
    ),
    "no path": (card("frames", {"x": {}}, raw_units=EV), ["files.x: needs `local`"]),
    "no files": (card("frames", {}, raw_units=EV), ["sources.local.files: missing"]),
    "short hash": (
        card("frames", {"x": {"local": "x", "sha256": "abc"}}, raw_units=EV),
        ["datasets.mine.sources.local.files.x.sha256"],
    ),
    "misspelt key": (
        {**GOOD, "defaut_source": "local"}, ["datasets.mine.defaut_source: unknown key"]
    ),
    "unknown source": (
        {**GOOD, "default_source": "there"},
        ["datasets.mine.default_source: is 'there'; allowed: local"],
    ),
    "no kind": ({"sources": GOOD["sources"]}, ["datasets.mine.kind: missing"]),
    "wrong kind for the part": (
        card("sdf", {"x": {"local": "x"}}, kind="geometries"),
        ["sets.force.dataset: mine is of kind geometries; allowed: forces"],
    ),
    "target without a file": (
        {**GOOD, "targets": {"y": {}}}, ["datasets.mine.targets.y", "it has: x"]
    ),
    "unknown atomref": (
        {**GOOD, "targets": {"x": {"atomref": "e"}}},
        ["targets.x.atomref: is 'e'; allowed: isolated_atoms"],
    ),
    "more wanted than there is": (
        card("frames", {"x": {"local": "x", "expected_molecules": 3}}, raw_units=EV),
        ["finetune.force.split: 4 molecules wanted (train, val and test together), x has 3"],
    ),
    "scan that is no test part": (
        {
            **card("frames", {"x": {"local": "x"}}, raw_units=EV,
                   parts={"x": {"train": "x", "test": {"hot": "x"}}}),
            "targets": {"x": {"scan": {"part": "hott", "turned": [0, 1, 2, 3],
                                       "slices": [1, 2, 3, 4]}}},
        },
        ["datasets.mine.targets.x.scan.part: is 'hott'; allowed: hot (did you mean 'hot'?)"],
    ),
    "scan of a set without parts": (
        {**GOOD, "targets": {"x": {"scan": {"part": "hot", "turned": [0, 1, 2, 3],
                                            "slices": [1, 2, 3, 4]}}}},
        ["datasets.mine.targets.x.scan.part: is 'hot'; allowed: none"],
    ),
    "dihedral angle of three atoms": (
        {**GOOD, "targets": {"x": {"scan": {"part": "hot", "turned": [0, 1, 2, 2],
                                            "slices": [1, 2, 3, 4]}}}},
        ["datasets.mine.targets.x.scan.turned: [0, 1, 2, 2] names an atom twice"],
    ),
    "part of an unknown file": (
        {
            **card("frames", {"x": {"local": "x"}}, raw_units=EV,
                   parts={"x": {"train": "x", "test": {"hot": "y"}}}),
            "targets": {"x": {}},
        },
        ["parts.x.test.hot: is 'y'; allowed: x", "finetune.force.split.rule: is 'random'"],
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD)
def test_bad_card_is_refused_before_any_work(case: str) -> None:
    given, words = BAD[case]
    with pytest.raises(ConfigError) as caught:
        load(given)
    for word in words:
        assert word in str(caught.value), f"{word!r} not in {caught.value}"
    load(GOOD)


def test_a_split_too_large_for_one_store_is_said_once() -> None:
    """Not once for each of QM9's twelve labels."""
    split = {"rule": "random", "name": "mine", "train": 200_000, "val": 50, "test": 50}
    given = {"edition": "laptop", "finetune": {"property": {"split": split}}}
    with pytest.raises(ConfigError) as caught:
        Experiments.load(ROOT / "config", given)
    (line,) = (line for line in str(caught.value).splitlines() if "molecules wanted" in line)
    assert line.endswith("200100 molecules wanted (train, val and test together), qm9 has 130831")


# ---- refused at the file ----------------------------------------------------------------------


def frames_card(mirror: Path, **source: Any) -> dict[str, Any]:
    file = mirror / "3bpa/dataset_3BPA/train_300K.xyz"
    return card("frames", {"x": local(file)}, **{"raw_units": EV, **source})


def test_absent_key_lists_those_the_file_has(mirror: Path, tmp_path: Path) -> None:
    found = load(frames_card(mirror, keys={"energy": "dft_energy"}))
    expected = r"train_300K\.xyz, record 0: has no dft_energy.*it has: .*dihedrals, energy, forces"
    with pytest.raises(DataError, match=expected):
        store_of(found, tmp_path, "x")
    assert not (tmp_path / "store").exists()


def test_other_hash_is_refused_before_parsing(mirror: Path, tmp_path: Path) -> None:
    given = frames_card(mirror)
    given["sources"]["local"]["files"]["x"]["sha256"] = "0" * 64
    with pytest.raises(FetchError, match=r"sha256 is d109971f.*expected 0000"):
        store_of(load(given), tmp_path, "x")


@pytest.mark.parametrize("unit", ["bohr", "nm"])
def test_whole_file_in_another_length_is_noticed_without_ranges(
    unit: str, mirror: Path, tmp_path: Path
) -> None:
    found = load(frames_card(mirror, raw_units={**EV, "pos": unit}))
    read = {"bohr": "a0", "nm": "nm"}[unit]
    said = rf"train_300K\.xyz, record 0: bond_ratio = .*it was read as {read}: is the file in that"
    with pytest.raises(DataError, match=said):
        store_of(found, tmp_path, "x")
