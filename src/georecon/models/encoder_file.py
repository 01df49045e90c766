"""encoder.safetensors: weights of a pre-trained encoder with their sizes and method."""

from __future__ import annotations

import json
from pathlib import Path

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from georecon.errors import CheckpointError
from georecon.experiments.settings import ET, encoder_json, encoder_kind
from georecon.files import atomic_path
from georecon.models.encoders import Encoder

ENCODER_FORMAT = "georecon-encoder-1"


def save_encoder(path: Path, encoder: Encoder, *, method: str) -> None:
    """Write encoder weights with their sizes and method in the header."""
    sizes = encoder_json(encoder.settings)
    # One key: safetensors writes several in an order that changes from process to process.
    header = json.dumps({"format": ENCODER_FORMAT, "method": method, "settings": sizes})
    tensors = {name: t.detach().cpu().contiguous() for name, t in encoder.state_dict().items()}
    with atomic_path(path) as temporary:
        save_file(tensors, temporary, metadata={"georecon": header})


def load_encoder(path: Path, encoder: Encoder) -> None:
    """Load weights into an encoder of the same sizes.

    Raises:
        CheckpointError: not an encoder file, one of another architecture, or the first tensor that
            is missing or differs in shape, or the first setting that differs.
    """
    try:
        with safe_open(path, framework="pt") as handle:
            header = json.loads((handle.metadata() or {}).get("georecon", "{}"))
            found = {name: handle.get_tensor(name) for name in handle.keys()}  # noqa: SIM118
    except (OSError, ValueError, SafetensorError) as error:
        raise CheckpointError(f"{path}: not a whole safetensors file ({error})") from None
    if header.get("format") != ENCODER_FORMAT:
        raise CheckpointError(f"{path}: not an encoder written by this project")
    kind, own_kind = header["settings"].get("kind", ET), encoder_kind(encoder.settings)
    if kind != own_kind:
        raise CheckpointError(f"{path}: an encoder of kind {kind}, the model is of kind {own_kind}")
    expected = encoder.state_dict()
    for name in [*expected, *found]:
        if name not in found or name not in expected:
            where = "missing from the file" if name not in found else "unknown to the model"
            raise CheckpointError(f"{path}: tensor {name!r} is {where}")
        if found[name].shape != expected[name].shape:
            shapes = f"{tuple(found[name].shape)}, the model needs {tuple(expected[name].shape)}"
            raise CheckpointError(f"{path}: tensor {name!r} is {shapes}")
    for name, value in header["settings"].items():  # those that no shape tells: heads, cutoff, …
        own = getattr(encoder.settings, name, None)
        if value != own:
            raise CheckpointError(f"{path}: encoder.{name} is {value}, the model has {own}")
    encoder.load_state_dict(found)
