"""Energies and forces of any function as ASE asks for them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

import numpy as np
from ase import Atoms
from ase.calculators.calculator import Calculator, all_changes
from numpy.typing import NDArray


class FunctionCalculator(Calculator):  # type: ignore[misc] # ASE has no types
    """A calculator of one function.

    Args:
        function: atoms → energy [eV] and forces [eV/Å], (N, 3).
    """

    implemented_properties: ClassVar[list[str]] = ["energy", "forces"]

    def __init__(self, function: Callable[[Atoms], tuple[float, NDArray[np.float64]]]) -> None:
        super().__init__()
        self._function = function

    def calculate(
        self,
        atoms: Any = None,
        properties: Any = ("energy",),
        system_changes: Any = all_changes,
    ) -> None:
        """ASE's interface."""
        super().calculate(atoms, properties, system_changes)
        energy, forces = self._function(self.atoms)
        self.results = {"energy": energy, "forces": forces}
