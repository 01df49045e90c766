"""The CPU kernel of the layer norm against torch's, to its second derivative."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from attention_cases import compare, weights
from torch import Tensor

from georecon.models import native
from georecon.models.norm import LayerNorm
from georecon.models.twice import only

TOLERANCE = {torch.float32: 1e-5, torch.float64: 1e-12}
pytestmark = pytest.mark.skipif(
    native.library() is None, reason="no C++ compiler, or GEORECON_KERNEL=reference"
)


def norm(dtype: torch.dtype, atoms: int = 50, channels: int = 24) -> tuple[LayerNorm, Tensor]:
    """A norm with weights that are not one, and features far from zero."""
    generator = torch.Generator().manual_seed(4)
    layer = LayerNorm(channels, dtype=dtype)
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.copy_(torch.randn(channels, generator=generator, dtype=dtype))
    x = 3.0 + torch.randn(atoms, channels, generator=generator, dtype=dtype)
    return layer, x.requires_grad_(True)


def derivatives(layer: Any, function: Any, x: Tensor) -> dict[str, Tensor]:
    """Output, gradients of a number made of it, gradients of a weighted sum of those."""
    inputs = (x, layer.weight, layer.bias)
    y = function(x)
    number = (y * weights(y)).sin().sum()
    first = torch.autograd.grad(number, inputs, create_graph=True)
    second = torch.autograd.grad(sum((g * weights(g)).sum() for g in first), inputs)
    return dict(zip(("y", "x", "w", "b", "xx", "ww", "bb"), (y, *first, *second), strict=True))


@pytest.mark.parametrize("atoms", [1, 50, 200])
@pytest.mark.parametrize("dtype", TOLERANCE, ids=["f32", "f64"])
def test_kernel_equals_layer_norm(dtype: torch.dtype, atoms: int) -> None:
    layer, x = norm(dtype, atoms)
    expected = derivatives(layer, super(LayerNorm, layer).forward, x)
    compare(derivatives(layer, layer, x), expected, TOLERANCE[dtype])

    def broken(x: Tensor) -> Tensor:
        return layer(x.detach() + (x - x.detach()) * 1.001)  # a derivative that is off

    with pytest.raises(AssertionError, match="relative error"):
        compare(derivatives(layer, broken, x), expected, TOLERANCE[dtype])


@pytest.mark.parametrize("name", ["weight_t", "bias_t", "x_t", "grad_y"])
def test_comparison_rejects_a_kernel_that_forgets_a_term(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    layer, x = norm(torch.float64)
    expected = derivatives(layer, super(LayerNorm, layer).forward, x)
    run = native.run

    def forgetful(entry: str, **arguments: Any) -> None:
        if arguments["kind"] == 2:
            arguments[name] = torch.zeros_like(arguments[name])
        run(entry, **arguments)

    monkeypatch.setattr(native, "run", forgetful)
    with pytest.raises(AssertionError, match="relative error"):
        compare(derivatives(layer, layer, x), expected, 1e-9)


def test_the_same_bits_with_any_number_of_threads() -> None:
    layer, x = norm(torch.float32, 500)
    before = torch.get_num_threads()
    found = []
    for threads in (1, 2, 3):
        torch.set_num_threads(threads)
        found.append(torch.autograd.grad(layer(x).square().sum(), (x, layer.weight, layer.bias)))
    torch.set_num_threads(before)
    assert all(
        torch.equal(a, b) for other in found[1:] for a, b in zip(found[0], other, strict=True)
    )


def test_gradients_of_weights_are_left_out_where_forces_are_taken() -> None:
    layer, x = norm(torch.float32)
    with only("positions"):
        along, weight = torch.autograd.grad(
            layer(x).sin().sum(), (x, layer.weight), allow_unused=True
        )
    assert along.abs().max() > 0
    assert weight is None


def test_a_number_that_is_not_finite_stays_so() -> None:
    layer, x = norm(torch.float32)
    with torch.no_grad():
        x[3, 5] = torch.nan
    y = layer(x)
    assert y[3].isnan().all()
    assert y[:3].isfinite().all()
