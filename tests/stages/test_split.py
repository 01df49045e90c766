"""Splits from files and from published lists, and what pre-training must not see."""

from __future__ import annotations

import hashlib
import io
import tarfile
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from georecon.data.cards import FILE_STRIDE
from georecon.data.manifest import Source
from georecon.data.molecules import Molecules
from georecon.data.split import (
    Split,
    draw_train,
    qm9_split,
    random_split,
    read_split,
    write_split,
)
from georecon.data.store import Store, StoreWriter
from georecon.errors import ConfigError, DataError
from georecon.files import read_json
from georecon.stages.preprocess import preprocess
from georecon.stages.split import ids_of_role, make_split, write_leak_report

META = {"rule": "toy", "seed": 1, "store_sha256": "0" * 64}

# sha256 of the parts that torchmd-net 3.1 makes, as little-endian int64:
#   torchmdnet.utils.train_val_test_split(130831, 110000, 10000, 10831, seed=1)
LINEAGE = {
    "train": (110_000, "19e8be03085c017f75a34cdb792d60a766befe8b7abe7f50dc7d3c2aea3f3a77"),
    "val": (10_000, "95195c95f2995a543553fc285bbf8a8c13870ca42557f06e6be0b1a3f25ebae6"),
    "test": (10_831, "2a44b229d8bff3bcd87a4eeead29d5ef9faa384a34c2320d34ff6657e36e65d0"),
}


def test_qm9_split_is_torchmd_nets(qm9: Molecules) -> None:
    """Ids in the order of the lineage's dataset: gdb index, uncharacterized left out."""
    split = qm9_split(qm9.ids)
    place = np.full(133_886, -1, dtype="<i8")
    place[qm9.ids] = np.arange(len(qm9))
    for name, (size, digest) in LINEAGE.items():
        rows = place[getattr(split, name)]
        assert len(rows) == size
        assert hashlib.sha256(rows.tobytes()).hexdigest() == digest, name
    other = qm9_split(qm9.ids, seed=2)
    assert hashlib.sha256(place[other.test].tobytes()).hexdigest() != LINEAGE["test"][1]


@pytest.mark.parametrize(("train", "val"), [(950, 50), (9500, 500)])
def test_sizes_of_md17(train: int, val: int) -> None:
    split = random_split(np.arange(20_000), train, val, None, seed=1)
    assert split.counts() == {"train": train, "val": val, "test": 20_000 - train - val}
    with pytest.raises(ConfigError, match=f"are too few for {train} train"):
        random_split(np.arange(train + val), train, val, None, seed=1)


def test_named_parts_are_kept_and_must_be_the_test_set(tmp_path: Path) -> None:
    parts = {"300K": np.array([5, 4]), "600K": np.array([7])}
    split = Split(np.array([1, 2]), np.array([3]), np.array([4, 5, 7]), parts)
    described = write_split(tmp_path / "a.npz", split, META)
    assert described["test_parts"] == {"300K": 2, "600K": 1}
    assert described["format_version"] == 1
    again = read_split(tmp_path / "a.npz")
    assert list(again.test_parts) == ["300K", "600K"]
    assert again.test_parts["300K"].tolist() == [5, 4]
    for wrong in ({"300K": np.array([5, 4])}, {"a": np.array([4, 5]), "b": np.array([5, 7])}):
        with pytest.raises(DataError, match=r"test parts|id occurs twice"):
            write_split(tmp_path / "b.npz", Split(split.train, split.val, split.test, wrong), META)


def store_3bpa(cards: dict[str, Any], mirror: Path, folder: Path, *names: str) -> Store:
    """A store of 3BPA files, the first of which trains."""
    raw = folder / "raw"
    raw.mkdir(parents=True)
    files = {}
    for name in names:
        (path,) = mirror.rglob(f"3bpa/**/{name}.xyz")
        (raw / path.name).symlink_to(path)
        files[name] = {"name": path.name}
    parts = {"3bpa": {"train": names[0], "test": {name: name for name in names[1:]}}}
    source = {"reader": "frames", "files": files, "parts": parts}
    card = {**cards["3bpa"], "default_source": "x", "sources": {"x": source}}
    preprocess(card, raw, folder / "store", "3bpa")
    return Store.open(folder / "store")


