"""Pre-training objectives: one file each, found by name.

An objective is a module with a class ``Objective(encoder, **params)`` (an ``nn.Module``) that has

* ``encoder``: the encoder it trains, the only part that fine-tuning keeps;
* ``forward(graph, noise) -> dict[str, Tensor]``: ``"loss"`` (to minimise) and named parts of it;
* ``validate(graph, noise) -> dict[str, Tensor]``: the same, plus measures that are too dear for training.

A method entry in ``config/methods.yaml`` names the file and gives ``params``.
"""

from __future__ import annotations

import importlib
import pkgutil
from typing import Any, Protocol

from torch import Tensor, nn

from georecon.errors import ConfigError
from georecon.graph import MolGraph
from georecon.models.encoder import EquivariantTransformer
from georecon.noise import NoiseSource


class PretrainingObjective(Protocol):
    """What the pre-training loop asks of an objective."""

    encoder: EquivariantTransformer

    def __call__(self, graph: MolGraph, noise: NoiseSource) -> dict[str, Tensor]:
        """Loss and its parts on one batch."""

    def validate(self, graph: MolGraph, noise: NoiseSource) -> dict[str, Tensor]:
        """Loss and further measures on held-out molecules."""


def available() -> list[str]:
    """Names of the objective files in this folder."""
    return sorted(module.name for module in pkgutil.iter_modules(__path__))


def build(name: str, encoder: EquivariantTransformer, params: dict[str, Any]) -> nn.Module:
    """Objective ``name`` on ``encoder``.

    Raises:
        ConfigError: no such file, or a parameter it does not take.
    """
    if name not in available():
        raise ConfigError(f"objective is {name!r}; allowed: {', '.join(available())}")
    factory = importlib.import_module(f"{__name__}.{name}").Objective
    try:
        objective: nn.Module = factory(encoder, **params)
    except (TypeError, ValueError) as error:
        raise ConfigError(f"objective {name!r} with params {params}: {error}") from None
    return objective
