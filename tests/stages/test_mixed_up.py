"""Real frames of MD17, rMD17 and 3BPA, and what is mixed up among them: each is noticed.

The files are those that config/mirror-example.yaml makes tables from. Their sizes and hashes, which
would tell a wrong file at once, are taken out of the cards: what is left is what the frames say.
"""

from __future__ import annotations

import copy
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from georecon.data.readers.extxyz import read_extxyz
from georecon.data.store import Store
from georecon.errors import ConfigError, DataError
from georecon.experiments.config import merge
from georecon.experiments.experiments import Experiments
from georecon.stages.preprocess import preprocess
from georecon.stages.split import make_split
from georecon.units import EV_TO_KCAL_MOL, HARTREE_TO_EV
from tests.projects import ROOT

PARTS = {"md17": "force", "rmd17": "revised", "3bpa": "out_of_distribution"}
TARGETS = {"md17": "ethanol", "rmd17": "ethanol", "3bpa": "3bpa"}
CCSD = "ethanol_ccsd_t-train.npz"
Change = Callable[[dict[str, Any]], None]


@pytest.fixture(scope="module")
def found() -> Experiments:
    """The example's configuration."""
    given = yaml.safe_load((ROOT / "config/mirror-example.yaml").read_text(encoding="utf-8"))
    return Experiments.load(ROOT / "config", given)


class Raw:
    """A folder with the raw files of one table's set, which a test may exchange and change."""

    def __init__(self, found: Experiments, mirror: Path, folder: Path, dataset: str) -> None:
        self.found, self.mirror, self.folder, self.dataset = found, mirror, folder, dataset
        self.target = TARGETS[dataset]
        self.names = found.data.raw_names(dataset, self.target)
        for name in self.names:
            self.take(name, name)

    def take(self, name: str, other: str) -> None:
        """Put the mirror's file ``other`` in the place of a file."""
        (path,) = {one.resolve() for one in self.mirror.rglob(other)}
        shutil.copyfile(path, self.folder / name)

    def swap(self, one: str, two: str) -> None:
        """Exchange two files."""
        self.take(one, two)
        self.take(two, one)

    def change(self, name: str, change: Change) -> None:
        """Change the arrays of an ``.npz`` file."""
        path = self.folder / name
        with np.load(path) as archive:
            arrays = {key: archive[key] for key in archive.files}
        change(arrays)
        np.savez(path, **arrays)

    def store(self, **source: Any) -> Store:
        """The store of the set, under a card without sizes and hashes."""
        card: Any = copy.deepcopy(self.found.data.reading_card(self.dataset, self.target))
        (entry,) = card["sources"].values()
        entry.pop("expected_molecules", None)
        for file in entry["files"].values():
            for key in ("bytes", "sha256", "expected_molecules"):
                file.pop(key, None)
        entry.update(merge(entry, source))
        preprocess(card, self.folder, self.folder / "store", self.target)
        return Store.open(self.folder / "store")

    def split(self) -> dict[str, Any]:
        """The description of the example's split of the set."""
        path = self.found.data.split(PARTS[self.dataset], self.target, 1)
        name = path.rsplit("/", 1)[-1].removesuffix(".npz")
        plan = self.found.data.split_plan(self.dataset, name).as_json()
        made = make_split(plan, self.store().path, self.folder / "s.npz", self.folder)
        return dict(made)


@pytest.fixture
def raw(found: Experiments, mirror: Path, tmp_path: Path) -> Callable[[str], Raw]:
    return lambda dataset: Raw(found, mirror, tmp_path, dataset)


COUNTS = {
    "md17": {"train": 950, "val": 50, "test": 1000},
    "rmd17": {"train": 950, "val": 50, "test": 1000},
    "3bpa": {"train": 450, "val": 50, "test": 333},
}


@pytest.mark.parametrize("dataset", COUNTS)
def test_real_frames_become_a_store_and_the_examples_split(
    dataset: str, raw: Callable[[str], Raw]
) -> None:
    described = raw(dataset).split()
    assert described["counts"] == COUNTS[dataset]
    repeated = described.get("test_frames_also_in_training_file", {})
    assert not any(repeated.values())


# ---- level of theory ---------------------------------------------------------------------------

LEVELS = {
    "rMD17 as MD17": (
        "md17",
        "rmd17_ethanol_train_01.npz",
        r"PBE/def2-SVP, the card's PBE\+vdW-TS",
    ),
    "MD17 as rMD17": (
        "rmd17",
        "md17_ethanol_subset2000.npz",
        "no old_energies, .*PBE/def2-SVP: is it MD17's\\?",
    ),
    "coupled cluster as MD17": ("md17", CCSD, r"CCSD\(T\).*, the card's PBE\+vdW-TS"),
    "coupled cluster as rMD17": ("rmd17", CCSD, r"CCSD\(T\).*, the card's PBE/def2-SVP"),
}


@pytest.mark.parametrize("case", LEVELS)
@pytest.mark.parametrize("last", [False, True])
def test_another_level_of_theory(case: str, last: bool, raw: Callable[[str], Raw]) -> None:
    """In the training file and, where there is one, in the test file."""
    dataset, other, words = LEVELS[case]
    files = raw(dataset)
    name = files.names[-1 if last else 0]
    files.take(name, other)
    with pytest.raises(DataError, match=rf"{name}.*{words}.*never mix the two"):
        files.store()


# ---- temperature -------------------------------------------------------------------------------

KELVIN = {
    300: "train_300K.xyz",
    600: "mixedT_frames168-334_inferred_600K.xyz",
    1200: "mixedT_frames335-500_inferred_1200K.xyz",
}


