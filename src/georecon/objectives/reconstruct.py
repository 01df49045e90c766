"""GeoRecon: reconstruction of strongly noised coordinates, guided by a code of the clean molecule.

Reading of the public text fixed in docs/method.md; every choice it leaves open is a parameter here.
Three passes of one encoder over the same molecules:

(a) clean ``r`` → node scalars, pooled to the graph code ``g``; clean head on the same features;
(b) ``r + σ ε`` → denoising head → ε;
(c) ``r + σ_rec ε_rec``, atom types hidden → node features, fused with ``g`` → light decoder →
    ε_rec.

The encoder sees the three as one batch: what a pass costs whatever its size is paid once.

Loss ``λ_rec·MSE(c) + λ_den·MSE(b) + λ_clean·(a)``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from georecon.graph import MolGraph, join_graphs, mean_of_atoms, mse_of_atoms
from georecon.keys import Key
from georecon.models.encoder import EdgeFeatures, EquivariantTransformer, linear
from georecon.models.heads import VectorHead
from georecon.noise import NoiseSource
from georecon.objectives import PretrainingObjective
from georecon.objectives._reconstruction import (
    SOURCES,
    Decoder,
    GraphCode,
    usage,
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Weights:
    """Weights of the losses."""

    reconstruct: Annotated[float, Key("of the reconstruction of pass (c)", at_least=0)]
    denoise: Annotated[float, Key("of the denoising head", at_least=0)]
    clean: Annotated[float, Key("of the clean head", at_least=0)]


@dataclass(frozen=True, kw_only=True, slots=True)
class Parameters:
    """Parameters of GeoRecon."""

    sigma: Annotated[float, Key("noise of the denoising head's pass (b)", "Å", above=0)]
    sigma_rec: Annotated[float, Key("noise of the reconstruction pass (c)", "Å", above=0)]
    hide_types: Annotated[
        bool,
        Key(
            "whether the types of all atoms are hidden in pass (c): the decoder then has them from "
            "the code alone"
        ),
    ]
    depth: Annotated[int, Key("ET layers in the decoder", at_least=0)]
    pooling: Annotated[str, Key("over the atoms of a molecule", choices=("mean", "sum"))]
    fusion: Annotated[
        str,
        Key(
            "of the code with the noisy features",
            choices=("film", "add", "concat"),
        ),
    ]
    code: Annotated[
        str,
        Key(
            "whose code the decoder is given in training; another molecule's, or zeros, are "
            "controls of what the code is worth",
            choices=tuple(SOURCES),
        ),
    ]
    clean_target: Annotated[
        str,
        Key(
            "of the clean head: zero, the noise of a molecule without noise, by a head of its own "
            "or (shared) the denoising head; or atomic numbers",
            choices=("zero", "shared", "types"),
        ),
    ]
    passes: Annotated[int, Key("2: no pass (b), the denoising head reads pass (c)", choices=(2, 3))]
    detach: Annotated[bool, Key("whether the code's gradient stops before the encoder")]
    weights: Annotated[Weights, Key("of the losses")]


class _Inputs(NamedTuple):
    """Molecules of all passes.

    Attributes:
        graph: clean, (a).
        noisy: strongly noised, (c), and its noise ``epsilon`` (N, 3).
        lightly: noised a little, (b), and its noise ``small`` (N, 3); those of (c) if there is
            no (b).
        whole: (c), (a) and, if there is one, (b) as one batch.
        edges: of ``whole``.
        noisy_edges: of (c) alone, for the decoder.
    """

    graph: MolGraph
    noisy: MolGraph
    epsilon: Tensor
    lightly: MolGraph
    small: Tensor
    whole: MolGraph
    edges: EdgeFeatures
    noisy_edges: EdgeFeatures


class _Passes(NamedTuple):
    """What the passes leave for the losses; ``denoise`` is the loss on (b)."""

    code: Tensor
    clean: Tensor
    denoise: Tensor
    x: Tensor
    vec: Tensor
    inputs: _Inputs


class Objective(PretrainingObjective):
    """GeoRecon pre-training loss.

    Args:
        encoder: the encoder to train.
        parameters: noise, decoder and losses.
    """

    encoder: EquivariantTransformer

    def __init__(self, encoder: EquivariantTransformer, parameters: Parameters) -> None:
        super().__init__(encoder)
        settings = encoder.settings
        self.params = parameters
        self.graph_code = GraphCode(settings.channels, parameters.pooling)
        self.decoder = Decoder(settings, parameters.depth, parameters.fusion)
        self.denoise_head = VectorHead(settings.channels)
        target = parameters.clean_target
        self.type_head = linear(settings.channels, settings.max_z) if target == "types" else None
        self.clean_head = VectorHead(settings.channels) if target == "zero" else None
        self.separable = parameters.code != "shuffled"  # else a filler's code is one of them

    def validate(self, graph: MolGraph, noise: NoiseSource) -> dict[str, Tensor]:
        """Training loss and **code usage**: how much worse the reconstruction is with the code of
        another molecule.

        Returns:
            Beside the losses those of :func:`usage`. The target has variance one.
        """
        inputs = self.inputs(graph, noise)
        passes = self._passes(inputs)
        losses = self._losses(passes)
        return losses | usage(
            lambda code: self._predict(passes, code), passes.code, inputs.epsilon, graph
        )

    def losses(self, inputs: _Inputs) -> dict[str, Tensor]:
        """Loss and its three parts on one batch."""
        return self._losses(self._passes(inputs))

    def _losses(self, passes: _Passes) -> dict[str, Tensor]:
        parts = {
            "reconstruct": self._reconstruct(passes, SOURCES[self.params.code](passes.code)),
            "denoise": passes.denoise,
            "clean": passes.clean,
        }
        loss = torch.stack(
            [getattr(self.params.weights, name) * part for name, part in parts.items()]
        ).sum()
        return {"loss": loss, **parts}

    def inputs(self, graph: MolGraph, noise: NoiseSource) -> _Inputs:
        """Molecules of all passes, and their edges."""
        params = self.params
        noisy, epsilon = noise.displace(graph, "reconstruct", params.sigma_rec)
        if params.hide_types:
            # One type for all: the last of the encoder's table (Z = 99), which no dataset has.
            hidden = torch.full_like(noisy.z, self.encoder.settings.max_z - 1)
            noisy = noisy._replace(z=hidden)
        lightly, small = noisy, epsilon
        graphs = [noisy, graph]
        if params.passes == 3:
            lightly, small = noise.displace(graph, "denoise", params.sigma)
            graphs.append(lightly)
        whole = join_graphs(graphs)
        edges = self.encoder.edges(whole)
        of_noisy = edges.first_molecules(graph.num_graphs)
        return _Inputs(graph, noisy, epsilon, lightly, small, whole, edges, of_noisy)

    def _passes(self, inputs: _Inputs) -> _Passes:
        """All passes, as one batch."""
        params, graph, lightly = self.params, inputs.graph, inputs.lightly
        x, vec = self.encoder(inputs.whole, inputs.edges)
        xs, vecs = x.split(len(graph.z)), vec.split(len(graph.z))  # the molecules are the same
        last = -1 if params.passes == 3 else 0
        denoised = self.denoise_head(xs[last], vecs[last], lightly)
        return _Passes(
            code=self.graph_code(xs[1].detach() if params.detach else xs[1], graph),
            clean=self._clean(xs[1], vecs[1], graph),
            denoise=mse_of_atoms(denoised, inputs.small, lightly),
            x=xs[0],
            vec=vecs[0],
            inputs=inputs,
        )

    def _clean(self, x: Tensor, vec: Tensor, graph: MolGraph) -> Tensor:
        """Loss of the clean head on pass (a)."""
        if self.type_head is not None:
            found = self.type_head(x)
            return mean_of_atoms(functional.cross_entropy(found, graph.z, reduction="none"), graph)
        predicted: Tensor = (self.clean_head or self.denoise_head)(x, vec, graph)
        return mean_of_atoms(predicted.square(), graph)

    def _predict(self, passes: _Passes, code: Tensor) -> Tensor:
        """Noise of pass (c) in units of σ_rec, (N, 3)."""
        inputs = passes.inputs
        return self.decoder(code, passes.x, passes.vec, inputs.noisy, inputs.noisy_edges)

    def _reconstruct(self, passes: _Passes, code: Tensor) -> Tensor:
        inputs = passes.inputs
        return mse_of_atoms(self._predict(passes, code), inputs.epsilon, inputs.noisy)
