"""Edge attention on GPUs: Triton kernels that keep all of one row an edge or a pair in registers.

The equations are :func:`~georecon.kernels.reference.reference_attention`. Filters are made from
the radial basis where they are needed, in the forward and again in the backward pass:

* ``_forward`` and ``_backward_atoms``: a program for an atom and a head, over the atoms it is
  joined to. The second sums what an atom is given as target (q) and as source (k, v, vec).
* ``_backward_weights``: a program for a head and a share of the links; the shares are added last.
* ``_backward_geometry``: a program for 16 links; radial basis, unit vectors and cutoff, for forces.

No two programs write the same number, so the same input gives the same bits. The derivative of the
gradient (forces are trained) goes through ``reference``, which stores arrays of one row an edge.
Products are float32, also where ``precision`` is bf16.

``TRITON_INTERPRET=1``, set before triton is imported, runs the kernels on CPU tensors.

Legend: x_k, x_0, x_1, x_2 the filters before their SiLU and d_k … d_2 after it, of keys and of the
three values; N atoms, P pairs, F channels, H heads of D channels, K radial functions.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
import triton
import triton.language as tl
from torch import Tensor
from torch.autograd.function import once_differentiable

from georecon.kernels.filters import Filters
from georecon.kernels.reference import AttentionForm, Neighbors, reference_attention

_TILE = tl.constexpr(16)  # edges or links at once: the fewest rows of a matrix product
_SHARES = 64  # programs of a head that sum the weights' gradient: fixed, so are the bits


class Links(NamedTuple):
    """The edges of a batch by what they join; made once a graph, without waiting for the device.

    A link is a pair of atoms with its edges in either direction, or the self loop of an atom: first
    one for each pair, unused where the pair is that of self loops, then one for each atom. An atom
    has a row of ends: the links that it takes part in.

    Attributes:
        table: first and second atom, pair and roles of each link, (4, P + N). Roles: 1 if there is
            the edge second → first, 2 if first → second, 3 for both, 0 for neither; 1 for self
            loops.
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


# ---- kernels ------------------------------------------------------------------------------------


@triton.jit
def _silu(x):
    return x * tl.sigmoid(x)


@triton.jit
def _slope(x):
    """Derivative of SiLU."""
    gate = tl.sigmoid(x)
    return gate * (1.0 + x * (1.0 - gate))


@triton.jit
def _row(array, start, WIDTH: tl.constexpr, BLOCK: tl.constexpr):
    """Consecutive numbers, (BLOCK,), zeros after the first WIDTH."""
    d = tl.arange(0, BLOCK)
    return tl.load(array + start + d, mask=d < WIDTH, other=0.0)


@triton.jit
def _rows(array, start, live, WIDTH: tl.constexpr, BLOCK: tl.constexpr):
    """The same from several places, (_TILE, BLOCK); zeros where not live."""
    d = tl.arange(0, BLOCK)
    mask = live[:, None] & (d < WIDTH)[None, :]
    return tl.load(array + start[:, None] + d[None, :], mask=mask, other=0.0)


@triton.jit
def _matrix(weight, row, D: tl.constexpr, K: tl.constexpr, BD: tl.constexpr, BK: tl.constexpr):
    """Weights of one kind of filter and head, (BK, BD)."""
    d, k = tl.arange(0, BD), tl.arange(0, BK)
    mask = (k < K)[:, None] & (d < D)[None, :]
    return tl.load(weight + (row + d)[None, :] * K + k[:, None], mask=mask, other=0.0)


@triton.jit
def _of_head(
    weight, bias, h, F: tl.constexpr,
    D: tl.constexpr, K: tl.constexpr, BD: tl.constexpr, BK: tl.constexpr,
):  # fmt: skip
    """Weights and biases of the four filters of a head."""
    wk, w0 = _matrix(weight, h, D, K, BD, BK), _matrix(weight, F + h, D, K, BD, BK)
    w1, w2 = _matrix(weight, 2 * F + h, D, K, BD, BK), _matrix(weight, 3 * F + h, D, K, BD, BK)
    bk, b0 = _row(bias, h, D, BD), _row(bias, F + h, D, BD)
    b1, b2 = _row(bias, 2 * F + h, D, BD), _row(bias, 3 * F + h, D, BD)
    return wk, w0, w1, w2, bk, b0, b1, b2


