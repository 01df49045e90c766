"""The Triton kernels against the equations: on a GPU if there is one, else in the interpreter."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

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
from tests.toy_graphs import random_batch

if importlib.util.find_spec("triton") is None:
    pytest.skip(
        "needs triton, which torch's CUDA builds bring: pip install triton==3.7.1",
        allow_module_level=True,
    )
DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
INTERPRET = "TRITON_INTERPRET"
with pytest.MonkeyPatch.context() as patch:
    if DEVICE == "cpu":
        patch.setenv(INTERPRET, "1")  # when triton is imported (tests/conftest.py), kernels defined
    import triton
    import triton.language as tl

    from georecon.kernels import attention_triton

interpreted = pytest.mark.skipif(DEVICE != "cpu", reason="compiled kernels cannot be exchanged")
SMALL = {"sizes": (6, 1, 2), "cap": 4}  # some edges have no reverse; molecules of one, two atoms


@pytest.fixture(autouse=True)
def interpreter(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    if DEVICE == "cpu":
        monkeypatch.setenv(INTERPRET, "1")
    native.kernel.cache_clear()
    yield
    native.kernel.cache_clear()


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
    arguments = small(sizes=(19,), cap=32, channels=8, heads=1)
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


def every_edge_both_ways(patch: pytest.MonkeyPatch) -> None:
    """Capped neighbours taken as if both edges of a pair were always there."""
    right = attention_triton.make_links

    def wrong(neighbors: Neighbors, pairs: int) -> Any:
        links = right(neighbors, pairs)
        links.ends[2] = torch.where(links.ends[2] > 0, 3, 0)
        return links

    patch.setattr(attention_triton, "make_links", wrong)


def only_the_first_share(patch: pytest.MonkeyPatch) -> None:
    """Part of the sum over links left out of the weights' gradient."""
    kernel = attention_triton._backward_weights

    class First:
        def __getitem__(self, grid: tuple[int, int]) -> Any:
            def run(grad_weight: Tensor, grad_bias: Tensor, *rest: Any, **sizes: Any) -> None:
                kernel[grid](grad_weight, grad_bias, *rest, **sizes)
                grad_weight[1:], grad_bias[1:] = 0, 0

            return run

    patch.setattr(attention_triton, "_backward_weights", First())


def self_loops_left_out(patch: pytest.MonkeyPatch) -> None:
    """Gradient of the pair that all self loops of a molecule share."""

    def wrong(values: Tensor, neighbors: Neighbors) -> Tensor:
        return values[: values.shape[0] - (neighbors.rows.shape[0] - 1)]

    patch.setattr(attention_triton, "_of_pairs", wrong)


def arrows_of_one_direction(patch: pytest.MonkeyPatch) -> None:
    @triton.jit
    def _arrow(unit, pair, live, length):  # type: ignore[no-untyped-def]
        length = tl.abs(length)
        x = tl.load(unit + 3 * pair, mask=live, other=0.0) * length
        y = tl.load(unit + 3 * pair + 1, mask=live, other=0.0) * length
        z = tl.load(unit + 3 * pair + 2, mask=live, other=0.0) * length
        return x[:, None], y[:, None], z[:, None]

    patch.setattr(attention_triton, "_arrow", _arrow)


def slope_of_another_function(patch: pytest.MonkeyPatch) -> None:
    @triton.jit
    def _slope(x):  # type: ignore[no-untyped-def]
        return tl.sigmoid(x)

    patch.setattr(attention_triton, "_slope", _slope)


