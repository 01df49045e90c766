"""Pre-training objectives: one file each, found by name; ``_<name>.py`` are parts of them.

An objective is a module with a class ``Parameters``, a frozen dataclass whose fields are
``Annotated[type, Key(sentence, unit, bounds)]``, and a class ``Objective(encoder, parameters)``, a
:class:`PretrainingObjective`. An objective of another architecture than the equivariant transformer
names its kind as ``encoder: ClassVar[str]`` in ``Parameters``. A method entry in
``config/methods.yaml`` names the file and gives the parameters as ``params``; they are checked
against ``Parameters`` before any job.
"""

from __future__ import annotations

import importlib
from typing import Any, ClassVar

from torch import Tensor, nn

from georecon.errors import ConfigError
from georecon.experiments.objective_keys import declared, kind_of, objective_names
from georecon.experiments.settings import Params, encoder_kind
from georecon.graph import MolGraph
from georecon.keys import choice, from_json
from georecon.models.encoders import Encoder
from georecon.noise import NoiseSource


class PretrainingObjective(nn.Module):
    """What the pre-training loop asks of an objective.

    Args:
        encoder: the encoder it trains, the only part that fine-tuning keeps.

    Attributes:
        mean_over: "atoms" or "molecules": what the losses of ``forward`` are means over. Several
            processes that share a batch weight their losses by it (tested for every objective).
        separable: whether ``forward`` is ``losses(inputs(...))``, so that steps on GPUs can be
            recorded (:mod:`georecon.training.replay`).
    """

    mean_over: ClassVar[str] = "atoms"

    encoder: Encoder
    separable: bool = False

    def __init__(self, encoder: Encoder) -> None:
        super().__init__()
        self.encoder = encoder

    def forward(self, graph: MolGraph, noise: NoiseSource) -> dict[str, Tensor]:
        """``"loss"`` (to minimise) and named parts of it, on one batch."""
        return self.losses(self.inputs(graph, noise))

    def inputs(self, graph: MolGraph, noise: NoiseSource) -> Any:
        """What the losses of a batch are a function of beside weights: molecules, noise, edges.

        Returns:
            A tuple of tensors, numbers and such tuples.
        """
        raise NotImplementedError

    def losses(self, inputs: Any) -> dict[str, Tensor]:
        """Losses of ``forward``, without waiting for the device; means leave fillers out."""
        raise NotImplementedError

    def validate(self, graph: MolGraph, noise: NoiseSource) -> dict[str, Tensor]:
        """The same on held-out molecules, plus measures that are too dear for training."""
        return self(graph, noise)


def available() -> list[str]:
    """Names of the objective files in this folder."""
    return objective_names()


def build(name: str, encoder: Encoder, params: Params) -> PretrainingObjective:
    """Objective ``name`` on ``encoder``.

    Raises:
        ConfigError: no such file, an encoder of another kind, or a parameter it does not take.
    """
    if name not in available():
        raise ConfigError(f"objective {choice(name, available())}")
    kind = encoder_kind(encoder.settings)
    if kind != kind_of(declared(name)):
        raise ConfigError(f"objective {name}: trains {kind_of(declared(name))}, not {kind}")
    parameters: object = from_json(declared(name), params, f"objective {name}")
    factory = importlib.import_module(f"{__name__}.{name}").Objective
    objective: PretrainingObjective = factory(encoder, parameters)
    return objective
