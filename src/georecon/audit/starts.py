"""The first steps of trainings taken again: from the same encoder, molecules and seed or not.

A run is a pure function of its settings, data and seed, and its curve has the mean losses of the
steps up to its first validation, and that validation's measures. Both follow from those steps
alone, a small part of the run.
"""

from __future__ import annotations

import csv
import functools
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path

from georecon.audit.findings import STUMBLES, Context, Finding
from georecon.audit.stores import folder_of
from georecon.records.read import Record
from georecon.stages.finetune import finetune
from georecon.stages.pretrain import pretrain
from georecon.training.loop import EXIT_INTERRUPTED
from georecon.training.world import World

START = 0.25
"""Largest relative difference of loss and score on another machine: training carries rounding on,
so that this tells another encoder or seed from the recorded one only where it changes much."""
_ELSEWHERE = ("train_loss", "val_score")


class Brief(World):
    """A process alone that is asked to stop after some steps.

    Args:
        device: "cpu" or "cuda".
        steps: after which it stops; the loop asks after each one.
    """

    def __init__(self, device: str, steps: int) -> None:
        super().__init__(device)
        self.left = steps

    def any(self, flag: bool) -> bool:
        """Whether to stop."""
        self.left -= 1
        return flag or self.left <= 0


def check_starts(
    context: Context, records: Iterable[Record], device: str, alike: Callable[[Record], bool]
) -> Iterator[Finding]:
    """Take the steps up to the first validation again.

    Args:
        context: what to check.
        records: of trainings.
        device: "cpu" or "cuda".
        alike: whether this process computes as the one that made a record did.
    """
    done = bitwise = 0
    missing = list[str]()
    for record in records:
        claim = record.outputs.get("curve") or record.outputs.get("metrics")
        if claim is None:
            continue  # said by the check of curves
        try:
            stored = _first_row(context.root / claim.path)
            again = _again(context.root, record, device, int(stored["step"]))
            exact = alike(record) and record.training.processes in (None, 1)
            text = _unlike(stored, again, 0.0 if exact else START)
            done, bitwise = done + 1, bitwise + exact
        except FileNotFoundError as error:
            missing.append(str(error.filename).replace(f"{context.root}/", ""))
            continue
        except STUMBLES as error:
            text = f"cannot be started again: {str(error).replace(f'{context.root}/', '')[:300]}"
        if text is not None:
            touches = (claim.path, record.path)
            yield Finding(kind="start differs", path=claim.path, text=text, touches=touches)
    if missing:
        context.cannot(f"starts of {len(missing)} trainings: {missing[0]} is not here")
    context.checked.append(
        f"{done} trainings started again up to their first validation, {bitwise} of them compared "
        "to the bit"
    )


def _again(root: Path, record: Record, device: str, steps: int) -> Mapping[str, float]:
    """First row of the curve of a training that is started again."""
    inputs, encoder = record.inputs, record.inputs.get("encoder")
    with tempfile.TemporaryDirectory(prefix="georecon-start-") as folder:
        place = Path(folder)
        world = Brief(device, steps)
        data = (folder_of(root, inputs["store"].path), root / inputs["split"].path)
        if record.stage == "pretrain":
            how = functools.partial(pretrain, record.settings, *data, place)
        else:
            path = None if encoder is None else root / encoder.path
            how = functools.partial(finetune, record.settings, *data, path, place)
        try:
            how(state=place, world=world, say=lambda line: None)
        except SystemExit as end:
            if end.code != EXIT_INTERRUPTED:
                raise
        (curve,) = place.glob("*/curve.csv")
        return _first_row(curve)


def _first_row(path: Path) -> dict[str, float]:
    with open(path, newline="", encoding="utf-8") as handle:
        row, *_ = csv.DictReader(handle)
    return {name: float(value) for name, value in row.items()}


def _unlike(was: Mapping[str, float], now: Mapping[str, float], limit: float) -> str | None:
    names = _ELSEWHERE if limit else [*now]
    for name, value in ((name, now[name]) for name in names):
        if name not in was or not abs(was[name] - value) <= limit * abs(value):
            found = was.get(name)
            return (
                f"{name} at its first validation is {found!r}; the same steps taken again from the "
                f"recorded settings, molecules, encoder and seed give {value!r}"
            )
    return None
