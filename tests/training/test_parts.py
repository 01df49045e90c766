"""A batch in parts of bounded size: the same gradient as the whole, whatever the parts."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from georecon.data.store import Store
from georecon.experiments.settings import EncoderSettings
from georecon.models.potential import PropertyModel
from georecon.stages.finetune import FinetuneModel, FinetuneTask
from georecon.training.batches import Batch, Share, ShuffledBatches, in_order
from georecon.training.loop import Trainer
from georecon.training.world import World
from tests.toy_graphs import write_store
from tests.training.toy_run import settings
from tests.training.toy_world import RECIPE, make


class Of(World):
    """One of several processes, without the others."""

    def __init__(self, rank: int, size: int) -> None:
        super().__init__()
        self.rank, self.size = rank, size


def terms(task: Any, step: int = 0) -> tuple[dict[str, float], Tensor]:
    """Losses and gradient of a step, summed over its parts."""
    parameters = [p for p in task.model.parameters() if p.requires_grad]
    for p in parameters:
        p.grad = None
    sums: dict[str, float] = {}
    for part in range(task.parts(step)):
        losses = task.loss(step, part)
        losses["loss"].backward()
        for name, value in losses.items():
            sums[name] = sums.get(name, 0.0) + float(value.detach())
    found = [torch.zeros_like(p) if p.grad is None else p.grad for p in parameters]
    return sums, torch.cat([gradient.flatten() for gradient in found])


@pytest.mark.parametrize("size", [1, 2])
@pytest.mark.parametrize("most", [1, 14, 20, 10_000])
def test_parts_are_the_batch_in_order_and_within_bounds(
    most: int, size: int, toy_store: Path
) -> None:
    store = Store.open(toy_store)
    for rank in range(size):
        world = Of(rank, size)
        batches = ShuffledBatches(
            store, store.ids[:18], batch_size=9, seed=1, world=world, part_atoms=most
        )
        for step in range(3):
            parts = batches.parts(step)
            assert np.concatenate(parts).tolist() == batches.rows_at(step)[rank::size].tolist()
            for rows in parts:
                assert store.n_atoms(rows).sum() <= most or len(rows) == 1
            for one, other in itertools.pairwise(parts):  # no part could be larger
                assert store.n_atoms(one).sum() + store.n_atoms(other[:1]).sum() > most


@pytest.mark.parametrize("kind", ["denoise", "reconstruct", "force"])
@pytest.mark.parametrize("most", [1, 20])
def test_the_gradient_is_that_of_the_whole_batch(kind: str, most: int, toy_store: Path) -> None:
    whole, parted = (make(kind, toy_store, World(), part_atoms=atoms) for atoms in (0, most))
    assert whole.parts(0) == 1
    assert parted.parts(0) > 2
    (losses, right), (found_losses, found) = terms(whole), terms(parted)
    for name, value in losses.items():
        assert found_losses[name] == pytest.approx(value, rel=1e-5, abs=1e-7), name
    assert float((found - right).norm() / right.norm()) < 1e-5


def test_parts_that_all_count_the_same_are_noticed(
    toy_store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The twin: a mean of means, where parts have different numbers of atoms."""
    whole, parted = (make("denoise", toy_store, World(), part_atoms=atoms) for atoms in (0, 20))
    right = terms(whole)[1]
    count = parted.parts(0)
    monkeypatch.setattr(
        ShuffledBatches, "share", lambda self, step, part=0: Share(1 / count, 1 / count)
    )
    assert float((terms(parted)[1] - right).norm() / right.norm()) > 1e-3


def test_a_training_in_parts_ends_where_the_whole_does(toy_store: Path, tmp_path: Path) -> None:
    ends = []
    for atoms in (0, 20):
        task = make("force", toy_store, World(), part_atoms=atoms)
        train = settings(steps=5, evaluations=1, batch_size=9, lr=1e-3)
        trainer = Trainer(task, train, tmp_path / str(atoms), "x")
        ends.append(([trainer.train_step() for _ in range(5)], trainer.optimizer.flat.detach()))
    (losses, weights), (found_losses, found) = ends
    assert found_losses == pytest.approx(losses, rel=1e-4)
    assert float((found - weights).norm() / weights.norm()) < 1e-4


# ---- large molecules ----------------------------------------------------------------------------


class Precise(ShuffledBatches):
    """Batches with positions in float64."""

    def at(self, step: int, part: int = 0) -> Batch:
        batch = super().at(step, part)
        return batch._replace(graph=batch.graph.to("cpu", torch.float64))


@pytest.mark.slow
@pytest.mark.parametrize(("dtype", "bound"), [(torch.float32, 1e-5), (torch.float64, 1e-10)])
def test_forces_of_370_atoms_under_a_budget(
    dtype: torch.dtype, bound: float, tmp_path: Path
) -> None:
    """MD22's largest molecules, four a batch, at most 400 atoms at once."""
    store = write_store(tmp_path / "store", 5, (370, 370))
    sizes = EncoderSettings(channels=8, layers=2, heads=2, rbf=8, max_z=20)
    found = []
    for most in (0, 400):
        torch.manual_seed(1)
        kind = Precise if dtype == torch.float64 else ShuffledBatches
        batches = kind(
            store, store.ids, batch_size=4, seed=1, label="energy", part_atoms=most
        )  # fmt: skip
        model = PropertyModel(sizes, "scalar", scale=1.0, shift=0.0, atomref=torch.zeros(20))
        whole = FinetuneModel(model.to(dtype)).to(dtype)
        task = FinetuneTask(whole, RECIPE, batches, [], seed=1)
        assert task.parts(0) == (4 if most else 1)
        found.append(terms(task)[1])
    assert float((found[1] - found[0]).norm() / found[0].norm()) < bound


def test_batches_for_prediction_are_bounded_too(toy_store: Path) -> None:
    store = Store.open(toy_store)
    whole, parted = (in_order(store, store.ids, 8, "energy", atoms) for atoms in (0, 20))
    assert [len(batch.graph.ids) for batch in whole] == [8, 8, 8]
    assert all(len(batch.graph.z) <= 20 for batch in parted)
    for name in ("ids", "z", "pos"):
        one, other = (torch.cat([getattr(b.graph, name) for b in bs]) for bs in (whole, parted))
        assert torch.equal(one, other)
