"""Frames of dynamics against their temperature: how mixed-up files and units are noticed.

A file that says its temperature T (``temperature_K`` in its card) must have forces of that
temperature: in a canonical ensemble <F²> = k T <∂²E/∂x²> per component, and the mean curvature of
organic molecules is known, 17 to 35 eV/Å² in MD17, 3BPA and the sets computed here. Of two files of
one molecule the hotter one must have the higher mean energy.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from georecon.data.molecules import Molecules
from georecon.errors import DataError
from georecon.units import BOLTZMANN_HARTREE_PER_KELVIN, HARTREE_TO_EV, factor

CURVATURE = (10.0, 80.0)
"""Plausible mean of ∂²E/∂x² [eV/Å²]; a temperature or a force in another unit lies outside."""


class Heat:
    """Looks at the files of one store, one after the other.

    Args:
        units: of ``energy`` and ``forces`` in the store.
    """

    def __init__(self, units: Mapping[str, str]) -> None:
        self._units = units
        self._seen: dict[bytes, list[tuple[float, float, Path]]] = {}

    def look(self, frames: Molecules, kelvin: float | None, path: Path) -> None:
        """Frames of one file; nothing to see without a temperature or with several molecules.

        Args:
            frames: in store units.
            kelvin: temperature of the dynamics [K], or None.
            path: the file, named in errors.

        Raises:
            DataError: the forces are not those of this temperature.
        """
        size = int(frames.n_atoms()[0]) if len(frames) else 0
        if kelvin is None or size < 2 or len(frames.z) != size * len(frames):
            return
        if frames.forces is not None:
            eV = factor(self._units["forces"], "eV/Å")
            thermal = kelvin * BOLTZMANN_HARTREE_PER_KELVIN * HARTREE_TO_EV
            curvature = float((frames.forces**2).mean()) * eV**2 / thermal
            if not CURVATURE[0] <= curvature <= CURVATURE[1]:
                low, high = CURVATURE
                raise DataError(
                    path,
                    None,
                    f"mean squared force over kT is {curvature:.3g} eV/Å² at {kelvin:g} K, "
                    f"plausible {low:g} to {high:g}: is it another temperature, or another unit "
                    f"than {self._units['forces']}?",
                )
        if "energy" in frames.labels:
            atoms = np.sort(frames.z[:size]).tobytes()
            mean = float(frames.labels["energy"].mean())
            self._seen.setdefault(atoms, []).append((kelvin, mean, path))

    def check(self) -> None:
        """Refuse a hotter file of the same molecule with a lower mean energy.

        Raises:
            DataError: names both files.
        """
        for found in self._seen.values():
            for (cold, low, first), (hot, high, second) in itertools.pairwise(sorted(found)):
                if cold < hot and high <= low:
                    reason = (
                        f"mean energy {high:.6g} at {hot:g} K is not above that of {first.name}, "
                        f"{low:.6g} at {cold:g} K: are the temperatures mixed up?"
                    )
                    raise DataError(second, None, reason)
