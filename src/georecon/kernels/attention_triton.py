"""Edge attention on GPUs: Triton kernels, with two derivatives.

The equations are :func:`~georecon.kernels.reference.reference_attention`. What is read and written
bounds the speed, so:

* The linear part x of the filters is one product a layer, of pairs, not of edges: (P, 4F). It is
  made in the forward pass, not kept, and made again in each backward pass; the kernels read its
  rows and apply the SiLU. Rows of pairs exist for one layer at a time, rows of edges never.
* ``forward`` and ``backward_atoms``: a program for an atom and a block of heads, over the atoms it
  is joined to. The second sums what an atom is given as target (q) and as source (k, v, vec).
* ``backward_pairs``: a program for a few links; gradient of x, in its place, of unit vectors and
  of cutoffs; ``join_loops`` adds those of a molecule's self loops. Products make of the first the
  gradients of weight, bias and radial basis.
* The derivative of the gradient along a direction t (forces are trained) is the tangent of the
  gradient, and of the outputs for the gradients that came in: the same kernels with ``T``.

No two programs write the same number and products are float32, so the same input gives the same
bits. Products are float32 also where ``precision`` is bf16.

``TRITON_INTERPRET=1``, set before triton is imported, runs the kernels on CPU tensors.

Legend: x_k, x_0, x_1, x_2 the linear part of the filters and d_k … d_2 their SiLU, of keys and of
the three values; N atoms, P pairs, F channels, H heads of D channels, K radial functions; ``_t`` a
tangent or direction.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
import triton
from torch import Tensor
from torch.autograd.function import once_differentiable

from georecon.kernels import attention_triton_kernels as kernels
from georecon.kernels.filters import Filters
from georecon.kernels.reference import AttentionForm, Neighbors


class Links(NamedTuple):
    """The edges of a batch by what they join; made once a graph, without waiting for the device.

    A link is a pair of atoms with its edges in either direction, or the self loop of an atom: first
    one for each pair, unused where the pair is that of self loops, then one for each atom. An atom
    has a row of ends: the links that it takes part in.

    Attributes:
        table: first and second atom, pair and roles of each link, (4, P + N). Roles: 1 if there is
            the edge second → first, 2 if first → second, 3 for both; 1 for self loops; 0 for the
            pair of self loops, whose row they read; 4 for a pair without edges (see
            :mod:`georecon.kernels.fixed_edges`), whose gradient is zero.
        rows: first end of each atom, (N + 1,).
        ends: other atom, pair and roles of each end, (3, 2P + N): 1 if there is the edge to this
            atom, 2 if there is that from it, so 3 for self loops.
    """

    table: Tensor
    rows: Tensor
    ends: Tensor


def make_links(neighbors: Neighbors, pairs: int) -> Links:
    """Links of a batch.

    Args:
        neighbors: its edges.
        pairs: number of pairs P.
    """
    source, target = neighbors.source, neighbors.target
    atoms = neighbors.rows.shape[0] - 1
    count = pairs + atoms
    atom = torch.arange(atoms + 1, device=source.device)
    link = torch.where(source == target, pairs + source, neighbors.pair)
    table, into = source.new_zeros(4, count), source.new_zeros(2, count)
    table[0, link], table[1, link] = torch.minimum(source, target), torch.maximum(source, target)
    table[2, link] = neighbors.pair
    into.view(-1)[link + count * (source < target)] = 1
    table[3] = into[0] + 2 * into[1]
    low, high, _, roles = table
    owner = torch.cat([low, high[:pairs]])
    used = torch.cat([roles, roles[:pairs]]) > 0
    roles = torch.cat([roles[:pairs], 3 * into[0, pairs:], into[1, :pairs] + 2 * into[0, :pairs]])
    ends = torch.stack(
        [torch.cat([high, low[:pairs]]), torch.cat([table[2], table[2, :pairs]]), roles]
    )
    owner = torch.where(used, owner, atoms)
    order = torch.argsort(owner * (atoms + 1) + ends[0])
    return Links(table, torch.searchsorted(owner[order], atom), ends[:, order].contiguous())


def edge_attention(
    qkv: Tensor,
    vec: Tensor | None,
    filters: Filters,
    unit: Tensor,
    cutoff: Tensor,
    neighbors: Neighbors,
    heads: AttentionForm,
) -> tuple[Tensor, Tensor]:
    """Arguments and result of :func:`georecon.kernels.attention.edge_attention`; float32."""
    links = neighbors.links or make_links(neighbors, unit.shape[0])
    function: Any = _Attention.apply
    message, vector = function(qkv, vec, *filters[:3], unit, cutoff, neighbors, links, heads)
    return message, vector


# ---- autograd -----------------------------------------------------------------------------------


class _Attention(torch.autograd.Function):
    """Arguments: qkv, vec, rbf, weight, bias, unit, cutoff; neighbours, links, heads."""

    @staticmethod
    def forward(ctx, *inputs):
        *tensors, neighbors, links, heads = inputs
        ctx.save_for_backward(*tensors)
        ctx.rest = neighbors, links, heads
        return _Call(tensors, links, heads, linear_part(tensors, links)).outputs()

    @staticmethod
    def backward(ctx, *grads):
        rbf, _, _, unit, cutoff = ctx.needs_input_grad[2:7]
        function: Any = _Gradient.apply
        geometry = rbf or unit or cutoff
        return *function(geometry, *grads, *ctx.saved_tensors, *ctx.rest), None, None, None


class _Gradient(torch.autograd.Function):
    """Gradient of :class:`_Attention`; of radial basis, unit and cutoff only if asked for."""

    @staticmethod
    def forward(ctx, geometry, *inputs):
        *grads, neighbors, links, heads = inputs
        tensors = grads[2:]
        ctx.save_for_backward(*grads)
        ctx.rest = geometry, neighbors, links, heads
        ctx.set_materialize_grads(False)
        x = linear_part(tensors, links)
        call = _Call(tensors, links, heads, x)
        qkv, vec, unit, cutoff = call.gradients(grads[:2], geometry=geometry)
        x = of_pairs(x, neighbors)
        weight, bias = x.t() @ tensors[2], x.sum(0)
        if not geometry:
            return qkv, vec, None, weight, bias, None, None
        pairs = (of_pairs(g, neighbors) for g in (unit, cutoff))
        return qkv, vec, x @ tensors[3], weight, bias, *pairs

    @staticmethod
    @once_differentiable
    def backward(ctx, *directions):
        """Tangents along the directions; nothing asks for a third derivative."""
        geometry, neighbors, links, heads = ctx.rest
        *grads, qkv, vec, rbf, weight, bias, unit, cutoff = ctx.saved_tensors
        tensors = qkv, vec, rbf, weight, bias, unit, cutoff
        _, _, rbf_t, weight_t, *_ = directions
        x, x_t = linear_part(tensors, links), moved_part(tensors, directions, links)
        call = _Call(tensors, links, heads, x, (x_t, directions))
        outputs = call.outputs()
        qkv, vec, unit, cutoff = call.gradients(grads, geometry=geometry)
        x, x_t = of_pairs(x, neighbors), of_pairs(x_t, neighbors)
        weights = product_t(x.t(), x_t.t(), rbf, rbf_t), x_t.sum(0)
        if not geometry:
            return None, *outputs, qkv, vec, None, *weights, None, None, None, None, None
        basis = product_t(x, x_t, weight, weight_t)
        pairs = (of_pairs(g, neighbors) for g in (unit, cutoff))
        return None, *outputs, qkv, vec, basis, *weights, *pairs, None, None, None


def linear_part(tensors: Sequence[Any], links: Links) -> Tensor:
    """Of each pair, x; with room after it for the gradients of the self loops: (P + N, 4F)."""
    _, _, rbf, weight, bias, *_ = tensors
    x = weight.new_empty(links.table.shape[1], weight.shape[0])
    torch.addmm(bias, rbf, weight.t(), out=x[: rbf.shape[0]])
    return x


def moved_part(tensors: Sequence[Any], directions: Sequence[Tensor | None], links: Links) -> Tensor:
    """Tangent of :func:`linear_part`; what has no direction stays."""
    _, _, rbf, weight, *_ = tensors
    _, _, rbf_t, weight_t, bias_t, *_ = directions
    x_t = weight.new_empty(links.table.shape[1], weight.shape[0])
    moved = x_t[: rbf.shape[0]]
    if rbf_t is None:
        moved.zero_()
    else:
        torch.mm(rbf_t, weight.t(), out=moved)
    if weight_t is not None:
        moved.addmm_(rbf, weight_t.t())
    if bias_t is not None:
        moved += bias_t
    return x_t


def product_t(a: Tensor, a_t: Tensor, b: Tensor, b_t: Tensor | None) -> Tensor:
    """Tangent of a matrix product; b stays where it has no direction."""
    tangent = a_t @ b
    return tangent if b_t is None else tangent.addmm_(a, b_t)


def of_pairs(values: Tensor, neighbors: Neighbors) -> Tensor:
    """From links to pairs, in place: a molecule's self loops share its first pair."""
    pairs = values.shape[0] - (neighbors.rows.shape[0] - 1)
    width, molecules = values.shape[1:].numel(), neighbors.atoms.shape[0] - 1
    kernels.join_loops[molecules, triton.cdiv(width, kernels.LANES)](
        values, neighbors.atoms, neighbors.pairs, pairs,
        WIDTH=width, TILE=kernels.TILE, LANES=kernels.LANES,
    )  # fmt: skip
    return values[:pairs]


