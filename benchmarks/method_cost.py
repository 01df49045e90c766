"""What a pre-training step of each method of an edition costs, for ``steps_factor`` in its file.

Methods are compared at equal processor time. Their steps are taken in turn, twenty at a time, on
the edition's own molecules and sizes, one thread; ``milliseconds`` are the medians of those blocks
over steps (processor time), ``steps_factor`` is the first method's over the method's: Coord's, or
with ``--encoder unimol`` Uni-Mol's. Run it in a folder where the edition's pre-training split has
been made, on a quiet machine; ``--json FILE`` writes the numbers.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from pathlib import Path

import torch
from publish import publish

from georecon import objectives
from georecon.data.split import read_split
from georecon.data.store import Store
from georecon.experiments.experiments import Experiments
from georecon.jobs.job import prepare_torch
from georecon.models.encoders import build_encoder
from georecon.stages.pretrain import PretrainTask
from georecon.training.batches import ShuffledBatches
from georecon.training.loop import Trainer

ROOT = Path(__file__).resolve().parents[1]
BLOCK = 20  # a multiple of what any method's rarer passes are apart


def trainer(experiments: Experiments, method: str, folder: Path) -> Trainer:
    """A training of the method as the edition does it, before its first step."""
    run = experiments.runs.pretrain_settings(method, 1)
    store = Store.open(Path(experiments.data.pretrain_store()))
    split = read_split(Path(experiments.data.pretrain_split()))
    torch.manual_seed(run.seed)
    objective = objectives.build(run.objective, build_encoder(run.encoder), run.params)
    batches = ShuffledBatches(store, split.train, batch_size=run.train.batch_size, seed=run.seed)
    task = PretrainTask(objective, batches, [], seed=run.seed)
    return Trainer(task, run.train, folder, method)


def main() -> None:
    """Measure and publish."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--edition", default="laptop")
    parser.add_argument("--encoder", help="a name in `encoders`; none: the section `encoder`")
    parser.add_argument("--blocks", type=int, default=7)
    parser.add_argument("--json", help="file for the numbers; - for standard output alone")
    options = parser.parse_args()
    experiments = Experiments.load(ROOT / "config", {"edition": options.edition})
    if not Path(experiments.data.pretrain_split()).exists():
        sys.exit(f"{experiments.data.pretrain_split()} is not there: make it first with snakemake")
    prepare_torch(1)
    names = [
        name
        for name, entry in experiments.config.methods.items()
        if entry.of is None and entry.objective and entry.encoder == options.encoder
    ]
    with tempfile.TemporaryDirectory() as folder:
        runs = {name: trainer(experiments, name, Path(folder)) for name in names}
        taken: dict[str, list[float]] = {name: [] for name in names}
        for _ in range(options.blocks + 1):
            for name, run in runs.items():
                started = time.process_time()
                for _ in range(BLOCK):
                    run.train_step()
                taken[name].append(1e3 * (time.process_time() - started) / BLOCK)
    cost = {name: statistics.median(blocks[1:]) for name, blocks in taken.items()}
    first = names[0]
    report = {
        "edition": options.edition,
        "milliseconds": cost,
        "steps_factor": {name: cost[first] / found for name, found in cost.items()},
    }
    if publish(report, options.json):
        for name, found in cost.items():
            print(f"{name}: {found:.2f} ms a step, {first}'s {cost[first] / found:.3f} of it")


if __name__ == "__main__":
    main()
