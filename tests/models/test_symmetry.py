"""Symmetries of the encoder and of every head, at the limits of style.md 6.6, and broken twins."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from tests.models import checks
from tests.models.subjects import HEADS, SEEDS, Model, Subject, subject
from tests.models.symmetries import Check, Symmetries, every_dtype, every_fault, rejects
from tests.toy_graphs import random_batch

CASES = [
    (head, norm, smooth, trained)
    for head in HEADS
    for norm in ("whitened", "none")
    for smooth in (False, True)
    for trained in (False, True)
]
every_model = pytest.mark.parametrize(("head", "vector_norm", "vector_cutoff", "trained"), CASES)


@pytest.fixture
def model(
    head: str, vector_norm: str, vector_cutoff: bool, trained: bool, dtype: torch.dtype
) -> Model:
    return subject(
        head, vector_norm=vector_norm, vector_cutoff=vector_cutoff, dtype=dtype, trained=trained
    )


@every_dtype
@every_model
class TestSymmetries(Symmetries):
    pass


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


@pytest.mark.parametrize("head", HEADS)
@every_fault
def test_check_rejects_a_broken_model(
    head: str, fault: Callable[[Subject], Subject], check: Check, words: str
) -> None:
    rejects(subject(head), fault, check, words)
