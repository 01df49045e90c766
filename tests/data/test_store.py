"""Stores: round trip, identity, damage, refusals, atomicity."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from georecon.data.manifest import Counts, Source
from georecon.data.molecules import Molecules, Rejected
from georecon.data.store import Store, StoreWriter
from georecon.errors import DataError
from tests.data.toy_molecules import make_molecules

UNITS = {"pos": "Å", "energy": "eV", "forces": "eV/Å"}


def write(path: Path, *chunks: Molecules, rejected: tuple[Rejected, ...] = ()) -> Store:
    with StoreWriter(path, dataset="toy", source=Source(source="code"), units=UNITS) as writer:
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


def test_gather_takes_the_labels_that_it_is_asked_for(tmp_path: Path) -> None:
    store = write(tmp_path / "s", make_molecules())
    assert store.gather([0], ()).labels == {}
    assert list(store.gather([0], ("energy",)).labels) == ["energy"]
    with pytest.raises(KeyError):
        store.gather([0], ("charge",))


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
    assert manifest.counts == Counts(molecules=3, atoms=9, rejected=1)
    assert manifest.rejected == (Rejected("7", "no atoms"),)
    assert manifest.elements == (1, 6, 8)
    assert manifest.dataset == "toy"
    assert manifest.units == UNITS
    assert set(manifest.files) == {
        f"{name}.npy" for name in ("ids", "z", "pos", "offsets", "labels_energy", "forces", "order")
    }


@pytest.mark.parametrize("name", ["ids", "z", "pos", "offsets", "labels_energy", "forces", "order"])
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
    with pytest.raises(DataError, match=r"format 99, this code reads 2; delete .*and run"):
        Store.open(tmp_path / "s")


@pytest.mark.parametrize(
    "change",
    [{"counts": 3}, {"files": []}, {"files": {"z.npy": {"sha256": "0"}}}, {"rejected": [1]},
     {"source": {"unknown": 1}}],
)  # fmt: skip
def test_manifest_of_another_form_is_refused(tmp_path: Path, change: dict[str, object]) -> None:
    write(tmp_path / "s", make_molecules())
    file = tmp_path / "s" / "manifest.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), **change}))
    with pytest.raises(DataError, match=r"manifest\.json: no whole manifest"):
        Store.open(tmp_path / "s")


def test_rows_of_ids_in_any_order(tmp_path: Path) -> None:
    """Also where they increase within chunks only; ids that increase need no second array."""
    rng = np.random.default_rng(0)
    ids = rng.permutation(9_000)[:3_000]
    for name, wanted in (("sorted", np.sort(ids)), ("mixed", ids)):
        chunks = [replace(make_molecules(), ids=part) for part in wanted.reshape(-1, 3)]
        store = write(tmp_path / name, *chunks)
        assert (tmp_path / name / "order.npy").exists() == (name == "mixed")
        asked = rng.permutation(wanted)
        assert np.array_equal(store.ids[store.rows(asked)], asked)
        absent = int(np.setdiff1d(np.arange(9_000), ids)[7])
        for unknown in (absent, -1, 9_000):
            with pytest.raises(DataError, match=f"record {unknown}: unknown molecule id \\(1 of 2"):
                store.rows([int(ids[0]), unknown])
    halves = make_molecules(10), make_molecules(5)
    increasing = [replace(half, ids=np.sort(half.ids)) for half in halves]
    assert write(tmp_path / "halves", *increasing).rows([5, 12]).tolist() == [3, 2]


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


# In a process of its own. "eager" and "dictionary" are broken twins of the store.
MEMORY = """
import json, sys
from pathlib import Path
import numpy as np
from georecon.data.manifest import Source
from georecon.data.molecules import Molecules
from georecon.data.store import Store, StoreWriter

folder, molecules, twin = Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3]

def resident():
    status = Path("/proc/self/status").read_text()
    pick = lambda key: int(status.split(key + ":")[1].split()[0]) / 1024
    return np.array([pick("RssAnon"), pick("RssFile"), pick("VmHWM")])

def write():
    sizes = np.arange(50_000) % 8 + 1
    offsets = np.concatenate([[0], np.cumsum(sizes)])
    rng = np.random.default_rng(0)
    z = rng.integers(1, 10, offsets[-1]).astype(np.uint8)
    pos = rng.normal(size=(offsets[-1], 3)).astype(np.float32)
    with StoreWriter(folder, dataset="toy", source=Source(), units={"pos": "Å"}) as writer:
        for first in range(0, molecules, 50_000):
            ids = 7 * np.arange(first, first + 50_000)
            writer.append(Molecules(ids=ids, z=z, pos=pos, offsets=offsets, labels={"y": ids / 2}))

def read():
    started = resident()
    if twin == "eager":
        load = np.load
        np.load = lambda file, mmap_mode=None, allow_pickle=False: load(file)
    store = Store.open(folder)
    if twin == "dictionary":
        row_of = {int(one): row for row, one in enumerate(store.ids)}
        store.rows = lambda ids: np.array([row_of[int(one)] for one in ids])
    opened = resident()
    rng = np.random.default_rng(1)
    for _ in range(5):
        ids = 7 * rng.integers(0, molecules, 16)
        got = store.gather(store.rows(ids))
        assert np.array_equal(got.ids, ids) and np.array_equal(got.labels["y"], ids / 2)
        assert np.array_equal(got.n_atoms(), ids // 7 % 8 + 1)
    return {"opened": list(opened - started), "read": list(resident() - opened)}

if not folder.exists():
    write()
    print(json.dumps({"peak": resident()[2]}))
else:
    print(json.dumps(read()))
"""


def measure(folder: Path, molecules: int, twin: str = "none") -> dict[str, Any]:
    if not Path("/proc/self/status").exists():
        pytest.skip("needs Linux's /proc for the memory of a process")
    command = [sys.executable, "-c", MEMORY, str(folder), str(molecules), twin]
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(command, check=True, capture_output=True, text=True, env=env)
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def check_memory(found: dict[str, Any]) -> None:
    """MiB that opening and reading 80 molecules take.

    Own memory, and pages of the files: those are the kernel's cache, shared by all processes and
    taken back when memory runs short; it maps 64 KiB around each place that is read.
    """
    own, mapped, _ = found["opened"]
    assert own < 4
    assert mapped < 4
    own, mapped, _ = found["read"]
    assert own < 4
    assert mapped < 120


@pytest.fixture(scope="module")
def large_store(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, float]:
    """A store of three million molecules, and the writer's peak memory [MiB]."""
    folder = tmp_path_factory.mktemp("large") / "store"
    return folder, measure(folder, 3_000_000)["peak"]


def test_memory_does_not_grow_with_the_store(large_store: tuple[Path, float]) -> None:
    check_memory(measure(large_store[0], 3_000_000))


@pytest.mark.parametrize("twin", ["eager", "dictionary"])
def test_stores_that_load_everything_fail_the_check(
    large_store: tuple[Path, float], twin: str
) -> None:
    with pytest.raises(AssertionError):
        check_memory(measure(large_store[0], 3_000_000, twin))


def test_memory_of_the_writer_does_not_grow(
    large_store: tuple[Path, float], tmp_path: Path
) -> None:
    assert large_store[1] - measure(tmp_path / "s", 150_000)["peak"] < 8
