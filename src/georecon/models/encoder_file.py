"""encoder.safetensors: weights of a pre-trained encoder with their sizes and method."""

from __future__ import annotations

import json
from pathlib import Path
from typing import NamedTuple

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from georecon.errors import CheckpointError
from georecon.experiments.settings import EncoderSettings
from georecon.files import atomic_path
from georecon.keys import Json
from georecon.models.encoder import EquivariantTransformer

ENCODER_FORMAT = "georecon-encoder-1"


def save_encoder(path: Path, encoder: EquivariantTransformer, *, method: str) -> None:
    """Write encoder weights with their sizes and method in the header."""
    sizes = {name: getattr(encoder.settings, name) for name in EncoderSettings.__slots__}
    # One key: safetensors writes several in an order that changes from process to process.
    header = json.dumps({"format": ENCODER_FORMAT, "method": method, "settings": sizes})
    tensors = {name: t.detach().cpu().contiguous() for name, t in encoder.state_dict().items()}
    with atomic_path(path) as temporary:
        save_file(tensors, temporary, metadata={"georecon": header})


class Tensors(NamedTuple):
    """What a safetensors file holds: our header, empty if another program wrote it, and tensors."""

    header: Json
    tensors: dict[str, Tensor]


def read_tensors(path: Path) -> Tensors:
    """All of a safetensors file.

    Raises:
        CheckpointError: it is none, or not whole.
    """
    try:
        with safe_open(path, framework="pt") as handle:
            header = json.loads((handle.metadata() or {}).get("georecon", "{}"))
            found = {name: handle.get_tensor(name) for name in handle.keys()}  # noqa: SIM118
    except (OSError, ValueError, SafetensorError) as error:
        raise CheckpointError(f"{path}: not a whole safetensors file ({error})") from None
    return Tensors(header if isinstance(header, dict) else {}, found)


def load_encoder(path: Path, encoder: EquivariantTransformer) -> None:
    """Load weights into an encoder of the same sizes.

    Raises:
        CheckpointError: not an encoder file, or the first tensor that is missing or differs in
            shape, or the first setting that differs.
    """
    header, found = read_tensors(path)
    if header.get("format") != ENCODER_FORMAT:
        raise CheckpointError(f"{path}: not an encoder written by this project")
    expected = encoder.state_dict()
    for name in [*expected, *found]:
        if name not in found or name not in expected:
            where = "missing from the file" if name not in found else "unknown to the model"
            raise CheckpointError(f"{path}: tensor {name!r} is {where}")
        if found[name].shape != expected[name].shape:
            shapes = f"{tuple(found[name].shape)}, the model needs {tuple(expected[name].shape)}"
            raise CheckpointError(f"{path}: tensor {name!r} is {shapes}")
    settings = header.get("settings")  # those that no shape tells too: heads, cutoff, …
    for name, value in settings.items() if isinstance(settings, dict) else ():
        own = getattr(encoder.settings, name, None)
        if value != own:
            raise CheckpointError(f"{path}: encoder.{name} is {value}, the model has {own}")
    encoder.load_state_dict(found)
