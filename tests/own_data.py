"""Files that a reader of docs/own-data.md might have, made in code: frames, SDF, a QM9 archive."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

SYMBOLS = ["C", "C", "O", "H", "H", "H", "H", "H", "H"]
Z = np.array([6, 6, 8, 1, 1, 1, 1, 1, 1])
ETHANOL = np.array([
    [0.0072, -0.5687, 0.0], [-1.2854, 0.2499, 0.0], [1.1304, 0.3147, 0.0],
    [0.0392, -1.1972, 0.89], [0.0392, -1.1972, -0.89], [-1.3175, 0.8784, 0.89],
    [-1.3175, 0.8784, -0.89], [-2.1422, -0.4239, 0.0], [1.9857, -0.1365, 0.0],
])  # fmt: skip
"""Ethanol [Å]."""
ATOMS = {"H": -13.6, "C": -1029.5, "O": -2042.0}
"""Energies of isolated atoms [eV]."""
STIFFNESS = 20.0
"""Of the springs that hold each atom at its place [eV/Å²]."""
SMILES = ("CCO", "CCN", "CC(=O)O", "c1ccccc1", "CCCC", "CC(C)O", "C1CCCC1", "CC#N", "COC", "CCF")
Float = NDArray[np.float64]


def frames(count: int, seed: int = 0, sigma: float = 0.05) -> tuple[Float, Float, Float]:
    """Positions [Å] (n, 9, 3), energies [eV] (n,) and forces [eV/Å] (n, 9, 3) of ethanol."""
    shift = np.random.default_rng(seed).normal(scale=sigma, size=(count, len(Z), 3))
    atoms = sum(ATOMS[symbol] for symbol in SYMBOLS)
    energy = atoms - 33.0 + 0.5 * STIFFNESS * (shift**2).sum(axis=(1, 2))
    return ETHANOL + shift, energy, -STIFFNESS * shift


def write_xyz(
    path: Path, count: int, *, seed: int = 0, sigma: float = 0.05, forces: bool = True,
    atoms: bool = False, energy: str = "energy",
) -> Path:  # fmt: skip
    """Extended XYZ of ethanol frames; ``atoms``: after frames of isolated atoms."""
    lines = []
    columns = "species:S:1:pos:R:3" + (":forces:R:3" if forces else "")
    for symbol, value in ATOMS.items() if atoms else ():
        zeros = " 0.0 0.0 0.0" if forces else ""
        comment = f"Properties={columns} config_type=IsolatedAtom {energy}={value}"
        lines += ["1", comment, f"{symbol} 0.0 0.0 0.0{zeros}"]
    for pos, value, force in zip(*frames(count, seed, sigma), strict=True):
        lines += [str(len(Z)), f"Properties={columns} {energy}={value:.10f}"]
        for symbol, row, pull in zip(SYMBOLS, pos, force, strict=True):
            numbers = [*row, *(pull if forces else ())]
            lines.append(" ".join([symbol, *(f"{number:.8f}" for number in numbers)]))
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def write_npz(path: Path, count: int, seed: int = 0) -> Path:
    """The same frames in MD17's layout."""
    pos, energy, forces = frames(count, seed)
    np.savez(path, R=pos, E=energy, F=forces, z=Z)
    return path


def conformers(count: int, seed: int = 0) -> list[tuple[str, str]]:
    """SMILES and molfile of small molecules with hydrogens, as RDKit embeds them."""
    from rdkit import Chem
    from rdkit.Chem import AllChem

    found = []
    for k in range(count):
        smiles = SMILES[k % len(SMILES)]
        molecule = Chem.AddHs(Chem.MolFromSmiles(smiles))
        AllChem.EmbedMolecule(molecule, randomSeed=seed + k)  # type: ignore[attr-defined]
        found.append((smiles, Chem.MolToMolBlock(molecule)))
    return found


def write_sdf(path: Path, count: int, seed: int = 0) -> Path:
    """SDF of small molecules."""
    text = "".join(f"{block}$$$$\n" for _, block in conformers(count, seed))
    path.write_text(text, encoding="utf-8")
    return path


def write_labelled(path: Path, count: int, seed: int = 0) -> Path:
    """Extended XYZ of small molecules with a label ``dG_solv``, a sum over their atoms."""
    rng = np.random.default_rng(seed)
    lines = []
    for _, block in conformers(count, seed):
        given = block.splitlines()
        rows = [line.split()[:4] for line in given[4 : 4 + int(given[3][:3])]]
        label = sum({"H": 0.3, "C": -1.1}.get(row[3], -4.0) for row in rows) + rng.normal(scale=0.2)
        lines += [str(len(rows)), f"Properties=species:S:1:pos:R:3 dG_solv={label:.6f}"]
        lines += [f"{s} {x} {y} {z}" for x, y, z, s in rows]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def write_qm9(path: Path, count: int, seed: int = 0) -> Path:
    """Archive in the layout of figshare's ``dsgdb9nsd.xyz.tar.bz2``, with made-up labels."""
    rng = np.random.default_rng(seed)
    with tarfile.open(path, "w:bz2") as archive:
        for k, (smiles, block) in enumerate(conformers(count, seed), 1):
            data = _qm9_record(k, smiles, block, rng).encode()
            info = tarfile.TarInfo(f"dsgdb9nsd_{k:06d}.xyz")
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return path


def _qm9_record(index: int, smiles: str, block: str, rng: np.random.Generator) -> str:
    lines = block.splitlines()
    rows = [line.split()[:4] for line in lines[4 : 4 + int(lines[3][:3])]]
    x = rng.normal(size=12)
    u0 = -40.0 - 5.0 * len(rows) + 0.1 * x[0]
    homo, lumo = -0.25 + 0.01 * x[3], 0.02 + 0.01 * x[4]
    labels = [
        *(1.5, 1.2, 1.0),  # rotational constants
        2.0 + 0.3 * x[1], 40.0 + 2 * x[2], homo, lumo, lumo - homo, 500.0 + 30 * x[6],
        0.1 + 0.005 * x[7], u0, u0 + 0.005, u0 + 0.005944, u0 - 0.03, 20.0 + x[8],
    ]  # fmt: skip
    atoms = "".join(f"{s}\t{a}\t{b}\t{c}\t0.0\n" for a, b, c, s in rows)
    values = "\t".join(f"{value:.6f}" for value in labels)
    head = f"{len(rows)}\ngdb {index}\t{values}\t\n"
    return f"{head}{atoms}1000.0\t2000.0\n{smiles}\t{smiles}\t\nInChI=1S\tInChI=1S\n"
