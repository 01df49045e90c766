"""Equivariant whitening of vector features (PVD's ``EquivariantLayerNorm``), smooth everywhere.

In torch operations: with A = C Cᵀ/F + ε·1 = L Lᵀ (Cholesky), ``A^{-1/2} L`` is the orthogonal polar
factor of L, and Cayley-Hamilton gives it as a rational function of L and the invariants of A^{1/2}.
No eigenvector occurs, so it is smooth where eigenvalues coincide (planar, linear and single-atom
molecules), where the gradient of an SVD or an eigendecomposition is not defined.

The condition number of A is the square of that of C. So the Cholesky factor is taken in two steps
(CholeskyQR2): a first one, constant for derivatives, makes the vectors nearly white; what is then
left to whiten, and to differentiate, is well conditioned. Rounding grows with the root of the
condition number of A.

On CPUs ``whiten.cpp`` does the same an atom at a time: with the eigenvectors of A^{1/2}, of which
no derivative is taken. Those of A^{1/2} itself come from implicit functions, whose equation is
solved in the eigenvectors and divides by sums of eigenvalues, never by differences.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from georecon.models import native
from georecon.models.norm import NormOperation


def polar_factor(lower: Tensor) -> Tensor:
    """Orthogonal factor W of ``L = P W`` with P = (L Lᵀ)^{1/2}, for lower triangular L.

    ``W = (i1 cof(L) + (i1² − i2) L − L Lᵀ L) / (i1 i2 − i3)`` with the invariants i of P. The
    denominator is the product of the three sums of two singular values.

    Args:
        lower: (N, 3, 3) with positive diagonal, so that ``i3 = det L`` suffers no cancellation.
    """
    one, two, three = lower.unbind(-2)
    cross = torch.linalg.cross
    cofactors = torch.stack([cross(two, three), cross(three, one), cross(one, two)], dim=-2)
    i3 = lower.diagonal(dim1=-2, dim2=-1).prod(-1)
    i1, i2 = _root_invariants(lower.square().sum((-2, -1)), cofactors.square().sum((-2, -1)), i3)
    numerator = i1[:, None, None] * cofactors + (i1**2 - i2)[:, None, None] * lower
    numerator = numerator - lower @ lower.mT @ lower
    return numerator / (i1 * i2 - i3)[:, None, None]


def _root_invariants(trace: Tensor, second: Tensor, i3: Tensor) -> tuple[Tensor, Tensor]:
    """First two invariants of P from those of P² and the third of P: (N,) each.

    They obey ``i1² = I1 + 2 i2`` and ``i2² = I2 + 2 i3 i1``. Inserting one into the other contracts
    by at least 9 a step, whatever the singular values; Newton steps finish. The last two carry the
    derivatives: exact to third order.
    """
    with torch.no_grad():
        i1 = (3.0 * trace).sqrt()
        for _ in range(3):
            i2 = (second + 2.0 * i3 * i1).sqrt()
            i1 = (trace + 2.0 * i2).sqrt()
        for _ in range(2):
            i1, i2 = _newton(i1, i2, trace, second, i3)
    for _ in range(2):
        i1, i2 = _newton(i1, i2, trace, second, i3)
    return i1, i2


def _newton(
    i1: Tensor, i2: Tensor, trace: Tensor, second: Tensor, i3: Tensor
) -> tuple[Tensor, Tensor]:
    """One Newton step on both equations."""
    error1 = i1**2 - trace - 2.0 * i2
    error2 = i2**2 - second - 2.0 * i3 * i1
    scale = 2.0 * (i1 * i2 - i3)
    return i1 - (i2 * error1 + error2) / scale, i2 - (i3 * error1 + i1 * error2) / scale


class WhitenedVectorNorm(nn.Module):
    """Whiten the vector features of each atom over channels, then weight each channel.

    Lineage: PVD ``EquivariantLayerNorm`` (centre over channels, 3×3 covariance, inverse square
    root in float64, learnable weight per channel).
    DEVIATION: the covariance is regularised by ``eps · 1`` instead of ``eps · diag(1, 2, 3)``,
    which is not rotation equivariant; and no SVD, whose gradient is undefined for equal singular
    values.

    Args:
        channels: number of channels F.
        eps: regularisation of the covariance [squared units of the features].
    """

    def __init__(self, channels: int, eps: float = 1e-5) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(channels))
        self.eps = eps

    def forward(self, vec: Tensor) -> Tensor:
        """(N, 3, F) → (N, 3, F)."""
        if native.kernel(vec.device.type) != "native":
            return self.reference(vec)
        whitened: Tensor = _Whiten(self.eps).apply(vec, self.weight)[0]
        return whitened

    def reference(self, vec: Tensor) -> Tensor:
        """The same in torch operations."""
        centred = vec.to(torch.float64)
        centred = centred - centred.mean(-1, keepdim=True)
        first, inverse = self._nearly_white(centred.detach())
        white = inverse @ centred  # (N, 3, F), covariance near 1
        covariance = white @ white.mT / vec.shape[-1] + self.eps * (inverse @ inverse.mT)
        second = torch.linalg.cholesky_ex(covariance).L  # A = (first second)(first second)ᵀ
        rotation = polar_factor(first @ second)
        mix = torch.linalg.solve_triangular(second, rotation, upper=False, left=False)
        return (mix @ white).to(vec.dtype) * self.weight

    @torch.no_grad()
    def _nearly_white(self, centred: Tensor) -> tuple[Tensor, Tensor]:
        """A Cholesky factor of the covariance and its inverse, (N, 3, 3) each; any will do."""
        identity = torch.eye(3, dtype=centred.dtype, device=centred.device)
        covariance = centred @ centred.mT / centred.shape[-1] + self.eps * identity
        trace = covariance.diagonal(dim1=-2, dim2=-1).sum(-1)[:, None, None]
        factor = torch.linalg.cholesky_ex(covariance + 1e-14 * trace * identity).L
        return factor, torch.linalg.solve_triangular(factor, identity, upper=False)


class _Whiten(NormOperation):
    """``whiten.cpp``."""

    entry = "whitened_norm"
    inputs = ("vec", "weight")
    of_weights = frozenset({"weight"})
