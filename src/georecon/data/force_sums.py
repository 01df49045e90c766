"""Errors of forces summed over each frame: what is kept of them beside the predictions themselves.

A mean absolute or root mean square error over force components is a quotient of such sums, so a
test set of a million frames needs no number for each component to be compared or computed again.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from georecon.data.molecules import Float, Int


class ForceSums(NamedTuple):
    """Of each frame, (M,).

    Attributes:
        components: number of force components with a label; 0 for a frame without forces.
        absolute: sum of their absolute errors [label unit/Å].
        square: sum of their squared errors [(label unit/Å)²].
    """

    components: Int
    absolute: Float
    square: Float


def force_sums(label: Float, prediction: NDArray[np.floating], atoms: Int) -> ForceSums:
    """Errors of predicted forces, summed in float64 over the components of each frame.

    Args:
        label: forces [label unit/Å], (N, 3) float64; NaN where there are none.
        prediction: predicted ones, (N, 3), float32 or float64.
        atoms: of each frame, at least one, (M,).
    """
    error = prediction.astype(np.float64) - label
    known = ~np.isnan(label)
    error[~known] = 0.0
    if not len(atoms):
        return ForceSums(np.zeros(0, dtype=np.int64), np.zeros(0), np.zeros(0))
    starts = np.cumsum(atoms) - atoms
    return ForceSums(
        np.add.reduceat(known.sum(axis=1, dtype=np.int64), starts),
        np.add.reduceat(np.abs(error).sum(axis=1), starts),
        np.add.reduceat((error**2).sum(axis=1), starts),
    )
