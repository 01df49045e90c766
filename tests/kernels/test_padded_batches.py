"""Batches that are filled up to a few sizes: the same numbers, and steps that can be recorded."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from georecon import graph as molecules
from georecon import objectives, padding
from georecon.data.store import Store
from georecon.errors import ConfigError
from georecon.experiments.settings import EncoderSettings
from georecon.graph import MolGraph, radius_edges
from georecon.jobs.job import prepare_torch
from georecon.kernels import native, padded_edges
from georecon.models.encoder import EquivariantTransformer
from georecon.models.potential import PropertyModel
from georecon.noise import NoiseSource
from georecon.padding import FILLERS, filled_up, room
from georecon.stages.finetune import FinetuneModel, FinetuneTask
from georecon.stages.pretrain import PretrainTask
from georecon.training import replay
from georecon.training.batches import ShuffledBatches
from georecon.training.replay import padded
from georecon.training.world import World
from tests.kernels.attention_cases import compare
from tests.kernels.recorded import RECORD, Waits, trained
from tests.kernels.triton_kernels import DEVICE, held_edges
from tests.objectives.test_objectives import PARAMS, VARIANTS
from tests.toy_graphs import random_batch, write_store
from tests.training.toy_world import RECIPE

SIZES = EncoderSettings(channels=8, layers=1, heads=1, rbf=5, max_z=20, cutoff=3.0)


@pytest.fixture(autouse=True)
def on_the_device() -> None:
    """Sums in a fixed order."""
    if DEVICE == "cuda":
        prepare_torch(1)


@pytest.fixture
def equations(monkeypatch: pytest.MonkeyPatch) -> None:
    """In torch operations, float64."""
    monkeypatch.setattr(native, "kernel", lambda _: "reference")


@pytest.fixture
def kernels(interpreter: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Triton's, and all steps recorded."""
    monkeypatch.setenv("GEORECON_KERNEL", "triton")
    monkeypatch.setenv("GEORECON_GRAPHS", "all")


# ---- sizes --------------------------------------------------------------------------------------


def test_rooms_are_few_and_near() -> None:
    rooms = [room(count) for count in range(1, 5000)]
    for count, size in enumerate(rooms, start=1):
        assert count <= size <= count + count // 8 + 1
        assert room(size) == size
    assert len(set(rooms)) < 90
    assert len({room(count) for count in range(2200, 2400)}) == 2


@pytest.mark.parametrize("sizes", [(1,), (9, 12, 8), (29,) * 70])
def test_a_batch_is_filled_up_with_molecules_that_nothing_is_near(sizes: tuple[int, ...]) -> None:
    graph = random_batch(1, torch.float32, sizes=sizes)
    filled = filled_up(graph)
    atoms = len(graph.z)
    assert len(filled.z) == room(atoms + FILLERS) > atoms
    assert (filled.fillers, filled.num_graphs) == (FILLERS, graph.num_graphs + FILLERS)
    for name, count in (("z", atoms), ("pos", atoms), ("batch", atoms), ("ids", len(sizes))):
        assert torch.equal(getattr(filled, name)[:count], getattr(graph, name))
    counts = filled.ptr.diff()
    assert torch.equal(counts, torch.bincount(filled.batch))
    assert int(counts.min()) >= 1
    assert int(counts[-FILLERS:].max()) - int(counts[-FILLERS:].min()) <= 1
    edges = radius_edges(filled, 10.0, 200)
    own = edges.target >= atoms
    assert torch.equal(edges.source[own], edges.target[own])


# ---- the same numbers ---------------------------------------------------------------------------


def gradients(model: torch.nn.Module, losses: dict[str, Tensor]) -> dict[str, Tensor]:
    """Losses, and the gradient of each weight that has one."""
    named = [(name, p) for name, p in model.named_parameters() if p.requires_grad]
    found = torch.autograd.grad(losses["loss"], [p for _, p in named], allow_unused=True)
    pairs = zip(named, found, strict=True)
    numbers = {**losses, **{name: g for (name, _), g in pairs if g is not None}}
    return {name: value for name, value in numbers.items() if value.any()}


def objective(name: str, dtype: torch.dtype, sizes: EncoderSettings, **changes: Any) -> Any:
    torch.manual_seed(0)
    params = {**PARAMS[name], **changes}
    model = objectives.build(name, EquivariantTransformer(sizes), params).to(DEVICE, dtype)
    for weight_name, weights in model.named_parameters():
        if weight_name.endswith("bias"):
            torch.nn.init.normal_(weights, std=0.3)
    return model


