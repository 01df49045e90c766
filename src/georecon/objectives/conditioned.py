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

from georecon.graph import MolGraph, mse_of_atoms
from georecon.kernels.gates import modulate
from georecon.keys import Key
from georecon.models.encoder import EdgeFeatures, EquivariantTransformer, Modulate, linear
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


class _Side(NamedTuple):
    """What a reconstruction is a function of.

    Attributes:
        source: molecules whose pass gives the code, and their edges; None: the denoising pass does.
        noisy: the noisy side, with its noise ``epsilon`` (N, 3) and its ``edges``.
        kept: 0 for molecules whose code is dropped, else 1, (B, 1); None: all keep it.
    """

    source: tuple[MolGraph, EdgeFeatures] | None
    noisy: MolGraph
    epsilon: Tensor
    edges: EdgeFeatures
    kept: Tensor | None


class _Inputs(NamedTuple):
    """Molecules of the denoising pass with their noise ``xi`` (N, 3), and the reconstruction."""

    clean: MolGraph
    xi: Tensor
    edges: EdgeFeatures
    side: _Side | None


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
        self.separable = parameters.code != "shuffled"  # else a filler's code is one of them

    def inputs(self, graph: MolGraph, noise: NoiseSource) -> _Inputs:
        """Molecules of all passes; without a noisy side at steps that do not reconstruct."""
        return self._inputs(graph, noise, reconstructs=noise.step % self.params.every == 0)

    def losses(self, inputs: _Inputs) -> dict[str, Tensor]:
        """Loss and its parts on one batch; ``reconstruct`` is 0 at steps without it."""
        return self._losses(inputs)[0]

    def validate(self, graph: MolGraph, noise: NoiseSource) -> dict[str, Tensor]:
        """Losses with the reconstruction, and how much it uses the code (:func:`usage`)."""
        inputs = self._inputs(graph, noise, reconstructs=True)
        losses, code = self._losses(inputs)
        side = inputs.side
        assert side is not None
        assert code is not None
        return losses | usage(lambda other: self._predict(side, other), code, side.epsilon, graph)

    def _inputs(self, graph: MolGraph, noise: NoiseSource, *, reconstructs: bool) -> _Inputs:
        params, edges_of = self.params, self.encoder.edges
        clean, xi = noise.displace(graph, "denoise", params.sigma)
        edges = edges_of(clean)
        if not reconstructs:
            return _Inputs(clean, xi, edges, None)
        source = None if params.clean_noise else (graph, edges_of(graph))
        under = clean if params.clean_noise else graph
        noisy, epsilon = noise.displace(under, "reconstruct", params.sigma_rec)
        kept = None
        if self.training and params.dropout:
            kept = (noise.uniform(graph, "dropout") >= params.dropout)[:, None].to(xi.dtype)
        return _Inputs(clean, xi, edges, _Side(source, noisy, epsilon, edges_of(noisy), kept))

    def _losses(self, inputs: _Inputs) -> tuple[dict[str, Tensor], Tensor | None]:
        """Losses, and the code of each molecule (B, F) where there is a reconstruction."""
        clean, xi, edges, side = inputs
        x, vec = self.encoder(clean, edges)
        denoise = mse_of_atoms(self.denoise_head(x, vec, clean), xi, clean)
        own, reconstruct = None, xi.new_zeros(())
        if side is not None:
            if side.source is not None:
                x = self.encoder(*side.source)[0]
            own = self.graph_code(x, clean)
            code = SOURCES[self.params.code](own)
            code = code if side.kept is None else code * side.kept
            reconstruct = mse_of_atoms(self._predict(side, code), side.epsilon, side.noisy)
        loss = denoise + self.params.weight * reconstruct
        return {"loss": loss, "denoise": denoise, "reconstruct": reconstruct}, own

    def _predict(self, side: _Side, code: Tensor) -> Tensor:
        """Noise of the noisy side in units of σ_rec, (N, 3)."""
        encoder = self.noisy_encoder or self.encoder
        x, vec = encoder(side.noisy, side.edges, self.condition(code, side.noisy))
        predicted: Tensor = self.reconstruct_head(x, vec, side.noisy)
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
