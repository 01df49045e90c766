"""Values of ``--config``: Snakemake hands on the parts of nested ones as text.

``--config 'finetune={seeds: [1, 2, 3]}'`` reaches the Snakefile as ``{'seeds': ['1', '2', '3']}``.
Where a key takes a number, a boolean or null its text is read as a configuration file's would be;
where it takes text it stays one. What is no such value stays as well, and is refused like any
other by its dotted key.
"""

from __future__ import annotations

import dataclasses
import types
from collections.abc import Mapping
from typing import Any, Literal, get_args, get_origin

import yaml

from georecon.experiments.sections import Config, Finetune, FinetuneSet
from georecon.keys import Json, key_hints, scalar_kinds, split_hint


def read_texts(option: Mapping[str, Any]) -> Json:
    """The values of ``--config`` as those of a configuration file.

    Args:
        option: as Snakemake parsed it; values of the top level have their types already.
    """
    return {name: _read(value, _of_key(Config, name)) for name, value in option.items()}


def _of_key(kind: type, name: str) -> Any:
    """Type of a key's value; ``object`` for one that there is not, which is refused later."""
    if kind is Finetune and name != "seeds":  # sections stand beside ``seeds`` in the files
        return FinetuneSet
    hints = key_hints(kind)
    return hints[name][0] if name in hints else object


def _read(value: Any, annotation: Any) -> Any:
    if annotation is object:
        return _of_any_type(value)
    kinds = scalar_kinds(annotation)
    if kinds:
        return _scalar(value, kinds) if isinstance(value, str) else value
    annotation = _group(annotation)
    if isinstance(value, str) and value[:1] in ("{", "["):
        value = _structure(value)
    if isinstance(value, Mapping):
        if isinstance(annotation, type) and dataclasses.is_dataclass(annotation):
            return {name: _read(item, _of_key(annotation, name)) for name, item in value.items()}
        inner = get_args(annotation)[-1] if get_origin(annotation) is Mapping else object
        return {name: _read(item, split_hint(inner)[0]) for name, item in value.items()}
    if isinstance(value, list | tuple):
        inner = get_args(annotation)[0] if get_origin(annotation) is tuple else object
        return [_read(item, split_hint(inner)[0]) for item in value]
    return None if value in ("null", "~", "") else value


def _group(annotation: Any) -> Any:
    """The class, list or mapping in a union with null or a word."""
    if get_origin(annotation) in (tuple, Mapping) or dataclasses.is_dataclass(annotation):
        return annotation
    parts = [p for p in get_args(annotation) if p is not types.NoneType]
    return next((p for p in parts if get_origin(p) is not Literal), object)


def _of_any_type(value: Any) -> Any:
    """A value whose key is read later by the class that it is for, or by none."""
    if isinstance(value, Mapping):
        return {name: _of_any_type(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [_of_any_type(item) for item in value]
    return _plain(value) if isinstance(value, str) else value


def _scalar(text: str, kinds: tuple[type, ...]) -> Any:
    value = _plain(text)
    fits = type(value) in kinds or (type(value) is int and float in kinds)
    return value if fits else text


def _plain(text: str) -> Any:
    """A number, boolean or null that a text says in YAML; else the text."""
    try:
        value = yaml.safe_load(text)
    except (yaml.YAMLError, ValueError):
        return text
    return value if value is None or isinstance(value, bool | int | float) else text


def _structure(text: str) -> Any:
    """A list or mapping that a text says in YAML; else the text."""
    try:
        value = yaml.load(text, yaml.BaseLoader)
    except (yaml.YAMLError, ValueError):
        return text
    return value if isinstance(value, list | dict) else text
