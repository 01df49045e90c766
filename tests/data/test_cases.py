"""The small inputs on which the product failed once, from files to stores: each right outcome.

They lie in the mirror, ``cases/``, whose README says what each shows; inputs of our own of the same
kinds are in the tests of the readers.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from georecon.data.raw.fetch import fetch
from georecon.data.readers.extxyz import ISOLATED_ATOM
from georecon.data.split import read_split
from georecon.data.store import Store
from georecon.errors import ConfigError, DataError, FetchError
from georecon.experiments.experiments import Experiments
from georecon.experiments.yaml_files import read_mapping
from georecon.stages.split import make_split
from tests.data.test_bring_your_own import EV, ROOT, card, load, local, store_of


@pytest.fixture
def cases(mirror: Path) -> Path:
    folder = mirror / "cases"
    if not folder.is_dir():
        pytest.skip("needs the small inputs: cases/ in the mirror")
    return folder


def frames(file: Path, folder: Path, **source: Any) -> Store:
    found = load(card("frames", {"molecule": local(file)}, raw_units=EV, **source))
    return store_of(found, folder, "molecule")


def records(file: Path, folder: Path, **source: Any) -> Store:
    found = load(card("sdf", {"archive": local(file)}, kind="geometries", **source), "pretrain")
    return store_of(found, folder)


def assert_plain(store: Store, cases: Path, folder: Path) -> None:
    plain = frames(cases / "xyz/plain.xyz", folder / "plain")
    assert len(store) == 12
    assert store.forces is not None
    assert np.array_equal(store.z, plain.z)
    # the files print eight decimals, or nine digits with an exponent
    np.testing.assert_allclose(store.pos, plain.pos, rtol=0, atol=5e-7)
    np.testing.assert_allclose(store.forces, plain.forces, rtol=0, atol=1e-8)
    np.testing.assert_allclose(store.labels["energy"], plain.labels["energy"], rtol=3e-9)


@pytest.mark.parametrize("name", ["deuterium", "atomic_numbers", "fortran_exponents"])
def test_read_as_plain_frames(cases: Path, tmp_path: Path, name: str) -> None:
    assert_plain(frames(cases / f"xyz/{name}.xyz", tmp_path), cases, tmp_path)


def test_two_energies_that_differ(cases: Path, tmp_path: Path) -> None:
    file = cases / "xyz/two_energies_differ.xyz"
    with pytest.raises(
        DataError, match=r"record 0: has energy = -4213\.8\S* and REF_energy = -421"
    ):
        frames(file, tmp_path / "a")
    keys = {"energy": "REF_energy", "forces": "REF_forces"}
    assert_plain(frames(file, tmp_path / "b", keys=keys), cases, tmp_path)


def test_isolated_atoms(cases: Path, tmp_path: Path) -> None:
    store = frames(cases / "xyz/isolated_atoms_first.xyz", tmp_path, expected_molecules=12)
    assert_plain(store, cases, tmp_path)
    left_out = store.manifest.rejected
    assert [one.record for one in left_out] == ["0", "1", "2"]
    assert all(one.reason.startswith(ISOLATED_ATOM) for one in left_out)
    assert left_out[0].reason.endswith("energy: {H: -13.587222780835477} eV")
    assert store.ids.tolist() == list(range(3, 15))


def test_periodic_frames(cases: Path, tmp_path: Path) -> None:
    file = cases / "xyz/periodic_wrapped.xyz"
    with pytest.raises(DataError, match=r'record 0: pbc="T T T": a periodic frame'):
        frames(file, tmp_path / "a")
    untold = tmp_path / "untold.xyz"
    lattice = 'Lattice="7.0 0 0 0 7.0 0 0 0 7.0"'
    untold.write_text(file.read_text().replace('pbc="T T T"', "").replace(lattice, ""))
    with pytest.raises(DataError, match=r"untold\.xyz, record 0: (is in . pieces|bond_ratio)"):
        frames(untold, tmp_path / "b")


def test_each_store_holds_its_own_files_numbers(cases: Path, tmp_path: Path) -> None:
    files = {"one": local(cases / "names/md.xyz"), "other": local(cases / "names/md.xyz@3")}
    found = load(card("frames", files, raw_units=EV))
    stores = {role: store_of(found, tmp_path / role, role) for role in files}
    assert stores["one"].labels["energy"][0] == -4214.80450849
    assert stores["other"].labels["energy"][0] == -4214.30450849
    assert len(stores["one"]) == len(stores["other"]) == 12


def test_npz(cases: Path, tmp_path: Path) -> None:
    store = frames(cases / "npz/ETHANOL.NPZ", tmp_path / "a")
    assert len(store) == 12
    other = frames(cases / "npz/zfloat.npz", tmp_path / "b")
    assert np.array_equal(other.z, store.z)
    with pytest.raises(DataError, match=r"ethanol_z_object\.npz: .*array z holds Python objects"):
        frames(cases / "npz/ethanol_z_object.npz", tmp_path / "c")


@pytest.mark.parametrize("name", ["good", "title_V2000", "molfile_in_data_item"])
def test_eight_records(cases: Path, tmp_path: Path, name: str) -> None:
    pytest.importorskip("rdkit.Chem")
    good = records(cases / "sdf/good.sdf", tmp_path / "good")
    store = records(cases / f"sdf/{name}.sdf", tmp_path / name)
    assert store.ids.tolist() == list(range(8))
    assert np.array_equal(store.z, good.z)
    assert np.array_equal(store.pos, good.pos)
    assert store.manifest.counts.rejected == 0


def test_flat_and_bad_records(cases: Path, tmp_path: Path) -> None:
    pytest.importorskip("rdkit.Chem")
    with pytest.raises(DataError, match=r"flat2D\.sdf, record 0: a 2D drawing .*title 'CCO'"):
        records(cases / "sdf/flat2D.sdf", tmp_path / "a")
    bad = cases / "sdf/one_bad.sdf"
    with pytest.raises(DataError, match=r"one_bad\.sdf, record 0: RDKit cannot read it: element"):
        records(bad, tmp_path / "b")
    both = tmp_path / "both.sdf"
    both.write_text(bad.read_text() + (cases / "sdf/good.sdf").read_text())
    store = records(both, tmp_path / "c", max_rejected=1)
    assert store.ids.tolist() == list(range(1, 9))
    with pytest.raises(DataError, match="no molecules were written"):
        records(bad, tmp_path / "d", max_rejected=1)


def test_archives(cases: Path, tmp_path: Path) -> None:
    for name, said in (
        ("gz_plainnamed.sdf.gz", "is not gzip, though its name says so"),
        ("gz_garbage.sdf.gz", "then other bytes follow the gzip data"),
    ):
        with pytest.raises(FetchError, match=said):
            records(cases / f"archives/{name}", tmp_path / name)


@pytest.mark.parametrize(
    ("reader", "name"), [("qm9_xyz", "mac.xyz.tar.bz2"), ("gdb9", "gdb9_mac.tar.gz")]
)
def test_archives_of_a_mac(cases: Path, tmp_path: Path, reader: str, name: str) -> None:
    given = card(reader, {"archive": local(cases / "archives" / name)}, kind="properties")
    given |= {"targets": {"u0": {}}, "units": {"u0": "eV"}, "ranges": {}}
    store = store_of(load(given, "property"), tmp_path)
    assert store.ids.tolist() == list(range(1, 13))


# ---- configurations ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("dup", r"dup\.yaml, line 16: key 'finetune' is given twice"),
        ("int", r"int\.yaml, line 15: key 300 is read as 300; .* write \"300\""),
        ("no", r"no\.yaml, line 15: key NO is read as False; .* write \"NO\""),
        ("dot", r"datasets\.mine\.sources\.local\.files\.T300\.5: name is 'T300\.5'; must be "),
        ("slash", r"datasets\.mine\.sources\.local\.files\.a/b: name is 'a/b'; must be letters"),
        ("space", r"datasets\.mine\.sources\.local\.files\.my molecule: name is 'my molecule'"),
    ],
)
def test_configurations_that_are_refused(cases: Path, name: str, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        Experiments.load(ROOT / "config", read_mapping(cases / f"config/{name}.yaml"))


def test_lists_of_rows_of_ones_own(cases: Path, tmp_path: Path) -> None:
    """From two files of one's own to the published split."""
    given = read_mapping(cases / "config/index.yaml")
    source = given["datasets"]["mine"]["sources"]["local"]
    for file in (source["files"]["ethanol"], *source["indices"].values()):
        file["local"] = str(cases / "config" / Path(file["local"]).name)
    found = Experiments.load(ROOT / "config", given)
    store = store_of(found, tmp_path, "ethanol")
    plan = found.data.split_plan("mine", "ethanol_official")
    for rows in plan.indices.values():
        place = tmp_path / "raw" / rows.name
        fetch(found.data.card_file("mine", rows.name), place, offline=True)
    made = make_split(plan.as_json(), store.path, tmp_path / "s.npz", tmp_path / "raw")
    assert made["counts"] == {"train": 8, "val": 2, "test": 10}
    split = read_split(tmp_path / "s.npz")
    for ids, name in ((np.concatenate([split.train, split.val]), "train"), (split.test, "test")):
        rows_of = [int(row) for row in (cases / f"config/{name}.csv").read_text().split()]
        assert sorted(ids.tolist()) == sorted(store.ids[rows_of].tolist())
    (tmp_path / "raw/train.csv").write_text("1\n2\n")
    with pytest.raises(DataError, match=r"train\.csv: holds 4 bytes, expected"):
        make_split(plan.as_json(), store.path, tmp_path / "s.npz", tmp_path / "raw")