def plan_3bpa(*names: str, **more: Any) -> dict[str, Any]:
    files = {"train": names[0], "test": {name: name for name in names[1:]}}
    return {
        "rule": "files",
        "store": "x",
        "train": 450,
        "val": 50,
        "seed": 1,
        "files": files,
        **more,
    }


SLICES = (
    "train_300K",
    "mixedT_frames168-334_inferred_600K",
    "mixedT_frames335-500_inferred_1200K",
)


def test_3bpa_slices_do_not_leak(cards: dict[str, Any], mirror: Path, tmp_path: Path) -> None:
    store = store_3bpa(cards, mirror, tmp_path, *SLICES)
    described = make_split(plan_3bpa(*SLICES), store.path, tmp_path / "s.npz", tmp_path)
    assert described["counts"] == {"train": 450, "val": 50, "test": 333}
    assert described["test_parts"] == {SLICES[1]: 167, SLICES[2]: 166}
    assert set(described["test_frames_also_in_training_file"].values()) == {0}
    split = read_split(tmp_path / "s.npz")
    assert np.isin(split.train, ids_of_role(store, "train_300K")).all()
    assert (split.test >= FILE_STRIDE).all()
    assert np.array_equal(split.test_parts[SLICES[1]] - FILE_STRIDE, np.arange(167))


def test_frames_of_the_training_file_are_left_out_of_a_test_file(
    cards: dict[str, Any], mirror: Path, tmp_path: Path
) -> None:
    """31 of the 500 frames of train_mixedT are also in train_300K, says PROVENANCE.md."""
    names = ("train_300K", "train_mixedT")
    store = store_3bpa(cards, mirror, tmp_path, *names)
    described = make_split(plan_3bpa(*names), store.path, tmp_path / "s.npz", tmp_path)
    assert described["test_frames_also_in_training_file"] == {"train_mixedT": 31}
    assert described["counts"]["test"] == 500 - 31
    split = read_split(tmp_path / "s.npz")
    frames = {name: set() for name in ("train", "val", "test")}  # type: ignore[var-annotated]
    for name, seen in frames.items():
        part = store.gather(store.rows(getattr(split, name)))
        seen |= {one.tobytes() for one in part.pos.reshape(-1, 27 * 3)}
    assert not frames["test"] & (frames["train"] | frames["val"])


def test_too_few_frames_are_refused(cards: dict[str, Any], mirror: Path, tmp_path: Path) -> None:
    store = store_3bpa(cards, mirror, tmp_path, *SLICES)
    out = tmp_path / "s.npz"
    with pytest.raises(ConfigError, match=r"500 molecules .* too few for 50 val \+ 451 train"):
        make_split(plan_3bpa(*SLICES, train=451), store.path, out, tmp_path)
    with pytest.raises(DataError, match="has no file 'test_300K'; it has: train_300K"):
        make_split(plan_3bpa("train_300K", "test_300K"), store.path, out, tmp_path)
    with pytest.raises(ConfigError, match="nothing to test on"):
        make_split(plan_3bpa("train_300K"), store.path, out, tmp_path)
    assert not out.exists()


# ---- rMD17 ------------------------------------------------------------------------------------


@pytest.fixture
def rmd17(mirror: Path, tmp_path: Path) -> Path:
    """The official archive's layout around real frames: uracil's 2,000 of split 01, shuffled."""
    rng = np.random.default_rng(0)
    halves = []
    for part in ("train", "test"):
        with np.load(mirror / f"rmd17/rmd17-npz/rmd17_uracil_{part}_01.npz") as data:
            halves.append({name: data[name] for name in data.files})
    order = rng.permutation(2000)
    whole = {
        name: halves[0][name]
        if name == "nuclear_charges"
        else np.concatenate([half[name] for half in halves])[order]
        for name in halves[0]
    }
    npz = io.BytesIO()
    np.savez(npz, **whole)
    members = {"rmd17/npz_data/rmd17_uracil.npz": npz.getvalue()}
    for number in range(1, 6):
        # split 1 is the published one; the others are drawn anew
        mixed = np.arange(2000) if number == 1 else rng.permutation(2000)
        place = np.argsort(order)
        rows = {"train": place[mixed[:1000]], "test": place[mixed[1000:]]}
        for part, chosen in rows.items():
            text = "".join(f"{row}\n" for row in chosen)
            members[f"rmd17/splits/index_{part}_0{number}.csv"] = text.encode()
    with tarfile.open(tmp_path / "rmd17.tar.bz2", "w:bz2", compresslevel=1) as archive:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return tmp_path


