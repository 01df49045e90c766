"""Measured costs of trainings: seconds of a step and of a validation, each with its uncertainty.

``benchmarks/calibrate.py`` measures them and writes ``benchmarks/results/rates-<device>.json``; the
plan multiplies them. A cost that could not be told from zero is no cost: it is not written, and
one that a file holds all the same counts as not measured.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from georecon.errors import DataError
from georecon.files import read_json, write_json
from georecon.keys import Json

FILES = "rates-*.json"
_NUMBERS = ("seconds_per_step", "step_error", "seconds_per_validation", "validation_error")


@dataclass(frozen=True, kw_only=True, slots=True)
class Rate:
    """Costs of one workload on one device.

    Attributes:
        seconds_per_step: median of repeated measurements, > 0 [s].
        step_error: standard error of that [s].
        seconds_per_validation: likewise, > 0 [s].
        validation_error: standard error of that [s].
    """

    seconds_per_step: float
    step_error: float
    seconds_per_validation: float
    validation_error: float

    def fault(self) -> str | None:
        """What is wrong with it, or None."""
        for name in _NUMBERS:
            value = getattr(self, name)
            lowest = "at least 0" if name.endswith("error") else "above 0"
            good = math.isfinite(value) and (value > 0 or (value == 0 and lowest == "at least 0"))
            if not good:
                return f"{name} is {value!r}; must be a finite number {lowest}"
        return None


Rates = dict[str, dict[str, Rate]]
"""Costs by device and workload."""


def median_of(differences: Sequence[float]) -> tuple[float, float] | None:
    """Median of repeated measurements and its standard error.

    The error is that of a normal distribution's median, with its width taken from the median
    absolute deviation, which one interrupted measurement does not change.

    Returns:
        None where it cannot be told from zero: fewer than three measurements, or a median of less
        than twice its error.
    """
    if len(differences) < 3 or not all(map(math.isfinite, differences)):
        return None
    median = statistics.median(differences)
    deviation = statistics.median(abs(value - median) for value in differences)
    error = 1.2533 * 1.4826 * deviation / math.sqrt(len(differences))
    return (median, error) if median > 0 and median >= 2 * error else None


def write_rates(path: Path, device: str, rates: dict[str, Rate]) -> None:
    """Write the costs of one device."""
    write_json(path, {"device": device, "rates": {key: asdict(r) for key, r in rates.items()}})


def read_rates(folder: Path) -> tuple[Rates, list[str]]:
    """Costs of all devices, and a line for each that is no cost.

    Args:
        folder: with the files of ``benchmarks/calibrate.py``.

    Raises:
        DataError: a file is not of the form that this code writes.
    """
    found: Rates = {}
    faults: list[str] = []
    for path in sorted(folder.glob(FILES)):
        device, rates = _content(path)
        found[device] = {}
        for workload, numbers in rates.items():
            rate = _rate(numbers)
            fault = "is not four numbers" if rate is None else rate.fault()
            if rate is None or fault:
                faults.append(f"{path.name}: {workload}: {fault}; counts as not measured")
            else:
                found[device][workload] = rate
    return found, faults


def _content(path: Path) -> tuple[str, Json]:
    try:
        content = read_json(path)
        device, rates = content["device"], content["rates"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(
            path, None, f"no rates of benchmarks/calibrate.py ({error!r:.80})"
        ) from None
    if not isinstance(device, str) or not isinstance(rates, dict):
        raise DataError(path, None, "no rates of benchmarks/calibrate.py")
    return device, rates


def _rate(numbers: object) -> Rate | None:
    if not isinstance(numbers, dict) or numbers.keys() != set(_NUMBERS):
        return None
    values = list(numbers.values())
    if any(isinstance(v, bool) or not isinstance(v, int | float) for v in values):
        return None
    return Rate(**numbers)
