"""The CPU kernel against the equations in torch operations, to its second derivative."""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
from contextlib import nullcontext
from typing import Any

import pytest
import torch
from torch import Tensor

from georecon.errors import GeoreconError
from georecon.experiments.settings import EncoderSettings
from georecon.graph import scatter_sum
from georecon.kernels import attention, build, native
from georecon.kernels.autograd import only
from georecon.kernels.filters import Filters, Places
from georecon.kernels.reference import Neighbors, reference_attention, reference_update
from georecon.kernels.update import layer_update
from georecon.models.potential import PropertyModel
from georecon.models.radial import ExpNormalBasis
from tests.kernels.attention_cases import case, compare, derivatives, tensors, weights
from tests.toy_graphs import random_batch

TOLERANCE = {torch.float32: 1e-5, torch.float64: 1e-12}
needs_kernel = pytest.mark.skipif(
    native.library() is None, reason="no C++ compiler, or GEORECON_KERNEL=reference"
)
variants = [
    pytest.mark.parametrize("dtype", TOLERANCE, ids=["f32", "f64"]),
    pytest.mark.parametrize("first", [True, False], ids=["first layer", "later layer"]),
    pytest.mark.parametrize("vector_cutoff", [False, True], ids=["", "vector cutoff"]),
    pytest.mark.parametrize("nodes", [0, 20], ids=["", "grid"]),
]


def every_variant(function: Any) -> Any:
    for mark in variants:
        function = mark(function)
    return function


@needs_kernel
@every_variant
def test_kernel_equals_the_equations(
    dtype: torch.dtype, first: bool, vector_cutoff: bool, nodes: int
) -> None:
    arguments = case(dtype, first=first, vector_cutoff=vector_cutoff, nodes=nodes)
    expected = derivatives(reference_attention, arguments)
    compare(derivatives(attention.edge_attention, arguments), expected, TOLERANCE[dtype])


@needs_kernel
@pytest.mark.parametrize("channels", [24, 32, 64, 128])
def test_heads_of_any_width(channels: int) -> None:
    """Those of 8, 16 and 32 channels have loops of their own."""
    arguments = case(torch.float32, first=False, vector_cutoff=False, nodes=20, channels=channels)
    compare(
        derivatives(attention.edge_attention, arguments),
        derivatives(reference_attention, arguments),
        TOLERANCE[torch.float32],
    )


def embedding(function: Any, arguments: list[Any]) -> dict[str, Tensor]:
    """A sum of filtered neighbours, its gradients and the gradients of those."""
    qkv, _, all_filters, *_, neighbors, _ = arguments
    x = qkv[:, :24].detach().requires_grad_(True)
    weight, bias = (w[:24].detach().requires_grad_(True) for w in all_filters[1:3])
    factor = 1.0 + weights(all_filters.rbf[:, 0])
    filters = all_filters._replace(weight=weight, bias=bias, factor=factor)
    offset = None if filters.places is None else filters.places.offset
    inputs = [value for value in (x, weight, bias, offset) if value is not None]

    def summed() -> Tensor:
        result: Tensor = function(x, filters, neighbors)
        return result

    number = (summed() * weights(summed())).square().sum()
    first = torch.autograd.grad(number, inputs, create_graph=True)
    total = sum((g * weights(g)).sum() for g in first)
    second = torch.autograd.grad(total, inputs)
    named = {f"gradient {k}": g for k, g in enumerate(first)}
    return {"sum": summed(), **named, **{f"second {k}": g for k, g in enumerate(second)}}


def every_edge(x: Tensor, filters: Filters, neighbors: Neighbors) -> Tensor:
    """Broken twin of ``embed_neighbors``: atoms are their own neighbours."""
    factors = filters.of_pairs()[neighbors.pair]
    return scatter_sum(x[neighbors.source] * factors, neighbors.target, len(x))


