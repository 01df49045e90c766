"""Fine-tuning with bfloat16 matrix products against float32: errors over seeds, and rates.

Same molecules, steps and seeds for both, from scratch, in alternation; the laptop edition's encoder
and recipe on QM9, from the store and split that ``make`` builds. ``ratio`` is the mean validation
error with bf16 over that with float32. Prints a table; ``--json FILE`` writes the numbers (``-``:
to standard output, alone).
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
from pathlib import Path
from typing import Any

from publish import publish

from georecon.config import load_config
from georecon.experiments import Experiments
from georecon.finetune import finetune
from georecon.job import prepare_torch
from georecon.provenance import compute_device
from georecon.training.world import World

ROOT = Path(__file__).resolve().parents[1]
PRECISIONS = ("float32", "bf16")


def run(
    experiments: Experiments, target: str, seed: int, world: World, **train: Any
) -> tuple[float, float]:
    """Validation error [label unit] of the selected weights, and molecules/s."""
    settings = experiments.finetune_settings("qm9", target, "scratch", seed)
    settings = settings | {"train": settings["train"] | train}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        result = finetune(
            settings,
            Path(experiments.store("qm9", target)),
            Path(experiments.split("qm9", target)),
            None,
            folder,
            state=folder / "state",
            world=world,
            say=lambda line: None,
        )
    molecules = result.steps * settings["train"]["batch_size"]
    return result.final["val_mae"], molecules / result.seconds


def main() -> None:
    """Run all seeds."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", help="file for the numbers; - for standard output")
    parser.add_argument("--target", default="homo")
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--seeds", type=int, default=5)
    options = parser.parse_args()
    experiments = Experiments(load_config(ROOT / "config", {"edition": "laptop"}))
    if not Path(experiments.split("qm9", options.target)).exists():
        sys.exit(
            "the laptop edition's QM9 split is not there: run `snakemake --cores all table_qm9`"
        )
    world = World(prepare_torch(1))
    errors: dict[str, list[float]] = {name: [] for name in PRECISIONS}
    rates: dict[str, list[float]] = {name: [] for name in PRECISIONS}
    for seed in range(1, options.seeds + 1):
        for name in PRECISIONS:
            error, rate = run(
                experiments, options.target, seed, world, steps=options.steps, precision=name
            )
            errors[name].append(error)
            rates[name].append(rate)
    means = {name: statistics.mean(values) for name, values in errors.items()}
    report = {
        "device": compute_device(),
        "target": options.target,
        "steps": options.steps,
        "validation_mae": errors,
        "spread": {name: statistics.stdev(values) for name, values in errors.items()},
        "molecules_per_second": {name: statistics.median(v) for name, v in rates.items()},
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


if __name__ == "__main__":
    main()
