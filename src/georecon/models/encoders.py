"""Encoders of any architecture: what all offer, and the one that settings describe.

The equivariant transformer is imported here; another architecture is a package of this folder that
is named by its ``kind`` and imported only where a run's settings name it. So no run of the first
depends on a line of another. Such a package has the classes ``Encoder(settings)``, an
:class:`Encoder`, and ``PropertyHead(channels)``, called as those of :mod:`georecon.models.heads`.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from types import ModuleType
from typing import Any, Protocol, Self

from torch import Tensor, nn

from georecon.experiments.settings import (
    AnyEncoder,
    EncoderSettings,
    encoder_modules,
)
from georecon.graph import MolGraph
from georecon.models.encoder import EquivariantTransformer
from georecon.models.heads import PROPERTY_HEADS, VectorHead


class Encoder(Protocol):
    """What objectives, fine-tuning and smoothness ask of an encoder, whatever its architecture.

    The code of a molecule is the mean of its atoms' scalars (:func:`georecon.graph.pool_mean`).
    """

    @property
    def settings(self) -> AnyEncoder:
        """Its sizes."""
        ...

    def __call__(self, graph: MolGraph) -> tuple[Tensor, Tensor | None]:
        """Scalars (N, F) and vectors (N, 3, F) of each atom; None where it has no vectors.

        Raises:
            DataError: a molecule with positions that are not finite or with an unknown element.
        """
        ...

    # what every torch module has

    def state_dict(self) -> dict[str, Any]:
        """Its weights by name."""
        ...

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> object:
        """Take weights."""
        ...

    def to(self, device: str) -> Self:
        """Move to a device."""
        ...

    def eval(self) -> Self:
        """Switch to evaluation."""
        ...

    def requires_grad_(self, requires_grad: bool = True) -> Self:
        """Whether its weights are trained."""
        ...


def build_encoder(settings: AnyEncoder) -> Encoder:
    """An encoder with fresh weights from torch's generator."""
    if isinstance(settings, EncoderSettings):
        return EquivariantTransformer(settings)
    encoder: Encoder = _module(settings).Encoder(settings)
    return encoder


def property_head(settings: AnyEncoder, name: str) -> nn.Module:
    """Head for one property on an encoder's features: ``head(x, vec, graph)`` → (B,).

    Args:
        settings: of the encoder.
        name: a key of ``PROPERTY_HEADS``. Architectures without vectors have one head, for all.

    Raises:
        ValueError: there is no such head.
    """
    if name not in PROPERTY_HEADS:
        raise ValueError(f"head is {name!r}; allowed: {', '.join(PROPERTY_HEADS)}")
    if isinstance(settings, EncoderSettings):
        return PROPERTY_HEADS[name](settings.channels)
    head: nn.Module = _module(settings).PropertyHead(settings.channels)
    return head


def noise_head(settings: AnyEncoder) -> nn.Module | None:
    """Head for the noise of Noisy Nodes, (N, 3); None for an architecture without vectors."""
    return VectorHead(settings.channels) if isinstance(settings, EncoderSettings) else None


def _module(settings: AnyEncoder) -> ModuleType:
    (name,) = encoder_modules(settings)
    return importlib.import_module(name)
