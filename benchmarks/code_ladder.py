"""What a code is worth to the reconstruction: a ladder from no code to one that says everything.

For the readings FP and JP, which is ``georecon`` (config/editions/readings.yaml; docs/method.md,
"Readings"), trained with the reconstruction at every step, the code that the conditioned encoder is
given is:

* ``none``: zeros; ``shuffled``: another molecule's, in training and in validation;
* ``pooled``: the method's own, pooled from the clean side's features;
* ``histogram``: an oracle of the whole molecule, histograms of all its distances by pair of
  elements: what a pooled code could say at best if it kept every distance;
* ``atoms``: an oracle that needs no addressing, each atom's own features of the clean side.

``loss`` is that of the reconstruction on validation molecules with the code that the rung gives
(noise of variance one), a list over seeds; ``gain`` the paired difference to ``none``: mean and
standard error. From ``none`` to ``atoms`` is what a code can be worth, from ``histogram`` to
``atoms`` what it costs to find one's own atom in a pooled one. Needs the pre-training split of the
edition; ``--json FILE`` writes the numbers.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from publish import publish
from torch import Tensor, nn
from torch.nn import functional

from georecon.data.split import read_split
from georecon.data.store import Store
from georecon.experiments.experiments import Experiments
from georecon.experiments.settings import PretrainSettings
from georecon.graph import MolGraph
from georecon.jobs.job import prepare_torch
from georecon.keys import from_json
from georecon.models.encoder import EquivariantTransformer, linear
from georecon.objectives.conditioned import Objective, Parameters
from georecon.stages.pretrain import PretrainTask
from georecon.training.batches import ShuffledBatches, in_order
from georecon.training.loop import Trainer

ROOT = Path(__file__).resolve().parents[1]
READINGS = ("fp", "georecon")
RUNGS = {
    "none": "zero",
    "shuffled": "shuffled",
    "pooled": "own",
    "histogram": "own",
    "atoms": "own",
}
"""Rung → the objective's ``code``."""
ELEMENTS = (1, 6, 7, 8, 9)
BINS, LONGEST = 64, 10.0  # of distances, [Å]
VALIDATION = 512


class Histogram(nn.Module):
    """Distances of a molecule's atoms, counted by pair of elements in soft bins, as its code."""

    pair: Tensor

    def __init__(self, channels: int) -> None:
        super().__init__()
        pairs = len(ELEMENTS) * (len(ELEMENTS) + 1) // 2
        self.mix = linear(pairs * BINS, channels)
        self.after = nn.Sequential(nn.SiLU(), linear(channels, channels))
        table = torch.zeros(100, 100, dtype=torch.int64)
        for number, (a, b) in enumerate((a, b) for a in ELEMENTS for b in ELEMENTS if a <= b):
            table[a, b] = table[b, a] = number
        self.register_buffer("pair", table)

    def forward(self, x: Tensor, graph: MolGraph) -> Tensor:
        """Node scalars are not looked at; codes (B, F)."""
        counts = graph.ptr.diff()
        first = torch.repeat_interleave(torch.arange(len(graph.z)), counts[graph.batch])
        start = graph.ptr[graph.batch[first]]
        place = (
            torch.arange(len(first))
            - torch.cat([first.new_zeros(1), first.bincount()]).cumsum(0)[first]
        )
        second = start + place
        first, second = (atom[first < second] for atom in (first, second))
        distance = (graph.pos[first] - graph.pos[second]).norm(dim=1)
        centres = torch.linspace(0.0, LONGEST, BINS)
        width = LONGEST / (BINS - 1)
        soft = torch.exp(-0.5 * ((distance[:, None] - centres) / width).square())
        pairs = int(self.pair.max()) + 1
        row = graph.batch[first] * pairs + self.pair[graph.z[first], graph.z[second]]
        counted = torch.zeros(graph.num_graphs * pairs, BINS).index_add(0, row, soft)
        mixed = self.mix(counted.view(graph.num_graphs, -1).log1p())
        return functional.layer_norm(self.after(mixed), x.shape[-1:])


