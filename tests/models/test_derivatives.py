"""Forces, second derivatives, smoothness at the cutoff, and which parameters learn."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
import torch
from torch import Tensor

from georecon.graph import MolGraph
from georecon.models import encoder as encoder_module
from georecon.models.potential import PropertyModel
from tests.models import broken, checks
from tests.models.subjects import (
    HEADS,
    PER_MOLECULE,
    SEEDS,
    Model,
    as_scalar,
    shake,
    sizes,
    subject,
)
from tests.toy_graphs import batch, methane, random_batch, random_molecule

NORMS = ("whitened", "none")
DTYPES = (torch.float32, torch.float64)


def energy_model(dtype: torch.dtype = torch.float64, **changes: object) -> PropertyModel:
    """Energy model with shaken parameters."""
    torch.manual_seed(1)
    settings = sizes(**changes)
    atomref = torch.linspace(-2.0, 0.0, settings.max_z)
    model = PropertyModel(settings, "scalar", scale=2.0, shift=-3.0, atomref=atomref).to(dtype)
    shake(model)
    return model


@pytest.mark.parametrize(("norm", "smooth"), product(NORMS, (False, True)))
@pytest.mark.parametrize("head", PER_MOLECULE)
def test_forces_match_central_differences(head: str, norm: str, smooth: bool) -> None:
    model = subject(head, vector_norm=norm, vector_cutoff=smooth)
    graph = random_batch(1, sizes=(9,))

    def energy(graph: MolGraph) -> Tensor:
        return model(graph).invariant

    forces = checks.forces_of(energy, graph)
    checks.forces_match_energy(energy, forces, graph)
    with pytest.raises(AssertionError, match="central differences"):
        checks.forces_match_energy(energy, 1.0001 * forces, graph)


def test_energy_and_forces_is_the_gradient_of_forward() -> None:
    model = energy_model()
    graph = random_batch(2)
    energy, forces = model.energy_and_forces(graph, training=False)
    assert torch.equal(energy, model(graph).detach())
    checks.forces_match_energy(model, forces, random_batch(2))
    assert not forces.requires_grad
    assert model.energy_and_forces(graph, training=True)[1].requires_grad


@pytest.mark.parametrize(("norm", "smooth"), product(NORMS, (False, True)))
def test_gradcheck_and_gradgradcheck_of_the_energy(norm: str, smooth: bool) -> None:
    model = energy_model(channels=4, rbf=4, vector_norm=norm, vector_cutoff=smooth)
    graph = random_batch(4, sizes=(4,))

    def energy(pos: Tensor) -> Tensor:
        return model(graph._replace(pos=pos))

    pos = graph.pos.clone().requires_grad_(True)
    assert torch.autograd.gradcheck(energy, pos)
    assert torch.autograd.gradgradcheck(energy, pos)


@pytest.mark.parametrize("norm", NORMS)
def test_gradient_of_a_force_loss_matches_central_differences(norm: str) -> None:
    """What training on forces needs: d(force loss)/d(parameter)."""
    model = energy_model(vector_norm=norm)
    graph = random_batch(5, sizes=(6,))
    weight = model.encoder.attention_layers[0].dv_proj.weight

    def force_loss() -> Tensor:
        return model.energy_and_forces(graph, training=True)[1].square().sum()

    (gradient,) = torch.autograd.grad(force_loss(), weight)
    for row, column in ((0, 0), (5, 3), (17, 2), (40, 6)):
        h, before = 1e-5, weight[row, column].item()
        values = []
        for sign in (1, -1):
            with torch.no_grad():
                weight[row, column] = before + sign * h
            values.append(force_loss().item())
        with torch.no_grad():
            weight[row, column] = before
        numeric = (values[0] - values[1]) / (2 * h)
        assert numeric == pytest.approx(gradient[row, column].item(), rel=1e-5, abs=1e-8)


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("head", PER_MOLECULE)
def test_float32_forces_equal_float64_forces(head: str, norm: str) -> None:
    """Self loops must not carry derivatives of 1 / MIN_DISTANCE that only cancel on paper."""
    single = subject(head, vector_norm=norm, dtype=torch.float32)
    double = Model(head, single.encoder.settings).double()
    double.load_state_dict(single.state_dict())
    graph = random_batch(3, torch.float32)
    expected = checks.forces_of(lambda g: double(g).invariant, graph.to("cpu", torch.float64))
    forces = checks.forces_of(lambda g: single(g).invariant, graph)
    error = (forces - expected).abs().max() / expected.abs().max()
    assert error < 1e-4, f"float32 forces are off by {error:.1e}"


@pytest.mark.parametrize("dtype", DTYPES, ids=["f32", "f64"])
@pytest.mark.parametrize(("norm", "smooth"), product(NORMS, (False, True)))
@pytest.mark.parametrize("head", PER_MOLECULE)
def test_forces_and_torques_sum_to_zero(
    head: str, norm: str, smooth: bool, dtype: torch.dtype
) -> None:
    model = subject(head, vector_norm=norm, vector_cutoff=smooth, dtype=dtype)
    for seed in SEEDS:
        graph = random_batch(seed, dtype)
        forces = checks.forces_of(lambda g: model(g).invariant, graph)
        checks.balanced(forces, graph)
        field = torch.tensor([1e-3, 0, 0], dtype=dtype)
        with pytest.raises(AssertionError, match="torque"):
            checks.balanced(forces + field * forces.abs().max(), graph)


@pytest.mark.parametrize("trained", [False, True])
@pytest.mark.parametrize("dtype", DTYPES, ids=["f32", "f64"])
@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("head", ["scalar", "spatial_extent"])
def test_methane_has_tetrahedral_forces(
    head: str, norm: str, dtype: torch.dtype, trained: bool
) -> None:
    model = subject(head, vector_norm=norm, dtype=dtype, trained=trained)
    graph = methane(dtype)
    forces = checks.forces_of(lambda g: model(g).invariant, graph)
    limits = checks.METHANE_WHITENED if norm == "whitened" else checks.METHANE
    checks.tetrahedral(forces, graph, limits)
    faulty = broken.absolute_positions(model)
    bad = checks.forces_of(lambda g: faulty(g).invariant, graph)
    with pytest.raises(AssertionError, match="methane"):
        checks.tetrahedral(bad, graph, checks.METHANE)


def test_rounded_positions_alone_break_the_symmetry_of_whitened_methane() -> None:
    """Why its limit is wider: the same float64 model at positions rounded to float32."""
    model = subject("scalar")
    graph = methane(torch.float32).to("cpu", torch.float64)
    forces = checks.forces_of(lambda g: model(g).invariant, graph)
    with pytest.raises(AssertionError, match="methane"):
        checks.tetrahedral(forces, graph, {torch.float64: checks.METHANE[torch.float32]})


def test_methane_has_no_dipole() -> None:
    """The vectors cancel by symmetry; what is left is the floor of the safe norm."""
    model = subject("dipole")
    with torch.no_grad():
        found = model(methane()).invariant
    assert float(found) < 1e-8  # rounding, whitened
    gradient = checks.forces_of(lambda g: model(g).invariant, methane())
    assert torch.isfinite(gradient).all()


# ---- the cutoff ------------------------------------------------------------------------------


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("head", PER_MOLECULE)
def test_energy_and_forces_are_continuous_at_the_cutoff(head: str, norm: str) -> None:
    model = subject(head, vector_norm=norm, vector_cutoff=True)
    checks.smooth_at_cutoff(lambda g: model(g).invariant, 5.0)


@pytest.mark.parametrize("norm", NORMS)
def test_without_vector_cutoff_energy_and_forces_jump(norm: str) -> None:
    """The lineage's behaviour: gates of vectors are not cut off; vectors and energies jump."""
    model = subject("scalar", vector_norm=norm, vector_cutoff=False)
    with pytest.raises(AssertionError, match="jump"):
        checks.smooth_at_cutoff(lambda g: model(g).invariant, 5.0)
    energy_jump, force_jump = checks.across_cutoff(lambda g: model(g).invariant, 5.0)
    assert energy_jump > 1e-5
    assert force_jump > 1e-5


