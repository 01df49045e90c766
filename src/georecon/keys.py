"""Keys of settings: what each means, which values it takes, and how they are read from JSON.

Settings are frozen dataclasses whose fields are ``Annotated[type, Key(...)]``. That one place
checks values, fills defaults and is written out as JSON schema and as tables for people.
"""

from __future__ import annotations

import dataclasses
import difflib
import functools
import math
import operator
import re
import types
from collections.abc import Callable, Iterable, Mapping
from dataclasses import KW_ONLY, dataclass
from typing import Annotated, Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from georecon.errors import ConfigError

Json = dict[str, object]
"""A JSON object; what it holds is known once :func:`from_json` has read it."""
T = TypeVar("T")

_WORDS = {int: "integer", float: "number", str: "text", bool: "boolean", types.NoneType: "null"}
_SHOWN = 60


class KeysError(ValueError):
    """A check over several keys of one class that failed.

    Args:
        key: the key at fault.
        text: what is wrong; ``{at}`` stands for the dotted place of the class.
    """

    def __init__(self, key: str, text: str) -> None:
        self.key, self.text = key, text
        super().__init__(f"{key}: {text.format(at='')}")

    def line(self, place: str) -> str:
        """The finding as one line, with dotted keys."""
        at = f"{place}." if place else ""
        return f"{at}{self.key}: {self.text.format(at=at)}"


@dataclass(frozen=True, slots=True)
class Key:
    """What one key means and which values it takes; an ``Annotated`` marker.

    Attributes:
        sentence: what it is, for tables of keys.
        unit: of the value, "" for none.
        at_least, above, at_most: bounds of a number.
        choices: the allowed values.
        pattern: regular expression of the whole text, and of the names in a mapping.
        words: what the pattern means.
        word: one word that may stand for a list, such as "all".
        filled: a list or mapping must have an entry.
        unique: no entry of a list comes twice.
    """

    sentence: str
    unit: str = ""
    _: KW_ONLY
    at_least: float | None = None
    above: float | None = None
    at_most: float | None = None
    choices: tuple[str | int, ...] = ()
    pattern: str = ""
    words: str = ""
    word: str = ""
    filled: bool = False
    unique: bool = False

    def fault(self, value: object, kinds: tuple[type, ...]) -> str | None:
        """What is wrong with a single value, or None.

        Args:
            value: as read from YAML or JSON.
            kinds: allowed types among int, float (whole numbers too), str, bool and None.
        """
        if value is None and types.NoneType in kinds:
            return None
        if not any(_is_of(value, kind) for kind in kinds):
            names = " or ".join(_WORDS[kind] for kind in kinds)
            number = isinstance(value, str) and {int, float} & set(kinds) and _is_number(value)
            hint = " (YAML reads 1e-3 as text: write 1.0e-3)" if number else ""
            return f"is {shown(value)}; must be {names}{hint}"
        if isinstance(value, float) and not math.isfinite(value):
            return f"is {value!r}; must be a finite number"
        if self.choices and value not in self.choices:
            return choice(value, map(str, self.choices))
        if isinstance(value, str):
            return self.text_fault(value)
        return self.bound_fault(value) if isinstance(value, int | float) else None

    def text_fault(self, value: str) -> str | None:
        """What is wrong with a text or a name, or None."""
        if self.pattern and not re.fullmatch(self.pattern, value):
            return f"is {shown(value)}; must be {self.words or self.pattern}"
        return None

    def bound_fault(self, value: float) -> str | None:
        """What is wrong with a number, or None."""
        checks = (
            (self.at_least, "at least", operator.ge),
            (self.above, "greater than", operator.gt),
            (self.at_most, "at most", operator.le),
        )
        for bound, words, holds in checks:
            if bound is not None and not holds(value, bound):
                return f"is {shown(value)}; must be {words} {bound}"
        return None

    def group_fault(self, value: Iterable[object]) -> str | None:
        """What is wrong with a list or mapping as a whole, or None."""
        items = list(value)
        if self.filled and not items:
            return "is empty; must have an entry"
        if self.unique:
            seen = set()
            for item in items:
                if item in seen:
                    return f"has {shown(item)} twice; must be different values"
                seen.add(item)
        return None

    def bounds(self) -> str:
        """The allowed values in a few words, for tables of keys."""
        parts = [", ".join(f"`{value}`" for value in self.choices)] if self.choices else []
        signs = (("≥ ", self.at_least), ("> ", self.above), ("≤ ", self.at_most))
        parts += [f"{sign}{bound}" for sign, bound in signs if bound is not None]
        parts += [f"or `{self.word}`"] if self.word else []
        return ", ".join(parts)

    # ---- pydantic's protocol, so that it checks with the very same functions -------------------

    def __get_pydantic_core_schema__(self, source: Any, handler: Callable[[Any], Any]) -> Any:
        """How pydantic checks a value with this key."""
        from pydantic_core import PydanticCustomError, core_schema

        def refuse(text: str | None) -> None:
            if text is not None:
                raise PydanticCustomError("key", "{text}", {"text": text})

        kinds = scalar_kinds(source)
        if kinds:

            def one(value: Any) -> Any:
                refuse(self.fault(value, kinds))
                return value

            return core_schema.no_info_plain_validator_function(
                one, json_schema_input_schema=handler(source)
            )

        def several(value: Any, inner: Callable[[Any], Any]) -> Any:
            if self.word and value == self.word:
                return value
            found = inner(value)
            refuse(self.group_fault(found) if isinstance(found, tuple | dict) else None)
            return found

        schema = handler(_without_word(source) if self.word else source)
        return core_schema.no_info_wrap_validator_function(several, schema)

    def __get_pydantic_json_schema__(self, core: Any, handler: Callable[[Any], Json]) -> Json:
        """The JSON schema of a value with this key."""
        schema = handler(core)
        if self.word:
            schema = {"anyOf": [{"const": self.word}, schema]}
        unit = f" [{self.unit}]" if self.unit else ""
        more: Json = {"description": f"{self.sentence}{unit}"}
        names = {"minimum": self.at_least, "exclusiveMinimum": self.above, "maximum": self.at_most}
        more |= {name: bound for name, bound in names.items() if bound is not None}
        if self.choices:
            more["enum"] = list(self.choices)
        if self.pattern:
            more["pattern"] = f"^(?:{self.pattern})$"
        if self.filled:
            more["minProperties" if schema.get("type") == "object" else "minItems"] = 1
        if self.unique:
            more["uniqueItems"] = True
        return {**schema, **more}


