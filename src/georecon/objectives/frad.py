"""Frad: hybrid noise, torsions first, then coordinates (Feng et al. 2023)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Annotated

from torch import Tensor
from torch.nn import functional

from georecon.graph import MolGraph
from georecon.keys import Key
from georecon.models.encoder import EquivariantTransformer
from georecon.models.heads import VectorHead
from georecon.noise import NoiseSource
from georecon.objectives import PretrainingObjective
from georecon.objectives._torsions import find_torsions, turn


@dataclass(frozen=True, kw_only=True, slots=True)
class Parameters:
    """Parameters of Frad."""

    sigma: Annotated[float, Key("standard deviation of the coordinate noise", "Å", above=0)]
    sigma_torsion: Annotated[
        float, Key("standard deviation of the torsion noise", "degrees", at_least=0)
    ]


class Objective(PretrainingObjective):
    """Predict the coordinate noise of a molecule whose torsions were turned before.

    Every rotatable bond is turned by a normal angle, then ``r̃ = r' + σ ε`` on all atoms; loss
    ``mean (ε̂(r̃) − ε)²``: the target is the coordinate noise alone. Molecules without rotatable
    bonds get coordinate noise only.

    Args:
        encoder: the encoder to train.
        parameters: of both noises.
    """

    def __init__(self, encoder: EquivariantTransformer, parameters: Parameters) -> None:
        super().__init__(encoder)
        self.sigma = parameters.sigma
        self.sigma_torsion = math.radians(parameters.sigma_torsion)
        self.head = VectorHead(encoder.settings.channels)

    def turned(self, graph: MolGraph, noise: NoiseSource) -> MolGraph:
        """The molecules with torsion noise; bond n of a molecule takes the number of its atom n."""
        torsions = find_torsions(graph)
        normal = noise.normal(graph, "torsion")[:, 0]
        angle = self.sigma_torsion * normal[graph.ptr[torsions.molecule] + torsions.number]
        return turn(graph, torsions, angle)

    def forward(self, graph: MolGraph, noise: NoiseSource) -> dict[str, Tensor]:
        """Loss on one batch."""
        noisy, epsilon = noise.displace(self.turned(graph, noise), "denoise", self.sigma)
        predicted = self.head(*self.encoder(noisy), noisy)
        loss = functional.mse_loss(predicted, epsilon)
        return {"loss": loss, "denoise": loss}
