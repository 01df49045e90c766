"""Named, hashed splits of molecule ids, and the report of what they share with other sets.

A split lists ids, not rows, so it stays valid when a store is built anew. Order matters: it is the
order of the random permutation, so that the first n of a part are themselves a random sample.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from georecon.data.store import Store
from georecon.data.structure_key import KEY_RULE, UInt, stored_keys
from georecon.errors import ConfigError, DataError
from georecon.files import atomic_path, read_json, sha256_file, write_json

FORMAT_VERSION = 1
QM9_MOLECULES = 130_831
QM9_TRAIN, QM9_VAL = 110_000, 10_000
_PARTS = ("train", "val", "test")

Int = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Split:
    """Molecule ids of the three parts, each in permutation order.

    Attributes:
        train, val, test: ids, (M,) each.
        test_parts: ids of the named parts that ``test`` consists of, such as temperatures; empty
            for an ordinary test set.
    """

    train: Int
    val: Int
    test: Int
    test_parts: dict[str, Int] = field(default_factory=dict)

    def counts(self) -> dict[str, int]:
        """Number of ids in each part."""
        return {name: len(getattr(self, name)) for name in _PARTS}


def _unique(ids: ArrayLike) -> Int:
    array = _distinct(np.asarray(ids, dtype=np.int64))
    if len(array) != np.size(ids):
        raise ConfigError(f"{np.size(ids)} ids, only {len(array)} different; expected unique ids")
    return array


def _distinct(values: NDArray[Any]) -> NDArray[Any]:
    """Sorted values, each once, by sorting: NumPy's own takes a hash table for it."""
    ordered = np.sort(values)
    first = np.ones(len(ordered), dtype=np.bool_)
    np.not_equal(ordered[1:], ordered[:-1], out=first[1:])
    return np.asarray(ordered[first])


def _first(part: Int, n: int | None, name: str) -> Int:
    if n is not None and not 0 <= n <= len(part):
        raise ConfigError(f"{name}: {n} molecules wanted, allowed 0 to {len(part)}")
    return part[:n]


def qm9_split(
    ids: ArrayLike,
    n_train: int | None = None,
    n_val: int | None = None,
    n_test: int | None = None,
    *,
    seed: int = 1,
) -> Split:
    """The ET lineage's split of QM9, or the first molecules of each of its parts.

    All 130,831 ids in increasing order are permuted by ``numpy.random.default_rng(seed)``; the
    first 110,000 train, the next 10,000 validate, the other 10,831 test. A smaller edition takes
    the first n of each part, so that its test set is a sample of the official one and never holds
    a molecule that the official protocol trains on.

    Args:
        ids: every id of the store, any order.
        n_train: molecules to keep of the training part; None keeps all.
        n_val: same for validation.
        n_test: same for the test part.
        seed: 1 in the lineage.

    Raises:
        ConfigError: other than 130,831 unique ids, or more wanted than a part has.
    """
    array = _unique(ids)
    if len(array) != QM9_MOLECULES:
        raise ConfigError(
            f"the QM9 split needs all {QM9_MOLECULES} molecules, got {len(array)}; "
            "use random_split for a part of QM9"
        )
    order = array[np.random.default_rng(seed).permutation(len(array))]
    cut = QM9_TRAIN + QM9_VAL
    return Split(
        _first(order[:QM9_TRAIN], n_train, "train"),
        _first(order[QM9_TRAIN:cut], n_val, "val"),
        _first(order[cut:], n_test, "test"),
    )


def draw_train(pool: ArrayLike, n_train: int, seed: int, draw: int) -> Int:
    """Training molecules drawn anew, so that draws with the same validation and test set differ.

    Args:
        pool: ids of all molecules that neither validate nor test, any order.
        n_train: how many to draw.
        seed: of the split.
        draw: number of the draw.

    Raises:
        ConfigError: ids repeat, or there are too few of them.
    """
    array = _unique(pool)
    order = np.random.default_rng([seed, draw]).permutation(len(array))
    return _first(array[order], n_train, "train")


def random_split(ids: ArrayLike, n_train: int, n_val: int, n_test: int | None, seed: int) -> Split:
    """Permute ids (sorted first) and cut: ``n_train``, ``n_val``, then ``n_test`` or the rest.

    Raises:
        ConfigError: ids repeat, or there are too few of them.
    """
    array = _unique(ids)
    if min(n_train, n_val, n_test or 0) < 0:
        raise ConfigError(f"split sizes {n_train}, {n_val}, {n_test} must not be negative")
    # Without a fixed test size there must be something left to test on.
    needed = n_train + n_val + (1 if n_test is None else n_test)
    if needed > len(array):
        raise ConfigError(
            f"{len(array)} molecules are too few for {n_train} train + {n_val} val + "
            f"{'at least 1' if n_test is None else n_test} test = {needed}"
        )
    order = array[np.random.default_rng(seed).permutation(len(array))]
    cut = n_train + n_val
    end = None if n_test is None else cut + n_test
    return Split(order[:n_train], order[n_train:cut], order[cut:end])


