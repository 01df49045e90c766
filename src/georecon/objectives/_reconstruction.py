"""Parts of GeoRecon's objective: the graph code and the decoder that is guided by it."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional

from georecon.experiments.settings import EncoderSettings
from georecon.graph import MolGraph, composition_keys, pool_mean, pool_sum
from georecon.kernels.gates import modulate
from georecon.models.encoder import AttentionLayer, EdgeFeatures, linear
from georecon.models.heads import VectorHead
from georecon.models.norms import LayerNorm

_POOLS = {"mean": pool_mean, "sum": pool_sum}


def mlp(channels: int, between: type[nn.Module] = nn.SiLU) -> nn.Sequential:
    """Three linear layers of equal width with SiLU between (GeoRCG's head, which has GELU)."""
    layers: list[nn.Module] = [linear(channels, channels)]
    for _ in range(2):
        layers += [between(), linear(channels, channels)]
    return nn.Sequential(*layers)


class GraphCode(nn.Module):
    """Pooled code of a molecule: pool → MLP → normalisation without parameters, (B, F)."""

    def __init__(self, channels: int, pooling: str, between: type[nn.Module] = nn.SiLU) -> None:
        super().__init__()
        if pooling not in _POOLS:
            raise ValueError(f"pooling is {pooling!r}; allowed: {', '.join(_POOLS)}")
        self.pool = _POOLS[pooling]
        self.mlp = mlp(channels, between)

    def forward(self, x: Tensor, graph: MolGraph) -> Tensor:
        """Node scalars (N, F) of the clean pass → codes (B, F)."""
        return functional.layer_norm(self.mlp(self.pool(x, graph)), x.shape[-1:])


def isomers(graph: MolGraph) -> Tensor:
    """For each molecule of a batch another with the same atoms, itself if there is none, (B,)."""
    keys = composition_keys(graph)
    ordered, order = keys.sort(stable=True)
    last = torch.ones_like(ordered, dtype=torch.bool)
    last[:-1] = ordered[1:] != ordered[:-1]
    first = torch.searchsorted(ordered, ordered)
    following = torch.where(last, first, torch.arange(len(keys), device=keys.device) + 1)
    partner = torch.empty_like(order)
    partner[order] = order[following]
    return partner


SOURCES: dict[str, Callable[[Tensor], Tensor]] = {
    "own": lambda code: code,
    "shuffled": lambda code: code.roll(1, dims=0),
    "zero": torch.zeros_like,
}
"""Codes that a decoder is trained with: the molecule's own; as controls, that of the batch's
previous molecule, or none. DEVIATION: in several processes it is the share's previous molecule."""


def usage(
    predict: Callable[[Tensor], Tensor], code: Tensor, epsilon: Tensor, graph: MolGraph
) -> dict[str, Tensor]:
    """How much a reconstruction uses the code: its loss with other codes.

    Args:
        predict: codes (B, F) → predicted noise, (N, 3).
        code: of each molecule, (B, F).
        epsilon: the noise, (N, 3).
        graph: molecules.

    Returns:
        ``reconstruct_shuffled`` (code of the batch's previous molecule), ``reconstruct_zero`` (of
        zeros), ``code_usage``: the first less the loss with the right code, zero for a decoder
        that ignores the code; ``code_usage_isomers``: the same with the code of an isomer, over
        the molecules that have one in the batch (zero if none has).
    """
    partner = isomers(graph)
    own = predict(code)
    shuffled = functional.mse_loss(predict(code.roll(1, dims=0)), epsilon)
    more = (predict(code[partner]) - epsilon).square() - (own - epsilon).square()
    atoms = (partner != torch.arange(graph.num_graphs, device=code.device))[graph.batch]
    return {
        "reconstruct_shuffled": shuffled,
        "reconstruct_zero": functional.mse_loss(predict(torch.zeros_like(code)), epsilon),
        "code_usage": shuffled - functional.mse_loss(own, epsilon),
        "code_usage_isomers": more.mean(dim=1)[atoms].sum() / atoms.sum().clamp_min(1),
    }


class _Fusion(nn.Module):
    """How node features take up the guide, an MLP of the code.

    Args:
        channels: F of node features and guide.
        depth: decoder layers; a fusion may act before the first (place 0) and after each.
    """

    def __init__(self, channels: int, depth: int) -> None:
        super().__init__()

    def forward(
        self, place: int, x: Tensor, vec: Tensor, guide: Tensor, graph: MolGraph
    ) -> tuple[Tensor, Tensor]:
        """Scalars (N, F), vectors (N, 3, F), guide of each molecule (B, F) → scalars, vectors."""
        raise NotImplementedError


class _Add(_Fusion):
    """``x + guide``, before the first layer."""

    def forward(
        self, place: int, x: Tensor, vec: Tensor, guide: Tensor, graph: MolGraph
    ) -> tuple[Tensor, Tensor]:
        return (x + guide[graph.batch] if place == 0 else x), vec


class _Concat(_Fusion):
    """``Linear([x, guide])``, before the first layer."""

    def __init__(self, channels: int, depth: int) -> None:
        super().__init__(channels, depth)
        self.mix = linear(2 * channels, channels)

    def forward(
        self, place: int, x: Tensor, vec: Tensor, guide: Tensor, graph: MolGraph
    ) -> tuple[Tensor, Tensor]:
        if place:
            return x, vec
        return self.mix(torch.cat([x, guide[graph.batch]], dim=-1)), vec


class _Film(_Fusion):
    """``(1 + a)·x + b`` and ``(1 + c)·vec`` with (a, b, c) linear in the guide, at every place.

    Feature-wise linear modulation (Perez et al. 2018), which SCD uses to condition ET layers.
    """

    def __init__(self, channels: int, depth: int) -> None:
        super().__init__(channels, depth)
        self.modulation = nn.ModuleList(linear(channels, 3 * channels) for _ in range(depth + 1))

    def forward(
        self, place: int, x: Tensor, vec: Tensor, guide: Tensor, graph: MolGraph
    ) -> tuple[Tensor, Tensor]:
        return modulate(self.modulation[place](functional.silu(guide)), x, vec, graph)


FUSIONS: dict[str, type[_Fusion]] = {"add": _Add, "concat": _Concat, "film": _Film}


class Decoder(nn.Module):
    """Fuse the code into the noisy node features and predict the noise, (N, 3).

    Args:
        settings: sizes of the encoder, which the decoder's layers share; its weights are its own.
        depth: number of ET layers before the vector head; 0 is the head alone.
        fusion: "film", "add" or "concat".
    """

    def __init__(self, settings: EncoderSettings, depth: int, fusion: str) -> None:
        super().__init__()
        if fusion not in FUSIONS:
            raise ValueError(f"fusion is {fusion!r}; allowed: {', '.join(FUSIONS)}")
        channels = settings.channels
        self.code_mlp = mlp(channels)
        self.fusion = FUSIONS[fusion](channels, depth)
        self.layers = nn.ModuleList(AttentionLayer(settings) for _ in range(depth))
        self.norm = LayerNorm(channels)
        self.head = VectorHead(channels)

    def forward(
        self, code: Tensor, x: Tensor, vec: Tensor, graph: MolGraph, edges: EdgeFeatures
    ) -> Tensor:
        """Code (B, F) and noisy features (N, F), (N, 3, F) → noise in units of σ_rec, (N, 3)."""
        guide = self.code_mlp(code)  # (B, F)
        x, vec = self.fusion(0, x, vec, guide, graph)
        for place, layer in enumerate(self.layers, start=1):
            dx, dvec = layer(x, vec, edges)
            x, vec = self.fusion(place, x + dx, vec + dvec, guide, graph)
        return self.head(self.norm(x), vec, graph)
