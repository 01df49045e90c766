"""Trainings: weights that say what they are; curves of the recorded length and best step."""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Iterator
from typing import Any

import numpy as np

from georecon.audit.findings import STUMBLES, Context, Finding
from georecon.errors import DataError
from georecon.experiments.settings import FinetuneSettings, TrainSettings, encoder_json
from georecon.keys import from_json
from georecon.records.difference import difference
from georecon.records.read import Record
from georecon.records.untrusted import read_safetensors, read_strict_json
from georecon.training.schedule import Plateau, warmup_cosine

Rows = list[dict[str, str]]
_UNREADABLE: tuple[type[Exception], ...] = (csv.Error, *STUMBLES)


def check_encoders(context: Context) -> Iterator[Finding]:
    """Encoder files are whole safetensors files of finite numbers, of the method that made them."""
    for record in context.runs("pretrain"):
        claim = record.outputs.get("encoder")
        if claim is None or not (context.root / claim.path).is_file():
            continue  # said by the check of files
        try:
            arrays = read_safetensors(context.root / claim.path, claim.path)
        except DataError as error:
            yield Finding(kind="file unreadable", path=claim.path, text=str(error))
            continue
        if not all(np.isfinite(array).all() for array in arrays.values()):
            text = "holds a number that is not finite"
            yield Finding(kind="file unreadable", path=claim.path, text=text)
        said, wanted = _header(context, claim.path).get("method"), record.settings.get("method")
        if said != wanted:
            text = f"says that it is of method {said!r:.40}; {record.path} of {wanted!r:.40}"
            yield Finding(kind="record of another run", path=claim.path, text=text)


def _header(context: Context, path: str) -> dict[str, object]:
    """What a file of weights says of itself; empty if nothing that can be read."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(context.root / path, framework="numpy") as handle:
            found = json.loads((handle.metadata() or {}).get("georecon", "{}"))
    except (OSError, ValueError, SafetensorError):
        return {}
    return found if isinstance(found, dict) else {}


def check_models(context: Context) -> Iterator[Finding]:
    """Fine-tuned weights say of themselves what their record does: ``georecon.load`` believes it.

    Their numbers are looked at from depth "weights" on.
    """
    for record in context.runs("finetune"):
        claim = record.outputs.get("model")
        if claim is None or not (context.root / claim.path).is_file():
            continue  # said by the check of files, or a bundle without them
        said, wanted = _header(context, claim.path), _card(context, record)
        found = {name: said.get(name) for name in wanted}
        if (text := difference(found, wanted)) is not None:
            text = f"its header: {text.replace('the configuration says', f'{record.path} says')}"
            yield Finding(kind="record of another run", path=claim.path, text=text)


def _card(context: Context, record: Record) -> dict[str, object]:
    """What a record says that the header of its weights must have, too."""
    manifest = record.inputs["store"].path
    units: Any = read_strict_json(context.root / manifest, manifest).get("units")
    run = from_json(FinetuneSettings, record.settings)
    names = ("dataset", "target", "label", "method", "seed")
    return {name: getattr(run, name) for name in names} | {
        "head": run.recipe.head,
        "forces": run.recipe.forces,
        "encoder": encoder_json(run.encoder),
        "unit": units[run.label],
    }


def check_curves(context: Context) -> Iterator[Finding]:
    """A training has the steps of its settings and reports its curve's best step."""
    for record in context.runs("pretrain", "finetune"):
        curve = record.outputs.get("curve") or record.outputs.get("metrics")
        if curve is None or record.final is None or record.training.steps is None:
            text = "names no curve or no result"
            yield Finding(kind="curve differs", path=record.path, text=text)
            continue
        wrong: str | None
        try:
            with open(context.root / curve.path, newline="", encoding="utf-8") as handle:
                wrong = _wrong(record, list(csv.DictReader(handle)))
        except _UNREADABLE as error:
            wrong = f"cannot be compared with {record.path} ({type(error).__name__})"
        if wrong is not None:
            yield Finding(kind="curve differs", path=curve.path, text=wrong)


def _wrong(record: Record, rows: Rows) -> str | None:
    """What of a curve does not fit the record of its training; None if all does."""
    training, final = record.training, record.final or {}
    by_step = {row["step"]: row for row in rows}
    best = by_step.get(str(training.best_step))
    if (
        best is None
        or {key: float(best[key]) for key in final} != final
        or str(training.steps) not in by_step
    ):
        return f"does not hold the measures that {record.path} reports of its last and best step"
    settings = from_json(TrainSettings, record.settings["train"])
    wanted = _evaluations(settings, rows)
    found = [int(row["step"]) for row in rows]
    if found != wanted:
        return f"has evaluations at steps {_some(found)}, the settings ask for {_some(wanted)}"
    if training.steps != found[-1]:
        return f"ends at step {found[-1]}, {record.path} says {training.steps}"
    for row, rate in zip(rows, _rates(settings, rows), strict=True):
        if not math.isclose(float(row["lr"]), rate, rel_tol=1e-9):
            return f"has a learning rate of {row['lr']} at step {row['step']}, not {rate!r}"
    scores = [float(row["val_score"]) for row in rows]
    step = found[scores.index(min(scores))]
    if (training.best_step, training.best_score) != (step, min(scores)):
        return f"is best at step {step}, {record.path} says {training.best_step}"
    return None


def _evaluations(settings: TrainSettings, rows: Rows) -> list[int]:
    """Steps of a run's evaluations; patience may end it (``georecon.training.loop``)."""
    steps = [step for step in settings.evaluation_steps() if step > 0]
    waited, best = 0, math.inf
    for number, row in enumerate(rows, 1):
        score = float(row["val_score"])
        waited, best = (0, score) if score < best else (waited + 1, best)
        if settings.patience and waited >= settings.patience:
            return steps[:number]
    return steps


def _rates(settings: TrainSettings, rows: Rows) -> Iterator[float]:
    """Learning rate of each evaluation's last step (``georecon.training.loop``)."""
    plateau = Plateau()
    for row in rows:
        step, scale = int(row["step"]) - 1, plateau.scale
        if settings.schedule == "cosine":
            factor = warmup_cosine(step, warmup=settings.warmup, total=settings.steps)
        else:
            factor = min(1.0, (step + 1) / max(1, settings.warmup)) * scale
        yield settings.lr * factor
        plateau.observe(float(row["val_score"]))


def _some(steps: list[int]) -> str:
    return ", ".join(map(str, steps[:4])) + (f" … {steps[-1]}" if len(steps) > 4 else "")
