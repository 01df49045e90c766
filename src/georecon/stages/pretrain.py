"""Pre-training of one encoder by one method."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from georecon import objectives
from georecon.data.split import read_split
from georecon.data.store import Store
from georecon.experiments.settings import PretrainSettings
from georecon.files import atomic_path, sha256_file, sha256_json
from georecon.kernels.fixed_edges import available
from georecon.keys import Json, from_json
from georecon.models.encoder_file import (
    load_encoder,
    load_objective,
    save_encoder,
    save_objective,
)
from georecon.models.encoders import build_encoder
from georecon.noise import NoiseSource
from georecon.padding import filled_up
from georecon.training.batches import WHOLE, Batch, ShuffledBatches, in_order
from georecon.training.loop import FitResult, fit
from georecon.training.precision import check_precision
from georecon.training.replay import Recurring, padded, recordable_sizes
from georecon.training.world import World

ENCODER, OBJECTIVE = "encoder.safetensors", "objective.safetensors"
VALIDATION_STEP = -1
"""Step that validation noise is drawn for: the same at every evaluation, for every method."""


class PretrainTask:
    """Loss and validation of an objective on unlabelled molecules (the loop's ``Task``)."""

    def __init__(
        self,
        objective: objectives.PretrainingObjective,
        batches: ShuffledBatches,
        validation: list[Batch],
        *,
        seed: int,
    ) -> None:
        self.batches, self.seed, self.world = batches, seed, batches.world
        self.model = objective.to(self.world.device)
        self.validation = [batch.graph.to(self.world.device) for batch in validation]

    def parts(self, step: int) -> int:
        """Parts of this process's share of a step's batch."""
        return len(self.batches.parts(step))

    def loss(self, step: int, part: int = 0) -> dict[str, Tensor]:
        """Objective on one of those parts."""
        share = self.batches.share(step, part)
        losses = self.model(self.batches.at(step, part).graph, NoiseSource(self.seed, step))
        return {name: share.of(self.model.mean_over, value) for name, value in losses.items()}

    def recurring(self, step: int, part: int) -> Recurring | None:
        """The losses of a batch that is filled up, if it is not shared out."""
        model = self.model
        wanted = model.separable and recordable_sizes(model.encoder.settings)
        if not wanted or not available(self.world.device):
            return None
        if self.batches.share(step, part) != WHOLE:
            return None
        graph = filled_up(self.batches.at(step, part).graph)
        return Recurring(model.losses, padded(model.inputs(graph, NoiseSource(self.seed, step))))

    def molecules(self, step: int) -> list[int]:
        """Molecule ids of this step's batch."""
        return self.batches.ids_at(step)

    def validate(self) -> dict[str, float]:
        """Objective on held-out molecules, averaged over atoms; its noise never changes.

        Batches are shared out whole and their values summed in the order of the batches, so that
        the number of processes changes no bit.
        """
        own = range(self.world.rank, len(self.validation), self.world.size)
        names: list[str] = []
        table = torch.zeros(0)
        self.model.eval()
        with torch.no_grad():
            for k in own or [0]:  # a process without a batch still learns the names
                measures = self.model.validate(self.validation[k], NoiseSource(0, VALIDATION_STEP))
                values = torch.stack([value.double() for value in measures.values()]).cpu()
                if not names:
                    names = list(measures)
                    table = torch.zeros(len(self.validation), len(names), dtype=torch.float64)
                if k in own:
                    table[k] = values
        self.model.train()
        atoms = [len(graph.z) for graph in self.validation]
        rows = self.world.sum(table).tolist()
        means = {
            name: sum(row[column] * n for row, n in zip(rows, atoms, strict=True)) / sum(atoms)
            for column, name in enumerate(names)
        }
        return {"score": means.pop("loss"), **means}


def pretrain(
    settings: Json,
    store_path: Path,
    split_path: Path,
    output: Path,
    *,
    state: Path,
    world: World,
    say: Callable[[str], None],
) -> FitResult:
    """Train an encoder; write ``encoder.safetensors``, ``objective.safetensors``, ``metrics.csv``.

    Args:
        settings: of ``PretrainSettings``, as JSON.
        store_path: store of molecules.
        split_path: split with ``train`` and ``val`` ids.
        output: folder for the three files.
        state: folder of unfinished runs; this one uses a folder named by its digest.
        world: the processes that train together; the first one writes the files.
        say: takes one progress line.
    """
    store, run = Store.open(store_path), from_json(PretrainSettings, settings)
    train = run.train
    check_precision(train.precision, world.device)
    digest = sha256_json(
        {"settings": settings, "store": store.sha256, "split": sha256_file(split_path)}
    )
    task = _task(run, store, split_path, world)
    folder, name = state / digest[:24], run.name
    result = fit(task, train, folder=folder, digest=digest, name=name, say=say, world=world)
    if world.first:
        save_encoder(output / ENCODER, task.model.encoder, method=run.method)
        save_objective(output / OBJECTIVE, task.model, method=run.method)
        with atomic_path(output / "metrics.csv") as temporary:
            shutil.copyfile(folder / "curve.csv", temporary)
    return result


def measures_of(
    settings: Json, store_path: Path, split_path: Path, folder: Path, *, device: str
) -> dict[str, float]:
    """Held-out measures of finished weights, as the curve's row of the best step has them.

    Args:
        settings: of ``PretrainSettings``, as JSON.
        store_path: store of molecules.
        split_path: split with ``train`` and ``val`` ids.
        folder: with ``encoder.safetensors`` and ``objective.safetensors``.
        device: "cpu" or "cuda".

    Returns:
        By name: ``val_score`` and the objective's own, ``val_<measure>``.

    Raises:
        CheckpointError: weights of another objective or architecture.
    """
    run = from_json(PretrainSettings, settings)
    task = _task(run, Store.open(store_path), split_path, World(device))
    load_encoder(folder / ENCODER, task.model.encoder)
    load_objective(folder / OBJECTIVE, task.model)
    return {f"val_{name}": value for name, value in task.validate().items()}


def _task(run: PretrainSettings, store: Store, split_path: Path, world: World) -> PretrainTask:
    """What a run trains, untrained."""
    split = read_split(split_path)
    torch.manual_seed(run.seed)
    encoder = build_encoder(run.encoder)
    objective = objectives.build(run.objective, encoder, run.params)
    batches = ShuffledBatches(
        store,
        split.train,
        batch_size=run.train.batch_size,
        seed=run.seed,
        world=world,
        part_atoms=run.train.part_atoms,
    )
    validation = in_order(store, split.val, 64, None, run.train.part_atoms)
    return PretrainTask(objective, batches, validation, seed=run.seed)
