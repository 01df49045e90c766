"""Dataset cards are complete and consistent; raw files of every kind become stores."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from georecon.data.cards import (
    READER_KEYS,
    Card,
    computed_files,
    reading_json,
    source_files,
    store_roles,
)
from georecon.data.manifest import Counts
from georecon.data.raw.fetch import fetch
from georecon.data.readers.qm9_package import LABELS
from georecon.data.store import Store
from georecon.errors import ConfigError, DataError
from georecon.keys import as_json, from_json
from georecon.stages.preprocess import READERS, preprocess
from georecon.units import UNIT_LATEX, quantity_of

COMPUTED = ("xmd17", "x3bpa", "xmd22")
MOLECULES = (
    *("aspirin", "benzene", "ethanol", "malonaldehyde"),
    *("naphthalene", "salicylic", "toluene", "uracil"),
)


@pytest.fixture(scope="module")
def typed(cards: dict[str, Any]) -> dict[str, Card]:
    return {name: from_json(Card, card) for name, card in cards.items()}


def test_cards_say_the_same_things(typed: dict[str, Card]) -> None:
    assert set(typed) == {*COMPUTED, "qm9", "md17", "rmd17", "md22", "3bpa", "pcqm4mv2"}
    for name, card in typed.items():
        for key in ("title", "citation", "doi", "licence", "id", "traps", "units", "ranges"):
            assert getattr(card, key), (name, key)
        assert card.name == name
        assert card.default_source in card.sources
        assert set(card.units.values()) <= set(UNIT_LATEX)
        for low, high in (card.ranges or {}).values():
            assert low < high
        for source in card.sources.values():
            assert source.reader in READERS
            assert set(READERS) == set(READER_KEYS)
            assert all(file.name for file in source.files.values())


def test_targets_have_recipes(typed: dict[str, Card]) -> None:
    qm9 = typed["qm9"]
    assert tuple(qm9.targets or {}) == LABELS
    for name in LABELS:
        recipe = qm9.target(name)
        assert recipe.label == name
        assert recipe.unit == qm9.units[name]
        assert quantity_of(recipe.unit) == quantity_of(recipe.table_unit)
        assert recipe.atomref is None or recipe.atomref in qm9.atomrefs
    for name in ("xmd17", "md17", "rmd17"):
        assert tuple(typed[name].targets or {}) == MOLECULES
        assert set(source_files(typed[name], "benzene")) == {"benzene"}
    for name in (*COMPUTED, "md17", "rmd17", "md22", "3bpa"):
        for target in typed[name].targets or {}:
            recipe = typed[name].target(target)
            assert (recipe.energy_weight, recipe.force_weight) == (0.2, 0.8)
            assert recipe.unit == typed[name].units["energy"]


@pytest.mark.parametrize("name", COMPUTED)
def test_computed_sets_say_how_and_that_they_are_no_official_ones(
    typed: dict[str, Card], name: str
) -> None:
    card = typed[name]
    made = computed_files(card)
    assert made
    assert all(one.smiles for one in made.values())
    assert card.theory == "GFN2-xTB"
    assert "GFN2-xTB" in card.title
    assert card.title.startswith(name)
    assert tuple(card.targets or {}) == tuple(typed[name[1:].replace("xmd", "md")].targets or {})


def test_a_store_depends_on_its_own_files_alone(typed: dict[str, Card]) -> None:
    md22, x3bpa = typed["xmd22"], typed["x3bpa"]
    recipes = {"Ac-Ala3-NHMe": as_json(md22.target("Ac-Ala3-NHMe"))}
    gone = from_json(Card, as_json(md22) | {"targets": recipes})
    assert reading_json(gone, "Ac-Ala3-NHMe") == reading_json(md22, "Ac-Ala3-NHMe")
    assert reading_json(md22, "DHA") != reading_json(md22, "Ac-Ala3-NHMe")
    (source,) = reading_json(x3bpa, "3bpa")["sources"].values()  # type: ignore[attr-defined]
    assert len(source["files"]) == 5
    assert store_roles(md22, "all") == ["Ac-Ala3-NHMe"]  # DHA: in another edition


def make(
    cards: dict[str, Any], mirror: Path, tmp: Path, dataset: str, target: str | None, source: str
) -> Store:
    card = from_json(Card, cards[dataset])
    for file in map(as_json, source_files(card, target, source).values()):
        fetch(file, tmp / "raw" / file["name"], mirror=mirror, offline=True)
    preprocess(cards[dataset], tmp / "raw", tmp / "store", target, source=source)
    return Store.open(tmp / "store", verify=True)


@pytest.mark.parametrize(
    ("dataset", "target", "source", "molecules"),
    [
        ("qm9", None, "qm9pack", 130_831),
        ("md17", "benzene", "subset2000", 2000),
        ("rmd17", "aspirin", "split01", 2000),
        ("rmd17", "all", "split01", 16_000),
        ("md22", "Ac-Ala3-NHMe", "first5", 5),
        ("3bpa", "train_mixedT", "official", 500),
        ("3bpa", "3bpa", "inferred", 833),
        ("pcqm4mv2", None, "conformers", 5528),
    ],
)
def test_raw_to_store(
    cards: dict[str, Any],
    mirror: Path,
    tmp_path: Path,
    dataset: str,
    target: str | None,
    source: str,
    molecules: int,
) -> None:
    store = make(cards, mirror, tmp_path, dataset, target, source)
    assert len(store) == molecules
    assert store.manifest.counts.molecules == molecules
    assert store.manifest.units == cards[dataset]["units"]
    assert store.manifest.source.source == source
    for file in store.manifest.source.raw.values():
        assert len(str(file["sha256"])) == 64
    assert str(tmp_path) not in (store.path / "manifest.json").read_text()


def test_official_qm9_layouts_through_cards(
    cards: dict[str, Any], mirror: Path, tmp_path: Path
) -> None:
    card = {**cards["qm9"], "expected_molecules": 12_000}
    raw = mirror / "qm9/raw"
    sources = card["sources"]
    sources["subset"] = {
        "reader": "gdb9",
        "files": {
            "sdf": {"name": "gdb9_subset12000.sdf.gz"},
            "csv": {"name": "gdb9_subset12000.sdf.csv"},
            "uncharacterized": {"name": "uncharacterized.txt"},
        },
    }
    try:
        manifest = preprocess(card, raw, tmp_path / "s", source="subset")
    finally:
        del sources["subset"]
    assert manifest.counts.molecules == 12_000


def test_other_count_is_refused(cards: dict[str, Any], mirror: Path, tmp_path: Path) -> None:
    card = {**cards["3bpa"], "sources": {"official": {**cards["3bpa"]["sources"]["official"]}}}
    card["sources"]["official"]["files"] = {
        "train_300K": {"name": "train_300K.xyz", "expected_molecules": 501}
    }
    with pytest.raises(DataError, match=r"train_300K\.xyz: holds 500 records, expected 501"):
        preprocess(card, mirror / "3bpa/dataset_3BPA", tmp_path / "s", "train_300K")
    assert not (tmp_path / "s").exists()


def test_unknown_names_list_the_allowed_ones(cards: dict[str, Any], tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="dataset qm9: source is 'x'; allowed: qm9pack, figshare"):
        preprocess(cards["qm9"], tmp_path, tmp_path / "s", source="x")
    for target in (None, "phenol"):
        with pytest.raises(ConfigError, match="allowed: aspirin, benzene"):
            preprocess(cards["md17"], tmp_path, tmp_path / "s", target)
    with pytest.raises(DataError, match=r"md17_aspirin\.npz: raw file is missing"):
        preprocess(cards["md17"], tmp_path, tmp_path / "s", "aspirin")


WATER = """water

