"""Made-up molecules: of the right size, as dense as matter, chemically plain."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from georecon.data.molecules import check_molecules
from georecon.data.synthetic import bundle, chain, synthetic_molecules
from georecon.graph import make_graph
from georecon.kernels.neighbors import radius_edges
from georecon.objectives._torsions import rotatable_bonds


@pytest.mark.parametrize("atoms", [*range(1, 32), 42, 87, 148, 370])
def test_any_number_of_atoms(atoms: int) -> None:
    z, pos = bundle(atoms)
    assert (z.shape, pos.shape) == ((atoms,), (atoms, 3))
    distances = np.linalg.norm(pos[:, None] - pos[None], axis=-1) + 9 * np.eye(atoms)
    assert distances.min() > 0.85 or atoms == 1


@pytest.mark.parametrize("atoms", [11, 17, 18, 19, 29])
def test_bonds_that_turn_are_found(atoms: int) -> None:
    z, pos = chain(atoms)
    heavy = int((z > 1).sum())
    assert len(rotatable_bonds(z, pos)) == heavy - 1  # hydrogens at the ends turn too


def test_large_ones_have_as_many_neighbours_as_matter() -> None:
    z, pos = (torch.from_numpy(part) for part in bundle(370))
    graph = make_graph(z, pos.float(), torch.tensor([370]), torch.arange(1))
    edges = radius_edges(graph, 5.0, 370)
    assert 35 < len(edges.source) / 370 < 65


def test_labels_and_forces_where_they_are_asked_for() -> None:
    made = synthetic_molecules(5, 9, label="energy", forces=True)
    check_molecules(made, "made")
    assert made.n_atoms().tolist() == [9] * 5
    assert made.labels["energy"].std() > 0
    assert made.forces is not None
    plain = synthetic_molecules(5, 9)
    assert plain.labels == {}
    assert plain.forces is None
    assert np.array_equal(plain.pos, synthetic_molecules(5, 9).pos)
    assert not np.array_equal(plain.pos[:9], plain.pos[9:18])
