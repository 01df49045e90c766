"""Pre-training objectives: one file each, found by name; ``_<name>.py`` are parts of them.

An objective is a module with a class ``Objective(encoder, *, …)``, a :class:`PretrainingObjective`.
A method entry in ``config/methods.yaml`` names the file and gives the keyword arguments as
``params``.
"""

from __future__ import annotations

import importlib
import pkgutil
from typing import Any, ClassVar

from torch import Tensor, nn

from georecon.errors import ConfigError
from georecon.graph import MolGraph
from georecon.models.encoder import EquivariantTransformer
from georecon.noise import NoiseSource


class PretrainingObjective(nn.Module):
    """What the pre-training loop asks of an objective.

    Args:
        encoder: the encoder it trains, the only part that fine-tuning keeps.

    Attributes:
        mean_over: "atoms" or "molecules": what the losses of ``forward`` are means over. Several
            processes that share a batch weight their losses by it (tested for every objective).
    """

    mean_over: ClassVar[str] = "atoms"

    def __init__(self, encoder: EquivariantTransformer) -> None:
        super().__init__()
        self.encoder = encoder

    def forward(self, graph: MolGraph, noise: NoiseSource) -> dict[str, Tensor]:
        """``"loss"`` (to minimise) and named parts of it, on one batch."""
        raise NotImplementedError

    def validate(self, graph: MolGraph, noise: NoiseSource) -> dict[str, Tensor]:
        """The same on held-out molecules, plus measures that are too dear for training."""
        return self(graph, noise)


def available() -> list[str]:
    """Names of the objective files in this folder."""
    names = (module.name for module in pkgutil.iter_modules(__path__))
    return sorted(name for name in names if not name.startswith("_"))


def build(
    name: str, encoder: EquivariantTransformer, params: dict[str, Any]
) -> PretrainingObjective:
    """Objective ``name`` on ``encoder``.

    Raises:
        ConfigError: no such file, or a parameter it does not take.
    """
    if name not in available():
        raise ConfigError(f"objective is {name!r}; allowed: {', '.join(available())}")
    factory = importlib.import_module(f"{__name__}.{name}").Objective
    try:
        objective: PretrainingObjective = factory(encoder, **params)
    except (TypeError, ValueError) as error:
        raise ConfigError(f"objective {name!r} with params {params}: {error}") from None
    return objective
