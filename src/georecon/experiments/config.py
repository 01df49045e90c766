"""Configuration: read, merge, check; every refusal names the dotted key and what is allowed."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Iterator, Mapping, Set
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args, get_origin

from georecon.data.card_checks import complete
from georecon.errors import ConfigError
from georecon.experiments.references import PRETRAIN, check_references
from georecon.experiments.sections import Config
from georecon.experiments.settings import EncoderSettings, encoder_json
from georecon.experiments.yaml_files import read_mapping
from georecon.keys import (
    Json,
    KeysError,
    as_json,
    from_json,
    key_hints,
    nearest,
    refused,
    scalar_kinds,
    shown,
    split_hint,
    unknown_key,
)

_SHARED = ("methods", "tables", "datasets")
_ENTRIES = ("methods", "tables")
"""Sections whose entries an edition switches off with null."""


def merge(base: Any, over: Any) -> Any:
    """Deep merge of mappings: ``over`` wins, lists and scalars are replaced whole."""
    if not (isinstance(base, Mapping) and isinstance(over, Mapping)):
        return over
    merged = dict(base)
    for key, value in over.items():
        merged[key] = merge(base[key], value) if key in base else value
    return merged


def load_config(folder: Path, overrides: Mapping[str, Any], *, sound: bool = False) -> Config:
    """Resolved configuration: shared files, then the edition, then what the user gave.

    Args:
        folder: the ``config`` folder.
        overrides: config.yaml with the command line's ``--config`` and ``--configfile`` merged in;
            ``edition`` names a file of ``editions/``.
        sound: as of :func:`config_of`.

    Raises:
        ConfigError: unknown edition, unknown or missing key, impossible value.
    """
    editions = sorted(path.stem for path in (folder / "editions").glob("*.yaml"))
    edition = overrides.get("edition")
    if edition not in editions:
        hint = nearest(str(edition), editions)
        raise ConfigError(f"edition is {edition!r}; allowed: {', '.join(editions)}{hint}")
    config: Json = {name: read_mapping(folder / f"{name}.yaml") for name in _SHARED}
    config = merge(config, read_mapping(folder / "editions" / f"{edition}.yaml"))
    config = merge(config, _outdated(config, overrides))
    return config_of(merge(config, overrides), sound=sound)


_PLACES = ("local", "urls", "package", "name")
_OF_A_RULE: Json = {"test": None, "number": None, "val_fraction": None, "draws": False}


def _outdated(base: Json, over: Mapping[str, Any]) -> Json:
    """Defaults for what ``base`` says of something that ``over`` puts another in the place of.

    The reason why a dataset or a file is missing, where another dataset or a place of the file is
    given; what belongs to a split's rule or dataset, where another is given.
    """
    roles = [one.get("sets") for one in (base, over)]
    before, after = (role if isinstance(role, Mapping) else {} for role in roles)
    moved = {name for name in after if _replaces(after[name], before.get(name), "dataset")}
    return _defaults(base, over, (), moved)


def _defaults(base: Any, over: Any, place: tuple[str, ...], moved: Set[str]) -> Json:
    if not (isinstance(base, Mapping) and isinstance(over, Mapping)):
        return {}
    names = [name for name in over if name in base]
    parts = {name: _defaults(base[name], over[name], (*place, name), moved) for name in names}
    found: Json = {name: inner for name, inner in parts.items() if inner}
    match place:
        case ("sets", part) if part in moved:
            return found | {"missing": None}
        case ("finetune", part, "split") if part in moved or _replaces(over, base, "rule"):
            return found | _OF_A_RULE
        case ("datasets", _, "sources", _, "files", _) if any(over.get(name) for name in _PLACES):
            return found | {"missing": None}
    return found


def _replaces(over: Any, base: Any, key: str) -> bool:
    """Whether a mapping gives a key another value than the one that it lies over."""
    both = isinstance(over, Mapping) and isinstance(base, Mapping)
    return both and key in over and over[key] != base.get(key, "random" if key == "rule" else None)


def config_of(document: Mapping[str, Any], *, sound: bool = False) -> Config:
    """Configuration from its merged document: checked, with defaults filled in.

    Args:
        document: as merged from the files.
        sound: the process that started this one has checked it: each value is checked again, what
            sections say of each other is not, and pydantic is not set up (a quarter of the time
            that a job's process takes to read the Snakefile).

    Raises:
        ConfigError: all findings, one line each with its dotted key.
    """
    lines = list(_other_keys(document))
    if lines:
        raise refused(lines)
    for name in _ENTRIES:
        if isinstance(document.get(name), Mapping):
            kept = {key: entry for key, entry in document[name].items() if entry is not None}
            document = {**document, name: kept}
    config = from_json(Config, _nested(document)) if sound else _validated(document)
    cards = {name: complete(name, card) for name, card in config.datasets.items()}
    config = replace(config, datasets=cards)
    if not sound:
        check_references(config)
    return config


def config_json(config: Config) -> Json:
    """A resolved configuration as plain JSON that :func:`config_of` reads again."""
    found: Json = as_json(config)
    finetune: Json = as_json(config.finetune)
    sections: Json = as_json(config.finetune.sets)
    del finetune["sets"]
    return found | {"finetune": finetune | sections, "encoder": encoder_json(config.encoder)}


def _other_keys(value: Any, place: str = "") -> Iterator[str]:
    """Keys that are not text: YAML reads 300 as a number, NO as a boolean."""
    if isinstance(value, Mapping):
        for key, item in value.items():
            at = f"{place}.{key}" if place else str(key)
            if not isinstance(key, str):
                yield f"{at}: key is {key!r}; keys must be text: put it in quotes"
            yield from _other_keys(item, at)
    elif isinstance(value, list | tuple):
        for k, item in enumerate(value):
            yield from _other_keys(item, f"{place}.{k}")


# ---- pydantic ----------------------------------------------------------------------------------


@functools.cache
def adapter() -> Any:
    """Pydantic's view of the configuration; unknown keys are forbidden everywhere."""
    from pydantic import TypeAdapter

    return TypeAdapter(Config)


def _validated(document: Mapping[str, Any]) -> Config:
    from pydantic import ValidationError

    lines = [
        f"encoder.{name}: missing"  # the class's defaults are for code; an edition says them
        for name in EncoderSettings.__slots__
        if isinstance(document.get("encoder"), Mapping) and name not in document["encoder"]
    ]
    nested = _nested(document)
    lines += _unknown_sections(nested)
    try:
        config: Config = adapter().validate_python(nested)
    except ValidationError as error:
        found = (line for one in error.errors(include_url=False) for line in _explain(one))
        raise refused(dict.fromkeys([*lines, *found])) from None
    if lines:
        raise refused(lines)
    return config


def _nested(document: Mapping[str, Any]) -> Json:
    """``finetune.<part>`` as ``finetune.sets.<part>``, the form of the classes."""
    section = document.get("finetune")
    if not isinstance(section, Mapping):
        return dict(document)
    sets = {name: entry for name, entry in section.items() if name != "seeds"}
    seeds = {"seeds": section["seeds"]} if "seeds" in section else {}
    return {**document, "finetune": {**seeds, "sets": sets}}


def _unknown_sections(nested: Json) -> list[str]:
    """Sections of ``finetune`` that belong to no part; taken out, for they are checked by nobody.

    Args:
        nested: from :func:`_nested`; changed.
    """
    roles, finetune = nested.get("sets"), nested.get("finetune")
    if not isinstance(roles, Mapping) or not isinstance(finetune, Mapping):
        return []
    allowed = ["seeds", *(name for name in roles if name != PRETRAIN)]
    unknown = [name for name in finetune["sets"] if name not in allowed]
    for name in unknown:
        del finetune["sets"][name]
    return [unknown_key("finetune", name, allowed) for name in unknown]


def _explain(error: Mapping[str, Any]) -> list[str]:
    """One of pydantic's errors as readable lines: dotted key, value, what is allowed."""
    steps = [*error["loc"]]
    name_of_key = steps[-1:] == ["[key]"]
    steps = steps[:-1] if name_of_key else steps
    kind, value = error["type"], error["input"]
    shown_steps = [
        s for k, s in enumerate(steps) if (k, s) != (1, "sets") or steps[0] != "finetune"
    ]
    place = ".".join(map(str, shown_steps))
    above = ".".join(map(str, shown_steps[:-1]))
    if kind == "unexpected_keyword_argument":
        return [unknown_key(above, steps[-1], sorted(_names(steps[:-1])))]
    if kind == "missing":
        return [f"{place}: missing"]
    if kind == "value_error" and isinstance(error["ctx"]["error"], KeysError):
        return [error["ctx"]["error"].line(place)]
    if kind == "key":
        return [f"{place}: {'name ' if name_of_key else ''}{error['msg']}"]
    wanted = {
        "dataclass_type": "must be a mapping",
        "mapping_type": "must be a mapping",
        "dict_type": "must be a mapping",
        "tuple_type": "must be a list",
    }
    return [f"{place}: is {shown(value)}; {wanted.get(kind, error['msg'])}"]


def _names(steps: list[Any]) -> list[str]:
    """Keys of the class of settings at a place."""
    annotation: Any = Config
    for step in steps:
        annotation = _inner(annotation, step)
    return list(key_hints(_inner_class(annotation)))


def _inner(annotation: Any, step: Any) -> Any:
    kind = _inner_class(annotation)
    if dataclasses.is_dataclass(kind):
        return key_hints(kind)[step][0]  # type: ignore[arg-type]
    return split_hint(get_args(kind)[-1 if get_origin(kind) is not tuple else 0])[0]


def _inner_class(annotation: Any) -> Any:
    """The class or container in a union with null or a word."""
    parts = [p for p in get_args(annotation) if not scalar_kinds(p)]
    if dataclasses.is_dataclass(annotation) or get_origin(annotation) in (tuple, Mapping):
        return annotation
    return next((p for p in parts if get_origin(p) or dataclasses.is_dataclass(p)), annotation)