def both(model: Any, graph: MolGraph) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Losses and gradients of a batch filled up, in arrays of a few sizes, and of the batch."""
    graph, noise = graph.to(DEVICE), NoiseSource(3, 5)
    inputs = padded(model.inputs(filled_up(graph), noise))
    return gradients(model, model.losses(inputs)), gradients(model, model(graph, noise))


SEPARABLE = [
    ("denoise", {}),
    ("denoise", {"sigma_strong": 0.3}),
    ("conditioned", {"every": 5}),
    ("conditioned", {"every": 3}),
    ("conditioned", {"every": 1, "clean_noise": False}),
    ("conditioned", {"every": 1, "own_encoder": True, "code": "zero"}),
    *(("reconstruct", changes) for changes in VARIANTS),
]


@pytest.mark.usefixtures("equations")
@pytest.mark.parametrize(("name", "changes"), SEPARABLE)
def test_an_objective_gives_the_same_numbers(name: str, changes: dict[str, Any]) -> None:
    model = objective(name, torch.float64, SIZES, **changes)
    assert model.separable
    compare(*both(model, random_batch(1, torch.float64)), 1e-10)


@pytest.mark.usefixtures("kernels")
@pytest.mark.parametrize("name", ["denoise", "reconstruct"])
def test_so_do_the_kernels(name: str) -> None:
    changes = {"depth": 1} if name == "reconstruct" else {}
    sizes = replace(SIZES, max_neighbors=3)  # some pairs have one edge
    model = objective(name, torch.float32, sizes, **changes)
    compare(*both(model, random_batch(1, torch.float32, sizes=(3, 5, 1))), 1e-5)


@pytest.mark.usefixtures("kernels")
def test_padded_edges_are_those_of_the_batch() -> None:
    graph = filled_up(random_batch(1, torch.float32, sizes=(6, 9))).to(DEVICE)
    edges = EquivariantTransformer(replace(SIZES, max_neighbors=4)).to(DEVICE).edges(graph)
    more = edges.padded()
    assert held_edges(more.neighbors.links) == held_edges(edges.neighbors.links)
    pairs = room(len(edges.unit))
    assert pairs > len(edges.unit)
    for values in (more.neighbors.first, more.unit, more.cutoff, more.rbf):
        assert len(values) == pairs
    assert len(more.neighbors.source) == 2 * pairs + len(graph.z) > len(edges.neighbors.source)


def fillers_in_the_mean(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(molecules, "mean_of_atoms", lambda values, graph: values.mean())


def fillers_within_reach(patch: pytest.MonkeyPatch) -> None:
    """One of them is in the last molecule."""
    whole = padding.filled_up

    def filled(graph: MolGraph) -> MolGraph:
        found = whole(graph)
        ptr, batch = found.ptr.clone(), found.batch.clone()
        ptr[-FILLERS - 1] += 1
        batch[len(graph.z)] -= 1
        return found._replace(ptr=ptr, batch=batch)

    patch.setitem(globals(), "filled_up", filled)


def repeated_edges_of_a_molecule(patch: pytest.MonkeyPatch) -> None:
    """The edges at the end are those of the first atom."""
    whole = padded_edges.padded_neighbors

    def neighbors(given: Any) -> Any:
        found = whole(given)
        source, target, pair = (part.clone() for part in found[:3])
        for part in (source, target, pair):
            part[len(given.source) :] = part[0]
        return found._replace(source=source, target=target, pair=pair)

    patch.setattr("georecon.models.encoder.padded_neighbors", neighbors)


@pytest.mark.usefixtures("equations")
@pytest.mark.parametrize(
    "twin", [fillers_in_the_mean, fillers_within_reach, repeated_edges_of_a_molecule]
)
def test_a_broken_twin_is_noticed(
    twin: Callable[[pytest.MonkeyPatch], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    twin(monkeypatch)
    model = objective("reconstruct", torch.float64, SIZES)
    with pytest.raises(AssertionError, match="relative error"):
        compare(*both(model, random_batch(1, torch.float64)), 1e-10)


@pytest.mark.usefixtures("kernels")
def test_pairs_at_the_end_have_no_gradient(monkeypatch: pytest.MonkeyPatch) -> None:
    """The twin: their rows hold the filters themselves."""
    monkeypatch.setattr(padded_edges, "DEAD", 0)
    model = objective("denoise", torch.float32, SIZES)
    with pytest.raises(AssertionError, match="relative error"):
        compare(*both(model, random_batch(1, torch.float32, sizes=(3, 5, 1))), 1e-5)


def test_what_cannot_be_separated_says_so() -> None:
    assert not objective("frad", torch.float32, SIZES).separable
    for name in ("conditioned", "reconstruct"):
        assert not objective(name, torch.float32, SIZES, code="shuffled").separable


# ---- steps --------------------------------------------------------------------------------------


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return write_store(tmp_path / "store", 16, (4, 7))


def task(kind: str, store: Store, part_atoms: int = 0, sizes: EncoderSettings = SIZES) -> Any:
    """Fine-tuning on a property with this head, or pre-training by this objective."""
    torch.manual_seed(1)
    given: dict[str, Any] = {"batch_size": 3, "seed": 1, "world": World(DEVICE)}
    given["part_atoms"] = part_atoms
    if kind in PARAMS:
        model = objectives.build(kind, EquivariantTransformer(sizes), PARAMS[kind])
        return PretrainTask(model, ShuffledBatches(store, store.ids, **given), [], seed=1)
    model = PropertyModel(sizes, kind, scale=1.5, shift=0.5, atomref=torch.zeros(20))
    batches = ShuffledBatches(store, store.ids, label="energy", **given)
    recipe = replace(RECIPE, energy_weight=0.0, force_weight=0.0)
    return FinetuneTask(FinetuneModel(model), recipe, batches, [], seed=1)


@pytest.mark.usefixtures("equations")
@pytest.mark.parametrize("head", ["scalar", "dipole", "spatial_extent"])
def test_a_property_gives_the_same_numbers(
    head: str, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GEORECON_GRAPHS", "all")
    monkeypatch.setattr("georecon.stages.finetune.available", lambda _: True)
    run = task(head, store)
    run.model.double()
    part = run.recurring(0, 0)
    assert part is not None
    found = gradients(run.model, part.loss(part.inputs))
    compare(found, gradients(run.model, run.loss(0)), 1e-5)  # positions are float32


KINDS = ("conditioned", "denoise", "reconstruct", "scalar")


@pytest.mark.usefixtures("kernels", "plain")
@pytest.mark.parametrize("kind", KINDS)
def test_a_recorded_training_is_one_that_is_launched(
    kind: str, store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """To the bit with the same shapes, and to rounding with those of each batch."""
    losses, weights, found = trained(task(kind, store), tmp_path / "a", RECORD, steps=3)
    assert 1 <= len(found._recordings) <= 3  # of three steps
    monkeypatch.setattr(replay, "MOST", 0)
    launched, right, found = trained(task(kind, store), tmp_path / "b", RECORD, steps=3)
    assert not found._recordings
    assert losses == launched
    assert torch.equal(weights, right)
    if DEVICE == "cuda":
        plain, near, _ = trained(task(kind, store), tmp_path / "c", None, steps=3)
        assert losses == pytest.approx(plain, rel=1e-4)
        assert torch.allclose(weights, near, atol=1e-4)


@pytest.mark.usefixtures("kernels", "plain")
@pytest.mark.skipif(DEVICE != "cpu", reason="a recording refuses them itself")
@pytest.mark.parametrize("kind", KINDS)
def test_the_host_waits_for_nothing_in_what_is_recorded(kind: str, store: Store) -> None:
    run = task(kind, store)
    part = run.recurring(0, 0)
    with Waits():
        part.loss(part.inputs)["loss"].backward()
    with Waits(), pytest.raises(AssertionError):
        run.loss(0)


@pytest.mark.usefixtures("kernels")
def test_they_are_recorded_where_that_was_asked_for(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    for kind in KINDS:
        assert task(kind, store).recurring(0, 0) is not None
        shared = task(kind, store, part_atoms=13)
        step = next(step for step in range(20) if not shared.batches.equal_atoms(step, 0))
        assert shared.recurring(step, 0) is None, "a part of a batch"
    assert task("frad", store).recurring(0, 0) is None
    for given in ("0", "1"):
        monkeypatch.setenv("GEORECON_GRAPHS", given)
        assert {task(kind, store).recurring(0, 0) for kind in KINDS} == {None}
    monkeypatch.setenv("GEORECON_GRAPHS", "some")
    with pytest.raises(ConfigError, match="GEORECON_GRAPHS is 'some'; allowed: 0, 1, all"):
        task("denoise", store).recurring(0, 0)
