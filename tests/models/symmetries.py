"""The property suite of a model, whatever its architecture, and twins with one fault each.

A suite is a class of its own below :class:`Symmetries` with a fixture ``model``, parametrised by
what it makes models of.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from tests.models import broken, checks
from tests.models.subjects import SEEDS, Subject
from tests.toy_graphs import random_batch

DTYPES = (torch.float32, torch.float64)
every_dtype = pytest.mark.parametrize("dtype", DTYPES, ids=["f32", "f64"])
GRAPH = random_batch(1)
Check = Callable[[Subject], object]


class Symmetries:
    """What holds for every model; ``uneven`` are sizes of molecules that share a batch."""

    uneven: tuple[int, ...] | None = None

    def test_turns_with_rotation_and_reflection(self, model: Subject, dtype: torch.dtype) -> None:
        for seed in SEEDS:
            graph = random_batch(seed, dtype)
            checks.turn(model, graph, seed, reflect=False)
            checks.turn(model, graph, seed, reflect=True)

    def test_follows_permutation(self, model: Subject, dtype: torch.dtype) -> None:
        for seed in SEEDS:
            checks.permute(model, random_batch(seed, dtype), seed)

    def test_ignores_translation(self, model: Subject, dtype: torch.dtype) -> None:
        for seed in SEEDS:
            checks.translate(model, random_batch(seed, dtype))

    def test_batched_equals_single(self, model: Subject, dtype: torch.dtype) -> None:
        sizes = {} if self.uneven is None else {"sizes": self.uneven}
        for seed in SEEDS:
            checks.batched(model, random_batch(seed, dtype, **sizes))

    def test_no_gradient_across_molecules(self, model: Subject, dtype: torch.dtype) -> None:
        for seed in SEEDS:
            checks.no_cross_gradient(model, random_batch(seed, dtype))


# Each check again, on a model with the fault it is there to find.
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
every_fault = pytest.mark.parametrize(
    ("fault", "check", "words"), [f[1:] for f in FAULTS], ids=[f[0] for f in FAULTS]
)


def rejects(model: Subject, fault: Callable[[Subject], Subject], check: Check, words: str) -> None:
    """The check passes the model, and refuses it with the fault."""
    check(model)
    with pytest.raises(AssertionError, match=words):
        check(fault(model))
