"""Make the splits and leak reports that the workflow asks for, by rule name."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from georecon.data.cards import FILE_STRIDE
from georecon.data.raw.unpack import unpacked
from georecon.data.split import (
    LeakReport,
    Split,
    draw_train,
    files_split,
    geometry_keys,
    leak_report,
    pretrain_split,
    qm9_split,
    random_split,
    read_split,
    same_structure,
    write_split,
)
from georecon.data.store import Store
from georecon.errors import ConfigError, DataError
from georecon.experiments.settings import SplitPlan
from georecon.files import write_json
from georecon.keys import Json, as_json, choice, from_json

Int = NDArray[np.int64]


class Made(NamedTuple):
    """A split, and what its description says besides the plan."""

    split: Split
    notes: Mapping[str, object] = {}


def _pvd(store: Store, plan: SplitPlan, raw: Path) -> Made:
    train, val = _sizes(plan)
    split = qm9_split(store.ids, train, val, plan.test, seed=plan.seed)
    pool = qm9_split(store.ids, None, 0, 0, seed=plan.seed).train  # the official training part
    return Made(_drawn(split, pool, train, plan))


def _random(store: Store, plan: SplitPlan, raw: Path) -> Made:
    train, val = _sizes(plan)
    first = train if plan.draw is None else 0  # draws of any size have one validation and test set
    split = random_split(store.ids, first, val, plan.test, plan.seed)
    held_out = np.concatenate([split.val, split.test])
    return Made(_drawn(split, np.setdiff1d(store.ids, held_out), train, plan))


def _drawn(split: Split, pool: Int, train: int, plan: SplitPlan) -> Split:
    """The split as it is, or with the plan's draw of training molecules."""
    if plan.draw is None:
        return split
    return replace(split, train=draw_train(pool, train, plan.seed, plan.draw))


def _sizes(plan: SplitPlan) -> tuple[int, int]:
    """Training and validation molecules.

    Raises:
        ConfigError: the plan does not say them.
    """
    if plan.train is None or plan.val is None:
        raise ConfigError(f"split {plan.name}: train and val are missing")
    return plan.train, plan.val


def roles(store: Store) -> list[str]:
    """Raw files of a store by role, in the order of their ids."""
    return list(store.manifest.source.roles)