@triton.jit
def _linear(x, weight, bias):
    return tl.dot(x, weight, input_precision="ieee") + bias[None, :]


@triton.jit
def _arrow(unit, pair, live, length):
    """Unit vectors of some pairs times a length with sign, three of (_TILE, 1)."""
    x = tl.load(unit + 3 * pair, mask=live, other=0.0) * length
    y = tl.load(unit + 3 * pair + 1, mask=live, other=0.0) * length
    z = tl.load(unit + 3 * pair + 2, mask=live, other=0.0) * length
    return x[:, None], y[:, None], z[:, None]


@triton.jit
def _forward(
    message, vector, qkv, vec, rbf, weight, bias, unit, cutoff, rows, ends, END,
    F: tl.constexpr, D: tl.constexpr, K: tl.constexpr, BD: tl.constexpr, BK: tl.constexpr,
    VECTORS: tl.constexpr, SCALED: tl.constexpr,
):  # fmt: skip
    """Message and vector of an atom and head."""
    atom, h, d = tl.program_id(0).to(tl.int64), tl.program_id(1) * D, tl.arange(0, BD)
    start, stop = tl.load(rows + atom), tl.load(rows + atom + 1)
    wk, w0, w1, w2, bk, b0, b1, b2 = _of_head(weight, bias, h, F, D, K, BD, BK)
    q = _row(qkv, atom * 5 * F + h, D, BD)[None, :]
    zero = tl.zeros((BD,), tl.float32)
    sums, x, y, z = zero, zero, zero, zero
    for first in range(start, stop, _TILE):
        e = first + tl.arange(0, _TILE)
        live = (tl.load(ends + 2 * END + e, mask=e < stop, other=0) & 1) != 0
        j = tl.load(ends + e, mask=live, other=0)
        p = tl.load(ends + END + e, mask=live, other=0)
        c = tl.load(cutoff + p, mask=live, other=0.0)
        near = c if SCALED else tl.where(live, 1.0, 0.0)
        phi, at = _rows(rbf, p * K, live, K, BK), j * 5 * F + h
        k, v0 = _rows(qkv, at + F, live, D, BD), _rows(qkv, at + 2 * F, live, D, BD)
        score = tl.sum(q * k * _silu(_linear(phi, wk, bk)), axis=1)
        sums += tl.sum((_silu(score) * c)[:, None] * v0 * _silu(_linear(phi, w0, b0)), axis=0)
        ux, uy, uz = _arrow(unit, p, live, tl.where(j > atom, near, -near))
        gate = _rows(qkv, at + 4 * F, live, D, BD) * _silu(_linear(phi, w2, b2))
        x += tl.sum(ux * gate, axis=0)
        y += tl.sum(uy * gate, axis=0)
        z += tl.sum(uz * gate, axis=0)
        if VECTORS:
            gate = _rows(qkv, at + 3 * F, live, D, BD) * _silu(_linear(phi, w1, b1))
            gate *= near[:, None]
            x += tl.sum(gate * _rows(vec, j * 3 * F + h, live, D, BD), axis=0)
            y += tl.sum(gate * _rows(vec, j * 3 * F + F + h, live, D, BD), axis=0)
            z += tl.sum(gate * _rows(vec, j * 3 * F + 2 * F + h, live, D, BD), axis=0)
    tl.store(message + atom * F + h + d, sums, mask=d < D)
    tl.store(vector + atom * 3 * F + h + d, x, mask=d < D)
    tl.store(vector + atom * 3 * F + F + h + d, y, mask=d < D)
    tl.store(vector + atom * 3 * F + 2 * F + h + d, z, mask=d < D)


