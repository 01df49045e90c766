"""Random numbers as a pure function of (seed, step, stream, molecule id, atom, axis).

Nothing is drawn from a shared generator: each number is a hash of its own coordinates. So the
noise a molecule gets at a step does not depend on the batch it is in, on the order of atoms of
other molecules, on the number of processes or on whether the run was interrupted.
"""

from __future__ import annotations

import math
import zlib
from typing import NamedTuple

import torch
from torch import Tensor

from georecon.graph import MolGraph

_GOLDEN = -7046029254386353131  # 0x9E3779B97F4A7C15 as int64
_MIX1 = -4658895280553007687  # 0xBF58476D1CE4E5B9
_MIX2 = -7723592293110705685  # 0x94D049BB133111EB
_MASK = 2**64 - 1


def _shift(x: Tensor, bits: int) -> Tensor:
    """Logical right shift of int64 read as uint64."""
    return (x >> bits) & ((1 << (64 - bits)) - 1)


def mix(x: Tensor) -> Tensor:
    """Finaliser of SplitMix64 (Steele, Lea, Flood 2014) on int64 tensors, element by element."""
    x = x + _GOLDEN
    x = (x ^ _shift(x, 30)) * _MIX1
    x = (x ^ _shift(x, 27)) * _MIX2
    return x ^ _shift(x, 31)


def _mix_number(x: int) -> int:
    """:func:`mix` of one number, without a tensor; as int64."""
    x = (x + _GOLDEN) & _MASK
    x = ((x ^ (x >> 30)) * _MIX1) & _MASK
    x = ((x ^ (x >> 27)) * _MIX2) & _MASK
    x ^= x >> 31
    return x - (x >> 63 << 64)


def _uniform(key: Tensor) -> Tensor:
    """Uniform float64 in (0, 1) from the top 53 bits."""
    return (_shift(key, 11).to(torch.float64) + 0.5) * 2.0**-53


class NoiseSource(NamedTuple):
    """Noise of one training step (or of validation, with a fixed step).

    Attributes:
        seed: seed of the run.
        step: optimiser step; validation uses -1, so that its noise is the same at every evaluation.
    """

    seed: int
    step: int

    def normal(self, graph: MolGraph, stream: str) -> Tensor:
        """Standard normal numbers for every atom and axis, (N, 3), dtype of ``graph.pos``.

        Args:
            graph: batch; only ids and the index of each atom in its molecule enter.
            stream: name of the use ("denoise", "reconstruct", …): different names are independent.
        """
        return _normal(graph, self.keys(graph, stream))

    def uniform(self, graph: MolGraph, stream: str) -> Tensor:
        """A number in (0, 1) for every molecule, (B,) float64.

        Args:
            graph: batch; only ids enter.
            stream: name of the use, as of :meth:`normal`.
        """
        return _uniform(self.keys(graph, stream))

    def uniform_of_atoms(self, graph: MolGraph, stream: str, numbers: int) -> Tensor:
        """Numbers in (0, 1) for every atom, (N, numbers) float64.

        Args:
            graph: batch; only ids and the index of each atom in its molecule enter.
            stream: name of the use, as of :meth:`normal`.
            numbers: of each atom.
        """
        return _uniform(_per_atom(graph, self.keys(graph, stream), numbers))

    def keys(self, graph: MolGraph, stream: str) -> Tensor:
        """Key of each molecule, (B,) int64: all that its noise follows from.

        Args:
            graph: batch; only ids enter.
            stream: name of the use, as of :meth:`normal`.
        """
        key = _mix_number(self.seed)
        for part in (self.step, zlib.crc32(stream.encode())):
            key = _mix_number(key ^ part)
        return mix(key ^ graph.ids)

    def displace(
        self, graph: MolGraph, stream: str, sigma: float | Tensor
    ) -> tuple[MolGraph, Tensor]:
        """The molecules with noise of σ [Å] on every atom, and that noise in units of σ, (N, 3).

        Args:
            graph: molecules.
            stream: name of the use.
            sigma: of all atoms, or of each, (N, 1).
        """
        return displaced(graph, self.keys(graph, stream), sigma)


def displaced(graph: MolGraph, keys: Tensor, sigma: float | Tensor) -> tuple[MolGraph, Tensor]:
    """:meth:`NoiseSource.displace` for keys that are there already, (B,) int64."""
    epsilon = _normal(graph, keys)
    return graph._replace(pos=graph.pos + sigma * epsilon), epsilon


def _normal(graph: MolGraph, keys: Tensor) -> Tensor:
    """Standard normal numbers for every atom and axis, (N, 3), dtype of ``graph.pos``."""
    first = _per_atom(graph, keys, 3)
    second = mix(first)
    radius = (-2.0 * _uniform(first).log()).sqrt()
    return (radius * (2.0 * math.pi * _uniform(second)).cos()).to(graph.pos.dtype)


def _per_atom(graph: MolGraph, keys: Tensor, numbers: int) -> Tensor:
    """Keys of each atom, (N, numbers) int64."""
    per_atom = mix(keys[graph.batch] ^ graph.atom_index)  # (N,)
    return mix(per_atom[:, None] ^ torch.arange(numbers, device=graph.pos.device))
