"""The same small runs in one process and in several that share each batch through gloo."""

from __future__ import annotations

import csv
import os
import socket
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml

from georecon import objectives
from georecon.data.store import Store
from georecon.errors import GeoreconError
from georecon.experiments.objective_keys import declared, kind_of
from georecon.experiments.settings import EncoderSettings, Recipe, UnimolSettings
from georecon.models.encoders import Encoder, build_encoder
from georecon.models.potential import PropertyModel
from georecon.stages.finetune import FinetuneModel, FinetuneTask
from georecon.stages.pretrain import PretrainTask
from georecon.training.batches import ShuffledBatches, in_order
from georecon.training.loop import fit
from georecon.training.world import Together, World, close
from tests.training.toy_run import DIGEST, FRESH, settings

ROOT = Path(__file__).resolve().parents[2]
STEPS = 50
SIZES = {"channels": 8, "layers": 2, "heads": 2, "rbf": 8, "max_z": 20}
METHODS = yaml.safe_load((ROOT / "config/methods.yaml").read_text(encoding="utf-8"))
PARAMS: dict[str, dict[str, Any]] = {
    entry["objective"]: entry["params"] for entry in METHODS.values() if "objective" in entry
}
PARAMS["unimol"] = METHODS["unimol_georecon"]["params"]
UNIMOL = {"kind": "unimol", "channels": 8, "layers": 2, "heads": 2, "kernels": 8, "max_z": 20}
RECIPE = Recipe(
    head="scalar",
    loss="mse",
    standardize=True,
    atomref={},
    fitted=False,
    noise_sigma=0.005,
    noise_weight=0.1,
    energy_weight=0.2,
    force_weight=0.8,
)


def encoder_for(objective: str) -> Encoder:
    """A small encoder of the architecture that an objective trains."""
    if kind_of(declared(objective)) == "unimol":
        return build_encoder(UnimolSettings(**UNIMOL))  # type: ignore[arg-type]
    return build_encoder(EncoderSettings(**SIZES))


def make(
    kind: str, store_path: Path, world: World, part_atoms: int = 0
) -> PretrainTask | FinetuneTask:
    """Coord ("denoise"), GeoRecon ("reconstruct") or "force", batches of 9 molecules."""
    store = Store.open(store_path)
    torch.manual_seed(1)
    ids = np.asarray(store.ids)
    label = "energy" if kind == "force" else None
    batches = ShuffledBatches(
        store, ids[:18], batch_size=9, seed=1, label=label, world=world, part_atoms=part_atoms
    )
    validation = in_order(store, ids[18:], 2, label)
    if kind == "force":
        sizes = EncoderSettings(**SIZES)
        zeros = torch.zeros(sizes.max_z)
        model = PropertyModel(sizes, "scalar", scale=1.0, shift=0.0, atomref=zeros)
        whole = FinetuneModel(model)
        return FinetuneTask(whole, RECIPE, batches, validation, seed=1)
    objective = objectives.build(kind, encoder_for(kind), PARAMS[kind])
    return PretrainTask(objective, batches, validation, seed=1)


def train(
    kind: str,
    store: Path,
    folder: Path,
    world: World,
    spoil: Callable[[Any, World], Any] | None = None,
    **changes: Any,
) -> None:
    """Fit in ``folder``; every step is evaluated, so that the curve is the loss sequence."""
    task = make(kind, store, world)
    if spoil is not None:
        task = spoil(task, world)
    plain = {"steps": STEPS, "evaluations": STEPS, "batch_size": 9, "lr": 1e-3}
    train_settings = settings(**{**plain, **changes})
    fit(task, train_settings, folder=folder, digest=DIGEST, name=kind, say=print, world=world)


def rank(number: int, size: int, port: int, timeout: float, arguments: tuple[Any, ...],
         changes: dict[str, Any]) -> None:  # fmt: skip
    """Body of one process."""
    torch.set_num_threads(1)
    os.environ |= {
        "RANK": str(number),
        "WORLD_SIZE": str(size),
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
        "GLOO_SOCKET_IFNAME": "lo",
        "GEORECON_TIMEOUT": str(timeout),
    }
    world = Together("cpu")
    try:
        train(*arguments, world, **changes)
    except GeoreconError as error:
        (arguments[2] / f"error-{number}.txt").write_text(str(error))
        sys.exit(1)
    close(world)


def error(folder: Path, number: int) -> str:
    """The error that a process of a run ended with."""
    return (folder / f"error-{number}.txt").read_text()


def start(size: int, *arguments: Any, timeout: float = 60.0, **changes: Any) -> list[Any]:
    """Start the processes of one run."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    processes = [
        FRESH.Process(target=rank, args=(k, size, port, timeout, arguments, changes))
        for k in range(size)
    ]
    for process in processes:
        process.start()
    return processes


def finish(processes: list[Any], seconds: float = 100.0) -> list[int | None]:
    """Wait for all; their exit codes, None for one that did not end."""
    end = time.monotonic() + seconds
    for process in processes:
        process.join(max(0.0, end - time.monotonic()))
    return [process.exitcode for process in processes]


def curve(folder: Path, column: str = "train_loss", name: str = "curve.csv") -> np.ndarray:
    """One column of a run's curve."""
    with open(folder / name, newline="") as handle:
        return np.array([float(row[column]) for row in csv.DictReader(handle)])
