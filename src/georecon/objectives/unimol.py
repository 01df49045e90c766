"""Uni-Mol's pre-training, and GeoRecon on it as the authors' earlier code GeoRCG has it.

[U] and [G]: what comes from Uni-Mol and from GeoRCG (:mod:`georecon.models.unimol`).
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Annotated, ClassVar

from torch import Tensor, nn

from georecon.graph import MolGraph
from georecon.keys import Key
from georecon.models.unimol.encoder import UnimolEncoder
from georecon.noise import NoiseSource
from georecon.objectives import PretrainingObjective
from georecon.objectives._reconstruction import GraphCode, mlp
from georecon.objectives._unimol import Masking, Restoration, mask


@dataclass(frozen=True, kw_only=True, slots=True)
class Weights:
    """Weights of the losses, named as the losses."""

    token: Annotated[float, Key("of the elements of hidden atoms", at_least=0)]
    coordinate: Annotated[float, Key("of their coordinates (smooth L1, Å)", at_least=0)]
    distance: Annotated[float, Key("of their distances (smooth L1, standardised)", at_least=0)]
    atom_norm: Annotated[float, Key("of norms of tokens far from √F", at_least=0)]
    pair_norm: Annotated[float, Key("of norms of the pairs' change far from √H", at_least=0)]


@dataclass(frozen=True, kw_only=True, slots=True)
class Parameters:
    """Parameters of Uni-Mol's objective."""

    encoder: ClassVar[str] = "unimol"

    mask: Annotated[float, Key("part of the atoms that are hidden", above=0, at_most=0.5)]
    noise: Annotated[
        float, Key("half width of the uniform noise on their coordinates", "Å", at_least=0)
    ]
    kept: Annotated[float, Key("part of them left as they are", at_least=0, at_most=0.5)]
    random: Annotated[
        float, Key("part of them that become a random element", at_least=0, at_most=0.5)
    ]
    distance_mean: Annotated[float, Key("subtracted from distances", "Å", at_least=0)]
    distance_std: Annotated[float, Key("that distances are then divided by", "Å", above=0)]
    weights: Annotated[Weights, Key("of the losses")]
    difficulty: Annotated[
        float | None,
        Key(
            "GeoRecon: a second pass with so many times the noise and the hidden atoms, guided by "
            "the code of the clean molecule; null: no such pass",
            at_least=1,
            at_most=2,
        ),
    ] = None


class Objective(PretrainingObjective):
    """Restore hidden atoms; with ``difficulty`` twice, the second time guided by a graph code.

    Without: one pass over masked molecules, Uni-Mol's losses. With [G]: three passes of one
    encoder; the clean molecule's tokens give the code (mean, MLP, normalisation without
    parameters), which another MLP adds to the embeddings of the pass with more noise and more
    hidden atoms; both passes have the same heads and losses, and count the same. The gradient
    flows through the clean pass.
    DEVIATION: the mean is over atoms; [G] has [CLS], [SEP] and padding in it.

    Args:
        encoder: the encoder to train.
        parameters: of masking and losses.
    """

    encoder: UnimolEncoder

    def __init__(self, encoder: UnimolEncoder, parameters: Parameters) -> None:
        super().__init__(encoder)
        self.params = parameters
        sizes = encoder.settings
        mean, deviation = parameters.distance_mean, parameters.distance_std
        self.restoration = Restoration(sizes, mean, deviation)
        if parameters.difficulty is not None:
            self.graph_code = GraphCode(sizes.channels, "mean", nn.GELU)
            self.guide_mlp = mlp(sizes.channels, nn.GELU)

    def forward(self, graph: MolGraph, noise: NoiseSource) -> dict[str, Tensor]:
        """Loss and its parts; those of the guided pass have ``guided_`` before their names."""
        losses = self._restore(graph, noise, 1.0, None)
        total = self._weighted(losses)
        if self.params.difficulty is not None:
            guide = self.guide_mlp(self.code(graph))
            guided = self._restore(graph, noise, self.params.difficulty, guide)
            total = total + self._weighted(guided)
            losses |= {f"guided_{name}": value for name, value in guided.items()}
        return {"loss": total, **losses}

    def code(self, graph: MolGraph) -> Tensor:
        """Graph codes of clean molecules, (B, F)."""
        found: Tensor = self.graph_code(self.encoder(graph)[0], graph)
        return found

    def _restore(
        self, graph: MolGraph, noise: NoiseSource, factor: float, guide: Tensor | None
    ) -> dict[str, Tensor]:
        """Losses of one pass with ``factor`` times the noise and the hidden atoms."""
        params = self.params
        stream = "unimol_noise" if guide is None else "unimol_guided"
        share = factor * params.mask
        masking = Masking(share, factor * params.noise, params.kept, params.random, stream)
        masked = mask(graph, noise, masking, self.encoder.settings.max_z)
        passed = self.encoder.pass_through(masked.graph, guide)
        found: dict[str, Tensor] = self.restoration(passed, masked, graph, share)
        return found

    def _weighted(self, losses: dict[str, Tensor]) -> Tensor:
        weights = self.params.weights
        parts = [getattr(weights, one.name) * losses[one.name] for one in fields(weights)]
        return sum(parts[1:], parts[0])
