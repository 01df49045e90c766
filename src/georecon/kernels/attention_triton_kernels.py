"""Triton kernels of the edge attention: what it is, its gradient, and the tangents of both.

With ``T`` a kernel writes tangents along the directions ``*_t``; the gradients that come in,
``grad_message`` and ``grad_vector``, have none. A program has up to ``LANES`` channels and ``TILE``
edges, ends or links at a time: a warp reads the row of an edge in one piece, and no program waits
for another. Legend as in ``attention_triton.py``.
"""

from __future__ import annotations

import triton
import triton.language as tl

from georecon.kernels.triton_numbers import (
    attend,
    channels_of,
    load_arrow,
    load_cutoff,
    load_filters,
    load_given,
    load_row,
    load_rows,
    mul,
    mul_t,
    score_gradient,
    silu,
    silu_slope,
)

LANES = 128  # channels at once: four for each thread of a warp
TILE = 4  # rows at once: one for each warp


@triton.jit
def _ends(ends, END, first, stop, TILE: tl.constexpr):
    """Other atom, pair and roles of some ends; roles 0 after the last."""
    e = first + tl.arange(0, TILE)
    mask = e < stop
    other, pair = tl.load(ends + e, mask=mask, other=0), tl.load(ends + END + e, mask=mask, other=0)
    return other, pair, tl.load(ends + 2 * END + e, mask=mask, other=0)


@triton.jit(do_not_specialize=["END"])
def forward(
    message, vector, x, x_t, qkv, qkv_t, vec, vec_t, unit, unit_t, cutoff, cutoff_t, rows, ends,
    END, F: tl.constexpr, D: tl.constexpr, BH: tl.constexpr, BD: tl.constexpr, TILE: tl.constexpr,
    VECTORS: tl.constexpr, SCALED: tl.constexpr, T: tl.constexpr,
):  # fmt: skip
    """Message and vector of an atom and a block of heads."""
    atom = tl.program_id(0).to(tl.int64)
    f, real = channels_of(tl.program_id(1), F, D, BH, BD)
    start, stop = tl.load(rows + atom), tl.load(rows + atom + 1)
    q, q_t = load_row(qkv, qkv_t, atom * 5 * F, f, real, T)
    zero = tl.zeros((TILE, BH * BD), tl.float32)
    sums, sx, sy, sz = zero, zero, zero, zero
    for first in range(start, stop, TILE):
        j, p, role = _ends(ends, END, first, stop, TILE)
        live, at, pair = (role & 1) != 0, j * 5 * F, p * 4 * F
        c, c_t, near, near_t = load_cutoff(cutoff, cutoff_t, p, live, SCALED, T)
        k, k_t = load_rows(qkv, qkv_t, at + F, live, f, real, T)
        dk, dk_t = load_filters(x, x_t, pair, live, f, real, T)
        k, k_t = mul(k, k_t, dk, dk_t, T)
        k, k_t = mul(q, q_t, k, k_t, T)
        w, w_t = attend(k, k_t, c, c_t, BH, BD, T)
        v, v_t = load_rows(qkv, qkv_t, at + 2 * F, live, f, real, T)
        d, d_t = load_filters(x, x_t, pair + F, live, f, real, T)
        v, v_t = mul(v, v_t, d, d_t, T)
        v, v_t = mul(v, v_t, w, w_t, T)
        sums += v_t
        sign = tl.where(j > atom, 1.0, -1.0)[:, None]
        ux, ux_t, uy, uy_t, uz, uz_t = load_arrow(
            unit, unit_t, p, live, sign * near, sign * near_t, T
        )  # fmt: skip
        v, v_t = load_rows(qkv, qkv_t, at + 4 * F, live, f, real, T)
        d, d_t = load_filters(x, x_t, pair + 3 * F, live, f, real, T)
        v, v_t = mul(v, v_t, d, d_t, T)
        sx += mul_t(v, v_t, ux, ux_t, T)
        sy += mul_t(v, v_t, uy, uy_t, T)
        sz += mul_t(v, v_t, uz, uz_t, T)
        if VECTORS:
            v, v_t = load_rows(qkv, qkv_t, at + 3 * F, live, f, real, T)
            d, d_t = load_filters(x, x_t, pair + 2 * F, live, f, real, T)
            v, v_t = mul(v, v_t, d, d_t, T)
            v, v_t = mul(v, v_t, near, near_t, T)
            d, d_t = load_rows(vec, vec_t, j * 3 * F, live, f, real, T)
            sx += mul_t(v, v_t, d, d_t, T)
            d, d_t = load_rows(vec, vec_t, j * 3 * F + F, live, f, real, T)
            sy += mul_t(v, v_t, d, d_t, T)
            d, d_t = load_rows(vec, vec_t, j * 3 * F + 2 * F, live, f, real, T)
            sz += mul_t(v, v_t, d, d_t, T)
    tl.store(message + atom * F + f, tl.sum(sums, axis=0), mask=real)
    tl.store(vector + atom * 3 * F + f, tl.sum(sx, axis=0), mask=real)
    tl.store(vector + atom * 3 * F + F + f, tl.sum(sy, axis=0), mask=real)
    tl.store(vector + atom * 3 * F + 2 * F + f, tl.sum(sz, axis=0), mask=real)


