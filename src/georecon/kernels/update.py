"""Update of an ET layer from its messages (Thölke and De Fabritiis 2022, eqs. 10 and 11)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from torch import Tensor

from georecon.kernels import native
from georecon.kernels.autograd import Arrays, Operation
from georecon.kernels.reference import reference_update

if TYPE_CHECKING:
    from jaxtyping import Float


def layer_update(
    o: Float[Tensor, "N W"], p: Float[Tensor, "N 3 W"]
) -> tuple[Float[Tensor, "N F"], Float[Tensor, "N 3 F"]]:
    """What a layer adds to the scalars, and to the vectors beside the vector messages.

    Args:
        o: three linear maps of the message, side by side, (N, 3F).
        p: three linear maps of the vectors, side by side, (N, 3, 3F).

    Returns:
        (N, F) and (N, 3, F).
    """
    if native.kernel(o.device.type) == "native":
        dx, dvec = _Update().apply(o, p)
        return dx, dvec
    return reference_update(o, p)


class _Update(Operation):
    """``update.cpp``."""

    entry = "layer_update"
    inputs = ("o", "p")

    def arguments(self, *inputs: Any) -> dict[str, Tensor | int | None]:
        """Sizes."""
        o: Tensor = inputs[0]
        return {
            "atoms": o.shape[0],
            "channels": o.shape[1] // 3,
            "type": native.TYPES[o.dtype],
        }

    def outputs(self, *inputs: Any) -> Arrays:
        """Updates of scalars and vectors."""
        o: Tensor = inputs[0]
        atoms, channels = o.shape[0], o.shape[1] // 3
        return {"dx": o.new_empty(atoms, channels), "dvec": o.new_empty(atoms, 3, channels)}
