"""Sizes of the models, whitening, heads, labels and the neighbour graph."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor

from georecon.experiments.settings import EncoderSettings
from georecon.graph import MIN_DISTANCE, MolGraph, make_graph, pool_mean, pool_sum, radius_edges
from georecon.kernels.filters import Places, interpolate
from georecon.kernels.reference import polar_factor
from georecon.models import radial
from georecon.models.encoder import EquivariantTransformer
from georecon.models.heads import PROPERTY_HEADS, VectorHead, masses, safe_norm
from georecon.models.norms import WhitenedVectorNorm
from georecon.models.potential import PropertyModel
from georecon.models.radial import ExpNormalBasis, cosine_cutoff
from tests.models import broken
from tests.models.subjects import Model, sizes, subject
from tests.toy_graphs import batch, random_batch, random_molecule, random_rotation


def count(module: torch.nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def test_parameter_counts_are_those_of_the_reference() -> None:
    paper = EquivariantTransformer(EncoderSettings())
    assert count(paper) == 6_520_064
    for head in (*PROPERTY_HEADS.values(), VectorHead):
        assert count(head(256)) == 345_090
    assert count(paper) + count(PROPERTY_HEADS["scalar"](256)) == 6_865_154
    md17 = EncoderSettings(channels=128, layers=6, rbf=32, vector_norm="none")
    assert count(Model("scalar", md17)) == 1_339_906


def test_defaults_are_the_papers_sizes() -> None:
    default = EncoderSettings()
    assert (default.channels, default.layers, default.heads, default.rbf) == (256, 8, 8, 64)
    assert (default.cutoff, default.max_neighbors, default.vector_norm) == (5.0, 32, "whitened")


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"channels": 15, "heads": 2}, "multiple of heads"),
        ({"vector_norm": "svd"}, "whitened, none"),
    ],
)
def test_impossible_sizes_are_refused(changes: dict[str, object], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        sizes(**changes)


# ---- whitening -------------------------------------------------------------------------------


def conditioned(count: int, condition: float) -> Tensor:
    """Random (count, 3, 3), singular values 1, something between, 1 / condition; det > 0."""
    generator = torch.Generator().manual_seed(0)
    noise = torch.randn(2, count, 3, 3, generator=generator, dtype=torch.float64)
    left, right = torch.linalg.qr(noise).Q
    middle = torch.rand(count, generator=generator, dtype=torch.float64)
    ones = torch.ones(count, dtype=torch.float64)
    values = torch.stack([ones, condition**-middle, ones / condition], dim=1)
    made = left @ torch.diag_embed(values) @ right
    return made * torch.linalg.det(left @ right)[:, None, None]


def features(count: int, condition: float) -> Tensor:
    """Vector features (count, 3, 64) centred over channels, with those singular values."""
    noise = torch.randn(64, 3, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    return 8.0 * conditioned(count, condition) @ torch.linalg.qr(noise - noise.mean(0)).Q.T


@pytest.mark.parametrize("condition", [1.0, 1.0 + 1e-9, 10.0, 316.0, 1e5])
@pytest.mark.parametrize("scale", [1e-8, 1.0, 1e8])
def test_polar_factor_agrees_with_the_svd(condition: float, scale: float) -> None:
    lower = torch.linalg.qr(conditioned(200, condition).mT).R.mT
    matrix = lower * lower.diagonal(dim1=1, dim2=2).sign()[:, None]
    found = polar_factor(scale * matrix)
    left, _, right = torch.linalg.svd(matrix)
    identity = torch.eye(3, dtype=torch.float64)
    assert (found - left @ right).abs().max() < 5e-15 * condition + 1e-14
    assert (found @ found.mT - identity).abs().max() < 5e-15 * condition + 1e-14


@pytest.mark.parametrize(
    "values", [(1, 1, 1), (1, 1, 3e-3), (1, 3e-3, 3e-3), (2, 1, 0.5), (3e-3, 3e-3, 3e-3)]
)
def test_polar_factor_has_the_right_derivative_where_singular_values_coincide(
    values: tuple[float, float, float],
) -> None:
    """``dW = U [(Uᵀ dM V − Vᵀ dMᵀ U)_ab / (s_a + s_b)] Vᵀ``: no difference of singular values."""
    generator = torch.Generator().manual_seed(1)
    lower, direction = torch.randn(2, 3, 3, generator=generator, dtype=torch.float64).tril()
    left, _, right = torch.linalg.svd(lower)
    diagonal = torch.tensor(values, dtype=torch.float64)
    # the last rotation makes it lower triangular again
    m = left @ torch.diag(diagonal) @ right
    upper = torch.linalg.qr(m.T)
    signs = upper.R.diagonal().sign()
    m, right = (upper.R.T * signs)[None], right @ (upper.Q * signs)
    m.requires_grad_(True)
    jacobian = torch.autograd.functional.jacobian(polar_factor, m)[0, :, :, 0]
    found = torch.einsum("abij,ij->ab", jacobian, direction)
    turned = left.T @ direction @ right.T
    expected = left @ ((turned - turned.T) / (diagonal[:, None] + diagonal)) @ right
    assert (found - expected).abs().max() < 1e-10 * expected.abs().max()
    (first,) = torch.autograd.grad(polar_factor(m)[0, 0, 1], m, create_graph=True)
    (second,) = torch.autograd.grad(first.sum(), m)
    assert torch.isfinite(second).all()


def by_svd(vec: Tensor, eps: float = 1e-5) -> Tensor:
    """Whitening as the lineage does it, but for ``eps · 1``: singular vectors of the features."""
    centred = vec - vec.mean(-1, keepdim=True)
    left, values, _ = torch.linalg.svd(centred, full_matrices=False)
    scale = (values.square() / vec.shape[-1] + eps).rsqrt()
    return left @ torch.diag_embed(scale) @ left.mT @ centred


def by_covariance(vec: Tensor, eps: float = 1e-5) -> Tensor:
    """The broken twin: eigenvectors of the covariance, whose rounding grows with its condition."""
    centred = vec - vec.mean(-1, keepdim=True)
    covariance = centred @ centred.mT / vec.shape[-1] + eps * torch.eye(3, dtype=vec.dtype)
    values, vectors = torch.linalg.eigh(covariance)
    return vectors @ torch.diag_embed(values.rsqrt()) @ vectors.mT @ centred


def whitening_turns(norm: Callable[[Tensor], Tensor], vec: Tensor) -> None:
    """Whitened vectors turn with the vectors, to a hundred roundings times the condition of L."""
    rotation = random_rotation(7)
    error = (norm(rotation @ vec) - rotation @ norm(vec)).abs().max() / norm(vec).abs().max()
    assert error < 1e-12, f"whitening does not turn with its input: {error:.1e}"


NORM = WhitenedVectorNorm(64).double().requires_grad_(False)


@pytest.mark.parametrize("condition", [1.0, 10.0, 1e3, 1e6, 1e12])
def test_whitening_agrees_with_the_svd_form(condition: float) -> None:
    vec = features(100, condition)
    expected = by_svd(vec)
    assert (NORM(vec) - expected).abs().max() < 1e-12 * expected.abs().max()


@pytest.mark.parametrize("condition", [1.0, 1e3, 1e6, 1e12])
def test_whitening_is_equivariant_to_rounding_whatever_the_condition(condition: float) -> None:
    vec = features(100, condition)
    whitening_turns(NORM, vec)
    if condition > 100.0:
        with pytest.raises(AssertionError, match="turn"):
            whitening_turns(by_covariance, vec)


@pytest.mark.parametrize("form", [by_svd, by_covariance])
def test_derivative_of_the_svd_form_is_not_defined_for_equal_singular_values(
    form: Callable[[Tensor], Tensor],
) -> None:
    """Why the norm has no eigenvectors: planar vectors of equal size, and none at all."""
    equal = torch.zeros(2, 3, 4, dtype=torch.float64)
    equal[0, :2] = torch.tensor([[1.0, -1, 0, 0], [0, 0, 1, -1]])
    for norm, finite in ((form, False), (WhitenedVectorNorm(4).double(), True)):
        vec = equal.clone().requires_grad_(True)
        weights = torch.linspace(-1, 1, vec.numel(), dtype=torch.float64).view_as(vec)
        (first,) = torch.autograd.grad((norm(vec) * weights).sum(), vec, create_graph=True)
        assert bool(torch.isfinite(first).all()) == finite
        if finite:
            (second,) = torch.autograd.grad((first * weights).sum(), vec)
            assert torch.isfinite(second).all()


@pytest.mark.parametrize("shape", ["full", "planar", "linear", "none"])
def test_gradcheck_and_gradgradcheck_of_whitening(shape: str) -> None:
    rank = {"full": 3, "planar": 2, "linear": 1, "none": 0}[shape]
    generator = torch.Generator().manual_seed(rank)
    vec = torch.randn(2, 3, 5, generator=generator, dtype=torch.float64)
    vec[:, rank:] = 0.0
    norm = WhitenedVectorNorm(5, eps=1e-2).double()  # eps: room for finite differences
    vec = (random_rotation(2) @ vec).requires_grad_(True)
    assert torch.autograd.gradcheck(norm, vec)
    assert torch.autograd.gradgradcheck(norm, vec)


@pytest.mark.parametrize("size", [1e-20, 1e-8, 1e8, 1e15])
def test_whitening_is_finite_for_tiny_and_huge_vectors(size: float) -> None:
    for condition in (1.0, 1e9):
        vec = (size * features(10, condition)).requires_grad_(True)
        out = NORM(vec)
        (gradient,) = torch.autograd.grad(out.square().sum(), vec)
        assert torch.isfinite(out).all()
        assert torch.isfinite(gradient).all()


def test_whitened_vectors_have_unit_covariance() -> None:
    vec = torch.randn(7, 3, 64, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    mixed = torch.tensor([[2, 0.5, 0], [0, 1, 0.2], [0, 0, 0.3]], dtype=torch.float64) @ vec
    out = NORM(mixed)
    covariance = out @ out.mT / 64
    assert (covariance - torch.eye(3, dtype=torch.float64)).abs().max() < 2e-3  # eps = 1e-5
    assert out.mean(-1).abs().max() < 1e-12


# ---- heads and labels ------------------------------------------------------------------------


@pytest.mark.parametrize("head", ["dipole", "spatial_extent"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_centred_heads_do_not_depend_on_the_origin(head: str, dtype: torch.dtype) -> None:
    model = subject(head, dtype=dtype)
    graph = random_batch(2, dtype)
    with torch.no_grad():
        expected = model(graph).invariant
        for distance in (1.0, 100.0, 1000.0):
            moved = graph._replace(pos=graph.pos + distance)
            error = (model(moved).invariant - expected).abs().max() / expected.abs().max()
            rounding = torch.finfo(dtype).eps * (distance + 10.0)
            assert error < 100 * rounding, (distance, error)


def test_spatial_extent_and_dipole_follow_their_formulas() -> None:
    graph = random_batch(4)
    mass = masses().double()[graph.z]
    for name in ("dipole", "spatial_extent"):
        model = subject(name)
        x, vec = model.encoder(graph)
        charge, vector = model.head.output(x, vec)
        for k in range(graph.num_graphs):
            mine = graph.batch == k
            r = graph.pos[mine]
            r = r - (mass[mine, None] * r).sum(0) / mass[mine].sum()
            if name == "dipole":
                expected = (charge[mine, None] * r + vector[mine]).sum(0).norm()
            else:
                expected = (charge[mine] * r.square().sum(1)).sum()
            found = model(graph).invariant[k].item()
            assert found == pytest.approx(expected.item(), rel=1e-12)


class Given(torch.nn.Module):
    """A head's output with charges that are given, and no vectors."""

    def __init__(self, charges: list[float]) -> None:
        super().__init__()
        self.charges = torch.tensor(charges, dtype=torch.float64)

    def forward(self, x: Tensor, vec: Tensor) -> tuple[Tensor, Tensor]:
        return self.charges, torch.zeros(len(self.charges), 3, dtype=torch.float64)


