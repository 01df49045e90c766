"""What an edition's page is to show; the Snakefile asks, so that this imports little."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from georecon import paths
from georecon.experiments.experiments import Experiments
from georecon.experiments.references import PRETRAIN
from georecon.keys import Json
from georecon.reporting.published_rows import published_json


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


class SitePlan(NamedTuple):
    """What an edition is to have.

    Attributes:
        edition: its name.
        seeds: of fine-tuning.
        sets: molecule sets.
        tables: specifications as JSON, each with others' values.
        figures: names.
    """

    edition: str
    seeds: tuple[int, ...]
    sets: tuple[MoleculeSet, ...]
    tables: tuple[Json, ...]
    figures: tuple[str, ...]


def site_plan(experiments: Experiments, figures: Iterable[str], published: Path) -> SitePlan:
    """What an edition is to have: its tables' specifications, molecule sets and figures.

    Args:
        experiments: of the resolved configuration.
        figures: names of the figures.
        published: folder of others' values, ``reports/published``.
    """
    config = experiments.config
    return SitePlan(
        edition=experiments.edition,
        seeds=config.finetune.seeds,
        sets=tuple(_set(experiments, role) for role in config.sets),
        tables=tuple(
            {
                **experiments.tables.spec(name).as_json(),
                "published": published_json(experiments, published, name),
            }
            for name in config.tables
        ),
        figures=tuple(figures),
    )


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
