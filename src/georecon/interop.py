"""Exchange encoder weights with TorchMD-NET 3.x (class ``TorchMD_ET``).

The two differ in names of nothing but the order of rows: the 3F outputs of ``v_proj`` and
``dv_proj`` are (heads, 3, D) there and (3, heads, D) here. Buffers of the radial basis are
constants here.
"""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from georecon.errors import CheckpointError
from georecon.models.encoder import EquivariantTransformer

_REORDERED = (".v_proj.", ".dv_proj.")
_CONSTANTS = ("distance.", "distance_expansion.")
_WHITENED = "vec_norm."


def from_torchmdnet(state: Mapping[str, Tensor], encoder: EquivariantTransformer) -> None:
    """Load a TorchMD-NET ET state dict into an encoder of the same sizes, in place.

    Args:
        state: ``TorchMD_ET.state_dict()``; constants of the radial basis and neighbour list are
            ignored.
        encoder: encoder whose ``vec_norm``, which TorchMD-NET 3 does not have, is left as it is.

    Raises:
        CheckpointError: the first tensor that is missing, unknown or of another shape.
    """
    heads = encoder.settings.heads
    expected = encoder.state_dict()
    given = {name: tensor for name, tensor in state.items() if not name.startswith(_CONSTANTS)}
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


def to_torchmdnet(encoder: EquivariantTransformer) -> dict[str, Tensor]:
    """State dict for ``TorchMD_ET.load_state_dict(…, strict=False)``: all but its constants.

    Raises:
        CheckpointError: the encoder whitens its vectors, which TorchMD-NET 3 cannot do.
    """
    state = encoder.state_dict()
    if any(name.startswith(_WHITENED) for name in state):
        raise CheckpointError(
            "TorchMD-NET 3 has no whitened vector norm: encoder.vector_norm must be none"
        )
    heads = encoder.settings.heads
    return {name: _swap(name, tensor, 3, heads) for name, tensor in state.items()}


def _swap(name: str, tensor: Tensor, outer: int, inner: int) -> Tensor:
    """Rows ordered (outer, inner, D) → (inner, outer, D) for the tensors that need it."""
    if not any(part in name for part in _REORDERED):
        return tensor
    blocks = tensor.reshape(outer, inner, -1, *tensor.shape[1:])
    return blocks.transpose(0, 1).reshape(tensor.shape)
