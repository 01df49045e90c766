"""The Triton kernels against the equations: on a GPU if there is one, else in the interpreter."""

from __future__ import annotations

import functools
import os
import subprocess
import sys
import weakref
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from georecon.experiments.settings import EncoderSettings
from georecon.graph import radius_edges
from georecon.kernels import native
from georecon.kernels.reference import Neighbors, reference_attention
from georecon.models.encoder import EquivariantTransformer
from tests.kernels.attention_cases import case, compare, copied, derivatives
from tests.kernels.triton_kernels import (
    DEVICE,
    INTERPRET,
    attention_triton,
    held_edges,
    kernel_code,
    tl,
    triton,
    triton_numbers,
)
from tests.toy_graphs import random_batch

pytestmark = pytest.mark.usefixtures("interpreter")
interpreted = pytest.mark.skipif(DEVICE != "cpu", reason="compiled kernels cannot be exchanged")
SMALL = {"sizes": (6, 1, 2), "cap": 4}  # some edges have no reverse; molecules of one, two atoms


def small(**changes: Any) -> list[Any]:
    options = {"first": False, "vector_cutoff": False, **SMALL, **changes}
    return copied(case(torch.float32, **options), DEVICE)


def expected(arguments: list[Any], *, second: bool = True) -> dict[str, Tensor]:
    """The equations in float64: in float32 they are no closer to them than the kernels are."""
    found = derivatives(
        reference_attention, copied(arguments, DEVICE, torch.float64), second=second
    )
    return {name: x.to(torch.float32) for name, x in found.items()}


def kernels(arguments: list[Any], *, second: bool = True) -> dict[str, Tensor]:
    return derivatives(attention_triton.edge_attention, arguments, second=second)


@pytest.mark.parametrize(
    ("first", "vector_cutoff", "channels", "heads", "radial"),
    [
        (True, False, 16, 2, 13),
        (False, False, 24, 2, 16),
        (False, True, 32, 2, 33),
        (True, True, 8, 1, 5),
    ],
)
def test_kernels_equal_the_equations(
    first: bool, vector_cutoff: bool, channels: int, heads: int, radial: int
) -> None:
    """Outputs and two derivatives; blocks of channels and radial functions full and padded."""
    arguments = small(
        first=first, vector_cutoff=vector_cutoff, channels=channels, heads=heads, radial=radial
    )
    compare(kernels(arguments), expected(arguments), 1e-5)


def test_an_atom_of_more_neighbours_than_a_tile() -> None:
    arguments = small(sizes=(9,), cap=32, channels=8, heads=1)
    compare(kernels(arguments, second=False), expected(arguments, second=False), 1e-5)


def test_weights_alone_need_no_gradient_of_the_geometry() -> None:
    arguments = small(channels=8, heads=1)
    for x in (arguments[2].rbf, arguments[3], arguments[4]):
        x.requires_grad_(False)
    inputs = [arguments[0], arguments[1], arguments[2].weight, arguments[2].bias]
    found, right = (
        torch.autograd.grad(sum(x.sin().sum() for x in function(*arguments)), inputs)
        for function in (attention_triton.edge_attention, reference_attention)
    )
    compare(dict(enumerate(found)), dict(enumerate(right)), 1e-5)


def test_the_same_input_gives_the_same_bits() -> None:
    arguments = small(channels=8, heads=1)
    one, two = (kernels(arguments, second=False) for _ in range(2))
    assert all(torch.equal(one[name], two[name]) for name in one)


def test_a_number_that_is_not_finite_stays_so() -> None:
    arguments = small(channels=8, heads=1)
    arguments[0] = arguments[0].detach().clone()
    arguments[0][-1, -1] = torch.nan
    message, vector = attention_triton.edge_attention(*arguments)
    assert bool(message.isnan().any() | vector.isnan().any())


# ---- broken twins -------------------------------------------------------------------------------

