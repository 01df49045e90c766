"""Gaussian kernels on distances: the first representation of atom pairs."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

from georecon.experiments.settings import UnimolSettings
from georecon.graph import MIN_DISTANCE, MolGraph
from georecon.models.encoder import linear
from georecon.models.unimol.dense import Dense

_SMALLEST_WIDTH = 1e-5  # [U]
_FAR = 60.0
"""Largest exponent of a kernel: beyond, its value would be a subnormal number, a hundred times as
slow to compute with."""
_EMPTY = -1e4
"""Attention logit of places without an atom: its exponential is exactly 0. [U] has minus infinity,
whose differences are not numbers."""


class GaussianKernels(nn.Module):
    """Distances of pairs → kernels → logits of each head [U].

    ``t = mul·d + bias`` with a factor and a shift of the ordered pair of elements; kernels
    ``exp(−(t − μ)² / 2σ²) / √(2π) σ`` with trained μ and σ; then two linear layers with GELU
    between.

    Args:
        settings: encoder sizes.
    """

    def __init__(self, settings: UnimolSettings) -> None:
        super().__init__()
        kernels = settings.kernels
        self.elements = settings.max_z
        self.affine = nn.Embedding(self.elements**2, 2)  # factor, shift
        self.means = nn.Parameter(torch.rand(kernels) * 3.0)  # [Å], as in [U]
        self.widths = nn.Parameter(torch.rand(kernels) * 3.0)
        self.first = linear(kernels, kernels)
        self.second = linear(kernels, settings.heads)
        with torch.no_grad():
            self.affine.weight.copy_(torch.tensor([1.0, 0.0]))

    def forward(self, graph: MolGraph, dense: Dense) -> Tensor:
        """Logits of all pairs, (B, H, A, A); places without an atom are closed."""
        vector = graph.pos[dense.second] - graph.pos[dense.first]  # (P, 3)
        length = vector.square().sum(-1).clamp(min=MIN_DISTANCE**2).sqrt()
        kind = graph.z[dense.first] * self.elements + graph.z[dense.second]
        factor, shift = self.affine(kind).unbind(-1)
        # The kernels' exponent as one product with a bias, their height in the next layer's weight.
        inverse = math.sqrt(0.5) / (self.widths.abs() + _SMALLEST_WIDTH)  # (K,)
        scaled = torch.addcmul(shift, factor, length)[:, None]
        scaled = functional.linear(scaled, inverse[:, None], -self.means * inverse)  # (P, K)
        height = inverse / math.sqrt(math.pi)
        hidden = functional.linear(
            (-scaled.square().clamp(max=_FAR)).exp(), self.first.weight * height, self.first.bias
        )
        logits = self.second(functional.gelu(hidden))  # (P, H)
        shape = (dense.molecules, dense.size, dense.size, logits.shape[-1])
        closed = logits.new_full((math.prod(shape[:3]), shape[3]), _EMPTY)
        return closed.index_copy(0, dense.pair, logits).view(shape).permute(0, 3, 1, 2)
