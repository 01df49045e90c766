"""The CPU kernels of both norms against torch operations, to their second derivatives."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor

from georecon.kernels import native
from georecon.kernels.autograd import only
from georecon.models.norms import LayerNorm, WhitenedVectorNorm
from tests.kernels.attention_cases import compare, weights

TOLERANCE = {torch.float32: 1e-5, torch.float64: 1e-12}
pytestmark = pytest.mark.skipif(
    native.library() is None, reason="no C++ compiler, or GEORECON_KERNEL=reference"
)


class Norm(NamedTuple):
    """A norm, the same in torch operations, and what it is to act on."""

    layer: Any
    reference: Any
    x: Tensor


Make = Callable[[torch.dtype, int], Norm]


def layer_norm(dtype: torch.dtype, atoms: int, channels: int = 24) -> Norm:
    """A norm with weights that are not one, and features far from zero."""
    generator = torch.Generator().manual_seed(4)
    layer = LayerNorm(channels, eps=1e-2, dtype=dtype)
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.copy_(torch.randn(channels, generator=generator, dtype=dtype))
    x = 3.0 + torch.randn(atoms, channels, generator=generator, dtype=dtype)
    return Norm(layer, super(LayerNorm, layer).forward, x.requires_grad_(True))


def whitening(dtype: torch.dtype, atoms: int, channels: int = 24) -> Norm:
    """Vectors far from zero, some in a plane, on a line, all zero, or white already."""
    generator = torch.Generator().manual_seed(5)
    layer = WhitenedVectorNorm(channels, eps=1e-2).to(dtype)
    with torch.no_grad():
        layer.weight.copy_(torch.randn(channels, generator=generator, dtype=dtype))
    x = 0.5 + torch.randn(atoms, 3, channels, generator=generator, dtype=dtype)
    x[1::7, 0], x[2::7, :2], x[3::7] = 0.0, 0.0, 0.0
    x[4::7] = torch.eye(3, dtype=dtype).repeat(1, channels // 3)
    return Norm(layer, layer.reference, x.requires_grad_(True))


def derivatives(norm: Norm, function: Any) -> dict[str, Tensor]:
    """Output, gradients of a number made of it, gradients of a weighted sum of those."""
    inputs = dict(norm.layer.named_parameters()) | {"x": norm.x}
    y = function(norm.x)
    number = (y * weights(y)).sin().sum()
    first = torch.autograd.grad(number, list(inputs.values()), create_graph=True)
    second = torch.autograd.grad(sum((g * weights(g)).sum() for g in first), list(inputs.values()))
    names = ("y", *inputs, *(f"second {name}" for name in inputs))
    return dict(zip(names, (y, *first, *second), strict=True))


@pytest.mark.parametrize("atoms", [1, 50, 200])
@pytest.mark.parametrize("dtype", TOLERANCE, ids=["f32", "f64"])
@pytest.mark.parametrize("make", [layer_norm, whitening])
def test_kernel_equals_torch_operations(make: Make, dtype: torch.dtype, atoms: int) -> None:
    norm = make(dtype, atoms)
    expected = derivatives(norm, norm.reference)
    compare(derivatives(norm, norm.layer), expected, TOLERANCE[dtype])

    def broken(x: Tensor) -> Tensor:
        return norm.layer(x.detach() + (x - x.detach()) * 1.001)  # a derivative that is off

    with pytest.raises(AssertionError, match="relative error"):
        compare(derivatives(norm, broken), expected, TOLERANCE[dtype])


@pytest.mark.parametrize(
    ("make", "name"),
    [(layer_norm, name) for name in ("weight_t", "bias_t", "x_t", "grad_y")]
    + [(whitening, name) for name in ("weight_t", "vec_t", "grad_y")],
)
def test_comparison_rejects_a_kernel_that_forgets_a_term(
    make: Make, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    norm = make(torch.float64, 50)
    expected = derivatives(norm, norm.reference)
    run = native.run

    def forgetful(entry: str, **arguments: Any) -> None:
        if arguments["kind"] == 2:
            arguments[name] = torch.zeros_like(arguments[name])
        run(entry, **arguments)

    monkeypatch.setattr(native, "run", forgetful)
    with pytest.raises(AssertionError, match="relative error"):
        compare(derivatives(norm, norm.layer), expected, 1e-9)


@pytest.mark.parametrize("make", [layer_norm, whitening])
def test_the_same_bits_with_any_number_of_threads(make: Make) -> None:
    norm = make(torch.float32, 500)
    before = torch.get_num_threads()
    found = []
    for threads in (1, 2, 3):
        torch.set_num_threads(threads)
        total = norm.layer(norm.x).square().sum()
        found.append(torch.autograd.grad(total, (norm.x, *norm.layer.parameters())))
    torch.set_num_threads(before)
    assert all(
        torch.equal(a, b) for other in found[1:] for a, b in zip(found[0], other, strict=True)
    )


@pytest.mark.parametrize("make", [layer_norm, whitening])
def test_gradients_of_weights_are_left_out_where_forces_are_taken(make: Make) -> None:
    norm = make(torch.float32, 50)
    with only("positions"):
        along, weight = torch.autograd.grad(
            norm.layer(norm.x).sin().sum(), (norm.x, norm.layer.weight), allow_unused=True
        )
    assert along.abs().max() > 0
    assert weight is None


@pytest.mark.parametrize("number", [torch.nan, torch.inf])
@pytest.mark.parametrize("make", [layer_norm, whitening])
def test_a_number_that_is_not_finite_stays_so(make: Make, number: float) -> None:
    norm = make(torch.float32, 50)
    with torch.no_grad():
        norm.x.view(50, -1)[3, 5] = number
    y = norm.layer(norm.x)
    assert not y[3].isfinite().any()
    assert y[:3].isfinite().all()