# what twins call, which Triton finds in their module only
right_arrow, right_slope, right_mul = (
    triton_numbers.load_arrow,
    triton_numbers.silu_slope,
    triton_numbers.mul,
)


def every_edge_both_ways(patch: pytest.MonkeyPatch) -> None:
    """Capped neighbours taken as if both edges of a pair were always there."""
    right = attention_triton.make_links

    def wrong(neighbors: Neighbors, pairs: int) -> Any:
        links = right(neighbors, pairs)
        links.ends[2] = torch.where(links.ends[2] > 0, 3, 0)
        return links

    patch.setattr(attention_triton, "make_links", wrong)


def half_of_the_links(patch: pytest.MonkeyPatch) -> None:
    kernel = kernel_code.backward_pairs

    class Half:
        def __getitem__(self, grid: tuple[int]) -> Any:
            return kernel[(grid[0] // 2,)]

    patch.setattr(kernel_code, "backward_pairs", Half())


def self_loops_left_out(patch: pytest.MonkeyPatch) -> None:
    """Gradient of the pair that all self loops of a molecule share."""

    def wrong(values: Tensor, neighbors: Neighbors) -> Tensor:
        return values[: values.shape[0] - (neighbors.rows.shape[0] - 1)]

    patch.setattr(attention_triton, "of_pairs", wrong)


def arrows_of_one_direction(patch: pytest.MonkeyPatch) -> None:
    @triton.jit
    def load_arrow(unit, unit_t, pair, live, length, length_t, T):  # type: ignore[no-untyped-def]
        return right_arrow(unit, unit_t, pair, live, tl.abs(length), length_t, T)

    patch.setattr(kernel_code, "load_arrow", load_arrow)


def heads_not_apart(patch: pytest.MonkeyPatch) -> None:
    @triton.jit
    def sums_of_heads(x, BH, BD):  # type: ignore[no-untyped-def]
        return tl.zeros((x.shape[0], BH), tl.float32) + tl.sum(x, axis=1)[:, None]

    patch.setattr(triton_numbers, "sums_of_heads", sums_of_heads)


def slope_of_another_function(patch: pytest.MonkeyPatch) -> None:
    @triton.jit
    def silu_slope(x, x_t, T):  # type: ignore[no-untyped-def]
        return tl.sigmoid(x), x_t

    patch.setattr(triton_numbers, "silu_slope", silu_slope)


def no_curvature(patch: pytest.MonkeyPatch) -> None:
    """The slope of the attention weight taken as constant."""

    @triton.jit
    def silu_slope(x, x_t, T):  # type: ignore[no-untyped-def]
        return right_slope(x, x_t * 0.0, T)

    patch.setattr(triton_numbers, "silu_slope", silu_slope)


def tangent_of_one_factor(patch: pytest.MonkeyPatch) -> None:
    @triton.jit
    def mul(a, a_t, b, b_t, T):  # type: ignore[no-untyped-def]
        return right_mul(a, a_t, b, b_t * 0.0 if T else b_t, T)

    patch.setattr(kernel_code, "mul", mul)


def filters_that_stay(patch: pytest.MonkeyPatch) -> None:
    right = attention_triton.moved_part
    patch.setattr(attention_triton, "moved_part", lambda *a: right(*a).zero_())


def weights_that_stay(patch: pytest.MonkeyPatch) -> None:
    """In the gradients that products make of that of x."""
    patch.setattr(attention_triton, "product_t", lambda a, a_t, b, b_t: a_t @ b)


FIRST = {
    every_edge_both_ways: "message",
    heads_not_apart: "message",
    arrows_of_one_direction: "vector",
    slope_of_another_function: "gradient of qkv",
    half_of_the_links: "gradient of rbf",
    self_loops_left_out: "gradient of rbf",
}
SECOND = {
    no_curvature: "second derivative of qkv",
    tangent_of_one_factor: "second derivative of qkv",
    filters_that_stay: "second derivative of qkv",
    weights_that_stay: "second derivative of rbf",
}


@functools.cache
def sound(*, second: bool) -> tuple[list[Any], dict[str, Tensor]]:
    """Arguments, and what the kernels find rightly as they are."""
    arguments = small(sizes=(5,), cap=4, channels=8, heads=2, radial=5)
    right = expected(arguments, second=second)
    compare(kernels(arguments, second=second), right, 1e-5)
    return arguments, right


@interpreted
@pytest.mark.parametrize("twin", [*FIRST, *SECOND], ids=lambda twin: twin.__name__)
def test_comparison_rejects_a_broken_twin(twin: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first array that is off is the one that the fault reaches first."""
    second = twin in SECOND
    arguments, right = sound(second=second)
    twin(monkeypatch)
    wrong = pytest.raises(AssertionError, match=f"^{(FIRST | SECOND)[twin]}: relative error")
    with np.errstate(all="ignore"), wrong:  # a twin may leave places as they were, with any bits
        compare(kernels(arguments, second=second), right, 1e-5)


# ---- what joins atoms, and what is stored --------------------------------------------------------


def test_links_hold_each_edge_once() -> None:
    graph = random_batch(4, sizes=(12, 1, 5))
    edges = radius_edges(graph, 3.0, 5)
    neighbors = Neighbors.of(edges, graph.ptr)
    wanted = set(zip(*(x.tolist() for x in neighbors[:3]), strict=True))
    assert any((t, s, p) not in wanted for s, t, p in wanted), "some edges have no reverse"
    links = attention_triton.make_links(neighbors, len(edges.length))
    assert int(links.table[3].max()) <= 3
    by_link, into, out = held_edges(links)
    assert by_link == into == out == sorted(wanted)


class Wide(TorchDispatchMode):
    """Records the rows of all arrays that torch makes, and how many wide ones exist at a time.

    Args:
        rows: numbers of rows to look for.
        columns: of an array that counts, at least.
    """

    def __init__(self, rows: set[int], columns: int) -> None:
        super().__init__()
        self.rows, self.columns = rows, columns
        self.found: set[int] = set()
        self.alive: list[weakref.ref[Tensor]] = []
        self.most = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        made = result if isinstance(result, tuple | list) else [result]
        for x in made:
            if isinstance(x, Tensor) and x.dim() > 1 and x.shape[1:].numel() >= self.columns:
                self.found.add(x.shape[0])
                if x.shape[0] in self.rows:
                    self.alive.append(weakref.ref(x))
        self.alive = [ref for ref in self.alive if ref() is not None]
        places = {x.untyped_storage().data_ptr() for ref in self.alive if (x := ref()) is not None}
        self.most = max(self.most, len(places))
        return result


def two_layers(attention: Any, arguments: list[Any]) -> None:
    """Gradient of a loss of a gradient with respect to the geometry, as force training has it."""
    qkv, vec, filters, unit, cutoff, *rest = arguments
    message, vector = attention(*arguments)
    again = attention(qkv * message.repeat(1, 5), vec + vector, filters, unit, cutoff, *rest)
    number = sum(x.square().sum() for x in again)
    geometry = [filters.rbf, unit, cutoff]
    first = torch.autograd.grad(number, geometry, create_graph=True)
    loss = sum(x.square().sum() for x in first)
    torch.autograd.grad(loss, [qkv, vec, filters.weight, filters.bias])


@pytest.mark.parametrize("function", ["kernels", "equations"])
def test_rows_of_edges_are_never_made_and_those_of_pairs_for_one_layer(function: str) -> None:
    """Two arrays of pairs at a time: x and its tangent. The equations are the broken twin."""
    arguments = small(sizes=(5, 1), cap=4, channels=8, heads=1, radial=5)
    atoms, edges, pairs = len(arguments[0]), len(arguments[5].source), len(arguments[3])
    of_edges, of_pairs = {edges, 2 * pairs + atoms}, {pairs, pairs + atoms}
    assert not of_edges & of_pairs
    fused = function == "kernels"
    with Wide(of_pairs, 4 * 8) as wide:
        two_layers(attention_triton.edge_attention if fused else reference_attention, arguments)
    assert (not wide.found & of_edges) == fused
    assert (wide.most <= 2) == fused


# ---- choice and compilation ---------------------------------------------------------------------


def test_an_encoder_uses_the_kernels(monkeypatch: pytest.MonkeyPatch) -> None:
    """Energy, forces and the gradient of a loss of forces."""
    torch.manual_seed(0)
    settings = EncoderSettings(channels=8, layers=2, heads=1, rbf=5, max_z=20)
    encoder = EquivariantTransformer(settings).to(DEVICE)
    graph = random_batch(1, torch.float32, sizes=(4, 1)).to(DEVICE)
    found = {}
    calls = []
    kernel = attention_triton.edge_attention
    monkeypatch.setattr(
        attention_triton, "edge_attention", lambda *a: (calls.append(a), kernel(*a))[1]
    )
    for name, dtype in (("reference", torch.float64), ("triton", torch.float32)):
        monkeypatch.setenv("GEORECON_KERNEL", name)
        native.kernel.cache_clear()
        pos = graph.pos.detach().to(dtype).requires_grad_(True)
        encoder.to(dtype)
        x, vec = encoder(graph._replace(pos=pos))
        energy = x.sin().sum() + vec.square().sum()
        (force,) = torch.autograd.grad(energy, pos, create_graph=True)
        weights = [p for p in encoder.parameters() if p.requires_grad]
        first, *rest = torch.autograd.grad(force.square().sum(), weights, allow_unused=True)
        found[name] = {"x": x, "vec": vec, "force": force, "embedding": first}
        found[name] |= {str(k): g for k, g in enumerate(rest) if g is not None and g.any()}
        assert len(calls) == (settings.layers if name == "triton" else 0)
    assert all(a[5].links is calls[0][5].links is not None for a in calls), "made once a graph"
    compare(found["triton"], found["reference"], 1e-5)  # in float64


COMPILE = """
import itertools
import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource
from georecon.kernels import attention_triton_kernels as kernels
indices = dict.fromkeys(("rows", "ends", "links", "atoms", "pairs"), "*i64")
indices |= dict.fromkeys(("END", "LINKS", "PAIRS"), "i32")
paper, padded = dict(F=256, D=32, BH=4, BD=32), dict(F=24, D=12, BH=2, BD=16)
for name in ("forward", "backward_atoms", "backward_pairs", "join_loops"):
    for vectors, tangents in itertools.product((True, False), repeat=2):
        sizes = (paper if vectors else padded) | dict(TILE=kernels.TILE, T=tangents)
        sizes |= dict(VECTORS=vectors, SCALED=not vectors, GEOMETRY=vectors)
        sizes |= dict(WIDTH=1024 if vectors else 3, LANES=kernels.LANES)
        kernel = getattr(kernels, name)
        sizes = {a: size for a, size in sizes.items() if a in kernel.arg_names}
        types = {a: indices.get(a, "*fp32") for a in kernel.arg_names}
        types |= {a: "constexpr" for a in sizes}
        made = triton.compile(
            ASTSource(kernel, types, sizes), GPUTarget("cuda", 80, 32), dict(num_stages=1)
        )
        print(name, made.metadata.shared)
"""


@pytest.mark.slow
def test_kernels_compile_for_gpus_within_their_shared_memory(tmp_path: Path) -> None:
    """To machine code of compute capability 8.0, which needs no GPU; 48 KiB fit every one."""
    environment = {name: value for name, value in os.environ.items() if name != INTERPRET}
    environment |= {"TRITON_CACHE_DIR": str(tmp_path)}
    command = [sys.executable, "-c", COMPILE]
    run = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    shared = [line.split() for line in run.stdout.splitlines()]
    assert len(shared) == 16
    assert all(int(size) <= 48 * 1024 for _, size in shared), shared
    assert list(tmp_path.rglob("*.cubin"))
