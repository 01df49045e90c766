"""GeoRecon: reconstruction of strongly noised coordinates, guided by a code of the clean molecule.

Reading of the public text fixed in docs/method.md; every choice it leaves open is a parameter here.
Three passes of one encoder over the same molecules:

(a) clean ``r`` → node scalars, pooled to the graph code ``g``; clean head on the same features;
(b) ``r + σ ε`` → denoising head → ε;
(c) ``r + σ_rec ε_rec``, atom types hidden → node features, fused with ``g`` → light decoder →
    ε_rec.

Loss ``λ_rec·MSE(c) + λ_den·MSE(b) + λ_clean·(a)``.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from georecon.graph import MolGraph
from georecon.models.encoder import EdgeFeatures, EquivariantTransformer, linear
from georecon.models.heads import VectorHead
from georecon.noise import NoiseSource
from georecon.objectives import PretrainingObjective
from georecon.objectives._reconstruction import Decoder, GraphCode

_LOSSES = ("reconstruct", "denoise", "clean")


class _Passes(NamedTuple):
    """What passes (a) and (c) leave for the losses."""

    code: Tensor
    clean: Tensor
    x: Tensor
    vec: Tensor
    noisy: MolGraph
    edges: EdgeFeatures
    epsilon: Tensor


class Objective(PretrainingObjective):
    """GeoRecon pre-training loss.

    Args:
        encoder: the encoder to train.
        sigma: noise of the denoising head's pass (b) [Å].
        sigma_rec: noise of the reconstruction pass (c) [Å].
        hide_types: whether the types of all atoms are hidden in pass (c): the decoder then has
            them from the code alone.
        depth: ET layers in the decoder.
        pooling: "mean" or "sum" over atoms.
        fusion: "film", "add", "concat" or "none" (the code is not used).
        clean_target: of the clean head: "zero", the noise of a molecule without noise, or "types",
            the atomic numbers.
        passes: 3, or 2: no pass (b), the denoising head reads pass (c).
        detach: whether the code's gradient stops before the encoder.
        weights: of the losses: ``reconstruct``, ``denoise``, ``clean``.
    """

    def __init__(  # noqa: PLR0913 - one argument for each choice
        self,
        encoder: EquivariantTransformer,
        *,
        sigma: float,
        sigma_rec: float,
        hide_types: bool,
        depth: int,
        pooling: str,
        fusion: str,
        clean_target: str,
        passes: int,
        detach: bool,
        weights: dict[str, float],
    ) -> None:
        super().__init__(encoder)
        if set(weights) != set(_LOSSES):
            raise ValueError(f"weights must be given for {sorted(_LOSSES)}, not {sorted(weights)}")
        if clean_target not in ("zero", "types"):
            raise ValueError(f"clean_target is {clean_target!r}; allowed: zero, types")
        if passes not in (2, 3):
            raise ValueError(f"passes is {passes!r}; allowed: 2, 3")
        settings = encoder.settings
        self.sigma, self.sigma_rec, self.weights = sigma, sigma_rec, weights
        self.hide_types, self.detach, self.passes = hide_types, detach, passes
        self.graph_code = GraphCode(settings.channels, pooling)
        self.decoder = Decoder(settings, depth, fusion)
        self.denoise_head = VectorHead(settings.channels)
        types = clean_target == "types"
        self.type_head = linear(settings.channels, settings.max_z) if types else None
        self.clean_head = None if types else VectorHead(settings.channels)

    def forward(self, graph: MolGraph, noise: NoiseSource) -> dict[str, Tensor]:
        """Loss and its three parts on one batch."""
        return self._losses(graph, noise, self._passes(graph, noise))

    def validate(self, graph: MolGraph, noise: NoiseSource) -> dict[str, Tensor]:
        """Training loss and **code usage**: how much worse the reconstruction is with the code of
        another molecule.

        Returns:
            Beside the losses ``reconstruct_shuffled`` (code of the batch's previous molecule),
            ``reconstruct_zero`` (code of zeros) and ``code_usage``, the first less
            ``reconstruct``: zero for a decoder that ignores the code. The target has variance one.
        """
        passes = self._passes(graph, noise)
        losses = self._losses(graph, noise, passes)
        shuffled = self._reconstruct(passes, passes.code.roll(1, dims=0))
        losses["reconstruct_shuffled"] = shuffled
        losses["reconstruct_zero"] = self._reconstruct(passes, torch.zeros_like(passes.code))
        losses["code_usage"] = shuffled - losses["reconstruct"]
        return losses

    def _losses(self, graph: MolGraph, noise: NoiseSource, passes: _Passes) -> dict[str, Tensor]:
        parts = {
            "reconstruct": self._reconstruct(passes, passes.code),
            "denoise": self._denoise(graph, noise, passes),
            "clean": passes.clean,
        }
        loss = torch.stack([self.weights[name] * part for name, part in parts.items()]).sum()
        return {"loss": loss, **parts}

    def _passes(self, graph: MolGraph, noise: NoiseSource) -> _Passes:
        """Clean pass (a) and strongly noised pass (c)."""
        x, vec = self.encoder(graph)
        code = self.graph_code(x.detach() if self.detach else x, graph)
        noisy, epsilon = noise.displace(graph, "reconstruct", self.sigma_rec)
        if self.hide_types:
            # One type for all: the last of the encoder's table (Z = 99), which no dataset has.
            hidden = torch.full_like(noisy.z, self.encoder.settings.max_z - 1)
            noisy = noisy._replace(z=hidden)
        edges = self.encoder.edges(noisy)
        noisy_x, noisy_vec = self.encoder(noisy, edges)
        clean = self._clean(x, vec, graph)
        return _Passes(code, clean, noisy_x, noisy_vec, noisy, edges, epsilon)

    def _clean(self, x: Tensor, vec: Tensor, graph: MolGraph) -> Tensor:
        """Loss of the clean head on pass (a)."""
        if self.type_head is not None:
            return functional.cross_entropy(self.type_head(x), graph.z)
        assert self.clean_head is not None
        predicted: Tensor = self.clean_head(x, vec, graph)
        return predicted.square().mean()

    def _reconstruct(self, passes: _Passes, code: Tensor) -> Tensor:
        predicted = self.decoder(code, passes.x, passes.vec, passes.noisy, passes.edges)
        return functional.mse_loss(predicted, passes.epsilon)

    def _denoise(self, graph: MolGraph, noise: NoiseSource, passes: _Passes) -> Tensor:
        """Denoising head on pass (b), or on pass (c) where there are two passes."""
        if self.passes == 2:
            predicted = self.denoise_head(passes.x, passes.vec, passes.noisy)
            return functional.mse_loss(predicted, passes.epsilon)
        noisy, epsilon = noise.displace(graph, "denoise", self.sigma)
        return functional.mse_loss(self.denoise_head(*self.encoder(noisy), noisy), epsilon)
