"""Computed force sets: trajectories and dihedral scans with GFN2-xTB labels, in MD17's layout.

Stand-ins for laptops without the official files (xmd17, x3bpa, xmd22): same molecules, another and
much cheaper level of theory. They are not MD17, 3BPA or MD22 and must never be named so.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from georecon import units
from georecon.data.raw.xtb import (
    DALTON,
    THEORY,
    Frame,
    Start,
    one_thread,
    scan_points,
    start_geometry,
    trajectory,
)
from georecon.data.simulation import Simulation
from georecon.errors import DataError
from georecon.files import atomic_path, sha256_file, write_json
from georecon.keys import Json, as_json, from_json

_ATTEMPTS = 3  # seeds tried before a broken molecule is an error
_FEWEST = 0.5  # part of a scan's points that must hold
_WINDOW = 5.0  # Sokal: autocorrelation is summed up to so many integrated times

Float = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True, slots=True)
class Provenance:
    """How a file was made: content of the ``.json`` beside it.

    Attributes:
        name: of the file.
        settings: of the dynamics or scan.
        broken: seeds whose molecule broke, or scan points, and how.
        frames: recorded.
        independent_frames: of these, by the integrated autocorrelation time of the energy; None
            for a scan.
        packages: versions.
        seconds: for "start" (embedding, relaxation) and "dynamics" (or scan) [s].
        sha256: of the ``.npz``.
        dataset: always the computed one, never the official set that it stands in for.
        theory: level of theory.
        units: of the arrays.
    """

    dataset: str
    name: str
    settings: Json
    broken: list[str]
    frames: int
    independent_frames: float | None
    packages: dict[str, str]
    seconds: dict[str, float]
    sha256: str
    theory: str = THEORY
    units: dict[str, str] = field(
        default_factory=lambda: {"pos": "Å", "energy": "kcal/mol", "forces": "kcal/mol/Å"}
    )


def independent_frames(energies: Float) -> float:
    """How many independent values would average as well as these do, (M,) → at most M.

    M over twice the integrated autocorrelation time ½ + Σ ρ(t), summed up to the first t that is
    five such times (A. Sokal's window).
    """
    centred = energies - energies.mean()
    variance = float(centred @ centred)
    if variance == 0.0:
        return 1.0
    summed = 0.5
    for lag in range(1, len(energies)):
        summed = max(summed + float(centred[:-lag] @ centred[lag:]) / variance, 0.5)
        if lag >= _WINDOW * summed:
            break
    return float(np.clip(len(energies) / (2.0 * summed), 1.0, len(energies)))


def _unbroken(name: str, start: Start, settings: Simulation) -> tuple[list[Frame], list[str]]:
    """First trajectory whose bonds hold, and what was wrong with those before it.

    Dynamics are chaotic: a seed that holds on one machine may cross a barrier on another.
    """
    faults: list[str] = []
    while True:
        again = replace(settings, seed=settings.seed + 1000 * len(faults))
        try:
            return list(trajectory(name, start, again)), faults
        except DataError as error:
            faults.append(f"seed {again.seed}: {error}")
            if len(faults) == _ATTEMPTS:
                raise


def _scanned(name: str, start: Start, settings: Simulation) -> tuple[list[Frame], list[str]]:
    """Points of a scan whose bonds hold, and the others.

    Raises:
        DataError: most points are broken.
    """
    assert settings.scan is not None
    frames, broken = scan_points(name, start, settings.scan)
    if len(frames) < max(1, _FEWEST * (len(frames) + len(broken))):
        reason = f"{len(broken)} of {len(frames) + len(broken)} points of the scan are broken"
        raise DataError(name, None, f"{reason}, first at {broken[0]}")
    return frames, broken


def simulate(
    dataset: str,
    name: str,
    out_npz: str | Path,
    simulation: Json,
    say: Callable[[str], None] = lambda line: None,
) -> Provenance:
    """Compute one file; write MD17's file layout, and how it was made in a ``.json`` beside.

    Arrays: R (n, N, 3) [Å], centred on the centre of mass; E (n, 1) [kcal/mol];
    F (n, N, 3) [kcal/mol/Å]; z (N,); name; theory; ``temperature_K`` of dynamics, or ``dihedrals``
    (n, D) [degrees] of a scan. The same settings give the same bytes on one machine with the same
    packages.

    Args:
        dataset: name of the computed set.
        name: of the file.
        out_npz: the file to write.
        simulation: of ``Simulation``, as JSON.
        say: takes one line of progress.

    Raises:
        ConfigError: a setting out of range, no molecule, no dihedral.
        DataError: the start cannot be made, or a bond broke or formed on the way.
    """
    chosen = from_json(Simulation, simulation, f"simulation of {name}")
    started = time.monotonic()
    with one_thread():
        start = start_geometry(name, chosen)
        relaxed = time.monotonic()
        frames, broken = (_scanned if chosen.scan else _unbroken)(name, start, chosen)
    seconds = time.monotonic() - relaxed
    energies = np.array([frame.energy for frame in frames]) * units.HARTREE_TO_KCAL_MOL
    out_npz = Path(out_npz)
    _write(out_npz, name, start, frames, energies, chosen)
    made = Provenance(
        dataset=dataset,
        name=name,
        settings=as_json(chosen),
        broken=broken,
        frames=len(frames),
        independent_frames=None if chosen.scan else round(independent_frames(energies), 1),
        packages={package: version(package) for package in ("tblite", "ase", "rdkit", "numpy")},
        seconds={"start": round(relaxed - started, 2), "dynamics": round(seconds, 2)},
        sha256=sha256_file(out_npz),
    )
    write_json(out_npz.with_suffix(".json"), asdict(made))
    say(f"{len(frames)} frames in {seconds:.0f} s, {len(broken)} broken: {'; '.join(broken)}")
    return made


def _write(
    path: Path, name: str, start: Start, frames: list[Frame], energies: Float, chosen: Simulation
) -> None:
    mass = np.array([DALTON[int(number)] for number in start.z])
    R = np.array([frame.x for frame in frames]) * units.BOHR_TO_ANGSTROM  # (n, N, 3)
    R -= np.einsum("a,fac->fc", mass / mass.sum(), R)[:, None, :]
    F = np.array([frame.force for frame in frames]) * (
        units.HARTREE_TO_KCAL_MOL / units.BOHR_TO_ANGSTROM
    )
    if chosen.scan is None:
        key, fact = "temperature_K", np.array(chosen.temperature_K)
    else:
        key, fact = "dihedrals", np.array([frame.angles for frame in frames])
    arrays: dict[str, NDArray[Any]] = {
        "R": R,
        "E": energies[:, None],
        "F": F,
        "z": start.z.astype(np.uint8),
        key: fact,
    }
    with atomic_path(path) as temporary, open(temporary, "wb") as handle:
        np.savez(handle, allow_pickle=False, name=np.array(name), theory=np.array(THEORY), **arrays)