def test_without_vector_cutoff_zero_biases_are_still_continuous() -> None:
    """The jump is silu(bias) of dv_proj: a model at its initialisation does not have it yet."""
    torch.manual_seed(1)
    model = Model("scalar", sizes(vector_norm="none")).double()
    checks.smooth_at_cutoff(lambda g: model(g).invariant, 5.0)
    with torch.no_grad():
        model.encoder.attention_layers[0].dv_proj.bias += 0.1
    with pytest.raises(AssertionError, match="jump"):
        checks.smooth_at_cutoff(lambda g: model(g).invariant, 5.0)


def test_scalars_of_the_first_layer_are_continuous_in_both_modes() -> None:
    """What jumps without ``vector_cutoff`` are the vectors alone; scalars follow a layer later."""
    for smooth in (False, True):
        torch.manual_seed(1)
        model = Model("encoder", sizes(layers=1, vector_norm="none", vector_cutoff=smooth)).double()
        shake(model)
        checks.smooth_at_cutoff(lambda g, f=model: f(g).invariant.sum(), 5.0)
        vectors = checks.across_cutoff(lambda g, f=model: f(g).vectors.square().sum(), 5.0)
        assert (vectors[0] <= 1e-9) == smooth, vectors


def test_smoothness_check_rejects_a_step_in_the_cutoff(monkeypatch: pytest.MonkeyPatch) -> None:
    model = subject("scalar", vector_cutoff=True)
    monkeypatch.setattr(encoder_module, "cosine_cutoff", broken.hard_cutoff)
    with pytest.raises(AssertionError, match="jump"):
        checks.smooth_at_cutoff(lambda g: model(g).invariant, 5.0)


# ---- parameters ------------------------------------------------------------------------------

