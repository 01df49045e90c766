"""An encoder from a file of any layout that is known here, for an encoder of given sizes.

Four layouts: our own ``encoder.safetensors``; a checkpoint of Lightning as PVD and TorchMD-NET
write it; the state dict of a TorchMD-NET model, as a torch file or as safetensors. The last two
say nothing of heads, neighbours and the like: that these are the encoder's is the user's word.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from georecon.errors import CheckpointError
from georecon.experiments.settings import EncoderSettings, encoder_json
from georecon.models.encoder import EquivariantTransformer
from georecon.models.encoder_file import ENCODER_FORMAT, load_encoder
from georecon.models.model_file import read_tensors
from georecon.models.stand_ins import read_checkpoint
from georecon.models.torchmdnet import from_lightning, from_torchmdnet, state_sizes

_PREFIXES = ("model.representation_model.", "representation_model.")


def read_encoder(path: Path, settings: EncoderSettings) -> tuple[EquivariantTransformer, str]:
    """Encoder of a file, and the name of its layout.

    Nothing in the file is run (:mod:`georecon.models.stand_ins`).

    Args:
        path: of the file.
        settings: what the encoder must be.

    Raises:
        CheckpointError: another layout, code in the file, or an encoder of other sizes; names the
            file and every setting that differs.
    """
    if _is_safetensors(path):
        header, tensors = read_tensors(path)
        if header.get("format") == ENCODER_FORMAT:
            found = header.get("settings")
            _compare(path, found if isinstance(found, dict) else {}, settings)
            encoder = EquivariantTransformer(settings)
            load_encoder(path, encoder)
            return encoder, "georecon's encoder.safetensors"
        return _from_state(path, tensors, settings), "TorchMD-NET's state dict, as safetensors"
    content = read_checkpoint(path)
    if not isinstance(content, Mapping):
        raise CheckpointError(f"{path}: holds a {type(content).__name__}, no encoder")
    if "state_dict" in content:
        encoder = from_lightning(path).encoder
        _compare(path, encoder_json(encoder.settings), settings)
        return encoder, "Lightning's checkpoint of PVD or TorchMD-NET"
    return _from_state(path, content, settings), "TorchMD-NET's state dict"


def _is_safetensors(path: Path) -> bool:
    """Whether a file begins as safetensors do: the length of a JSON object, then that."""
    try:
        with open(path, "rb") as handle:
            return handle.read(9)[8:] == b"{"
    except OSError as error:
        raise CheckpointError(f"{path}: {error.strerror}") from None


def _compare(path: Path, found: Mapping[str, Any], wanted: EncoderSettings) -> None:
    """Refuse an encoder of other sizes, all differences at once."""
    own = encoder_json(wanted)
    other = [f"{k} is {found[k]}, here {v}" for k, v in own.items() if k in found and found[k] != v]
    if other:
        raise CheckpointError(
            f"{path}: is of another encoder than this edition's: {'; '.join(other)} (encoder.<key> "
            "of the configuration); leave the method out with `<method>: null`, or give the "
            "edition the file's sizes"
        )


def _from_state(
    path: Path, content: Mapping[str, Any], settings: EncoderSettings
) -> EquivariantTransformer:
    state = {
        _without_prefix(name): tensor
        for name, tensor in content.items()
        if isinstance(tensor, Tensor)
    }
    others = [name for name in content if name.startswith(_PREFIXES)]
    if others:  # heads and the like stand beside the encoder
        state = {_without_prefix(name): content[name] for name in others}
    try:
        _compare(path, state_sizes(state), settings)
        encoder = EquivariantTransformer(settings)
        from_torchmdnet(state, encoder)
    except KeyError as error:
        raise CheckpointError(f"{path}: no encoder of TorchMD-NET: it has no {error}") from None
    except CheckpointError as error:
        text = str(error)
        raise CheckpointError(text if str(path) in text else f"{path}: {text}") from None
    return encoder


def _without_prefix(name: str) -> str:
    for prefix in _PREFIXES:
        name = name.removeprefix(prefix)
    return name
