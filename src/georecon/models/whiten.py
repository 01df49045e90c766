"""Equivariant whitening of vector features (PVD's ``EquivariantLayerNorm``), free of eigenvectors.

For a symmetric positive definite 3×3 matrix A with U = A^{1/2}, Cayley-Hamilton gives U and U⁻¹
from A and the three invariants of U, and those invariants obey ``i1² = I1 + 2 i2`` and ``i2² = I2
+ 2 i3 i1`` with ``i3 = √I3``, where I are the invariants of A. Iterating ``i1 ← √(I1 + 2 √(I2 + 2
i3 i1))`` contracts by at least 9 a step, whatever the eigenvalues. Two Newton steps at the fixed
point then carry
the derivatives: exact to third order, also where eigenvalues coincide (planar, linear and
single-atom molecules), where the gradient of an SVD or eigendecomposition is not defined.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

_ITERATIONS = 18  # 9**-18 < 1e-17: float64 rounding


def inverse_sqrt_3x3(matrix: Tensor) -> Tensor:
    """Inverse square root of symmetric positive definite (N, 3, 3), in float64."""
    square = matrix @ matrix
    trace = matrix.diagonal(dim1=-2, dim2=-1).sum(-1)  # (N,) first invariant
    second = 0.5 * (trace**2 - square.diagonal(dim1=-2, dim2=-1).sum(-1))
    i3 = _determinant(matrix).clamp(min=1e-300).sqrt()
    i1 = _first_invariant_of_root(trace, second, i3)
    i2 = (second + 2.0 * i3 * i1).sqrt()
    identity = torch.eye(3, dtype=matrix.dtype, device=matrix.device)
    i1, i2, i3 = i1[:, None, None], i2[:, None, None], i3[:, None, None]
    root = (i1 * i3 * identity + (i1**2 - i2) * matrix - square) / (i1 * i2 - i3)
    return (matrix - i1 * root + i2 * identity) / i3


def _first_invariant_of_root(trace: Tensor, second: Tensor, i3: Tensor) -> Tensor:
    """tr(A^{1/2}) from the invariants of A, (N,): the root of ``(i1² − I1)²/4 = I2 + 2 i3 i1``."""
    with torch.no_grad():
        i1 = (3.0 * trace).sqrt()
        for _ in range(_ITERATIONS):
            i1 = (trace + 2.0 * (second + 2.0 * i3 * i1).sqrt()).sqrt()
    for _ in range(2):
        excess = i1**2 - trace
        i1 = i1 - (0.25 * excess**2 - second - 2.0 * i3 * i1) / (i1 * excess - 2.0 * i3)
    return i1


def _determinant(m: Tensor) -> Tensor:
    """Determinant of symmetric positive definite (N, 3, 3) as the product of its LDLᵀ pivots.

    Cofactors would lose κ² digits to cancellation, pivots lose κ, the condition number.
    """
    pivot1 = m[:, 0, 0]
    pivot2 = m[:, 1, 1] - m[:, 0, 1] ** 2 / pivot1
    off = m[:, 1, 2] - m[:, 0, 1] * m[:, 0, 2] / pivot1
    pivot3 = m[:, 2, 2] - m[:, 0, 2] ** 2 / pivot1 - off**2 / pivot2
    return pivot1 * pivot2 * pivot3


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
        centred = vec.to(torch.float64)
        centred = centred - centred.mean(-1, keepdim=True)
        identity = torch.eye(3, dtype=torch.float64, device=vec.device)
        covariance = centred @ centred.transpose(1, 2) / vec.shape[-1] + self.eps * identity
        return (inverse_sqrt_3x3(covariance) @ centred).to(vec.dtype) * self.weight
