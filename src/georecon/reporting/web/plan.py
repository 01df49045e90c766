"""What an edition's page is to show; the Snakefile asks, so that this imports little."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from georecon.experiments.experiments import Experiments
from georecon.keys import Json
from georecon.reporting.molecule_sets import MoleculeSet, molecule_sets
from georecon.reporting.published_rows import published_json


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
        sets=molecule_sets(experiments),
        tables=tuple(
            {
                **experiments.tables.spec(name).as_json(),
                "published": published_json(experiments, published, name),
            }
            for name in config.tables
        ),
        figures=tuple(figures),
    )