@triton.jit
def _backward_atoms(
    grad_qkv, grad_vec, grad_message, grad_vector, qkv, vec, rbf, weight, bias, unit, cutoff, rows,
    ends, END,
    F: tl.constexpr, D: tl.constexpr, K: tl.constexpr, BD: tl.constexpr, BK: tl.constexpr,
    VECTORS: tl.constexpr, SCALED: tl.constexpr,
):  # fmt: skip
    """Gradient of q, k, v⁰, v¹, v² and vec of an atom and head."""
    atom, h, d = tl.program_id(0).to(tl.int64), tl.program_id(1) * D, tl.arange(0, BD)
    start, stop, row = tl.load(rows + atom), tl.load(rows + atom + 1), atom * 5 * F + h
    wk, w0, w1, w2, bk, b0, b1, b2 = _of_head(weight, bias, h, F, D, K, BD, BK)
    q, k, v0 = _row(qkv, row, D, BD), _row(qkv, row + F, D, BD), _row(qkv, row + 2 * F, D, BD)
    grad, zero = _row(grad_message, atom * F + h, D, BD), tl.zeros((BD,), tl.float32)
    gq, gk, g0, g1, g2, sx, sy, sz = zero, zero, zero, zero, zero, zero, zero, zero
    for first in range(start, stop, _TILE):
        e = first + tl.arange(0, _TILE)
        role = tl.load(ends + 2 * END + e, mask=e < stop, other=0)
        live, into, out = role != 0, (role & 1) != 0, (role & 2) != 0
        j = tl.load(ends + e, mask=live, other=0)
        p = tl.load(ends + END + e, mask=live, other=0)
        c = tl.load(cutoff + p, mask=live, other=0.0)
        near = c if SCALED else tl.where(live, 1.0, 0.0)
        phi, at = _rows(rbf, p * K, live, K, BK), j * 5 * F + h
        dk, d0 = _silu(_linear(phi, wk, bk)), _silu(_linear(phi, w0, b0))
        kj = _rows(qkv, at + F, into, D, BD) * dk  # the edge to this atom
        score = tl.sum(q[None, :] * kj, axis=1)
        back = tl.sum(grad[None, :] * _rows(qkv, at + 2 * F, into, D, BD) * d0, axis=1)
        gq += tl.sum((back * c * _slope(score))[:, None] * kj, axis=0)
        qj = _rows(qkv, at, out, D, BD) * dk  # the edge from this atom
        gm = _rows(grad_message, j * F + h, out, D, BD) * d0
        score = tl.sum(qj * k[None, :], axis=1)
        back = tl.sum(gm * v0[None, :], axis=1)
        gk += tl.sum((back * c * _slope(score))[:, None] * qj, axis=0)
        g0 += tl.sum((_silu(score) * c)[:, None] * gm, axis=0)
        to = grad_vector + h
        gx, gy = _rows(to, j * 3 * F, out, D, BD), _rows(to + F, j * 3 * F, out, D, BD)
        gz = _rows(to + 2 * F, j * 3 * F, out, D, BD)
        ux, uy, uz = _arrow(unit, p, live, tl.where(atom > j, near, -near))
        g2 += tl.sum((gx * ux + gy * uy + gz * uz) * _silu(_linear(phi, w2, b2)), axis=0)
        if VECTORS:
            d1 = _silu(_linear(phi, w1, b1)) * near[:, None]
            sx += tl.sum(gx * d1, axis=0)
            sy += tl.sum(gy * d1, axis=0)
            sz += tl.sum(gz * d1, axis=0)
    if VECTORS:
        at, v1 = atom * 3 * F + h, _row(qkv, row + 3 * F, D, BD)
        g1 += sx * _row(vec, at, D, BD) + sy * _row(vec, at + F, D, BD)
        g1 += sz * _row(vec, at + 2 * F, D, BD)
        tl.store(grad_vec + at + d, sx * v1, mask=d < D)
        tl.store(grad_vec + at + F + d, sy * v1, mask=d < D)
        tl.store(grad_vec + at + 2 * F + d, sz * v1, mask=d < D)
    tl.store(grad_qkv + row + d, gq, mask=d < D)
    tl.store(grad_qkv + row + F + d, gk, mask=d < D)
    tl.store(grad_qkv + row + 2 * F + d, g0, mask=d < D)
    tl.store(grad_qkv + row + 3 * F + d, g1, mask=d < D)
    tl.store(grad_qkv + row + 4 * F + d, g2, mask=d < D)


