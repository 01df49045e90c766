"""Make the splits and leak reports that the workflow asks for, by rule name."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from georecon.data.split import (
    Split,
    leak_report,
    pretrain_split,
    qm9_split,
    random_split,
    read_split,
    write_split,
)
from georecon.data.store import Store
from georecon.errors import ConfigError
from georecon.files import write_json


def _pvd(store: Store, plan: dict[str, Any]) -> Split:
    return qm9_split(store.ids, plan["train"], plan["val"], plan["test"], seed=plan["seed"])


def _random(store: Store, plan: dict[str, Any]) -> Split:
    return random_split(store.ids, plan["train"], plan["val"], plan["test"], plan["seed"])


def _pretrain(store: Store, plan: dict[str, Any]) -> Split:
    """All molecules outside the validation and test parts of the splits in ``exclude``."""
    parts = [read_split(path) for path in plan["exclude"]]
    held_out = [ids for part in parts for ids in (part.val, part.test)]
    return pretrain_split(store.ids, plan["val"], plan["seed"], held_out)


RULES = {"pvd": _pvd, "random": _random, "pretrain": _pretrain}


def make_split(plan: dict[str, Any], store_path: Path, split_path: str | Path) -> dict[str, Any]:
    """Make and write one split.

    Args:
        plan: from ``Experiments.split_plan``: ``rule``, sizes, ``seed``, ``exclude``.
        store_path: folder of the store.
        split_path: the .npz to write; its description goes beside it.

    Returns:
        The description.
    """
    if plan["rule"] not in RULES:
        raise ConfigError(f"split rule is {plan['rule']!r}; allowed: {', '.join(RULES)}")
    store = Store.open(store_path)
    split = RULES[plan["rule"]](store, plan)
    meta = {**plan, "store_sha256": store.sha256, "dataset": store.manifest["dataset"]}
    return write_split(split_path, split.train, split.val, split.test, meta)


def write_leak_report(
    store_path: Path,
    split_path: Path,
    pretrain_store: Path,
    pretrain_split_path: Path,
    output: Path,
) -> dict[str, Any]:
    """Write how many test molecules of a split occur in the pre-training set by structure."""
    test, pretraining = Store.open(store_path), Store.open(pretrain_store)
    test_ids, seen_ids = read_split(split_path).test, read_split(pretrain_split_path).train
    report = leak_report(test, test.rows(test_ids), pretraining, pretraining.rows(seen_ids))
    report["dataset"] = test.manifest["dataset"]
    write_json(output, report)
    return report
