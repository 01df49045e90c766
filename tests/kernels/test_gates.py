"""The CPU kernels of heads and decoders against torch operations, to their second derivatives."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor

from georecon.graph import MolGraph, make_graph
from georecon.kernels import gates, native
from tests.kernels.attention_cases import compare, weights

TOLERANCE = {torch.float32: 1e-5, torch.float64: 1e-12}
pytestmark = pytest.mark.skipif(
    native.library() is None, reason="no C++ compiler, or GEORECON_KERNEL=reference"
)
CHANNELS = 17


class Case(NamedTuple):
    """A function, and what it is to act on."""

    function: Callable[..., Any]
    inputs: dict[str, Tensor]


def molecules(atoms: int) -> MolGraph:
    """Molecules of up to seven atoms."""
    counts = [min(7, atoms - first) for first in range(0, atoms, 7)]
    z, pos = torch.ones(atoms, dtype=torch.int64), torch.zeros(atoms, 3)
    return make_graph(z, pos, torch.tensor(counts), torch.arange(len(counts)))


def case(name: str, dtype: torch.dtype, atoms: int) -> Case:
    generator = torch.Generator().manual_seed(6)

    def random(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, dtype=dtype)

    vec = random(atoms, 3, CHANNELS)
    if name == "lengths":
        vec[1::5] = 0.0
        vec[2::5] *= 1e-20
        inputs = {"x": random(atoms, CHANNELS), "vec": vec}
        return Case(gates.with_lengths, inputs)
    if name == "gate":
        return Case(gates.activated_gate, {"u": random(atoms, 2 * CHANNELS), "vec": vec})
    graph = molecules(atoms)
    inputs = {"m": random(graph.num_graphs, 3 * CHANNELS), "x": random(atoms, CHANNELS)}
    return Case(lambda m, x, vec: gates.modulate(m, x, vec, graph), {**inputs, "vec": vec})


NAMES = ("lengths", "gate", "modulation")


def derivatives(one: Case) -> dict[str, Tensor]:
    """Outputs, gradients of a number made of them, gradients of a weighted sum of those."""
    inputs = {name: x.clone().requires_grad_(True) for name, x in one.inputs.items()}
    found = one.function(**inputs)
    outputs = (found,) if isinstance(found, Tensor) else found
    number = sum((y * weights(y)).sin().sum() for y in outputs)
    first = torch.autograd.grad(number, list(inputs.values()), create_graph=True)
    second = torch.autograd.grad(sum((g * weights(g)).sum() for g in first), list(inputs.values()))
    names = (*range(len(outputs)), *inputs, *(f"second {name}" for name in inputs))
    return dict(zip(map(str, names), (*outputs, *first, *second), strict=True))


def expected(one: Case, monkeypatch: pytest.MonkeyPatch) -> dict[str, Tensor]:
    """The same in torch operations."""
    with monkeypatch.context() as patch:
        patch.setattr(native, "kernel", lambda _: "reference")
        return derivatives(one)


@pytest.mark.parametrize("atoms", [1, 50])
@pytest.mark.parametrize("dtype", TOLERANCE, ids=["f32", "f64"])
@pytest.mark.parametrize("name", NAMES)
def test_kernel_equals_torch_operations(
    name: str, dtype: torch.dtype, atoms: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = case(name, dtype, atoms)
    compare(derivatives(one), expected(one, monkeypatch), TOLERANCE[dtype])


@pytest.mark.parametrize(
    ("name", "kind", "argument"),
    [
        (name, kind, argument)
        for name, by_kind in {
            "lengths": {0: ("x", "vec"), 1: ("grad_y", "vec"), 2: ("x_t", "vec_t", "grad_y")},
            "gate": {1: ("grad_y", "grad_w"), 2: ("u_t", "vec_t", "grad_y", "grad_w")},
            "modulation": {1: ("grad_y", "grad_w"), 2: ("m_t", "x_t", "vec_t", "grad_y", "grad_w")},
        }.items()
        for kind, arguments in by_kind.items()
        for argument in arguments
    ],
)
def test_comparison_rejects_a_kernel_that_forgets_a_term(
    name: str, kind: int, argument: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = case(name, torch.float64, 50)
    wanted = expected(one, monkeypatch)
    run = native.run

    def forgetful(entry: str, **arguments: Any) -> None:
        if arguments["kind"] == kind:
            arguments[argument] = torch.zeros_like(arguments[argument])
        run(entry, **arguments)

    monkeypatch.setattr(native, "run", forgetful)
    with pytest.raises(AssertionError, match="relative error"):
        compare(derivatives(one), wanted, 1e-9)


@pytest.mark.parametrize("name", NAMES)
def test_the_same_bits_with_any_number_of_threads(name: str) -> None:
    one, before = case(name, torch.float32, 200), torch.get_num_threads()
    found = []
    for threads in (1, 2, 3):
        torch.set_num_threads(threads)
        found.append(derivatives(one))
    torch.set_num_threads(before)
    for other in found[1:]:
        assert all(torch.equal(x, found[0][key]) for key, x in other.items())
