"""Validation errors of a second encoder's methods by learning rate of fine-tuning.

For ``encoders.<name>.finetune.lr`` of an edition: every method on that encoder is pre-trained as
the edition does it and fine-tuned on one property at each rate. All molecules are from the
official training part of QM9: those that train, those that validate, and the one that the
fine-tuning must be given to test on. No number of an official validation or test molecule is read,
and seeds are not the tables'. ``errors`` are the validation errors [unit of the label] by method
and rate, a list over seeds; ``score`` the geometric mean over methods and seeds of the error over
that method's and seed's best rate. ``--json FILE`` writes the numbers.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

from publish import publish

from georecon.data.split import Split, qm9_split, write_split
from georecon.data.store import Store
from georecon.experiments.experiments import Experiments
from georecon.jobs.job import prepare_torch
from georecon.stages.finetune import finetune
from georecon.stages.pretrain import pretrain
from georecon.training.world import World

ROOT = Path(__file__).resolve().parents[1]
VALIDATION, FIRST_SEED = 1000, 101


def splits(store: Store, labels: int, seed: int, folder: Path) -> tuple[Path, Path]:
    """Split files of pre-training and of fine-tuning, of official training molecules alone."""
    pool = qm9_split(store.ids).train
    validation, rest = pool[-VALIDATION:], pool[:-VALIDATION]
    place = (seed - FIRST_SEED) * labels
    own, others = rest[place : place + labels], rest[10 * labels :]
    files = folder / f"pretrain{seed}.npz", folder / f"finetune{seed}.npz"
    for path, split in zip(
        files,
        (Split(others[:-64], others[-64:], others[:0]), Split(own, validation, others[:1])),
        strict=True,
    ):
        write_split(path, split, {"rule": "training part", "seed": seed, "store_sha256": ""})
    return files


def errors(
    found: Experiments, method: str, target: str, rates: list[float], seed: int, folder: Path
) -> list[float]:
    """Validation error of a method at each rate."""
    store = Path(found.data.store(found.data.dataset_of("property"), target))
    labels = found.config.finetune.sets["property"].split.train or 1000
    first, second = splits(Store.open(store), labels, seed, folder)
    encoder = None
    if found.methods.is_pretrained(method):
        run = found.runs.pretrain_settings(method, seed).as_json()
        pretrain(run, store, first, folder, state=folder / "state", world=World(), say=_quiet)
        encoder = folder / "encoder.safetensors"
    tuned = found.runs.finetune_settings("property", target, method, seed)
    scores = []
    for rate in rates:
        one = replace(tuned, train=replace(tuned.train, lr=rate)).as_json()
        made = finetune(
            one, store, second, encoder, folder, state=folder / "state", world=World(), say=_quiet
        )
        scores.append(made.best_score)
    return scores


def _quiet(line: str) -> None:
    """Progress of single trainings is not shown."""


def main() -> None:
    """All methods, rates and seeds."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--edition", default="laptop")
    parser.add_argument("--encoder", default="unimol", help="a name in `encoders`")
    parser.add_argument("--target", default="gap")
    parser.add_argument("--rates", type=float, nargs="+", default=[3e-4, 1e-3, 3e-3])
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--json", help="file for the numbers; - for standard output alone")
    options = parser.parse_args()
    found = Experiments.load(ROOT / "config", {"edition": options.edition})
    methods = [n for n, entry in found.config.methods.items() if entry.encoder == options.encoder]
    manifest = Path(found.data.store(found.data.dataset_of("property"), options.target))
    if not (manifest / "manifest.json").exists():
        sys.exit(f"{manifest}/manifest.json is not there: make it first with snakemake")
    prepare_torch(1)
    report: dict[str, Any] = {"edition": options.edition, "target": options.target}
    report |= {"rates": options.rates, "errors": {}}
    for method in methods:
        by_seed = []
        for seed in range(FIRST_SEED, FIRST_SEED + options.seeds):
            with tempfile.TemporaryDirectory() as folder:
                by_seed.append(
                    errors(found, method, options.target, options.rates, seed, Path(folder))
                )
            texts = ", ".join(f"{error:.4f}" for error in by_seed[-1])
            print(f"{method}, seed {seed}: {texts}", file=sys.stderr, flush=True)
        report["errors"][method] = [list(one) for one in zip(*by_seed, strict=True)]
    report["score"] = score(list(report["errors"].values()))
    publish(report, options.json)


def score(methods: list[list[list[float]]]) -> list[float]:
    """Geometric mean at each rate, over methods and seeds, of the error over the best rate's."""
    runs = [run for rates in methods for run in zip(*rates, strict=True)]
    relative = [[error / min(run) for error in run] for run in runs]
    return [statistics.geometric_mean(column) for column in zip(*relative, strict=True)]


if __name__ == "__main__":
    main()
