"""Geometries with GFN2-xTB energies and forces: start, dynamics, dihedral scans, broken bonds.

Dynamics: BAOAB Langevin splitting (B. Leimkuhler, C. Matthews, J. Chem. Phys. 138, 174102, 2013):
half kick, half drift, thermostat, half drift, half kick, in atomic units:

=============  =================================================
symbol         here
=============  =================================================
r, v, m        ``x`` [a0], ``v`` [a0/t_au], ``mass`` [m_e]
-dE/dr         ``force`` [Ha/a0]
exp(-gamma t)  ``keep``, velocity kept by the thermostat
=============  =================================================

tblite is called directly and each step starts from the last wave function, which makes 1.3 to 1.9
times the steps per second of ASE's integrator with its tblite wrapper. Steps between frames
converge the wave function loosely (force errors up to about 0.1 kcal/mol/Å, which the thermostat
absorbs); recorded frames converge it ten times tighter than tblite's default.
"""

from __future__ import annotations

import ctypes
import itertools
import math
import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from georecon import units
from georecon.data.elements import COVALENT_RADIUS
from georecon.data.simulation import Scan, Simulation
from georecon.errors import ConfigError, DataError

THEORY = "GFN2-xTB"

DALTON = {1: 1.008, 6: 12.011, 7: 14.007, 8: 15.999}
_ACCURACY_BETWEEN, _ACCURACY_FRAME = 10.0, 0.1
_RELAX_FORCE = 0.01  # largest force of a point of a scan, unless its steps end before [eV/Å]
# A bond longer than this times its relaxed length is broken. Thermal stretching grows with the
# square root of the temperature: 1.5 up to 500 K, 1.55 at 600 K, 1.77 at 1200 K.
_STRETCHED, _STRETCHED_KELVIN = 1.5, 500.0
_MERGED = 1.15  # another pair closer than this times the sum of covalent radii has bonded
_REPORT_SECONDS = 10.0

Int = NDArray[np.int64]
Float = NDArray[np.float64]


class Start(NamedTuple):
    """A molecule: atomic numbers (N,), xTB-relaxed positions [Å] (N, 3), RDKit's molecule."""

    z: Int
    pos: Float
    mol: Any


class Frame(NamedTuple):
    """Positions [a0] (N, 3), energy [Ha], forces [Ha/a0] (N, 3), dihedral angles [degrees]."""

    x: Float
    energy: float
    force: Float
    angles: tuple[float, ...] = ()


@contextmanager
def one_thread() -> Iterator[None]:
    """Run tblite on one thread: as fast for these molecules, and the same bytes every time."""
    before = os.environ.get("OMP_NUM_THREADS")
    os.environ["OMP_NUM_THREADS"] = "1"  # read when tblite is loaded first
    try:
        runtime: Any = ctypes.CDLL("libgomp.so.1")  # for the case that it was loaded before
        threads = runtime.omp_get_max_threads()
    except (OSError, AttributeError):
        runtime, threads = None, 1
    try:
        if runtime is not None:
            runtime.omp_set_num_threads(1)
        yield
    finally:
        if runtime is not None:
            runtime.omp_set_num_threads(threads)
        if before is None:
            os.environ.pop("OMP_NUM_THREADS", None)
        else:
            os.environ["OMP_NUM_THREADS"] = before


class Surface:
    """GFN2-xTB energy and forces of one molecule, restarting from the last wave function."""

    def __init__(self, z: Int, x: Float) -> None:
        from tblite.interface import Calculator

        self._calculator = Calculator(THEORY, z, x)
        self._calculator.set("verbosity", 0)
        self._result: Any = None

    def __call__(self, x: Float, accuracy: float) -> tuple[float, Float]:
        """Energy [Ha] and forces [Ha/a0] (N, 3) at ``x`` [a0] (N, 3)."""
        self._calculator.set("accuracy", accuracy)
        self._calculator.update(x)
        self._result = self._calculator.singlepoint(self._result)
        return float(self._result["energy"]), -np.asarray(self._result["gradient"])