def index_plan(number: int, member: str = "rmd17/splits/index_{part}_0{n}.csv") -> dict[str, Any]:
    return {
        "rule": "index", "store": "x", "train": 950, "val": 50, "test": None, "seed": 1,
        "indices": {
            part: {"name": "rmd17.tar.bz2", "member": member.format(part=part, n=number)}
            for part in ("train", "test")
        },
    }  # fmt: skip


def test_five_official_splits_of_rmd17(
    small_rmd17: dict[str, Any], rmd17: Path, mirror: Path
) -> None:
    preprocess(small_rmd17, rmd17, rmd17 / "store", "uracil", source="official")
    store = Store.open(rmd17 / "store")
    tests = []
    for number in range(1, 6):
        out = rmd17 / f"{number}.npz"
        described = make_split(index_plan(number), store.path, out, rmd17)
        assert described["counts"] == {"train": 950, "val": 50, "test": 1000}
        split = read_split(out)
        assert split.test_parts == {}
        tests.append(frozenset(split.test.tolist()))
    assert len(set(tests)) == 5
    # split 01 by rows of the archive is split 01 of the author's own files, by old_indices
    with np.load(mirror / "rmd17/rmd17-npz/rmd17_uracil_test_01.npz") as data:
        assert tests[0] == set(data["old_indices"].tolist())


@pytest.mark.parametrize(
    ("text", "message"),
    [("1\nx\n", "not a list of row numbers"), ("1\n2000\n", "row 2000 outside the allowed 0 to"),
     ("-1\n", "row -1 outside")],
)  # fmt: skip
def test_bad_list_of_rows_is_refused(
    text: str, message: str, small_rmd17: dict[str, Any], rmd17: Path
) -> None:
    preprocess(small_rmd17, rmd17, rmd17 / "store", "uracil", source="official")
    (rmd17 / "rows.csv").write_text(text)
    plan = index_plan(1)
    plan["indices"]["train"] = {"name": "rows.csv"}
    with pytest.raises(DataError, match=rf"rows\.csv.*{message}"):
        make_split(plan, rmd17 / "store", rmd17 / "s.npz", rmd17)


# ---- leaks ------------------------------------------------------------------------------------


def write_store(path: Path, molecules: Molecules) -> Store:
    source = Source(roles=("all",))
    with StoreWriter(path, dataset=path.name, source=source, units={}) as writer:
        writer.append(molecules)
    return Store.open(path)


def test_exclude_leaks_brings_the_count_to_zero(qm9: Molecules, tmp_path: Path) -> None:
    """Pre-training on QM9, tested on other copies (new ids, moved) of some of its molecules."""
    rows = np.arange(len(qm9))
    pretraining = write_store(tmp_path / "pretraining", qm9.keep(rows % 100 == 0))
    some = qm9.keep(rows % 1000 == 0)
    shift = np.float32(7.0)
    copies = Molecules.from_list(
        np.arange(len(some)) + 5,
        np.split(some.z, some.offsets[1:-1]),
        np.split(some.pos + shift, some.offsets[1:-1]),
    )
    test = write_store(tmp_path / "test", copies)
    write_split(tmp_path / "t.npz", Split(test.ids[:1], test.ids[1:2], test.ids[2:]), META)
    entry = {"store": str(test.path), "split": str(tmp_path / "t.npz"), "same": False}
    plan = {"rule": "pretrain", "store": "x", "val": 10, "seed": 1, "tests": [entry]}
    shared, described = {}, {}
    for exclude in (False, True):
        out = tmp_path / f"{exclude}.npz"
        described[exclude] = make_split(
            {**plan, "exclude_leaks": exclude}, pretraining.path, out, tmp_path
        )
        report = write_leak_report(
            test.path, tmp_path / "t.npz", pretraining.path, out, tmp_path / "leak.json"
        )
        shared[exclude] = report.shared
        assert read_json(tmp_path / "leak.json") == asdict(report)
    assert shared[False] >= 120  # 129 copies; a few may have gone to validation
    assert shared[True] == 0
    removed = described[True]["removed"]
    assert described[False]["removed"]["same_structure_as_a_test_molecule"] == 0
    assert removed["same_structure_as_a_test_molecule"] >= 129
    left = sum(described[True]["counts"].values())
    assert left + removed["same_structure_as_a_test_molecule"] == len(pretraining)
    # validation of pre-training is free of them too
    split = read_split(tmp_path / "True.npz")
    assert not np.isin(np.concatenate([split.train, split.val]), some.ids[2:]).any()


