"""Edge attention: messages of an ET layer from node features and filters of distance.

With ``(q, k, v⁰, v¹, v²)`` the node features, ``(d^k, d⁰, d¹, d²)`` the SiLU of the filters of a
pair (linear in its radial basis), u its unit vector and C its cutoff, all sums over the neighbours
j of atom i (Thölke and De Fabritiis 2022, eqs. 5 to 9)::

    a = SiLU(Σ_D q_i k_j d^k) C        message_i = Σ_j a v⁰_j d⁰
    vector_i = Σ_j (v¹_j d¹ vec_j + v²_j d² u)

:func:`reference` says so in torch operations. On CPUs the kernel of ``attention.cpp`` computes the
same, its gradient and the derivative of its gradient without any array of one row an edge or a
pair; on GPUs the kernels of ``attention_triton.py`` do so for the first two.

DEVIATION: on CPUs, in float32, filters are not evaluated at each distance but on a grid, once a
step, and interpolated (:func:`georecon.models.radial.interpolate`). The difference is that of
rounding; the lineage's product of every pair with the weights was a quarter of a step.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from georecon.graph import Edges, scatter_sum
from georecon.models import native
from georecon.models.radial import Places, interpolate

_TYPES = {torch.float32: 0, torch.float64: 1}
PARTS, PART_BYTES = 8, 2**24
"""Parts of a batch that are computed at the same time, at most, and memory for what each of them
adds to the gradient of a table. Not the number of threads: results do not depend on that."""


class Neighbors(NamedTuple):
    """Directed edges of a batch, sorted by target, and the pairs of atoms that share one filter.

    Attributes:
        source, target: atoms j and i of each edge, (E,).
        pair: pair of each edge, (E,); its self loops share the first pair of a molecule.
        rows: first edge of each atom, (N + 1,).
        first, second, ways: atoms of each pair and which edges it has, (P,); see
            :class:`georecon.graph.Edges`.
        atoms, pairs: first atom and first pair of each molecule, (B + 1,).
        links: what the GPU kernels make of them, see :func:`prepare`.
    """

    source: Tensor
    target: Tensor
    pair: Tensor
    rows: Tensor
    first: Tensor
    second: Tensor
    ways: Tensor
    atoms: Tensor
    pairs: Tensor
    links: Any = None

    @classmethod
    def of(cls, edges: Edges, atoms: Tensor) -> Neighbors:
        """Edges of molecules with these first atoms, (B + 1,)."""
        named = {name: getattr(edges, name) for name in cls._fields if hasattr(edges, name)}
        return cls(**named, atoms=atoms)


class Filters(NamedTuple):
    """Filters of keys and of the three values: a linear function of distance in a radial basis.

    Products with them are float32 also where ``precision`` is bf16.

    Attributes:
        rbf: radial basis of each pair (P, K), or of each node of a grid (T, K).
        weight, bias: of d^k, d⁰, d¹, d² before their SiLU, (4F, K) and (4F,).
        places: of pairs on the grid, or None if there is none.
    """

    rbf: Tensor
    weight: Tensor
    bias: Tensor
    places: Places | None = None

    def linear(self) -> Tensor:
        """Of each row of ``rbf``, before any SiLU."""
        return torch.addmm(self.bias, self.rbf, self.weight.t())


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
        table = functional.silu(filters.linear())
        message, vector = _kernel(qkv, vec, table, filters.places, unit, cutoff, neighbors, heads)
        return message, vector
    return reference(*arguments)


def embed_neighbors(
    x: Tensor, table: Tensor, places: Places | None, neighbors: Neighbors
) -> Tensor:
    """Sum of the filtered features of each atom's neighbours, without itself.

    Args:
        x: features (N, F).
        table: filters of pairs (P, F), or of the nodes of a grid (T, F).
        places: of pairs on the grid, or None if there is none.
        neighbors: edges and pairs.

    Returns:
        (N, F).
    """
    if native.kernel(x.device.type) == "native":
        return _kernel(x, None, table, places, None, None, neighbors, None)[0]
    source, target, pair = neighbors.source, neighbors.target, neighbors.pair
    filters = (table if places is None else interpolate(table, places)).index_select(0, pair)
    real = (source != target).to(x.dtype)[:, None]
    return scatter_sum(x.index_select(0, source) * filters * real, target, x.shape[0])


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
    activated = functional.silu(filters.linear())  # (P, 4F)
    if filters.places is not None:
        activated = interpolate(activated, filters.places)
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


# ---- the kernel's place in autograd -------------------------------------------------------------

_INPUTS = ("qkv", "vec", "table", "place", "unit", "cutoff")
_INDICES = ("atoms", "pairs", "first", "second", "ways")
_DENSE = torch.contiguous_format


class _Form(NamedTuple):
    """What the kernel is given beside numbers that have gradients.

    Attributes:
        neighbors: edges and pairs.
        row: first row of the table that each pair reads, or None: its own.
        heads: form of the attention, or None: the sum of filtered neighbours.
    """

    neighbors: Neighbors
    row: Tensor | None
    heads: Heads | None


def _kernel(
    qkv: Tensor,
    vec: Tensor | None,
    table: Tensor,
    places: Places | None,
    unit: Tensor | None,
    cutoff: Tensor | None,
    neighbors: Neighbors,
    heads: Heads | None,
) -> Any:
    row, offset = (None, None) if places is None else places
    function: Any = _Kernel.apply
    return function(qkv, vec, table, offset, unit, cutoff, _Form(neighbors, row, heads))


def _parts(neighbors: Neighbors, table: Tensor) -> int:
    molecules = neighbors.atoms.shape[0] - 1
    return max(1, min(PARTS, PART_BYTES // table.nbytes, molecules))


def _dense(x: Tensor | None) -> Tensor | None:
    return None if x is None else x.contiguous()


def _arguments(*inputs: Any) -> dict[str, Tensor | int | None]:
    """What every call of the kernel is given, from the inputs of :class:`_Kernel`."""
    *tensors, (neighbors, row, heads) = inputs
    qkv, table = tensors[0], tensors[2]
    return {
        **{name: _dense(x) for name, x in zip(_INPUTS, tensors, strict=True)},
        **{name: getattr(neighbors, name) for name in _INDICES},
        "row": row,
        "molecules": neighbors.atoms.shape[0] - 1,
        "channels": qkv.shape[1] // (5 if heads else 1),
        "heads": heads.heads if heads else 1,
        "threads": torch.get_num_threads(),
        "type": _TYPES[qkv.dtype],
        "vector_cutoff": heads is not None and heads.vector_cutoff,
        "parts": _parts(neighbors, table),
        "nodes": table.shape[0],
        "embedding": heads is None,
    }


def _backward_arguments(
    grad_message: Tensor, grad_vector: Tensor | None, *inputs: Any
) -> dict[str, Tensor | int | None]:
    """The same, and the gradients of both outputs."""
    grads = {"grad_message": _dense(grad_message), "grad_vector": _dense(grad_vector)}
    return _arguments(*inputs) | grads


def _messages(*inputs: Any) -> dict[str, Tensor | None]:
    """Room for message and vector, which the kernel clears."""
    qkv, form = inputs[0], inputs[-1]
    if form.heads is None:
        return {"message": torch.empty_like(qkv, memory_format=_DENSE), "vector": None}
    atoms, channels = qkv.shape[0], qkv.shape[1] // 5
    return {
        "message": qkv.new_empty(atoms, channels),
        "vector": qkv.new_empty(atoms, 3, channels),
    }


def _gradients(*inputs: Any, geometry: bool) -> dict[str, Tensor | None]:
    """Room for the gradients, which the kernel clears; place, unit and cutoff on demand.

    That of a table is one for each part of the batch, (parts, T, ·), where there is a grid.
    """
    *tensors, form = inputs
    wanted = (True, True, True, geometry, geometry, geometry)
    room = {
        f"grad_{name}": torch.empty_like(x, memory_format=_DENSE)
        if x is not None and want
        else None
        for name, x, want in zip(_INPUTS, tensors, wanted, strict=True)
    }
    if form.row is not None:
        table = tensors[2]
        room["grad_table"] = table.new_empty(_parts(form.neighbors, table), *table.shape)
    return room


def _joined(gradients: dict[str, Tensor | None]) -> tuple[Tensor | None, ...]:
    """The kernel's gradients as autograd takes them: that of a table is summed over parts."""
    table = gradients["grad_table"]
    assert table is not None
    return tuple((gradients | {"grad_table": table.sum(0) if table.ndim == 3 else table}).values())


