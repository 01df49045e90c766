"""Small molecules made in code, for the tests of models, noise, objectives and training."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from georecon.data.manifest import Source
from georecon.data.molecules import Molecules
from georecon.data.store import Store, StoreWriter
from georecon.graph import MolGraph, make_graph

ELEMENTS = (1, 6, 7, 8, 9)


def random_positions(atoms: int, rng: np.random.Generator, spacing: float = 0.9) -> np.ndarray:
    """Atoms in a compact cloud, none closer than ``spacing`` [Å]."""
    side = 1.1 * (spacing * (atoms + 1) ** (1 / 3) + 0.3)
    found: list[np.ndarray] = []
    while len(found) < atoms:
        trial = rng.uniform(-side, side, 3)
        if all(np.linalg.norm(trial - other) > spacing for other in found):
            found.append(trial)
    return np.array(found)


def random_molecule(atoms: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Atomic numbers (n,), at least four kinds from 8 atoms on, and positions (n, 3)."""
    rng = np.random.default_rng([20, seed, atoms])
    z = rng.permutation([ELEMENTS[k % len(ELEMENTS)] for k in range(atoms)])
    return z, random_positions(atoms, rng)


def batch(
    molecules: Sequence[tuple[np.ndarray, np.ndarray]],
    dtype: torch.dtype = torch.float64,
    ids: Sequence[int] | None = None,
) -> MolGraph:
    """Batch of (z, positions) pairs."""
    return make_graph(
        torch.as_tensor(np.concatenate([np.asarray(z) for z, _ in molecules])),
        torch.as_tensor(np.concatenate([np.asarray(p, dtype=float) for _, p in molecules])).to(
            dtype
        ),
        torch.tensor([len(z) for z, _ in molecules]),
        torch.arange(len(molecules)) if ids is None else torch.tensor(list(ids)),
    )


def random_batch(
    seed: int, dtype: torch.dtype = torch.float64, sizes: Sequence[int] = (9, 12, 8)
) -> MolGraph:
    """Batch of random molecules of mixed elements."""
    return batch([random_molecule(n, 10 * seed + k) for k, n in enumerate(sizes)], dtype)


def singles(graph: MolGraph) -> list[MolGraph]:
    """The molecules of a batch, each in a batch of its own."""
    found = []
    for k in range(graph.num_graphs):
        start, end = int(graph.ptr[k]), int(graph.ptr[k + 1])
        count = torch.tensor([end - start])
        part = make_graph(graph.z[start:end], graph.pos[start:end], count, graph.ids[k : k + 1])
        found.append(part)
    return found


def random_rotation(seed: int, *, reflect: bool = False) -> Tensor:
    """Random orthogonal matrix (3, 3) float64 of determinant +1, or −1."""
    generator = torch.Generator().manual_seed(seed)
    matrix = torch.randn(3, 3, generator=generator, dtype=torch.float64)
    q, r = torch.linalg.qr(matrix)
    q = q * r.diagonal().sign()
    proper = q if torch.linalg.det(q) > 0 else -q
    return -proper if reflect else proper


def methane(dtype: torch.dtype = torch.float64, bond: float = 1.09) -> MolGraph:
    """Methane of exact tetrahedral symmetry, off the origin and turned."""
    corners = np.array([[1, 1, 1], [1, -1, -1], [-1, 1, -1], [-1, -1, 1]]) * bond / np.sqrt(3.0)
    positions = np.concatenate([np.zeros((1, 3)), corners]) @ random_rotation(5).numpy().T
    return batch([(np.array([6, 1, 1, 1, 1]), positions + np.array([0.3, -0.2, 0.7]))], dtype)


def write_store(folder: Path, count: int = 24, atoms: tuple[int, int] = (5, 9)) -> Store:
    """Store of ``count`` random molecules with a label and forces, ids 100, 101, …"""
    rng = np.random.default_rng(7)
    sizes = rng.integers(atoms[0], atoms[1] + 1, count)
    made = [random_molecule(int(n), k) for k, n in enumerate(sizes)]
    molecules = Molecules.from_list(
        np.arange(100, 100 + count),
        [z for z, _ in made],
        [pos for _, pos in made],
        {"energy": rng.normal(size=count)},
        [rng.normal(size=(len(z), 3)) for z, _ in made],
    )
    units = {"pos": "Å", "energy": "eV", "forces": "eV/Å"}
    with StoreWriter(folder, dataset="toy", source=Source(), units=units) as writer:
        writer.append(molecules)
    return Store.open(folder)
