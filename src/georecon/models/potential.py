"""A property model: encoder, head, and the affine map between its output and the label.

Label = output · scale + shift + Σ_atoms atomref[z]. Scale, shift and atomref are kept, multiplied
and added in float64: in float32 an energy of QM9 is off by 1 meV, one of MD17 by 0.03 kcal/mol.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from georecon.experiments.settings import AnyEncoder
from georecon.graph import MolGraph, scatter_sum
from georecon.kernels.autograd import only
from georecon.models.encoders import build_encoder, property_head


class PropertyModel(nn.Module):
    """Encoder and head for one property, with energies' forces by automatic differentiation.

    Args:
        settings: encoder sizes.
        head: name of the head; allowed: the keys of ``PROPERTY_HEADS``.
        scale: standard deviation of training labels [label unit], 1 if not standardised.
        shift: mean of training labels less atomrefs [label unit], 0 if not standardised.
        atomref: reference of each element [label unit], (max_z,) float64; 0 where there is none.
    """

    scale: Tensor
    shift: Tensor
    atomref: Tensor

    def __init__(
        self, settings: AnyEncoder, head: str, *, scale: float, shift: float, atomref: Tensor
    ) -> None:
        super().__init__()
        self.encoder = build_encoder(settings)
        self.head = property_head(settings, head)
        self.register_buffer("scale", torch.tensor(scale, dtype=torch.float64))
        self.register_buffer("shift", torch.tensor(shift, dtype=torch.float64))
        self.register_buffer("atomref", atomref.to(torch.float64))

    @classmethod
    def blank(cls, settings: AnyEncoder, head: str) -> PropertyModel:
        """A model whose weights and label map are still to be loaded."""
        atomref = torch.zeros(settings.max_z, dtype=torch.float64)
        return cls(settings, head, scale=1.0, shift=0.0, atomref=atomref)

    def normalise(self, label: Tensor, graph: MolGraph) -> Tensor:
        """Labels (B,) float64 [label unit] → what the network is trained to put out, (B,)."""
        return ((label - self._offset(graph)) / self.scale).to(graph.pos.dtype)

    def denormalise(self, output: Tensor, graph: MolGraph) -> Tensor:
        """Network outputs (B,) → labels (B,) float64 [label unit]."""
        return output.to(torch.float64) * self.scale + self._offset(graph)

    def _offset(self, graph: MolGraph) -> Tensor:
        references = scatter_sum(self.atomref[graph.z], graph.batch, graph.num_graphs)
        return references + self.shift

    def forward(self, graph: MolGraph) -> Tensor:
        """Normalised property of each molecule, (B,)."""
        return self.head(*self.encoder(graph), graph)

    def energy_and_forces(self, graph: MolGraph, *, training: bool) -> tuple[Tensor, Tensor]:
        """Normalised energies (B,) and forces −∂E/∂r (N, 3) in units of ``scale`` per Å.

        Args:
            graph: molecules; their positions need not require gradients.
            training: keep the graph, so that a loss on forces can be differentiated again.
        """
        with torch.enable_grad():
            graph = graph._replace(pos=graph.pos.detach().requires_grad_(True))
            energy = self(graph)
            with only("positions"):
                (gradient,) = torch.autograd.grad(energy.sum(), graph.pos, create_graph=training)
        return (energy if training else energy.detach()), -gradient

    def label_and_forces(self, graph: MolGraph) -> tuple[Tensor, Tensor]:
        """Labels (B,) [label unit] and forces −∂label/∂r (N, 3) [label unit/Å], in float64."""
        energy, forces = self.energy_and_forces(graph, training=False)
        return self.denormalise(energy, graph), forces.detach().to(torch.float64) * self.scale
