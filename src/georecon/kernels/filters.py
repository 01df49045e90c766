"""Filters: what distance makes of keys and values, a function of the radial basis."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from georecon.kernels import native

if TYPE_CHECKING:
    from jaxtyping import Float


class Filters(NamedTuple):
    """Filters of W channels: a linear function of the radial basis, then SiLU or a factor.

    Products with them are float32 also where ``precision`` is bf16.

    Attributes:
        rbf: radial basis of each pair (P, K), or of each node of a grid (T, K).
        weight, bias: of the linear function, (W, K) and (W,).
        places: of pairs on the grid, or None if there is none.
        factor: multiplies each row of ``rbf``'s linear function in place of the SiLU; or None.
    """

    rbf: Tensor
    weight: Tensor
    bias: Tensor
    places: Places | None = None
    factor: Tensor | None = None

    def linear(self) -> Tensor:
        """The linear function at each row of ``rbf``."""
        return torch.addmm(self.bias, self.rbf.to(self.bias.dtype), self.weight.t())

    def rows(self) -> Tensor:
        """Filters of each row of ``rbf``."""
        linear = self.linear()
        if self.factor is None:
            return functional.silu(linear)
        return linear * self.factor[:, None].to(linear.dtype)

    def of_pairs(self) -> Tensor:
        """Filters of each pair, (P, W)."""
        return self.rows() if self.places is None else interpolate(self.rows(), self.places)

    def table(self) -> tuple[Tensor, Tensor | None]:
        """Filters of each row of ``rbf`` and, on a grid, the step to each from the row before.

        Both are computed in float64 and then rounded: forces are differences of neighbouring
        nodes, which rounding before would spoil. Only the filters have a gradient.
        """
        if self.places is None:
            return self.rows(), None
        function: Any = _Table.apply
        table, steps = function(self.rbf, self.weight, self.bias, self.factor)
        return table, steps


class _Table(torch.autograd.Function):
    """Filters on a grid and the steps between them: ``filters.cpp``.

    Torch operations compute a gradient that is to be differentiated again, and the gradient of the
    radial basis, which no training needs: the nodes of a grid do not move.
    """

    @staticmethod
    def forward(ctx, rbf, weight, bias, factor):  # type: ignore[no-untyped-def]
        ctx.save_for_backward(rbf, weight, bias, factor)
        ctx.set_materialize_grads(False)
        table = weight.new_empty(rbf.shape[0], weight.shape[0])
        steps = torch.empty_like(table)
        _run(0, rbf, weight, bias, factor, table=table, steps=steps)
        ctx.mark_non_differentiable(steps)
        return table, steps

    @staticmethod
    def backward(ctx, grad, _):  # type: ignore[no-untyped-def]
        rbf, weight, bias, factor = ctx.saved_tensors
        if grad is None:
            return None, None, None, None
        if not torch.is_grad_enabled() and not ctx.needs_input_grad[0]:
            of_weight, of_bias = torch.empty_like(weight), torch.empty_like(bias)
            room = {"grad_weight": of_weight, "grad_bias": of_bias}
            _run(1, rbf, weight, bias, factor, grad_table=grad.contiguous(), **room)
            return None, of_weight, of_bias, None
        if factor is None:
            x = Filters(rbf, weight, bias).linear()
            gate = x.sigmoid()
            slope = grad * gate * (1.0 + x * (1.0 - gate))
        else:
            slope = grad * factor[:, None].to(grad.dtype)
        along = slope @ weight if ctx.needs_input_grad[0] else None
        weights = slope.to(rbf.dtype).t() @ rbf  # the basis falls by orders of magnitude
        return along, weights.to(weight.dtype), slope.sum(0), None


def _run(
    kind: int, rbf: Tensor, weight: Tensor, bias: Tensor, factor: Tensor | None, **more: Tensor
) -> None:
    native.run(
        "filter_table",
        kind=kind,
        type=native.TYPES[weight.dtype],
        threads=torch.get_num_threads(),
        nodes=rbf.shape[0],
        functions=rbf.shape[1],
        columns=weight.shape[0],
        rbf=rbf.double().contiguous(),
        factor=None if factor is None else factor.double().contiguous(),
        weight=weight.contiguous(),
        bias=bias.contiguous(),
        **more,
    )


POINTS = 6


class Places(NamedTuple):
    """Where pairs lie between the rows of a table.

    Attributes:
        row: first of the six rows about each pair, (P,) int64.
        offset: of the pair from that row, in rows, (P,).
    """

    row: Tensor
    offset: Tensor


class GridRows(NamedTuple):
    """Which rows of a grid pairs read.

    Attributes:
        before: first of the six rows about each pair, (P,) float64.
        row: the same, counted among the rows that are kept, (P,) int64.
        kept: rows that a pair reads, (T,) int64.
    """

    before: Tensor
    row: Tensor
    kept: Tensor


def grid_rows(node: Float[Tensor, " P"], nodes: int) -> GridRows:
    """Which rows pairs read.

    Args:
        node: where they lie on a grid, in its nodes, (P,) float64.
        nodes: of the grid.
    """
    node = node.detach()
    if native.kernel(node.device.type) != "native":
        return _grid_rows(node, nodes)
    before, row = torch.empty_like(node), torch.empty_like(node, dtype=torch.int64)
    kept, count = row.new_empty(nodes), row.new_empty(1)
    sizes = {"kind": 0, "pairs": node.shape[0], "nodes": nodes, "points": POINTS}
    native.run("filter_places", **sizes, node=node, before=before, row=row, kept=kept, count=count)
    return GridRows(before, row, kept[: int(count)])


def _grid_rows(node: Tensor, nodes: int) -> GridRows:
    """:func:`grid_rows` in torch operations."""
    before = (node.floor() - 2).clamp(0, nodes - POINTS)
    row = before.long()
    reads = torch.bincount(row, minlength=nodes).cumsum(0)
    reads[POINTS:] -= reads[:-POINTS].clone()  # of a node by pairs whose first row is near it
    used = reads > 0
    return GridRows(before, (used.cumsum(0) - 1)[row], used.nonzero()[:, 0])


def interpolate(table: Float[Tensor, "T F"], places: Places) -> Float[Tensor, "P F"]:
    """Rows between those of a table (T, F), by Lagrange's polynomials through six: (P, F)."""
    row, offset = places
    weights = []
    for m in range(POINTS):
        factors = [(offset - k) / (m - k) for k in range(POINTS) if k != m]
        weights.append(torch.stack(factors).prod(0))
    rows = row[:, None] + torch.arange(POINTS, device=row.device)
    return torch.einsum("pm,pmf->pf", torch.stack(weights, -1).to(table.dtype), table[rows])
