"""Edge attention: messages of an ET layer from node features and filters of distance.

With ``(q, k, v⁰, v¹, v²)`` the node features, ``(d^k, d⁰, d¹, d²)`` the SiLU of the filters of a
pair (linear in its radial basis), u its unit vector and C its cutoff, all sums over the neighbours
j of atom i (Thölke and De Fabritiis 2022, eqs. 5 to 9)::

    a = SiLU(Σ_D q_i k_j d^k) C        message_i = Σ_j a v⁰_j d⁰
    vector_i = Σ_j (v¹_j d¹ vec_j + v²_j d² u)

:func:`reference` says so in torch operations. On CPUs the kernel of ``attention.cpp`` computes the
same, its gradient and the derivative of its gradient without any array of one row an edge; on GPUs
the kernels of ``attention_triton.py`` do so for the first two.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from georecon.graph import scatter_sum
from georecon.models import native

_TYPES = {torch.float32: 0, torch.float64: 1}


class Neighbors(NamedTuple):
    """Directed edges of a batch, sorted by target; those of a pair of atoms share one filter.

    Attributes:
        source, target: atoms j and i of each edge, (E,).
        pair: pair of each edge, (E,); its self loops share the first pair of a molecule.
        rows: first edge of each atom, (N + 1,).
        atoms, pairs: first atom and first pair of each molecule, (B + 1,).
        links: what the GPU kernels make of them, see :func:`prepare`.
    """

    source: Tensor
    target: Tensor
    pair: Tensor
    rows: Tensor
    atoms: Tensor
    pairs: Tensor
    links: Any = None


class Filters(NamedTuple):
    """Filters of keys and of the three values: a linear function of distance in a radial basis.

    Attributes:
        rbf: radial basis of each pair, (P, K).
        weight, bias: of d^k, d⁰, d¹, d² before their SiLU, (4F, K) and (4F,).
    """

    rbf: Tensor
    weight: Tensor
    bias: Tensor


class Heads(NamedTuple):
    """How attention is formed.

    Attributes:
        heads: number of heads H; channels are split among them.
        vector_cutoff: the cutoff multiplies the values instead of the attention weights.
    """

    heads: int
    vector_cutoff: bool


def prepare(neighbors: Neighbors, pairs: int) -> Neighbors:
    """With what the kernels of their device need, made once for all layers.

    Args:
        neighbors: edges of a batch.
        pairs: number of pairs P.
    """
    if native.kernel(neighbors.source.device.type) != "triton":
        return neighbors
    from georecon.models import attention_triton

    return neighbors._replace(links=attention_triton.make_links(neighbors, pairs))


def edge_attention(
    qkv: Tensor,
    vec: Tensor | None,
    filters: Filters,
    unit: Tensor,
    cutoff: Tensor,
    neighbors: Neighbors,
    heads: Heads,
) -> tuple[Tensor, Tensor]:
    """Messages to each atom.

    Args:
        qkv: q, k, v⁰, v¹, v² of each atom, (N, 5F).
        vec: vector features, (N, 3, F), or None where all are zero.
        filters: how they follow from distance.
        unit: unit vector of each pair from its first to its second atom, (P, 3); 0 for self loops.
        cutoff: of each pair, (P,).
        neighbors: edges and pairs.
        heads: form of the attention.

    Returns:
        message (N, F) and vector (N, 3, F).
    """
    arguments = qkv, vec, filters, unit, cutoff, neighbors, heads
    kernel = native.kernel(qkv.device.type)
    if kernel == "triton" and qkv.dtype == torch.float32:
        from georecon.models import attention_triton

        return attention_triton.edge_attention(*arguments)
    if kernel == "native":
        function: Any = _Attention.apply
        message, vector = function(
            qkv, vec, functional.linear(*filters), unit, cutoff, neighbors, heads
        )
        return message, vector
    return reference(*arguments)


def reference(
    qkv: Tensor,
    vec: Tensor | None,
    filters: Filters,
    unit: Tensor,
    cutoff: Tensor,
    neighbors: Neighbors,
    heads: Heads,
) -> tuple[Tensor, Tensor]:
    """The equations in torch operations; arguments and result as of :func:`edge_attention`."""
    source, target, pair = neighbors.source, neighbors.target, neighbors.pair
    atoms = qkv.shape[0]
    activated = functional.silu(functional.linear(*filters))  # (P, 4F)
    dk, d0, d1, d2 = activated.index_select(0, pair).chunk(4, dim=-1)
    q, k, *values = qkv.chunk(5, dim=-1)
    v0, v1, v2 = (value.index_select(0, source) for value in values)  # (E, F) each
    near = cutoff[pair][:, None]
    score = q.index_select(0, target) * k.index_select(0, source) * dk
    weight = functional.silu(score.unflatten(1, (heads.heads, -1)).sum(-1)) * near  # (E, H)
    scalar = (v0 * d0).unflatten(1, (heads.heads, -1)) * weight[..., None]
    sign = torch.where(source > target, 1.0, -1.0).to(unit.dtype)[:, None]
    arrow = unit[pair] * sign  # (E, 3), from target to source
    gate1, gate2 = v1 * d1, v2 * d2
    if heads.vector_cutoff:
        gate1, gate2 = gate1 * near, gate2 * near
    vector = gate2[:, None] * arrow[..., None]  # (E, 3, F)
    if vec is not None:
        vector = torch.addcmul(vector, vec.index_select(0, source), gate1[:, None])
    return scatter_sum(scalar.flatten(1), target, atoms), scatter_sum(vector, target, atoms)


_INPUTS = ("qkv", "vec", "filters", "unit", "cutoff")
_INDICES = ("atoms", "pairs", "rows", "source", "pair")
_DENSE = torch.contiguous_format


def _arguments(*inputs: Any) -> dict[str, Tensor | int | None]:
    """What every call of the kernel is given, from the arguments of :class:`_Attention`."""
    *tensors, neighbors, heads = inputs
    qkv = tensors[0]
    return {
        **{
            name: None if x is None else x.contiguous()
            for name, x in zip(_INPUTS, tensors, strict=True)
        },
        **{name: getattr(neighbors, name).contiguous() for name in _INDICES},
        "molecules": neighbors.atoms.shape[0] - 1,
        "channels": qkv.shape[1] // 5,
        "heads": heads.heads,
        "threads": torch.get_num_threads(),
        "type": _TYPES[qkv.dtype],
        "vector_cutoff": heads.vector_cutoff,
    }


def _backward_arguments(
    grad_message: Tensor, grad_vector: Tensor, *inputs: Any
) -> dict[str, Tensor | int | None]:
    """The same, and the gradients of both outputs."""
    grads = {"grad_message": grad_message.contiguous(), "grad_vector": grad_vector.contiguous()}
    return _arguments(*inputs) | grads


def _messages(qkv: Tensor) -> dict[str, Tensor]:
    """Room for message and vector, which the kernel clears."""
    atoms, channels = qkv.shape[0], qkv.shape[1] // 5
    return {
        "message": qkv.new_empty(atoms, channels),
        "vector": qkv.new_empty(atoms, 3, channels),
    }


def _gradients(*tensors: Tensor | None, geometry: bool) -> dict[str, Tensor | None]:
    """Room for the gradients, which the kernel clears; unit and cutoff on demand."""
    wanted = (True, True, True, geometry, geometry)
    return {
        f"grad_{name}": torch.empty_like(x, memory_format=_DENSE)
        if x is not None and want
        else None
        for name, x, want in zip(_INPUTS, tensors, wanted, strict=True)
    }


class _Attention(torch.autograd.Function):
    """The kernel, differentiable twice; ``inputs`` are those of :func:`edge_attention` with the
    product (P, 4F) in place of ``filters``.
    """

    @staticmethod
    def forward(ctx, *inputs):  # type: ignore[no-untyped-def]
        *tensors, neighbors, heads = inputs
        ctx.save_for_backward(*tensors)
        ctx.rest = neighbors, heads
        out = _messages(tensors[0])
        native.run(kind=0, **_arguments(*inputs), **out)
        return tuple(out.values())

    @staticmethod
    def backward(ctx, *grads):  # type: ignore[no-untyped-def]
        geometry = ctx.needs_input_grad[3] or ctx.needs_input_grad[4]
        function: Any = _Gradient.apply
        return *function(geometry, *grads, *ctx.saved_tensors, *ctx.rest), None, None


class _Gradient(torch.autograd.Function):
    """Gradient of :class:`_Attention`, with respect to unit and cutoff only if asked for."""

    @staticmethod
    def forward(ctx, geometry, *inputs):  # type: ignore[no-untyped-def]
        *tensors, neighbors, heads = inputs
        ctx.save_for_backward(*tensors)
        ctx.rest = neighbors, heads
        out = _gradients(*tensors[2:], geometry=geometry)
        native.run(kind=1, **_backward_arguments(*inputs), **out)
        return tuple(out.values())

    @staticmethod
    def backward(ctx, *directions):  # type: ignore[no-untyped-def]
        function: Any = _Curvature.apply
        return None, *function(*directions, *ctx.saved_tensors, *ctx.rest), None, None


class _Curvature(torch.autograd.Function):
    """Derivative of :class:`_Gradient` along a direction, transposed."""

    @staticmethod
    def forward(ctx, *inputs):  # type: ignore[no-untyped-def]
        directions, inputs = inputs[: len(_INPUTS)], inputs[len(_INPUTS) :]
        moved = {
            f"{name}_t": _direction(t, x)
            for name, t, x in zip(_INPUTS, directions, inputs[2:-2], strict=True)
        }
        back = _messages(inputs[2])
        out = _gradients(*inputs[2:-2], geometry=True)
        native.run(kind=2, **_backward_arguments(*inputs), **moved, **back, **out)
        return *back.values(), *out.values()

    @staticmethod
    def backward(ctx, *_):  # type: ignore[no-untyped-def]
        raise NotImplementedError(
            "the CPU kernel has two derivatives; for a third, set GEORECON_KERNEL=reference"
        )


def _direction(direction: Tensor | None, of: Tensor | None) -> Tensor | None:
    """A direction as the kernel needs it: zero where autograd leaves it out."""
    if of is None or direction is None:
        return None if of is None else torch.zeros_like(of, memory_format=_DENSE)
    return direction.contiguous()
