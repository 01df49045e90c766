"""Edges of fixed shapes and recorded steps: on a GPU if there is one, else in the interpreter."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from georecon.data.store import Store
from georecon.errors import ConfigError, DataError, TrainingError
from georecon.experiments.settings import EncoderSettings
from georecon.graph import MolGraph, radius_edges
from georecon.jobs.job import prepare_torch
from georecon.kernels import fixed_edges, native
from georecon.kernels.fixed_edges import DEAD, equal_molecules
from georecon.models.encoder import EquivariantTransformer
from georecon.models.potential import PropertyModel
from georecon.stages.finetune import FinetuneModel, FinetuneTask
from georecon.training import replay
from georecon.training.batches import ShuffledBatches
from georecon.training.loop import Trainer
from georecon.training.replay import MOST, Recurring, Replay, Terms
from georecon.training.world import World
from tests.kernels.attention_cases import compare
from tests.kernels.recorded import RECORD, Waits, rehearsed, trained
from tests.kernels.triton_kernels import DEVICE, held_edges
from tests.toy_graphs import random_batch, write_store
from tests.training.toy_run import settings
from tests.training.toy_world import RECIPE

ATOMS, CUTOFF = 5, 2.0
SIZES = EncoderSettings(channels=8, layers=2, heads=1, rbf=5, max_z=20, cutoff=CUTOFF)


@pytest.fixture(autouse=True)
def kernels(interpreter: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Triton's kernels, on CPUs too; on GPUs sums in a fixed order."""
    monkeypatch.setenv("GEORECON_KERNEL", "triton")
    if DEVICE == "cuda":
        prepare_torch(1)


def molecules(seed: int = 4) -> MolGraph:
    return random_batch(seed, torch.float32, sizes=(ATOMS,) * 2).to(DEVICE)


@pytest.mark.parametrize("most", [32, 2])
def test_they_are_the_edges_of_the_radius_graph(most: int) -> None:
    """With a cap some pairs have one edge; most pairs beyond the cutoff have none."""
    graph = molecules()
    right = radius_edges(graph, CUTOFF, most)
    wanted = sorted(zip(right.source.tolist(), right.target.tolist(), strict=True))
    assert fixed_edges.fixed_edges(graph, CUTOFF, most) is None
    with equal_molecules(ATOMS):
        edges, neighbors = fixed_edges.fixed_edges(graph, CUTOFF, most)  # type: ignore[misc]
    by_link, into, out = held_edges(neighbors.links)
    assert by_link == into == out
    assert {pair for *_, pair in by_link} <= set(range(len(edges.length)))
    assert sorted((source, target) for source, target, _ in by_link) == wanted
    dead = int((neighbors.links.table[3] == DEAD).sum())
    assert dead == int((edges.ways == 0).sum()) > 0


def outputs(encoder: EquivariantTransformer, graph: MolGraph, atoms: int) -> dict[str, Tensor]:
    """Features, forces, and gradient of a loss of forces."""
    pos = graph.pos.detach().requires_grad_(True)
    with equal_molecules(atoms):
        x, vec = encoder(graph._replace(pos=pos))
    energy = x.sin().sum() + vec.square().sum()
    (force,) = torch.autograd.grad(energy, pos, create_graph=True)
    weights = [p for p in encoder.parameters() if p.requires_grad]
    found = torch.autograd.grad(force.square().sum(), weights, allow_unused=True)
    named = {str(k): g for k, g in enumerate(found) if g is not None and g.any()}
    return {"x": x, "vec": vec, "force": force, **named}


def both(most: int, layers: int = 2) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """With fixed shapes by the kernels, and the equations."""
    torch.manual_seed(0)
    sizes = replace(SIZES, max_neighbors=most, layers=layers)
    encoder = EquivariantTransformer(sizes).to(DEVICE)
    for name, weights in encoder.named_parameters():
        if name.endswith("bias"):
            torch.nn.init.normal_(weights, std=0.3)
    found = outputs(encoder, molecules(), ATOMS)
    with native.forced("reference"):
        return found, outputs(encoder, molecules(), 0)


@pytest.mark.parametrize(("most", "layers"), [(32, 2), (2, 2), (2, 1)])
def test_an_encoder_gives_the_same_numbers(most: int, layers: int) -> None:
    compare(*both(most, layers), 1e-5)


def gradients_of_pairs_without_edges(patch: pytest.MonkeyPatch) -> None:
    """Their rows then hold the filters themselves."""
    patch.setattr(fixed_edges, "DEAD", 0)


