"""The trial of one kind of training: its own stage, for a few steps at its real sizes.

The loop asks its world after every step whether to stop; here the world looks at the clock as well.
So what is timed is the very training that an edition runs: same functions, same files, same sums.
"""

from __future__ import annotations

import math
import resource
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import torch

from georecon.data.manifest import Source
from georecon.data.split import Split, read_split, write_split
from georecon.data.store import Store, StoreWriter
from georecon.data.synthetic import synthetic_molecules
from georecon.errors import ConfigError
from georecon.experiments.rates import Measurement, Rate
from georecon.experiments.settings import FinetuneSettings, PretrainSettings
from georecon.experiments.trial import TrialJob
from georecon.jobs.gpus import own_gpus
from georecon.jobs.job import prepare_torch
from georecon.keys import Json, from_json
from georecon.records.record import compute_device
from georecon.stages.evaluate import evaluate
from georecon.stages.finetune import finetune
from georecon.stages.pretrain import pretrain
from georecon.training import checkpoint
from georecon.training.batches import load_batch
from georecon.training.kernel import say_kernel
from georecon.training.world import World

STEPS, VALIDATIONS = 14, 2
WARM = 2  # steps that are not counted: kernels are compiled and caches filled
PERIOD = 4  # steps after which a training does the same again, as georecon.training.estimate has it
BATCHES = 4  # of training molecules that steps are taken on
PRETRAIN_VALIDATED = 128  # molecules: two of pre-training's batches of validation
OUTPUTS, PREDICTIONS = "outputs.safetensors", "predictions.parquet"


class Clock(World):
    """One process alone that notes when each step ended, all of the GPU's work included."""

    def __init__(self, device: str) -> None:
        super().__init__(device)
        self.ends: list[float] = []

    def any(self, flag: bool) -> bool:
        """The loop's question after each step."""
        if self.device == "cuda":
            torch.cuda.synchronize()
        self.ends.append(time.perf_counter())
        return flag


class Times(NamedTuple):
    """Seconds of a step and of a validation, as of :class:`georecon.experiments.rates.Rate`."""

    step: float
    step_error: float
    step_spread: float
    validation: float
    validation_error: float


def times_of(ends: list[float], validated: set[int]) -> Times:
    """What a step and a validation take.

    Steps are not all alike: some objectives do more at every second or fourth one. So means are
    taken of steps a ``PERIOD`` apart, and the mean of those counts each kind as often as a run has.

    Args:
        ends: when each step ended [s], the first one being step 1.
        validated: steps after which there was a validation.
    """
    lengths = {k: ends[k] - ends[k - 1] for k in range(WARM, len(ends))}  # k from 0
    plain = {k: t for k, t in lengths.items() if k + 1 not in validated}
    groups = [[t for k, t in plain.items() if k % PERIOD == r] for r in range(PERIOD)]
    means = [statistics.fmean(group) for group in groups]
    squares = sum((t - means[k % PERIOD]) ** 2 for k, t in plain.items())
    variance = squares / (len(plain) - PERIOD)
    error = math.sqrt(variance * sum(1 / len(group) for group in groups)) / PERIOD
    validations = [t - means[k % PERIOD] for k, t in lengths.items() if k + 1 in validated]
    own_error = statistics.stdev(validations) / math.sqrt(len(validations))
    return Times(
        step=statistics.fmean(means),
        step_error=error,
        step_spread=statistics.stdev(plain.values()),
        # noise may make a short validation negative: it then costs nothing, give or take its error
        validation=max(0.0, statistics.fmean(validations)),
        validation_error=math.hypot(own_error, error),
    )


def measure(
    settings: Json,
    place: Path,
    *,
    started: float,
    threads: int,
    gpus: int,
    say: Callable[[str], None],
) -> Measurement:
    """Train for a few steps in a folder of its own, which is removed.

    Args:
        settings: of ``TrialJob``, as JSON.
        place: folder that the training's folder is made in.
        started: when the job began, by ``time.perf_counter``.
        threads: of the process.
        gpus: that the job asks for; one is used.
        say: takes a line.

    Raises:
        ConfigError: no molecules are here and no card says how many atoms they have.
    """
    job = from_json(TrialJob, settings)
    with (
        own_gpus(gpus, say),
        tempfile.TemporaryDirectory(dir=place, prefix=".trial-") as name,
    ):
        clock, folder = Clock(prepare_torch(threads, gpus)), Path(name)
        before = time.perf_counter()
        say_kernel(clock.device, say)
        started += time.perf_counter() - before  # kernels are built once a machine, not once a run
        synthetic = not (Path(job.store, "manifest.json").exists() and Path(job.split).exists())
        run = _short(job, synthetic=synthetic)
        make = _synthetic_data if synthetic else _stored_data
        store, split = make(job, run, folder)
        rate = _rate(run, store, split, folder, clock, started)
    device = compute_device()
    name = f"{device['device']} {device['name']}, {device['threads']} thread(s)"
    return Measurement(job.kind, name, "synthetic" if synthetic else "stored", job.code, rate)


def _short(job: TrialJob, *, synthetic: bool) -> PretrainSettings | FinetuneSettings:
    """Settings of the run, of few steps; references of elements would not fit made-up molecules."""
    train = {"steps": STEPS, "evaluations": VALIDATIONS, "warmup": 1, "patience": 0}
    given = {**job.settings, "train": {**_section(job, "train"), **train}}
    if job.stage == "pretrain":
        return from_json(PretrainSettings, given)
    if synthetic:
        plain = {"atomref": {}, "fitted": False, "isolated_atoms": False, "standardize": True}
        given["recipe"] = {**_section(job, "recipe"), **plain}
    return from_json(FinetuneSettings, given)


