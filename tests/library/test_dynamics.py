"""A picosecond at constant energy with a model that has learned a molecule of springs."""

from __future__ import annotations

from pathlib import Path

import ase
import ase.build
import numpy as np
import pytest
import torch
from ase import units
from ase.md.velocitydistribution import Stationary
from ase.md.verlet import VelocityVerlet
from ase.optimize import BFGS
from numpy.typing import NDArray

import georecon
from georecon.graph import MolGraph, make_graph
from georecon.library.calculator import GeoReconCalculator
from georecon.models.model_file import load_model, save_model
from georecon.models.potential import PropertyModel
from tests.library.conftest import SIZES, make_model

ETHANOL = ase.build.molecule("CH3CH2OH")
STIFFNESS, REACH = 5.0, 2.6  # of springs between atoms [eV/Å²], between which atoms [Å]
FRAMES, SIGMA, STEPS, BATCH = 256, 0.08, 400, 16
ALLOWED = 0.03  # change of the total energy over the mean kinetic energy
KELVIN = 60
Float = NDArray[np.float64]


def springs(pos: Float) -> tuple[Float, Float]:
    """Energies [eV] (M,) and forces [eV/Å] (M, 9, 3) of frames (M, 9, 3)."""
    first, second = np.triu_indices(len(ETHANOL), 1)
    rest = np.linalg.norm(ETHANOL.positions[first] - ETHANOL.positions[second], axis=1)
    near = rest < REACH
    first, second, rest = first[near], second[near], rest[near]
    apart = pos[:, second] - pos[:, first]
    length = np.linalg.norm(apart, axis=2)
    stretch = length - rest
    pull = STIFFNESS * (stretch / length)[..., None] * apart
    forces = np.zeros_like(pos)
    for pair in range(len(first)):
        forces[:, first[pair]] += pull[:, pair]
        forces[:, second[pair]] -= pull[:, pair]
    return 0.5 * STIFFNESS * (stretch**2).sum(1), forces


def frames(rows: NDArray[np.int64], pos: Float) -> MolGraph:
    return make_graph(
        torch.from_numpy(np.tile(ETHANOL.numbers, len(rows)).astype(np.int64)),
        torch.from_numpy(pos[rows].reshape(-1, 3).astype(np.float32)),
        torch.full((len(rows),), len(ETHANOL)),
        torch.from_numpy(rows),
    )


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The file of a small model of the springs."""
    rng = np.random.default_rng(0)
    pos = ETHANOL.positions + rng.normal(scale=SIGMA, size=(FRAMES, len(ETHANOL), 3))
    energy, forces = springs(pos)
    torch.manual_seed(0)
    atomref = torch.zeros(SIZES.max_z, dtype=torch.float64)
    scale = float(np.sqrt((forces**2).mean()))
    net = PropertyModel(SIZES, "scalar", scale=scale, shift=energy.mean(), atomref=atomref)
    optimizer = torch.optim.Adam(net.parameters(), lr=5e-3)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, STEPS)
    for _ in range(STEPS):
        rows = rng.integers(0, FRAMES, BATCH)
        graph = frames(rows, pos)
        found, pull = net.energy_and_forces(graph, training=True)
        right = torch.from_numpy((forces[rows].reshape(-1, 3) / scale).astype(np.float32))
        target = net.normalise(torch.from_numpy(energy[rows]), graph)
        loss = (pull - right).square().mean() + 0.1 * (found - target).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    folder = tmp_path_factory.mktemp("springs")
    _, card = load_model(make_model(folder, forces=True))
    save_model(folder / "model.safetensors", net, card)
    return folder / "model.safetensors"


class Pushed(GeoReconCalculator):
    """Forces that are not the slope of the energy: a tenth too large."""

    def calculate(self, *given: object, **named: object) -> None:
        super().calculate(*given, **named)
        self.results["forces"] = self.results["forces"] * 1.1


def run(kind: type[GeoReconCalculator], path: Path, femtoseconds: int) -> tuple[Float, Float]:
    """Total and kinetic energies [eV] on the way, from rest with velocities of KELVIN."""
    atoms = ETHANOL.copy()
    atoms.calc = kind(georecon.load(path), double=True)
    BFGS(atoms, logfile=None).run(fmax=0.01, steps=60)
    spread = np.sqrt(atoms.get_masses()[:, None] * units.kB * KELVIN)
    atoms.set_momenta(np.random.default_rng(1).normal(size=(len(atoms), 3)) * spread)
    Stationary(atoms)
    total, kinetic = [atoms.get_total_energy()], [atoms.get_kinetic_energy()]
    with VelocityVerlet(atoms, timestep=0.25 * units.fs) as dynamics:
        for _ in range(femtoseconds // 2):
            dynamics.run(8)
            total.append(atoms.get_total_energy())
            kinetic.append(atoms.get_kinetic_energy())
    distances = atoms.get_all_distances()
    bonded = ETHANOL.get_all_distances() < 1.6
    assert np.abs(distances - ETHANOL.get_all_distances())[bonded].max() < 0.2, "it fell apart"
    return np.array(total), np.array(kinetic)


def change(total: Float, kinetic: Float) -> float:
    """Largest change of the total energy, over the mean kinetic energy."""
    return float(np.abs(total - total[0]).max() / kinetic.mean())


@pytest.mark.slow
def test_a_picosecond_keeps_the_energy(trained: Path) -> None:
    total, kinetic = run(GeoReconCalculator, trained, 1000)
    assert np.ptp(kinetic) > 0.3 * kinetic.mean(), "nothing moves that could fail to be kept"
    assert change(total, kinetic) < ALLOWED
    half = len(total) // 2
    assert abs(total[half:].mean() - total[:half].mean()) < 0.1 * ALLOWED * kinetic.mean(), "drift"


@pytest.mark.slow
def test_forces_that_are_no_slope_are_noticed(trained: Path) -> None:
    assert change(*run(Pushed, trained, 50)) > ALLOWED
