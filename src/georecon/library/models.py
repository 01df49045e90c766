"""Encoders and fine-tuned models from their files: embed molecules, predict properties.

``georecon.load("results/laptop/pretrain/georecon/seed1/encoder.safetensors")`` gives an
:class:`Encoder`, a fine-tuned ``model.safetensors`` a :class:`Model`.
"""

from __future__ import annotations

import tempfile
import warnings
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from georecon.data.elements import SYMBOLS
from georecon.data.molecules import Molecules
from georecon.errors import CheckpointError
from georecon.graph import MolGraph, make_graph, pool_mean
from georecon.library.inputs import CONFORMER_SEED, Progress, Refusal, read_inputs
from georecon.models.encoder_file import ENCODER_FORMAT, read_encoder
from georecon.models.encoders import Encoder as AnyNet
from georecon.models.model_file import MODEL_FORMAT, ModelCard, load_model, read_format
from georecon.models.potential import PropertyModel

MEMBER = "::"
BATCH = 64


class UnlikeTrainingWarning(UserWarning):
    """Molecules of elements or sizes that the model was not trained on."""


@dataclass(frozen=True, slots=True)
class Embeddings:
    """Pooled features of molecules.

    Attributes:
        rows: rows of the input, (M,).
        values: mean over atoms of the encoder's scalar features, (M, F) float32: what the table of
            smoothness calls "mean".
        refused: rows that could not be used, and why.
    """

    rows: NDArray[np.int64]
    values: NDArray[np.float32]
    refused: tuple[Refusal, ...]


@dataclass(frozen=True, slots=True)
class Predictions:
    """Predicted labels of molecules.

    Attributes:
        rows: rows of the input, (M,).
        values: predictions [unit], (M,) float64.
        forces: of each molecule, (n, 3) float64 [unit/Å]; None for a model without forces.
        unit: of the values.
        refused: rows that could not be used, and why.
        unlike: sentences on molecules that are unlike the training set.
    """

    rows: NDArray[np.int64]
    values: NDArray[np.float64]
    forces: tuple[NDArray[np.float64], ...] | None
    unit: str
    refused: tuple[Refusal, ...]
    unlike: tuple[str, ...]


class Encoder:
    """A pre-trained encoder.

    Attributes:
        net: the torch module.
        method: what it was pre-trained by.
    """

    def __init__(self, net: AnyNet, method: str) -> None:
        self.net, self.method = net, method

    def embed(self, items: Any, *, batch: int = BATCH, seed: int = CONFORMER_SEED) -> Embeddings:
        """Pooled features of molecules.

        Args:
            items: anything of :func:`georecon.library.inputs.read_inputs`.
            batch: molecules at a time.
            seed: of conformers made from SMILES.
        """
        inputs = read_inputs(items, max_z=self.net.settings.max_z, seed=seed)
        parts = [np.zeros((0, self.net.settings.channels), np.float32)]
        with torch.no_grad():
            for graph in graphs(inputs.molecules, batch):
                parts.append(pool_mean(self.net(graph)[0], graph).numpy())
        return Embeddings(inputs.molecules.ids, np.concatenate(parts), inputs.refused)


