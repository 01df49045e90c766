"""Uni-Mol as the property suite looks at models: alone or with each head, parameters off zero."""

from __future__ import annotations

from functools import cache

import torch
from torch import nn

from georecon.experiments.settings import UnimolSettings
from georecon.graph import MolGraph
from georecon.models.encoders import build_encoder
from georecon.models.unimol.heads import CoordinateHead, DistanceHead, PropertyHead, TokenHead
from tests.models.subjects import Outputs, shake, train

HEADS = ("encoder", "property", "token", "coordinate", "distance")


def sizes(**changes: object) -> UnimolSettings:
    """Small encoder settings."""
    small = {"kind": "unimol", "channels": 16, "layers": 2, "heads": 4, "kernels": 8, "max_z": 20}
    return UnimolSettings(**{**small, **changes})  # type: ignore[arg-type]


class Model(nn.Module):
    """Encoder and, unless the name is "encoder", a head."""

    def __init__(self, head: str, settings: UnimolSettings) -> None:
        super().__init__()
        self.name = head
        self.encoder = build_encoder(settings)
        made = {
            "encoder": lambda: None,
            "property": lambda: PropertyHead(settings.channels),
            "token": lambda: TokenHead(settings.channels, settings.max_z),
            "coordinate": lambda: CoordinateHead(settings.heads),
            "distance": lambda: DistanceHead(settings.heads),
        }
        self.head = made[head]()

    def forward(self, graph: MolGraph) -> Outputs:
        none = graph.pos.new_zeros(len(graph.z), 3, 0)
        atoms = torch.arange(len(graph.z))
        passed = self.encoder.pass_through(graph)
        if self.name == "encoder":
            return Outputs(self.encoder(graph)[0], none, graph.batch)
        if self.name == "property":
            molecules = torch.arange(graph.num_graphs)
            return Outputs(self.head(passed.x, None, graph), none, molecules)
        if self.name == "token":
            return Outputs(self.head(passed.x), none, graph.batch)
        if self.name == "coordinate":  # what moves: where an atom stands goes with the origin
            moved = self.head(passed, graph, atoms) - graph.pos
            return Outputs(moved.new_zeros(0), moved[:, :, None], graph.batch[:0])
        _, there = passed.dense.partners(graph, atoms)
        found = (self.head(passed, atoms) * there).square().sum(1)  # of no order of the partners
        return Outputs(found, none, graph.batch)


@cache
def subject(head: str, dtype: torch.dtype = torch.float64, *, trained: bool = False) -> Model:
    """A model with shaken parameters, after five optimiser steps if ``trained``; read only."""
    torch.manual_seed(1)
    model = Model(head, sizes()).to(dtype)
    shake(model)
    if trained:
        train(model, 5)
    return model.eval()