@pytest.mark.parametrize(("one", "two"), [(300, 600), (300, 1200), (600, 1200)])
def test_another_temperature(one: int, two: int, raw: Callable[[str], Raw]) -> None:
    files = raw("3bpa")
    files.swap(KELVIN[one], KELVIN[two])
    with pytest.raises(DataError, match=r"K\.xyz: .*(another temperature|temperatures mixed up)"):
        files.store()


# ---- split -------------------------------------------------------------------------------------


def test_the_training_file_as_the_test_file(raw: Callable[[str], Raw]) -> None:
    files = raw("rmd17")
    files.take("rmd17_ethanol_test_01.npz", "rmd17_ethanol_train_01.npz")
    with pytest.raises(ConfigError, match=r"test parts \['split01'\] hold nothing to test on"):
        files.split()


def test_a_test_file_of_another_split_loses_the_frames_that_are_trained_on(
    raw: Callable[[str], Raw], mirror: Path
) -> None:
    """Half of its frames are in the training file: left out, and the description counts them."""
    files = raw("rmd17")
    (path,) = mirror.rglob("rmd17_ethanol_train_01.npz")
    with np.load(path) as archive:
        train = {key: archive[key] for key in archive.files}

    def mix(arrays: dict[str, Any]) -> None:
        for key in set(arrays) - {"nuclear_charges"}:
            arrays[key][:500] = train[key][:500]

    files.change("rmd17_ethanol_test_01.npz", mix)
    described = files.split()
    assert described["test_frames_also_in_training_file"] == {"split01": 500}
    assert described["counts"]["test"] == 500


def test_3bpas_mixed_file_as_a_test_file(raw: Callable[[str], Raw]) -> None:
    """31 of its 500 frames are in the training file too."""
    files = raw("3bpa")
    files.take(KELVIN[600], "train_mixedT.xyz")
    described = files.split()
    repeated = described["test_frames_also_in_training_file"]
    assert repeated == {"inferred_600K": 31, "inferred_1200K": 0}
    assert described["counts"]["test"] == 500 - 31 + 166


@pytest.mark.parametrize("dataset", COUNTS)
def test_more_training_frames_than_the_files_have(dataset: str, raw: Callable[[str], Raw]) -> None:
    """9,500 frames in place of 950: no other number is taken silently."""
    given = yaml.safe_load((ROOT / "config/mirror-example.yaml").read_text(encoding="utf-8"))
    larger = {"finetune": {PARTS[dataset]: {"split": {"train": 9500, "val": 500}}}}
    files = raw(dataset)

    def split() -> None:
        files.found = Experiments.load(ROOT / "config", merge(given, larger))
        files.split()

    with pytest.raises(ConfigError, match=r"molecules wanted.*has|too few for 500 val"):
        split()


# ---- energies per atom, units ------------------------------------------------------------------


def arrays_of(dataset: str) -> tuple[str, str]:
    """Names of energies and forces in a set's files."""
    return ("E", "F") if dataset == "md17" else ("energies", "forces")


ATOMS = 9
WRONG: dict[str, tuple[int, float, str]] = {
    "energies per atom": (0, 1 / ATOMS, "energy_per_atom = "),
    "energies in eV": (0, 1 / EV_TO_KCAL_MOL, "energy_per_atom = "),
    "energies in hartree": (0, 1 / EV_TO_KCAL_MOL / HARTREE_TO_EV, "energy_per_atom = "),
    "forces in eV/Å": (1, 1 / EV_TO_KCAL_MOL, "force_rms = "),
    "forces in meV/Å": (1, 1000 / EV_TO_KCAL_MOL, "force_rms = "),
}


@pytest.mark.parametrize("case", WRONG)
@pytest.mark.parametrize("dataset", ["md17", "rmd17"])
@pytest.mark.parametrize("last", [False, True])
def test_energies_per_atom_and_other_units(
    case: str, dataset: str, last: bool, raw: Callable[[str], Raw]
) -> None:
    which, by, words = WRONG[case]
    files = raw(dataset)
    name, key = files.names[-1 if last else 0], arrays_of(dataset)[which]
    files.change(name, lambda arrays: arrays.update({key: arrays[key] * by}))
    with pytest.raises(DataError, match=rf"{name}, record \S+ {words}"):
        files.store()


SAID: dict[str, tuple[str, str, str]] = {
    "energies in kcal/mol": ("energy", "kcal/mol", "energy_per_atom = "),
    "energies in hartree": ("energy", "Ha", "energy_per_atom = "),
    "forces in kcal/mol/Å": ("forces", "kcal/mol/Å", "force_rms = |mean squared force over kT"),
    "forces in Ha/a0": ("forces", "Ha/a0", "force_rms = |mean squared force over kT"),
}


@pytest.mark.parametrize("case", SAID)
def test_3bpa_in_a_unit_that_it_is_not_in(case: str, raw: Callable[[str], Raw]) -> None:
    quantity, unit, words = SAID[case]
    with pytest.raises(DataError, match=rf"\.xyz.*({words})"):
        raw("3bpa").store(raw_units={quantity: unit})


@pytest.mark.parametrize("kelvin", KELVIN)
def test_3bpas_energies_per_atom(kelvin: int, raw: Callable[[str], Raw]) -> None:
    files = raw("3bpa")
    path = files.folder / KELVIN[kelvin]
    real = read_extxyz(path, ranges={}, units={"pos": "Å", "energy": "eV", "forces": "eV/Å"})
    lines = path.read_text().splitlines()
    for k, energy in enumerate(real.labels["energy"]):
        words = lines[29 * k + 1].split()
        kept = [f"energy={energy / 27}" if w.startswith("energy=") else w for w in words]
        lines[29 * k + 1] = " ".join(kept)
    path.write_text("\n".join(lines) + "\n")
    with pytest.raises(DataError, match=rf"{path.name}, record 0: energy_per_atom = "):
        files.store()
