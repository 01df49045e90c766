"""GeoRecon's reconstruction as a conditioned pass: the code modulates every layer of an encoder.

Other readings of the public text than ``reconstruct`` (docs/method.md, "Readings"), by parameters:

* a clean side ``r`` or ``r + σ_clean ξ`` → node scalars, pooled to the graph code; with noise on
  the clean side a denoising head reads ξ off the same pass, without it off a pass at ``r + σ ε'``;
* a noisy side, the clean side ``+ σ_rec ε``, through an encoder whose features the code modulates
  after the embedding and after each layer (Perez et al. 2018; SCD conditions ET layers so) → ε.
  It is the same encoder, or one of its own that is forgotten like a decoder.

Passes for the reconstruction are made at every ``every``-th step only: what they cost is part of a
method. Loss ``MSE(denoise) + w·MSE(reconstruct)``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, NamedTuple

from torch import Tensor, nn
from torch.nn import functional

from georecon.graph import MolGraph
from georecon.kernels.gates import modulate
from georecon.keys import Key
from georecon.models.encoder import EquivariantTransformer, Modulate, linear
from georecon.models.heads import VectorHead
from georecon.noise import NoiseSource
from georecon.objectives import PretrainingObjective
from georecon.objectives._reconstruction import SOURCES, GraphCode, mlp, usage


@dataclass(frozen=True, kw_only=True, slots=True)
class Parameters:
    """Parameters of the conditioned reconstruction."""

    sigma: Annotated[float, Key("noise that the denoising head predicts", "Å", above=0)]
    clean_noise: Annotated[
        bool,
        Key(
            "whether the clean side carries that noise; if not, the denoising head has a pass of "
            "its own"
        ),
    ]
    sigma_rec: Annotated[
        float, Key("noise of the noisy side on top of the clean one", "Å", above=0)
    ]
    own_encoder: Annotated[
        bool, Key("whether the noisy side has an encoder of its own, of the same size")
    ]
    dropout: Annotated[
        float, Key("part of the molecules whose code is zero in training", at_least=0, at_most=0.9)
    ]
    every: Annotated[int, Key("steps between two reconstructions", at_least=1)]
    weight: Annotated[float, Key("of the reconstruction, at those steps", above=0)]
    code: Annotated[
        str,
        Key(
            "whose code is given in training; another molecule's, or zeros, are controls",
            choices=tuple(SOURCES),
        ),
    ]


class _Sides(NamedTuple):
    """Code of the clean side (B, F), and the noisy side with its noise (N, 3)."""

    code: Tensor
    noisy: MolGraph
    epsilon: Tensor


class Objective(PretrainingObjective):
    """Denoising, and reconstruction by a pass that the code of the clean side conditions.

    Args:
        encoder: the encoder to train.
        parameters: noise, passes and weights.
    """

    encoder: EquivariantTransformer

    def __init__(self, encoder: EquivariantTransformer, parameters: Parameters) -> None:
        super().__init__(encoder)
        settings = encoder.settings
        self.params = parameters
        self.graph_code = GraphCode(settings.channels, "mean")
        self.code_mlp = mlp(settings.channels)
        places = range(settings.layers + 1)
        self.modulation = nn.ModuleList(
            linear(settings.channels, (3 if place else 2) * settings.channels) for place in places
        )  # before the first layer vectors are zero
        self.denoise_head = VectorHead(settings.channels)
        self.reconstruct_head = VectorHead(settings.channels)
        self.noisy_encoder = EquivariantTransformer(settings) if parameters.own_encoder else None

    def forward(self, graph: MolGraph, noise: NoiseSource) -> dict[str, Tensor]:
        """Loss and its parts on one batch; ``reconstruct`` is 0 at steps without it."""
        reconstructs = noise.step % self.params.every == 0
        return self._losses(graph, noise, reconstructs=reconstructs)[0]

    def validate(self, graph: MolGraph, noise: NoiseSource) -> dict[str, Tensor]:
        """Losses with the reconstruction, and how much it uses the code (:func:`usage`)."""
        losses, sides = self._losses(graph, noise, reconstructs=True)
        assert sides is not None
        used = usage(lambda code: self._predict(sides, code), sides.code, sides.epsilon, graph)
        return losses | used

    def _losses(
        self, graph: MolGraph, noise: NoiseSource, *, reconstructs: bool
    ) -> tuple[dict[str, Tensor], _Sides | None]:
        clean, xi = noise.displace(graph, "denoise", self.params.sigma)
        sides, reconstruct = None, graph.pos.new_zeros(())
        x, vec = self.encoder(clean)
        denoise = functional.mse_loss(self.denoise_head(x, vec, clean), xi)
        if reconstructs:
            if not self.params.clean_noise:
                clean, x = graph, self.encoder(graph)[0]
            noisy, epsilon = noise.displace(clean, "reconstruct", self.params.sigma_rec)
            sides = _Sides(self.graph_code(x, clean), noisy, epsilon)
            code = SOURCES[self.params.code](sides.code)
            if self.training and self.params.dropout:
                kept = noise.uniform(graph, "dropout") >= self.params.dropout
                code = code * kept[:, None].to(code.dtype)
            reconstruct = functional.mse_loss(self._predict(sides, code), epsilon)
        loss = denoise + self.params.weight * reconstruct
        return {"loss": loss, "denoise": denoise, "reconstruct": reconstruct}, sides

    def _predict(self, sides: _Sides, code: Tensor) -> Tensor:
        """Noise of the noisy side in units of σ_rec, (N, 3)."""
        encoder = self.noisy_encoder or self.encoder
        x, vec = encoder(sides.noisy, None, self.condition(code, sides.noisy))
        predicted: Tensor = self.reconstruct_head(x, vec, sides.noisy)
        return predicted

    def condition(self, code: Tensor, graph: MolGraph) -> Modulate:
        """How the code (B, F) of each molecule of ``graph`` changes features at each place."""
        guide = functional.silu(self.code_mlp(code))

        def condition(place: int, x: Tensor, vec: Tensor | None) -> tuple[Tensor, Tensor | None]:
            factors = self.modulation[place](guide)
            if vec is not None:
                return modulate(factors, x, vec, graph)
            a, b = factors[graph.batch].chunk(2, dim=-1)
            return (1 + a) * x + b, None

        return condition
