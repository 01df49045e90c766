"""Columns of a table that are not fine-tuned errors: of pre-training, smoothness and dynamics."""

from __future__ import annotations

from georecon.experiments.sections import Config, TableColumn
from georecon.experiments.specs import Column


def measured_columns(config: Config, spec: TableColumn) -> list[Column]:
    """Columns of a specification that takes numbers of another stage than fine-tuning."""
    if spec.source == "smoothness":
        return _smoothness_columns(config, spec)
    section = config.nve if spec.source == "nve" else None
    return [
        Column(
            key=spec.metric,
            label=spec.label,
            unit=spec.unit,
            source=spec.source,
            metric=spec.metric,
            part=section.set if section else "",
            target=section.target if section else "",
        )
    ]


def _smoothness_columns(config: Config, spec: TableColumn) -> list[Column]:
    """One column for each map (``map: all``) and displacement; labels say what varies."""
    settings = config.smoothness
    maps = settings.maps if spec.map == "all" else (spec.map,)
    sizes = settings.displacements
    return [
        Column(
            key=f"{spec.metric}{'' if spec.ratio_to is None else '_ratio'}"
            f"{'' if name == 'mean' else '_' + name}_{size}",
            label=spec.label
            + ("" if len(maps) == 1 else f", {name.replace('_', ' ')}")
            + ("" if len(sizes) == 1 else f" at {size} Å"),
            unit=spec.unit,
            source=spec.source,
            metric=spec.metric,
            map=name,
            displacement=size,
            ratio_to=spec.ratio_to,
            title=spec.label,
        )
        for name in maps
        for size in sizes
    ]