@triton.jit
def _edge(
    t, s, live, p, c, dk, d0, d1, d2, grad_message, grad_vector, qkv, vec, unit, h,
    F: tl.constexpr, D: tl.constexpr, BD: tl.constexpr,
    VECTORS: tl.constexpr, SCALED: tl.constexpr,
):  # fmt: skip
    """What the edges s → t add, at one head, to the gradient of d_k … d_2, cutoff and unit."""
    to, at, from_ = t * 3 * F + h, s * 5 * F + h, s * 3 * F + h
    near = c if SCALED else tl.where(live, 1.0, 0.0)
    sign = tl.where(s > t, near, -near)
    qk = _rows(qkv, t * 5 * F + h, live, D, BD) * _rows(qkv, at + F, live, D, BD)
    score = tl.sum(qk * dk, axis=1)
    gv = _rows(grad_message, t * F + h, live, D, BD) * _rows(qkv, at + 2 * F, live, D, BD)
    back = tl.sum(gv * d0, axis=1)
    gk, g0 = (back * c * _slope(score))[:, None] * qk, (_silu(score) * c)[:, None] * gv
    gx, gy = _rows(grad_vector, to, live, D, BD), _rows(grad_vector, to + F, live, D, BD)
    gz = _rows(grad_vector, to + 2 * F, live, D, BD)
    ux, uy, uz = _arrow(unit, p, live, tl.where(s > t, 1.0, -1.0))
    v2 = _rows(qkv, at + 4 * F, live, D, BD)
    turn = (gx * ux + gy * uy + gz * uz) * v2
    g2, pushed, grad_c = turn * near[:, None], v2 * d2, back * _silu(score)
    if SCALED:
        grad_c += tl.sum(turn * d2, axis=1)
    sx, sy = tl.sum(gx * pushed, axis=1) * sign, tl.sum(gy * pushed, axis=1) * sign
    sz = tl.sum(gz * pushed, axis=1) * sign
    g1 = tl.zeros_like(g2)
    if VECTORS:
        g1 += gx * _rows(vec, from_, live, D, BD) + gy * _rows(vec, from_ + F, live, D, BD)
        g1 += gz * _rows(vec, from_ + 2 * F, live, D, BD)
        g1 *= _rows(qkv, at + 3 * F, live, D, BD)
        if SCALED:
            grad_c += tl.sum(g1 * d1, axis=1)
        g1 *= near[:, None]
    return gk, g0, g1, g2, grad_c, sx, sy, sz


@triton.jit
def _both_edges(
    low, high, p, role, c, xk, x0, x1, x2, grad_message, grad_vector, qkv, vec, unit, h,
    F: tl.constexpr, D: tl.constexpr, BD: tl.constexpr,
    VECTORS: tl.constexpr, SCALED: tl.constexpr,
):  # fmt: skip
    """Gradient of x_k … x_2, cutoff and unit of some links, at one head."""
    dk, d0, d1, d2 = _silu(xk), _silu(x0), _silu(x1), _silu(x2)
    gk, g0, g1, g2, grad_c, sx, sy, sz = _edge(
        low, high, (role & 1) != 0, p, c, dk, d0, d1, d2,
        grad_message, grad_vector, qkv, vec, unit, h, F, D, BD, VECTORS, SCALED,
    )  # fmt: skip
    hk, h0, h1, h2, more_c, tx, ty, tz = _edge(
        high, low, (role & 2) != 0, p, c, dk, d0, d1, d2,
        grad_message, grad_vector, qkv, vec, unit, h, F, D, BD, VECTORS, SCALED,
    )  # fmt: skip
    gk, g0 = (gk + hk) * _slope(xk), (g0 + h0) * _slope(x0)
    g1, g2 = (g1 + h1) * _slope(x1), (g2 + h2) * _slope(x2)
    return gk, g0, g1, g2, grad_c + more_c, sx + tx, sy + ty, sz + tz


