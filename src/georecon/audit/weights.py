"""Depth "weights": numbers from fine-tuned weights and encoders again, with nothing taken on trust.

Stores are made again from raw files, predictions from fine-tuned weights, smoothness from encoders,
held-out measures of pre-trainings (code usage among them) from encoders, heads and decoders. The
first steps of trainings are taken again: that shows that a fine-tuning started from the encoder,
the molecules and the seed that its record names.

On a machine that computes as the recorded one did, everything is the same to the bit. Elsewhere
sums are rounded in another order, and the tolerances below hold.
"""

from __future__ import annotations

import errno
import multiprocessing
import os
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from georecon.audit.depth import PACKAGES, Depth
from georecon.audit.findings import STUMBLES, Context, Finding
from georecon.audit.starts import check_starts
from georecon.audit.stores import check_stores, folder_of
from georecon.data.molecules import Molecules
from georecon.data.split import Split, read_split
from georecon.data.store import Store
from georecon.experiments.sample import draw
from georecon.experiments.settings import FinetuneSettings
from georecon.files import sha256_file
from georecon.jobs.job import prepare_torch
from georecon.keys import from_json
from georecon.models.potential import PropertyModel
from georecon.records.chain import Run
from georecon.records.read import Record
from georecon.records.record import compute_device, versions
from georecon.records.untrusted import read_safetensors, read_strict_json
from georecon.stages.finetune import absolute_errors, predict
from georecon.stages.nve import nve
from georecon.stages.pretrain import measures_of
from georecon.stages.smoothness import smoothness
from georecon.training.batches import in_order, one_by_one
from georecon.training.unlearned import isolated_atoms, unlearned_test_set
from georecon.training.world import World

PREDICTIONS = 1e-4
"""Largest root mean square difference on another machine, in units of the spread of what a model
has to explain: of labels less least squares on element counts, of forces. A hundred times that for
one number."""
ESTIMATES = 1e-2
"""Largest relative difference of smoothness on another machine."""
MEASURES = 1e-4
"""Largest difference of a pre-training's held-out measures on another machine, in units of its
validation loss: code usage is the small difference of two losses."""
VALIDATION = 1e-3
"""Largest relative difference of a validation error on another machine."""
FILES = {
    "predictions": "outputs",
    "validation": "curve",
    "smoothness": "metrics",
    "held-out measures": "metrics",
    "dynamics": "metrics",
}
"""What is computed again, and the file of a run that it stands in."""
_SAY_SECONDS = 10.0


def check_weights(
    context: Context, depth: Depth, say: Callable[[str], None] | None
) -> Iterator[Finding]:
    """All checks of this depth.

    Args:
        context: what to check.
        depth: which cells: all, or a sample.
        say: takes a line of progress now and then.
    """
    device = prepare_torch(1)
    yield from check_stores(context)
    chosen = _chosen(context, depth)
    yield from _each(context, "predictions", chosen.of("finetune"), _check_run, device, say)
    shown = {parent for cell in context.graph.cells() for parent in cell.parents}
    validated = [record for record in chosen.of("finetune") if record.path in shown]
    yield from _each(context, "validation", validated, _check_validation, device, say)
    yield from _each(context, "smoothness", chosen.of("smoothness"), _check_smoothness, device, say)
    yield from _each(
        context, "held-out measures", chosen.of("pretrain"), _check_measures, device, say
    )
    # trajectories of another machine part from these within a picosecond: only alike ones compare
    dynamics = [record for record in chosen.of("nve") if alike(record)]
    yield from _each(context, "dynamics", dynamics, _check_dynamics, device, say)
    if len(dynamics) < len(chosen.of("nve")):
        context.cannot("dynamics (nve) of another kind of machine: not computed again")
    starts = [*chosen.of("finetune"), *chosen.of("pretrain")]
    if depth.sample is None:
        starts = [
            record
            for stage, count in (("finetune", 4), ("pretrain", 2))
            for record in draw_runs(chosen.of(stage), count, depth.seed)
        ]
    yield from check_starts(context, starts, device, alike)


