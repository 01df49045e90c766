"""Exchange encoder weights with TorchMD-NET 3.x and with PVD's Lightning checkpoints.

Names are TorchMD-NET's. Two kinds of tensors differ in the order of their rows: the 3F outputs of
``v_proj`` and ``dv_proj`` are (heads, 3, D) there and (3, heads, D) here. Buffers of the radial
basis are constants here. PVD, whose ``denoised-pcqm4mv2.ckpt`` is the public Coord encoder, calls
the final vector norm ``out_norm_vec``; TorchMD-NET 3 has none.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from georecon.errors import CheckpointError
from georecon.experiments.settings import EncoderSettings
from georecon.models.encoder import EquivariantTransformer
from georecon.models.stand_ins import plain_options, read_checkpoint
from georecon.models.torchmdnet_options import READ, check_against, options_of, settings_of

_REORDERED = (".v_proj.", ".dv_proj.")
_BASIS = ("distance_expansion.means", "distance_expansion.betas")
_CONSTANTS = ("distance.", *_BASIS)
_WHITENED = "vec_norm."
_PVD_NORM = "out_norm_vec."
ENCODER_PREFIX = "model.representation_model."


def from_torchmdnet(
    state: Mapping[str, Tensor],
    encoder: EquivariantTransformer,
    hyper_parameters: Mapping[str, Any] | None = None,
) -> None:
    """Load a TorchMD-NET (or PVD) ET state dict into an encoder of the same sizes, in place.

    Args:
        state: ``TorchMD_ET.state_dict()``; its radial basis must be the encoder's.
        encoder: encoder whose ``vec_norm`` is left as it is where the state dict has none.
        hyper_parameters: of the same file. Options such as ``vector_cutoff`` are in no tensor:
            without this, that the encoder has the right ones is the caller's word.

    Raises:
        CheckpointError: the first tensor that is missing, unknown, of another shape or, for the
            radial basis, of other values (trained, or for another cutoff); a hyper-parameter that
            is unknown, or that the encoder does not have.
    """
    heads = encoder.settings.heads
    if hyper_parameters is not None:
        check_against(hyper_parameters, encoder.settings, _vector_norm(state))
    expected = encoder.state_dict()
    _check_basis(state, encoder)
    given = {
        name.replace(_PVD_NORM, _WHITENED): tensor
        for name, tensor in state.items()
        if not name.startswith(_CONSTANTS)
    }
    for name in [*expected, *given]:
        if name not in given and not name.startswith(_WHITENED):
            raise CheckpointError(f"tensor {name!r} is missing from the TorchMD-NET state dict")
        if name not in expected:
            raise CheckpointError(f"tensor {name!r} of the state dict is unknown to the encoder")
        if name in given and given[name].shape != expected[name].shape:
            shapes = f"{tuple(given[name].shape)}, the encoder needs {tuple(expected[name].shape)}"
            raise CheckpointError(f"tensor {name!r} is {shapes}")
    renamed = {name: _swap(name, tensor, heads, 3) for name, tensor in given.items()}
    encoder.load_state_dict(expected | renamed)


def _check_basis(state: Mapping[str, Tensor], encoder: EquivariantTransformer) -> None:
    for name in _BASIS:
        ours = encoder.get_buffer(name)
        theirs = state.get(name, ours)
        if theirs.shape != ours.shape:
            shapes = f"{tuple(theirs.shape)}, the encoder needs {tuple(ours.shape)}"
            raise CheckpointError(f"tensor {name!r} is {shapes}")
        if not torch.allclose(theirs.to(ours), ours, rtol=1e-5, atol=1e-7):
            raise CheckpointError(
                f"tensor {name!r} is not that of a fixed exponential-normal basis with cutoff "
                f"{encoder.settings.cutoff} Å"
            )


def to_torchmdnet(encoder: EquivariantTransformer) -> dict[str, Tensor]:
    """State dict for ``TorchMD_ET.load_state_dict(…, strict=False)``: all but its constants.

    A whitened norm is called as in PVD, ``out_norm_vec``: TorchMD-NET 3 has none, and
    ``strict=False`` passes over it. Its features are then those before the norm.
    """
    heads = encoder.settings.heads
    return {
        name.replace(_WHITENED, _PVD_NORM): _swap(name, tensor, 3, heads)
        for name, tensor in encoder.state_dict().items()
    }


def checkpoint_content(encoder: EquivariantTransformer) -> dict[str, object]:
    """What :func:`from_lightning` reads back to the bit: state dict and hyper-parameters.

    The radial basis is with it, so that another cutoff is noticed. There is no head: TorchMD-NET's
    programs take the tensors by ``load_state_dict(…, strict=False)``.
    """
    state = to_torchmdnet(encoder) | {name: encoder.get_buffer(name) for name in _BASIS}
    return {
        "state_dict": {f"{ENCODER_PREFIX}{name}": tensor for name, tensor in state.items()},
        "hyper_parameters": options_of(encoder.settings),
    }


def _swap(name: str, tensor: Tensor, outer: int, inner: int) -> Tensor:
    """Rows ordered (outer, inner, D) → (inner, outer, D) for the tensors that need it."""
    if not any(part in name for part in _REORDERED):
        return tensor
    blocks = tensor.reshape(outer, inner, -1, *tensor.shape[1:])
    return blocks.transpose(0, 1).reshape(tensor.shape)


class LightningEncoder(NamedTuple):
    """What :func:`from_lightning` found.

    Attributes:
        encoder: the encoder, with the sizes and options of the file.
        dropped: names of the tensors that are not the encoder's: heads, noise normaliser.
    """

    encoder: EquivariantTransformer
    dropped: list[str]


def from_lightning(path: Path) -> LightningEncoder:
    """Encoder of a PVD checkpoint, e.g. the public Coord weights ``denoised-pcqm4mv2.ckpt``.

    Nothing in the file is run, see ``georecon.models.stand_ins``. Every hyper-parameter that
    changes the encoder's function is read or refused, see ``georecon.models.torchmdnet_options``.

    Raises:
        CheckpointError: not such a file, a reference to any other code, an option that our
            encoder does not have, or the first tensor that does not fit.
    """
    content = read_checkpoint(path)
    try:
        tensors = content["state_dict"]
        options = plain_options(content["hyper_parameters"])
        state = {
            name.removeprefix(ENCODER_PREFIX): tensor
            for name, tensor in tensors.items()
            if name.startswith(ENCODER_PREFIX)
        }
        dropped = [name for name in tensors if not name.startswith(ENCODER_PREFIX)]
        settings = settings_of(options, _vector_norm(state))
        _check_sizes(state, settings)
        encoder = EquivariantTransformer(settings)
        from_torchmdnet(state, encoder)
    except CheckpointError as error:
        raise CheckpointError(f"{path}: {error}") from None
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        reason = f"not the layout of a PVD checkpoint ({type(error).__name__}: {error})"
        raise CheckpointError(f"{path}: {reason}") from None
    return LightningEncoder(encoder, dropped)


def _vector_norm(state: Mapping[str, Tensor]) -> str:
    whitened = any(name.startswith((_PVD_NORM, _WHITENED)) for name in state)
    return "whitened" if whitened else "none"


def state_sizes(state: Mapping[str, Tensor]) -> dict[str, int | str]:
    """Sizes of an encoder that its tensors tell, by the names of ``EncoderSettings``.

    Raises:
        KeyError: a tensor that every encoder has is not there.
    """
    max_z, channels = state["embedding.weight"].shape
    layers = {name.split(".")[1] for name in state if name.startswith("attention_layers.")}
    rbf = state["neighbor_embedding.distance_proj.weight"].shape[1]
    norm = _vector_norm(state)
    return {
        **{"max_z": max_z, "channels": channels, "layers": len(layers), "rbf": rbf},
        "vector_norm": norm,
    }


def _check_sizes(state: Mapping[str, Tensor], settings: EncoderSettings) -> None:
    """Refuse hyper-parameters that are not those of the tensors, before any memory is taken."""
    found = state_sizes(state)
    for name, option in READ.items():
        size = found.get(option.setting)
        if size is not None and size != getattr(settings, option.setting):
            value = getattr(settings, option.setting)
            raise CheckpointError(f"hyper-parameter {name} is {value}, the tensors have {size}")
