"""Parts of Uni-Mol's objective: which atoms are hidden, and the losses of restoring them [U]."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from georecon.experiments.settings import UnimolSettings
from georecon.graph import MolGraph
from georecon.models.unimol.dense import Dense
from georecon.models.unimol.encoder import Passed
from georecon.models.unimol.heads import CoordinateHead, DistanceHead, TokenHead
from georecon.noise import NoiseSource

# The dictionary of [U]: C N O S H Cl F Br I Si P B Na K Al Ca Sn As Hg Fe Zn Cr Se Gd Au Li
ELEMENTS = (
    6, 7, 8, 16, 1, 17, 9, 35, 53, 14, 15, 5, 11, 19, 13, 20, 50, 33, 80, 26, 30, 24, 34, 64, 79, 3
)  # fmt: skip
"""Elements that a random token is one of."""
_NORM_TOLERANCE, _NORM_EPSILON = 1.0, 1e-10  # [U]


class Masking(NamedTuple):
    """How atoms are hidden.

    Attributes:
        share: part of a molecule's atoms that are to be restored.
        width: half width of the uniform noise on their coordinates [Å].
        kept, random: parts of them that keep token and place, and that get another token.
        stream: name of the noise; which atoms are hidden does not depend on it.
    """

    share: float
    width: float
    kept: float
    random: float
    stream: str


class Masked(NamedTuple):
    """Molecules as the encoder sees them, and the atoms to restore, (M,) int64."""

    graph: MolGraph
    atoms: Tensor


def mask(graph: MolGraph, noise: NoiseSource, masking: Masking, max_z: int) -> Masked:
    """Hide atoms: token replaced, coordinates displaced.

    A molecule of n atoms has ⌊share · n + u⌋ of them chosen, u uniform [U]. The atoms chosen by a
    larger share contain those of a smaller one: [G] draws both with the same seed.

    Args:
        graph: clean molecules.
        noise: of the step.
        masking: how.
        max_z: size of the table of elements; its last is the token of a hidden atom.
    """
    dense = Dense.of(graph)
    draw = noise.uniform_of_atoms(graph, "unimol_mask", 3)  # order, fate, other token
    order = draw.new_full((dense.molecules * dense.size,), 2.0)
    order = order.index_copy(0, dense.place, draw[:, 0]).view(dense.molecules, dense.size)
    rank = order.argsort(1).argsort(1).view(-1)[dense.place]  # (N,)
    wanted = masking.share * dense.counts + noise.uniform(graph, "unimol_mask")
    chosen = rank < wanted.floor()[graph.batch]
    touched = chosen & (draw[:, 1] >= masking.kept)
    other = touched & (draw[:, 1] < masking.kept + masking.random)
    known = torch.tensor([z for z in ELEMENTS if z < max_z - 1], device=graph.z.device)
    token = known[(draw[:, 2] * len(known)).long()]
    z = torch.where(touched, torch.where(other, token, max_z - 1), graph.z)
    # [U] displaces what gets another token too; only what is kept stays where it is
    shift = masking.width * (2.0 * noise.uniform_of_atoms(graph, masking.stream, 3) - 1.0)
    pos = graph.pos + (shift * touched[:, None]).to(graph.pos.dtype)
    return Masked(graph._replace(z=z, pos=pos), chosen.nonzero()[:, 0])


class Restoration(nn.Module):
    """Losses of one pass [U]: elements, coordinates, distances of hidden atoms, and norms.

    DEVIATION: sums over hidden atoms are divided by the number that are hidden on average, and
    norms are means over atoms; [U] has means over the atoms hidden in this batch, and over
    molecules. So the losses of parts of a batch add up to those of the batch, which several
    processes share, and a batch in which no atom is hidden has a loss.

    Args:
        settings: sizes of the encoder.
        mean, deviation: distances are standardised with them [Å].
    """

    def __init__(self, settings: UnimolSettings, mean: float, deviation: float) -> None:
        super().__init__()
        self.mean, self.deviation = mean, deviation
        self.tokens = TokenHead(settings.channels, settings.max_z)
        self.coordinates = CoordinateHead(settings.heads)
        self.distances = DistanceHead(settings.heads)

    def forward(
        self, passed: Passed, masked: Masked, clean: MolGraph, share: float
    ) -> dict[str, Tensor]:
        """Losses by name: ``token``, ``coordinate``, ``distance``, ``atom_norm``, ``pair_norm``.

        Args:
            passed: of the masked molecules.
            masked: what was hidden.
            clean: the molecules.
            share: of atoms that are hidden on average.
        """
        atoms, expected = masked.atoms, share * len(clean.z)
        token = functional.cross_entropy(
            self.tokens(passed.x[atoms]), clean.z[atoms], reduction="sum"
        )
        found = self.coordinates(passed, masked.graph, atoms)
        moved = functional.smooth_l1_loss(found, clean.pos[atoms], reduction="sum") / 3.0
        return {
            "token": token / expected,
            "coordinate": moved / expected,
            "distance": self._distance(passed, clean, atoms) / expected,
            "atom_norm": norm_loss(passed.last).mean(),
            "pair_norm": self._pair_norm(passed),
        }

    def _distance(self, passed: Passed, clean: MolGraph, atoms: Tensor) -> Tensor:
        """Sum over hidden atoms of the mean over all atoms of their molecules."""
        partners, there = passed.dense.partners(clean, atoms)
        length = (clean.pos[partners] - clean.pos[atoms][:, None]).norm(dim=-1)  # (M, A)
        target = (length - self.mean) / self.deviation
        found = self.distances(passed, atoms)
        errors = functional.smooth_l1_loss(found, target, reduction="none") * there
        return (errors.sum(1) / there.sum(1)).sum()

    def _pair_norm(self, passed: Passed) -> Tensor:
        """Mean over atoms of the mean over their partners."""
        dense = passed.dense
        loss = norm_loss(passed.change).reshape(-1)[dense.pair]  # (P,)
        counts = dense.counts.to(loss.dtype)
        weight = (1.0 / counts).repeat_interleave(dense.counts**2)
        return (loss * weight).sum() / counts.sum()


def norm_loss(values: Tensor) -> Tensor:
    """How far norms over F channels are from √F, less a tolerance of 1 [U]: (..., F) → (...)."""
    norm = (values.square().sum(-1) + _NORM_EPSILON).sqrt()
    return functional.relu((norm - values.shape[-1] ** 0.5).abs() - _NORM_TOLERANCE)