class Chosen(NamedTuple):
    """Records of the runs behind the cells that are looked at."""

    records: list[Record]

    def of(self, stage: str) -> list[Record]:
        """Those of one stage."""
        return [record for record in self.records if record.stage == stage]


def _chosen(context: Context, depth: Depth) -> Chosen:
    cells = [place for place in context.experiments.tables.filled() if place in context.graph.links]
    if depth.sample is not None:
        cells = draw(cells, depth.sample, depth.seed)
        context.checked.append(f"cells drawn with seed {depth.seed}: {', '.join(cells)}")
    links = (link for cell in cells for link in context.graph.chain(cell))
    return Chosen(
        list({link.path: link.record for link in links if isinstance(link, Run)}.values())
    )


def draw_runs(records: list[Record], count: int, seed: int) -> list[Record]:
    """Some of the runs."""
    chosen = set(draw([record.path for record in records], count, seed))
    return [record for record in records if record.path in chosen]


def alike(record: Record) -> bool:
    """Whether this process computes as the recorded one did, to the bit."""
    here, packages = compute_device(), versions()
    same = all(here.get(name) == value for name, value in asdict(record.compute).items())
    return same and all(packages.get(p) == record.versions.get(p) for p in PACKAGES)


def _each(
    context: Context,
    what: str,
    records: Iterable[Record],
    check: _Check,
    device: str,
    say: Callable[[str], None] | None,
) -> Iterator[Finding]:
    """Check every run; what cannot be computed for want of a file is noted."""
    done, bitwise, said = 0, 0, time.monotonic()
    records, missing = list(records), list[str]()
    for record, result in zip(records, _results(context, records, check, device), strict=True):
        if result.missing is not None:
            missing.append(result.missing)
            continue
        done, bitwise = done + 1, bitwise + alike(record)
        if result.text is not None:
            tuned = record.stage == "finetune"
            claim = record.outputs.get(FILES[what])
            path = record.path if claim is None else claim.path
            kind = "weights differ" if tuned else "estimates differ"
            yield Finding(kind=kind, path=path, text=result.text, touches=(record.path, path))
        if say is not None and time.monotonic() - said > _SAY_SECONDS:
            say(f"{what}: {done} of {len(records)} computed again")
            said = time.monotonic()
    if missing:
        context.cannot(f"{what} of {len(missing)} runs: {missing[0]} is not here")
    if records:
        context.checked.append(
            f"{what} of {done} of {len(records)} runs computed again, {bitwise} of them compared "
            "to the bit"
        )


class _Result(NamedTuple):
    """Of one run: what differs, or which file is not here."""

    text: str | None = None
    missing: str | None = None


_Check = Callable[[Context, Record, str], str | None]


