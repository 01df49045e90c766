"""Splits made again by their rule, test sets that nothing has seen, leaks counted again."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from georecon import paths
from georecon.audit.findings import STUMBLES, Context, Finding
from georecon.data.split import Split, count_leaks, read_split
from georecon.data.store import Store
from georecon.data.structure_key import stored_keys
from georecon.errors import ConfigError, GeoreconError
from georecon.experiments.settings import SplitPlan
from georecon.records.read import Record
from georecon.records.untrusted import read_strict_json
from georecon.stages.split import RULES


class _Read(NamedTuple):
    """A split, and the digest of its store that its description gives."""

    split: Split
    store: str


def check_splits(context: Context) -> Iterator[Finding]:
    """Splits are what their rule gives; no test molecule in training, validation or pre-training.

    Pre-training sets of other stores are compared by structure: leak reports are counted again.
    """
    splits: dict[str, _Read] = {}
    for path in [p for p, link in context.scope.items() if link.kind == "split"]:
        try:
            splits[path] = _read(context, path)
        except (GeoreconError, OSError, ValueError, KeyError) as error:
            kind = "test set seen" if "occurs twice" in str(error) else "file unreadable"
            yield Finding(kind=kind, path=path, text=str(error).replace(f"{context.root}/", ""))
            continue
        yield from _check_store(context, path, splits[path].store)
        yield from _check_rule(context, path, splits[path].split)
    yield from _check_seen(context, splits)
    yield from _check_leaks(context, {path: read.split for path, read in splits.items()})


def _check_seen(context: Context, splits: dict[str, _Read]) -> Iterator[Finding]:
    """Pre-training on the same store has no molecule that fine-tuning validates or tests on."""
    read = [record.inputs.get("split") for record in context.runs("pretrain")]
    pretrain = {claim.path for claim in read if claim is not None}
    for path in sorted(pretrain & set(splits)):
        seen, store = splits[path]
        for other, (split, of) in splits.items():
            if other in pretrain or of != store:
                continue
            both = np.intersect1d(seen.train, np.concatenate([split.val, split.test]))
            if len(both):
                text = (
                    f"{len(both)} validation or test molecules of {other} are among the "
                    f"pre-training molecules, the first is {both[0]}"
                )
                yield Finding(kind="test set seen", path=path, text=text, touches=(path, other))


def _read(context: Context, path: str) -> _Read:
    split = read_split(context.root / path)
    sidecar = read_strict_json(context.root / path.replace(".npz", ".json"), path)
    for part, number in split.counts().items():
        said = sidecar["counts"].get(part) if isinstance(sidecar.get("counts"), dict) else None
        if said != number:
            raise ValueError(f"{path}: holds {number} ids of {part}, its .json says {said}")
    return _Read(split, str(sidecar.get("store_sha256")))


def _check_store(context: Context, path: str, said: str) -> Iterator[Finding]:
    """A split's description names the store that its job read; other checks go by that."""
    records = [record for record in context.runs("split") if path in _paths(record)]
    for record in records:
        store = record.inputs.get("store")
        if store is None:
            continue  # said by the check of records
        try:
            now = read_strict_json(context.root / store.path, store.path).get("sha256")
        except GeoreconError:
            continue  # said by the check of files
        if said != now:
            text = f"its .json says that it is of a store {said:.16}…; {store.path} is {now!s:.16}…"
            yield Finding(kind="split differs", path=path, text=text)


def _paths(record: Record) -> set[str]:
    return {claim.path for claim in record.outputs.values()}


# ---- the rule ----------------------------------------------------------------------------------


