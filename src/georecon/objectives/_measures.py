"""What each objective measures on held-out molecules: found by asking it, on small molecules."""

from __future__ import annotations

import dataclasses
from typing import Any

import torch

from georecon import objectives
from georecon.experiments.objective_keys import declared, kind_of
from georecon.experiments.settings import AnyEncoder, EncoderSettings, UnimolSettings, encoder_kind
from georecon.graph import make_graph
from georecon.keys import Json, key_hints, scalar_kinds
from georecon.models.encoders import build_encoder
from georecon.noise import NoiseSource

_SMALL: tuple[AnyEncoder, ...] = (
    EncoderSettings(channels=8, layers=1, heads=2, rbf=4),
    UnimolSettings(kind="unimol", channels=8, layers=1, heads=2, kernels=4, max_z=100),
)


def measures(name: str) -> list[str]:
    """Names that an objective's ``validate`` gives beside its loss, in order."""
    wanted = kind_of(declared(name))
    settings = next(one for one in _SMALL if encoder_kind(one) == wanted)
    objective = objectives.build(name, build_encoder(settings), example(declared(name))).eval()
    counts = torch.tensor([3, 3])
    pos = torch.eye(3).repeat(2, 1) * torch.tensor([1.0, 1.2]).repeat_interleave(3)[:, None]
    graph = make_graph(torch.tensor([8, 1, 1, 8, 1, 1]), pos, counts, torch.arange(2))
    with torch.no_grad():
        found = objective.validate(graph, NoiseSource(0, -1))
    return [key for key in found if key != "loss"]


def example(kind: type) -> Json:
    """Parameters that a class takes, by what its keys say: first choices, small numbers."""
    found: Json = {}
    for field in dataclasses.fields(kind):
        annotation, key = key_hints(kind)[field.name]
        kinds = scalar_kinds(annotation)
        if not kinds:
            found[field.name] = example(annotation)
        elif key.choices:
            found[field.name] = key.choices[0]
        elif bool in kinds:
            found[field.name] = False
        elif str not in kinds:
            found[field.name] = _number(key, whole=float not in kinds)
    return found


def _number(key: Any, *, whole: bool) -> float:
    low = key.at_least if key.at_least is not None else (key.above or 0.0) + 0.1
    return max(1, int(low)) if whole else float(low)
