"""A fast key of a molecule's connectivity, to count molecules that two sets share.

Bonds are pairs closer than 1.3 x the sum of covalent radii. Each atom starts from its element and
the numbers of closed walks of 3 to 6 bonds through it (its rings), then five Weisfeiler-Lehman
rounds mix in its neighbours; the key is the sum over atoms. Equal molecules get equal keys in any
atom order and orientation.

Limits: stereo-isomers and conformers share a key (for leakage that is the careful side), as do
tautomers that differ in charges only; bond orders are not seen apart from the hydrogens they
leave; a bond near the distance limit can be read differently in two geometries of one molecule,
so counts are estimates; some highly symmetric graphs may collide.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np
from numpy.typing import ArrayLike, NDArray

from georecon.data.elements import bond_lengths_squared
from georecon.data.molecules import Molecules
from georecon.data.pairs import same_size_blocks, squared_distances
from georecon.data.store import Store

KEY_RULE = "Weisfeiler-Lehman hash, 5 rounds, elements and ring counts, bonds at 1.3 x radii"
KEY_CHUNK = 25_000
"""Molecules of a store whose structures are looked at together."""
_ROUNDS = 5
_ODD_1 = np.uint64(0xBF58476D1CE4E5B9)
_ODD_2 = np.uint64(0x94D049BB133111EB)
_STEP = np.uint64(0x9E3779B97F4A7C15)

UInt = NDArray[np.uint64]


def _mix(values: UInt) -> UInt:
    """Scramble 64-bit integers (the finalizer of splitmix64); wraps around by design."""
    values = values + _STEP
    values = (values ^ (values >> np.uint64(30))) * _ODD_1
    values = (values ^ (values >> np.uint64(27))) * _ODD_2
    return np.asarray(values ^ (values >> np.uint64(31)), dtype=np.uint64)


def adjacency(z: NDArray[np.uint8], pos: NDArray[np.float32]) -> NDArray[np.bool_]:
    """Bonds by distance: z (B, n), pos (B, n, 3) [Å] → (B, n, n), no self bonds."""
    bonded = squared_distances(pos) < bond_lengths_squared(z)
    atom = np.arange(z.shape[1])
    bonded[:, atom, atom] = False
    return np.asarray(bonded)


def _block_keys(z: NDArray[np.uint8], pos: NDArray[np.float32]) -> UInt:
    bonded = adjacency(z, pos)
    n = z.shape[1]
    walk = bonded.astype(np.float32)  # counts stay far below 2^24, hence exact
    twice = walk @ walk
    thrice = twice @ walk
    label = z.astype(np.uint64)
    for count in (
        np.einsum("bii->bi", thrice),
        np.einsum("bij,bij->bi", twice, twice),
        np.einsum("bij,bij->bi", twice, thrice),
        np.einsum("bij,bij->bi", thrice, thrice),
    ):
        label = _mix(label) + count.astype(np.uint64)
    label = _mix(label)
    # Lists of bonds instead of dense sums: a molecule has about n bonds, not n squared.
    molecule, first, second = np.nonzero(bonded)
    owner, other = molecule * n + first, molecule * n + second
    starts = np.searchsorted(owner, np.arange(z.size))
    alone = np.bincount(owner, minlength=z.size) == 0
    flat = label.reshape(-1)
    for _ in range(_ROUNDS):
        sent = np.append(_mix(flat)[other], np.uint64(0))
        heard = np.add.reduceat(sent, starts)
        heard[alone] = 0
        flat = _mix(flat * _ODD_2 + heard)
    return np.asarray(_mix(flat).reshape(z.shape).sum(axis=1, dtype=np.uint64))


def structure_keys(molecules: Molecules) -> UInt:
    """Connectivity key of each molecule, (M,); equal for equal molecules (limits: see above)."""
    keys = np.zeros(len(molecules), dtype=np.uint64)
    for size, rows in same_size_blocks(molecules.n_atoms(), pairs=500_000):
        atoms = molecules.offsets[rows][:, None] + np.arange(size)  # (B, n)
        keys[rows] = _block_keys(molecules.z[atoms], molecules.pos[atoms])
    return keys


def stored_keys(store: Store, rows: ArrayLike, workers: int = 1) -> UInt:
    """Connectivity keys of rows of a store, in their order, (M,).

    The memory that this takes does not grow with the store's atoms: rows are read from first to
    last, and each chunk through a map of its own, for pages that were read count as this process's
    as long as they are mapped.

    Args:
        store: opened store.
        rows: row numbers, (M,).
        workers: threads; NumPy lets others work meanwhile.
    """
    index = np.asarray(rows, dtype=np.int64)
    order = np.argsort(index, kind="stable")
    keys = np.empty(len(index), dtype=np.uint64)

    def fill(start: int) -> None:
        part = order[start : start + KEY_CHUNK]
        keys[part] = structure_keys(Store.open(store.path).gather(index[part], ()))

    starts = range(0, len(index), KEY_CHUNK)
    with ThreadPoolExecutor(workers) as pool:
        for _ in pool.map(fill, starts):
            pass
    return keys