@triton.jit
def _backward_weights(
    grad_weight, grad_bias, grad_message, grad_vector, qkv, vec, rbf, weight, bias, unit, cutoff,
    links, LINKS,
    F: tl.constexpr, D: tl.constexpr, K: tl.constexpr, BD: tl.constexpr, BK: tl.constexpr,
    VECTORS: tl.constexpr, SCALED: tl.constexpr,
):  # fmt: skip
    """Gradient of a head's weights and biases, over every _SHARES-th tile of links."""
    share, h = tl.program_id(0).to(tl.int64), tl.program_id(1) * D
    wk, w0, w1, w2, bk, b0, b1, b2 = _of_head(weight, bias, h, F, D, K, BD, BK)
    zero, none = tl.zeros((BD, BK), tl.float32), tl.zeros((BD,), tl.float32)
    sk, s0, s1, s2, tk, t0, t1, t2 = zero, zero, zero, zero, none, none, none, none
    for first in range(share * _TILE, LINKS, tl.num_programs(0) * _TILE):
        e = first + tl.arange(0, _TILE)
        role = tl.load(links + 3 * LINKS + e, mask=e < LINKS, other=0)
        live = role != 0
        low = tl.load(links + e, mask=live, other=0)
        high = tl.load(links + LINKS + e, mask=live, other=0)
        p = tl.load(links + 2 * LINKS + e, mask=live, other=0)
        c, phi = tl.load(cutoff + p, mask=live, other=0.0), _rows(rbf, p * K, live, K, BK)
        gk, g0, g1, g2, _c, _x, _y, _z = _both_edges(
            low, high, p, role, c, _linear(phi, wk, bk), _linear(phi, w0, b0),
            _linear(phi, w1, b1), _linear(phi, w2, b2),
            grad_message, grad_vector, qkv, vec, unit, h, F, D, BD, VECTORS, SCALED,
        )  # fmt: skip
        sk += tl.dot(tl.trans(gk), phi, input_precision="ieee")
        s0 += tl.dot(tl.trans(g0), phi, input_precision="ieee")
        s2 += tl.dot(tl.trans(g2), phi, input_precision="ieee")
        tk, t0, t2 = tk + tl.sum(gk, axis=0), t0 + tl.sum(g0, axis=0), t2 + tl.sum(g2, axis=0)
        if VECTORS:
            s1 += tl.dot(tl.trans(g1), phi, input_precision="ieee")
            t1 += tl.sum(g1, axis=0)
    _store_weights(grad_weight, grad_bias, share * 4 * F + h, sk, tk, D, K, BD, BK)
    _store_weights(grad_weight, grad_bias, share * 4 * F + F + h, s0, t0, D, K, BD, BK)
    _store_weights(grad_weight, grad_bias, share * 4 * F + 2 * F + h, s1, t1, D, K, BD, BK)
    _store_weights(grad_weight, grad_bias, share * 4 * F + 3 * F + h, s2, t2, D, K, BD, BK)


@triton.jit
def _store_weights(
    grad_weight, grad_bias, row, weights, biases,
    D: tl.constexpr, K: tl.constexpr, BD: tl.constexpr, BK: tl.constexpr,
):  # fmt: skip
    d, k = tl.arange(0, BD), tl.arange(0, BK)
    mask = (d < D)[:, None] & (k < K)[None, :]
    tl.store(grad_weight + (row + d)[:, None] * K + k[None, :], weights, mask=mask)
    tl.store(grad_bias + row + d, biases, mask=d < D)


