"""Splits: the lineage's QM9 permutation, sizes, hashes, overlap and leak report."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from georecon.data.elements import COVALENT_RADIUS, SYMBOLS
from georecon.data.manifest import Source
from georecon.data.molecules import Molecules
from georecon.data.split import (
    Split,
    count_leaks,
    leak_report,
    pretrain_split,
    qm9_split,
    random_split,
    read_split,
    write_split,
)
from georecon.data.store import Store, StoreWriter
from georecon.data.structure_key import stored_keys, structure_keys
from georecon.errors import ConfigError, DataError

META = {"rule": "toy", "seed": 1, "store_sha256": "0" * 64}


def small(*parts: list[int]) -> Split:
    return Split(*(np.array(ids) for ids in parts))


# Any 130,831 ids do for sizes and order.
IDS = np.arange(130_831) * 3 + 7


def test_qm9_sizes_and_disjointness() -> None:
    split = qm9_split(IDS)
    assert split.counts() == {"train": 110_000, "val": 10_000, "test": 10_831}
    together = np.concatenate([split.train, split.val, split.test])
    assert np.array_equal(np.sort(together), IDS)


def test_qm9_is_the_permutation_of_the_lineage() -> None:
    order = np.random.default_rng(seed=1).permutation(np.arange(130_831))
    split = qm9_split(IDS[::-1])
    assert np.array_equal(split.train, IDS[order[:110_000]])
    assert np.array_equal(split.val, IDS[order[110_000:120_000]])
    assert np.array_equal(split.test, IDS[order[120_000:]])


def test_smaller_qm9_is_the_beginning_of_each_part() -> None:
    whole, small = qm9_split(IDS), qm9_split(IDS, 1000, 200, 300)
    assert small.counts() == {"train": 1000, "val": 200, "test": 300}
    for name in ("train", "val", "test"):
        part = getattr(small, name)
        assert np.array_equal(part, getattr(whole, name)[: len(part)])


def test_qm9_refuses_other_sizes() -> None:
    with pytest.raises(ConfigError, match="130831 molecules, got 130830"):
        qm9_split(IDS[1:])
    with pytest.raises(ConfigError, match="test: 10832 molecules wanted, allowed 0 to 10831"):
        qm9_split(IDS, n_test=10_832)
    with pytest.raises(ConfigError, match="only 130830 different"):
        qm9_split(np.append(IDS[1:], IDS[5]))


def test_random_split() -> None:
    ids = np.arange(2000)
    split = random_split(ids, 950, 50, None, seed=3)
    assert split.counts() == {"train": 950, "val": 50, "test": 1000}
    assert len(np.unique(np.concatenate([split.train, split.val, split.test]))) == 2000
    again = random_split(ids[::-1], 950, 50, 100, seed=3)
    assert np.array_equal(again.train, split.train)
    assert np.array_equal(again.test, split.test[:100])
    assert not np.array_equal(random_split(ids, 950, 50, None, seed=4).train, split.train)


def test_random_split_of_too_few_says_the_numbers() -> None:
    with pytest.raises(ConfigError, match=r"1000 molecules.*950 train \+ 50 val \+ at least 1"):
        random_split(np.arange(1000), 950, 50, None, seed=0)
    with pytest.raises(ConfigError, match=r"10 molecules.*5 train \+ 3 val \+ 3 test = 11"):
        random_split(np.arange(10), 5, 3, 3, seed=0)
    with pytest.raises(ConfigError, match="negative"):
        random_split(np.arange(10), -1, 3, 3, seed=0)


def test_pretrain_split_leaves_out_what_it_must() -> None:
    fine = qm9_split(IDS, 1000, 200, 300)
    split = pretrain_split(IDS, 100, 5, [fine.val, fine.test])
    assert split.counts() == {"train": 130_831 - 600, "val": 100, "test": 0}
    everything = np.concatenate([split.train, split.val])
    for name, shared in (("train", 1000), ("val", 0), ("test", 0)):
        assert np.isin(getattr(fine, name), everything).sum() == shared
    few = pretrain_split(IDS, 100, 5, [fine.val, fine.test], n_train=50)
    assert np.array_equal(few.train, split.train[:50])
    with pytest.raises(ConfigError, match="5 of 10 molecules are left"):
        pretrain_split(np.arange(10), 5, 0, [np.arange(5)])


def test_written_split_reads_back(tmp_path: Path) -> None:
    split = random_split(np.arange(100), 50, 20, None, seed=0)
    described = write_split(tmp_path / "a.npz", split, META)
    again = read_split(tmp_path / "a.npz")
    for name in ("train", "val", "test"):
        assert np.array_equal(getattr(again, name), getattr(split, name))
    assert described == json.loads((tmp_path / "a.json").read_text())
    assert described["counts"] == {"train": 50, "val": 20, "test": 30}
    assert described["rule"] == "toy"
    write_split(tmp_path / "b.npz", split, META)
    assert (tmp_path / "a.npz").read_bytes() == (tmp_path / "b.npz").read_bytes()
    assert (tmp_path / "a.json").read_bytes() == (tmp_path / "b.json").read_bytes()


def test_overlapping_parts_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"record 2: id occurs twice \(in train, test\)"):
        write_split(tmp_path / "a.npz", small([1, 2], [3], [4, 2]), META)
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(ConfigError, match=r"lacks .*store_sha256"):
        write_split(tmp_path / "a.npz", small([1], [2], [3]), {"rule": "x", "seed": 0})


def test_changed_split_is_refused(tmp_path: Path) -> None:
    write_split(tmp_path / "a.npz", small([1, 2], [3], [4]), META)
    data = bytearray((tmp_path / "a.npz").read_bytes())
    data[130] ^= 1
    (tmp_path / "a.npz").write_bytes(data)
    with pytest.raises(DataError, match=r"a\.npz: sha256"):
        read_split(tmp_path / "a.npz")
    (tmp_path / "a.json").unlink()
    with pytest.raises(DataError, match=r"a\.npz: no readable split"):
        read_split(tmp_path / "a.npz")


def test_covalent_radii_equal_those_of_ase() -> None:
    ase = pytest.importorskip("ase.data")
    np.testing.assert_allclose(COVALENT_RADIUS[1:97], ase.covalent_radii[1:97], rtol=1e-6)
    assert list(SYMBOLS) == ase.chemical_symbols[1:101]


def shuffled(molecules: Molecules, seed: int) -> Molecules:
    """The same molecules, atoms in another order, rotated, reflected and shaken by 0.01 Å."""
    rng = np.random.default_rng(seed)
    z, pos = [], []
    for i in range(len(molecules)):
        atoms = np.arange(molecules.offsets[i], molecules.offsets[i + 1])
        rng.shuffle(atoms)
        rotation, _ = np.linalg.qr(rng.normal(size=(3, 3)))
        z.append(molecules.z[atoms])
        pos.append(molecules.pos[atoms] @ rotation + rng.normal(scale=0.01, size=(len(atoms), 3)))
    return Molecules.from_list(molecules.ids + 1_000_000, z, pos)


def test_key_knows_a_molecule_again(qm9: Molecules) -> None:
    some = qm9.keep(np.arange(len(qm9)) % 500 == 0)
    keys, again = structure_keys(some), structure_keys(shuffled(some, 0))
    assert (keys == again).mean() > 0.98
    assert len(np.unique(keys)) == len(some)


def test_key_tells_qm9_apart(qm9: Molecules) -> None:
    assert len(np.unique(structure_keys(qm9))) > 130_600


def test_key_of_small_cases() -> None:
    one = Molecules.from_list(
        [0, 1, 2], [[2], [8], [1, 1]], [np.zeros((1, 3))] * 2 + [np.eye(3)[:2]]
    )
    assert len(set(structure_keys(one).tolist())) == 3


def test_leak_report_counts_shared_molecules(tmp_path: Path, qm9: Molecules) -> None:
    def store(name: str, molecules: Molecules) -> Store:
        head: dict[str, Any] = {"dataset": name, "source": Source(), "units": {}}
        with StoreWriter(tmp_path / name, **head) as writer:
            writer.append(molecules)
        return Store.open(tmp_path / name)

    rows = np.arange(len(qm9))
    first, second = qm9.keep(rows % 1000 == 0), qm9.keep(rows % 1000 == 1)
    part = shuffled(first.keep(np.arange(len(first)) < 30), 1)
    seen = Molecules.concatenate([part, Molecules.from_list([1], [[1, 1]], [np.eye(3)[:2]])])
    test, pretrain = store("test", first), store("pretrain", seen)
    report = leak_report(test, range(len(test)), pretrain, range(len(pretrain)))
    assert report.test_molecules == 131
    assert report.pretrain_molecules == 31
    assert 28 <= report.shared <= 30
    assert report.shared_fraction == report.shared / 131
    other = store("other", second)
    assert leak_report(other, range(131), pretrain, range(31)).shared <= 1
    assert leak_report(test, [], pretrain, []).shared_fraction == 0.0


@pytest.mark.parametrize(("chunk", "workers"), [(1, 1), (7, 2), (1000, 1)])
def test_keys_of_a_store_are_those_of_its_molecules_in_the_order_asked_for(
    chunk: int, workers: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rng = np.random.default_rng(3)
    sizes = rng.integers(2, 9, size=40)
    z = [rng.choice([1, 6, 8], size=n) for n in sizes]
    molecules = Molecules.from_list(np.arange(40), z, [rng.uniform(0, 3, (n, 3)) for n in sizes])
    with StoreWriter(tmp_path / "s", dataset="toy", source=Source(), units={}) as writer:
        writer.append(molecules)
    store, rows = Store.open(tmp_path / "s"), rng.permutation(40)[:33]
    monkeypatch.setattr("georecon.data.structure_key.KEY_CHUNK", chunk)
    found = stored_keys(store, rows, workers)
    assert np.array_equal(found, structure_keys(molecules)[rows])
    assert not np.array_equal(found, structure_keys(molecules)[np.sort(rows)])  # the twin
    assert stored_keys(store, []).shape == (0,)


@pytest.mark.parametrize(("test", "seen"), [(300, 5000), (5000, 300), (20, 0), (0, 20)])
def test_leaks_are_counted_as_sets_would_count_them(test: int, seen: int) -> None:
    rng = np.random.default_rng(test)
    wanted, known = (rng.integers(0, 4000, n).astype(np.uint64) << 50 for n in (test, seen))
    report = count_leaks("toy", wanted, known)
    of = {*known.tolist()}
    assert report.shared == sum(key in of for key in wanted.tolist())
    assert report.pretrain_distinct_keys == len(of)
    assert report.test_distinct_keys == len({*wanted.tolist()})
    assert (report.test_molecules, report.pretrain_molecules) == (test, seen)