def start_geometry(name: str, settings: Simulation) -> Start:
    """An embedded conformer, relaxed.

    Args:
        name: of the file, for errors.
        settings: molecule, seed of RDKit's ETKDG and largest force are used.

    Raises:
        ConfigError: the SMILES cannot be read, or an element has no mass here.
        DataError: no conformer, or the relaxation does not converge.
    """
    from ase import Atoms
    from rdkit import Chem, rdBase
    from rdkit.Chem import rdDistGeom

    smiles, seed = settings.smiles, settings.conformer_seed
    with rdBase.BlockLogs():  # said below
        bare = Chem.MolFromSmiles(smiles) if smiles else None
    if bare is None:
        raise ConfigError(f"{name}: simulation.smiles is {smiles!r}, no SMILES of a molecule")
    mol = Chem.AddHs(bare)
    z = np.array([atom.GetAtomicNum() for atom in mol.GetAtoms()], dtype=np.int64)
    if unknown := sorted(set(z.tolist()) - set(DALTON)):
        raise ConfigError(f"{name}: simulation.smiles has Z = {unknown}; allowed: {[*DALTON]}")
    if rdDistGeom.EmbedMolecule(mol, randomSeed=seed + 1) != 0:  # ETKDG; -1 would be random
        raise DataError(name, None, f"RDKit found no conformer with conformer_seed {seed}")
    atoms = Atoms(z, mol.GetConformer().GetPositions())
    if not _relax(atoms, settings.relax_force, 1000):
        raise DataError(name, None, "xTB relaxation did not converge in 1000 steps")
    pos = np.array(atoms.get_positions())
    mol.GetConformer().SetPositions(pos)
    return Start(z, pos, mol)


def _relax(atoms: Any, force: float, steps: int) -> bool:
    """Relax ASE's atoms in place; whether the largest force [eV/Å] is small now."""
    from ase.optimize import LBFGS
    from tblite.ase import TBLite

    atoms.calc = TBLite(method=THEORY, verbosity=0)
    return bool(LBFGS(atoms, logfile=None).run(fmax=force, steps=steps))


class Topology:
    """Notices bonds that break or form, by distance from the relaxed start.

    Args:
        z: atomic numbers, (N,).
        pos: relaxed positions [Å], (N, 3).
        kelvin: temperature of the dynamics, which says how far a bond may stretch.
    """

    def __init__(self, z: Int, pos: Float, kelvin: float) -> None:
        radii = COVALENT_RADIUS[z].astype(np.float64)
        self._i, self._j = np.triu_indices(len(z), k=1)
        reach = radii[self._i] + radii[self._j]
        start = self._lengths(pos)
        self._bonded = start < 1.3 * reach
        self._longest = np.where(self._bonded, stretch_limit(kelvin) * start, np.inf)
        self._shortest = np.where(self._bonded, 0.5 * start, _MERGED * reach)

    def _lengths(self, pos: Float) -> Float:
        return np.asarray(np.linalg.norm(pos[self._i] - pos[self._j], axis=1))

    def fault(self, pos: Float) -> str | None:
        """Why ``pos`` [Å] is no longer the same molecule, or None."""
        lengths = self._lengths(pos)
        bad = np.flatnonzero(~((lengths < self._longest) & (lengths > self._shortest)))
        if not len(bad):
            return None
        pair = bad[0]
        return (
            f"atoms {self._i[pair]} and {self._j[pair]} are {lengths[pair]:.2f} Å apart, expected "
            f"{self._shortest[pair]:.2f} to {self._longest[pair]:.2f} Å"
        )


def stretch_limit(kelvin: float) -> float:
    """Longest allowed length of a bond over its relaxed length, at a temperature [K]."""
    hotter = math.sqrt(max(kelvin / _STRETCHED_KELVIN, 1.0))
    return 1.0 + (_STRETCHED - 1.0) * hotter


class Progress:
    """A line with rate and time left on standard error, about every ten seconds."""

    def __init__(self, what: str, total: int) -> None:
        self._what, self._total = what, total
        self._start = self._last = time.monotonic()

    def __call__(self, done: int) -> None:
        """Say how far it is, if it is time to."""
        now = time.monotonic()
        if now - self._last < _REPORT_SECONDS:
            return
        self._last = now
        rate = done / (now - self._start)
        left = (self._total - done) / rate
        sys.stderr.write(
            f"{self._what}: {done}/{self._total} steps, {rate:.0f} steps/s, {left:.0f} s left\n"
        )
        sys.stderr.flush()