def _results(
    context: Context, records: list[Record], check: _Check, device: str
) -> Iterator[_Result]:
    """One result for each run, in order; on CPUs by as many processes as there are cores.

    The processes are forked: they share what was read of the results, and no thread that could be
    missing there has begun, for this process computes with one.
    """
    fewest = min(len(os.sched_getaffinity(0)), len(records) // 2)
    if device != "cpu" or fewest < 2 or any((r.compute.threads or 1) > 1 for r in records):
        for record in records:
            yield _result(context, record, check, device)
        return
    _shared[:] = [(context, records, check)]
    with ProcessPoolExecutor(fewest, multiprocessing.get_context("fork")) as pool:
        yield from pool.map(_nth_result, range(len(records)))


_shared: list[tuple[Context, list[Record], _Check]] = []
"""What a forked process finds of the run that it is to check."""


def _nth_result(number: int) -> _Result:
    ((context, records, check),) = _shared
    return _result(context, records[number], check, "cpu")


def _result(context: Context, record: Record, check: _Check, device: str) -> _Result:
    torch.set_num_threads(record.compute.threads or 1)
    try:
        return _Result(text=check(context, record, device))
    except FileNotFoundError as error:
        return _Result(missing=str(error.filename).replace(f"{context.root}/", ""))
    except STUMBLES as error:
        text = str(error).replace(f"{context.root}/", "")[:300]
        return _Result(text=f"cannot be computed again: {text}")


# ---- predictions -------------------------------------------------------------------------------


def _check_run(context: Context, record: Record, device: str) -> str | None:
    """What of a run's test outputs its fine-tuned weights do not give; None if they give all."""
    claim = record.outputs["outputs"]
    if not (context.root / claim.path).is_file():
        raise FileNotFoundError(errno.ENOENT, "not there", str(context.root / claim.path))
    run, store, split, model = _tuned(context, record)
    test = one_by_one(store, split.test, run.evaluation_batch, run.label, run.train.part_atoms)
    again = predict(model.to(device), test, run.recipe, World(device))
    train = store.gather(store.rows(split.train))
    again |= unlearned_test_set(train, store, split.test, run.label, run.recipe)
    stored = read_safetensors(context.root / claim.path, claim.path)
    found = {name: value.numpy() for name, value in again.items()}
    return _unlike(stored, found, {} if alike(record) else _limits(found, train))


def _check_validation(context: Context, record: Record, device: str) -> str | None:
    """What of the validation errors that tables show fine-tuned weights do not give."""
    run, store, split, model = _tuned(context, record)
    held = in_order(store, split.val, run.evaluation_batch, run.label, run.train.part_atoms)
    again = absolute_errors(predict(model.to(device), held, run.recipe, World(device)), held)
    limit = 0.0 if alike(record) else VALIDATION * min(again.values())
    return _other_measures(record, {f"val_{name}": now for name, now in again.items()}, limit)


class _Tuned(NamedTuple):
    """A fine-tuned model and what it was made from."""

    run: FinetuneSettings
    store: Store
    split: Split
    model: PropertyModel


def _tuned(context: Context, record: Record) -> _Tuned:
    """Rebuilt from what lies there.

    Raises:
        FileNotFoundError: fine-tuned weights or an array of the store are not there.
    """
    inputs, root, claim = record.inputs, context.root, record.outputs["model"]
    if not (root / claim.path).is_file():
        raise FileNotFoundError(errno.ENOENT, "not there", str(root / claim.path))
    store = Store.open(folder_of(root, inputs["store"].path))
    run = from_json(FinetuneSettings, record.settings)
    if run.recipe.isolated_atoms:
        run = replace(run, recipe=replace(run.recipe, atomref=isolated_atoms(store, run.label)))
    model = PropertyModel.blank(run.encoder, run.recipe.head)
    found = read_safetensors(root / claim.path, claim.path)
    model.load_state_dict({name: torch.from_numpy(array) for name, array in found.items()})
    return _Tuned(run, store, read_split(root / inputs["split"].path), model)


def _other_measures(record: Record, again: Mapping[str, float], limit: float) -> str | None:
    """The first of a training's measures at its best step that is further than a limit from what
    its weights give.
    """
    stored = record.final or {}
    for name, now in again.items():
        was = stored.get(name)
        if not isinstance(was, int | float) or not abs(was - now) <= limit:
            return f"{name} of the best step is {was!r:.30}, its weights give {now!r:.30}"
    return None


def _limits(again: Mapping[str, np.ndarray], train: Molecules) -> dict[str, float]:
    """Largest root mean square difference of each test output on another machine."""
    spread = dict.fromkeys(again, float(np.std(again["label"] - again["naive"])))
    if train.forces is not None and "force_prediction" in again:
        spread["force_prediction"] = float(np.nanstd(train.forces))
        for name in ("naive_force_absolute", "naive_force_square"):  # errors, not forces
            spread[name] = float(again[name].mean())
    return {name: PREDICTIONS * value for name, value in spread.items()}


def _unlike(
    stored: Mapping[str, np.ndarray], again: Mapping[str, np.ndarray], limits: Mapping[str, float]
) -> str | None:
    if {*stored} != {*again}:
        return f"holds {sorted(stored)}, the model gives {sorted(again)}"
    for name, now in again.items():
        was = stored[name]
        if was.shape != now.shape:
            return f"{name} has shape {list(was.shape)}, the model gives {list(now.shape)}"
        if np.array_equal(was, now, equal_nan=now.dtype.kind == "f"):
            continue
        if now.dtype.kind != "f":
            return f"{name} is not what the split and store give"
        off = np.abs(was - now)
        mean, largest = float(np.sqrt(np.nanmean(off**2))), float(np.nanmax(off))
        limit = limits.get(name, 0.0)
        if not (mean <= limit and largest <= 100 * limit):
            return (
                f"{name} is {mean:.3g} (root mean square) off what the fine-tuned weights give, "
                f"allowed {limit:.3g}"
            )
    return None


# ---- smoothness --------------------------------------------------------------------------------


def _check_smoothness(context: Context, record: Record, device: str) -> str | None:
    """What of an encoder's estimates it does not give; None if it gives all."""
    inputs, root = record.inputs, context.root
    encoder = inputs.get("encoder")
    again: Any = smoothness(
        record.settings,
        folder_of(root, inputs["store"].path),
        root / inputs["split"].path,
        root / encoder.path if encoder is not None else None,
        device=device,
    )
    claim = record.outputs["metrics"]
    stored: Any = read_strict_json(root / claim.path, claim.path)
    if {*stored.get("estimates", {})} != {*again["estimates"]}:
        return f"has estimates {sorted(stored.get('estimates', {}))}"
    limit = 0.0 if alike(record) else ESTIMATES
    for name, values in again["estimates"].items():
        for key, now in values.items():
            was = stored["estimates"][name].get(key)
            if key == "unconverged" and limit:
                continue  # counts of molecules near a threshold
            if (was is None) != (now is None) or (
                now is not None and not abs(was - now) <= limit * abs(now)
            ):
                return f"{name}: {key} is {was!r:.30}, its encoder gives {now!r:.30}"
    for name, norms in again["norms"].items():
        was = np.array(stored.get("norms", {}).get(name, []))
        if was.shape != (len(norms),) or (abs(was - norms) > limit * np.array(norms)).any():
            return f"{name}: norms of single molecules are not those that its encoder gives"
    return None


# ---- measures of pre-training ------------------------------------------------------------------


def _check_measures(context: Context, record: Record, device: str) -> str | None:
    """What of a pre-training's held-out measures its weights do not give; None if they give all."""
    inputs, root = record.inputs, context.root
    for name in ("encoder", "objective"):
        path = root / record.outputs[name].path
        if not path.is_file():
            raise FileNotFoundError(errno.ENOENT, "not there", str(path))
    store, split = folder_of(root, inputs["store"].path), root / inputs["split"].path
    again = measures_of(record.settings, store, split, path.parent, device=device)
    limit = 0.0 if alike(record) else MEASURES * abs(again["val_score"])
    return _other_measures(record, again, limit)


# ---- dynamics ----------------------------------------------------------------------------------


def _check_dynamics(context: Context, record: Record, device: str) -> str | None:
    """What of a run's dynamics its fine-tuned model does not give; None if it gives all."""
    inputs, root = record.inputs, context.root
    model = root / inputs["model"].path
    if not model.is_file():
        raise FileNotFoundError(errno.ENOENT, "not there", str(model))
    store, split = folder_of(root, inputs["store"].path), root / inputs["split"].path
    with tempfile.TemporaryDirectory() as place:
        curve = Path(place) / "curve.csv"
        again: Any = nve(record.settings, store, split, model, curve, device=device)
        drawn = record.outputs["curve"]
        if (root / drawn.path).is_file() and sha256_file(root / drawn.path) != sha256_file(curve):
            return f"{drawn.path} is not the trajectory that its model gives"
    claim = record.outputs["metrics"]
    stored: Any = read_strict_json(root / claim.path, claim.path)
    for key, now in again.items():
        if stored.get(key) != now:
            return f"{key} is {stored.get(key)!r:.30}, its model gives {now!r:.30}"
    return None
