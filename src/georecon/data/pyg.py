"""Molecules to and from PyTorch Geometric, for whoever has a data set or a model there.

A ``Data`` holds one molecule under the names of PyG's own QM9: ``z`` atomic numbers (n,) int64,
``pos`` positions [Å] (n, 3), ``idx`` the molecule's id. Labels are attributes of their own names,
(1,) float64, and forces are ``force``, (n, 3) float64, both in the units of the dataset card: PyG
converts nothing and neither do we. Bonds and features that PyG adds (``x``, ``edge_index``) are
not read; edges are made from positions by :func:`georecon.graph.radius_edges`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch

from georecon.data.molecules import MAX_Z, Molecules, check_molecules
from georecon.errors import DataError
from georecon.graph import MolGraph

if TYPE_CHECKING:
    from torch_geometric.data import Data

SOURCE = "PyTorch Geometric data"
OWN_NAMES = {"x", "y", "z", "pos", "idx", "force", "batch", "ptr", "edge_index", "edge_attr"}


def to_pyg(molecules: Molecules) -> list[Data]:
    """One ``Data`` a molecule; ``torch_geometric.data.Batch.from_data_list`` joins them.

    Raises:
        DataError: a label has the name of another attribute of ``Data``.
    """
    from torch_geometric.data import Data

    for name in molecules.labels:
        if name in OWN_NAMES or hasattr(Data, name):
            reason = f"label {name!r} has the name of an attribute of Data; rename it"
            raise DataError(SOURCE, None, reason)
    found = []
    for row, (start, end) in enumerate(
        zip(molecules.offsets[:-1], molecules.offsets[1:], strict=True)
    ):
        fields = {
            name: torch.tensor([values[row]], dtype=torch.float64)
            for name, values in molecules.labels.items()
        }
        if molecules.forces is not None:
            fields["force"] = torch.tensor(molecules.forces[start:end])
        z = torch.tensor(molecules.z[start:end], dtype=torch.int64)
        pos = torch.tensor(molecules.pos[start:end])
        found.append(Data(z=z, pos=pos, idx=int(molecules.ids[row]), **fields))
    return found


def from_pyg(items: Iterable[Data], labels: Sequence[str] = ()) -> Molecules:
    """Molecules of ``Data`` objects, a PyG dataset or the parts of a batch.

    Args:
        items: one molecule each; without ``idx``, ids count from 0. A ``Batch`` comes as
            ``batch.to_data_list()``.
        labels: attributes with one number a molecule to take as labels.

    Raises:
        DataError: positions, atomic numbers or a label are missing or of the wrong shape, an
            element is unknown, a number is not finite, or only some molecules have ``force``.
    """
    ids, z, pos, forces = [], [], [], []
    values: dict[str, list[float]] = {name: [] for name in labels}
    for row, data in enumerate(items):
        number = int(data.idx) if "idx" in data else row
        ids.append(number)
        z.append(_part(data, "z", number))
        pos.append(_vectors(data, "pos", number))
        if "force" in data:
            forces.append(_vectors(data, "force", number))
        for name in labels:
            values[name].append(_value(data, name, number))
        if len(odd := z[-1][(z[-1] < 1) | (z[-1] > MAX_Z)]):
            reason = f"unknown element: Z = {odd[0]}, expected 1..{MAX_Z}"
            raise DataError(SOURCE, number, reason)
    if forces and len(forces) != len(ids):
        raise DataError(SOURCE, None, f"{len(forces)} of {len(ids)} molecules have force")
    molecules = Molecules.from_list(ids, z, pos, dict(values), forces or None)
    check_molecules(molecules, SOURCE)
    return molecules


def graph_of_pyg(data: Data) -> MolGraph:
    """What the encoder takes, from a ``Data`` or a ``Batch``, on its device.

    Gradients flow to ``data.pos``. Molecules keep their ``idx``, or count from 0 without it.
    """
    device = data.z.device
    if "ptr" in data:
        ptr, batch = data.ptr, data.batch
    else:
        ptr = torch.tensor([0, len(data.z)], device=device)
        batch = torch.zeros_like(data.z)
    ids = data.idx if "idx" in data else torch.arange(len(ptr) - 1)
    ids = torch.as_tensor(ids, dtype=torch.int64, device=device).reshape(-1)
    return MolGraph(data.z.to(torch.int64), data.pos, batch, ptr, ids)


def _part(data: Data, name: str, number: int) -> np.ndarray:
    if name not in data:
        raise DataError(SOURCE, number, f"{name} is missing")
    found: np.ndarray = data[name].detach().cpu().numpy()
    return found


def _vectors(data: Data, name: str, number: int) -> np.ndarray:
    found, atoms = _part(data, name, number), len(_part(data, "z", number))
    if found.shape != (atoms, 3):
        reason = f"{name} has shape {found.shape}, expected ({atoms}, 3)"
        raise DataError(SOURCE, number, reason)
    return found


def _value(data: Data, name: str, number: int) -> float:
    found = _part(data, name, number)
    if found.size != 1:
        raise DataError(SOURCE, number, f"label {name} has shape {found.shape}, expected (1,)")
    return float(found.reshape(()))
