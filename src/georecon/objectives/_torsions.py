"""Torsions that Frad turns: found by RDKit in the positions, turned for a whole batch at once."""

from __future__ import annotations

import itertools
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from georecon.graph import MolGraph

# Single bond outside rings between two atoms that have other neighbours and no triple bond
# (pattern of Frad and of RDKit's torsion fingerprints).
_ROTATABLE = "[!$(*#*)&!D1]-&!@[!$(*#*)&!D1]"


class Torsions(NamedTuple):
    """Rotatable bonds of a batch, as rounds of at most one bond a molecule.

    Attributes:
        molecule: molecule of each bond, (T,).
        number: how many bonds of its molecule come before it: its round, (T,).
        fixed: atom of the bond on the larger side, which stays, (T,).
        turned: atom of the bond on the smaller side, (T,).
        moves: whether an atom is turned by the bond, (T, N) bool.
    """

    molecule: Tensor
    number: Tensor
    fixed: Tensor
    turned: Tensor
    moves: Tensor


def rotatable_bonds(z: np.ndarray, pos: np.ndarray) -> list[tuple[int, int, list[int]]]:
    """Rotatable bonds of one molecule, perceived from its geometry.

    DEVIATION: bonds come from the positions (RDKit's ``DetermineBonds``, neutral molecule), not
    from the file the molecule came in, so that any store of positions will do. Where that fails
    (zwitterions, radicals) there are none.

    Args:
        z: atomic numbers, (N,).
        pos: positions [Å], (N, 3).

    Returns:
        For each bond: atom that stays, atom on the smaller side, atoms of that side.
    """
    from rdkit import Chem, rdBase
    from rdkit.Chem import rdDetermineBonds

    molecule = Chem.RWMol()
    for number in z:
        molecule.AddAtom(Chem.Atom(int(number)))
    conformer = Chem.Conformer(len(z))
    conformer.SetPositions(np.ascontiguousarray(pos, dtype=np.float64))
    molecule.AddConformer(conformer)
    with rdBase.BlockLogs():
        try:
            rdDetermineBonds.DetermineBonds(molecule, charge=0)
        except ValueError:
            return []
    found = []
    for j, k in molecule.GetSubstructMatches(Chem.MolFromSmarts(_ROTATABLE)):
        side = _side(molecule, j, k)
        small = 2 * len(side) <= len(z)
        found.append((j, k, side) if small else (k, j, _side(molecule, k, j)))
    return found


def _side(molecule: Any, j: int, k: int) -> list[int]:
    """Atoms that are connected to k when the bond j–k is cut, k included."""
    from rdkit import Chem

    cut = Chem.RWMol(molecule)
    cut.RemoveBond(j, k)
    for fragment in Chem.GetMolFrags(cut):
        if k in fragment:
            return list(fragment)
    raise AssertionError("an atom is in no fragment")


def find_torsions(graph: MolGraph) -> Torsions:
    """Rotatable bonds of all molecules of a batch, on its device."""
    z, pos, ptr = graph.z.cpu().numpy(), graph.pos.detach().cpu().numpy(), graph.ptr.tolist()
    rows: list[tuple[int, int, int, int]] = []
    moves = []
    for molecule, (first, end) in enumerate(itertools.pairwise(ptr)):
        bonds = rotatable_bonds(z[first:end], pos[first:end])
        for number, (j, k, side) in enumerate(bonds):
            rows.append((molecule, number, first + j, first + k))
            mask = torch.zeros(len(z), dtype=torch.bool)
            mask[torch.tensor(side) + first] = True
            moves.append(mask)
    columns = torch.tensor(rows, dtype=torch.int64).reshape(-1, 4).unbind(dim=1)
    flags = torch.stack(moves) if moves else torch.zeros((0, len(z)), dtype=torch.bool)
    return Torsions(*(part.to(graph.pos.device) for part in (*columns, flags)))


def turn(graph: MolGraph, torsions: Torsions, angle: Tensor) -> MolGraph:
    """Turn the smaller side of each bond about it, one bond of every molecule after another.

    Bond lengths and bond angles stay; of two bonds of one molecule the second is turned about where
    the first has left it (as RDKit's ``SetDihedral``, called in that order).

    Args:
        graph: the molecules.
        torsions: of these molecules.
        angle: how far each is turned [rad], right-handed about fixed → turned, (T,).
    """
    pos = graph.pos
    for number in range(int(torsions.number.max()) + 1 if len(angle) else 0):
        now = (torsions.number == number).nonzero()[:, 0]  # at most one a molecule
        row, atom = torsions.moves[now].nonzero(as_tuple=True)
        bond = now[row]
        origin = pos[torsions.fixed[bond]]
        axis = torch.nn.functional.normalize(pos[torsions.turned[bond]] - origin, dim=-1)
        arm = pos[atom] - origin
        cos, sin = angle[bond].cos()[:, None], angle[bond].sin()[:, None]
        along = (arm * axis).sum(-1, keepdim=True) * axis  # Rodrigues' rotation formula
        turned = along + (arm - along) * cos + torch.linalg.cross(axis, arm) * sin
        pos = pos.index_copy(0, atom, origin + turned)
    return graph._replace(pos=pos)