@interpreted
@pytest.mark.parametrize(
    ("twin", "where"),
    [
        (every_edge_both_ways, "message"),
        (arrows_of_one_direction, "vector"),
        (slope_of_another_function, "gradient of qkv"),
        (only_the_first_share, "gradient of weight"),
        (self_loops_left_out, "gradient of rbf"),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_comparison_rejects_a_broken_twin(
    twin: Any, where: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    arguments = small(sizes=(6,), cap=4, channels=8, heads=1, radial=5)
    right = expected(arguments, second=False)
    compare(kernels(arguments, second=False), right, 1e-5)
    twin(monkeypatch)
    with pytest.raises(AssertionError, match=f"{where}: relative error"):
        compare(kernels(arguments, second=False), right, 1e-5)


# ---- what joins atoms, and what is stored --------------------------------------------------------


def test_links_hold_each_edge_once() -> None:
    graph = random_batch(4, sizes=(12, 1, 5))
    edges = radius_edges(graph, 3.0, 5)
    neighbors = Neighbors.of(edges, graph.ptr)
    wanted = set(zip(*(x.tolist() for x in neighbors[:3]), strict=True))
    assert any((t, s, p) not in wanted for s, t, p in wanted), "some edges have no reverse"
    table, rows, ends = attention_triton.make_links(neighbors, len(edges.length))
    found = []
    for low, high, pair, roles in table.mT.tolist():
        assert roles == 0 or low <= high
        found += [(high, low, pair)] * (roles & 1) + [(low, high, pair)] * (roles >> 1)
    assert sorted(found) == sorted(wanted)
    into, out = [], []
    for atom, (first, last) in enumerate(zip(rows.tolist(), rows.tolist()[1:], strict=False)):
        for other, pair, roles in ends[:, first:last].mT.tolist():
            into += [(other, atom, pair)] * (roles & 1)
            out += [(atom, other, pair)] * (roles >> 1)
    assert sorted(into) == sorted(out) == sorted(wanted)


class Shapes(TorchDispatchMode):
    """Records the shape of everything that torch makes."""

    def __init__(self) -> None:
        super().__init__()
        self.found: set[tuple[int, ...]] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        made = result if isinstance(result, tuple | list) else [result]
        self.found |= {tuple(x.shape) for x in made if isinstance(x, Tensor)}
        return result


@pytest.mark.parametrize("function", ["kernels", "equations"])
def test_no_array_has_the_features_of_an_edge_or_a_pair(function: str) -> None:
    """The equations are the broken twin: they store them."""
    arguments = small(channels=8, heads=1, radial=5)
    edges, pairs = len(arguments[5].source), len(arguments[3])
    rows = {edges, pairs, pairs + len(arguments[0]), 2 * pairs + len(arguments[0])}
    fused = function == "kernels"
    with Shapes() as shapes:
        run = attention_triton.edge_attention if fused else reference_attention
        derivatives(run, arguments, second=False)
    wide = {shape for shape in shapes.found if len(shape) > 1 and shape[0] in rows}
    assert all(shape[1:] in ((5,), (3,)) for shape in wide) == fused, wide


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
    for name in ("reference", "triton"):
        monkeypatch.setenv("GEORECON_KERNEL", name)
        native.kernel.cache_clear()
        pos = graph.pos.detach().requires_grad_(True)
        x, vec = encoder(graph._replace(pos=pos))
        energy = x.sin().sum() + vec.square().sum()
        (force,) = torch.autograd.grad(energy, pos, create_graph=True)
        weights = [p for p in encoder.parameters() if p.requires_grad]
        first, *rest = torch.autograd.grad(force.square().sum(), weights, allow_unused=True)
        found[name] = {"x": x, "vec": vec, "force": force, "embedding": first}
        found[name] |= {str(k): g for k, g in enumerate(rest) if g is not None and g.any()}
        assert len(calls) == (settings.layers if name == "triton" else 0)
    assert all(a[5].links is calls[0][5].links is not None for a in calls), "made once a graph"
    compare(found["triton"], found["reference"], 1e-4)


COMPILE = """
import sys
import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource
from georecon.kernels import attention_triton
indices = {"rows": "*i64", "ends": "*i64", "links": "*i64", "END": "i32", "LINKS": "i32"}
for name in ("_forward", "_backward_atoms", "_backward_weights", "_backward_geometry"):
    for vectors in (True, False):
        paper, padded = dict(F=256, D=32, K=64, BD=32, BK=64), dict(F=24, D=12, K=9, BD=16, BK=16)
        sizes = (paper if vectors else padded) | dict(VECTORS=vectors, SCALED=not vectors)
        kernel = getattr(attention_triton, name)
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
    assert len(shared) == 8
    assert all(int(size) <= 48 * 1024 for _, size in shared), shared
    assert len(list(tmp_path.rglob("*.cubin"))) == 8