def ids_of_role(store: Store, role: str) -> Int:
    """Ids of the molecules that come from one raw file of a store."""
    names = roles(store)
    if role not in names:
        raise DataError(store.path, None, f"has no file {role!r}; it has: {', '.join(names)}")
    if len(names) == 1:
        return np.asarray(store.ids)
    return np.asarray(store.ids[np.asarray(store.ids) // FILE_STRIDE == names.index(role)])


def _files(store: Store, plan: SplitPlan, raw: Path) -> Made:
    """``files``: role of the training file, and of the file of each test part.

    A test frame that is also in the training file is left out and counted: the parts of a set are
    often cut from one trajectory.
    """
    if plan.files is None:
        raise ConfigError(f"split {plan.name}: rule files without files")
    train = ids_of_role(store, plan.files.train)
    seen = set(geometry_keys(store, train))
    parts, repeated = {}, {}
    for name, role in plan.files.test.items():
        ids = ids_of_role(store, role)
        known = np.array([key in seen for key in geometry_keys(store, ids)], dtype=np.bool_)
        parts[name], repeated[name] = ids[~known], int(known.sum())
    notes = {"test_frames_also_in_training_file": repeated}
    size, val = _sizes(plan)
    split = files_split(train, parts, size, val, plan.seed)
    return Made(_drawn(split, np.setdiff1d(train, split.val), size, plan), notes)


def _index(store: Store, plan: SplitPlan, raw: Path) -> Made:
    """``indices``: published lists of rows, one number a line from 0, for train and test.

    The first ``val`` of the permuted training list validate.
    """
    rows = {}
    lists = {part: as_json(entry) for part, entry in plan.indices.items()}
    with unpacked(lists, raw) as (paths, _):
        for part, path in paths.items():
            try:
                rows[part] = np.array(path.read_text(encoding="utf-8").split(), dtype=np.int64)
            except (OSError, UnicodeDecodeError, ValueError) as error:
                raise DataError(path, None, f"not a list of row numbers ({error})") from error
            bad = np.flatnonzero((rows[part] < 0) | (rows[part] >= len(store)))
            if len(bad):
                reason = f"row {rows[part][bad[0]]} outside the allowed 0 to {len(store) - 1}"
                raise DataError(path, int(bad[0]), reason)
    train, test = (np.asarray(store.ids)[rows[part]] for part in ("train", "test"))
    split = files_split(train, {"test": test}, *_sizes(plan), plan.seed)
    return Made(Split(split.train, split.val, test))


def _pretrain(store: Store, plan: SplitPlan, raw: Path) -> Made:
    """All molecules but those of ``tests``: by id within one dataset, by structure otherwise."""
    held_out, others = [], []
    for entry in plan.tests:
        part, other = read_split(entry.split), Store.open(entry.store)
        if entry.same:
            held_out += [_same_molecules(store, other, ids) for ids in (part.val, part.test)]
        others.append((other, part.test))
    by_id = np.unique(np.concatenate([*held_out, np.zeros(0, dtype=np.int64)]))
    left = np.setdiff1d(store.ids, by_id, assume_unique=True)
    twins = same_structure(store, left, others) if plan.exclude_leaks else left[:0]
    notes = {
        "removed": {
            "validated_or_tested_on": len(by_id),
            "same_structure_as_a_test_molecule": len(twins),
        }
    }
    return Made(pretrain_split(store.ids, plan.val or 0, plan.seed, [by_id, twins]), notes)


def _same_molecules(store: Store, other: Store, ids: Int) -> Int:
    """Ids in ``store`` of molecules of another store of the same dataset (see FILE_STRIDE)."""
    names, theirs = roles(store), roles(other)
    if names == theirs:
        return ids
    place = ids // FILE_STRIDE if len(theirs) > 1 else np.zeros_like(ids)
    target = np.array([names.index(role) for role in theirs], dtype=np.int64)
    return np.asarray(ids - place * FILE_STRIDE + target[place] * FILE_STRIDE)


RULES: dict[str, Callable[[Store, SplitPlan, Path], Made]] = {
    "pvd": _pvd,
    "random": _random,
    "files": _files,
    "index": _index,
    "pretrain": _pretrain,
}


def make_split(settings: Json, store_path: Path, split_path: str | Path, raw: Path) -> Json:
    """Make and write one split.

    Args:
        settings: of ``SplitPlan``, as JSON.
        store_path: folder of the store.
        split_path: the .npz to write; its description goes beside it.
        raw: folder of the dataset's raw files, for lists of rows.

    Returns:
        The description.
    """
    plan = from_json(SplitPlan, settings)
    if plan.rule not in RULES:
        raise ConfigError(f"split rule {choice(plan.rule, RULES)}")
    store = Store.open(store_path)
    try:
        split, notes = RULES[plan.rule](store, plan, raw)
    except ConfigError as error:
        sizes = "pretrain.validation" if plan.rule == "pretrain" else "finetune.<part>.split"
        raise ConfigError(f"{error}; sizes are those of {sizes}") from None
    meta = {**settings, **notes, "store_sha256": store.sha256, "dataset": store.manifest.dataset}
    return write_split(split_path, split, meta)


def write_leak_report(
    store_path: Path,
    split_path: Path,
    pretrain_store: Path,
    pretrain_split_path: Path,
    output: Path,
) -> LeakReport:
    """Write how many test molecules of a split occur in the pre-training set by structure."""
    test, pretraining = Store.open(store_path), Store.open(pretrain_store)
    test_ids, seen_ids = read_split(split_path).test, read_split(pretrain_split_path).train
    report = leak_report(test, test.rows(test_ids), pretraining, pretraining.rows(seen_ids))
    write_json(output, asdict(report))
    return report
