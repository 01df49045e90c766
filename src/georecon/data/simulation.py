"""How a computed raw file is made: keys of a dataset card, for all its files and for one of them.

A card says once what its trajectories share; a file says what is its own: molecule, temperature,
seed, or the dihedral angles of a scan in place of dynamics.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields, replace
from itertools import combinations
from typing import Annotated

from georecon.keys import Key, KeysError

Atom = Annotated[int, Key("", at_least=0)]
Degrees = Annotated[float, Key("", at_least=-360, at_most=360)]
_SEED = 2**31 - 2  # RDKit's own is one larger


@dataclass(frozen=True, kw_only=True, slots=True)
class Dihedral:
    """Angles that one dihedral takes."""

    atoms: Annotated[
        tuple[Atom, Atom, Atom, Atom], Key("four atoms in the order of `smiles`, from 0")
    ]
    degrees: Annotated[tuple[Degrees, ...], Key("its angles", "degrees", filled=True)]


@dataclass(frozen=True, kw_only=True, slots=True)
class Scan:
    """Relaxed geometries at all combinations of some dihedral angles."""

    dihedrals: Annotated[
        tuple[Dihedral, ...], Key("the last one's angle changes fastest", filled=True)
    ]
    relax_steps: Annotated[
        int, Key("most steps of relaxation; the dihedrals' atoms stay in place", at_least=0)
    ]

    def __post_init__(self) -> None:
        axes = [sorted(one.atoms[1:3]) for one in self.dihedrals]
        for axis in axes:
            if axes.count(axis) > 1:
                raise KeysError("dihedrals", f"two turn about the bond {axis}; one angle a bond")
        for one in self.dihedrals:
            if len(set(one.atoms)) < 4:
                raise KeysError("dihedrals", f"{[*one.atoms]} names an atom twice")


@dataclass(frozen=True, kw_only=True, slots=True)
class Simulation:
    """How the files of a card are computed (GFN2-xTB)."""

    frames: Annotated[int, Key("frames to record", at_least=1)]
    spacing: Annotated[int, Key("steps between two frames", at_least=1)]
    equilibration: Annotated[int, Key("steps before the first frame's spacing", at_least=0)]
    temperature_K: Annotated[float, Key("of the bath", "K", above=0)]  # noqa: N815 - kelvin
    timestep_fs: Annotated[float, Key("of the integrator", "fs", above=0, at_most=1.0)]
    friction: Annotated[float, Key("of the bath", "1/fs", above=0)]
    conformer_seed: Annotated[int, Key("of the start geometry", at_least=0, at_most=_SEED)]
    seed: Annotated[int, Key("of velocities and bath", at_least=0, at_most=_SEED)]
    relax_force: Annotated[
        float, Key("largest force of the start geometry; dynamics do the rest", "eV/Å", above=0)
    ] = 0.01
    smiles: Annotated[str, Key("the molecule; hydrogens are added")] = ""
    scan: Annotated[Scan | None, Key("relaxed geometries in place of dynamics")] = None


@dataclass(frozen=True, kw_only=True, slots=True)
class FileSimulation:
    """What is a file's own, in place of the card's."""

    smiles: Annotated[str | None, Key("the molecule; hydrogens are added")] = None
    frames: Annotated[int | None, Key("frames to record", at_least=1)] = None
    spacing: Annotated[int | None, Key("steps between two frames", at_least=1)] = None
    equilibration: Annotated[
        int | None, Key("steps before the first frame's spacing", at_least=0)
    ] = None
    temperature_K: Annotated[float | None, Key("of the bath", "K", above=0)] = (  # noqa: N815
        None
    )
    conformer_seed: Annotated[
        int | None, Key("of the start geometry", at_least=0, at_most=_SEED)
    ] = None
    seed: Annotated[int | None, Key("of velocities and bath", at_least=0, at_most=_SEED)] = None
    relax_force: Annotated[
        float | None, Key("largest force of the start geometry", "eV/Å", above=0)
    ] = None
    scan: Annotated[Scan | None, Key("relaxed geometries in place of dynamics")] = None

    def over(self, shared: Simulation) -> Simulation:
        """The card's simulation with what this file says."""
        own = {one.name: getattr(self, one.name) for one in fields(self)}
        return replace(shared, **{name: value for name, value in own.items() if value is not None})


def alike(simulations: dict[str, Simulation]) -> Iterator[tuple[str, str]]:
    """Pairs of files whose trajectories would be the same: each is to be one of its own."""
    for (one, first), (two, second) in combinations(simulations.items(), 2):
        if (first.smiles, first.temperature_K, first.seed, first.scan) == (
            second.smiles,
            second.temperature_K,
            second.seed,
            second.scan,
        ):
            yield one, two
