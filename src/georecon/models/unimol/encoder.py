"""Uni-Mol encoder: atom tokens attend to each other, biased by a representation of pairs [U]."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from georecon.experiments.settings import UnimolSettings
from georecon.graph import MolGraph, check_graph
from georecon.models.encoder import linear
from georecon.models.unimol.dense import Dense
from georecon.models.unimol.pairs import GaussianKernels

_WIDENING = 4  # of the feed-forward layers: 512 → 2048 in [U]


class Passed(NamedTuple):
    """What a pass leaves for the objective.

    Attributes:
        x: tokens after the last norm, (N, F).
        last: tokens before it, (N, F).
        pairs: pair representation: attention logits of the last layer, (B, A, A, H).
        change: their change over all layers, (B, A, A, H). Places without an atom hold anything.
        dense: where atoms and pairs lie.
    """

    x: Tensor
    last: Tensor
    pairs: Tensor
    change: Tensor
    dense: Dense


class Layer(nn.Module):
    """One pre-norm layer [U]; its attention logits are the next layer's pair representation.

    DEVIATION: no dropout ([U]: 0.1 on embeddings, residuals and attention): randomness here is a
    function of seed, step and molecule, and short trainings on few labels gain nothing from it.
    """

    def __init__(self, channels: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.attention_norm = nn.LayerNorm(channels)
        self.qkv = linear(channels, 3 * channels)
        self.out = linear(channels, channels)
        self.norm = nn.LayerNorm(channels)
        self.widen = linear(channels, _WIDENING * channels)
        self.narrow = linear(_WIDENING * channels, channels)

    def forward(self, x: Tensor, pairs: Tensor, dense: Dense) -> tuple[Tensor, Tensor]:
        """Tokens (N, F) and pairs (B·H, A, A) → both after the layer."""
        molecules, size, heads = dense.molecules, dense.size, self.heads
        width = x.shape[1] // heads
        qkv = self.qkv(self.attention_norm(x)).index_select(0, dense.atom.view(-1))
        qkv = qkv.view(molecules, size, 3, heads, width).permute(2, 0, 3, 1, 4)
        query, key, value = qkv.reshape(3, -1, size, width)  # (B·H, A, F/H) each
        pairs = torch.baddbmm(pairs, query, key.mT, alpha=width**-0.5)
        mixed = torch.bmm(pairs.softmax(-1), value).view(molecules, heads, size, width)
        mixed = mixed.transpose(1, 2).reshape(-1, heads * width).index_select(0, dense.place)
        x = x + self.out(mixed)
        return x + self.narrow(functional.gelu(self.widen(self.norm(x)))), pairs


class UnimolEncoder(nn.Module):
    """Molecules → scalar features of each atom, (N, F); there are no vectors.

    DEVIATION: a molecule has the tokens of its atoms alone. [U] adds [CLS] and [SEP] at the centre,
    and reads properties off [CLS]; here a molecule's code is the mean over its tokens, as [G] has
    for its graph code. The token of a hidden atom is the last of the table of elements.
    DEVIATION: Xavier initialisation, which follows the width; [U] has N(0, 0.02) for 512 channels.

    Args:
        settings: sizes.
    """

    def __init__(self, settings: UnimolSettings) -> None:
        super().__init__()
        self.settings = settings
        channels = settings.channels
        self.embedding = nn.Embedding(settings.max_z, channels)
        self.kernels = GaussianKernels(settings)
        self.input_norm = nn.LayerNorm(channels)
        self.layers = nn.ModuleList(Layer(channels, settings.heads) for _ in range(settings.layers))
        self.out_norm = nn.LayerNorm(channels)

    def forward(self, graph: MolGraph) -> tuple[Tensor, None]:
        """Features of each atom, (N, F).

        Raises:
            DataError: a molecule with positions that are not finite or with an unknown element.
        """
        return self.pass_through(graph).x, None

    def pass_through(self, graph: MolGraph, guide: Tensor | None = None) -> Passed:
        """All that a pass gives.

        Args:
            graph: molecules; atomic numbers from 1 to ``max_z - 1``.
            guide: added to the embeddings of each molecule's tokens [G], (B, F).

        Raises:
            DataError: as of :meth:`forward`.
        """
        check_graph(graph, self.settings.max_z)
        dense = Dense.of(graph)
        x = self.embedding(graph.z)
        if guide is not None:
            x = x + guide[graph.batch]
        x = self.input_norm(x)
        shape = (dense.molecules, self.settings.heads, dense.size, dense.size)
        before = pairs = self.kernels(graph, dense).reshape(-1, dense.size, dense.size)
        for layer in self.layers:
            x, pairs = layer(x, pairs, dense)
        after, change = (p.view(shape).permute(0, 2, 3, 1) for p in (pairs, pairs - before))
        return Passed(self.out_norm(x), x, after, change, dense)
