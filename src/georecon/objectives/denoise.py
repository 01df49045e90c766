"""Coord: node-level denoising of coordinates (PVD, Zaidi et al. 2023), the paper's baseline."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, NamedTuple

from torch import Tensor

from georecon.graph import MolGraph, mse_of_atoms
from georecon.keys import Key
from georecon.models.encoder import EdgeFeatures, EquivariantTransformer
from georecon.models.heads import VectorHead
from georecon.noise import NoiseSource
from georecon.objectives import PretrainingObjective


@dataclass(frozen=True, kw_only=True, slots=True)
class Parameters:
    """Parameters of Coord."""

    sigma: Annotated[float, Key("standard deviation of the noise", "Å", above=0)]
    sigma_strong: Annotated[
        float | None,
        Key(
            "of half of the molecules at each step, drawn anew; null: all have `sigma`",
            "Å",
            above=0,
        ),
    ] = None


class _Inputs(NamedTuple):
    """Noisy molecules, their noise (N, 3) and their edges."""

    noisy: MolGraph
    epsilon: Tensor
    edges: EdgeFeatures


class Objective(PretrainingObjective):
    """Predict, for each atom, the Gaussian noise added to its position.

    ``r̃ = r + σ ε`` on all atoms, centre of mass not removed; loss ``mean (ε̂(r̃) − ε)²``.
    DEVIATION: the target is divided by the known σ, where PVD divides by running statistics of the
    noise: the same in expectation, and nothing to carry over to fine-tuning.

    Args:
        encoder: the encoder to train.
        parameters: of the noise.
    """

    encoder: EquivariantTransformer
    separable = True

    def __init__(self, encoder: EquivariantTransformer, parameters: Parameters) -> None:
        super().__init__(encoder)
        self.params = parameters
        self.head = VectorHead(encoder.settings.channels)

    def inputs(self, graph: MolGraph, noise: NoiseSource) -> _Inputs:
        """Noisy molecules."""
        sigma: float | Tensor = self.params.sigma
        if self.params.sigma_strong is not None:
            strong = noise.uniform(graph, "strength")[graph.batch, None] < 0.5
            both = graph.pos.new_tensor([self.params.sigma, self.params.sigma_strong])
            sigma = both[strong.long()]
        noisy, epsilon = noise.displace(graph, "denoise", sigma)
        return _Inputs(noisy, epsilon, self.encoder.edges(noisy))

    def losses(self, inputs: _Inputs) -> dict[str, Tensor]:
        """Loss on one batch."""
        predicted = self.head(*self.encoder(inputs.noisy, inputs.edges), inputs.noisy)
        loss = mse_of_atoms(predicted, inputs.epsilon, inputs.noisy)
        return {"loss": loss, "denoise": loss}
