"""Molecules made up to measure with: chains of carbon with their hydrogens, as dense as matter."""

from __future__ import annotations

import itertools

import numpy as np

from georecon.data.molecules import Molecules

LONGEST = 29  # atoms of a chain; larger molecules are bundles of them
APART = 4.5  # Å between the chains of a bundle
JITTER = 0.03  # Å
_RISE, _HEIGHT = 1.26, 0.43  # Å: of a zigzag with bonds of 1.53 Å
_OUT, _SIDE = 0.6, 0.9  # Å: where a carbon's hydrogens are
_END = 0.71  # of a bond in the chain: the bond to the hydrogen at its end


def synthetic_molecules(
    count: int, atoms: int, *, label: str = "", forces: bool = False, seed: int = 0
) -> Molecules:
    """Molecules of the same size at places and with labels that mean nothing.

    Args:
        count: how many.
        atoms: of each, at least 1.
        label: name of a label to draw; none by default.
        forces: whether to draw forces too.
        seed: of the random numbers.
    """
    random = np.random.default_rng(seed)
    z, pos = bundle(atoms)
    noise = random.normal(0.0, JITTER, (count, atoms, 3))
    return Molecules.from_list(
        np.arange(count),
        [z] * count,
        list(pos + noise),
        {label: random.normal(size=count)} if label else None,
        list(random.normal(size=(count, atoms, 3))) if forces else None,
    )


def bundle(atoms: int) -> tuple[np.ndarray, np.ndarray]:
    """Chains side by side on a square grid: atomic numbers (N,), positions (N, 3) [Å]."""
    chains = -(-atoms // LONGEST)
    sizes = [atoms // chains + (k < atoms % chains) for k in range(chains)]
    side = int(np.ceil(np.sqrt(chains)))
    places = itertools.product(range(side), range(side))
    parts = [(chain(size), place) for size, place in zip(sizes, places, strict=False)]
    z = np.concatenate([z for (z, _), _ in parts])
    pos = np.concatenate([pos + APART * np.array([0, *place]) for (_, pos), place in parts])
    return z, pos


def chain(atoms: int) -> tuple[np.ndarray, np.ndarray]:
    """An alkane; up to two of its places are oxygens, so that any number of atoms can be had.

    With fewer than two atoms it is one carbon.
    """
    if atoms < 2:
        return np.array([6]), np.zeros((1, 3))
    carbons, oxygens = divmod(atoms - 2, 3)
    heavy = carbons + oxygens

    def place(k: int) -> np.ndarray:
        return np.array([_RISE * k, _HEIGHT * (-1) ** k, 0.0])

    first, last = place(0), place(max(0, heavy - 1))
    z, pos = [1, 1], [first + _END * (place(-1) - first), last + _END * (place(heavy) - last)]
    for k in range(heavy):
        # the oxygens stand second and fourth: ethers, or an alcohol where the chain is short
        oxygen = k in (1, 3)[:oxygens] if heavy > 3 else k >= carbons
        z.append(8 if oxygen else 6)
        pos.append(place(k))
        if not oxygen:
            out = [0.0, _OUT * (-1) ** k, 0.0]
            pos += [place(k) + np.array([*out[:2], side]) for side in (-_SIDE, _SIDE)]
            z += [1, 1]
    return np.array(z), np.array(pos)