@triton.jit
def _store_sum(array, start, f, real, terms):
    tl.store(array + start + f, tl.sum(terms, axis=0), mask=real)


@triton.jit
def _to_atom(
    q, q_t, grad, dk, dk_t, d0, d0_t, c, c_t, qkv, qkv_t, at, into, f, real,
    F: tl.constexpr, BH: tl.constexpr, BD: tl.constexpr, T: tl.constexpr,
):  # fmt: skip
    """What the edges to an atom add to the gradient of its q."""
    k, k_t = load_rows(qkv, qkv_t, at + F, into, f, real, T)
    k, k_t = mul(k, k_t, dk, dk_t, T)
    v, v_t = load_rows(qkv, qkv_t, at + 2 * F, into, f, real, T)
    v, v_t = mul(v, v_t, d0, d0_t, T)
    s, s_t = mul(q, q_t, k, k_t, T)
    s, s_t = score_gradient(s, s_t, grad * v, grad * v_t, c, c_t, BH, BD, T)
    return mul_t(s, s_t, k, k_t, T)


@triton.jit
def _from_atom(
    k, k_t, v0, v0_t, dk, dk_t, d0, d0_t, c, c_t, qkv, qkv_t, at, grad_message, to, out, f, real,
    BH: tl.constexpr, BD: tl.constexpr, T: tl.constexpr,
):  # fmt: skip
    """What the edges from an atom add to the gradient of its k and v⁰."""
    q, q_t = load_rows(qkv, qkv_t, at, out, f, real, T)
    q, q_t = mul(q, q_t, dk, dk_t, T)
    g = load_given(grad_message, to, out, f, real)
    g, g_t = g * d0, g * d0_t
    s, s_t = mul(q, q_t, k, k_t, T)
    w, w_t = attend(s, s_t, c, c_t, BH, BD, T)
    v, v_t = mul(g, g_t, v0, v0_t, T)
    s, s_t = score_gradient(s, s_t, v, v_t, c, c_t, BH, BD, T)
    return mul_t(s, s_t, q, q_t, T), mul_t(w, w_t, g, g_t, T)


@triton.jit
def _vector(grad_vec, vec, vec_t, at, s, s_t, v1, v1_t, f, real, T: tl.constexpr):
    """Write the gradient of an axis of vec; what that axis adds to the gradient of v¹."""
    _store_sum(grad_vec, at, f, real, mul_t(s, s_t, v1, v1_t, T))
    a, a_t = load_row(vec, vec_t, at, f, real, T)
    return mul_t(s, s_t, a, a_t, T)


