"""A fine-tuned force model as an ASE calculator: relaxations, molecular dynamics, normal modes."""

from __future__ import annotations

import numpy as np
import torch
from ase import Atoms
from numpy.typing import NDArray

from georecon.errors import ConfigError
from georecon.graph import make_graph
from georecon.library.models import Model
from georecon.models.calculator import FunctionCalculator
from georecon.units import factor


class GeoReconCalculator(FunctionCalculator):
    """Energy [eV] and forces [eV/Å] of single molecules.

    Args:
        model: a fine-tuned model whose label is an energy; without training on forces they are
            its gradient all the same.
        double: compute in float64: for finite differences and long dynamics.

    Raises:
        ConfigError: the model's unit is no energy.
    """

    def __init__(self, model: Model, *, double: bool = False) -> None:
        super().__init__(self._evaluate)
        try:
            self.factor = factor(model.card.unit, "eV")
        except ConfigError:
            raise ConfigError(
                f"{model.card.run}: predicts {model.card.label} in {model.card.unit}, no energy; "
                "a calculator needs one"
            ) from None
        self.dtype = torch.float64 if double else torch.float32
        self.net = model.net.to(self.dtype)
        self.max_z = model.card.encoder.max_z

    def _evaluate(self, atoms: Atoms) -> tuple[float, NDArray[np.float64]]:
        """Energy and forces.

        Raises:
            ConfigError: a periodic system, or an element that the model has not.
        """
        if atoms.pbc.any():
            raise ConfigError("atoms are periodic (pbc); the model takes single molecules")
        z = np.asarray(atoms.get_atomic_numbers(), np.int64)
        if len(odd := z[(z < 1) | (z >= self.max_z)]):
            raise ConfigError(f"unknown element: Z = {odd[0]}, the model has 1 to {self.max_z - 1}")
        graph = make_graph(
            torch.from_numpy(z),
            torch.tensor(atoms.positions, dtype=self.dtype),
            torch.tensor([len(z)]),
            torch.zeros(1, dtype=torch.int64),
        )
        energy, forces = self.net.label_and_forces(graph)
        return float(energy) * self.factor, (forces * self.factor).numpy()
