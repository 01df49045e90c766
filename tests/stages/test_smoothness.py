"""Smoothness estimates against exact Jacobians of small molecules."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch

from georecon.experiments.settings import ESTIMATES, EncoderSettings, SmoothnessSettings
from georecon.graph import MolGraph, composition_keys
from georecon.models.encoder import EquivariantTransformer
from georecon.stages.smoothness import (
    CONVERGED,
    code_maps,
    difference_ratios,
    measure,
    spectral_norms,
    spread,
    spread_within_isomers,
)
from tests.toy_graphs import batch, random_molecule, singles

MAPS = ("mean", "mean_normalised", "sum", "node")


@pytest.fixture(scope="module")
def encoder() -> EquivariantTransformer:
    torch.manual_seed(2)
    made = EquivariantTransformer(
        EncoderSettings(channels=8, layers=2, heads=2, rbf=8, max_z=20)
    ).double()
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return made.eval().requires_grad_(False)


def molecules(seed: int = 0) -> MolGraph:
    return batch([random_molecule(n, seed + n) for n in (4, 6, 5)])


def exact(f: object, graph: MolGraph) -> torch.Tensor:
    """Largest singular value of the full Jacobian of each molecule."""
    found = []
    for one in singles(graph):

        def flat(pos: torch.Tensor, one: MolGraph = one) -> torch.Tensor:
            return f(one._replace(pos=pos)).flatten()  # type: ignore[operator]

        jacobian = torch.autograd.functional.jacobian(flat, one.pos)
        matrix = jacobian.reshape(jacobian.shape[0], -1)
        found.append(torch.linalg.matrix_norm(matrix, 2))
    return torch.stack(found)


@pytest.mark.parametrize("name", MAPS)
def test_power_iteration_finds_the_largest_singular_value(
    name: str, encoder: EquivariantTransformer
) -> None:
    f = code_maps(encoder)[name]
    for seed in range(3):
        graph = molecules(seed)
        found = spectral_norms(f, graph, iterations=60, seed=1).norm
        expected = exact(f, graph)
        assert (found <= expected * (1 + 1e-9)).all(), "an estimate from below"
        assert ((found - expected).abs() < 0.01 * expected).all(), (found, expected)


def test_more_iterations_never_lower_the_estimate(encoder: EquivariantTransformer) -> None:
    f, graph = code_maps(encoder)["mean"], molecules()
    found = [spectral_norms(f, graph, iterations=n, seed=1).norm for n in (1, 2, 4, 8, 16)]
    for fewer, more in pairwise(found):
        assert (more >= fewer * (1 - 1e-12)).all()


def test_molecules_of_a_batch_do_not_change_each_other(encoder: EquivariantTransformer) -> None:
    f, graph = code_maps(encoder)["mean"], molecules()
    together = spectral_norms(f, graph, iterations=10, seed=1).norm
    alone = torch.cat(
        [spectral_norms(f, one, iterations=10, seed=1).norm for one in singles(graph)]
    )
    assert torch.allclose(together, alone, rtol=1e-9)


def test_estimate_scales_with_the_map(encoder: EquivariantTransformer) -> None:
    f, graph = code_maps(encoder)["mean"], molecules()
    plain = spectral_norms(f, graph, iterations=10, seed=1).norm
    tripled = spectral_norms(lambda g: 3.0 * f(g), graph, iterations=10, seed=1).norm
    assert torch.allclose(tripled, 3.0 * plain, rtol=1e-9)


def asked(**given: Any) -> SmoothnessSettings:
    """Settings with what :func:`measure` reads."""
    sizes = EncoderSettings(channels=8, layers=1, heads=2, rbf=4)
    plain = {"name": "x", "method": "x", "code": "", "encoder": sizes, "molecules": 1, "seed": 1}
    return SmoothnessSettings(**plain, **given)


class Scaled(torch.nn.Module):
    """An encoder whose scalars are multiplied by a number."""

    def __init__(self, encoder: EquivariantTransformer, factor: float) -> None:
        super().__init__()
        self.encoder, self.factor = encoder, factor

    def forward(self, graph: MolGraph) -> tuple[torch.Tensor, torch.Tensor]:
        x, vec = self.encoder(graph)
        return self.factor * x, vec


def test_scale_free_estimate_ignores_the_size_of_the_code(
    encoder: EquivariantTransformer,
) -> None:
    settings = asked(maps=("mean",), displacements=(0.01,), iterations=8)
    graphs = [molecules(0), molecules(20)]
    found = [
        measure(Scaled(encoder, s), graphs, settings, graphs).estimates["mean/0.01"]
        for s in (1.0, 50.0)
    ]  # type: ignore[arg-type]
    assert found[1]["spectral_mean"] == pytest.approx(50 * found[0]["spectral_mean"], rel=1e-9)
    assert found[1]["scale_free"] == pytest.approx(found[0]["scale_free"], rel=1e-9)
    assert found[0]["scale_free"] == pytest.approx(found[0]["spectral_mean"] / found[0]["spread"])
    assert tuple(found[0]) == ESTIMATES, "the names that a table may ask for"


@pytest.mark.parametrize("name", MAPS)
def test_small_differences_are_bounded_by_the_norm(
    name: str, encoder: EquivariantTransformer
) -> None:
    """‖f(r + tδ) − f(r)‖ / ‖tδ‖ → ‖Jδ‖ / ‖δ‖ ≤ σ_max, equal along the first singular vector."""
    f, graph = code_maps(encoder)[name], molecules()
    norm = exact(f, graph)
    generator = torch.Generator().manual_seed(0)
    for _ in range(5):
        direction = torch.randn(graph.pos.shape, generator=generator, dtype=torch.float64)
        moved = graph._replace(pos=graph.pos + 1e-6 * direction)
        assert (difference_ratios(f, graph, moved) <= norm * (1 + 1e-4)).all()
    first = singles(graph)[0]
    jacobian = torch.autograd.functional.jacobian(
        lambda pos: f(first._replace(pos=pos)).flatten(), first.pos
    )
    _, _, right = torch.linalg.svd(jacobian.reshape(jacobian.shape[0], -1))
    moved = first._replace(pos=first.pos + 1e-6 * right[0].view_as(first.pos))
    assert float(difference_ratios(f, first, moved)) == pytest.approx(float(norm[0]), rel=1e-3)


def test_spread_is_the_deviation_over_molecules(encoder: EquivariantTransformer) -> None:
    f = code_maps(encoder)["mean"]
    graphs = [molecules(0), molecules(20)]
    values = torch.cat([f(graph) for graph in graphs])
    centred = values - values.mean(0)
    assert spread(f, graphs) == pytest.approx(float(centred.square().sum(1).mean().sqrt()))


def isomers_of(graph: MolGraph, shift: float) -> MolGraph:
    """The same atoms at other places."""
    noise = torch.randn(graph.pos.shape, generator=torch.Generator().manual_seed(5)).double()
    return graph._replace(pos=graph.pos + shift * noise)


def test_spread_within_isomers_is_about_each_compositions_mean(
    encoder: EquivariantTransformer,
) -> None:
    f = code_maps(encoder)["mean"]
    first = molecules(0)
    alone = batch([random_molecule(n, n) for n in (7, 8)])  # of these there are no isomers
    graphs = [first, isomers_of(first, 0.3), alone]
    pairs = torch.stack([f(graphs[0]), f(graphs[1])])
    expected = ((pairs - pairs.mean(0)).square().sum() / first.num_graphs).sqrt()
    assert spread_within_isomers(f, graphs) == pytest.approx(float(expected))
    assert spread_within_isomers(f, graphs) < spread(f, graphs)
    composition: Any = lambda graph: composition_keys(graph)[:, None].double()  # noqa: E731
    assert spread_within_isomers(composition, graphs) == 0.0


def test_without_isomers_there_is_no_estimate(encoder: EquivariantTransformer) -> None:
    settings = asked(maps=("mean", "node"), displacements=(0.01,), iterations=2)
    found = measure(encoder, [molecules()], settings, [molecules()]).estimates
    assert found["mean/0.01"]["scale_free_isomers"] is None
    both = [molecules(), isomers_of(molecules(), 0.3)]
    found = measure(encoder, [molecules()], settings, both).estimates
    entry = found["mean/0.01"]
    ratio = entry["spectral_mean"] / entry["spread_isomers"]
    assert entry["scale_free_isomers"] == pytest.approx(ratio)
    assert found["node/0.01"]["scale_free_isomers"] is None


def test_measure_reports_every_map_and_displacement(encoder: EquivariantTransformer) -> None:
    settings = asked(maps=("mean", "node"), displacements=(0.01, 0.1), iterations=3)
    found = measure(encoder, [molecules()], settings, [molecules()]).estimates
    assert set(found) == {f"{m}/{d}" for m in ("mean", "node") for d in (0.01, 0.1)}
    for entry in found.values():
        assert 0 < entry["spectral_mean"] <= entry["spectral_max"]
        assert 0 < entry["difference_mean"] <= entry["spectral_max"] * 2
    assert measure(encoder, [molecules()], settings, [molecules()]).estimates == found


def test_the_norms_of_single_molecules_are_those_behind_mean_and_maximum(
    encoder: EquivariantTransformer,
) -> None:
    settings = asked(maps=("mean", "node"), displacements=(0.01, 0.1), iterations=3)
    found = measure(encoder, [molecules(), molecules(20)], settings, [molecules()])
    assert found.norms.keys() == found.estimates.keys()
    for place, norms in found.norms.items():
        assert len(norms) == 6
        mean, largest = (found.estimates[place][f"spectral_{name}"] for name in ("mean", "max"))
        assert np.mean(norms) == pytest.approx(mean, rel=1e-5)
        assert max(norms) == pytest.approx(largest, rel=1e-5)


def test_encoder_of_zero_smoothness() -> None:
    """A map that ignores positions has norm zero and no NaN."""
    graph = molecules()
    found = spectral_norms(
        lambda g: g.pos[g.ptr[:-1]] * 0.0 + 1.0, graph, iterations=5, seed=1
    ).norm
    assert found.tolist() == [0.0, 0.0, 0.0]


def close_to_exact(norm: torch.Tensor, expected: torch.Tensor) -> None:
    """Within 1 % of the largest singular value."""
    error = ((norm - expected).abs() / expected).max()
    assert error < 0.01, f"largest singular value off by {error:.1%}"


@pytest.mark.parametrize("name", MAPS)
def test_a_power_iteration_that_is_too_short_says_so(
    name: str, encoder: EquivariantTransformer
) -> None:
    """Where no more growth is expected, the estimate is right; where it is wrong, growth is."""
    f, graph = code_maps(encoder)[name], molecules()
    expected = exact(f, graph)
    early = spectral_norms(f, graph, iterations=2, seed=1)
    with pytest.raises(AssertionError, match="singular value"):  # the twin: a random direction
        close_to_exact(early.norm, expected)
    assert (early.growth[early.norm < 0.99 * expected] > CONVERGED).all()
    late = spectral_norms(f, graph, iterations=100, seed=1)
    assert (late.growth < CONVERGED).all()
    close_to_exact(late.norm, expected)


def test_measure_counts_molecules_that_have_not_converged(encoder: EquivariantTransformer) -> None:
    settings = asked(maps=("mean",), displacements=(0.01,), iterations=1)
    few = measure(encoder, [molecules()], settings, [molecules()]).estimates["mean/0.01"]
    many = measure(
        encoder, [molecules()], replace(settings, iterations=100), [molecules()]
    ).estimates["mean/0.01"]
    assert few["unconverged"] == 3
    assert many["unconverged"] == 0
    assert many["spectral_mean"] > few["spectral_mean"]