def shown(value: object) -> str:
    """A value as an error names it."""
    return repr(value)[:_SHOWN]


def nearest(word: str, allowed: Iterable[str]) -> str:
    """``" (did you mean 'x'?)"`` where a name is close, else nothing."""
    close = difflib.get_close_matches(word, list(allowed), n=1)
    return f" (did you mean {close[0]!r}?)" if close else ""


def choice(value: object, allowed: Iterable[str]) -> str:
    """``is 'x'; allowed: a, b``, with the nearest."""
    names = list(allowed)
    return f"is {shown(value)}; allowed: {', '.join(names) or 'none'}{nearest(str(value), names)}"


def unknown_key(place: str, key: object, allowed: Iterable[str]) -> str:
    """A finding: a key that nothing reads."""
    names, at = list(allowed), f"{place}." if place else ""
    return f"{at}{key}: unknown key; allowed: {', '.join(names)}{nearest(str(key), names)}"


def refused(lines: Iterable[str]) -> ConfigError:
    """All findings in one error."""
    return ConfigError("configuration refused:\n  " + "\n  ".join(lines))


def _is_of(value: object, kind: type) -> bool:
    if kind is float:
        return isinstance(value, int | float) and not isinstance(value, bool)
    return type(value) is kind


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def scalar_kinds(annotation: Any) -> tuple[type, ...]:
    """Types that a single value may have; empty for lists, mappings and classes of keys."""
    parts = get_args(annotation) if _is_union(annotation) else (annotation,)
    return tuple(parts) if set(parts) <= _WORDS.keys() else ()


def _is_union(annotation: Any) -> bool:
    return get_origin(annotation) in (Union, types.UnionType)


def _without_word(annotation: Any) -> Any:
    (kept,) = (part for part in get_args(annotation) if get_origin(part) is not Literal)
    return kept


# ---- to and from JSON --------------------------------------------------------------------------


