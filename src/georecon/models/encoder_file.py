"""encoder.safetensors: weights of a pre-trained encoder with their sizes and method.

objective.safetensors beside it: what its pre-training had besides it, heads and decoders.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors.torch import save_file
from torch import Tensor, nn

from georecon.errors import CheckpointError, ConfigError
from georecon.experiments.settings import ET, AnyEncoder, encoder_json, encoder_kind
from georecon.files import atomic_path
from georecon.keys import KeysError, from_json
from georecon.models.encoders import Encoder, build_encoder
from georecon.models.model_file import check_tensors, read_tensors

ENCODER_FORMAT = "georecon-encoder-1"
OBJECTIVE_FORMAT = "georecon-objective-1"
_OF_ENCODER = "encoder."


def save_encoder(path: Path, encoder: Encoder, *, method: str) -> None:
    """Write encoder weights with their sizes and method in the header."""
    sizes = encoder_json(encoder.settings)
    # One key: safetensors writes several in an order that changes from process to process.
    header = json.dumps({"format": ENCODER_FORMAT, "method": method, "settings": sizes})
    tensors = {name: t.detach().cpu().contiguous() for name, t in encoder.state_dict().items()}
    with atomic_path(path) as temporary:
        save_file(tensors, temporary, metadata={"georecon": header})


def save_objective(path: Path, objective: nn.Module, *, method: str) -> None:
    """Write the weights that an objective has besides its encoder's.

    Nothing trains on them: held-out measures of a pre-training, such as how much a decoder uses
    the code, can be computed again from them and the encoder.
    """
    header = json.dumps({"format": OBJECTIVE_FORMAT, "method": method})
    tensors = {
        name: t.detach().cpu().contiguous() for name, t in _besides(objective.state_dict()).items()
    }
    with atomic_path(path) as temporary:
        save_file(tensors, temporary, metadata={"georecon": header})


def load_objective(path: Path, objective: nn.Module) -> None:
    """Load the weights that an objective has besides its encoder's.

    Raises:
        CheckpointError: not such a file, or the first tensor that is missing or differs in shape.
    """
    header, found = read_tensors(path)
    if header.get("format") != OBJECTIVE_FORMAT:
        raise CheckpointError(f"{path}: not the rest of an objective written by this project")
    check_tensors(path, found, _besides(objective.state_dict()))
    objective.load_state_dict(found, strict=False)


def _besides(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Tensors of an objective that are not its encoder's."""
    return {name: tensor for name, tensor in state.items() if not name.startswith(_OF_ENCODER)}


def load_encoder(path: Path, encoder: Encoder) -> None:
    """Load weights into an encoder of the same sizes.

    Raises:
        CheckpointError: not an encoder file, one of another architecture, or the first tensor that
            is missing or differs in shape, or the first setting that differs.
    """
    _fill(path, *_read(path), encoder)


def _read(path: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    header, tensors = read_tensors(path)
    if header.get("format") != ENCODER_FORMAT:
        raise CheckpointError(f"{path}: not an encoder written by this project")
    return header, tensors


def _fill(path: Path, header: dict[str, Any], found: dict[str, Tensor], encoder: Encoder) -> None:
    kind, own_kind = header["settings"].get("kind", ET), encoder_kind(encoder.settings)
    if kind != own_kind:
        raise CheckpointError(f"{path}: an encoder of kind {kind}, the model is of kind {own_kind}")
    check_tensors(path, found, encoder.state_dict())
    for name, value in header["settings"].items():  # those that no shape tells: heads, cutoff, …
        own = getattr(encoder.settings, name, None)
        if value != own:
            raise CheckpointError(f"{path}: encoder.{name} is {value}, the model has {own}")
    encoder.load_state_dict(found)


@dataclass(frozen=True, kw_only=True, slots=True)
class _Sizes:
    """Settings of any kind of encoder."""

    settings: AnyEncoder


def read_encoder(path: Path) -> tuple[Encoder, str]:
    """An encoder of the sizes that its file says, ready to use, and the method that made it.

    Raises:
        CheckpointError: as of :func:`load_encoder`.
    """
    header, tensors = _read(path)
    try:
        settings = from_json(_Sizes, {"settings": header["settings"]}).settings
    except (ConfigError, KeyError, KeysError, TypeError, ValueError) as error:
        raise CheckpointError(f"{path}: its header is not usable ({error})") from None
    encoder = build_encoder(settings)
    _fill(path, header, tensors, encoder)
    return encoder.eval(), str(header.get("method"))
