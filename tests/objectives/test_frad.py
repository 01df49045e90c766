"""Frad's torsion noise: against RDKit's own rotation, and what it must leave alone."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from rdkit import Chem
from rdkit.Chem import AllChem, rdMolTransforms

from georecon import objectives
from georecon.experiments.settings import EncoderSettings
from georecon.graph import MolGraph, make_graph
from georecon.models.encoder import EquivariantTransformer
from georecon.noise import NoiseSource
from georecon.objectives._torsions import Torsions, find_torsions, rotatable_bonds, turn

# Bonds that RDKit's pattern finds in the molecule with hydrogens; rings, double and triple bonds
# have none.
SMILES = {
    "CCCC": 3,
    "CCOCC": 4,
    "CC(=O)Oc1ccccc1C(=O)O": 5,
    "c1ccccc1": 0,
    "C=C": 0,
    "CC#CC": 0,
    "O": 0,
    "C": 0,
    "NCC(=O)O": 3,
    "C1CC1CO": 2,
}


def embed(smiles: str) -> Chem.Mol:
    molecule = Chem.AddHs(Chem.MolFromSmiles(smiles))
    assert AllChem.EmbedMolecule(molecule, randomSeed=7) == 0
    AllChem.MMFFOptimizeMolecule(molecule)
    return molecule


@pytest.fixture(scope="module")
def molecules() -> list[Chem.Mol]:
    return [embed(smiles) for smiles in SMILES]


def graph_of(molecules: list[Chem.Mol]) -> MolGraph:
    """All molecules as one batch, float64."""
    z = [atom.GetAtomicNum() for molecule in molecules for atom in molecule.GetAtoms()]
    pos = np.concatenate([molecule.GetConformer().GetPositions() for molecule in molecules])
    counts = torch.tensor([molecule.GetNumAtoms() for molecule in molecules])
    ids = torch.arange(len(molecules)) + 3
    return make_graph(torch.tensor(z), torch.from_numpy(pos), counts, ids)


def by_rdkit(molecules: list[Chem.Mol], graph: MolGraph, torsions: Torsions, angle: torch.Tensor):
    """The same turns by SetDihedralDeg, one torsion after another, (N, 3)."""
    copies = [Chem.Mol(molecule) for molecule in molecules]
    for row in range(len(angle)):
        molecule = copies[int(torsions.molecule[row])]
        first = int(graph.ptr[torsions.molecule[row]])
        j, k = int(torsions.fixed[row]) - first, int(torsions.turned[row]) - first
        i = next(a.GetIdx() for a in molecule.GetAtomWithIdx(j).GetNeighbors() if a.GetIdx() != k)
        m = next(a.GetIdx() for a in molecule.GetAtomWithIdx(k).GetNeighbors() if a.GetIdx() != j)
        conformer = molecule.GetConformer()
        now = rdMolTransforms.GetDihedralDeg(conformer, i, j, k, m)
        turned = now + math.degrees(float(angle[row]))
        rdMolTransforms.SetDihedralDeg(conformer, i, j, k, m, turned)
    return np.concatenate([copy.GetConformer().GetPositions() for copy in copies])


def test_rotatable_bonds_are_those_of_the_molecular_graph(molecules: list[Chem.Mol]) -> None:
    """Perceived from positions alone, they are what RDKit finds with the bonds given."""
    pattern = Chem.MolFromSmarts("[!$(*#*)&!D1]-&!@[!$(*#*)&!D1]")
    for molecule, (smiles, count) in zip(molecules, SMILES.items(), strict=True):
        z = np.array([atom.GetAtomicNum() for atom in molecule.GetAtoms()])
        found = rotatable_bonds(z, molecule.GetConformer().GetPositions())
        expected = {frozenset(match) for match in molecule.GetSubstructMatches(pattern)}
        assert {frozenset((j, k)) for j, k, _ in found} == expected, smiles
        assert len(found) == count, smiles
        for j, k, side in found:
            assert k in side
            assert j not in side
            assert 2 * len(side) <= len(z)


def test_turns_agree_with_rdkit(molecules: list[Chem.Mol]) -> None:
    graph = graph_of(molecules)
    torsions = find_torsions(graph)
    angle = torch.from_numpy(np.random.default_rng(0).normal(0.0, 1.0, len(torsions.molecule)))
    expected = by_rdkit(molecules, graph, torsions, angle)
    assert len(angle) == sum(SMILES.values())
    assert np.abs(turn(graph, torsions, angle).pos.numpy() - expected).max() < 1e-6
    # the other sense of rotation is told apart
    assert np.abs(turn(graph, torsions, -angle).pos.numpy() - expected).max() > 0.1


def test_bonds_and_angles_stay_and_torsions_change(molecules: list[Chem.Mol]) -> None:
    graph = graph_of(molecules)
    torsions = find_torsions(graph)
    angle = torch.full((len(torsions.molecule),), 0.5, dtype=torch.float64)
    moved = turn(graph, torsions, angle).pos
    for index, molecule in enumerate(molecules):
        part = slice(int(graph.ptr[index]), int(graph.ptr[index + 1]))
        before, after = (torch.cdist(pos[part], pos[part]) for pos in (graph.pos, moved))
        near = torch.from_numpy(Chem.GetDistanceMatrix(molecule)) <= 2  # bonds and 1-3 distances
        assert (before - after).abs()[near].max() < 1e-10
        has_torsions = bool((torsions.molecule == index).any())
        assert ((before - after).abs().max() > 0.01) == has_torsions
    # both atoms of a bond turned alone stay where they are
    alone = Torsions(*(part[:1] for part in torsions))
    once = turn(graph, alone, angle[:1]).pos
    still = ~alone.moves[0]
    still[alone.turned[0]] = True
    assert (once - graph.pos).abs()[still].max() < 1e-12
    assert (once - graph.pos).abs()[~still].min() > 1e-3


def frad(sigma_torsion: float) -> torch.nn.Module:
    torch.manual_seed(0)
    encoder = EquivariantTransformer(EncoderSettings(channels=8, layers=1, heads=2, rbf=8))
    params = {"sigma": 0.04, "sigma_torsion": sigma_torsion}
    return objectives.build("frad", encoder, params).double()


def test_angles_have_the_given_width(molecules: list[Chem.Mol]) -> None:
    graph = graph_of(molecules[:1] * 3)
    objective, torsions = frad(2.0), find_torsions(graph)
    first = torsions.number == 0
    bond = [*zip(torsions.fixed[first].tolist(), torsions.turned[first].tolist(), strict=True)]
    angles = []
    for step in range(300):
        pos = objective.turned(graph, NoiseSource(1, step)).pos.numpy()
        for index, (j, k) in enumerate(bond):
            start = int(graph.ptr[index])
            molecule = Chem.Mol(molecules[0])
            atoms = [molecule.GetAtomWithIdx(atom - start) for atom in (j, k)]
            i = next(a.GetIdx() for a in atoms[0].GetNeighbors() if a.GetIdx() != k - start)
            m = next(a.GetIdx() for a in atoms[1].GetNeighbors() if a.GetIdx() != j - start)
            conformer = molecule.GetConformer()
            before = rdMolTransforms.GetDihedralDeg(conformer, i, j - start, k - start, m)
            conformer.SetPositions(pos[start : int(graph.ptr[index + 1])].astype(np.float64))
            after = rdMolTransforms.GetDihedralDeg(conformer, i, j - start, k - start, m)
            angles.append((after - before + 180.0) % 360.0 - 180.0)
    assert np.mean(angles) == pytest.approx(0.0, abs=4 * 2.0 / math.sqrt(len(angles)))
    assert np.std(angles) == pytest.approx(2.0, rel=4 / math.sqrt(2 * len(angles)))


def test_noise_of_a_molecule_does_not_depend_on_its_batch(molecules: list[Chem.Mol]) -> None:
    objective, noise = frad(2.0), NoiseSource(1, 5)
    together = graph_of(molecules)
    moved = objective.turned(together, noise).pos
    for index in range(len(molecules)):
        alone = graph_of(molecules[index : index + 1])._replace(ids=together.ids[index : index + 1])
        part = moved[together.ptr[index] : together.ptr[index + 1]]
        assert (objective.turned(alone, noise).pos - part).abs().max() < 1e-12
    assert not torch.equal(objective.turned(together, NoiseSource(1, 6)).pos, moved)


def test_without_torsion_noise_it_is_coord(molecules: list[Chem.Mol]) -> None:
    """And with it, it is not: the target is the same noise, on another structure."""
    graph, noise = graph_of(molecules), NoiseSource(1, 0)
    frads = [frad(width) for width in (0.0, 20.0)]
    coord = objectives.build("denoise", frads[0].encoder, {"sigma": 0.04}).double()
    for objective in frads:
        objective.load_state_dict(coord.state_dict())
    with torch.no_grad():
        expected = float(coord(graph, noise)["loss"])
        same, other = (float(objective(graph, noise)["loss"]) for objective in frads)
    assert same == pytest.approx(expected, rel=1e-9)
    assert other != pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize(
    ("z", "pos"),
    [
        ([2], [[0.0, 0.0, 0.0]]),
        ([6, 6], [[0.0, 0.0, 0.0], [0.0, 0.0, 0.0]]),
        ([6, 1, 1], [[0.0, 0.0, 0.0], [0.0, 0.0, 1.1], [1.1, 0.0, 0.0]]),  # a carbene
        ([92, 9], [[0.0, 0.0, 0.0], [0.0, 0.0, 2.0]]),
    ],
    ids=["one atom", "coincident", "no valid bonds", "heavy element"],
)
def test_odd_molecules_have_no_torsions(
    z: list[int], pos: list[list[float]], capfd: pytest.CaptureFixture[str]
) -> None:
    assert rotatable_bonds(np.array(z), np.array(pos)) == []
    assert capfd.readouterr().err == ""