# Vectors start at zero, so what only multiplies vectors in the first layer learns nothing.
ENCODER_BLIND = {"encoder.attention_layers.0.vec_proj.weight"}
# A scalar output does not look at the last vector; nor does the spatial extent.
BLIND = {
    "encoder": set(),
    "scalar": {"head.output.second.vec2_proj.weight"},
    "dipole": set(),
    "spatial_extent": {"head.output.second.vec2_proj.weight"},
    "vector": set(),
}


@pytest.mark.parametrize("vector_norm", NORMS)
@pytest.mark.parametrize("head", HEADS)
def test_every_parameter_receives_a_gradient(head: str, vector_norm: str) -> None:
    model = subject(head, vector_norm=vector_norm)
    parameters = dict(model.named_parameters())
    found = checks.without_gradient(model, parameters, random_batch(1))
    assert found == ENCODER_BLIND | BLIND[head]


def test_rows_without_gradient_are_those_that_multiply_zero_vectors() -> None:
    """In the first layer: gate 1 of values and distances, and o1, o2 of the output projection."""
    model = subject("encoder")
    layer = model.encoder.attention_layers[0]
    rows = {name: getattr(layer, name).weight for name in ("v_proj", "dv_proj", "o_proj")}
    number = as_scalar(model(random_batch(1)))
    gradients = torch.autograd.grad(number, list(rows.values()))
    dead = {n: (g == 0).all(1) for n, g in zip(rows, gradients, strict=True)}
    kinds = torch.arange(3).repeat_interleave(16)  # scalar, gate 1, gate 2
    for name in ("v_proj", "dv_proj"):
        assert torch.equal(dead[name], kinds == 1), name
    assert torch.equal(dead["o_proj"], kinds < 2)


def test_parameter_check_notices_an_unused_parameter() -> None:
    model = subject("scalar")
    spare = torch.zeros(3, dtype=torch.float64, requires_grad=True)
    parameters = dict(model.named_parameters()) | {"spare": spare}
    assert "spare" in checks.without_gradient(model, parameters, random_batch(1))


# ---- odd molecules ---------------------------------------------------------------------------


def _line(count: int) -> np.ndarray:
    return np.outer(np.arange(count) * 1.2, [0.6, 0.64, 0.48])


ANGLES = np.arange(6) * np.pi / 3
ODD = {
    "single atom": ([6], np.zeros((1, 3))),
    "two far atoms": ([6, 8], np.array([[0, 0, 0], [30.0, 0, 0]])),
    "coincident atoms": ([6, 8, 1], np.array([[0, 0, 0], [0, 0, 0], [1.0, 0, 0]])),
    "linear": ([6, 8, 8, 7], _line(4)),
    "diatomic": ([1, 1], _line(2)),
    "planar": (
        [6, 6, 6, 1, 8],
        np.array([[0, 0, 0], [1.4, 0, 0], [0, 1.4, 0], [2, 1, 0], [-1, -1, 0]]),
    ),
    "symmetric ring": ([6] * 6, 1.4 * np.stack([np.cos(ANGLES), np.sin(ANGLES), 0 * ANGLES], 1)),
    "atom at the centre of mass": ([8, 6, 8], np.array([[-1.2, 0, 0], [0, 0, 0], [1.2, 0, 0]])),
}  # fmt: skip


@pytest.mark.parametrize("dtype", DTYPES, ids=["f32", "f64"])
@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("head", HEADS)
def test_odd_molecules_are_finite_to_second_order(head: str, norm: str, dtype: torch.dtype) -> None:
    model = subject(head, vector_norm=norm, dtype=dtype)
    for z, pos in ODD.values():
        checks.finite_to_second_order(model, batch([(np.array(z), pos)], dtype))
    # and beside ordinary molecules, whose gradients they must not spoil
    together = [(np.array(z), pos) for z, pos in ODD.values()]
    checks.finite_to_second_order(model, batch([*together, random_molecule(9, 1)], dtype))


@pytest.mark.parametrize("head", HEADS)
def test_odd_molecules_keep_parameter_gradients_finite(head: str) -> None:
    model = subject(head, dtype=torch.float32)
    graph = batch([(np.array(z), pos) for z, pos in ODD.values()], torch.float32)
    pos = graph.pos.clone().requires_grad_(True)
    (first,) = torch.autograd.grad(
        as_scalar(model(graph._replace(pos=pos))), pos, create_graph=True
    )
    gradients = torch.autograd.grad(
        first.square().sum(), list(model.parameters()), allow_unused=True
    )
    assert all(g is None or torch.isfinite(g).all() for g in gradients)


def test_finiteness_check_rejects_plain_norms(monkeypatch: pytest.MonkeyPatch) -> None:
    """Self loops have length zero: the derivative of a plain norm there is not a number."""
    model = subject("scalar")
    monkeypatch.setattr(encoder_module, "radius_edges", broken.unclamped_edges)
    with pytest.raises(AssertionError, match="not finite"):
        checks.finite_to_second_order(model, random_batch(1))
