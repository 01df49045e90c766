"""Small molecules made in code."""

from __future__ import annotations

import numpy as np

from georecon.data.molecules import Molecules


def make_molecules(first_id: int = 10, seed: int = 0, forces: bool = True) -> Molecules:
    """Three molecules of 1, 3 and 5 atoms with random geometry."""
    rng = np.random.default_rng(seed)
    sizes = [1, 3, 5]
    return Molecules.from_list(
        [first_id, first_id + 2, first_id + 1],
        [[8], [8, 1, 1], [6, 1, 1, 1, 1]],
        [rng.normal(size=(n, 3)) for n in sizes],
        {"energy": rng.normal(size=3)},
        [rng.normal(size=(n, 3)) for n in sizes] if forces else None,
    )
