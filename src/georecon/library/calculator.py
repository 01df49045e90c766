"""A fine-tuned force model as an ASE calculator: relaxations, molecular dynamics, normal modes."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
import torch
from ase.calculators.calculator import Calculator, all_changes

from georecon.errors import ConfigError
from georecon.graph import make_graph
from georecon.library.models import Model
from georecon.units import convert


class GeoReconCalculator(Calculator):  # type: ignore[misc]
    """Energy [eV] and forces [eV/Å] of single molecules.

    Args:
        model: a fine-tuned model whose label is an energy; without training on forces they are
            its gradient all the same.
        double: compute in float64: for finite differences and long dynamics.

    Raises:
        ConfigError: the model's unit is no energy.
    """

    implemented_properties: ClassVar[list[str]] = ["energy", "forces"]

    def __init__(self, model: Model, *, double: bool = False) -> None:
        super().__init__()
        try:
            self.factor = float(convert(1.0, model.card.unit, "eV"))
        except ConfigError:
            raise ConfigError(
                f"{model.card.run}: predicts {model.card.label} in {model.card.unit}, no energy; "
                "a calculator needs one"
            ) from None
        self.dtype = torch.float64 if double else torch.float32
        self.net = model.net.to(self.dtype)
        self.max_z = model.card.encoder.max_z

    def calculate(
        self,
        atoms: Any = None,
        properties: Any = ("energy",),
        system_changes: Any = all_changes,
    ) -> None:
        """ASE's interface.

        Raises:
            ConfigError: a periodic system, or an element that the model has not.
        """
        super().calculate(atoms, properties, system_changes)
        if self.atoms.pbc.any():
            raise ConfigError("atoms are periodic (pbc); the model takes single molecules")
        z = np.asarray(self.atoms.get_atomic_numbers(), np.int64)
        if len(odd := z[(z < 1) | (z >= self.max_z)]):
            raise ConfigError(f"unknown element: Z = {odd[0]}, the model has 1 to {self.max_z - 1}")
        graph = make_graph(
            torch.from_numpy(z),
            torch.tensor(self.atoms.positions, dtype=self.dtype),
            torch.tensor([len(z)]),
            torch.zeros(1, dtype=torch.int64),
        )
        energy, forces = self.net.energy_and_forces(graph, training=False)
        scale = self.net.scale * self.factor
        self.results = {
            "energy": float(self.net.denormalise(energy, graph)) * self.factor,
            "forces": (forces.to(torch.float64) * scale).detach().numpy(),
        }
