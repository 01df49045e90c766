"""The conditioned reconstruction: which passes it makes, what the code reaches, its controls."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from georecon.graph import MolGraph
from georecon.models.encoder import EquivariantTransformer
from georecon.noise import NoiseSource
from georecon.objectives._reconstruction import isomers
from tests.objectives.test_objectives import eight, make
from tests.toy_graphs import batch, random_batch, random_molecule, random_rotation

OWN = {"clean_noise": False, "sigma_rec": 0.9, "own_encoder": True, "dropout": 0.0}
"""What the reading FP changes of the reading JP, which ``make`` builds."""


def step(objective: torch.nn.Module, number: int) -> dict[str, Tensor]:
    losses: dict[str, Tensor] = objective(eight(), NoiseSource(1, number))
    return losses


@pytest.mark.parametrize(
    ("changes", "with_it", "without"),
    [({}, 2, 1), (OWN, 3, 1), ({**OWN, "own_encoder": False}, 3, 1)],
)
def test_reconstruction_is_made_at_every_fourth_step_alone(
    changes: dict[str, Any], with_it: int, without: int
) -> None:
    objective, calls = make("conditioned", **changes), []
    for module in objective.modules():
        if isinstance(module, EquivariantTransformer):
            module.register_forward_hook(lambda *given, seen=calls: seen.append(given))
    for number in range(8):
        calls.clear()
        losses = step(objective, number)
        due = number % 4 == 0
        assert len(calls) == (with_it if due else without)
        assert bool(losses["reconstruct"].detach() > 0) is due
        expected = losses["denoise"] + 2.0 * losses["reconstruct"]
        assert torch.allclose(losses["loss"], expected)


@pytest.mark.parametrize("changes", [{}, OWN, {"own_encoder": True}])
def test_every_parameter_gets_a_gradient(changes: dict[str, Any]) -> None:
    objective = make("conditioned", **changes)
    with torch.no_grad():
        for parameter in objective.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    step(objective, 0)["loss"].backward()
    blind = {n for n, p in objective.named_parameters() if p.grad is None or not p.grad.any()}
    # vectors are zero before the first layer: their projection there has nothing to project
    assert {name.rpartition("attention_layers.")[2] for name in blind} == {"0.vec_proj.weight"}


def gradient_of_code(**changes: Any) -> bool:
    """Whether the reconstruction reaches the encoder through the code: an encoder of its own reads
    the noisy side, so that there is no other way."""
    objective = make("conditioned", **{**OWN, **changes})
    losses = step(objective, 0)
    losses["reconstruct"].backward()
    return any(p.grad is not None and bool(p.grad.any()) for p in objective.encoder.parameters())


def test_the_code_carries_the_gradient_to_the_encoder_and_the_zero_code_does_not() -> None:
    assert gradient_of_code()
    assert gradient_of_code(code="shuffled")
    assert not gradient_of_code(code="zero")


@pytest.mark.parametrize("name", ["reconstruct", "conditioned"])
def test_controls_keep_parameters_and_passes(name: str) -> None:
    """Own, shuffled and zero codes: the same weights, the same number of passes, other losses."""
    found = {}
    for code in ("own", "shuffled", "zero"):
        objective, calls = make(name, code=code), []
        objective.encoder.register_forward_hook(lambda *given, seen=calls: seen.append(given))
        losses = step(objective, 0)
        weights = {n: tuple(p.shape) for n, p in objective.named_parameters()}
        found[code] = (weights, len(calls), float(losses["reconstruct"].detach()))
    assert len({str(entry[:2]) for entry in found.values()}) == 1
    assert len({entry[2] for entry in found.values()}) == 3


@pytest.mark.parametrize("name", ["reconstruct", "conditioned"])
def test_validation_of_a_control_is_with_the_right_code(name: str) -> None:
    """Usage compares codes that the decoder may or may not have learned with."""
    objective = make(name, code="shuffled").eval()
    with torch.no_grad():
        measures = objective.validate(eight(), NoiseSource(1, -1))
    assert measures["code_usage"] != 0.0
    assert set(measures) >= {"reconstruct_shuffled", "reconstruct_zero", "code_usage_isomers"}


def test_dropout_is_of_whole_molecules_and_of_training_alone() -> None:
    graph, noise = eight(), NoiseSource(1, 0)
    dropped, kept = make("conditioned", dropout=0.9), make("conditioned", dropout=0.0)
    assert not torch.equal(dropped(graph, noise)["reconstruct"], kept(graph, noise)["reconstruct"])
    for objective in (dropped, kept):
        objective.eval()
    assert torch.equal(dropped(graph, noise)["reconstruct"], kept(graph, noise)["reconstruct"])
    chosen = [float((noise.uniform(g, "dropout") < 0.2).double().mean()) for g in (many(4000),)]
    assert chosen[0] == pytest.approx(0.2, abs=0.03)


def many(count: int) -> MolGraph:
    return batch([random_molecule(2, k) for k in range(count)], torch.float32)


@pytest.mark.parametrize("changes", [{}, OWN])
def test_reconstruction_turns_with_the_molecule(changes: dict[str, Any]) -> None:
    """Predicted noise is a vector of each atom: the conditioned pass is equivariant."""
    objective = make("conditioned", **changes).double().eval()
    graph, rotation = random_batch(1), random_rotation(2).double()
    other = graph._replace(pos=graph.pos @ rotation.T)
    with torch.no_grad():
        for module in objective.modulation:  # so that the code counts
            module.weight.normal_()
        code = torch.randn(graph.num_graphs, 16, dtype=torch.float64)
        found = [objective._predict(_sides(objective, given), code) for given in (graph, other)]
        without = objective._predict(_sides(objective, graph), torch.zeros_like(code))
    assert torch.allclose(found[0] @ rotation.T, found[1], atol=1e-10)
    assert not torch.allclose(found[0], without, atol=1e-3)


def _sides(objective: torch.nn.Module, graph: MolGraph) -> Any:
    side = objective.inputs(graph, NoiseSource(0, 0)).side
    return side._replace(noisy=graph, edges=objective.encoder.edges(graph))


def test_isomers_are_other_molecules_of_the_same_atoms() -> None:
    atoms = [[1, 6, 1], [8, 1], [1, 1, 6], [1, 8], [6, 6], [6, 1, 1]]
    molecules = [(torch.tensor(z), torch.randn(len(z), 3)) for z in atoms]
    graph = batch(molecules, torch.float32)
    assert isomers(graph).tolist() == [2, 3, 5, 1, 4, 0]


def test_code_usage_of_isomers_is_of_those_that_have_one() -> None:
    """A code that is the composition alone tells molecules apart and isomers not."""
    objective = make("conditioned").double().eval()
    graph = random_batch(3)
    twice = batch([(z, p) for z, p in _molecules(graph) for _ in range(2)], torch.float64)
    objective.graph_code = Composition()
    with torch.no_grad():
        measures = objective.validate(twice, NoiseSource(1, -1))
    assert measures["code_usage_isomers"].abs() < 1e-12
    assert measures["code_usage"].abs() > 1e-9


def _molecules(graph: MolGraph) -> list[tuple[Tensor, Tensor]]:
    bounds = zip(graph.ptr[:-1].tolist(), graph.ptr[1:].tolist(), strict=True)
    return [(graph.z[a:b], graph.pos[a:b] + 0.01 * k) for k, (a, b) in enumerate(bounds)]


class Composition(torch.nn.Module):
    """A code of the atoms alone."""

    def forward(self, x: Tensor, graph: MolGraph) -> Tensor:
        sums = torch.zeros(graph.num_graphs, x.shape[1], dtype=x.dtype)
        return sums.index_add_(
            0, graph.batch, torch.sin(graph.z[:, None] * torch.arange(1.0, 17.0)).to(x)
        )


def test_two_strengths_of_noise_are_of_whole_molecules_in_equal_parts() -> None:
    objective = make("denoise", sigma_strong=0.4)
    graph = many(400)
    seen: list[MolGraph] = []
    objective.encoder.register_forward_pre_hook(lambda module, given: seen.append(given[0]))
    objective(graph, NoiseSource(1, 0))
    moved = (seen[0].pos - graph.pos).square().sum(1).reshape(400, 2).mean(1).div(3).sqrt()
    strong = NoiseSource(1, 0).uniform(graph, "strength") < 0.5
    assert 150 < int(strong.sum()) < 250
    assert moved[strong].square().mean().sqrt() == pytest.approx(0.4, rel=0.1)
    assert moved[~strong].square().mean().sqrt() == pytest.approx(0.04, rel=0.1)