def as_json(value: Any) -> Any:
    """Settings as plain JSON values; keys that have their default are left out."""
    if dataclasses.is_dataclass(value):
        return {
            field.name: as_json(item)
            for field in dataclasses.fields(value)
            if (item := getattr(value, field.name)) != _default(field)
        }
    if isinstance(value, Mapping):
        return {key: as_json(item) for key, item in value.items()}
    return [as_json(item) for item in value] if isinstance(value, tuple) else value


def _default(field: dataclasses.Field[Any]) -> Any:
    if field.default_factory is not dataclasses.MISSING:
        return field.default_factory()
    return field.default


def from_json(kind: type[T], document: object, place: str = "") -> T:
    """Settings from what :func:`as_json` gave.

    Args:
        kind: class of the settings.
        document: JSON object.
        place: its dotted place, for errors.

    Raises:
        ConfigError: unknown or missing keys, or impossible values; all of them, by dotted key.
    """
    lines: list[str] = []
    found: T = _read(kind, Key(""), document, place, lines)
    if lines:
        raise refused(lines)
    return found


@functools.cache
def key_hints(kind: type) -> dict[str, tuple[Any, Key]]:
    """Type and key of each field of a class of settings."""
    hints = get_type_hints(kind, include_extras=True)
    return {field.name: split_hint(hints[field.name]) for field in dataclasses.fields(kind)}


def split_hint(annotation: Any) -> tuple[Any, Key]:
    """Type and key of an annotation; an empty key where it has none."""
    if get_origin(annotation) is Annotated:
        kind, *marks = get_args(annotation)
        return kind, next((mark for mark in marks if isinstance(mark, Key)), Key(""))
    return annotation, Key("")


def _read(annotation: Any, key: Key, value: object, place: str, lines: list[str]) -> Any:
    kinds = scalar_kinds(annotation)
    if kinds:
        text = key.fault(value, kinds)
        lines += [f"{place}: {text}"] if text else []
        return value
    if key.word and value == key.word:
        return value
    if _is_union(annotation):
        if value is None and types.NoneType in get_args(annotation):
            return None
        rest = [p for p in get_args(annotation) if p is not types.NoneType]
        annotation = _of_kind([part for part in rest if get_origin(part) is not Literal], value)
    if annotation is object:  # read later, by the class that it is for
        return value
    if get_origin(annotation) is tuple:
        return _read_list(get_args(annotation), value, place, lines)
    if not isinstance(value, Mapping):
        lines.append(f"{place}: is {shown(value)}; must be a mapping")
        return None
    if dataclasses.is_dataclass(annotation):
        return _read_class(annotation, value, place, lines)
    names, inner = get_args(annotation)
    whole = names is int  # JSON has no other keys than text
    kind, mark = split_hint(inner)
    return {
        int(k) if whole else k: _read(kind, mark, v, f"{place}.{k}", lines)
        for k, v in value.items()
    }


def _of_kind(parts: list[Any], value: object) -> Any:
    """Of several classes the one whose key ``kind`` has the value's; else the first."""
    kind = value.get("kind") if isinstance(value, Mapping) else None
    kinds = ((part, key_hints(part).get("kind")) for part in parts[1:])
    return next((part for part, hint in kinds if hint and kind in hint[1].choices), parts[0])


def _read_list(of: tuple[Any, ...], value: object, place: str, lines: list[str]) -> Any:
    if not isinstance(value, list | tuple):
        lines.append(f"{place}: is {shown(value)}; must be a list")
        return None
    if of[-1] is not ... and len(value) != len(of):
        lines.append(f"{place}: is {shown(value)}; must be {len(of)} values")
    inner, mark = split_hint(of[0])
    return tuple(_read(inner, mark, v, f"{place}.{k}", lines) for k, v in enumerate(value))


def _read_class(kind: Any, value: Mapping[Any, Any], place: str, lines: list[str]) -> Any:
    hints, before = key_hints(kind), len(lines)
    at = f"{place}." if place else ""
    lines += [unknown_key(place, name, hints) for name in value if name not in hints]
    given = {}
    for field in dataclasses.fields(kind):
        if field.name in value:
            inner, mark = hints[field.name]
            place_of = f"{at}{field.name}"
            given[field.name] = _read(inner, mark, value[field.name], place_of, lines)
        elif _default(field) is dataclasses.MISSING:
            lines.append(f"{at}{field.name}: missing")
    if len(lines) > before:
        return None
    try:
        return kind(**given)
    except KeysError as fault:
        lines.append(fault.line(place))
        return None
