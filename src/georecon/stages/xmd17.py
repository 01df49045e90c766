"""xmd17: MD17's eight molecules, with trajectories and labels computed here by GFN2-xTB.

A stand-in for laptops without MD17's files: same molecules, same file layout, another and much
cheaper level of theory. It is not MD17 and must never be named so.

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
import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from georecon import units
from georecon.data.elements import COVALENT_RADIUS
from georecon.errors import ConfigError, DataError
from georecon.files import atomic_path, sha256_file, write_json

SMILES = {
    "aspirin": "CC(=O)Oc1ccccc1C(=O)O",
    "benzene": "c1ccccc1",
    "ethanol": "CCO",
    "malonaldehyde": "O=CCC=O",
    "naphthalene": "c1ccc2ccccc2c1",
    "salicylic": "O=C(O)c1ccccc1O",
    "toluene": "Cc1ccccc1",
    "uracil": "O=c1cc[nH]c(=O)[nH]1",
}
MOLECULES = tuple(SMILES)
THEORY = "GFN2-xTB"

_DALTON = {1: 1.008, 6: 12.011, 7: 14.007, 8: 15.999}
_ACCURACY_BETWEEN, _ACCURACY_FRAME = 10.0, 0.1
_RELAX_FORCE = 0.01  # largest force of the relaxed start [eV/Å]
_STRETCHED = 1.5  # a bond longer than this times its relaxed length is broken
_MERGED = 1.15  # another pair closer than this times the sum of covalent radii has bonded
_ATTEMPTS = 3  # seeds tried before a broken molecule is an error
_REPORT_SECONDS = 10.0

Float = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True, slots=True)
class Settings:
    """How a trajectory is made.

    Attributes:
        frames: frames to record.
        spacing: steps from one recorded frame to the next.
        temperature_K: of the Langevin bath [K].
        timestep_fs: of the integrator [fs].
        friction: of the Langevin bath [1/fs].
        equilibration: steps before the first frame's spacing begins.
        seed: of start geometry, velocities and bath.
    """

    frames: int = 500
    spacing: int = 10
    temperature_K: float = 500.0  # noqa: N815 - kelvin
    timestep_fs: float = 0.5
    friction: float = 0.01
    equilibration: int = 1000
    seed: int = 0

    def __post_init__(self) -> None:
        """Refuse settings that cannot work, naming the allowed range."""
        for name, low in (("frames", 1), ("spacing", 1), ("equilibration", 0), ("seed", 0)):
            if getattr(self, name) < low:
                raise ConfigError(f"xmd17 {name} = {getattr(self, name)}, allowed from {low}")
        if not 0 < self.timestep_fs <= 1.0:
            raise ConfigError(f"xmd17 timestep_fs = {self.timestep_fs}, allowed up to 1.0 fs")
        if self.temperature_K <= 0 or self.friction < 0:
            raise ConfigError("xmd17 needs temperature_K > 0 and friction >= 0")


@contextmanager
def _one_thread() -> Iterator[None]:
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

    def __init__(self, z: NDArray[np.int64], x: Float) -> None:
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


def start_geometry(molecule: str, seed: int) -> tuple[NDArray[np.int64], Float]:
    """Atomic numbers (N,) and xTB-relaxed positions [Å] (N, 3) of an embedded conformer."""
    from ase import Atoms
    from ase.optimize import LBFGS
    from rdkit import Chem
    from rdkit.Chem import rdDistGeom
    from tblite.ase import TBLite

    mol = Chem.AddHs(Chem.MolFromSmiles(SMILES[molecule]))
    if rdDistGeom.EmbedMolecule(mol, randomSeed=seed + 1) != 0:  # ETKDG; -1 would be random
        raise DataError(molecule, None, f"RDKit found no conformer with seed {seed}")
    z = np.array([atom.GetAtomicNum() for atom in mol.GetAtoms()], dtype=np.int64)
    atoms = Atoms(z, mol.GetConformer().GetPositions())
    atoms.calc = TBLite(method=THEORY, verbosity=0)
    optimizer = LBFGS(atoms, logfile=None)
    if not optimizer.run(fmax=_RELAX_FORCE, steps=1000):
        raise DataError(molecule, None, "xTB relaxation did not converge in 1000 steps")
    return z, np.array(atoms.get_positions())


class Topology:
    """Notices bonds that break or form, by distance from the relaxed start."""

    def __init__(self, z: NDArray[np.int64], pos: Float) -> None:
        radii = COVALENT_RADIUS[z].astype(np.float64)
        self._i, self._j = np.triu_indices(len(z), k=1)
        reach = radii[self._i] + radii[self._j]
        start = self._lengths(pos)
        self._bonded = start < 1.3 * reach
        self._longest = np.where(self._bonded, _STRETCHED * start, np.inf)
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


class _Progress:
    """A line with rate and time left on standard error, about every ten seconds."""

    def __init__(self, what: str, total: int) -> None:
        self._what, self._total = what, total
        self._start = self._last = time.monotonic()

    def __call__(self, done: int) -> None:
        now = time.monotonic()
        if now - self._last < _REPORT_SECONDS:
            return
        self._last = now
        rate = done / (now - self._start)
        left = (self._total - done) / rate
        sys.stderr.write(
            f"xmd17 {self._what}: {done}/{self._total} steps, "
            f"{rate:.0f} steps/s, {left:.0f} s left\n"
        )
        sys.stderr.flush()


def _trajectory(
    molecule: str, z: NDArray[np.int64], pos: Float, settings: Settings
) -> Iterator[tuple[Float, float, Float]]:
    """Recorded frames: positions [a0], energy [Ha], forces [Ha/a0]."""
    rng = np.random.default_rng(settings.seed)
    surface, topology = Surface(z, pos / units.BOHR_TO_ANGSTROM), Topology(z, pos)
    mass = np.array([_DALTON[int(number)] for number in z])[:, None]
    mass = mass * units.DALTON_TO_ELECTRON_MASS  # (N, 1)
    step = settings.timestep_fs * units.FEMTOSECOND_TO_ATOMIC_TIME
    thermal = np.sqrt(settings.temperature_K * units.BOLTZMANN_HARTREE_PER_KELVIN / mass)
    keep = np.exp(-settings.friction * settings.timestep_fs)
    kick, random = 0.5 * step / mass, np.sqrt(1.0 - keep * keep) * thermal
    x = pos / units.BOHR_TO_ANGSTROM
    v = thermal * rng.standard_normal(x.shape)
    _, force = surface(x, _ACCURACY_FRAME)
    total = settings.equilibration + settings.frames * settings.spacing
    progress = _Progress(molecule, total)
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
                    f"xmd17 {molecule}",
                    after // settings.spacing - 1,
                    f"the molecule broke: {fault}; lower temperature_K ("
                    f"{settings.temperature_K:g}) or timestep_fs ({settings.timestep_fs:g}), "
                    "or take another seed",
                )
            yield x, energy, force


def _unbroken(
    molecule: str, z: NDArray[np.int64], pos: Float, settings: Settings
) -> tuple[list[tuple[Float, float, Float]], list[str]]:
    """First trajectory whose bonds hold, and what was wrong with those before it.

    Dynamics are chaotic: a seed that holds on one machine may cross a barrier on another.
    """
    faults: list[str] = []
    while True:
        again = replace(settings, seed=settings.seed + 1000 * len(faults))
        try:
            frames = [(x.copy(), e, f) for x, e, f in _trajectory(molecule, z, pos, again)]
        except DataError as error:
            faults.append(f"seed {again.seed}: {error}")
            if len(faults) == _ATTEMPTS:
                raise
        else:
            return frames, faults


@dataclass(frozen=True, kw_only=True, slots=True)
class Provenance:
    """How a trajectory was made: content of the ``.json`` beside it.

    Attributes:
        molecule: one of ``MOLECULES``; ``smiles`` is its structure.
        settings: of the dynamics.
        broken_trajectories: seeds whose molecule broke, and how.
        packages: versions.
        seconds: for "start" (embedding, relaxation) and "dynamics" [s].
        steps_per_second: of the dynamics.
        sha256: of the ``.npz``.
        dataset: always xmd17, never MD17.
        theory: level of theory.
        units: of the arrays.
    """

    molecule: str
    smiles: str
    settings: Settings
    broken_trajectories: list[str]
    packages: dict[str, str]
    seconds: dict[str, float]
    steps_per_second: float
    sha256: str
    dataset: str = "xmd17"
    theory: str = THEORY
    units: dict[str, str] = field(
        default_factory=lambda: {"pos": "Å", "energy": "kcal/mol", "forces": "kcal/mol/Å"}
    )


def simulate(molecule: str, out_npz: str | Path, **settings: Any) -> Provenance:
    """Simulate one molecule; write MD17's file layout, and how it was made in a ``.json`` beside.

    Arrays: R (n, N, 3) [Å], centred on the centre of mass; E (n, 1) [kcal/mol];
    F (n, N, 3) [kcal/mol/Å]; z (N,); name; theory. The same settings give the same bytes on one
    machine with the same packages.

    Args:
        molecule: one of ``MOLECULES``.
        out_npz: the file to write.
        **settings: fields of ``Settings`` (frames, spacing, temperature_K, timestep_fs, friction,
            equilibration, seed).

    Raises:
        ConfigError: unknown molecule, or a setting out of range.
        DataError: the start cannot be made, or a bond broke or formed on the way.
    """
    if molecule not in SMILES:
        raise ConfigError(f"xmd17 has no molecule {molecule!r}; allowed: {', '.join(SMILES)}")
    chosen = Settings(**settings)
    started = time.monotonic()
    with _one_thread():
        z, pos = start_geometry(molecule, chosen.seed)
        relaxed = time.monotonic()
        recorded, broken = _unbroken(molecule, z, pos, chosen)
    seconds = time.monotonic() - relaxed
    mass = np.array([_DALTON[int(number)] for number in z])
    R = np.array([x for x, _, _ in recorded]) * units.BOHR_TO_ANGSTROM  # (n, N, 3)
    R -= np.einsum("a,fac->fc", mass / mass.sum(), R)[:, None, :]
    E = np.array([[energy] for _, energy, _ in recorded]) * units.HARTREE_TO_KCAL_MOL
    F = np.array([force for _, _, force in recorded]) * (
        units.HARTREE_TO_KCAL_MOL / units.BOHR_TO_ANGSTROM
    )
    out_npz = Path(out_npz)
    with atomic_path(out_npz) as temporary, open(temporary, "wb") as handle:
        np.savez(handle, R=R, E=E, F=F, z=z.astype(np.uint8), name=molecule, theory=THEORY)
    steps = chosen.equilibration + chosen.frames * chosen.spacing
    made = Provenance(
        molecule=molecule,
        smiles=SMILES[molecule],
        settings=chosen,
        broken_trajectories=broken,
        packages={name: version(name) for name in ("tblite", "ase", "rdkit", "numpy")},
        seconds={"start": round(relaxed - started, 2), "dynamics": round(seconds, 2)},
        steps_per_second=round(steps / seconds, 1),
        sha256=sha256_file(out_npz),
    )
    write_json(out_npz.with_suffix(".json"), asdict(made))
    return made