def _section(job: TrialJob, name: str) -> Json:
    found = job.settings[name]
    assert isinstance(found, dict)
    return found


class _Counts(NamedTuple):
    """Molecules that train, and that validate; as many are predicted."""

    train: int
    validation: int


def _counts(job: TrialJob, run: PretrainSettings | FinetuneSettings) -> _Counts:
    most = run.evaluation_batch if isinstance(run, FinetuneSettings) else PRETRAIN_VALIDATED
    return _Counts(BATCHES * run.train.batch_size, min(job.validation, most))


def _stored_data(
    job: TrialJob, run: PretrainSettings | FinetuneSettings, folder: Path
) -> tuple[Path, Path]:
    """The run's own store, and a split with the first of each part."""
    counts, split, store = _counts(job, run), read_split(job.split), Store.open(job.store)
    few = Split(
        split.train[: counts.train], split.val[: counts.validation], split.test[: counts.validation]
    )
    return store.path, _split(store, few, folder)


def _synthetic_data(
    job: TrialJob, run: PretrainSettings | FinetuneSettings, folder: Path
) -> tuple[Path, Path]:
    """A store of made-up molecules of the card's size, and a split of it."""
    if job.atoms is None:
        raise ConfigError(
            f"datasets.{job.dataset}: no molecules in {job.store} yet, and no size to make some up "
            "by; make the store first, or give `atoms` of the card or of its targets"
        )
    counts, units = _counts(job, run), {"pos": "Å"}
    total, label, forces = counts.train + 2 * counts.validation, "", False
    if isinstance(run, FinetuneSettings):
        label, forces = run.label, run.recipe.forces
        units |= {label: "eV", **({"forces": "eV/Å"} if forces else {})}
    made = synthetic_molecules(total, round(job.atoms), label=label, forces=forces)
    source = Source(source="trial", roles=("trial",))
    with StoreWriter(folder / "store", dataset="trial", source=source, units=units) as writer:
        writer.append(made)
    store, cut = Store.open(folder / "store"), counts.train + counts.validation
    ids = made.ids
    return store.path, _split(
        store, Split(ids[: counts.train], ids[counts.train : cut], ids[cut:]), folder
    )


def _split(store: Store, split: Split, folder: Path) -> Path:
    path = folder / "split.npz"
    write_split(path, split, {"rule": "trial", "seed": 0, "store_sha256": store.sha256})
    return path


def _rate(
    run: PretrainSettings | FinetuneSettings,
    store: Path,
    split: Path,
    folder: Path,
    clock: Clock,
    started: float,
) -> Rate:
    """Run it and read clock, memory and files."""
    output, state = folder / "output", folder / "state"
    output.mkdir()
    parts = read_split(split)
    if isinstance(run, PretrainSettings):
        result = pretrain(
            run.as_json(), store, split, output, state=state, world=clock, say=_silent
        )
        label, predicted = None, 0
    else:
        result = finetune(
            run.as_json(), store, split, None, output, state=state, world=clock, say=_silent
        )
        made = output / PREDICTIONS, output / "metrics.json"
        evaluate(output / OUTPUTS, split, *made, unit="eV", store_path=store)
        label, predicted = run.label, _bytes(output / OUTPUTS, output / PREDICTIONS)
    times = times_of(clock.ends, set(run.train.evaluation_steps()))
    opened = Store.open(store)
    batch = load_batch(opened, opened.rows(parts.val), label)
    held = sum(part.nbytes for part in (*batch.graph.tensors, batch.label, batch.forces))
    tests = max(1, len(parts.test))
    return Rate(
        seconds_per_step=times.step,
        step_error=times.step_error,
        step_spread=times.step_spread,
        seconds_per_molecule=times.validation / len(parts.val),
        molecule_error=times.validation_error / len(parts.val),
        startup_seconds=max(0.0, clock.ends[0] - started - times.step),
        host_bytes=_host_bytes(),
        device_bytes=torch.cuda.max_memory_reserved() if clock.device == "cuda" else 0,
        held_bytes=held / len(parts.val) + predicted / tests,
        output_bytes=_bytes(*output.iterdir()) - predicted,
        predicted_bytes=predicted / tests,
        state_bytes=checkpoint.KEEP * _bytes(*result.folder.glob("step-*/*")),
    )


def _silent(line: str) -> None:
    """Nothing: a few steps need no progress lines."""


def _bytes(*files: Path) -> int:
    return sum(file.stat().st_size for file in files)


def _host_bytes() -> int:
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else 1024 * peak


def line(job: TrialJob, found: Measurement) -> str:
    """What was measured, as a sentence."""
    rate = found.rate
    device = f", {rate.device_bytes / 1e9:.2g} GB of the GPU's" if rate.device_bytes else ""
    made_up = f"made-up molecules of {round(job.atoms or 0)} atoms"
    molecules = made_up if found.molecules == "synthetic" else job.dataset
    return (
        f"{job.name} ({molecules}): "
        f"{1e3 * rate.seconds_per_step:.3g} ± {1e3 * rate.step_error:.1g} ms a step (spread "
        f"{1e3 * rate.step_spread:.1g}), {1e3 * rate.seconds_per_molecule:.2g} ± "
        f"{1e3 * rate.molecule_error:.1g} ms a predicted molecule, start "
        f"{rate.startup_seconds:.1f} s, {rate.host_bytes / 1e9:.2g} GB of memory{device}"
    )
