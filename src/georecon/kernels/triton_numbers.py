"""Numbers of the Triton kernels: each with its tangent, by channels and heads.

An array and its tangent (the derivative along a direction of the inputs, ``_t``) go together, as in
``numbers.h``. Where ``T`` is off, the place of the tangent is taken by the value itself, so that
what is written is always the second of two; the compiler then drops the first.

A program has the channels of whole heads as a row of BH · BD lanes: heads and channels of a head,
padded to powers of two. Blocks are TILE such rows.
"""

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def mul(a, a_t, b, b_t, T: tl.constexpr):
    value = a * b
    tangent = value
    if T:
        tangent = a_t * b + a * b_t
    return value, tangent


@triton.jit
def mul_t(a, a_t, b, b_t, T: tl.constexpr):
    """What is written of a product."""
    _value, tangent = mul(a, a_t, b, b_t, T)
    return tangent


@triton.jit
def silu(x, x_t, T: tl.constexpr):
    gate = tl.sigmoid(x)
    value = x * gate
    tangent = value
    if T:
        tangent = gate * (1.0 + x * (1.0 - gate)) * x_t
    return value, tangent


@triton.jit
def silu_slope(x, x_t, T: tl.constexpr):
    """Derivative of SiLU."""
    gate = tl.sigmoid(x)
    value = gate * (1.0 + x * (1.0 - gate))
    tangent = value
    if T:
        tangent = gate * (1.0 - gate) * (2.0 + x * (1.0 - 2.0 * gate)) * x_t
    return value, tangent


@triton.jit
def load(array, array_t, at, mask, T: tl.constexpr):
    """Numbers where the mask is, else 0."""
    value = tl.load(array + at, mask=mask, other=0.0)
    tangent = value
    if T:
        tangent = tl.load(array_t + at, mask=mask, other=0.0)
    return value, tangent


@triton.jit
def load_row(array, array_t, start, f, real, T: tl.constexpr):
    """Channels of one atom, (1, BH · BD)."""
    return load(array, array_t, start + f[None, :], real[None, :], T)


@triton.jit
def load_rows(array, array_t, start, live, f, real, T: tl.constexpr):
    """Channels from several places, (TILE, BH · BD); zeros where not live."""
    mask = live[:, None] & real[None, :]
    return load(array, array_t, start[:, None] + f[None, :], mask, T)


@triton.jit
def load_given(array, start, live, f, real):
    """The same of an array without tangent."""
    mask = live[:, None] & real[None, :]
    return tl.load(array + start[:, None] + f[None, :], mask=mask, other=0.0)


@triton.jit
def load_filters(x, x_t, start, live, f, real, T: tl.constexpr):
    """Filters of pairs from their linear part, (TILE, BH · BD)."""
    value, tangent = load_rows(x, x_t, start, live, f, real, T)
    return silu(value, tangent, T)


@triton.jit
def load_arrow(unit, unit_t, pair, live, length, length_t, T: tl.constexpr):
    """Unit vectors of pairs times a length with sign, three of (TILE, 1)."""
    at, mask = 3 * pair[:, None], live[:, None]
    x, x_t = load(unit, unit_t, at, mask, T)
    y, y_t = load(unit, unit_t, at + 1, mask, T)
    z, z_t = load(unit, unit_t, at + 2, mask, T)
    x, x_t = mul(x, x_t, length, length_t, T)
    y, y_t = mul(y, y_t, length, length_t, T)
    z, z_t = mul(z, z_t, length, length_t, T)
    return x, x_t, y, y_t, z, z_t


@triton.jit
def load_cutoff(cutoff, cutoff_t, pair, live, SCALED: tl.constexpr, T: tl.constexpr):
    """Cutoff of pairs, and what the vectors' values are multiplied by, (TILE, 1) each."""
    c, c_t = load(cutoff, cutoff_t, pair[:, None], live[:, None], T)
    near, near_t = c, c_t
    if not SCALED:
        near = tl.zeros_like(c) + 1.0
        near_t = near
        if T:
            near_t = tl.zeros_like(c)
    return c, c_t, near, near_t


# ---- channels and heads --------------------------------------------------------------------------


@triton.jit
def channels_of(block, F: tl.constexpr, D: tl.constexpr, BH: tl.constexpr, BD: tl.constexpr):
    """Channels of a block of heads, (BH · BD,), and which of them there are."""
    lane = tl.arange(0, BH * BD)
    if BD == D:  # said apart, so that the compiler sees consecutive numbers
        f = block * (BH * BD) + lane
        real = f < F
    else:
        h, d = block * BH + lane // BD, lane % BD
        f = h * D + d
        real = (d < D) & (f < F)
    return f, real


@triton.jit
def sums_of_heads(x, BH: tl.constexpr, BD: tl.constexpr):
    """(TILE, BH · BD) → (TILE, BH)."""
    return tl.sum(tl.reshape(x, (x.shape[0], BH, BD)), axis=2)


@triton.jit
def to_channels(x, BH: tl.constexpr, BD: tl.constexpr):
    """A number of each head for all its channels: (TILE, BH) → (TILE, BH · BD)."""
    wide = tl.broadcast_to(x[:, :, None], (x.shape[0], BH, BD))
    return tl.reshape(wide, (x.shape[0], BH * BD))


@triton.jit
def attend(qkd, qkd_t, c, c_t, BH: tl.constexpr, BD: tl.constexpr, T: tl.constexpr):
    """Attention weights from q k d_k, the same for all channels of a head."""
    score, score_t = sums_of_heads(qkd, BH, BD), sums_of_heads(qkd_t, BH, BD)
    w, w_t = silu(score, score_t, T)
    w, w_t = mul(w, w_t, c, c_t, T)
    return to_channels(w, BH, BD), to_channels(w_t, BH, BD)


@triton.jit
def score_gradient(
    qkd, qkd_t, gvd, gvd_t, c, c_t, BH: tl.constexpr, BD: tl.constexpr, T: tl.constexpr
):
    """Gradient of the score from q k d_k and grad · v⁰ d_0, the same for a head's channels."""
    score, score_t = sums_of_heads(qkd, BH, BD), sums_of_heads(qkd_t, BH, BD)
    back, back_t = sums_of_heads(gvd, BH, BD), sums_of_heads(gvd_t, BH, BD)
    slope, slope_t = silu_slope(score, score_t, T)
    back, back_t = mul(back, back_t, c, c_t, T)
    back, back_t = mul(back, back_t, slope, slope_t, T)
    return to_channels(back, BH, BD), to_channels(back_t, BH, BD)
