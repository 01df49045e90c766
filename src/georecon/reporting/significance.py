"""Which differences are real: intervals over seeds, paired differences, wins and ranks.

A number of a table is a mean over seeds, and a seed is a pre-training, a fine-tuning and a draw of
labels together. Two methods are compared seed by seed on the same test molecules. What would come
out differently another time is twofold, and both count:

* another seed: the paired differences of n seeds have a mean with a t distribution (Student 1908);
* other test molecules: the molecules are drawn again with replacement (bootstrap, Efron 1979).
"""

from __future__ import annotations

import functools
import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from georecon.errors import DataError

LEVEL = 0.95
FEWEST_SEEDS = 3
"""Fewer seeds have no interval: two values say next to nothing of their spread."""
DRAWS = 2000
_MOST_MOLECULES = 5000  # above that the mean over molecules is normal to any digit shown
_SEED = 20250616  # of the draws: the same numbers give the same interval


class Interval(NamedTuple):
    """A mean and the ends of its interval."""

    mean: float
    low: float
    high: float

    @property
    def excludes_zero(self) -> bool:
        """Whether the sign is certain at ``LEVEL``."""
        return self.low > 0.0 or self.high < 0.0


@functools.cache
def t_quantile(freedom: int) -> float:
    """End of the interval of Student's t distribution at ``LEVEL``."""
    from scipy.special import stdtrit

    return float(stdtrit(freedom, 0.5 + LEVEL / 2))


def half_width(std: float, n: int) -> float:
    """Half of the interval of a mean over ``n`` seeds with sample standard deviation ``std``."""
    return t_quantile(n - 1) * std / math.sqrt(n)


def over_seeds(values: Sequence[float]) -> Interval | None:
    """Mean over seeds with its interval, or None for fewer than ``FEWEST_SEEDS``."""
    if len(values) < FEWEST_SEEDS:
        return None
    mean, half = statistics.fmean(values), half_width(statistics.stdev(values), len(values))
    return Interval(mean, mean - half, mean + half)


class Errors(NamedTuple):
    """Errors of one run, whose mean is the number that a table shows.

    Attributes:
        ids: test molecules or frames, (M,).
        labels: what was to be predicted of each, for forces their sum, (M,).
        errors: error of each, (M,).
    """

    ids: NDArray[np.int64]
    labels: NDArray[np.float64]
    errors: NDArray[np.float64]


def paired(first: Mapping[int, Errors], second: Mapping[int, Errors]) -> Interval | None:
    """Mean error of the first method less that of the second, paired by seed and by molecule.

    ``paired(b, a)`` is ``paired(a, b)`` with the other sign.

    Args:
        first: runs of one method by seed.
        second: runs of the other.

    Returns:
        The difference with its interval, or None for fewer than ``FEWEST_SEEDS``.

    Raises:
        DataError: the two methods have other seeds, or were tested on other molecules.
    """
    if set(first) != set(second):
        text = f"has seeds {sorted(first)} against {sorted(second)}; both need the same"
        raise DataError("comparison", None, text)
    for seed, run in first.items():
        if not _same_molecules(run, second[seed]):
            text = f"seed {seed}: the two methods were tested on other molecules"
            raise DataError("comparison", None, text)
    if len(first) < FEWEST_SEEDS:
        return None
    rows = [first[seed].errors - second[seed].errors for seed in sorted(first)]
    by_seed = np.array([row.mean() for row in rows])
    mean = float(by_seed.mean())
    seeds = by_seed.std(ddof=1) / math.sqrt(len(rows)) * _student(len(rows) - 1)
    runs = list(first.values())
    # where each seed has molecules of its own, their spread is in that of the seeds
    shared = all(_same_molecules(runs[0], run) for run in runs)
    molecules = _redrawn(np.mean(rows, axis=0)) if shared else np.zeros(DRAWS)
    tail = (1.0 - LEVEL) / 2
    together = np.concatenate([seeds + molecules, -seeds + molecules])
    low, high = np.quantile(together, [tail, 1.0 - tail])
    return Interval(mean, mean + float(low), mean + float(high))


def _same_molecules(first: Errors, second: Errors) -> bool:
    return np.array_equal(first.ids, second.ids) and np.array_equal(first.labels, second.labels)


@functools.cache
def _student(freedom: int) -> NDArray[np.float64]:
    """Student's t distribution as ``DRAWS`` equally likely values.

    Not drawn: with few seeds its tails are long, and the ends of an interval would be off by what
    the draws happen to be.
    """
    from scipy.special import stdtrit

    return np.asarray(stdtrit(freedom, (np.arange(DRAWS) + 0.5) / DRAWS), dtype=np.float64)


def _redrawn(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Mean of values drawn again with replacement, less their mean, (DRAWS,)."""
    size = len(values)
    if size > _MOST_MOLECULES:
        normal = np.random.default_rng(_SEED).standard_normal(DRAWS)
        return np.asarray(values.std() / math.sqrt(size) * normal)
    centred = (values - values.mean()).astype(np.float32)
    return np.asarray(_draws(size) @ centred / size, dtype=np.float64)


@functools.lru_cache(maxsize=2)  # the columns of a table have the same test molecules
def _draws(size: int) -> NDArray[np.float32]:
    """How often each of ``size`` molecules is drawn, (DRAWS, size)."""
    generator = np.random.default_rng(_SEED)
    counts = np.empty((DRAWS, size), dtype=np.float32)
    for draw in range(DRAWS):
        counts[draw] = np.bincount(generator.integers(size, size=size), minlength=size)
    return counts


def mean_ranks(columns: Iterable[Mapping[str, float]]) -> dict[str, float]:
    """Mean rank of each method over the columns that have all of them; 1 is the smallest error.

    Equal errors share the mean of their ranks.

    Args:
        columns: error of each method in each column.
    """
    columns = list(columns)
    ranks: dict[str, list[float]] = {name: [] for column in columns for name in column}
    for column in columns:
        if set(column) != set(ranks):
            continue
        for name, found in ranks.items():
            below = sum(other < column[name] for other in column.values())
            equal = sum(other == column[name] for other in column.values())
            found.append(below + (equal + 1) / 2)
    return {name: statistics.fmean(found) for name, found in ranks.items() if found}
