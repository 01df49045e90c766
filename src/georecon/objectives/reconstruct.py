"""GeoRecon: reconstruction of strongly noised coordinates, guided by a code of the clean molecule.

Reading of the public text fixed in docs/method.md; every choice it leaves open is a parameter here.
Three passes of one encoder over the same molecules:

(a) clean ``r`` → node scalars, pooled to the graph code ``g``; clean head on the same features;
(b) ``r + σ_node ε`` → denoising head → ε;
(c) ``r + σ_rec ε_rec`` → node features, fused with ``g`` → light decoder → ε_rec.

Loss ``λ_rec·MSE(c) + λ_den·MSE(b) + λ_clean·MSE(a)``.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from georecon.graph import MolGraph, pool_mean, pool_sum
from georecon.models.encoder import AttentionLayer, EdgeFeatures, EquivariantTransformer, linear
from georecon.models.heads import VectorHead
from georecon.noise import NoiseSource
from georecon.objectives import PretrainingObjective

_POOLS = {"mean": pool_mean, "sum": pool_sum}
_FUSIONS = ("add", "concat")


def mlp(channels: int) -> nn.Sequential:
    """Three linear layers of equal width with SiLU between (GeoRCG's head, which has GELU)."""
    layers: list[nn.Module] = [linear(channels, channels)]
    for _ in range(2):
        layers += [nn.SiLU(), linear(channels, channels)]
    return nn.Sequential(*layers)


class GraphCode(nn.Module):
    """Pooled code of a molecule: pool → MLP → normalisation without parameters, (B, F)."""

    def __init__(self, channels: int, pooling: str) -> None:
        super().__init__()
        if pooling not in _POOLS:
            raise ValueError(f"pooling is {pooling!r}; allowed: {', '.join(_POOLS)}")
        self.pool = _POOLS[pooling]
        self.mlp = mlp(channels)

    def forward(self, x: Tensor, graph: MolGraph) -> Tensor:
        """Node scalars (N, F) of the clean pass → codes (B, F)."""
        return functional.layer_norm(self.mlp(self.pool(x, graph)), x.shape[-1:])


class Decoder(nn.Module):
    """Fuse the code into the noisy node features and predict the noise, (N, 3).

    Args:
        encoder: gives sizes; the decoder has weights of its own.
        depth: number of ET layers before the vector head; 0 is the head alone.
        fusion: "add": ``x_i + MLP(g)``; "concat": ``Linear([x_i, MLP(g)])``.
    """

    def __init__(self, encoder: EquivariantTransformer, depth: int, fusion: str) -> None:
        super().__init__()
        if fusion not in _FUSIONS:
            raise ValueError(f"fusion is {fusion!r}; allowed: {', '.join(_FUSIONS)}")
        channels = encoder.settings.channels
        self.code_mlp = mlp(channels)
        self.concat = linear(2 * channels, channels) if fusion == "concat" else None
        self.layers = nn.ModuleList(AttentionLayer(encoder.settings) for _ in range(depth))
        self.norm = nn.LayerNorm(channels)
        self.head = VectorHead(channels)

    def forward(
        self, code: Tensor, x: Tensor, vec: Tensor, graph: MolGraph, edges: EdgeFeatures
    ) -> Tensor:
        """Code (B, F) and noisy features (N, F), (N, 3, F) → noise in units of σ_rec, (N, 3)."""
        guide = self.code_mlp(code)[graph.batch]  # (N, F)
        x = x + guide if self.concat is None else self.concat(torch.cat([x, guide], dim=-1))
        for layer in self.layers:
            dx, dvec = layer(x, vec, edges)
            x, vec = x + dx, vec + dvec
        return self.head(self.norm(x), vec, graph)


class _Passes(NamedTuple):
    """Features of the three passes that losses are made of."""

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
        depth: ET layers in the decoder.
        pooling: "mean" or "sum" over atoms.
        fusion: "add" or "concat".
        weights: of the losses: ``reconstruct``, ``denoise``, ``clean``.
    """

    def __init__(
        self,
        encoder: EquivariantTransformer,
        *,
        sigma: float,
        sigma_rec: float,
        depth: int,
        pooling: str,
        fusion: str,
        weights: dict[str, float],
    ) -> None:
        super().__init__(encoder)
        expected = {"reconstruct", "denoise", "clean"}
        if set(weights) != expected:
            raise ValueError(f"weights must be given for {sorted(expected)}, not {sorted(weights)}")
        channels = encoder.settings.channels
        self.sigma, self.sigma_rec, self.weights = sigma, sigma_rec, weights
        self.graph_code = GraphCode(channels, pooling)
        self.decoder = Decoder(encoder, depth, fusion)
        self.denoise_head = VectorHead(channels)
        self.clean_head = VectorHead(channels)

    def forward(self, graph: MolGraph, noise: NoiseSource) -> dict[str, Tensor]:
        """Loss and its three parts on one batch."""
        return self._losses(graph, noise, self._passes(graph, noise))

    def _losses(self, graph: MolGraph, noise: NoiseSource, passes: _Passes) -> dict[str, Tensor]:
        parts = {
            "reconstruct": self._reconstruct(passes, passes.code),
            "denoise": self._denoise(graph, noise),
            "clean": passes.clean,
        }
        loss = torch.stack([self.weights[name] * part for name, part in parts.items()]).sum()
        return {"loss": loss, **parts}

    def validate(self, graph: MolGraph, noise: NoiseSource) -> dict[str, Tensor]:
        """Training loss and **code usage**: reconstruction with another molecule's code and with
        none.

        A decoder that ignores the code has ``reconstruct_shuffled`` equal to ``reconstruct``.
        """
        passes = self._passes(graph, noise)
        losses = self._losses(graph, noise, passes)
        losses["reconstruct_shuffled"] = self._reconstruct(passes, passes.code.roll(1, dims=0))
        losses["reconstruct_zero"] = self._reconstruct(passes, torch.zeros_like(passes.code))
        return losses

    def _passes(self, graph: MolGraph, noise: NoiseSource) -> _Passes:
        """Clean pass (a) and strongly noised pass (c); the code keeps its gradient."""
        x, vec = self.encoder(graph)
        # Target of the clean head: the residual noise of an unperturbed structure, which is zero.
        clean = self.clean_head(x, vec, graph).square().mean()
        code = self.graph_code(x, graph)
        noisy, epsilon = noise.displace(graph, "reconstruct", self.sigma_rec)
        edges = self.encoder.edges(noisy)
        noisy_x, noisy_vec = self.encoder(noisy, edges)
        return _Passes(code, clean, noisy_x, noisy_vec, noisy, edges, epsilon)

    def _reconstruct(self, passes: _Passes, code: Tensor) -> Tensor:
        predicted = self.decoder(code, passes.x, passes.vec, passes.noisy, passes.edges)
        return functional.mse_loss(predicted, passes.epsilon)

    def _denoise(self, graph: MolGraph, noise: NoiseSource) -> Tensor:
        """Pass (b): denoising head on the lightly noised molecule."""
        noisy, epsilon = noise.displace(graph, "denoise", self.sigma)
        return functional.mse_loss(self.denoise_head(*self.encoder(noisy), noisy), epsilon)
