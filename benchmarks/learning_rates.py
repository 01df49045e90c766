"""Learning rates of an edition, chosen on validation molecules before any test number is read.

One target, the edition's own sizes, seeds and splits; every method is given the same rates. For
each rate of pre-training an encoder is trained and fine-tuned with each rate of fine-tuning; from
scratch only the latter. What is printed is the best validation error of each run, and the pair of
rates with the smallest mean over methods, each method's errors divided by its smallest. Fine-tuning
also predicts the test set: into a folder that is deleted unread. ``--steps`` shortens
pre-training. Runs resume from ``--state``; ``--json FILE`` writes the numbers.
"""

from __future__ import annotations

import argparse
import itertools
import statistics
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from publish import publish

from georecon.experiments.experiments import Experiments
from georecon.jobs.job import prepare_torch
from georecon.stages.finetune import finetune
from georecon.stages.pretrain import pretrain
from georecon.training.world import World

ROOT = Path(__file__).resolve().parents[1]
PART = "property"
Pair = tuple[float, float]
"""Rate of pre-training, rate of fine-tuning."""


class Search:
    """Trainings of one edition and seed with other rates than it has."""

    def __init__(self, experiments: Experiments, target: str, steps: int | None, state: Path):
        self.experiments, self.target, self.steps, self.state = experiments, target, steps, state

    def encoder(self, method: str, rate: float) -> Path | None:
        """Weights pre-trained with a rate; None from scratch."""
        if not self.experiments.methods.is_pretrained(method):
            return None
        output = self.state / f"{method}-{rate:g}"
        path = output / "encoder.safetensors"
        if path.exists():
            return path
        run = self.experiments.runs.pretrain_settings(method, 1)
        share = (
            1.0 if self.steps is None else self.steps / self.experiments.config.pretrain.train.steps
        )
        train = replace(
            run.train,
            lr=rate,
            steps=round(share * run.train.steps),
            warmup=round(share * run.train.warmup),
        )
        output.mkdir(parents=True, exist_ok=True)
        data = self.experiments.data
        pretrain(
            replace(run, train=train).as_json(),
            Path(data.pretrain_store()),
            Path(data.pretrain_split()),
            output,
            state=self.state,
            world=World(),
            say=self.say,
        )
        return path

    def error(self, method: str, rates: Pair) -> float:
        """Best validation error of a fine-tuning [label unit]."""
        data = self.experiments.data
        run = self.experiments.runs.finetune_settings(PART, self.target, method, 1)
        settings = replace(run, train=replace(run.train, lr=rates[1])).as_json()
        encoder = self.encoder(method, rates[0])
        with tempfile.TemporaryDirectory() as folder:
            store = Path(data.store(data.dataset_of(PART), self.target))
            split = Path(data.split(PART, self.target, 1))
            unread = Path(folder)
            result = finetune(
                settings, store, split, encoder, unread, state=unread, world=World(), say=self.say
            )
        return result.best_score

    @staticmethod
    def say(line: str) -> None:
        """A progress line."""
        print(line, file=sys.stderr)


def best(errors: Mapping[str, Mapping[Pair, float]]) -> Pair:
    """Rates with the smallest mean of relative errors over methods."""
    pairs = list(next(iter(errors.values())))
    lowest = {method: min(found.values()) for method, found in errors.items()}

    def mean(pair: Pair) -> float:
        return statistics.fmean(found[pair] / lowest[method] for method, found in errors.items())

    return min(pairs, key=mean)


def measure(
    search: Search, methods: Sequence[str], rates: Sequence[float]
) -> dict[str, dict[Pair, float]]:
    """Validation error of every method with every pair of rates."""
    pairs = list(itertools.product(rates, rates))
    found: dict[str, dict[Pair, float]] = {}
    for method in methods:
        pretrained = search.experiments.methods.is_pretrained(method)
        for pair in pairs:
            known = found.setdefault(method, {})
            same = (rates[0], pair[1])  # from scratch there is no rate of pre-training
            known[pair] = (
                known[same] if not pretrained and same in known else search.error(method, pair)
            )
            print(f"{method}, rates {pair[0]:g} and {pair[1]:g}: {known[pair]:.5g}", flush=True)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--edition", default="evidence")
    parser.add_argument("--target", default="homo")
    parser.add_argument("--methods", nargs="+", default=["scratch", "coord", "georecon"])
    parser.add_argument("--rates", nargs="+", type=float, default=[1e-3, 3e-3])
    parser.add_argument("--steps", type=int, help="of the pre-training that costs one unit")
    parser.add_argument("--state", type=Path, default=Path("results/learning_rates"))
    parser.add_argument("--json", metavar="FILE")
    options = parser.parse_args()
    experiments = Experiments.load(ROOT / "config", {"edition": options.edition})
    data = experiments.data
    needed = (data.pretrain_split(), data.split(PART, options.target, 1))
    if missing := [name for name in needed if not Path(name).exists()]:
        sys.exit(f"{', '.join(missing)}: not there; make it first with snakemake")
    prepare_torch(1)
    search = Search(experiments, options.target, options.steps, options.state)
    errors = measure(search, options.methods, options.rates)
    chosen = best(errors)
    report = {
        "edition": options.edition,
        "target": options.target,
        "pretraining_steps": options.steps or experiments.config.pretrain.train.steps,
        "validation_error": {
            method: {f"{a:g} {b:g}": value for (a, b), value in found.items()}
            for method, found in errors.items()
        },
        "chosen": {"pretrain": chosen[0], "finetune": chosen[1]},
    }
    if publish(report, options.json):
        print(f"chosen: pre-training {chosen[0]:g}, fine-tuning {chosen[1]:g}")


if __name__ == "__main__":
    main()
