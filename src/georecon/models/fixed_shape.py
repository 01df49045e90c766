"""A property model as a program of fixed shapes: for ``torch.export``.

Which atoms are neighbours depends on their positions, and so does the size of every array of edges.
Here each molecule has a fixed number of places for atoms, every two places are an edge, and what is
no edge of the model (too far apart, an empty place) leads to one further atom, which belongs to a
molecule of its own that nobody reads. The arrays then have the same sizes for all positions, and
the model's own layers compute the rest.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from georecon.errors import ConfigError
from georecon.experiments.settings import EncoderSettings
from georecon.graph import MIN_DISTANCE, MolGraph, nearest
from georecon.kernels import native
from georecon.kernels.reference import Neighbors
from georecon.models.encoder import EdgeFeatures, EquivariantTransformer
from georecon.models.potential import PropertyModel
from georecon.models.radial import cosine_cutoff

MOST_PAIRS = 1 << 20
"""Of a batch; each takes a row of four times the encoder's channels."""


class FixedShapeModel(nn.Module):
    """Labels of batches of one size.

    Args:
        model: a fine-tuned model with an equivariant transformer.
        molecules: in a batch, B.
        atoms: places for atoms in a molecule, A.

    Raises:
        ConfigError: another encoder, or a size that is out of range.
    """

    def __init__(self, model: PropertyModel, molecules: int, atoms: int) -> None:
        super().__init__()
        if not isinstance(model.encoder, EquivariantTransformer):
            kind = getattr(model.encoder.settings, "kind", "?")
            raise ConfigError(
                f"encoder of kind {kind} cannot be exported; allowed: the equivariant transformer"
            )
        if molecules < 1 or atoms < 1 or molecules * atoms**2 > MOST_PAIRS:
            raise ConfigError(
                f"{molecules} molecules of {atoms} atoms: allowed are both from 1, and at most "
                f"{MOST_PAIRS} pairs of atoms, molecules x atoms x atoms"
            )
        self.model, self.molecules, self.atoms = model, molecules, atoms

    def forward(self, z: Tensor, pos: Tensor) -> Tensor:
        """Labels in the model's unit.

        Args:
            z: atomic numbers, (B, A) int64; 0 for an empty place.
            pos: positions [Å], (B, A, 3); those of empty places do not matter.

        Returns:
            (B,) float64.
        """
        graph = self._graph(z, pos)
        with native.forced("reference"):  # a program cannot hold our kernels
            x, vec = self.model.encoder(graph, self._edges(z, pos))  # type: ignore[call-arg]
            output = self.model.head(x, vec, graph)
        return self.model.denormalise(output, graph)[: self.molecules]

    def _graph(self, z: Tensor, pos: Tensor) -> MolGraph:
        """The atoms of all places, and one further atom in a molecule of its own, with what lies in
        empty places.
        """
        places = self.molecules * self.atoms
        own = torch.arange(self.molecules, device=z.device).repeat_interleave(self.atoms)
        batch = torch.where(z.reshape(-1) > 0, own, self.molecules)
        first = torch.arange(0, places + 1, self.atoms, device=z.device)
        return MolGraph(
            z=torch.cat([z.reshape(-1), z.new_ones(1)]),
            pos=torch.cat([pos.reshape(-1, 3), pos.new_zeros(1, 3)]),
            batch=torch.cat([batch, batch.new_full((1,), self.molecules)]),
            ptr=torch.cat([first, first.new_full((1,), places + 1)]),
            ids=torch.arange(self.molecules + 1, device=z.device),
        )

    def _edges(self, z: Tensor, pos: Tensor) -> EdgeFeatures:
        """Every two places of a molecule, in both directions, and each with itself."""
        encoder, places = self.model.encoder, self.molecules * self.atoms
        settings = encoder.settings
        assert isinstance(settings, EncoderSettings)
        near = _near(z, pos, settings)
        starts = torch.arange(0, places, self.atoms, device=z.device)[:, None, None]
        slots = torch.arange(self.atoms, device=z.device)
        i = (starts + slots[None, :, None]).expand(near.shape).reshape(-1)
        j = (starts + slots[None, None, :]).expand(near.shape).reshape(-1)
        flat = pos.reshape(-1, 3)
        first, second = torch.minimum(i, j), torch.maximum(i, j)
        real = (i != j).to(pos.dtype)
        vector = flat[second] - flat[first]
        length = vector.square().sum(-1).clamp(min=MIN_DISTANCE**2).sqrt()  # as measure_edges does
        unit, length = vector * (real / length)[:, None], length * real
        number = torch.arange(i.shape[0], device=z.device)
        empty = number[:0]
        neighbors = Neighbors(
            source=j,
            target=torch.where(near.reshape(-1), i, places),
            pair=number,
            rows=empty,  # this and all that is empty is for kernels alone
            first=first,
            second=second,
            ways=torch.full_like(number, 3),
            atoms=empty,
            pairs=empty,
        )
        cutoff = cosine_cutoff(length, settings.cutoff)
        basis = encoder.distance_expansion  # type: ignore[attr-defined]
        return EdgeFeatures(neighbors, unit, cutoff, basis(length), cutoff, None)


def _near(z: Tensor, pos: Tensor, settings: EncoderSettings) -> Tensor:
    """Which places are neighbours, each its own too, as ``graph.radius_edges`` says: (B, A, A)."""
    filled = z > 0
    squared = (pos[:, :, None] - pos[:, None]).square().sum(-1)
    both = filled[:, :, None] & filled[:, None, :]
    among = squared.masked_fill(~both, torch.inf)
    return nearest(among, settings.cutoff, settings.max_neighbors)


def export(model: PropertyModel, molecules: int, atoms: int) -> torch.export.ExportedProgram:
    """The program of a model for batches of one size.

    Args:
        model: as of :class:`FixedShapeModel`; sizes and errors likewise.
        molecules: in a batch, B.
        atoms: places in a molecule, A.
    """
    program = FixedShapeModel(model, molecules, atoms).eval()
    z = torch.ones(molecules, atoms, dtype=torch.int64)
    pos = torch.arange(atoms * 3, dtype=torch.float32).reshape(atoms, 3).repeat(molecules, 1, 1)
    with torch.no_grad():
        return torch.export.export(program, (z, pos))
