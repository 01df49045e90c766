"""What one training of each kind takes, as the trial measured it on a device.

``stages/measure.py`` writes a file for each kind, ``resources/trial/<kind>.json``; the plan
multiplies. A file that holds something else counts as not measured, and is said.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import NamedTuple

from georecon.errors import DataError
from georecon.files import read_json, write_json


@dataclass(frozen=True, kw_only=True, slots=True)
class Rate:
    """What a training of one kind takes on one device.

    Attributes:
        seconds_per_step: on average, > 0 [s].
        step_error: standard error of that [s].
        step_spread: standard deviation of a single step [s].
        seconds_per_molecule: of a validation or a prediction [s].
        molecule_error: standard error of that [s].
        startup_seconds: from the start of the process to the first step, that of kernels included.
        host_bytes: most memory of the process.
        device_bytes: most memory that torch had of the GPU; 0 without one.
        held_bytes: kept in memory for each molecule that is validated on or predicted.
        output_bytes: of its files without predictions.
        predicted_bytes: for each predicted molecule, in the outputs and in predictions.parquet.
        state_bytes: of the saves that are kept until the run ends.
    """

    seconds_per_step: float
    step_error: float
    step_spread: float
    seconds_per_molecule: float
    molecule_error: float
    startup_seconds: float
    host_bytes: float
    device_bytes: float
    held_bytes: float
    output_bytes: float
    predicted_bytes: float
    state_bytes: float

    def fault(self) -> str | None:
        """What is wrong with it, or None."""
        for name in _NAMES:
            value = getattr(self, name)
            lowest = "above 0" if name == "seconds_per_step" else "at least 0"
            good = math.isfinite(value) and (value > 0 or (value == 0 and lowest == "at least 0"))
            if not good:
                return f"{name} is {value!r}; must be a finite number {lowest}"
        return None


_NAMES = [field.name for field in fields(Rate)]


class Measurement(NamedTuple):
    """A rate with its conditions.

    Attributes:
        kind: of the training.
        device: that it was measured on, and its threads.
        molecules: "stored" or "synthetic".
        code: digest of the sources that were measured.
    """

    kind: str
    device: str
    molecules: str
    code: str
    rate: Rate


class Rates(NamedTuple):
    """All that was measured.

    Attributes:
        by_device: rates by device and kind.
        synthetic: kinds that were measured on molecules made for it.
        codes: digest of the sources that were measured, by kind.
        faults: a line for each file that holds no rate.
    """

    by_device: dict[str, dict[str, Rate]]
    synthetic: frozenset[str]
    codes: dict[str, str]
    faults: list[str]

    def kinds(self) -> set[str]:
        """Kinds that some device has been measured for."""
        return {kind for rates in self.by_device.values() for kind in rates}


def write_rate(path: Path, found: Measurement) -> None:
    """Write what was measured of one kind."""
    write_json(path, {**found._asdict(), "rate": asdict(found.rate)})


def read_rates(folder: Path) -> Rates:
    """All that was measured.

    Args:
        folder: with the files of the trial.
    """
    found = Rates({}, frozenset(), {}, [])
    synthetic = set()
    for path in sorted(folder.glob("*.json")):
        try:
            one = _read(path)
        except DataError as error:
            found.faults.append(f"{error}; counts as not measured")
            continue
        found.by_device.setdefault(one.device, {})[one.kind] = one.rate
        found.codes[one.kind] = one.code
        if one.molecules == "synthetic":
            synthetic.add(one.kind)
    return found._replace(synthetic=frozenset(synthetic))


def _read(path: Path) -> Measurement:
    """One file.

    Raises:
        DataError: it is not of the form that :func:`write_rate` gives, or no cost.
    """
    try:
        content = read_json(path)
        numbers = content.pop("rate")
        found = Measurement(rate=Rate(**{name: numbers[name] for name in _NAMES}), **content)
        if not all(isinstance(text, str) for text in found[:4]):
            raise TypeError("kind, device, molecules and code must be texts")
        if any(isinstance(x, bool) or not isinstance(x, int | float) for x in numbers.values()):
            raise TypeError("a value of rate is no number")
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise DataError(path, None, f"no measurement of the trial ({error!r:.80})") from None
    if (fault := found.rate.fault()) is not None:
        raise DataError(path, None, fault)
    return found