class _Kernel(torch.autograd.Function):
    """The kernel, differentiable twice.

    Inputs: qkv, vec, table (T, 4F) of filters after their SiLU, place as the offset from a pair's
    first row, unit, cutoff, and the form; None for what is left out.
    """

    @staticmethod
    def forward(ctx, *inputs):  # type: ignore[no-untyped-def]
        *tensors, ctx.form = inputs
        ctx.save_for_backward(*tensors)
        out = _messages(*inputs)
        native.run(kind=0, **_arguments(*inputs), **out)
        return tuple(out.values())

    @staticmethod
    def backward(ctx, *grads):  # type: ignore[no-untyped-def]
        geometry = any(ctx.needs_input_grad[3:6])
        function: Any = _Gradient.apply
        return *function(geometry, *grads, *ctx.saved_tensors, ctx.form), None


class _Gradient(torch.autograd.Function):
    """Gradient of :class:`_Kernel`, with respect to place, unit and cutoff only if asked for."""

    @staticmethod
    def forward(ctx, geometry, *inputs):  # type: ignore[no-untyped-def]
        *tensors, ctx.form = inputs
        ctx.save_for_backward(*tensors)
        out = _gradients(*inputs[2:], geometry=geometry)
        native.run(kind=1, **_backward_arguments(*inputs), **out)
        return _joined(out)

    @staticmethod
    def backward(ctx, *directions):  # type: ignore[no-untyped-def]
        function: Any = _Curvature.apply
        return None, *function(*directions, *ctx.saved_tensors, ctx.form), None


class _Curvature(torch.autograd.Function):
    """Derivative of :class:`_Gradient` along a direction, transposed."""

    @staticmethod
    def forward(ctx, *inputs):  # type: ignore[no-untyped-def]
        directions, inputs = inputs[: len(_INPUTS)], inputs[len(_INPUTS) :]
        moved = {
            f"{name}_t": _direction(t, x)
            for name, t, x in zip(_INPUTS, directions, inputs[2:-1], strict=True)
        }
        back = _messages(*inputs[2:])
        out = _gradients(*inputs[2:], geometry=True)
        native.run(kind=2, **_backward_arguments(*inputs), **moved, **back, **out)
        return *back.values(), *_joined(out)

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