@pytest.mark.parametrize("shift", [0.0, 50.0])
def test_heads_of_point_charges(shift: float) -> None:
    """Carbon monoxide, bond 1.128 Å: charges ±0.1 and, for the origin's sake, +1 on both."""
    bond, m_c, m_o = 1.128, 12.011, 15.999
    graph = batch([(np.array([6, 8]), np.array([[0, 0, 0], [0, 0, bond]]) + shift)])
    of_c, of_o = -bond * m_o / (m_c + m_o), bond * m_c / (m_c + m_o)  # from the centre of mass
    for name, charges, expected in (
        ("dipole", [0.1, -0.1], 0.1 * bond),
        ("dipole", [1.0, 1.0], abs(of_c + of_o)),
        ("spatial_extent", [2.0, 3.0], 2.0 * of_c**2 + 3.0 * of_o**2),
    ):
        head = PROPERTY_HEADS[name](16).double()
        head.output = Given(charges)
        found = head(torch.zeros(2, 16).double(), torch.zeros(2, 3, 16).double(), graph)
        assert found.item() == pytest.approx(expected, rel=1e-6), name


def test_masses_are_those_of_the_elements() -> None:
    table = masses()
    assert len(table) == 101
    for z, mass in ((1, 1.008), (6, 12.011), (8, 15.999), (17, 35.45), (53, 126.90), (92, 238.03)):
        assert float(table[z]) == pytest.approx(mass)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_safe_norm_is_the_norm_and_flat_at_zero(dtype: torch.dtype) -> None:
    vec = torch.randn(5, 3, 4, generator=torch.Generator().manual_seed(0), dtype=dtype)
    assert torch.allclose(safe_norm(vec, 1), vec.norm(dim=1))
    zero = torch.zeros(1, 3, 1, dtype=dtype, requires_grad=True)
    (first,) = torch.autograd.grad(safe_norm(zero, 1).sum(), zero, create_graph=True)
    assert torch.count_nonzero(first) == 0
    (second,) = torch.autograd.grad(first.sum(), zero, allow_unused=True)
    assert second is None or torch.isfinite(second).all()