@triton.jit
def _backward_geometry(
    grad_rbf, grad_unit, grad_cutoff, grad_message, grad_vector, qkv, vec, rbf, weight, bias, unit,
    cutoff, links, LINKS,
    F: tl.constexpr, D: tl.constexpr, K: tl.constexpr, BD: tl.constexpr, BK: tl.constexpr,
    VECTORS: tl.constexpr, SCALED: tl.constexpr,
):  # fmt: skip
    """Gradient of radial basis, unit vector and cutoff of a tile of links, over all heads."""
    e = tl.program_id(0).to(tl.int64) * _TILE + tl.arange(0, _TILE)
    real = e < LINKS
    role = tl.load(links + 3 * LINKS + e, mask=real, other=0)
    live = role != 0
    low = tl.load(links + e, mask=live, other=0)
    high = tl.load(links + LINKS + e, mask=live, other=0)
    p = tl.load(links + 2 * LINKS + e, mask=live, other=0)
    c, phi = tl.load(cutoff + p, mask=live, other=0.0), _rows(rbf, p * K, live, K, BK)
    basis, zero = tl.zeros((_TILE, BK), tl.float32), tl.zeros((_TILE,), tl.float32)
    near, x, y, z = zero, zero, zero, zero
    for h in range(0, F, D):
        wk, w0, w1, w2, bk, b0, b1, b2 = _of_head(weight, bias, h, F, D, K, BD, BK)
        gk, g0, g1, g2, more_near, more_x, more_y, more_z = _both_edges(
            low, high, p, role, c, _linear(phi, wk, bk), _linear(phi, w0, b0),
            _linear(phi, w1, b1), _linear(phi, w2, b2),
            grad_message, grad_vector, qkv, vec, unit, h, F, D, BD, VECTORS, SCALED,
        )  # fmt: skip
        basis += tl.dot(gk, tl.trans(wk), input_precision="ieee")
        basis += tl.dot(g0, tl.trans(w0), input_precision="ieee")
        basis += tl.dot(g2, tl.trans(w2), input_precision="ieee")
        if VECTORS:
            basis += tl.dot(g1, tl.trans(w1), input_precision="ieee")
        near, x, y, z = near + more_near, x + more_x, y + more_y, z + more_z
    k = tl.arange(0, BK)
    mask = real[:, None] & (k < K)[None, :]
    tl.store(grad_rbf + e[:, None] * K + k[None, :], basis, mask=mask)
    tl.store(grad_cutoff + e, near, mask=real)
    tl.store(grad_unit + 3 * e, x, mask=real)
    tl.store(grad_unit + 3 * e + 1, y, mask=real)
    tl.store(grad_unit + 3 * e + 2, z, mask=real)


# ---- autograd -----------------------------------------------------------------------------------


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


class _Attention(torch.autograd.Function):
    """Arguments: qkv, vec, rbf, weight, bias, unit, cutoff; neighbours, links, heads."""

    @staticmethod
    def forward(ctx, *inputs):
        *tensors, neighbors, links, heads = inputs
        ctx.save_for_backward(*tensors)
        ctx.rest = neighbors, links, heads
        qkv = tensors[0]
        atoms, channels = qkv.shape[0], qkv.shape[1] // 5
        message, vector = qkv.new_empty(atoms, channels), qkv.new_empty(atoms, 3, channels)
        _forward[atoms, heads.heads](
            message, vector, *_arrays(tensors), links.rows, links.ends, links.ends.shape[1],
            **_sizes(tensors, heads),
        )  # fmt: skip
        return message, vector

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
        *tensors, neighbors, links, heads = inputs
        ctx.save_for_backward(*tensors)
        ctx.rest = neighbors, heads
        ctx.set_materialize_grads(False)
        return _gradients(geometry, tensors, neighbors, links, heads)

    @staticmethod
    @once_differentiable
    def backward(ctx, *directions):
        """Through the equations: forces are trained, and nothing asks for a third derivative."""
        saved: list[Any] = [None if x is None else x.detach() for x in ctx.saved_tensors]
        inputs = [x.requires_grad_() for x in saved if x is not None]
        *grads, qkv, vec, rbf, weight, bias, unit, cutoff = saved
        with torch.enable_grad():
            out = reference_attention(qkv, vec, Filters(rbf, weight, bias), unit, cutoff, *ctx.rest)
            first = torch.autograd.grad(out, inputs[2:], grads, create_graph=True)
            along = [d for x, d in zip(saved[2:], directions, strict=True) if x is not None]
            moved = [(g, d) for g, d in zip(first, along, strict=True) if d is not None]
            values, weights = zip(*moved, strict=True)
            second = iter(torch.autograd.grad(values, inputs, weights, allow_unused=True))
        return None, *(None if x is None else next(second) for x in saved), None, None, None


