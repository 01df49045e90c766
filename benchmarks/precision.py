"""Fine-tuning with bfloat16 matrix products against float32: curves over seeds, and rates.

Same molecules, steps and seeds for both, from scratch, in alternation; the laptop edition's encoder
and recipe on QM9, from the store and split that ``make`` builds. ``ratio`` is the mean error of the
selected weights with bf16 over that with float32. ``apart`` says how far the validation curves,
means over seeds, are apart: the largest and the mean distance over all evaluations, in spreads over
seeds there (root mean square of both standard deviations), and the standard error, √(2/seeds).
Prints a table; ``--json FILE`` writes the numbers (``-``: to standard output, alone).
"""

from __future__ import annotations

import argparse
import csv
import statistics
import sys
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

from publish import publish

from georecon.commands import command
from georecon.experiments.experiments import Experiments
from georecon.jobs.job import prepare_torch
from georecon.records.record import compute_device
from georecon.stages.finetune import finetune
from georecon.training.world import World

ROOT = Path(__file__).resolve().parents[1]
PRECISIONS = ("float32", "bf16")
EVALUATIONS = 20


def run(
    experiments: Experiments, target: str, seed: int, world: World, **train: Any
) -> tuple[float, float, dict[int, float]]:
    """Validation error [label unit] of the selected weights, molecules/s, error by step."""
    own = experiments.runs.finetune_settings("property", target, "scratch", seed)
    settings = replace(own, train=replace(own.train, **train)).as_json()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        result = finetune(
            settings,
            Path(experiments.data.store("qm9", target)),
            Path(experiments.data.split("property", target, 1)),
            None,
            folder,
            state=folder / "state",
            world=world,
            say=lambda line: None,
        )
        with open(folder / "curve.csv", newline="", encoding="utf-8") as handle:
            curve = {int(row["step"]): float(row["val_mae"]) for row in csv.DictReader(handle)}
    molecules = result.steps * own.train.batch_size
    return result.final["val_mae"], molecules / result.seconds, curve


def apart(curves: dict[str, list[dict[int, float]]]) -> dict[str, float]:
    """Distance of the mean curves in spreads over seeds: largest, mean, standard error."""
    distances = []
    for step in curves["float32"][0]:
        full, half = ([curve[step] for curve in curves[name]] for name in PRECISIONS)
        spread = ((statistics.variance(full) + statistics.variance(half)) / 2.0) ** 0.5
        distances.append(abs(statistics.mean(half) - statistics.mean(full)) / spread)
    error = (2.0 / len(curves["float32"])) ** 0.5
    return {"largest": max(distances), "mean": statistics.mean(distances), "error": error}


def main() -> None:
    """Run all seeds."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", help="file for the numbers; - for standard output")
    parser.add_argument("--target", default="homo")
    parser.add_argument("--steps", type=int, default=2000)
    parser.add_argument("--seeds", type=int, default=15)
    options = parser.parse_args()
    experiments = Experiments.load(ROOT / "config", {"edition": "laptop"})
    if not Path(experiments.data.split("property", options.target, 1)).exists():
        how = command("table_qm9", edition="laptop")
        sys.exit(f"the laptop edition's QM9 split is not there: run `{how}`")
    world = World(prepare_torch(1))
    errors: dict[str, list[float]] = {name: [] for name in PRECISIONS}
    rates: dict[str, list[float]] = {name: [] for name in PRECISIONS}
    curves: dict[str, list[dict[int, float]]] = {name: [] for name in PRECISIONS}
    train = {"steps": options.steps, "evaluations": EVALUATIONS}
    for seed in range(1, options.seeds + 1):
        for name in PRECISIONS:
            error, rate, curve = run(
                experiments, options.target, seed, world, precision=name, **train
            )
            errors[name].append(error)
            rates[name].append(rate)
            curves[name].append(curve)
    means = {name: statistics.mean(values) for name, values in errors.items()}
    report = {
        "device": compute_device(),
        "target": options.target,
        "steps": options.steps,
        "validation_mae": errors,
        "spread": {name: statistics.stdev(values) for name, values in errors.items()},
        "molecules_per_second": {name: statistics.median(v) for name, v in rates.items()},
        "curves": curves,
        "apart": apart(curves),
        "ratio": means["bf16"] / means["float32"],
    }
    if not publish(report, options.json):
        return
    for name in PRECISIONS:
        print(
            f"{options.target} {name:8s} validation MAE {means[name]:.4f} ± "
            f"{report['spread'][name]:.4f} over {options.seeds} seeds, "
            f"{report['molecules_per_second'][name]:.0f} molecules/s"
        )
    print(f"ratio of errors {report['ratio']:.4f}")
    line = "curves apart, in spreads: largest {largest:.2f}, mean {mean:.2f} ± {error:.2f}"
    print(line.format(**report["apart"]))


if __name__ == "__main__":
    main()