def qm9_like() -> tuple[PropertyModel, MolGraph]:
    atomref = torch.zeros(20, dtype=torch.float64)
    atomref[[1, 6, 7, 8, 9]] = torch.tensor(
        [-13.61312172, -1029.86312267, -1485.30251237, -2042.61123593, -2713.48485589],
        dtype=torch.float64,
    )
    torch.manual_seed(0)
    model = PropertyModel(sizes(), "scalar", scale=10.26, shift=-76.15, atomref=atomref)
    return model, random_batch(3, torch.float32)


def test_labels_keep_their_digits_through_a_float32_model() -> None:
    """Energies near −1e4 eV: there and back loses less than 1e-5 eV; float32 would lose 1e-3."""
    model, graph = qm9_like()
    references = (
        model.atomref[graph.z].new_zeros(3).index_add(0, graph.batch, model.atomref[graph.z])
    )
    label = references + torch.tensor([-80.123456789, -70.0, -75.5], dtype=torch.float64)
    output = model.normalise(label, graph)
    assert output.dtype == torch.float32
    assert output.abs().max() < 1
    back = model.denormalise(output, graph)
    assert back.dtype == torch.float64
    assert (back - label).abs().max() < 1e-5
    assert (label.float().double() - label).abs().max() > 1e-5