def pretrain_split(
    ids: ArrayLike,
    n_val: int,
    seed: int,
    exclude: Iterable[ArrayLike] = (),
    n_train: int | None = None,
) -> Split:
    """Split for pre-training: leave out ``exclude``, then ``n_val`` to validate, the rest to train.

    Args:
        ids: every id of the store.
        n_val: molecules held out to watch the pre-training loss.
        seed: of the permutation.
        exclude: arrays of ids of the same store that must not be seen, such as the validation
            and test parts of fine-tuning.
        n_train: take only the first so many; None takes all.

    Raises:
        ConfigError: too few molecules are left.
    """
    array = _unique(ids)
    gone = [np.asarray(one, dtype=np.int64) for one in exclude]
    left = array
    if gone:
        left = np.setdiff1d(array, _distinct(np.concatenate(gone)), assume_unique=True)
    needed = n_val + (1 if n_train is None else n_train)
    if n_val < 0 or needed > len(left):
        raise ConfigError(
            f"{len(left)} of {len(array)} molecules are left for pre-training, too few for "
            f"{n_val} val + {'at least 1' if n_train is None else n_train} train"
        )
    order = left[np.random.default_rng(seed).permutation(len(left))]
    end = None if n_train is None else n_val + n_train
    return Split(order[n_val:end], order[:n_val], order[:0])


def files_split(
    train_ids: ArrayLike,
    test_ids: Mapping[str, ArrayLike],
    n_train: int | None,
    n_val: int,
    seed: int,
) -> Split:
    """Train and validate on molecules of one file, test on those of others, each a named part.

    Args:
        train_ids: ids of the training file; permuted, the first ``n_val`` validate.
        test_ids: ids of each test part; all are used, in increasing order.
        n_train: molecules to train on; None takes all but the validation's.
        n_val: molecules to validate on.
        seed: of the permutation.

    Raises:
        ConfigError: the training file is too small, or there is nothing to test on.
    """
    array = _unique(train_ids)
    needed = n_val + (1 if n_train is None else n_train)
    if needed > len(array) or n_val < 0:
        raise ConfigError(
            f"{len(array)} molecules in the training file are too few for {n_val} val + "
            f"{'at least 1' if n_train is None else n_train} train = {needed}"
        )
    parts = {name: _unique(ids) for name, ids in test_ids.items()}
    if not parts or not all(map(len, parts.values())):
        raise ConfigError(f"test parts {list(parts)} hold nothing to test on")
    order = array[np.random.default_rng(seed).permutation(len(array))]
    end = None if n_train is None else n_val + n_train
    return Split(order[n_val:end], order[:n_val], np.concatenate(list(parts.values())), parts)


def _sidecar(path: Path) -> Path:
    return path.with_suffix(".json")


def _check_disjoint(parts: dict[str, Int], file: Path) -> None:
    everything = np.concatenate([*parts.values()])
    values, counts = np.unique(everything, return_counts=True)
    if len(values) != len(everything):
        twice = int(values[np.flatnonzero(counts > 1)[0]])
        where = [name for name, ids in parts.items() if np.any(ids == twice)]
        raise DataError(file, twice, f"id occurs twice (in {', '.join(where)}), expected once")


def write_split(path: str | Path, split: Split, meta: Mapping[str, object]) -> dict[str, Any]:
    """Write ``<name>.npz`` and its description ``<name>.json``; equal input gives equal bytes.

    Args:
        path: the ``.npz`` file; a named test part is its array ``test_<name>``.
        split: ids of each part.
        meta: must hold ``rule`` (how the split is made), ``seed`` and ``store_sha256``.

    Returns:
        The description: meta, counts and the sha256 of the ``.npz`` file.

    Raises:
        DataError: the parts share an id.
        ConfigError: ``meta`` lacks a key, or ``path`` does not end in .npz.
    """
    path = Path(path)
    missing = {"rule", "seed", "store_sha256"} - set(meta)
    if missing or path.suffix != ".npz":
        raise ConfigError(f"split {path}: .npz expected, meta lacks {sorted(missing)}")
    parts = {name: np.asarray(getattr(split, name), dtype="<i8") for name in _PARTS}
    _check_disjoint(parts, path)
    named = {n: np.asarray(ids, dtype="<i8") for n, ids in split.test_parts.items()}
    _check_test_parts(parts["test"], named, path)
    with atomic_path(path) as temporary, open(temporary, "wb") as handle:
        arrays = {**parts, **{f"test_{name}": ids for name, ids in named.items()}}
        np.savez(handle, allow_pickle=False, **arrays)
    description = {
        **meta,
        "format_version": FORMAT_VERSION,
        "counts": {name: len(ids) for name, ids in parts.items()},
        **({"test_parts": {n: len(ids) for n, ids in named.items()}} if named else {}),
        "sha256": sha256_file(path),
    }
    write_json(_sidecar(path), description)
    return description


