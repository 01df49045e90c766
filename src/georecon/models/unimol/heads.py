"""Heads on Uni-Mol's features: a property, and what its pre-training restores [U]."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from georecon.graph import MolGraph, pool_mean
from georecon.models.encoder import linear
from georecon.models.unimol.encoder import Passed


class PropertyHead(nn.Module):
    """One property of each molecule, (B,): linear, tanh, linear on the molecule's code.

    [U]'s classification head, which reads the [CLS] token; DEVIATION: the mean of all tokens.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.first = linear(channels, channels)
        self.second = linear(channels, 1)

    def forward(self, x: Tensor, vec: None, graph: MolGraph) -> Tensor:
        """Features (N, F) → (B,)."""
        return self.second(torch.tanh(self.first(pool_mean(x, graph))))[:, 0]


class TokenHead(nn.Module):
    """Logits of each element for an atom, (M, max_z)."""

    def __init__(self, channels: int, max_z: int) -> None:
        super().__init__()
        self.first = linear(channels, channels)
        self.norm = nn.LayerNorm(channels)
        self.second = linear(channels, max_z)

    def forward(self, x: Tensor) -> Tensor:
        """Features (M, F) → (M, max_z)."""
        return self.second(self.norm(functional.gelu(self.first(x))))


class CoordinateHead(nn.Module):
    """Positions of atoms, moved along the lines to their partners.

    ``x_i + Σ_j (x_j − x_i) w_ij / N`` with weights from the change of the pair representation;
    N atoms in the molecule ([U] counts [CLS] and [SEP] too).
    """

    def __init__(self, heads: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(heads)
        self.first = linear(heads, heads)
        self.second = linear(heads, 1)

    def forward(self, passed: Passed, graph: MolGraph, atoms: Tensor) -> Tensor:
        """Positions [Å] of some atoms, (M, 3).

        Args:
            passed: of the pass.
            graph: molecules as the pass saw them.
            atoms: which, (M,) int64.
        """
        change = self.norm(passed.dense.rows(passed.change, atoms))
        weight = self.second(functional.gelu(self.first(change)))[..., 0]  # (M, A)
        partners, there = passed.dense.partners(graph, atoms)
        own = graph.pos[atoms]
        weight = weight * there / there.sum(1, keepdim=True)
        return own + torch.einsum("ma,mac->mc", weight, graph.pos[partners] - own[:, None])


class DistanceHead(nn.Module):
    """Standardised distances of atoms to all atoms of their molecules, from the pairs' logits."""

    def __init__(self, heads: int) -> None:
        super().__init__()
        self.first = linear(heads, heads)
        self.norm = nn.LayerNorm(heads)
        self.second = linear(heads, 1)

    def forward(self, passed: Passed, atoms: Tensor) -> Tensor:
        """Half the sum of both directions of each pair, for some atoms (M,): (M, A)."""
        ways = (passed.pairs, passed.pairs.transpose(1, 2))
        rows = torch.stack([passed.dense.rows(way, atoms) for way in ways])  # (2, M, A, H)
        return self.second(self.norm(functional.gelu(self.first(rows)))).mean(0)[..., 0]