def test_label_buffers_stay_float64_in_state_and_are_not_trained() -> None:
    model, _ = qm9_like()
    state = model.state_dict()
    assert all(state[name].dtype == torch.float64 for name in ("scale", "shift", "atomref"))
    assert not {"scale", "shift", "atomref"} & {name for name, _ in model.named_parameters()}
    assert all(p.dtype == torch.float32 for p in model.parameters())


def test_denormalised_prediction_is_affine_in_the_output() -> None:
    model, graph = qm9_like()
    zero = model.denormalise(torch.zeros(3), graph)
    one = model.denormalise(torch.ones(3), graph)
    assert torch.allclose(one - zero, torch.full((3,), 10.26, dtype=torch.float64), rtol=1e-12)


def test_unknown_head_is_refused() -> None:
    with pytest.raises(ValueError, match="scalar, dipole, spatial_extent"):
        PropertyModel(sizes(), "energy", scale=1.0, shift=0.0, atomref=torch.zeros(20))


# ---- graph -----------------------------------------------------------------------------------


def brute_force(graph: MolGraph, cutoff: float) -> set[tuple[int, int]]:
    found = set()
    for i in range(len(graph.z)):
        for j in range(len(graph.z)):
            near = (graph.pos[i] - graph.pos[j]).norm() < cutoff
            if near and graph.batch[i] == graph.batch[j]:
                found.add((j, i))
    return found