def _check_rule(context: Context, path: str, split: Split) -> Iterator[Finding]:
    """A split holds the molecules that the configuration's rule gives for its store."""
    dataset, name = path.removesuffix(".npz").split("/")[-2:]
    try:
        plan = context.experiments.data.split_plan(dataset, name)
    except ConfigError:
        return  # of another configuration; the records that use it say so
    counts = split.counts()
    for part in ("train", "val", "test"):
        wanted = getattr(plan, part)
        if wanted is not None and counts[part] != wanted:
            text = f"holds {counts[part]} molecules of {part}, the configuration says {wanted}"
            yield Finding(kind="split differs", path=path, text=text)
    if context.bundle:
        context.cannot("splits: their rules need the stores; sizes were compared")
        return
    try:
        again = _make(context, plan, dataset)
    except FileNotFoundError:
        return  # said by the check of files
    except STUMBLES as error:
        text = f"cannot be made again: {str(error).replace(f'{context.root}/', '')}"
        yield Finding(kind="split differs", path=path, text=text)
        return
    if (difference := _difference(split, again)) is not None:
        text = f"is not what its rule gives for its store: {difference}"
        yield Finding(kind="split differs", path=path, text=text)


def _make(context: Context, plan: SplitPlan, dataset: str) -> Split:
    tests = tuple(
        replace(
            test,
            store=str(context.root / test.store),
            split=str(context.root / test.split),
        )
        for test in plan.tests
    )
    store = Store.open(context.root / plan.store)
    raw = context.root / paths.RAW / dataset
    return RULES[plan.rule](store, replace(plan, tests=tests), raw).split


def _difference(found: Split, wanted: Split) -> str | None:
    for part in ("train", "val", "test"):
        one, other = getattr(found, part), getattr(wanted, part)
        if not np.array_equal(one, other):
            odd = len(np.setdiff1d(one, other)), len(np.setdiff1d(other, one))
            return f"{part} has {odd[0]} molecules too many and {odd[1]} too few, or another order"
    names = {*found.test_parts, *wanted.test_parts}
    for name in sorted(names):
        empty = np.zeros(0, dtype=np.int64)
        if not np.array_equal(
            found.test_parts.get(name, empty), wanted.test_parts.get(name, empty)
        ):
            return f"test part {name} has other molecules"
    return None


# ---- leaks -------------------------------------------------------------------------------------


def _check_leaks(context: Context, splits: dict[str, Split]) -> Iterator[Finding]:
    """A leak report says what its splits and stores hold."""
    known: dict[str, NDArray[np.uint64]] = {}
    for record in context.runs("leak"):
        inputs, report = record.inputs, record.outputs.get("leak")
        if report is None:
            continue
        try:
            content = read_strict_json(context.root / report.path, report.path)
            test = splits[inputs["split"].path].test
            seen = splits[inputs["pretrain_split"].path].train
            wanted: dict[str, object] = {
                "test_molecules": len(test),
                "pretrain_molecules": len(seen),
            }
            if not context.bundle:
                counted = count_leaks(
                    str(content.get("dataset")),
                    _keys(context.root, inputs["store"].path, test, known, inputs["split"].path),
                    _keys(
                        context.root,
                        inputs["pretrain_store"].path,
                        seen,
                        known,
                        inputs["pretrain_split"].path,
                    ),
                )
                wanted = asdict(counted)  # its dataset is what the report says
        except (GeoreconError, KeyError, OSError):
            continue  # said by the checks of files and records
        found = {key: content.get(key) for key in wanted}
        if found != wanted:
            odd = {key: value for key, value in found.items() if value != wanted[key]}
            right = {key: wanted[key] for key in odd}
            text = f"says {json.dumps(odd):.200}, its splits hold {json.dumps(right):.200}"
            yield Finding(kind="leak report differs", path=report.path, text=text)
    if context.bundle:
        context.cannot("leaks: structures are in the stores; sizes were compared")


def _keys(
    root: Path,
    manifest: str,
    ids: NDArray[np.int64],
    known: dict[str, NDArray[np.uint64]],
    name: str,
) -> NDArray[np.uint64]:
    """Structure of each molecule of a part of a split; each split once."""
    if name not in known:
        store = Store.open((root / manifest).parent)
        known[name] = stored_keys(store, store.rows(ids), os.cpu_count() or 1)
    return known[name]