# ---- calls of the kernels -----------------------------------------------------------------------


class _Call:
    """The kernels on one layer's arrays, or their tangents.

    Args:
        tensors: qkv, vec, rbf, weight, bias, unit, cutoff.
        links: what joins atoms.
        heads: form of the attention.
        x: linear part of the filters.
        moved: its tangent, and the directions of the tensors, None where they have none.
    """

    def __init__(
        self,
        tensors: Sequence[Any],
        links: Links,
        heads: AttentionForm,
        x: Tensor,
        moved: tuple[Tensor, Sequence[Tensor | None]] | None = None,
    ) -> None:
        qkv, vec = tensors[:2]
        self.links, self.atoms, channels = links, qkv.shape[0], qkv.shape[1] // 5
        self.qkv, self.vec = qkv, vec
        width = channels // heads.heads
        lanes = triton.next_power_of_2(width)
        most = triton.next_power_of_2(heads.heads)
        together = max(1, min(most, kernels.LANES // lanes))  # heads of a program
        self.grid = self.atoms, triton.cdiv(heads.heads, together)
        self.sizes = {
            "F": channels, "D": width, "BH": together, "BD": lanes, "TILE": kernels.TILE,
            "VECTORS": vec is not None, "SCALED": heads.vector_cutoff, "T": moved is not None,
            "num_stages": 1,  # tiles loaded ahead would take room from other programs
        }  # fmt: skip
        self.arrays = _alternating(tensors, x, moved)

    def outputs(self) -> tuple[Tensor, Tensor]:
        """Message and vector."""
        channels = self.sizes["F"]
        message = self.qkv.new_empty(self.atoms, channels)
        vector = self.qkv.new_empty(self.atoms, 3, channels)
        _, rows, ends = self.links
        kernels.forward[self.grid](
            message, vector, *self.arrays, rows, ends, ends.shape[1], **self.sizes
        )
        return message, vector

    def gradients(
        self, grads: Sequence[Tensor], *, geometry: bool
    ) -> tuple[Tensor, Tensor | None, Tensor, Tensor]:
        """Those of qkv, vec and of each link's unit and cutoff; that of x takes its place."""
        grads = [g.contiguous() for g in grads]
        table, rows, ends = self.links
        grad_qkv = self.qkv.new_empty(self.qkv.shape)
        grad_vec = None if self.vec is None else self.vec.new_empty(self.vec.shape)
        kernels.backward_atoms[self.grid](
            grad_qkv, grad_qkv if grad_vec is None else grad_vec, *grads, *self.arrays,
            rows, ends, ends.shape[1], **self.sizes,
        )  # fmt: skip
        count = table.shape[1] if geometry else 0
        grad_unit, grad_cutoff = self.qkv.new_empty(count, 3), self.qkv.new_empty(count)
        kernels.backward_pairs[(triton.cdiv(table.shape[1], kernels.TILE),)](
            grad_unit, grad_cutoff, *grads, *self.arrays, table, table.shape[1],
            table.shape[1] - self.atoms, GEOMETRY=geometry, **self.sizes,
        )  # fmt: skip
        return grad_qkv, grad_vec, grad_unit, grad_cutoff


def _alternating(
    tensors: Sequence[Any], x: Tensor, moved: tuple[Tensor, Sequence[Tensor | None]] | None
) -> list[Tensor]:
    """Arrays as the kernels take them: each with its direction; without any, with itself."""

    def read(qkv: Any, vec: Any, *rest: Any) -> list[Any]:
        # where there are no vectors, any array stands in their place
        return [qkv, qkv if tensors[1] is None else vec, *rest[-2:]]

    arrays = [x, *(a.contiguous() for a in read(*tensors))]
    if moved is None:
        return [a for a in arrays for _ in range(2)]
    x_t, directions = moved
    given = [x_t, *read(*directions)]
    found = [
        torch.zeros_like(a) if a_t is None else a_t.contiguous()
        for a, a_t in zip(arrays, given, strict=True)
    ]
    return [a for pair in zip(arrays, found, strict=True) for a in pair]