def _gradients(
    geometry: bool, inputs: list[Any], neighbors: Neighbors, links: Links, heads: AttentionForm
) -> tuple[Tensor | None, ...]:
    """Gradients of qkv, vec, rbf, weight, bias, unit and cutoff."""
    grads, tensors = [x.contiguous() for x in inputs[:2]], inputs[2:]
    qkv, vec, rbf, weight, *_ = tensors
    arrays, sizes = _arrays(tensors), _sizes(tensors, heads)
    grad_qkv = torch.empty_like(arrays[0])
    grad_vec = None if vec is None else torch.empty_like(arrays[1])
    _backward_atoms[qkv.shape[0], heads.heads](
        grad_qkv,
        grad_qkv if vec is None else grad_vec,
        *grads,
        *arrays,
        links.rows,
        links.ends,
        links.ends.shape[1],
        **sizes,
    )
    table, count = links.table, links.table.shape[1]
    shares = min(_SHARES, triton.cdiv(count, _TILE.value))
    grad_weight = qkv.new_empty(shares, *weight.shape)
    grad_bias = qkv.new_empty(shares, weight.shape[0])
    _backward_weights[shares, heads.heads](
        grad_weight, grad_bias, *grads, *arrays, table, count, num_warps=8, **sizes
    )
    found = grad_qkv, grad_vec
    weights = grad_weight.sum(0), grad_bias.sum(0)
    if not geometry:
        return *found, None, *weights, None, None
    grad_rbf, grad_unit = qkv.new_empty(count, rbf.shape[1]), qkv.new_empty(count, 3)
    grad_cutoff = qkv.new_empty(count)
    _backward_geometry[(triton.cdiv(count, _TILE.value),)](
        grad_rbf, grad_unit, grad_cutoff, *grads, *arrays, table, count, **sizes
    )
    basis, unit, cutoff = (_of_pairs(x, neighbors) for x in (grad_rbf, grad_unit, grad_cutoff))
    return *found, basis, *weights, unit, cutoff


def _of_pairs(values: Tensor, neighbors: Neighbors) -> Tensor:
    """From links to pairs: a molecule's self loops share its first pair."""
    atoms = neighbors.rows.shape[0] - 1
    pairs = values.shape[0] - atoms
    loops = torch.segment_reduce(values[pairs:], "sum", offsets=neighbors.atoms)
    found = values[:pairs]
    found[neighbors.pairs[:-1]] = loops
    return found


def _arrays(tensors: list[Any]) -> list[Tensor]:
    """The arrays as kernels take them; where there are no vectors, any array in their place."""
    return [tensors[0] if x is None else x.contiguous() for x in tensors]


def _sizes(tensors: list[Any], heads: AttentionForm) -> dict[str, Any]:
    """Constants of the kernels; blocks of channels and radial functions are padded with zeros.

    With more than one stage, tiles would be loaded ahead into more memory than most GPUs share. A
    program holds a head's weights, D x K of each kind: 45 KiB of shared memory for the paper's
    32 x 64, but 152 KiB for 64 x 128, which only data-centre GPUs have; Triton says so if not.
    """
    channels, radial = tensors[0].shape[1] // 5, tensors[2].shape[1]
    width = channels // heads.heads
    return {
        "F": channels,
        "D": width,
        "K": radial,
        "BD": max(16, triton.next_power_of_2(width)),
        "BK": max(16, triton.next_power_of_2(radial)),
        "VECTORS": tensors[1] is not None,
        "SCALED": heads.vector_cutoff,
        "num_stages": 1,
    }