def pairs(edges: object) -> set[tuple[int, int]]:
    return set(zip(edges.source.tolist(), edges.target.tolist(), strict=True))  # type: ignore[attr-defined]


def test_edges_are_all_pairs_within_the_cutoff() -> None:
    graph = random_batch(1, sizes=(1, 12, 9, 2))
    for cutoff in (1.5, 3.0, 5.0):
        edges = radius_edges(graph, cutoff, 100)
        assert pairs(edges) == brute_force(graph, cutoff)
        key = edges.target * len(graph.z) + edges.source
        assert (key[1:] > key[:-1]).all(), "sorted by target, then source, each once"


def test_unit_vectors_point_from_target_to_source() -> None:
    graph = batch([(np.array([1, 1]), np.array([[0, 0, 0], [2.0, 0, 0]]))])
    edges = radius_edges(graph, 5.0, 32)
    assert pairs(edges) == {(0, 0), (1, 0), (0, 1), (1, 1)}
    for source, target, pair in zip(edges.source, edges.target, edges.pair, strict=True):
        vector = (graph.pos[source] - graph.pos[target]).tolist()
        assert float(edges.length[pair]) == (0.0 if source == target else 2.0)
        sign = 1.0 if source > target else -1.0
        assert (sign * edges.unit[pair]).tolist() == [x / 2.0 for x in vector]


def test_both_edges_of_a_pair_share_its_length() -> None:
    """Also where the neighbour cap keeps only one of them; self loops share a molecule's first."""
    graph = batch([random_molecule(40, 1), random_molecule(1, 2), random_molecule(9, 3)])
    for cap in (10, 32):
        edges = radius_edges(graph, 5.0, cap)
        distance = (graph.pos[edges.source] - graph.pos[edges.target]).norm(dim=-1)
        assert torch.allclose(edges.length[edges.pair], distance, atol=1e-12)
        ends = {frozenset(edge) for edge in pairs(edges) if edge[0] != edge[1]}
        assert len(edges.length) == len(ends) + graph.num_graphs
        molecule = torch.bucketize(torch.arange(len(edges.length)), edges.pairs, right=True) - 1
        assert torch.equal(molecule[edges.pair], graph.batch[edges.target])
        loops = edges.source == edges.target
        assert torch.equal(edges.pair[loops], edges.pairs[:-1][graph.batch[edges.source[loops]]])
        atoms = torch.bucketize(torch.arange(len(edges.target)), edges.rows, right=True) - 1
        assert torch.equal(atoms, edges.target)


def test_pairs_of_a_molecule_are_sorted_by_length_and_know_their_edges() -> None:
    graph = batch([random_molecule(40, 1), random_molecule(1, 2), random_molecule(9, 3)])
    edges = radius_edges(graph, 5.0, 10)
    for first, last in itertools.pairwise(edges.pairs.tolist()):
        assert edges.length[first] == 0.0
        assert (edges.length[first:last].diff() >= 0.0).all()
    loops = set(edges.pairs[:-1].tolist())
    found = {(i, i) for i in range(len(graph.z))}
    for p, (i, j, ways) in enumerate(zip(edges.first, edges.second, edges.ways, strict=True)):
        if p not in loops:
            vector = graph.pos[j] - graph.pos[i]
            assert torch.allclose(edges.unit[p] * edges.length[p], vector, atol=1e-12)
            found |= {(int(j), int(i))} if ways & 1 else set()
            found |= {(int(i), int(j))} if ways & 2 else set()
    assert found == pairs(edges)
    assert set(edges.ways.tolist()) == {1, 2, 3}, "some pairs have one edge only"


