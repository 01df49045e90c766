"""Norms of atoms' features: layer norm of scalars, whitening of vectors, smooth everywhere.

Whitening (PVD's ``EquivariantLayerNorm``) in torch operations: with A = C Cᵀ/F + ε·1 = L Lᵀ
(Cholesky), ``A^{-1/2} L`` is the orthogonal polar factor of L, and Cayley-Hamilton gives it as a
rational function of L and the invariants of A^{1/2}. No eigenvector occurs, so it is smooth where
eigenvalues coincide (planar, linear and single-atom molecules), where the gradient of an SVD or an
eigendecomposition is not defined.

The condition number of A is the square of that of C. So the Cholesky factor is taken in two steps
(CholeskyQR2): a first one, constant for derivatives, makes the vectors nearly white; what is then
left to whiten, and to differentiate, is well conditioned. Rounding grows with the root of the
condition number of A.

On CPUs ``whiten.cpp`` does the same, one atom after the other, with the eigenvectors of A^{1/2}.
Those are not differentiated: A^{1/2} is an implicit function of A, and the equation for its
derivative, solved in the eigenvectors, divides by sums of eigenvalues, never by differences.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from georecon.kernels import native
from georecon.kernels.norm import LayerNormOperation, WhitenedNormOperation
from georecon.kernels.reference import polar_factor

if TYPE_CHECKING:
    from jaxtyping import Float


class WhitenedVectorNorm(nn.Module):
    """Whiten the vector features of each atom over channels, then weight each channel.

    Lineage: PVD ``EquivariantLayerNorm`` (centre over channels, 3×3 covariance, inverse square
    root in float64, learnable weight per channel).
    DEVIATION: the covariance is regularised by ``eps · 1`` instead of ``eps · diag(1, 2, 3)``,
    which is not rotation equivariant; and there is no SVD, whose gradient is undefined where
    singular values are equal.

    Args:
        channels: number of channels F.
        eps: regularisation of the covariance [squared units of the features].
    """

    def __init__(self, channels: int, eps: float = 1e-5) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(channels))
        self.eps = eps

    def forward(self, vec: Float[Tensor, "N 3 F"]) -> Float[Tensor, "N 3 F"]:
        """(N, 3, F) → (N, 3, F)."""
        if native.kernel(vec.device.type) != "native":
            return self.reference(vec)
        whitened: Tensor = WhitenedNormOperation(self.eps).apply(vec, self.weight)[0]
        return whitened

    def reference(self, vec: Float[Tensor, "N 3 F"]) -> Float[Tensor, "N 3 F"]:
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
        """A Cholesky factor of the covariance and its inverse, (N, 3, 3) each.

        It need not be exact: what it leaves to whiten is whitened by the second factor.
        """
        identity = torch.eye(3, dtype=centred.dtype, device=centred.device)
        covariance = centred @ centred.mT / centred.shape[-1] + self.eps * identity
        trace = covariance.diagonal(dim1=-2, dim2=-1).sum(-1)[:, None, None]
        factor = torch.linalg.cholesky_ex(covariance + 1e-14 * trace * identity).L
        return factor, torch.linalg.solve_triangular(factor, identity, upper=False)


class LayerNorm(nn.LayerNorm):
    """``nn.LayerNorm`` over F channels; on CPUs ``norm.cpp`` computes it.

    Training on forces needs its second derivative, which torch composes of thirty operations.
    """

    def __init__(self, channels: int, eps: float = 1e-5, dtype: torch.dtype | None = None) -> None:
        super().__init__(channels, eps, dtype=dtype)

    def forward(self, input: Float[Tensor, "N F"]) -> Float[Tensor, "N F"]:
        """(N, F) → (N, F)."""
        if native.kernel(input.device.type) != "native":
            return super().forward(input)
        normed: Tensor = LayerNormOperation(self.eps).apply(input, self.weight, self.bias)[0]
        return normed