@triton.jit(do_not_specialize=["END"])
def backward_atoms(
    grad_qkv, grad_vec, grad_message, grad_vector, x, x_t, qkv, qkv_t, vec, vec_t, unit, unit_t,
    cutoff, cutoff_t, rows, ends, END, F: tl.constexpr, D: tl.constexpr, BH: tl.constexpr,
    BD: tl.constexpr, TILE: tl.constexpr, VECTORS: tl.constexpr, SCALED: tl.constexpr,
    T: tl.constexpr,
):  # fmt: skip
    """Gradient of q, k, v⁰, v¹, v² and vec of an atom and a block of heads."""
    atom = tl.program_id(0).to(tl.int64)
    f, real = channels_of(tl.program_id(1), F, D, BH, BD)
    start, stop, row = tl.load(rows + atom), tl.load(rows + atom + 1), atom * 5 * F
    q, q_t = load_row(qkv, qkv_t, row, f, real, T)
    k, k_t = load_row(qkv, qkv_t, row + F, f, real, T)
    v0, v0_t = load_row(qkv, qkv_t, row + 2 * F, f, real, T)
    grad = tl.load(grad_message + atom * F + f[None, :], mask=real[None, :], other=0.0)
    zero = tl.zeros((TILE, BH * BD), tl.float32)
    gq, gk, g0, g2 = zero, zero, zero, zero
    sx, sy, sz, sx_t, sy_t, sz_t = zero, zero, zero, zero, zero, zero
    for first in range(start, stop, TILE):
        j, p, role = _ends(ends, END, first, stop, TILE)
        live, into, out = role != 0, (role & 1) != 0, (role & 2) != 0
        at, pair, to = j * 5 * F, p * 4 * F, j * 3 * F
        c, c_t, near, near_t = load_cutoff(cutoff, cutoff_t, p, live, SCALED, T)
        dk, dk_t = load_filters(x, x_t, pair, live, f, real, T)
        d0, d0_t = load_filters(x, x_t, pair + F, live, f, real, T)
        gq += _to_atom(
            q, q_t, grad, dk, dk_t, d0, d0_t, c, c_t, qkv, qkv_t, at, into, f, real, F, BH, BD, T
        )
        of_k, of_v = _from_atom(
            k, k_t, v0, v0_t, dk, dk_t, d0, d0_t, c, c_t, qkv, qkv_t, at, grad_message, j * F, out,
            f, real, BH, BD, T,
        )  # fmt: skip
        gk, g0 = gk + of_k, g0 + of_v
        gx = load_given(grad_vector, to, out, f, real)
        gy = load_given(grad_vector, to + F, out, f, real)
        gz = load_given(grad_vector, to + 2 * F, out, f, real)
        sign = tl.where(atom > j, 1.0, -1.0)[:, None]
        ux, ux_t, uy, uy_t, uz, uz_t = load_arrow(
            unit, unit_t, p, live, sign * near, sign * near_t, T
        )  # fmt: skip
        d, d_t = load_filters(x, x_t, pair + 3 * F, live, f, real, T)
        a, a_t = gx * ux + gy * uy + gz * uz, gx * ux_t + gy * uy_t + gz * uz_t
        g2 += mul_t(a, a_t, d, d_t, T)
        if VECTORS:
            d, d_t = load_filters(x, x_t, pair + 2 * F, live, f, real, T)
            d, d_t = mul(d, d_t, near, near_t, T)
            sx, sy, sz = sx + gx * d, sy + gy * d, sz + gz * d
            sx_t, sy_t, sz_t = sx_t + gx * d_t, sy_t + gy * d_t, sz_t + gz * d_t
    g1 = zero
    if VECTORS:
        at = atom * 3 * F
        v1, v1_t = load_row(qkv, qkv_t, row + 3 * F, f, real, T)
        g1 = _vector(grad_vec, vec, vec_t, at, sx, sx_t, v1, v1_t, f, real, T)
        g1 += _vector(grad_vec, vec, vec_t, at + F, sy, sy_t, v1, v1_t, f, real, T)
        g1 += _vector(grad_vec, vec, vec_t, at + 2 * F, sz, sz_t, v1, v1_t, f, real, T)
    _store_sum(grad_qkv, row + 3 * F, f, real, g1)
    _store_sum(grad_qkv, row, f, real, gq)
    _store_sum(grad_qkv, row + F, f, real, gk)
    _store_sum(grad_qkv, row + 2 * F, f, real, g0)
    _store_sum(grad_qkv, row + 4 * F, f, real, g2)


