"""GFN2-xTB dynamics and scans: right thermostat, forces are the gradient, broken bonds, angles."""

from __future__ import annotations

from importlib.util import find_spec
from typing import Any

import numpy as np
import pytest

from georecon import units
from georecon.data.raw import xtb
from georecon.data.raw.xtb import (
    Start,
    Surface,
    Topology,
    scan_points,
    start_geometry,
    stretch_limit,
)
from georecon.data.simulation import Dihedral, Scan, Simulation
from georecon.errors import ConfigError, DataError

needs_xtb = pytest.mark.skipif(
    any(find_spec(name) is None for name in ("tblite", "rdkit", "ase")),
    reason="needs tblite, rdkit and ase",
)


def settings(**own: Any) -> Simulation:
    shared = {"frames": 12, "spacing": 5, "equilibration": 20, "temperature_K": 500.0}
    shared |= {"timestep_fs": 0.5, "friction": 0.01, "conformer_seed": 3, "seed": 3}
    return Simulation(**{**shared, "smiles": "CCO", **own})


@pytest.fixture(scope="module")
def ethanol() -> Start:
    with xtb.one_thread():
        return start_geometry("ethanol", settings())


@needs_xtb
def test_forces_are_minus_the_gradient_of_the_energy(ethanol: Start) -> None:
    frame = next(xtb.trajectory("ethanol", ethanol, settings(frames=1)))
    surface = Surface(ethanol.z, frame.x)

    def energy(atom: int, axis: int, shift: float) -> float:
        moved = frame.x.copy()
        moved[atom, axis] += shift
        return surface(moved, 0.01)[0]

    assert energy(0, 0, 0.0) == pytest.approx(frame.energy, abs=1e-8)
    h = 2e-3
    for atom, axis in ((0, 0), (2, 1), (8, 2)):
        numeric = -(energy(atom, axis, h) - energy(atom, axis, -h)) / (2 * h)
        assert numeric == pytest.approx(frame.force[atom, axis], abs=5e-6)


class Harmonic:
    """A spring on every coordinate, instead of xTB."""

    constant = 0.05  # [Ha/a0^2]

    def __init__(self, z: Any, x: Any) -> None:
        self.centre = x.copy()

    def __call__(self, x: Any, accuracy: float) -> tuple[float, Any]:
        away = x - self.centre
        return 0.5 * self.constant * float((away**2).sum()), -self.constant * away


@pytest.mark.parametrize("kelvin", [300.0, 1200.0])
def test_thermostat_samples_the_temperature(monkeypatch: pytest.MonkeyPatch, kelvin: float) -> None:
    monkeypatch.setattr(xtb, "Surface", Harmonic)
    monkeypatch.setattr(Topology, "fault", lambda self, pos: None)
    z, pos = np.array([1, 6, 8] * 20), np.random.default_rng(0).normal(size=(60, 3)) * 5
    own = {"frames": 3000, "spacing": 4, "friction": 0.05, "equilibration": 1000, "seed": 1}
    made = xtb.trajectory("springs", Start(z, pos, None), settings(**own, temperature_K=kelvin))
    energies = [frame.energy for frame in made]
    expected = 0.5 * 180 * units.BOLTZMANN_HARTREE_PER_KELVIN * kelvin
    assert np.mean(energies) == pytest.approx(expected, rel=0.02)
    assert np.std(energies) == pytest.approx(expected / np.sqrt(90), rel=0.15)


@needs_xtb
def test_start_does_not_depend_on_the_seed_of_the_dynamics(ethanol: Start) -> None:
    other = start_geometry("ethanol", settings(seed=9))
    assert np.array_equal(other.pos, ethanol.pos)
    first, second = (
        next(xtb.trajectory("ethanol", ethanol, settings(seed=seed, frames=1))) for seed in (3, 9)
    )
    assert np.abs(first.x - second.x).max() > 0.01


@needs_xtb
@pytest.mark.parametrize(
    ("smiles", "words"),
    [("", "is '', no SMILES"), ("C1CC", "is 'C1CC', no SMILES"), ("CCCl", r"has Z = \[17\]")],
)
def test_a_molecule_that_cannot_be_made_is_refused(smiles: str, words: str) -> None:
    with pytest.raises(ConfigError, match=f"mine: simulation.smiles {words}"):
        start_geometry("mine", settings(smiles=smiles))


# ---- bonds -----------------------------------------------------------------------------------


WATER = np.array([8, 1, 1]), np.array([[0.0, 0, 0], [0.96, 0, 0], [-0.24, 0.93, 0]])