def test_pretraining_on_a_force_set_leaves_out_the_frames_it_is_tested_on(
    cards: dict[str, Any], mirror: Path, tmp_path: Path
) -> None:
    """Ids differ between the store of one molecule and that of all; the frames do not."""
    raw, names = mirror / "md17/raw", ("toluene", "uracil")
    card = {**cards["md17"], "default_source": "subset2000"}
    card["targets"] = {name: card["targets"][name] for name in names}
    preprocess(card, raw, tmp_path / "all", "all")
    tests = []
    for name in names:
        preprocess(card, raw, tmp_path / name, name)
        one = Store.open(tmp_path / name)
        split = random_split(one.ids, 100, 50, None, seed=1)
        write_split(tmp_path / f"{name}.npz", split, META)
        path = str(tmp_path / f"{name}.npz")
        tests.append({"store": str(one.path), "split": path, "same": True})
    plan = {
        "rule": "pretrain",
        "store": "x",
        "val": 20,
        "seed": 1,
        "tests": tests,
        "exclude_leaks": False,
    }
    described = make_split(plan, tmp_path / "all", tmp_path / "s.npz", tmp_path)
    assert described["removed"]["validated_or_tested_on"] == 2 * 1900
    assert described["counts"] == {"train": 180, "val": 20, "test": 0}
    everything, split = Store.open(tmp_path / "all"), read_split(tmp_path / "s.npz")
    left = everything.gather(everything.rows(np.concatenate([split.train, split.val])))
    seen = {left.pos[a:b].tobytes() for a, b in zip(left.offsets, left.offsets[1:], strict=False)}
    for name in names:
        one, fine = Store.open(tmp_path / name), read_split(tmp_path / f"{name}.npz")
        atoms = len(one.z) // len(one)
        frames = one.gather(one.rows(fine.train)).pos.reshape(-1, atoms * 3)
        assert all(frame.tobytes() in seen for frame in frames)
        seen -= {frame.tobytes() for frame in frames}
    assert not seen
    with pytest.raises(ConfigError, match="0 of 4000 molecules are left for pre-training"):
        make_split({**plan, "exclude_leaks": True}, tmp_path / "all", tmp_path / "x.npz", tmp_path)


# ---- draws ---------------------------------------------------------------------------------------


def drawn(store: Store, folder: Path, draw: int | None, **plan: Any) -> Split:
    whole = {"rule": "random", "store": "x", "train": 30, "val": 5, "test": 10, "seed": 3,
             **plan, "draw": draw}  # fmt: skip
    make_split(whole, store.path, folder / f"{draw}.npz", folder)
    return read_split(folder / f"{draw}.npz")


def test_draws_change_the_training_molecules_and_nothing_else(
    small_rmd17: dict[str, Any], rmd17: Path, tmp_path: Path
) -> None:
    preprocess(small_rmd17, rmd17, tmp_path / "store", "uracil", source="official")
    store = Store.open(tmp_path / "store")
    one, two = (drawn(store, tmp_path, draw) for draw in (1, 2))
    for split in (one, two):
        assert np.array_equal(split.val, one.val)
        assert np.array_equal(split.test, one.test)
        assert len(split.train) == 30
        assert not np.intersect1d(split.train, np.concatenate([one.val, one.test])).size
    assert len(np.intersect1d(one.train, two.train)) < 20
    assert np.array_equal(drawn(store, tmp_path, 1).train, one.train)
    smaller = drawn(store, tmp_path, 1, train=10)
    assert np.array_equal(smaller.train, one.train[:10])  # sets of many labels hold those of few


def test_draws_of_qm9_stay_in_the_official_training_part() -> None:
    official = qm9_split(np.arange(130_831), seed=1)
    pool = qm9_split(np.arange(130_831), None, 0, 0, seed=1).train
    found = draw_train(pool, 1000, 1, 2)
    assert np.isin(found, official.train).all()
    assert not np.array_equal(found, draw_train(pool, 1000, 1, 3))
    with pytest.raises(ConfigError, match="train: 110001 molecules wanted, allowed 0 to 110000"):
        draw_train(pool, 110_001, 1, 2)