@triton.jit
def _edge(
    t, s, live, p, dk, dk_t, d0, d0_t, d1, d1_t, d2, d2_t, grad_message, grad_vector, qkv, qkv_t,
    vec, vec_t, unit, unit_t, cutoff, cutoff_t, f, real, F: tl.constexpr, BH: tl.constexpr,
    BD: tl.constexpr, VECTORS: tl.constexpr, SCALED: tl.constexpr, T: tl.constexpr,
):  # fmt: skip
    """What the edges s → t add to the gradient of d_k … d_2, and of cutoff and unit."""
    c, c_t, near, near_t = load_cutoff(cutoff, cutoff_t, p, live, SCALED, T)
    at, to, from_ = s * 5 * F, t * 3 * F, s * 3 * F
    q, q_t = load_rows(qkv, qkv_t, t * 5 * F, live, f, real, T)
    k, k_t = load_rows(qkv, qkv_t, at + F, live, f, real, T)
    qk, qk_t = mul(q, q_t, k, k_t, T)
    a, a_t = mul(qk, qk_t, dk, dk_t, T)
    v, v_t = load_rows(qkv, qkv_t, at + 2 * F, live, f, real, T)
    g = load_given(grad_message, t * F, live, f, real)
    v, v_t = g * v, g * v_t
    b, b_t = mul(v, v_t, d0, d0_t, T)
    one = tl.zeros_like(c) + 1.0  # in place of the cutoff
    one_t = one
    if T:
        one_t = tl.zeros_like(c)
    w, w_t = attend(a, a_t, one, one_t, BH, BD, T)
    grad_c_t = mul_t(w, w_t, b, b_t, T)
    w, w_t = mul(w, w_t, c, c_t, T)
    g0, g0_t = mul(w, w_t, v, v_t, T)
    b, b_t = score_gradient(a, a_t, b, b_t, c, c_t, BH, BD, T)
    gk, gk_t = mul(b, b_t, qk, qk_t, T)
    gx = load_given(grad_vector, to, live, f, real)
    gy = load_given(grad_vector, to + F, live, f, real)
    gz = load_given(grad_vector, to + 2 * F, live, f, real)
    sign = tl.where(s > t, 1.0, -1.0)[:, None]
    one, one_t = sign * one, sign * one_t
    ux, ux_t, uy, uy_t, uz, uz_t = load_arrow(unit, unit_t, p, live, one, one_t, T)
    v, v_t = load_rows(qkv, qkv_t, at + 4 * F, live, f, real, T)
    a, a_t = gx * ux + gy * uy + gz * uz, gx * ux_t + gy * uy_t + gz * uz_t
    b, b_t = mul(v, v_t, near, near_t, T)
    g2, g2_t = mul(a, a_t, b, b_t, T)
    b, b_t = mul(b, b_t, d2, d2_t, T)
    sx, sy, sz = sign * gx * b_t, sign * gy * b_t, sign * gz * b_t
    if SCALED:
        v, v_t = mul(v, v_t, d2, d2_t, T)
        grad_c_t += mul_t(a, a_t, v, v_t, T)
    g1, g1_t = tl.zeros_like(g2), tl.zeros_like(g2)
    if VECTORS:
        a, a_t = load_rows(vec, vec_t, from_, live, f, real, T)
        b, b_t = load_rows(vec, vec_t, from_ + F, live, f, real, T)
        v, v_t = load_rows(vec, vec_t, from_ + 2 * F, live, f, real, T)
        a, a_t = gx * a + gy * b + gz * v, gx * a_t + gy * b_t + gz * v_t
        v, v_t = load_rows(qkv, qkv_t, at + 3 * F, live, f, real, T)
        a, a_t = mul(a, a_t, v, v_t, T)
        g1, g1_t = mul(a, a_t, near, near_t, T)
        if SCALED:
            grad_c_t += mul_t(a, a_t, d1, d1_t, T)
    return gk, gk_t, g0, g0_t, g1, g1_t, g2, g2_t, grad_c_t, sx, sy, sz


@triton.jit
def _store_gradient(array, array_t, at, mask, x, x_t, grad, grad_t, T: tl.constexpr):
    """Gradient of a filter's linear part from that of the filter."""
    slope, slope_t = silu_slope(x, x_t, T)
    value, tangent = mul(grad, grad_t, slope, slope_t, T)
    tl.store(array + at, value, mask=mask)
    if T:
        tl.store(array_t + at, tangent, mask=mask)


