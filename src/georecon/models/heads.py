"""Output heads on encoder features: scalar, dipole, spatial extent and per-atom vector.

Lineage: TorchMD-NET ``output_modules.py`` (gated equivariant blocks of PaiNN), with SliDe's
``ElectronicSpatialExtent2`` for the spatial extent. With 256 channels each head has about 345,000
parameters.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from georecon.graph import MolGraph, scatter_sum
from georecon.kernels.gates import activated_gate, safe_norm, with_lengths
from georecon.models.encoder import linear

if TYPE_CHECKING:
    from jaxtyping import Float

# Standard atomic weights [u], CIAAW 2021 abridged, H to Fm (the longest-lived
# isotope's mass number where there is none); index = atomic number.
_MASSES = """
    0 1.008 4.0026 6.94 9.0122 10.81 12.011 14.007 15.999 18.998 20.180 22.990 24.305 26.982
    28.085 30.974 32.06 35.45 39.95 39.098 40.078 44.956 47.867 50.942 51.996 54.938 55.845
    58.933 58.693 63.546 65.38 69.723 72.630 74.922 78.971 79.904 83.798 85.468 87.62 88.906
    91.224 92.906 95.95 97 101.07 102.91 106.42 107.87 112.41 114.82 118.71 121.76 127.60
    126.90 131.29 132.91 137.33 138.91 140.12 140.91 144.24 145 150.36 151.96 157.25 158.93
    162.50 164.93 167.26 168.93 173.05 174.97 178.49 180.95 183.84 186.21 190.23 192.22 195.08
    196.97 200.59 204.38 207.2 208.98 209 210 222 223 226 227 232.04 231.04 238.03 237 244 243
    247 247 251 252 257
"""


def masses() -> Tensor:
    """Atomic masses [u] by atomic number, (101,); Z = 0 has none."""
    return torch.tensor([float(mass) for mass in _MASSES.split()])


class GatedEquivariantBlock(nn.Module):
    """PaiNN's gated equivariant block: (N, F), (N, 3, F) → (N, O), (N, 3, O)."""

    def __init__(self, channels: int, outputs: int, *, activate: bool) -> None:
        super().__init__()
        self.vec1_proj = linear(channels, channels, bias=False)
        self.vec2_proj = linear(channels, outputs, bias=False)
        self.update_net = nn.Sequential(
            linear(2 * channels, channels), nn.SiLU(), linear(channels, 2 * outputs)
        )
        self.activate = activate

    def forward(
        self, x: Float[Tensor, "N F"], vec: Float[Tensor, "N 3 F"]
    ) -> tuple[Float[Tensor, "N O"], Float[Tensor, "N 3 O"]]:
        """Mix scalars with the norms of vectors; gate the vectors by the result."""
        update = self.update_net(with_lengths(x, self.vec1_proj(vec)))  # (N, 2O)
        vec = self.vec2_proj(vec)
        if self.activate:
            return activated_gate(update, vec)
        x, gate = update.chunk(2, dim=-1)  # one of both outputs may not be used, nor its gradient
        return x, gate[:, None] * vec


class GatedOutput(nn.Module):
    """Two gated blocks F → F/2 → 1: one scalar (N,) and one vector (N, 3) for each atom."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.first = GatedEquivariantBlock(channels, channels // 2, activate=True)
        self.second = GatedEquivariantBlock(channels // 2, 1, activate=False)

    def forward(
        self, x: Float[Tensor, "N F"], vec: Float[Tensor, "N 3 F"]
    ) -> tuple[Float[Tensor, " N"], Float[Tensor, "N 3"]]:
        """(N, F), (N, 3, F) → (N,), (N, 3)."""
        x, vec = self.second(*self.first(x, vec))
        return x[:, 0], vec[:, :, 0]


class ScalarHead(nn.Module):
    """Sum of atomic contributions: an extensive property of each molecule, (B,)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.output = GatedOutput(channels)

    def forward(
        self, x: Float[Tensor, "N F"], vec: Float[Tensor, "N 3 F"], graph: MolGraph
    ) -> Float[Tensor, " B"]:
        """(N, F), (N, 3, F) → (B,)."""
        atomic, _ = self.output(x, vec)
        return scatter_sum(atomic, graph.batch, graph.num_graphs)


class VectorHead(nn.Module):
    """One equivariant vector for each atom, (N, 3): predicted noise in units of its σ."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.output = GatedOutput(channels)

    def forward(
        self, x: Float[Tensor, "N F"], vec: Float[Tensor, "N 3 F"], graph: MolGraph
    ) -> Float[Tensor, "N 3"]:
        """(N, F), (N, 3, F) → (N, 3)."""
        return self.output(x, vec)[1]


class _CentredHead(nn.Module):
    """Base of heads that need positions about the centre of mass."""

    mass: Tensor

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.output = GatedOutput(channels)
        self.register_buffer("mass", masses(), persistent=False)

    def centred(self, graph: MolGraph) -> Tensor:
        """Positions relative to the centre of mass of each molecule [Å], (N, 3)."""
        mass = self.mass.to(graph.pos.dtype)[graph.z][:, None]
        total = scatter_sum(mass, graph.batch, graph.num_graphs)
        # Relative to the first atom first: far from the origin, float32 sums would lose digits.
        local = graph.pos - graph.pos[graph.ptr[:-1]][graph.batch]
        centre = scatter_sum(mass * local, graph.batch, graph.num_graphs) / total
        return local - centre[graph.batch]


class DipoleHead(_CentredHead):
    """Magnitude of the dipole, ``‖Σ_i q_i (r_i − r_COM) + v_i‖`` with predicted q and v, (B,)."""

    def forward(
        self, x: Float[Tensor, "N F"], vec: Float[Tensor, "N 3 F"], graph: MolGraph
    ) -> Float[Tensor, " B"]:
        """(N, F), (N, 3, F) → (B,)."""
        charge, vector = self.output(x, vec)
        atomic = charge[:, None] * self.centred(graph) + vector
        return safe_norm(scatter_sum(atomic, graph.batch, graph.num_graphs), dim=1)


class SpatialExtentHead(_CentredHead):
    """Electronic spatial extent, ``Σ_i q_i ‖r_i − r_COM‖²`` with predicted q, (B,)."""

    def forward(
        self, x: Float[Tensor, "N F"], vec: Float[Tensor, "N 3 F"], graph: MolGraph
    ) -> Float[Tensor, " B"]:
        """(N, F), (N, 3, F) → (B,)."""
        charge, _ = self.output(x, vec)
        atomic = charge * self.centred(graph).square().sum(-1)
        return scatter_sum(atomic, graph.batch, graph.num_graphs)


PROPERTY_HEADS: dict[str, type[nn.Module]] = {
    "scalar": ScalarHead,
    "dipole": DipoleHead,
    "spatial_extent": SpatialExtentHead,
}
"""Heads that a dataset card can name for a target."""
