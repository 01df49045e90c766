"""Stores: round trip, identity, damage, refusals, atomicity."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from toy_molecules import make_molecules

from georecon.data.molecules import Molecules, Rejected
from georecon.data.store import Store, StoreWriter
from georecon.errors import DataError

UNITS = {"pos": "Å", "energy": "eV", "forces": "eV/Å"}


def write(path: Path, *chunks: Molecules, rejected: tuple[Rejected, ...] = ()) -> Store:
    with StoreWriter(path, dataset="toy", source={"source": "code"}, units=UNITS) as writer:
        for chunk in chunks:
            writer.append(chunk)
        for one in rejected:
            writer.reject(one)
    return Store.open(path)


def test_round_trip_over_chunks(tmp_path: Path) -> None:
    first, second = make_molecules(10), make_molecules(20, seed=1)
    store = write(tmp_path / "s", first, second)
    whole = Molecules.concatenate([first, second])
    got = store.gather(np.arange(len(store)))
    assert np.array_equal(got.ids, [10, 12, 11, 20, 22, 21])
    for name in ("ids", "z", "pos", "offsets", "forces"):
        assert np.array_equal(getattr(got, name), getattr(whole, name)), name
        assert getattr(got, name).dtype == getattr(whole, name).dtype
    assert np.array_equal(got.labels["energy"], whole.labels["energy"])


def test_gather_in_any_order_with_repeats(tmp_path: Path) -> None:
    chunk = make_molecules()
    store = write(tmp_path / "s", chunk)
    rows = store.rows([11, 10, 11])
    got = store.gather(rows)
    assert np.array_equal(rows, [2, 0, 2])
    assert np.array_equal(got.n_atoms(), [5, 1, 5])
    assert np.array_equal(got.pos[:5], chunk.pos[4:9])
    assert np.array_equal(got.pos[6:], chunk.pos[4:9])
    assert np.array_equal(store.n_atoms(rows), [5, 1, 5])


def test_gather_of_nothing(tmp_path: Path) -> None:
    assert len(write(tmp_path / "s", make_molecules()).gather([])) == 0


def test_arrays_are_read_only_maps(tmp_path: Path) -> None:
    store = write(tmp_path / "s", make_molecules())
    assert isinstance(store.pos, np.memmap)
    with pytest.raises(ValueError, match="read-only"):
        store.pos[0] = 0.0


def test_same_input_gives_same_bytes(tmp_path: Path) -> None:
    one = write(tmp_path / "a", make_molecules(), make_molecules(20))
    two = write(tmp_path / "b", Molecules.concatenate([make_molecules(), make_molecules(20)]))
    assert one.manifest == two.manifest
    assert (tmp_path / "a/manifest.json").read_bytes() == (
        tmp_path / "b/manifest.json"
    ).read_bytes()
    assert one.sha256 != write(tmp_path / "c", make_molecules(seed=3)).sha256


def test_manifest_says_what_is_inside(tmp_path: Path) -> None:
    store = write(tmp_path / "s", make_molecules(), rejected=(Rejected("7", "no atoms"),))
    manifest = store.manifest
    assert manifest["counts"] == {"molecules": 3, "atoms": 9, "rejected": 1}
    assert manifest["rejected"] == [{"record": "7", "reason": "no atoms"}]
    assert manifest["elements"] == [1, 6, 8]
    assert manifest["dataset"] == "toy"
    assert manifest["units"] == UNITS
    assert set(manifest["files"]) == {
        f"{name}.npy" for name in ("ids", "z", "pos", "offsets", "labels_energy", "forces")
    }


@pytest.mark.parametrize("name", ["ids", "z", "pos", "offsets", "labels_energy", "forces"])
def test_flipped_bit_is_found_by_verify(tmp_path: Path, name: str) -> None:
    write(tmp_path / "s", make_molecules())
    file = tmp_path / "s" / f"{name}.npy"
    data = bytearray(file.read_bytes())
    data[-3] ^= 4
    file.write_bytes(data)
    Store.open(tmp_path / "s")
    with pytest.raises(DataError, match=rf"{name}\.npy.*sha256"):
        Store.open(tmp_path / "s", verify=True)


def test_truncated_array_is_refused_at_once(tmp_path: Path) -> None:
    write(tmp_path / "s", make_molecules())
    file = tmp_path / "s" / "pos.npy"
    file.write_bytes(file.read_bytes()[:-4])
    with pytest.raises(DataError, match=r"pos\.npy"):
        Store.open(tmp_path / "s")


def test_missing_array_and_missing_store(tmp_path: Path) -> None:
    write(tmp_path / "s", make_molecules())
    (tmp_path / "s" / "z.npy").unlink()
    for verify in (False, True):
        with pytest.raises(DataError, match=r"z\.npy"):
            Store.open(tmp_path / "s", verify=verify)
    with pytest.raises(DataError, match=r"nowhere.*no readable store"):
        Store.open(tmp_path / "nowhere")


def test_other_format_version_is_refused(tmp_path: Path) -> None:
    write(tmp_path / "s", make_molecules())
    file = tmp_path / "s" / "manifest.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "format_version": 99}))
    with pytest.raises(DataError, match="format 99"):
        Store.open(tmp_path / "s")


def test_unknown_id_is_named(tmp_path: Path) -> None:
    store = write(tmp_path / "s", make_molecules())
    with pytest.raises(DataError, match="record 99: unknown molecule id"):
        store.rows([10, 99])
    with pytest.raises(DataError, match=r"row 3 outside the allowed 0\.\.2"):
        store.gather([3])


BROKEN: list[tuple[str, dict[str, Any], str]] = [
    ("nan position", {"pos": np.full((9, 3), np.nan, np.float32)}, "record 10: positions.*NaN"),
    ("inf force", {"forces": np.full((9, 3), np.inf)}, "record 10: forces.*NaN"),
    ("nan label", {"labels": {"energy": np.array([1.0, np.nan, 2.0])}}, "record 12: label energy"),
    ("element 0", {"z": np.array([8, 8, 1, 1, 6, 1, 1, 1, 0], np.uint8)}, "record 11: unknown el"),
    ("element 101", {"z": np.array([8, 8, 101] + [1] * 6, np.uint8)}, "record 12: unknown el"),
    ("short forces", {"forces": np.zeros((8, 3))}, "forces have shape"),
    ("label shape", {"labels": {"energy": np.zeros(2)}}, "label energy has shape"),
    ("no atoms", {"offsets": np.array([0, 0, 4, 9])}, "record 10: no atoms"),
    ("duplicate id", {"ids": np.array([5, 6, 5])}, "record 5: id occurs more than once"),
]


@pytest.mark.parametrize(("change", "message"), [b[1:] for b in BROKEN], ids=[b[0] for b in BROKEN])
def test_unusable_chunk_is_refused_and_nothing_left(
    tmp_path: Path, change: dict[str, Any], message: str
) -> None:
    with pytest.raises(DataError, match=message):
        write(tmp_path / "s", replace(make_molecules(), **change))
    assert list(tmp_path.iterdir()) == []


def test_chunks_must_carry_the_same_columns(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="record 20: columns"):
        write(tmp_path / "s", make_molecules(), make_molecules(20, forces=False))


def test_failure_keeps_the_older_store(tmp_path: Path) -> None:
    before = write(tmp_path / "s", make_molecules()).sha256
    with pytest.raises(DataError):
        write(tmp_path / "s", make_molecules(30), make_molecules(30))
    assert Store.open(tmp_path / "s", verify=True).sha256 == before
    assert [path.name for path in tmp_path.iterdir()] == ["s"]


def test_writing_again_replaces(tmp_path: Path) -> None:
    write(tmp_path / "s", make_molecules())
    store = write(tmp_path / "s", make_molecules(40, forces=False))
    assert store.forces is None
    assert not (tmp_path / "s" / "forces.npy").exists()
    assert [path.name for path in tmp_path.iterdir()] == ["s"]


def test_empty_store_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no molecules"):
        write(tmp_path / "s")
