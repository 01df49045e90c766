"""What the property suite looks at: an encoder alone or with each head, its parameters off zero."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import NamedTuple

import torch
from torch import Tensor, nn

from georecon.experiments.settings import EncoderSettings
from georecon.graph import MolGraph
from georecon.models.encoder import EquivariantTransformer
from georecon.models.heads import PROPERTY_HEADS, VectorHead
from tests.toy_graphs import random_batch

HEADS = ("encoder", "scalar", "dipole", "spatial_extent", "vector")
PER_MOLECULE = ("scalar", "dipole", "spatial_extent")
SEEDS = range(5)


class Outputs(NamedTuple):
    """Output of a subject by how it transforms.

    Attributes:
        invariant: unchanged by rotation and reflection: (B,) or (N, F).
        vectors: turns with the molecule: (N, 3, C).
        owner: molecule of each row of ``invariant``.
    """

    invariant: Tensor
    vectors: Tensor
    owner: Tensor


Subject = Callable[[MolGraph], Outputs]


def sizes(**changes: object) -> EncoderSettings:
    """Small encoder settings."""
    small = {"channels": 16, "layers": 2, "heads": 2, "rbf": 8, "max_z": 20}
    return EncoderSettings(**{**small, **changes})  # type: ignore[arg-type]


class Model(nn.Module):
    """Encoder and, unless the name is "encoder", a head."""

    def __init__(self, head: str, settings: EncoderSettings) -> None:
        super().__init__()
        self.name = head
        self.encoder = EquivariantTransformer(settings)
        kinds = {**PROPERTY_HEADS, "vector": VectorHead}
        self.head = None if head == "encoder" else kinds[head](settings.channels)

    def forward(self, graph: MolGraph) -> Outputs:
        x, vec = self.encoder(graph)
        if self.head is None:
            return Outputs(x, vec, graph.batch)
        found = self.head(x, vec, graph)
        if self.name == "vector":
            return Outputs(found.new_zeros(0), found[:, :, None], graph.batch[:0])
        molecules = torch.arange(graph.num_graphs)
        return Outputs(found, graph.pos.new_zeros(graph.pos.shape[0], 3, 0), molecules)


def shake(model: nn.Module, scale: float = 0.1, seed: int = 3) -> None:
    """Add noise to every parameter, so that biases are not zero and norms are not one."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            noise = torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
            parameter.add_(scale * noise.to(parameter.dtype))


def as_scalar(outputs: Outputs) -> Tensor:
    """A number that depends on every output: for losses and gradients."""
    return outputs.invariant.square().sum() + outputs.vectors.square().sum()


def train(model: nn.Module, steps: int) -> None:
    """Optimiser steps towards outputs of size one."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    graph = random_batch(99, next(model.parameters()).dtype)
    for _ in range(steps):
        optimizer.zero_grad()
        outputs = model(graph)
        loss = (outputs.invariant - 1.0).square().sum() + (outputs.vectors - 1.0).square().sum()
        loss.backward()
        optimizer.step()


@cache
def subject(
    head: str,
    *,
    vector_norm: str = "whitened",
    vector_cutoff: bool = False,
    dtype: torch.dtype = torch.float64,
    trained: bool = False,
) -> Model:
    """A model with shaken parameters, after five optimiser steps if ``trained``; read only."""
    torch.manual_seed(1)
    model = Model(head, sizes(vector_norm=vector_norm, vector_cutoff=vector_cutoff)).to(dtype)
    shake(model)
    if trained:
        train(model, 5)
    return model.eval()