def test_self_loops_spoil_no_derivative() -> None:
    """A self loop's unit vector is 0 / MIN_DISTANCE; derivatives of 1e6 cancel only on paper."""
    graph = random_batch(1, sizes=(9,))
    gradients = []
    for dtype in (torch.float32, torch.float64):
        pos = graph.pos.to(dtype).requires_grad_(True)
        edges = radius_edges(graph._replace(pos=pos), 5.0, 32)
        weights = torch.linspace(-1, 1, edges.unit.numel(), dtype=dtype).view_as(edges.unit)
        gradients += torch.autograd.grad((edges.unit * weights).sum() + edges.length.sum(), pos)
    single, double = gradients
    assert (single - double).abs().max() < 1e-5 * double.abs().max()


def test_coincident_atoms_are_given_the_shortest_distance() -> None:
    graph = batch([(np.array([6, 8]), np.zeros((2, 3)))])
    edges = radius_edges(graph, 5.0, 32)
    real = edges.source != edges.target
    assert edges.length[edges.pair[real]].tolist() == pytest.approx([MIN_DISTANCE] * 2)


def nearest_only(edges: object, graph: MolGraph, cutoff: float, cap: int) -> None:
    distance = torch.cdist(graph.pos, graph.pos)
    expected = set()
    for i in range(len(graph.z)):
        order = torch.argsort(distance[i])
        expected |= {(int(j), i) for j in order[:cap] if distance[i, j] < cutoff}
    assert pairs(edges) == expected


def test_neighbour_cap_keeps_the_nearest_and_itself() -> None:
    graph = batch([random_molecule(40, 1)])
    edges = radius_edges(graph, 5.0, 10)
    nearest_only(edges, graph, 5.0, 10)
    assert {(i, i) for i in range(40)} <= pairs(edges)
    with pytest.raises(AssertionError):
        nearest_only(broken.first_neighbours(graph, 5.0, 10), graph, 5.0, 10)


def test_neighbour_cap_does_not_depend_on_the_order_of_atoms() -> None:
    z, pos = random_molecule(40, 2)
    order = np.random.default_rng(0).permutation(40)
    plain = pairs(radius_edges(batch([(z, pos)]), 5.0, 10))
    turned = pairs(radius_edges(batch([(z[order], pos[order])]), 5.0, 10))
    assert {(order[j], order[i]) for j, i in turned} == plain


def test_neighbour_cap_counts_a_small_molecule_alone_in_a_batch_of_large_ones() -> None:
    graph = batch([random_molecule(40, 1), random_molecule(6, 1)])
    edges = radius_edges(graph, 5.0, 10)
    alone = radius_edges(batch([random_molecule(6, 1)]), 5.0, 10)
    assert {(j - 40, i - 40) for j, i in pairs(edges) if i >= 40} == pairs(alone)


def test_make_graph_indexes_atoms() -> None:
    graph = make_graph(
        torch.tensor([8, 1, 1, 6]), torch.zeros(4, 3), torch.tensor([3, 1]), torch.tensor([7, 9])
    )
    assert graph.num_graphs == 2
    assert graph.batch.tolist() == [0, 0, 0, 1]
    assert graph.ptr.tolist() == [0, 3, 4]
    assert graph.atom_index.tolist() == [0, 1, 2, 0]
    assert graph.to("cpu", torch.float64).pos.dtype == torch.float64
    values = torch.tensor([[1.0], [2.0], [6.0], [5.0]])
    assert pool_sum(values, graph).tolist() == [[9.0], [5.0]]
    assert pool_mean(values, graph).tolist() == [[3.0], [5.0]]


# ---- radial functions ------------------------------------------------------------------------


def test_cosine_cutoff_is_one_at_zero_and_zero_from_the_cutoff_on() -> None:
    length = torch.tensor([0.0, 2.5, 5.0, 5.1, 100.0], dtype=torch.float64)
    assert torch.allclose(
        cosine_cutoff(length, 5.0), torch.tensor([1.0, 0.5, 0, 0, 0], dtype=torch.float64)
    )