def _check_test_parts(test: Int, named: dict[str, Int], file: Path) -> None:
    if named:
        _check_disjoint(named, file)
        if not np.array_equal(np.sort(np.concatenate([*named.values()])), np.sort(test)):
            raise DataError(file, None, f"test parts {list(named)} are not the test set")


def read_split(path: str | Path) -> Split:
    """Read a split after checking its hash against the description beside it.

    Raises:
        DataError: a file is missing, damaged or does not match the other; names it.
    """
    path = Path(path)
    try:
        description = read_json(_sidecar(path))
        expected = description["sha256"]
        digest = sha256_file(path)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(
            path, None, f"no readable split with a .json beside it ({error})"
        ) from error
    if digest != expected:
        raise DataError(path, None, f"sha256 is {digest}, its .json says {expected}")
    with np.load(path, allow_pickle=False) as archive:
        names = [name.removeprefix("test_") for name in archive.files if name not in _PARTS]
        named = {name: archive[f"test_{name}"] for name in names}
        train, val, test = (archive[name] for name in _PARTS)
    split = Split(train, val, test, named)
    _check_disjoint({name: getattr(split, name) for name in _PARTS}, path)
    _check_test_parts(split.test, named, path)
    return split


def same_structure(store: Store, ids: ArrayLike, others: Iterable[tuple[Store, ArrayLike]]) -> Int:
    """Those of ``ids`` whose connectivity key occurs among molecules of other stores.

    Args:
        store: holds ``ids``.
        ids: ids to look at.
        others: stores, each with the ids of it to compare with.
    """
    array = np.asarray(ids, dtype=np.int64)
    wanted = [stored_keys(other, other.rows(theirs)) for other, theirs in others]
    if not wanted:
        return array[:0]
    return array[_among(stored_keys(store, store.rows(array)), _distinct(np.concatenate(wanted)))]


def _among(values: UInt, known: UInt) -> NDArray[np.bool_]:
    """Which values are among the known ones, sorted; ``np.isin`` takes six times the memory."""
    if not len(known):
        return np.zeros(len(values), dtype=np.bool_)
    place = np.searchsorted(known, values)
    np.minimum(place, len(known) - 1, out=place)
    return np.asarray(known[place] == values)


def geometry_keys(store: Store, ids: ArrayLike) -> list[bytes]:
    """Elements and positions of each molecule as bytes: equal for the same frame in two files."""
    part = store.gather(store.rows(ids))
    bounds = zip(part.offsets[:-1], part.offsets[1:], strict=True)
    return [part.z[a:b].tobytes() + part.pos[a:b].tobytes() for a, b in bounds]


@dataclass(frozen=True, kw_only=True, slots=True)
class LeakReport:
    """What a test set shares with a pre-training set.

    Attributes:
        dataset: of the test set.
        test_molecules: molecules of the test set; ``test_distinct_keys`` are their structures.
        pretrain_molecules: of the pre-training set; ``pretrain_distinct_keys`` likewise.
        shared: test molecules whose structure also occurs in pre-training.
        shared_fraction: of all test molecules.
        key: rule of the structure key.
    """

    dataset: str
    test_molecules: int
    test_distinct_keys: int
    pretrain_molecules: int
    pretrain_distinct_keys: int
    shared: int
    shared_fraction: float
    key: str


def leak_report(
    test: Store, test_rows: ArrayLike, pretrain: Store, pretrain_rows: ArrayLike
) -> LeakReport:
    """How many test molecules also occur in the pre-training set, by connectivity.

    Works across datasets, where ids say nothing; the key and its limits are described in
    ``georecon.data.structure_key``.
    """
    keys = stored_keys(test, test_rows), stored_keys(pretrain, pretrain_rows)
    return count_leaks(test.manifest.dataset, *keys)


def count_leaks(dataset: str, wanted: UInt, seen: UInt) -> LeakReport:
    """The same from the structures of the test and of the pre-training molecules.

    Args:
        dataset: of the test set.
        wanted: key of each test molecule.
        seen: key of each pre-training molecule.
    """
    known = _distinct(seen)
    shared = int(_among(wanted, known).sum())
    return LeakReport(
        dataset=dataset,
        test_molecules=len(wanted),
        test_distinct_keys=len(_distinct(wanted)),
        pretrain_molecules=len(seen),
        pretrain_distinct_keys=len(known),
        shared=shared,
        shared_fraction=shared / len(wanted) if len(wanted) else 0.0,
        key=KEY_RULE,
    )