def test_topology_notices_both_kinds_of_change() -> None:
    z, pos = WATER
    topology = Topology(z, pos, 500.0)
    assert topology.fault(pos) is None
    assert topology.fault(pos * 1.2) is None
    assert "atoms 0 and 1 are 1.54" in str(topology.fault(pos * 1.6))
    assert topology.fault(np.array([pos[0], pos[1], pos[1] + [0, 0.3, 0]])) is not None
    assert topology.fault(np.full((3, 3), np.nan)) is not None


def test_bonds_of_hotter_molecules_may_stretch_further() -> None:
    limits = [stretch_limit(kelvin) for kelvin in (10.0, 300.0, 500.0, 600.0, 1200.0)]
    assert limits[:3] == [1.5, 1.5, 1.5]
    assert limits[3:] == pytest.approx([1.548, 1.775], abs=1e-3)
    z, pos = WATER
    assert Topology(z, pos, 500.0).fault(pos * 1.6) is not None
    assert Topology(z, pos, 1200.0).fault(pos * 1.6) is None
    assert Topology(z, pos, 1200.0).fault(pos * 1.8) is not None


# ---- scans -----------------------------------------------------------------------------------

TURNED = Dihedral(atoms=(0, 1, 2, 8), degrees=(60.0, 180.0))  # C-C-O-H of ethanol


@needs_xtb
def test_scan_has_the_angles_that_it_says(ethanol: Start) -> None:
    frames, broken = scan_points("ethanol", ethanol, Scan(dihedrals=(TURNED,), relax_steps=3))
    assert broken == []
    assert [frame.angles for frame in frames] == [(60.0,), (180.0,)]
    from ase import Atoms

    for frame in frames:
        atoms = Atoms(ethanol.z, frame.x * units.BOHR_TO_ANGSTROM)
        assert atoms.get_dihedral(0, 1, 2, 8) == pytest.approx(frame.angles[0], abs=1e-3)
    assert abs(frames[0].energy - frames[1].energy) < 0.01  # Ha; an angle, not another molecule


@needs_xtb
def test_relaxation_lowers_the_energy(ethanol: Start) -> None:
    one = Dihedral(atoms=TURNED.atoms, degrees=(0.0,))
    (stiff,), _ = scan_points("ethanol", ethanol, Scan(dihedrals=(one,), relax_steps=0))
    (relaxed,), _ = scan_points("ethanol", ethanol, Scan(dihedrals=(one,), relax_steps=20))
    assert relaxed.energy < stiff.energy - 1e-5


@needs_xtb
def test_broken_points_of_a_scan_are_told(ethanol: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    faults = iter(["atoms 0 and 1 are 3.00 Å apart", None])
    monkeypatch.setattr(Topology, "fault", lambda self, pos: next(faults))
    frames, broken = scan_points("ethanol", ethanol, Scan(dihedrals=(TURNED,), relax_steps=0))
    assert len(frames) == 1
    assert broken == ["60 degrees: atoms 0 and 1 are 3.00 Å apart"]


@needs_xtb
@pytest.mark.parametrize(
    ("atoms", "words"),
    [
        ((0, 1, 2, 80), "names atom 80; allowed: 0 to 8"),
        ((0, 2, 1, 3), "is no chain of bonded atoms; bonds: 0-1, 1-2"),
    ],
)
def test_four_atoms_that_are_no_dihedral_are_refused(
    ethanol: Start, atoms: tuple[int, int, int, int], words: str
) -> None:
    scan = Scan(dihedrals=(Dihedral(atoms=atoms, degrees=(0.0,)),), relax_steps=0)
    with pytest.raises(ConfigError, match=f"ethanol: simulation.scan.dihedrals: .*{words}"):
        scan_points("ethanol", ethanol, scan)


@needs_xtb
def test_a_ring_is_not_turned() -> None:
    start = start_geometry("mine", settings(smiles="C1CO1", relax_force=5.0))
    scan = Scan(dihedrals=(Dihedral(atoms=(3, 0, 1, 5), degrees=(0.0,)),), relax_steps=0)
    with pytest.raises(ConfigError, match="turns about a bond of a ring"):
        scan_points("mine", start, scan)


def test_progress_is_silent_at_first_then_tells_rate_and_time_left(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    now = iter([0.0, 5.0, 11.0, 12.0])
    monkeypatch.setattr(xtb.time, "monotonic", lambda: next(now))
    progress = xtb.Progress("xmd17_ethanol", 220)
    for done in (50, 110, 120):
        progress(done)
    text = capsys.readouterr().err
    assert text == "xmd17_ethanol: 110/220 steps, 10 steps/s, 11 s left\n"


@needs_xtb
def test_broken_molecule_stops_a_trajectory(ethanol: Start) -> None:
    hot = settings(frames=60, temperature_K=30_000.0)
    with pytest.raises(DataError, match=r"ethanol, record \d+: the molecule broke: atoms"):
        list(xtb.trajectory("ethanol", ethanol, hot))