@needs_kernel
@pytest.mark.parametrize("nodes", [0, 20], ids=["", "grid"])
@pytest.mark.parametrize("dtype", TOLERANCE, ids=["f32", "f64"])
def test_the_sum_of_filtered_neighbours(
    dtype: torch.dtype, nodes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    arguments = case(dtype, first=True, vector_cutoff=False, nodes=nodes)
    found = embedding(attention.embed_neighbors, arguments)
    monkeypatch.setattr(native, "kernel", lambda _: "reference")
    expected = embedding(attention.embed_neighbors, arguments)
    compare(found, expected, TOLERANCE[dtype])
    with pytest.raises(AssertionError, match="relative error"):
        compare(embedding(every_edge, arguments), expected, TOLERANCE[dtype])


FORGETS = [
    (kind, name)
    for kind, names in {
        0: ("vec", "unit"),
        1: ("vec", "unit"),
        2: (
            "qkv_t",
            "vec_t",
            "table_t",
            "place_t",
            "unit_t",
            "cutoff_t",
            "grad_message",
            "grad_vector",
        ),
    }.items()
    for name in names
]


@needs_kernel
@pytest.mark.parametrize(("kind", "name"), FORGETS)
def test_comparison_rejects_a_kernel_that_forgets_a_term(
    kind: int, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A broken twin for each array: it is taken as zero in one of the three calls."""
    run = native.run

    def forgetful(entry: str, **arguments: Any) -> None:
        if entry == "edge_attention" and arguments["kind"] == kind:
            arguments[name] = torch.zeros_like(arguments[name])
        run(entry, **arguments)

    arguments = case(torch.float64, first=False, vector_cutoff=False, nodes=20)
    expected = derivatives(reference_attention, arguments)
    monkeypatch.setattr(native, "run", forgetful)
    with pytest.raises(AssertionError, match="relative error"):
        compare(derivatives(attention.edge_attention, arguments), expected, 1e-5)


@needs_kernel
def test_a_molecule_is_the_same_in_any_batch_and_with_any_number_of_threads() -> None:
    """To the last bit: each molecule is the work of one thread, in a fixed order."""
    arguments = case(torch.float32, first=False, vector_cutoff=False, nodes=20)
    before = torch.get_num_threads()
    found = []
    for threads in (1, 2, 3):
        torch.set_num_threads(threads)
        outputs = derivatives(attention.edge_attention, arguments, second=False)
        found.append([outputs["vector"], outputs["gradient of weight"]])
    torch.set_num_threads(before)
    assert all(
        torch.equal(a, b) for other in found[1:] for a, b in zip(found[0], other, strict=True)
    )
    qkv, vec, filters, unit, cutoff, neighbors, heads = arguments
    edges, pairs = int(neighbors.rows[9]), int(neighbors.pairs[1])
    alone = Neighbors(*(index[:edges] for index in neighbors[:3]), neighbors.rows[:10],
                      *(index[:pairs] for index in neighbors[4:7]),
                      neighbors.atoms[:2], neighbors.pairs[:2])  # fmt: skip
    first = filters._replace(places=Places(*(x[:pairs] for x in filters.places)))
    single = attention.edge_attention(
        qkv[:9], vec[:9], first, unit[:pairs], cutoff[:pairs], alone, heads
    )
    assert torch.equal(found[0][0][:9], single[1])


@needs_kernel
def test_a_number_that_is_not_finite_stays_so() -> None:
    for name in ("qkv", "rbf", "bias", "place", "cutoff"):
        arguments = case(torch.float32, first=False, vector_cutoff=False, nodes=20)
        with torch.no_grad():
            tensors(arguments)[name].view(-1)[-1] = torch.nan
        message, vector = attention.edge_attention(*arguments)
        assert bool(message.isnan().any() | vector.isnan().any())


@needs_kernel
def test_exponential_of_the_kernel_over_its_whole_range() -> None:
    """SiLU of large scores: 0 to the left, the score itself to the right, accurate between."""
    arguments = case(torch.float32, first=True, vector_cutoff=False)
    q = arguments[0].detach().clone()
    q[:, :24] *= torch.linspace(-300, 300, len(q))[:, None]
    arguments = [x.detach() if isinstance(x, Tensor) else x for x in (q, *arguments[1:])]
    double = [x.double() if isinstance(x, Tensor) else x for x in arguments]
    double[2] = Filters(*(x.double() for x in arguments[2][:3]))
    for found, expected in zip(
        attention.edge_attention(*arguments), reference_attention(*double), strict=True
    ):
        assert torch.isfinite(found).all()
        assert (found - expected).abs().max() < 1e-5 * expected.abs().max()


@needs_kernel
def test_a_third_derivative_is_refused() -> None:
    arguments = case(torch.float64, first=True, vector_cutoff=False)
    message, _ = attention.edge_attention(*arguments)
    (first,) = torch.autograd.grad(message.sin().sum(), arguments[0], create_graph=True)
    (second,) = torch.autograd.grad(first.square().sum(), arguments[0], create_graph=True)
    with pytest.raises(NotImplementedError, match="GEORECON_KERNEL=reference"):
        torch.autograd.grad(second.sum(), arguments[0])


# ---- filters on a grid ------------------------------------------------------------------------


def table(dtype: torch.dtype, *, scaled: bool, channels: int) -> dict[str, Tensor]:
    """Filters on the nodes of a real grid, the steps between them, gradients of the weights."""
    rbf, near, places = ExpNormalBasis(5.0, 32).grid(torch.tensor([1.0]))
    generator = torch.Generator().manual_seed(5)
    weight, bias = (torch.randn(*shape, generator=generator, dtype=dtype).requires_grad_(True)
                    for shape in ((channels, 32), (channels,)))  # fmt: skip
    filters = Filters(rbf, weight, bias, places, near if scaled else None)
    rows, steps = filters.table()
    assert steps is not None
    number = (rows * weights(rows.double()).to(dtype)).sum()
    gradients = torch.autograd.grad(number, (weight, bias))
    return dict(zip(("rows", "steps", "weight", "bias"), (rows, steps, *gradients), strict=True))


def exact_table(dtype: torch.dtype, *, scaled: bool, channels: int) -> dict[str, Tensor]:
    """The same from torch operations in float64, with weights of that type."""
    rbf, near, _ = ExpNormalBasis(5.0, 32).grid(torch.tensor([1.0]))
    generator = torch.Generator().manual_seed(5)
    drawn = (torch.randn(*shape, generator=generator, dtype=dtype)
             for shape in ((channels, 32), (channels,)))  # fmt: skip
    weight, bias = (x.double().requires_grad_(True) for x in drawn)
    rows = Filters(rbf, weight, bias, None, near if scaled else None).rows()
    steps = torch.cat([torch.zeros_like(rows[:1]), rows.detach().diff(dim=0)])
    number = (rows * weights(rows).to(dtype)).sum()
    gradients = torch.autograd.grad(number, (weight, bias))
    return dict(zip(("rows", "steps", "weight", "bias"), (rows, steps, *gradients), strict=True))


@needs_kernel
@pytest.mark.parametrize("scaled", [False, True], ids=["SiLU", "factor"])
@pytest.mark.parametrize("channels", [32, 72])
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-7), (torch.float64, 1e-14)])
def test_table_is_that_of_double_precision(
    dtype: torch.dtype, tolerance: float, channels: int, scaled: bool
) -> None:
    expected = exact_table(dtype, scaled=scaled, channels=channels)
    found = table(dtype, scaled=scaled, channels=channels)
    # Steps of float64 rows, expected ones too, are differences of rounded numbers: an error is of
    # the size of the rows', which are some fifty times as large.
    exact = dtype == torch.float64
    largest = {name: float(expected[name].detach().abs().max()) for name in ("rows", "steps")}
    factor = largest["rows"] / largest["steps"] if exact else 1.0
    steps = {"steps": expected.pop("steps")}
    compare({"steps": found.pop("steps")}, steps, tolerance * factor)
    compare(found, expected, tolerance)
    expected |= steps
    with pytest.raises(AssertionError, match="relative error"):  # the other function of distance
        compare(table(dtype, scaled=not scaled, channels=channels), expected, tolerance)


@needs_kernel
def test_steps_of_a_table_are_more_exact_than_its_differences() -> None:
    """Differences of float32 rows, the twin, have their rounding errors: those of forces."""
    expected = exact_table(torch.float32, scaled=False, channels=32)["steps"]
    found = table(torch.float32, scaled=False, channels=32)
    rounded = torch.cat([torch.zeros(1, 32), found["rows"].detach().diff(dim=0)])
    compare({"steps": found["steps"]}, {"steps": expected}, 1e-7)
    with pytest.raises(AssertionError, match="relative error"):
        compare({"steps": rounded}, {"steps": expected}, 1e-7)


# ---- update of a layer ------------------------------------------------------------------------


def updated(function: Any, dtype: torch.dtype) -> dict[str, Tensor]:
    """Outputs of an update, their gradients and second derivatives."""
    generator = torch.Generator().manual_seed(2)
    o, p = (torch.randn(7, *shape, generator=generator, dtype=dtype).requires_grad_(True)
            for shape in ((36,), (3, 36)))  # fmt: skip
    outputs = function(o, p)
    number = sum((out * weights(out)).square().sum() for out in outputs)
    first = torch.autograd.grad(number, (o, p), create_graph=True)
    second = torch.autograd.grad(sum((g * weights(g)).sum() for g in first), (o, p))
    return dict(zip("xvopOP", (*outputs, *first, *second), strict=True))


@needs_kernel
@pytest.mark.parametrize("dtype", TOLERANCE, ids=["f32", "f64"])
def test_update_equals_its_equations(dtype: torch.dtype) -> None:
    expected = updated(reference_update, dtype)
    compare(updated(layer_update, dtype), expected, TOLERANCE[dtype])

    def broken(o: Tensor, p: Tensor) -> tuple[Tensor, Tensor]:
        return layer_update(o.roll(12, dims=1), p)  # the three parts in another order

    with pytest.raises(AssertionError, match="relative error"):
        compare(updated(broken, dtype), expected, TOLERANCE[dtype])


# ---- gradients that nobody asks for -------------------------------------------------------------


@needs_kernel
@pytest.mark.parametrize("nodes", [0, 20], ids=["", "grid"])
def test_gradients_that_are_left_out_change_no_other(
    nodes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Forces and the weights' gradient of a loss on them, as training computes them."""

    def gradients(positions: Any, weights_only: Any) -> list[Tensor]:
        arguments = case(torch.float64, first=False, vector_cutoff=True, nodes=nodes)
        qkv, vec, filters, unit, cutoff, *_ = arguments
        geometry = [unit, cutoff, *(() if nodes == 0 else [filters.places.offset])]
        message, vector = attention.edge_attention(*arguments)
        with positions:
            number = (message * weights(message)).sum() + vector.square().sum()
            forces = torch.autograd.grad(number, geometry, create_graph=True)
        with weights_only:
            loss = number + sum((force * weights(force)).square().sum() for force in forces)
            loss.backward(inputs=[qkv, vec, filters.weight])
        return [*forces, qkv.grad, vec.grad, filters.weight.grad]

    found = gradients(only("positions"), only("weights"))
    expected = gradients(nullcontext(), nullcontext())
    for one, other in zip(found, expected, strict=True):
        assert torch.allclose(one, other, rtol=1e-12, atol=1e-12)
    if nodes:  # a twin that forgets how filters follow places
        monkeypatch.setattr(native, "run", without_place(native.run))
        with pytest.raises(AssertionError):
            assert torch.allclose(gradients(nullcontext(), only("weights"))[-1], expected[-1])


def without_place(run: Any) -> Any:
    def forgetful(entry: str, **arguments: Any) -> None:
        if arguments["kind"] == 2 and "place_t" in arguments:
            arguments["place_t"] = torch.zeros_like(arguments["place_t"])
        run(entry, **arguments)

    return forgetful


def force_loss_gradient() -> Tensor:
    """Of a loss on energies and forces by all weights, computed as training does."""
    torch.manual_seed(0)
    sizes = EncoderSettings(channels=16, layers=3, heads=2, rbf=16, max_z=20)
    zeros = torch.zeros(sizes.max_z)
    model = PropertyModel(sizes, "scalar", scale=1.0, shift=0.0, atomref=zeros)
    energy, forces = model.energy_and_forces(random_batch(3, torch.float32), training=True)
    parameters = [p for p in model.parameters() if p.requires_grad]
    with only("weights"):
        (energy.square().mean() + forces.square().mean()).backward(inputs=parameters)
    return torch.cat([p.grad.flatten() for p in parameters if p.grad is not None])


@needs_kernel
def test_training_on_forces_has_the_gradient_of_the_equations(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    found = {"gradient": force_loss_gradient()}
    with monkeypatch.context() as patch:
        patch.setattr(native, "run", without_place(native.run))
        broken = {"gradient": force_loss_gradient()}
    monkeypatch.setattr(native, "kernel", lambda _: "reference")
    expected = {"gradient": force_loss_gradient()}
    compare(found, expected, 1e-4)
    with pytest.raises(AssertionError, match="relative error"):
        compare(broken, expected, 1e-4)


@needs_kernel
def test_gradients_that_are_left_out_are_not_computed() -> None:
    arguments = case(torch.float32, first=False, vector_cutoff=False, nodes=20)
    message, _ = attention.edge_attention(*arguments)
    inputs = (arguments[2].weight, arguments[3])
    for context, missing in ((only("positions"), 0), (only("weights"), 1)):
        with context:
            found = torch.autograd.grad(message.sum(), inputs, allow_unused=True, retain_graph=True)
        assert found[missing] is None
        assert found[1 - missing] is not None


# ---- with and without a compiler --------------------------------------------------------------


@pytest.fixture
def fresh(monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> pytest.MonkeyPatch:
    """A machine on which nothing has been compiled yet."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(build, "INSTALLED", tmp_path / "not there")
    monkeypatch.delenv("GEORECON_KERNEL", raising=False)
    return monkeypatch


def library() -> Any:
    found = native.load()
    return found if isinstance(found, native.Library) else None


def test_without_a_compiler_the_equations_are_used(fresh: pytest.MonkeyPatch) -> None:
    fresh.setenv("PATH", "")
    fresh.delenv("CXX", raising=False)
    assert library() is None
    fresh.setenv("GEORECON_KERNEL", "native")
    with pytest.raises(GeoreconError, match=r"'native', but: no C\+\+ compiler: looked for CXX"):
        library()


def test_a_compiler_that_fails_is_quoted(fresh: pytest.MonkeyPatch, tmp_path: Any) -> None:
    fake = tmp_path / "cxx"
    fake.write_text(
        '#!/bin/sh\n[ "$1" = --version ] && exit 0\necho out of registers >&2\nexit 1\n'
    )
    fake.chmod(0o755)
    fresh.setenv("CXX", str(fake))
    assert library() is None
    fresh.setenv("GEORECON_KERNEL", "native")
    with pytest.raises(GeoreconError, match="out of registers"):
        library()
    assert not list((tmp_path / "georecon").iterdir()), "nothing is left behind"


def test_an_unknown_kernel_is_refused(fresh: pytest.MonkeyPatch) -> None:
    fresh.setenv("GEORECON_KERNEL", "fast")
    with pytest.raises(GeoreconError, match="'fast'; allowed: native, triton, reference"):
        library()


# ---- on GPUs ------------------------------------------------------------------------------------


def on_gpus() -> str:
    return native.kernel.__wrapped__("cuda")


@pytest.fixture
def complete(fresh: pytest.MonkeyPatch, tmp_path: Any) -> pytest.MonkeyPatch:
    """A machine with all that Triton's kernels need, as far as can be seen before they run."""
    (tmp_path / "triton").mkdir()
    (tmp_path / "triton/__init__.py").touch()
    (tmp_path / "gcc").touch(mode=0o755)
    (tmp_path / "Python.h").touch()
    fresh.delenv("TRITON_INTERPRET", raising=False)
    fresh.syspath_prepend(tmp_path)
    fresh.setenv("PATH", str(tmp_path))
    fresh.delenv("CC", raising=False)
    fresh.setattr(sysconfig, "get_path", lambda _: str(tmp_path))
    return fresh


def test_gpus_use_triton_where_it_can_run(complete: pytest.MonkeyPatch) -> None:
    assert on_gpus() == "triton"
    complete.setenv("GEORECON_KERNEL", "reference")
    assert on_gpus() == "reference"
    complete.setenv("GEORECON_KERNEL", "native")
    with pytest.raises(GeoreconError, match="which is for CPUs, not cuda"):
        on_gpus()
    complete.setenv("GEORECON_KERNEL", "triton")
    assert on_gpus() == "triton"
    with pytest.raises(GeoreconError, match="'triton', but: Triton runs on GPUs, not on cpu"):
        native.kernel.__wrapped__("cpu")


@pytest.mark.parametrize(
    ("absent", "reason"),
    [
        ("triton", "triton is not installed"),
        ("gcc", "no C compiler: looked for CC, gcc and clang"),
        ("Python.h", "Python.h: install Python's headers"),
    ],
)
def test_what_triton_lacks_is_named(
    absent: str, reason: str, complete: pytest.MonkeyPatch, tmp_path: Any
) -> None:
    if absent == "triton":
        complete.setitem(sys.modules, "triton", None)
    else:
        (tmp_path / absent).unlink()
    assert on_gpus() == "reference"
    complete.setenv("GEORECON_KERNEL", "triton")
    with pytest.raises(GeoreconError, match=reason):
        on_gpus()


@pytest.mark.long
@needs_kernel
@pytest.mark.slow
def test_several_processes_compile_at_the_same_time(
    fresh: pytest.MonkeyPatch, tmp_path: Any
) -> None:
    code = (
        "import pathlib\nfrom georecon.kernels import build, native\n"
        f"build.INSTALLED = pathlib.Path({str(build.INSTALLED)!r})\nprint(native.kernel())"
    )
    command = [sys.executable, "-c", code]
    running = [
        subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=os.environ.copy())
        for _ in range(2)
    ]
    assert [process.communicate(timeout=120)[0].strip() for process in running] == ["native"] * 2
    assert [path.suffix for path in (tmp_path / "georecon").iterdir()] == [".so"]
