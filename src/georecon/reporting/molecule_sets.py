"""Molecule sets of an edition as a reader needs them: title, what to cite, licence, stores."""

from __future__ import annotations

from typing import NamedTuple

from georecon import paths
from georecon.experiments.experiments import Experiments
from georecon.experiments.references import PRETRAIN


class MoleculeSet(NamedTuple):
    """A molecule set of an edition.

    Attributes:
        role: what the edition has it for, in words.
        missing: why the edition has none; None if it has.
        title: of the data set; ``citation`` and ``licence`` likewise.
        stores: folders of its stores.
    """

    role: str
    missing: str | None
    title: str
    citation: str | None
    licence: str | None
    stores: tuple[str, ...]


def molecule_sets(experiments: Experiments) -> tuple[MoleculeSet, ...]:
    """All sets of an edition, in the order of its parts."""
    return tuple(_set(experiments, role) for role in experiments.config.sets)


def _set(experiments: Experiments, role: str) -> MoleculeSet:
    entry = experiments.config.sets[role]
    dataset, missing = entry.dataset, entry.missing
    card = experiments.data.card(dataset)
    stores = [paths.STORE.format(dataset=dataset)]
    if role != PRETRAIN:
        stores = [
            experiments.data.store(dataset, name) for name in experiments.data.tested(dataset)
        ]
    return MoleculeSet(
        role=entry.words(role),
        missing=missing,
        title=card.title,
        citation=card.citation or None,
        licence=card.licence or None,
        stores=() if missing else tuple(dict.fromkeys(stores)),
    )
