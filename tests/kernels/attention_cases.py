"""Arguments of the edge attention, and its derivatives, for the tests of its kernels."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from georecon.graph import radius_edges
from georecon.kernels.filters import POINTS, Filters, Places
from georecon.kernels.reference import AttentionForm, Neighbors
from georecon.models.radial import cosine_cutoff
from tests.toy_graphs import random_batch

CUTOFF = 5.0
NAMES = ("qkv", "vec", "rbf", "weight", "bias", "place", "unit", "cutoff")


def case(
    dtype: torch.dtype,
    *,
    first: bool,
    vector_cutoff: bool,
    sizes: tuple[int, ...] = (9, 40, 1, 2),
    cap: int = 10,
    channels: int = 24,
    heads: int = 4,
    radial: int = 13,
    nodes: int = 0,
) -> list[Any]:
    """Arguments: a capped large molecule, so that some pairs have one edge; one atom.

    With ``nodes``, filters lie on a grid of so many, with pairs at its ends, and one beyond.
    """
    graph = random_batch(3, dtype, sizes=sizes)
    edges = radius_edges(graph, CUTOFF, cap)
    neighbors = Neighbors.of(edges, graph.ptr)
    generator = torch.Generator().manual_seed(1)

    def normal(*shape: int, scale: float = 1.0) -> Tensor:
        values = scale * torch.randn(*shape, generator=generator, dtype=dtype)
        return values.requires_grad_(True)

    atoms, pairs = len(graph.z), len(edges.length)
    vec = None if first else normal(atoms, 3, channels)
    unit = edges.unit.clone().requires_grad_(True)
    cutoff = cosine_cutoff(edges.length, CUTOFF).requires_grad_(True)
    filters = Filters(
        normal(nodes or pairs, radial),
        normal(4 * channels, radial, scale=radial**-0.5),
        normal(4 * channels, scale=0.3),
    )
    if nodes:
        node = torch.rand(pairs, generator=generator, dtype=dtype) * (nodes - 1)
        node[-1], node[0] = -0.01, nodes - 1
        row = (node.floor().long() - 2).clamp(0, nodes - POINTS)
        filters = filters._replace(places=Places(row, (node - row).requires_grad_(True)))
    return [normal(atoms, 5 * channels), vec, filters, unit, cutoff, neighbors,
            AttentionForm(heads, vector_cutoff)]  # fmt: skip


def copied(x: Any, device: str = "cpu", dtype: torch.dtype | None = None) -> Any:
    """Arguments elsewhere or of another type, with gradients of their own."""
    if isinstance(x, Tensor):
        moved = x.detach().to(device, dtype if x.is_floating_point() else None)
        return moved.requires_grad_(x.requires_grad)
    if isinstance(x, Filters | Neighbors | Places):
        return type(x)(*(copied(part, device, dtype) for part in x))
    return [copied(part, device, dtype) for part in x] if isinstance(x, list) else x


def tensors(arguments: list[Any]) -> dict[str, Tensor]:
    """Those that have a gradient."""
    qkv, vec, filters, unit, cutoff, *_ = arguments
    offset = None if filters.places is None else filters.places.offset
    found = dict(zip(NAMES, (qkv, vec, *filters[:3], offset, unit, cutoff), strict=True))
    return {name: x for name, x in found.items() if x is not None}


def derivatives(
    function: Callable[..., Any], arguments: list[Any], *, second: bool = True
) -> dict[str, Tensor]:
    """Outputs, gradients of a number made of them, gradients of a weighted sum of those."""
    inputs = tensors(arguments)
    message, vector = function(*arguments)
    number = sum((out * weights(out)).square().sum() for out in (message, vector))
    first = torch.autograd.grad(number, list(inputs.values()), create_graph=second)
    found = {"message": message, "vector": vector}
    found |= {f"gradient of {n}": g for n, g in zip(inputs, first, strict=True)}
    if second:
        total = sum((g * weights(g)).sum() for g in first)
        again = torch.autograd.grad(total, list(inputs.values()))
        found |= {f"second derivative of {n}": g for n, g in zip(inputs, again, strict=True)}
    return found


def weights(x: Tensor) -> Tensor:
    """A number for each of an array's."""
    return torch.arange(1, x.numel() + 1, dtype=x.dtype, device=x.device).view_as(x).cos()


def compare(found: dict[str, Tensor], expected: dict[str, Tensor], tolerance: float) -> None:
    """Largest error of each relative to its largest number."""
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        error = float((found[name] - value).detach().abs().max() / value.detach().abs().max())
        assert error < tolerance, f"{name}: relative error {error:.1e}"