class OfAtoms(nn.Module):
    """Each atom's own features, normalised, as the code of a molecule of one atom: (N, F)."""

    def forward(self, x: Tensor, graph: MolGraph) -> Tensor:
        return functional.layer_norm(x, x.shape[-1:])


class Rung(Objective):
    """A reading with the code of one rung; ``validate`` gives it in validation, too."""

    def __init__(self, encoder: EquivariantTransformer, parameters: Parameters, rung: str) -> None:
        super().__init__(encoder, replace(parameters, code=RUNGS[rung], dropout=0.0, every=1))
        self.of_atoms = rung == "atoms"
        if rung == "histogram":
            self.graph_code = Histogram(encoder.settings.channels)  # type: ignore[assignment]
        elif rung == "atoms":
            self.graph_code = OfAtoms()  # type: ignore[assignment]

    def condition(self, code: Tensor, graph: MolGraph) -> Any:
        if self.of_atoms:
            atoms = torch.arange(len(graph.z) + 1)
            graph = graph._replace(batch=atoms[:-1], ptr=atoms, ids=atoms[:-1])
        return super().condition(code, graph)

    def validate(self, graph: MolGraph, noise: Any) -> dict[str, Tensor]:
        losses = self.forward(graph, noise)
        return {**losses, "loss": losses["reconstruct"]}


def loss_of(
    run: PretrainSettings, rung: str, steps: int, seed: int, store: Store, split: Any
) -> float:
    """Validation loss of the reconstruction after training."""
    train = replace(run.train, steps=steps, warmup=steps // 20)
    torch.manual_seed(seed)
    parameters = from_json(Parameters, run.params)
    objective = Rung(EquivariantTransformer(run.encoder), parameters, rung)
    batches = ShuffledBatches(store, split.train, batch_size=train.batch_size, seed=seed)
    task = PretrainTask(
        objective, batches, in_order(store, split.val[:VALIDATION], 64, None), seed=seed
    )
    with tempfile.TemporaryDirectory() as folder:
        trainer = Trainer(task, train, Path(folder), rung)
        while trainer.step < steps:
            trainer.train_step()
    return task.validate()["score"]


def main() -> None:
    """All rungs, readings and seeds."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", help="file for the numbers; - for standard output alone")
    parser.add_argument("--readings", nargs="+", choices=READINGS, default=READINGS)
    parser.add_argument("--steps", type=int, default=4000)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--channels", type=int, default=32)
    parser.add_argument("--layers", type=int, default=2)
    options = parser.parse_args()
    experiments = Experiments.load(ROOT / "config", {"edition": "readings"})
    if not Path(experiments.data.pretrain_split()).exists():
        sys.exit(f"{experiments.data.pretrain_split()} is not there: make it first with snakemake")
    prepare_torch(1)
    store = Store.open(Path(experiments.data.pretrain_store()))
    split = read_split(Path(experiments.data.pretrain_split()))
    report: dict[str, Any] = {
        "steps": options.steps,
        "channels": options.channels,
        "layers": options.layers,
    }
    for reading in options.readings:
        run = experiments.runs.pretrain_settings(reading, 1)
        run = replace(
            run, encoder=replace(run.encoder, channels=options.channels, layers=options.layers)
        )
        seeds = range(1, options.seeds + 1)
        losses = {}
        for rung in RUNGS:
            losses[rung] = [loss_of(run, rung, options.steps, seed, store, split) for seed in seeds]
            print(
                f"{reading}, {rung}: {', '.join(f'{value:.4f}' for value in losses[rung])}",
                flush=True,
            )
        report[reading] = {
            "loss": losses,
            "gain": {rung: gain(losses["none"], losses[rung]) for rung in RUNGS},
        }
    publish(report, options.json)


def gain(none: list[float], other: list[float]) -> list[float]:
    """How much lower the loss is than without a code: mean over seeds, standard error."""
    differences = [a - b for a, b in zip(none, other, strict=True)]
    spread = statistics.stdev(differences) if len(differences) > 1 else float("nan")
    return [statistics.mean(differences), spread / len(differences) ** 0.5]


if __name__ == "__main__":
    main()