class Model:
    """A fine-tuned model.

    Attributes:
        net: the torch module.
        card: what it was trained on, and the unit of its predictions.
    """

    def __init__(self, net: PropertyModel, card: ModelCard) -> None:
        self.net, self.card = net, card

    def predict(
        self,
        items: Any,
        *,
        batch: int | None = None,
        seed: int = CONFORMER_SEED,
        progress: Progress | None = None,
    ) -> Predictions:
        """Predicted label of each molecule, and forces if the model was trained on them.

        Args:
            items: anything of :func:`georecon.library.inputs.read_inputs`.
            batch: molecules at a time; by default as many as the run predicted its test set in:
                the same molecules in the same order then give the same bits.
            seed: of conformers made from SMILES.
            progress: is told how many molecules were read, then predicted.

        Warns:
            UnlikeTrainingWarning: elements or sizes that were not in the training set.
        """
        max_z = self.card.encoder.max_z
        inputs = read_inputs(items, max_z=max_z, seed=seed, progress=progress)
        values, forces, done = [np.zeros(0)], [], 0
        for graph in graphs(inputs.molecules, batch or self.card.batch):
            value, force = self._predict(graph)
            values.append(value)
            forces += force
            done += len(value)
            if progress is not None:
                progress(f"{done} of {len(inputs.molecules)} molecules predicted")
        unlike = tuple(self.unlike(inputs.molecules))
        for sentence in unlike:
            warnings.warn(sentence, UnlikeTrainingWarning, stacklevel=2)
        return Predictions(
            rows=inputs.molecules.ids,
            values=np.concatenate(values),
            forces=tuple(forces) if self.card.forces else None,
            unit=self.card.unit,
            refused=inputs.refused,
            unlike=unlike,
        )

    def _predict(self, graph: MolGraph) -> tuple[NDArray[np.float64], list[NDArray[np.float64]]]:
        net = self.net
        if not self.card.forces:
            with torch.no_grad():
                return net.denormalise(net(graph), graph).numpy(), []
        energy, forces = net.label_and_forces(graph)
        return energy.numpy(), np.split(forces.numpy(), graph.ptr[1:-1].numpy())

    def unlike(self, molecules: Molecules) -> Iterator[str]:
        """Sentences on what the training set did not have: elements, fewer or more atoms."""
        card, owner = self.card, np.repeat(molecules.ids, molecules.n_atoms())
        new = ~np.isin(molecules.z, card.elements)
        for z in np.unique(molecules.z[new]):
            rows = np.unique(owner[molecules.z == z])
            known = ", ".join(SYMBOLS[k - 1] for k in card.elements)
            yield (
                f"{SYMBOLS[z - 1]} in {len(rows)} molecule(s), first in row {rows[0]}: the "
                f"training set of {card.dataset} had {known} only"
            )
        counts = molecules.n_atoms()
        outside = (counts < card.fewest_atoms) | (counts > card.most_atoms)
        if outside.any():
            first = int(np.flatnonzero(outside)[0])
            yield (
                f"{outside.sum()} molecule(s) of other sizes than the training set's "
                f"{card.fewest_atoms} to {card.most_atoms} atoms, first row {molecules.ids[first]} "
                f"({counts[first]} atoms)"
            )


def graphs(molecules: Molecules, batch: int) -> Iterator[MolGraph]:
    """All molecules in order, so many at a time."""
    for start in range(0, len(molecules), batch):
        offsets = molecules.offsets[start : start + batch + 1]
        atoms = slice(int(offsets[0]), int(offsets[-1]))
        yield make_graph(
            torch.from_numpy(molecules.z[atoms]),
            torch.from_numpy(molecules.pos[atoms]),
            torch.from_numpy(np.diff(offsets)),
            torch.from_numpy(molecules.ids[start : start + batch]),
        )


def load(path: str | Path) -> Encoder | Model:
    """A ready encoder or fine-tuned model from its file.

    Args:
        path: ``encoder.safetensors`` or ``model.safetensors`` of a run; ``bundle.zip::member`` for
            one in a bundle.

    Raises:
        CheckpointError: no such file, or not one of this project, or of another version.
    """
    file, _, member = str(path).partition(MEMBER)
    if not member:
        return _load(Path(file))
    with tempfile.TemporaryDirectory() as folder:
        unpacked = Path(folder, Path(member).name)
        try:
            with zipfile.ZipFile(file) as bundle:
                unpacked.write_bytes(bundle.read(member))
        except KeyError:
            kinds = [name for name in bundle.namelist() if name.endswith(".safetensors")]
            some = ", ".join(kinds[:5]) or "none"
            raise CheckpointError(f"{file}: has no member {member}; models in it: {some}") from None
        except (OSError, zipfile.BadZipFile) as error:
            raise CheckpointError(f"{file}: cannot be read as a bundle ({error})") from None
        return _load(unpacked)


def _load(path: Path) -> Encoder | Model:
    kind = read_format(path)
    if kind == ENCODER_FORMAT:
        return Encoder(*read_encoder(path))
    if kind == MODEL_FORMAT:
        return Model(*load_model(path))
    raise CheckpointError(
        f"{path}: format is {kind!r}, allowed: {ENCODER_FORMAT}, {MODEL_FORMAT}; files of before "
        "26 November 2026 do not say what they are: train them again"
    )