def trajectory(name: str, start: Start, settings: Simulation) -> Iterator[Frame]:
    """Recorded frames of the dynamics.

    Raises:
        DataError: a bond broke or formed.
    """
    rng = np.random.default_rng(settings.seed)
    z, pos = start.z, start.pos
    surface = Surface(z, pos / units.BOHR_TO_ANGSTROM)
    topology = Topology(z, pos, settings.temperature_K)
    mass = np.array([DALTON[int(number)] for number in z])[:, None]
    mass = mass * units.DALTON_TO_ELECTRON_MASS  # (N, 1)
    step = settings.timestep_fs * units.FEMTOSECOND_TO_ATOMIC_TIME
    thermal = np.sqrt(settings.temperature_K * units.BOLTZMANN_HARTREE_PER_KELVIN / mass)
    keep = np.exp(-settings.friction * settings.timestep_fs)
    kick, random = 0.5 * step / mass, np.sqrt(1.0 - keep * keep) * thermal
    x = pos / units.BOHR_TO_ANGSTROM
    v = thermal * rng.standard_normal(x.shape)
    _, force = surface(x, _ACCURACY_FRAME)
    total = settings.equilibration + settings.frames * settings.spacing
    progress = Progress(name, total)
    for number in range(1, total + 1):
        after = number - settings.equilibration
        record = after > 0 and after % settings.spacing == 0
        v = v + kick * force
        x = x + 0.5 * step * v
        v = keep * v + random * rng.standard_normal(x.shape)
        x = x + 0.5 * step * v
        energy, force = surface(x, _ACCURACY_FRAME if record else _ACCURACY_BETWEEN)
        v = v + kick * force
        progress(number)
        if record:
            fault = topology.fault(x * units.BOHR_TO_ANGSTROM)
            if fault is not None or not np.isfinite(energy):
                raise DataError(
                    name,
                    after // settings.spacing - 1,
                    f"the molecule broke: {fault}; lower temperature_K ("
                    f"{settings.temperature_K:g}) or timestep_fs ({settings.timestep_fs:g}), "
                    "or take another seed",
                )
            yield Frame(x.copy(), energy, force)


def scan_points(name: str, start: Start, scan: Scan) -> tuple[list[Frame], list[str]]:
    """Relaxed geometries at all combinations of the scan's angles, and which of them broke.

    As 3BPA's authors do it: the dihedral is turned, then all atoms that define dihedrals stay in
    place while the others relax.

    Raises:
        ConfigError: four atoms are no dihedral of the molecule.
    """
    from ase import Atoms
    from ase.constraints import FixAtoms
    from rdkit.Chem import Mol, rdMolTransforms

    for one in scan.dihedrals:
        _refuse_unbonded(name, start, one.atoms)
    held = sorted({atom for one in scan.dihedrals for atom in one.atoms})
    topology = Topology(start.z, start.pos, _STRETCHED_KELVIN)
    grid = list(itertools.product(*(one.degrees for one in scan.dihedrals)))
    progress, frames, broken = Progress(name, len(grid)), [], []
    for number, angles in enumerate(grid, 1):
        conformer = Mol(start.mol).GetConformer()
        for one, angle in zip(scan.dihedrals, angles, strict=True):
            rdMolTransforms.SetDihedralDeg(conformer, *one.atoms, angle)
        atoms = Atoms(start.z, conformer.GetPositions(), constraint=FixAtoms(held))
        if scan.relax_steps:
            _relax(atoms, _RELAX_FORCE, scan.relax_steps)
        pos = np.array(atoms.get_positions())
        progress(number)
        if (fault := topology.fault(pos)) is not None:
            broken.append(f"{', '.join(f'{angle:g}' for angle in angles)} degrees: {fault}")
            continue
        x = pos / units.BOHR_TO_ANGSTROM
        frames.append(Frame(x, *Surface(start.z, x)(x, _ACCURACY_FRAME), angles))
    return frames, broken


def _refuse_unbonded(name: str, start: Start, atoms: tuple[int, ...]) -> None:
    """Refuse four atoms that are no chain of bonds, or whose middle bond is in a ring."""
    place = f"{name}: simulation.scan.dihedrals: {[*atoms]}"
    if max(atoms) >= len(start.z):
        raise ConfigError(f"{place} names atom {max(atoms)}; allowed: 0 to {len(start.z) - 1}")
    bonds = [start.mol.GetBondBetweenAtoms(*pair) for pair in itertools.pairwise(atoms)]
    if None in bonds:
        raise ConfigError(f"{place} is no chain of bonded atoms; bonds: {_bonds(start)}")
    if bonds[1].IsInRing():
        raise ConfigError(f"{place} turns about a bond of a ring; allowed: other bonds")


def _bonds(start: Start) -> str:
    pairs = ((b.GetBeginAtomIdx(), b.GetEndAtomIdx()) for b in start.mol.GetBonds())
    return ", ".join(f"{one}-{two}" for one, two in pairs)
