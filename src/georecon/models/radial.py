"""Radial functions of distance: cosine cutoff and exponential-normal basis."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn


def cosine_cutoff(length: Tensor, cutoff: float) -> Tensor:
    """``(cos(π d / d_cut) + 1) / 2`` inside the cutoff, 0 outside: (E,) → (E,) (Behler 2011)."""
    inside = (length < cutoff).to(length.dtype)
    return 0.5 * (torch.cos(length * (math.pi / cutoff)) + 1.0) * inside


class ExpNormalBasis(nn.Module):
    """Exponential-normal radial basis with fixed centres and widths (PhysNet; TorchMD-NET's
    default).

    ``φ_k(d) = cutoff(d) · exp(−β_k (exp(−α d) − μ_k)²)`` with ``α = 5 / d_cut``.

    Args:
        cutoff: cutoff distance [Å].
        size: number of functions K.
    """

    means: Tensor
    betas: Tensor

    def __init__(self, cutoff: float, size: int) -> None:
        super().__init__()
        self.cutoff, self.alpha = cutoff, 5.0 / cutoff
        start = math.exp(-cutoff)
        means = torch.linspace(start, 1.0, size)
        betas = torch.full((size,), (2.0 / size * (1.0 - start)) ** -2)
        self.register_buffer("means", means, persistent=False)
        self.register_buffer("betas", betas, persistent=False)

    def forward(self, length: Tensor) -> Tensor:
        """Distances [Å] (E,) → basis (E, K)."""
        centred = torch.exp(-self.alpha * length)[:, None] - self.means  # (E, K)
        return cosine_cutoff(length, self.cutoff)[:, None] * torch.exp(-self.betas * centred**2)