def edges_of_all_pairs(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(fixed_edges, "nearest", lambda squared, *rest: torch.ones_like(squared).bool())


def ends_not_turned(patch: pytest.MonkeyPatch) -> None:
    frame = fixed_edges._frame
    patch.setattr(
        fixed_edges,
        "_frame",
        lambda *given: (f := frame(*given))._replace(low=torch.ones_like(f.low)),
    )


@pytest.mark.parametrize(
    "twin", [gradients_of_pairs_without_edges, edges_of_all_pairs, ends_not_turned]
)
def test_a_broken_twin_is_noticed(
    twin: Callable[[pytest.MonkeyPatch], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    twin(monkeypatch)
    with pytest.raises(AssertionError):
        compare(*both(most=2, layers=1), 1e-5)


# ---- steps --------------------------------------------------------------------------------------


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return write_store(tmp_path / "store", 12, (ATOMS, ATOMS))


def force_task(store: Store, part_atoms: int = 0) -> FinetuneTask:
    torch.manual_seed(1)
    batches = ShuffledBatches(
        store,
        store.ids,
        batch_size=3,
        seed=1,
        label="energy",
        world=World(DEVICE),
        part_atoms=part_atoms,
    )
    model = PropertyModel(SIZES, "scalar", scale=1.0, shift=0.0, atomref=torch.zeros(20))
    return FinetuneTask(FinetuneModel(model), RECIPE, batches, [], seed=1)


@pytest.mark.usefixtures("plain")
@pytest.mark.parametrize("part_atoms", [0, 2 * ATOMS])
def test_a_recorded_training_has_the_bits_of_one_that_is_launched(
    part_atoms: int, store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    losses, weights, found = trained(force_task(store, part_atoms), tmp_path / "a", RECORD)
    assert len(found._recordings) == (2 if part_atoms else 1)
    monkeypatch.setenv("GEORECON_GRAPHS", "0")
    launched, right, found = trained(force_task(store, part_atoms), tmp_path / "b", RECORD)
    assert not found._recordings
    assert losses == launched
    assert torch.equal(weights, right)
    assert len(set(losses)) == len(losses)


@pytest.mark.usefixtures("plain")
def test_a_recording_of_one_batch_alone_is_noticed(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The twin: what a step depends on is not copied into the recording."""
    right = trained(force_task(store), tmp_path / "a", RECORD)[0]
    copied, kept = replay._copied, []
    monkeypatch.setattr(replay, "_copied", lambda inputs: kept.append(copied(inputs)) or kept[-1])
    monkeypatch.setattr(replay, "_tensors", lambda inputs: iter(()))
    assert trained(force_task(store), tmp_path / "b", RECORD)[0][1:] != right[1:]


@pytest.mark.usefixtures("plain")
@pytest.mark.skipif(DEVICE != "cpu", reason="counts operations of the CPU")
def test_the_host_waits_for_nothing_in_a_step(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Losses are read every few steps, molecules are checked once."""

    def refused(_: Tensor) -> None:
        raise AssertionError("the host waits for numbers")

    trainer = Trainer(force_task(store), settings(clip=1e-3), tmp_path, "x")
    trainer.replay = Replay(trainer._differentiate, rehearsed)
    trainer.read_every = 3
    trainer.train_step()
    monkeypatch.setattr(Tensor, "tolist", refused)
    with Waits():
        trainer.train_step()
        with pytest.raises(AssertionError):
            trainer.train_step()


@pytest.mark.usefixtures("plain")
@pytest.mark.skipif(DEVICE != "cpu", reason="a recording refuses them itself")
def test_the_host_waits_for_nothing_in_what_is_recorded(store: Store) -> None:
    task = force_task(store)
    part = task.recurring(0, 0)
    assert part is not None
    part.loss(part.inputs)  # frames are made once
    with Waits():
        part.loss(part.inputs)["loss"].backward()
    with Waits(), pytest.raises(AssertionError):
        task._losses(part.inputs)["loss"].backward()


def test_shapes_beyond_the_most_are_launched() -> None:
    seen: list[int] = []

    def differentiate(compute: Callable[[], dict[str, Tensor]]) -> Terms:
        loss = compute()["loss"]
        return Terms(("loss",), loss[None].double(), loss[None])

    def record(function: Callable[[], Terms]) -> Any:
        seen.append(1)
        return rehearsed(function)

    recording = Replay(differentiate, record)
    for _ in range(2):
        for size in range(1, MOST + 3):
            inputs = (torch.full((size,), float(size)), 1.5)
            terms = recording(Recurring(lambda x: {"loss": x[0].sum() * x[1]}, inputs))
            assert terms.values.tolist() == [1.5 * size**2]
    assert len(seen) == MOST


def test_bad_positions_and_switches_are_named(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sound, spoilt = store.pos, store.pos.copy()
    spoilt[3 * ATOMS] = float("nan")
    store.pos = spoilt
    with pytest.raises(DataError, match=f"record {store.ids[3]}: .*NaN"):
        force_task(store).recurring(0, 0)
    store.pos = sound
    monkeypatch.setenv("GEORECON_GRAPHS", "yes")
    with pytest.raises(ConfigError, match="GEORECON_GRAPHS is 'yes'; allowed: 0, 1"):
        trained(force_task(store), tmp_path, RECORD)


def test_a_step_that_cannot_be_recorded_says_what_helps(store: Store, tmp_path: Path) -> None:
    def record(function: Callable[[], Terms]) -> Any:
        raise RuntimeError("operation not permitted when stream is capturing\nSearch for …")

    text = r"\(operation not permitted when stream is capturing\); GEORECON_GRAPHS=0 launches"
    with pytest.raises(TrainingError, match=text):
        trained(force_task(store), tmp_path, record)


def test_molecules_of_several_sizes_do_not_recur(tmp_path: Path) -> None:
    store = write_store(tmp_path / "store", 12, (ATOMS, ATOMS + 2))
    task = force_task(store)
    assert {task.recurring(step, 0) is None for step in range(4)} == {True}