@triton.jit(do_not_specialize=["LINKS", "PAIRS"])
def backward_pairs(
    grad_unit, grad_cutoff, grad_message, grad_vector, x, x_t, qkv, qkv_t, vec, vec_t, unit, unit_t,
    cutoff, cutoff_t, links, LINKS, PAIRS, F: tl.constexpr, D: tl.constexpr, BH: tl.constexpr,
    BD: tl.constexpr, TILE: tl.constexpr, VECTORS: tl.constexpr, SCALED: tl.constexpr,
    GEOMETRY: tl.constexpr, T: tl.constexpr,
):  # fmt: skip
    """Gradient of x, in its place, and of unit vector and cutoff of a tile of links.

    A pair's row is read by its own program alone, but for the first of a molecule, which all its
    self loops read and which therefore stays: their gradients go to rows of their own.
    """
    e = tl.program_id(0).to(tl.int64) * TILE + tl.arange(0, TILE)
    held = e < LINKS
    low = tl.load(links + e, mask=held, other=0)
    high = tl.load(links + LINKS + e, mask=held, other=0)
    p = tl.load(links + 2 * LINKS + e, mask=held, other=0)
    role = tl.load(links + 3 * LINKS + e, mask=held, other=0)
    live, written = (role & 3) != 0, held & ((role != 0) | (e >= PAIRS))
    near = tl.zeros((TILE,), tl.float32)
    ux, uy, uz = near, near, near
    for block in range(0, (F // D + BH - 1) // BH):
        f, real = channels_of(block, F, D, BH, BD)
        xk, xk_t = load_rows(x, x_t, p * 4 * F, live, f, real, T)
        x0, x0_t = load_rows(x, x_t, p * 4 * F + F, live, f, real, T)
        x1, x1_t = load_rows(x, x_t, p * 4 * F + 2 * F, live, f, real, T)
        x2, x2_t = load_rows(x, x_t, p * 4 * F + 3 * F, live, f, real, T)
        dk, dk_t = silu(xk, xk_t, T)
        d0, d0_t = silu(x0, x0_t, T)
        d1, d1_t = silu(x1, x1_t, T)
        d2, d2_t = silu(x2, x2_t, T)
        gk, gk_t, g0, g0_t, g1, g1_t, g2, g2_t, c, sx, sy, sz = _edge(
            low, high, (role & 1) != 0, p, dk, dk_t, d0, d0_t, d1, d1_t, d2, d2_t, grad_message,
            grad_vector, qkv, qkv_t, vec, vec_t, unit, unit_t, cutoff, cutoff_t, f, real, F, BH, BD,
            VECTORS, SCALED, T,
        )  # fmt: skip
        hk, hk_t, h0, h0_t, h1, h1_t, h2, h2_t, b, tx, ty, tz = _edge(
            high, low, (role & 2) != 0, p, dk, dk_t, d0, d0_t, d1, d1_t, d2, d2_t, grad_message,
            grad_vector, qkv, qkv_t, vec, vec_t, unit, unit_t, cutoff, cutoff_t, f, real, F, BH, BD,
            VECTORS, SCALED, T,
        )  # fmt: skip
        at, mask = (e * 4 * F)[:, None] + f[None, :], written[:, None] & real[None, :]
        _store_gradient(x, x_t, at, mask, xk, xk_t, gk + hk, gk_t + hk_t, T)
        _store_gradient(x, x_t, at + F, mask, x0, x0_t, g0 + h0, g0_t + h0_t, T)
        _store_gradient(x, x_t, at + 2 * F, mask, x1, x1_t, g1 + h1, g1_t + h1_t, T)
        _store_gradient(x, x_t, at + 3 * F, mask, x2, x2_t, g2 + h2, g2_t + h2_t, T)
        if GEOMETRY:
            near += tl.sum(c + b, axis=1)
            ux += tl.sum(sx + tx, axis=1)
            uy += tl.sum(sy + ty, axis=1)
            uz += tl.sum(sz + tz, axis=1)
    if GEOMETRY:
        tl.store(grad_cutoff + e, near, mask=held)
        tl.store(grad_unit + 3 * e, ux, mask=held)
        tl.store(grad_unit + 3 * e + 1, uy, mask=held)
        tl.store(grad_unit + 3 * e + 2, uz, mask=held)


@triton.jit(do_not_specialize=["PAIRS"])
def join_loops(
    values, atoms, pairs, PAIRS, WIDTH: tl.constexpr, TILE: tl.constexpr, LANES: tl.constexpr
):
    """Sum of the rows of a molecule's self loops, which follow those of pairs: its first pair's."""
    molecule = tl.program_id(0)
    start, stop = tl.load(atoms + molecule), tl.load(atoms + molecule + 1)
    f = tl.program_id(1) * LANES + tl.arange(0, LANES)
    real = f < WIDTH
    sums = tl.zeros((TILE, LANES), tl.float32)
    for first in range(start, stop, TILE):
        atom = first + tl.arange(0, TILE)
        sums += load_given(values, (PAIRS + atom) * WIDTH, atom < stop, f, real)
    at = tl.load(pairs + molecule) * WIDTH + f
    tl.store(values + at, tl.sum(sums, axis=0), mask=real)
