"""Pre-training of one encoder by one method."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from georecon import objectives
from georecon.data.split import read_split
from georecon.data.store import Store
from georecon.files import atomic_path, sha256_file, sha256_json
from georecon.models.encoder import EncoderSettings, EquivariantTransformer
from georecon.models.encoder_file import save_encoder
from georecon.noise import NoiseSource
from georecon.training.batches import Batch, ShuffledBatches, in_order
from georecon.training.loop import FitResult, TrainSettings, fit

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
        device: str,
    ) -> None:
        self.model = objective.to(device)
        self.batches, self.seed, self.device = batches, seed, device
        self.validation = [batch.graph.to(device) for batch in validation]

    def loss(self, step: int) -> dict[str, Tensor]:
        """Objective on the batch of this step."""
        graph = self.batches.at(step).graph.to(self.device)
        return self.model(graph, NoiseSource(self.seed, step))

    def molecules(self, step: int) -> list[int]:
        """Molecule ids of this step's batch."""
        return self.batches.at(step).graph.ids.tolist()

    def validate(self) -> dict[str, float]:
        """Objective on held-out molecules, averaged over atoms; its noise never changes."""
        sums: dict[str, float] = {}
        atoms = 0
        self.model.eval()
        with torch.no_grad():
            for graph in self.validation:
                measures = self.model.validate(graph, NoiseSource(0, VALIDATION_STEP))
                for name, value in measures.items():
                    sums[name] = sums.get(name, 0.0) + float(value) * len(graph.z)
                atoms += len(graph.z)
        self.model.train()
        means = {name: value / atoms for name, value in sums.items()}
        return {"score": means.pop("loss"), **means}


def pretrain(
    settings: dict[str, Any],
    store_path: Path,
    split_path: Path,
    output: Path,
    *,
    state: Path,
    device: str,
    say: Callable[[str], None],
) -> FitResult:
    """Train an encoder and write ``encoder.safetensors`` and ``metrics.csv``.

    Args:
        settings: objective, params, encoder, train, seed, code (see ``georecon.experiments``).
        store_path: store of molecules.
        split_path: split with ``train`` and ``val`` ids.
        output: folder for the two files.
        state: folder of unfinished runs; this one uses a folder named by its digest.
        device: "cpu" or "cuda".
        say: takes one progress line.
    """
    store, split = Store.open(store_path), read_split(split_path)
    train = TrainSettings(**settings["train"])
    digest = sha256_json(
        {"settings": settings, "store": store.sha256, "split": sha256_file(split_path)}
    )
    torch.manual_seed(settings["seed"])
    encoder = EquivariantTransformer(EncoderSettings(**settings["encoder"]))
    objective = objectives.build(settings["objective"], encoder, settings["params"])
    batches = ShuffledBatches(
        store, split.train, batch_size=train.batch_size, seed=settings["seed"]
    )
    validation = in_order(store, split.val, 64, None)
    task = PretrainTask(objective, batches, validation, seed=settings["seed"], device=device)
    folder = state / digest[:24]
    result = fit(task, train, folder=folder, digest=digest, name=settings["name"], say=say)
    save_encoder(output / "encoder.safetensors", encoder, method=settings["method"])
    with atomic_path(output / "metrics.csv") as temporary:
        shutil.copyfile(folder / "curve.csv", temporary)
    return result