{count}
  3  0  0  0  0  0  0  0  0  0999 V2000
    0.0000    0.0000    0.0000 O   0
    {bond:6.4f}    0.0000    0.0000 H   0
    0.0000    {bond:6.4f}    0.0000 H   0
M  END
$$$$
"""


def sdf_card(cards: dict[str, Any], limit: int, expected: int | None = None) -> dict[str, Any]:
    source = {"reader": "sdf", "max_rejected": limit, "files": {"archive": {"name": "a.sdf"}}}
    return {
        **cards["pcqm4mv2"],
        "expected_molecules": expected,
        "default_source": "toy",
        "sources": {"toy": source},
    }


def test_few_bad_sdf_records_are_listed_many_refused(cards: dict[str, Any], tmp_path: Path) -> None:
    bonds = [0.96, 0.1, 0.97, 0.96]
    text = "".join(WATER.format(count=i, bond=bond) for i, bond in enumerate(bonds))
    (tmp_path / "a.sdf").write_text(text.replace("H   0", "Q   0", 1))
    manifest = preprocess(sdf_card(cards, 2, expected=4), tmp_path, tmp_path / "s")
    assert manifest.counts == Counts(molecules=2, atoms=6, rejected=2)
    assert [one.record for one in manifest.rejected] == ["0", "1"]
    assert "nearest_neighbour = 0.1" in manifest.rejected[1].reason
    assert Store.open(tmp_path / "s").ids.tolist() == [2, 3]
    with pytest.raises(DataError, match=r"record 0: '.' is no element.*2 such records"):
        preprocess(sdf_card(cards, 1), tmp_path, tmp_path / "s")
    with pytest.raises(DataError, match="holds 4 records, expected 5"):
        preprocess(sdf_card(cards, 2, expected=5), tmp_path, tmp_path / "s")


def test_member_of_an_archive(small_rmd17: dict[str, Any], mirror: Path, tmp_path: Path) -> None:
    data = (mirror / "rmd17/rmd17-npz/rmd17_uracil_train_01.npz").read_bytes()
    with tarfile.open(tmp_path / "rmd17.tar.bz2", "w:bz2") as archive:
        info = tarfile.TarInfo("rmd17/npz_data/rmd17_uracil.npz")
        info.size = len(data)
        archive.addfile(info, io.BytesIO(data))
    manifest = preprocess(small_rmd17, tmp_path, tmp_path / "s", "uracil")
    assert manifest.counts.molecules == 1000
    assert np.isfinite(Store.open(tmp_path / "s").labels["energy"]).all()
    with pytest.raises(DataError, match=r"record .*rmd17_aspirin\.npz: is not in the archive"):
        preprocess(small_rmd17, tmp_path, tmp_path / "s", "aspirin")
