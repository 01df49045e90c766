"""The same molecule in every form that people have it in, and each bad one by its row."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import ase
import ase.build
import ase.io
import numpy as np
import pytest
from rdkit import Chem
from rdkit.Chem import rdDistGeom
from torch_geometric.data import Batch

from georecon.data.molecules import Molecules
from georecon.data.pyg import to_pyg
from georecon.errors import DataError
from georecon.library.inputs import Inputs, read_inputs

NAMES = ("CH3CH2OH", "C6H6", "CH3NO2")


def atoms(name: str = "CH3CH2OH") -> ase.Atoms:
    return ase.build.molecule(name)


def molecules() -> Molecules:
    many = [atoms(name) for name in NAMES]
    z, pos = [one.numbers for one in many], [one.positions for one in many]
    return Molecules.from_list(range(len(many)), z, pos)


def as_ase(folder: Path) -> Any:
    return [atoms(name) for name in NAMES]


def as_pyg(folder: Path) -> Any:
    return to_pyg(molecules())


def as_batch(folder: Path) -> Any:
    return Batch.from_data_list(to_pyg(molecules()))


def as_xyz(folder: Path) -> Any:
    ase.io.write(folder / "m.xyz", as_ase(folder), format="extxyz")
    return folder / "m.xyz"


def as_text(folder: Path) -> Any:
    return str(as_xyz(folder))


def as_sdf(folder: Path) -> Any:
    with Chem.SDWriter(str(folder / "m.sdf")) as writer:
        for one in as_ase(folder):
            block = Chem.RWMol()
            for symbol in one.get_chemical_symbols():
                block.AddAtom(Chem.Atom(symbol))
            conformer = Chem.Conformer(len(one))
            conformer.Set3D(True)
            for place, position in enumerate(one.positions.tolist()):
                conformer.SetAtomPosition(place, position)
            block.AddConformer(conformer)
            writer.write(block)
    return folder / "m.sdf"


@pytest.mark.parametrize("form", [as_ase, as_pyg, as_batch, as_xyz, as_text, as_sdf])
def test_every_form_gives_the_same_molecules(form: Callable[[Path], Any], tmp_path: Path) -> None:
    found, right = read_inputs(form(tmp_path), max_z=100), molecules()
    assert found.refused == ()
    assert found.molecules.ids.tolist() == [0, 1, 2]
    assert np.array_equal(found.molecules.z, right.z)
    np.testing.assert_allclose(found.molecules.pos, right.pos, atol=1e-4)  # SDF has four digits


def test_md17_and_rmd17_files(tmp_path: Path) -> None:
    one = atoms()
    frames = np.stack([one.positions + 0.01 * k for k in range(3)])
    np.savez(tmp_path / "a.npz", z=one.numbers, R=frames, E=np.zeros(3))
    np.savez(tmp_path / "b.npz", nuclear_charges=one.numbers, coords=frames)
    for name in ("a.npz", "b.npz"):
        found = read_inputs(tmp_path / name, max_z=100)
        assert len(found.molecules) == 3
        np.testing.assert_allclose(found.molecules.pos.reshape(3, -1, 3), frames, atol=1e-6)
    np.savez(tmp_path / "c.npz", x=frames)
    with pytest.raises(DataError, match=r"c\.npz: has no array nuclear_charges; it has: x"):
        read_inputs(tmp_path / "c.npz", max_z=100)


def test_smiles_have_one_conformer_a_seed(tmp_path: Path) -> None:
    (tmp_path / "m.csv").write_text("name,SMILES\nethanol,CCO\nbenzene,c1ccccc1\n")
    (tmp_path / "m.smi").write_text("CCO ethanol\nc1ccccc1 benzene\n")
    first, *others = (
        read_inputs(items, max_z=100).molecules
        for items in (["CCO", "c1ccccc1"], tmp_path / "m.csv", tmp_path / "m.smi")
    )
    assert sorted(first.z[:9].tolist()) == sorted(atoms().numbers.tolist())
    for other in others:
        assert np.array_equal(first.pos, other.pos)
    assert len(read_inputs("CCO", max_z=100).molecules) == 1
    moved = read_inputs("CCO", max_z=100, seed=2).molecules
    assert not np.array_equal(first.pos[:9], moved.pos)


def frames_of_which_one_is_bad(folder: Path) -> Any:
    text = "1\n\nH 0 0 0\n1\npbc='T T T' Lattice='9 0 0 0 9 0 0 0 9'\nH 0 0 0\n1\n\nQq 0 0 0\n"
    (folder / "m.xyz").write_text(text)
    return folder / "m.xyz"


def nowhere(folder: Path) -> Any:
    bad = atoms()
    bad.positions[3] = np.nan
    return [atoms(), bad]


def in_one_place(folder: Path) -> Any:
    bad = atoms()
    bad.positions[4] = bad.positions[2] + [0.0, 0.1, 0.0]
    return [atoms(), bad]


def of_no_positions(folder: Path) -> Any:
    first, bad = to_pyg(molecules())[:2]
    bad.pos = None
    return [first, bad]


def of_no_elements(folder: Path) -> Any:
    first, bad = to_pyg(molecules())[:2]
    del bad.z
    return [first, bad]


def of_another_shape(folder: Path) -> Any:
    first, bad = to_pyg(molecules())[:2]
    bad.pos = bad.pos[:, :2]
    return [first, bad]


def of_a_batch(folder: Path) -> Any:
    return [atoms(), Batch.from_data_list(to_pyg(molecules()))]


def of_one_atom_too_few(folder: Path) -> Any:
    one = atoms()
    np.savez(folder / "m.npz", z=one.numbers, R=one.positions[None, :-1])
    return folder / "m.npz"


BAD: list[tuple[Callable[[Path], Any], list[str]]] = [
    (frames_of_which_one_is_bad, ["1: .*periodic", "2: .*Qq"]),
    (nowhere, ["1: positions contain NaN or infinity"]),
    (in_one_place, [r"1: atoms 2 and 4 lie 0.100 Å apart"]),
    (of_no_positions, ["1: Data without pos"]),
    (of_no_elements, ["1: Data without z"]),
    (of_another_shape, [r"1: pos has shape \(12, 2\), expected \(12, 3\)"]),
    (of_a_batch, [r"1: is a batch; in a list give its molecules, batch\.to_data_list\(\)"]),
    (lambda _: [atoms(), ase.Atoms()], ["1: has no atoms"]),
    (lambda _: [atoms(), ase.Atoms("Md")], ["1: unknown element: Z = 101, the model has 1 to 99"]),
    (lambda _: [atoms(), ase.Atoms("H", pbc=True)], ["1: is periodic"]),
    (lambda _: ["CCO", "C1CC", "", "[Xx]"], ["1: 'C1CC' is no SMILES", "2: ''", r"3: '\[Xx\]'"]),
]


@pytest.mark.parametrize(("form", "sentences"), BAD)
def test_a_bad_molecule_is_refused_by_row_and_the_rest_is_used(
    form: Callable[[Path], Any], sentences: list[str], tmp_path: Path
) -> None:
    found: Inputs = read_inputs(form(tmp_path), max_z=100)
    assert found.molecules.ids.tolist() == [0]
    said = [f"{one.row}: {one.reason}" for one in found.refused]
    assert len(said) == len(sentences), said
    for sentence, words in zip(said, sentences, strict=True):
        assert re.match(words, sentence), sentence
        assert "\n" not in sentence


def test_frames_of_another_number_of_atoms_are_refused(tmp_path: Path) -> None:
    found = read_inputs(of_one_atom_too_few(tmp_path), max_z=100)
    assert not len(found.molecules)
    (refusal,) = found.refused
    assert refusal.reason == "positions have shape (8, 3), expected (9, 3)"


def test_a_smiles_without_a_conformer_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rdDistGeom, "EmbedMolecule", lambda molecule, randomSeed: -1)
    (refusal,) = read_inputs("CCO", max_z=100).refused
    assert refusal.reason == "'CCO': RDKit finds no conformer"


def test_a_smiles_that_would_take_hours_is_refused_at_once() -> None:
    found = read_inputs(["CCO", "C" * 1667], max_z=100)  # with hydrogens 5,003 atoms
    (refusal,) = found.refused
    assert found.molecules.ids.tolist() == [0]
    assert refusal.row == 1
    assert refusal.reason.endswith("has 1667 heavy atoms, a conformer is made for 150 at most; "
                                   "give its geometry")  # fmt: skip


def test_a_large_molecule_is_looked_through_quickly_and_used() -> None:
    grid = np.stack(np.meshgrid(*[np.arange(18)] * 3), -1).reshape(-1, 3)[:5000] * 1.5
    found = read_inputs(ase.Atoms("C5000", positions=grid), max_z=100)
    assert found.molecules.n_atoms().tolist() == [5000]


@pytest.mark.parametrize("items", [5, [3.0], [None]])
def test_anything_else_is_named(items: Any) -> None:
    with pytest.raises(TypeError, match=r"allowed: ase\.Atoms, torch_geometric Data"):
        read_inputs(items, max_z=100)


def test_a_file_of_another_name_is_refused(tmp_path: Path) -> None:
    (tmp_path / "m.pdb").write_text("")
    with pytest.raises(DataError, match=r"m.pdb: no layout for this name; allowed: .sdf, .xyz"):
        read_inputs(tmp_path / "m.pdb", max_z=100)
