"""A store as a data set of PyTorch Geometric: its loaders, samplers and models take it as it is."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from torch_geometric.data import Data, Dataset

from georecon.data.pyg import to_pyg
from georecon.data.readers.qm9_package import LABELS
from georecon.data.store import Store
from georecon.errors import ConfigError

QM9_TARGETS = LABELS
"""The first twelve targets of ``torch_geometric.datasets.QM9``, in its order and units: D, a0^3,
eV (HOMO, LUMO, gap), a0^2, eV (ZPVE, U0, U, H, G), cal/mol/K."""


class StoreDataset(Dataset):  # type: ignore[misc] # PyG is not followed by mypy
    """The molecules of a store, each read from its memory-mapped files when it is asked for.

    It is indexed, sliced, masked and shuffled as PyG's own data sets. A ``Data`` has what
    :func:`georecon.data.pyg.to_pyg` gives it: ``z``, ``pos`` [Å], ``idx`` (the store's id; of QM9
    the gdb index, where PyG counts from 0), each label by its name, (1,) float64, and ``force``.

    Args:
        path: folder of the store, ``resources/store/<dataset>``.
        targets: labels that are ``y`` too, (1, len(targets)) float32, in this order; for QM9
            ``QM9_TARGETS`` gives the first twelve columns of PyG's ``y``.
        transform: of each ``Data`` when it is asked for, as in all of PyG's data sets.

    Raises:
        DataError: there is no store, or one of another format.
        ConfigError: a target that is no label of the store.
    """

    def __init__(
        self,
        path: str | Path,
        targets: Sequence[str] = (),
        transform: Callable[[Data], Data] | None = None,
    ) -> None:
        super().__init__(None, transform)
        self.store = Store.open(path)
        self.targets = tuple(targets)
        if unknown := [name for name in self.targets if name not in self.store.labels]:
            there = ", ".join(self.store.labels) or "none"
            raise ConfigError(f"{path}: has no label {unknown[0]}; labels: {there}")

    def len(self) -> int:
        """Molecules of the store."""
        return len(self.store)

    def get(self, idx: int) -> Data:
        """The molecule in a row of the store."""
        (data,) = to_pyg(self.store.gather([idx]))
        if self.targets:
            y = [float(data[name]) for name in self.targets]
            data.y = torch.tensor([y], dtype=torch.float32)
        return data