def test_radial_basis_follows_its_formula() -> None:
    basis = ExpNormalBasis(5.0, 8).double()
    length = torch.linspace(0.1, 6.0, 50, dtype=torch.float64)
    start = np.exp(-5.0)
    means = np.linspace(start, 1.0, 8)
    beta = (2.0 / 8 * (1.0 - start)) ** -2
    d = length.numpy()[:, None]
    inside = d < 5.0
    expected = (
        0.5 * (np.cos(np.pi * d / 5.0) + 1) * inside * np.exp(-beta * (np.exp(-d) - means) ** 2)
    )
    assert np.abs(basis(length).numpy() - expected).max() < 1e-6
    assert basis(length).shape == (50, 8)


def filters_on_the_grid(size: int) -> tuple[float, float]:
    """Largest errors of interpolated filters and of their slope, relative to the largest ones."""
    basis = ExpNormalBasis(5.0, size).double()
    generator = torch.Generator().manual_seed(0)
    weight = 0.3 * torch.randn(64, size, generator=generator, dtype=torch.float64)

    def slope(filters: Callable[[Tensor], Tensor]) -> tuple[Tensor, Tensor]:
        length = torch.linspace(0.7, 4.9999, 3000, dtype=torch.float64).requires_grad_(True)
        values = filters(length)
        (gradient,) = torch.autograd.grad((values * weight[:, 0]).sum(), length)
        return values.detach(), gradient

    def on_the_grid(length: Tensor) -> Tensor:
        grid = basis.grid(length)
        return interpolate(torch.nn.functional.silu(grid.rbf @ weight.T), grid.places)

    found = slope(on_the_grid)
    expected = slope(lambda length: torch.nn.functional.silu(basis(length) @ weight.T))
    value, gradient = (
        float((a - b).abs().max() / b.abs().max()) for a, b in zip(found, expected, strict=True)
    )
    return value, gradient


@pytest.mark.parametrize("size", [8, 16, 32, 64])
def test_filters_on_the_grid_are_exact_to_float32(
    size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    value, gradient = filters_on_the_grid(size)
    assert value < 5e-7
    assert gradient < 5e-5
    radial._nodes.cache_clear()
    monkeypatch.setattr(radial, "NODES_PER_FUNCTION", 6)
    monkeypatch.setattr(radial, "NODES", 6 * size)
    assert filters_on_the_grid(size)[0] > 5e-7, "a coarser twin is told apart"
    radial._nodes.cache_clear()


def test_a_self_loop_lies_on_a_node_of_the_grid() -> None:
    """Also an atom at the cutoff: filters there are those of the basis."""
    basis = ExpNormalBasis(5.0, 16)
    length = torch.tensor([0.0, 5.0])
    grid = basis.grid(length)
    assert sum(grid.places).tolist() == pytest.approx([len(grid.rbf) - 1, 0], abs=1e-4)
    assert torch.allclose(interpolate(grid.rbf.float(), grid.places), basis(length), atol=1e-6)
    assert torch.allclose(interpolate(grid.cutoff.float()[:, None], grid.places)[:, 0],
                          cosine_cutoff(length, 5.0), atol=1e-6)  # fmt: skip


def test_nodes_that_no_pair_reads_are_left_out() -> None:
    """What is read from those that are left is the same in every bit."""
    basis = ExpNormalBasis(5.0, 32)
    generator = torch.Generator().manual_seed(0)
    bonds = 1.0 + torch.rand(40, generator=generator)
    length = torch.cat([torch.zeros(1), bonds, 4.0 + torch.rand(5, generator=generator)])
    everywhere = torch.linspace(0.0, 5.0, 5000)
    grid, whole = basis.grid(length), basis.grid(torch.cat([everywhere, length]))
    places = Places(*(values[5000:] for values in whole.places))
    assert len(grid.rbf) < 0.7 * len(whole.rbf)
    assert len(whole.rbf) == 384
    found = interpolate(grid.rbf, grid.places)
    assert torch.equal(found, interpolate(whole.rbf, places))
    assert torch.equal(grid.places.offset, places.offset)
    shifted = grid.places._replace(row=(grid.places.row - 1).clamp(min=0))
    assert not torch.equal(interpolate(grid.rbf, shifted), found), "a twin that miscounts"
