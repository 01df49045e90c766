"""Parameters of the objectives, known without importing them.

An objective declares its parameters as a class ``Parameters`` in its own file, which imports torch.
``config/objectives.json`` describes these classes, each with the digest of its file's code. A
description whose digest is that of the file is used; for any other file the module is imported, so
that nothing can be stale and a new objective needs no description.
"""

from __future__ import annotations

import dataclasses
import functools
import importlib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

from georecon.errors import ConfigError
from georecon.experiments.settings import ET
from georecon.files import read_json
from georecon.keys import Json, Key, choice, from_json, key_hints, scalar_kinds
from georecon.records.code import meaning_digest

FOLDER = Path(__file__).parents[1] / "objectives"
DESCRIPTIONS = Path(__file__).parents[3] / "config" / "objectives.json"
_TYPES: dict[str, type] = {"integer": int, "number": float, "text": str, "boolean": bool}
_KEY = ("sentence", "unit", "at_least", "above", "at_most", "choices", "pattern", "words")


def objective_names() -> list[str]:
    """Files of the objectives' folder, but for parts of them (``_<name>.py``)."""
    return sorted(p.stem for p in FOLDER.glob("*.py") if not p.stem.startswith("_"))


@functools.cache
def parameters(name: str) -> type:
    """Class of an objective's parameters, or its equal made from the description.

    Raises:
        ConfigError: there is no such objective, or its file has no class ``Parameters``.
    """
    if name not in objective_names():
        raise ConfigError(f"objective: {choice(name, objective_names())}")
    known = _descriptions().get(name)
    if known is not None and known["code"] == code_of(name):
        return _class(known["parameters"], known.get("encoder", ET))
    return declared(name)


def kind_of(declaration: type) -> str:
    """Architecture of the encoder that an objective trains, from its class of parameters."""
    return str(getattr(declaration, "encoder", ET))


def declared(name: str) -> type:
    """The class that an objective's file declares; imports the file and so torch."""
    try:
        module = importlib.import_module(f"georecon.objectives.{name}")
        found: type = module.Parameters
    except (ImportError, SyntaxError, AttributeError) as error:
        raise ConfigError(f"objectives/{name}.py: no class Parameters ({error})") from None
    if not dataclasses.is_dataclass(found):
        raise ConfigError(f"objectives/{name}.py: Parameters is not a dataclass")
    return found


def measures(name: str) -> tuple[str, ...] | None:
    """What an objective measures on held-out molecules; None where no description says so."""
    known = _descriptions().get(name)
    current = known is not None and known["code"] == code_of(name)
    return tuple(known["measures"]) if current else None


def code_of(name: str) -> str:
    """Digest of what an objective's file says."""
    return meaning_digest(FOLDER / f"{name}.py")


def check(name: str, given: Mapping[str, object], place: str) -> None:
    """Refuse parameters that an objective does not take.

    Raises:
        ConfigError: unknown, missing or impossible ones, by dotted key below ``place``.
    """
    from_json(parameters(name), given, place)


def describe(kind: type) -> dict[str, Json]:
    """A class of parameters as JSON."""
    found: dict[str, Json] = {}
    for name, (annotation, key) in key_hints(kind).items():
        kinds = scalar_kinds(annotation)
        if kinds:
            names = [word for word, one in _TYPES.items() if one in kinds]
            what: Json = {"type": names[0], "null": type(None) in kinds}
        else:
            what = {"type": "group", "keys": describe(annotation)}
        marks = {mark: getattr(key, mark) for mark in _KEY}
        found[name] = what | {mark: v for mark, v in marks.items() if v not in ("", None, ())}
        default = next(f.default for f in dataclasses.fields(kind) if f.name == name)
        if default is not dataclasses.MISSING:
            found[name]["default"] = default
    return found


@functools.cache
def _descriptions() -> Any:
    try:
        return read_json(DESCRIPTIONS)
    except (OSError, ValueError):
        return {}  # each is imported then


def _class(description: Mapping[str, Any], encoder: str = ET) -> type:
    fields: list[Any] = []
    for name, entry in description.items():
        if entry["type"] == "group":
            kind: Any = _class(entry["keys"])
        else:
            kind = _TYPES[entry["type"]]
            kind = kind | None if entry["null"] else kind
        marks = {mark: entry[mark] for mark in _KEY if mark in entry}
        if "choices" in marks:
            marks["choices"] = tuple(marks["choices"])
        annotation = Annotated[kind, Key(**marks)]
        default = {"default": entry["default"]} if "default" in entry else {}
        fields.append((name, annotation, dataclasses.field(**default)))
    names = {"encoder": encoder}
    return dataclasses.make_dataclass(
        "Parameters", fields, frozen=True, kw_only=True, namespace=names
    )
