"""Symmetries of the encoder and of every head, at the limits of style.md 6.6, and broken twins."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from tests.models import broken, checks
from tests.models.subjects import HEADS, SEEDS, Model, Subject, subject
from tests.toy_graphs import random_batch

DTYPES = (torch.float32, torch.float64)

CASES = [
    (head, norm, smooth, trained)
    for head in HEADS
    for norm in ("whitened", "none")
    for smooth in (False, True)
    for trained in (False, True)
]
every_model = pytest.mark.parametrize(("head", "vector_norm", "vector_cutoff", "trained"), CASES)
every_dtype = pytest.mark.parametrize("dtype", DTYPES, ids=["f32", "f64"])


@pytest.fixture
def model(
    head: str, vector_norm: str, vector_cutoff: bool, trained: bool, dtype: torch.dtype
) -> Model:
    return subject(
        head, vector_norm=vector_norm, vector_cutoff=vector_cutoff, dtype=dtype, trained=trained
    )


@every_dtype
@every_model
def test_turns_with_rotation_and_reflection(model: Model, dtype: torch.dtype) -> None:
    for seed in SEEDS:
        graph = random_batch(seed, dtype)
        checks.turn(model, graph, seed, reflect=False)
        checks.turn(model, graph, seed, reflect=True)


@every_dtype
@every_model
def test_follows_permutation(model: Model, dtype: torch.dtype) -> None:
    for seed in SEEDS:
        checks.permute(model, random_batch(seed, dtype), seed)


@every_dtype
@every_model
def test_ignores_translation(model: Model, dtype: torch.dtype) -> None:
    for seed in SEEDS:
        checks.translate(model, random_batch(seed, dtype))


@every_dtype
@every_model
def test_batched_equals_single(model: Model, dtype: torch.dtype) -> None:
    for seed in SEEDS:
        checks.batched(model, random_batch(seed, dtype))


@every_dtype
@every_model
def test_no_gradient_across_molecules(model: Model, dtype: torch.dtype) -> None:
    for seed in SEEDS:
        checks.no_cross_gradient(model, random_batch(seed, dtype))


# Dipole and spatial extent do not add up: both depend on the common centre of mass.
@every_dtype
@pytest.mark.parametrize(
    ("head", "vector_norm", "vector_cutoff", "trained"),
    [case for case in CASES if case[0] not in ("dipole", "spatial_extent")],
)
def test_far_fragments_add_up(model: Model, dtype: torch.dtype, head: str) -> None:
    for seed in SEEDS:
        first, second = (random_batch(seed, dtype, sizes=(n,)) for n in (8, 9))
        checks.separate(model, first, second, extensive=head == "scalar")


# Each check again, on a model with the fault it is there to find.
Check = Callable[[Subject], object]
GRAPH = random_batch(1)
FAULTS: list[tuple[str, Callable[[Subject], Subject], Check, str]] = [
    ("rotation", broken.absolute_positions,
     lambda f: checks.turn(f, GRAPH, 1, reflect=False), "rotation"),
    ("reflection", broken.handed,
     lambda f: checks.turn(f, GRAPH, 1, reflect=True), "reflection"),
    ("permutation", broken.ordered, lambda f: checks.permute(f, GRAPH, 1), "permutation"),
    ("translation", broken.absolute_positions, lambda f: checks.translate(f, GRAPH), "translation"),
    ("batch", broken.mixed_molecules, lambda f: checks.batched(f, GRAPH), "batched"),
    ("gradient", broken.mixed_molecules, lambda f: checks.no_cross_gradient(f, GRAPH), "gradient"),
]  # fmt: skip


@pytest.mark.parametrize("head", HEADS)
@pytest.mark.parametrize(
    ("fault", "check", "words"), [f[1:] for f in FAULTS], ids=[f[0] for f in FAULTS]
)
def test_check_rejects_a_broken_model(
    head: str, fault: Callable[[Subject], Subject], check: Check, words: str
) -> None:
    model = subject(head)
    check(model)
    with pytest.raises(AssertionError, match=words):
        check(fault(model))


def test_a_handed_model_passes_rotation_so_that_reflection_is_a_test_of_its_own() -> None:
    faulty = broken.handed(subject("scalar"))
    checks.turn(faulty, GRAPH, 1, reflect=False)
    with pytest.raises(AssertionError, match="reflection"):
        checks.turn(faulty, GRAPH, 1, reflect=True)


@pytest.mark.parametrize("head", ["encoder", "scalar", "vector"])
def test_separation_check_rejects_a_mean_over_atoms(head: str) -> None:
    first, second = (random_batch(2, sizes=(n,)) for n in (8, 9))
    faulty = broken.intensive(subject(head))
    with pytest.raises(AssertionError, match=r"E\(A\+B\)"):
        checks.separate(faulty, first, second, extensive=head == "scalar")
