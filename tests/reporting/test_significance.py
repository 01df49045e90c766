"""Intervals cover what they say, and pairing is by seed and molecule."""

from __future__ import annotations

import numpy as np
import pytest

from georecon.errors import DataError
from georecon.reporting.significance import (
    Errors,
    Interval,
    mean_ranks,
    over_seeds,
    paired,
    t_quantile,
)


def runs(
    rng: np.random.Generator, offset: float, shared: np.ndarray, seeds: int = 3
) -> dict[int, Errors]:
    """Errors of a method: what each molecule has in common, a seed's own level, and noise."""
    size = len(shared)
    return {
        seed: Errors(
            np.arange(size),
            shared,
            shared + offset + 0.02 * rng.normal() + 0.3 * rng.normal(size=size),
        )
        for seed in range(1, seeds + 1)
    }


def interval(first: dict[int, Errors], second: dict[int, Errors]) -> Interval:
    found = paired(first, second)
    assert found is not None
    return found


def test_quantiles_are_students() -> None:
    for freedom, value in ((2, 4.302653), (5, 2.570582), (1000, 1.962339)):  # Student's table
        assert t_quantile(freedom) == pytest.approx(value, abs=1e-6)


def test_interval_over_seeds() -> None:
    assert over_seeds([1.0]) is None
    assert over_seeds([1.0, 2.0]) is None
    found = over_seeds([1.0, 2.0, 3.0])
    assert found is not None
    assert found.mean == 2.0
    assert found.high - found.mean == pytest.approx(4.302653 / np.sqrt(3.0), abs=1e-6)
    assert not found.excludes_zero
    assert over_seeds([1.0, 1.01, 0.99]).excludes_zero  # type: ignore[union-attr]


def test_paired_intervals_cover_the_truth_and_unpaired_ones_would_be_wide() -> None:
    rng = np.random.default_rng(0)
    covered, width, trials, size = 0, [], 200, 120
    for _ in range(trials):
        shared = 3.0 * rng.exponential(size=size)  # easy and hard molecules, for both methods
        found = interval(runs(rng, 0.1, shared), runs(rng, 0.0, shared))
        covered += found.low <= 0.1 <= found.high
        width.append(found.high - found.low)
    assert 0.93 * trials <= covered <= trials
    unpaired = 2 * 1.96 * np.sqrt(2.0) * 3.0 / np.sqrt(size)
    assert np.median(width) < 0.25 * unpaired


def test_without_molecules_it_is_students_interval_and_not_one_of_draws() -> None:
    first = {seed: Errors(np.zeros(1), np.zeros(1), np.array([float(seed)])) for seed in (1, 2, 3)}
    zero = {seed: Errors(np.zeros(1), np.zeros(1), np.zeros(1)) for seed in (1, 2, 3)}
    found, wanted = interval(first, zero), over_seeds([1.0, 2.0, 3.0])
    assert wanted is not None
    assert tuple(found) == pytest.approx(tuple(wanted), abs=0.01 * (wanted.high - wanted.low))


def test_molecules_alone_give_the_bootstrap_of_their_mean() -> None:
    rng = np.random.default_rng(5)
    errors = rng.exponential(size=400)
    ids = np.arange(400)
    first = {seed: Errors(ids, errors, errors) for seed in (1, 2, 3)}
    zero = {seed: Errors(ids, errors, np.zeros(400)) for seed in (1, 2, 3)}
    found = interval(first, zero)
    half = 1.96 * errors.std() / 20.0
    assert found.mean == pytest.approx(errors.mean())
    assert (found.high - found.low) / 2 == pytest.approx(half, rel=0.06)


def test_a_swapped_pairing_is_noticed() -> None:
    rng = np.random.default_rng(1)
    first = runs(rng, 0.0, rng.normal(size=50))
    run = first[2]
    for changed in (run._replace(ids=run.ids[::-1]), run._replace(labels=run.labels[::-1])):
        with pytest.raises(DataError, match=r"seed 2: .* other molecules"):
            paired(first, {**first, 2: changed})
    with pytest.raises(DataError, match=r"seeds \[1, 2, 3\] against \[2, 3, 4\]"):
        paired(first, {seed + 1: run for seed, run in first.items()})


def test_swapping_the_methods_changes_the_sign_alone() -> None:
    rng = np.random.default_rng(2)
    shared = rng.exponential(size=80)
    a, b = runs(rng, 0.5, shared), runs(rng, 0.0, shared**1.2)
    a = {seed: run._replace(labels=shared) for seed, run in a.items()}
    b = {seed: run._replace(labels=shared) for seed, run in b.items()}
    one, two = interval(a, b), interval(b, a)
    assert tuple(one) == pytest.approx((-two.mean, -two.high, -two.low), rel=1e-5)


def test_the_same_numbers_give_the_same_interval_and_themselves_none() -> None:
    rng = np.random.default_rng(3)
    a, b = (runs(rng, 0.1 * k, np.zeros(60)) for k in (0, 1))
    assert paired(a, b) == paired(a, b)
    assert paired(a, a) == (0.0, 0.0, 0.0)
    assert paired({1: a[1], 2: a[2]}, {1: b[1], 2: b[2]}) is None


def test_seeds_with_molecules_of_their_own_are_compared_by_seed() -> None:
    rng = np.random.default_rng(6)
    shared = rng.normal(size=60)
    a, b = runs(rng, 0.4, shared), runs(rng, 0.0, shared)
    own = [{s: run._replace(ids=run.ids + 100 * s) for s, run in each.items()} for each in (a, b)]
    alike, apart = interval(a, b), interval(*own)
    assert apart.mean == alike.mean
    by_seed = over_seeds([float((a[s].errors - b[s].errors).mean()) for s in (1, 2, 3)])
    assert by_seed is not None
    assert tuple(apart) == pytest.approx(tuple(by_seed), abs=0.01 * (by_seed.high - by_seed.low))


def test_large_test_sets_agree_with_drawn_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(4)
    shared = rng.normal(size=2000)
    a, b = runs(rng, 0.0, shared), runs(rng, 0.0, shared)
    drawn = interval(a, b)
    monkeypatch.setattr("georecon.reporting.significance._MOST_MOLECULES", 100)
    normal = interval(a, b)
    assert normal.high - normal.low == pytest.approx(drawn.high - drawn.low, rel=0.1)


def test_ranks_share_ties_and_leave_out_columns_with_gaps() -> None:
    gap = {"a": 1.0, "b": 0.0}
    columns = [{"a": 1.0, "b": 2.0, "c": 2.0}, {"a": 3.0, "b": 1.0, "c": 2.0}]
    for order in ([*columns, gap], [gap, *columns]):
        assert mean_ranks(order) == {"a": 2.0, "b": 1.75, "c": 2.25}
    assert mean_ranks([]) == {}
