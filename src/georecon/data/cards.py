"""Dataset cards: what a user may leave out, what is refused before any work, and which raw files
make which store.

A card comes from ``config/datasets.yaml`` or from the user's own configuration file; both are
completed and checked here, so that a set of one's own needs no more than a path, units and what it
is for (config/README.md, "Your own data").
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from georecon.errors import ConfigError
from georecon.units import allowed_units, quantity_of, unit_name

Card = Mapping[str, Any]

ALL = "all"
"""Name of the store that holds every file of a set with one store a target: for pre-training."""

FILE_STRIDE = 100_000_000
"""Ids of a store made from several files: place of the file x this + id within the file."""

# Reader -> its own keys in a source; the other layouts fix their units. Roles of the files are the
# reader's too, but for "frames" and "sdf", which take any number of files under any names.
READER_KEYS: dict[str, tuple[str, ...]] = {
    "qm9pack": (),
    "qm9_xyz": (),
    "gdb9": (),
    "frames": ("keys", "raw_units"),
    "sdf": ("title_id", "max_rejected"),
}
READER_ROLES: dict[str, tuple[tuple[str, ...], ...]] = {
    "qm9pack": (("part1", "part2", "part3"),),
    "qm9_xyz": (("archive",), ("archive", "uncharacterized")),
    "gdb9": (
        ("sdf", "csv"),
        ("sdf", "csv", "uncharacterized"),
        ("archive",),
        ("archive", "uncharacterized"),
    ),
}
_COMMON_KEYS = ("reader", "files", "expected_molecules", "parts", "indices")

# Weights of energies, forces and Noisy Nodes in the force lineage (docs/method.md).
_FORCE_RECIPE = {"label": "energy", "energy_weight": 0.2, "force_weight": 0.8}
_STORE_UNITS = {"length": "Å", "energy": "eV", "force": "eV/Å"}
_MEASURES = {"pos": "length", "energy": "energy", "forces": "force"}
# Shortest distance over the sum of the two covalent radii: 0.75 to 1.2 in real molecules, even
# hot ones; a file in bohr or nanometres gives 1.5 to 2.2 or 0.1.
DEFAULT_RANGES = {"bond_ratio": [0.55, 1.4]}
_DEFAULT_OUTLIERS = 10.0


def complete(name: str, card: Card) -> dict[str, Any]:
    """The card with everything that may be left out filled in; values given are never changed.

    Args:
        name: of the dataset.
        card: as merged from the configuration files, checked against the schema.

    Returns:
        A new card, with ``name``, ``title``, ``store_per_file``, ``expected_molecules``,
        ``default_source``, the file names, ``units``, ``ranges``, ``outliers``, ``targets``.

    Raises:
        ConfigError: a unit is unknown; names its dotted key.
    """
    sources = {key: _complete_source(name, key, entry) for key, entry in card["sources"].items()}
    filled = {
        "title": name,
        "store_per_file": card["kind"] == "forces",
        "expected_molecules": None,
        "default_source": next(iter(sources), None),
        "ranges": DEFAULT_RANGES,
        **card,
        "name": name,
        "sources": sources,
        "outliers": {**_outliers(card), **card.get("outliers", {})},
    }
    filled["targets"] = _targets(filled)
    filled["units"] = _units(filled)
    return filled | {"targets": _recipes(filled)}


def _outliers(card: Card) -> dict[str, float]:
    labels = [target.get("label", name) for name, target in (card.get("targets") or {}).items()]
    names = ["energy", "force_rms"] if card["kind"] == "forces" else labels
    return dict.fromkeys(names, _DEFAULT_OUTLIERS)


def _complete_source(dataset: str, name: str, source: Card) -> dict[str, Any]:
    files = {role: dict(file) for role, file in (source.get("files") or {}).items()}
    for file in files.values():
        if "name" not in file and "local" in file:
            file["name"] = Path(file["local"]).name
    raw = source.get("raw_units") or {}
    where = f"datasets.{dataset}.sources.{name}.raw_units"
    units = {key: _known_unit(unit, f"{where}.{key}") for key, unit in raw.items()}
    return {**source, "files": files, **({"raw_units": units} if units else {})}


def _known_unit(unit: str, where: str) -> str:
    try:
        return unit_name(unit)
    except ConfigError as error:
        raise ConfigError(f"configuration refused:\n  {where}: {error}") from None


def _targets(card: Card) -> dict[str, dict[str, Any]]:
    """Targets as given; for forces by default one for each file, or each entry of ``parts``."""
    given = card.get("targets")
    if given is None and card["kind"] == "forces" and card["default_source"]:
        source = card["sources"].get(card["default_source"], {})
        given = dict.fromkeys(source.get("parts") or source.get("files") or {})
    return {name: dict(target or {}) for name, target in (given or {}).items()}


def quantities(card: Card) -> list[str]:
    """What a store of this card holds and so needs a unit: positions, labels, forces."""
    if card["kind"] == "geometries":
        return ["pos"]
    if card["kind"] == "forces":
        return ["pos", "energy", "forces"]
    return ["pos", *dict.fromkeys(t.get("label", n) for n, t in card["targets"].items())]


def _units(card: Card) -> dict[str, str]:
    """Units in the store: as given, else Å, eV and eV/Å, else the unit in the file."""
    given = card.get("units") or {}
    where = f"datasets.{card['name']}.units"
    units = {key: _known_unit(unit, f"{where}.{key}") for key, unit in given.items()}
    source = card["sources"].get(card["default_source"]) or {}
    raw = {"pos": "Å", **source.get("raw_units", {})}
    for name in quantities(card):
        if name not in units and name in raw:
            kind = _MEASURES.get(name, quantity_of(raw[name]))
            units[name] = _STORE_UNITS.get(kind, raw[name])
    return units


def _recipes(card: Card) -> dict[str, dict[str, Any]]:
    forces = card["kind"] == "forces"
    recipes = {}
    for name, given in card["targets"].items():
        label = given.get("label", "energy" if forces else name)
        unit = card["units"].get(label, "")
        recipe = {"label": label, "unit": unit, "table_unit": given.get("unit", unit)}
        if forces:
            force = card["units"].get("forces", "")
            recipe |= {**_FORCE_RECIPE, "force_unit": force, "table_force_unit": force}
        recipes[name] = {**recipe, "denoise_weight": 0.1, **given}
    return recipes


# ---- checks ------------------------------------------------------------------------------------


def _choice(value: object, allowed: Iterable[str]) -> str:
    names = list(allowed)
    close = difflib.get_close_matches(str(value), names, n=1)
    hint = f" (did you mean {close[0]!r}?)" if close else ""
    return f"is {value!r}; allowed: {', '.join(names) or 'none'}{hint}"


def findings(card: Card) -> list[str]:
    """What is wrong with a completed card, one line each with its dotted key."""
    base = f"datasets.{card['name']}"
    lines = []
    if card["default_source"] not in card["sources"]:
        lines.append(f"{base}.default_source: {_choice(card['default_source'], card['sources'])}")
    for name, source in card["sources"].items():
        lines += _source_findings(card, source, f"{base}.sources.{name}")
    used = card["sources"].get(card["default_source"], {})
    for quantity in quantities(card):
        if quantity not in card["units"]:
            lines.append(
                f"{base}.units.{quantity}: missing; say it here or, for the unit in the file, in "
                f"sources.{card['default_source']}.raw_units"
            )
    for quantity, kind in _MEASURES.items():
        unit = card["units"].get(quantity)
        if unit is not None and quantity_of(unit) != kind:
            lines.append(f"{base}.units.{quantity}: {_choice(unit, allowed_units(kind))}")
    if card["units"].get("pos", "Å") != "Å":
        lines.append(f"{base}.units.pos: must be Å; say the file's unit in a source's raw_units")
    if card["kind"] == "forces":
        lines += _target_findings(card, used, base)
    refs = card.get("atomrefs") or {}
    return lines + [
        f"{base}.targets.{name}.atomref: {_choice(target['atomref'], refs)}"
        for name, target in card["targets"].items()
        if target.get("atomref") and target["atomref"] not in refs
    ]


def _source_findings(card: Card, source: Card, where: str) -> list[str]:
    reader = source["reader"]
    if reader not in READER_KEYS:
        return [f"{where}.reader: {_choice(reader, READER_KEYS)}"]
    allowed = (*_COMMON_KEYS, *READER_KEYS[reader])
    lines = [
        f"{where}.{key}: reader {reader} has no such key; allowed: {', '.join(allowed)}"
        for key in source
        if key not in allowed
    ]
    roles = READER_ROLES.get(reader)
    if roles and tuple(source["files"]) not in roles:
        wanted = " or ".join(f"[{', '.join(names)}]" for names in roles)
        lines.append(f"{where}.files: are [{', '.join(source['files'])}]; {reader} takes {wanted}")
    if not source["files"]:
        lines.append(f"{where}.files: missing")
    for role, file in source["files"].items():
        if "name" not in file:
            lines.append(f"{where}.files.{role}: needs `local` (a path) or `name` with `urls`")
        if role == ALL:
            lines.append(f"{where}.files.{role}: the name is taken")
    for quantity, unit in source.get("raw_units", {}).items():
        stored = card["units"].get(quantity)
        kind = quantity_of(stored) if stored else None
        if stored is None:
            lines.append(f"{where}.raw_units.{_unknown(quantity, quantities(card))}")
        elif quantity_of(unit) != kind:
            units = ", ".join(allowed_units(kind))
            lines.append(f"{where}.raw_units.{quantity}: is {unit!r}; allowed: {units}")
    return lines + _part_findings(card, source, where)


def _unknown(name: str, allowed: list[str]) -> str:
    return f"{name}: unknown quantity; allowed: {', '.join(allowed)}"


def _part_findings(card: Card, source: Card, where: str) -> list[str]:
    lines = []
    for target, parts in (source.get("parts") or {}).items():
        named = {"train": parts["train"]} | {f"test.{k}": v for k, v in parts["test"].items()}
        lines += [
            f"{where}.parts.{target}.{part}: {_choice(role, source['files'])}"
            for part, role in named.items()
            if role not in source["files"]
        ]
        if target not in card["targets"]:
            lines.append(f"{where}.parts.{target}: {_choice(target, card['targets'])}")
    return lines


def _target_findings(card: Card, source: Card, base: str) -> list[str]:
    known = {**(source.get("files") or {}), **(source.get("parts") or {})}
    return [
        f"{base}.targets.{name}: source {card['default_source']} has no such file or part; "
        f"it has: {', '.join(known)}"
        for name in card["targets"]
        if name not in known
    ]


# ---- which files make a store ------------------------------------------------------------------


def card_source(card: Card, source: str | None = None) -> tuple[str, Card]:
    """Name and entry of a card's source; by default the one that ``default_source`` names.

    Raises:
        ConfigError: the card has no such source; lists those it has.
    """
    name = source or card["default_source"]
    if name not in card["sources"]:
        raise ConfigError(f"dataset {card['name']}: source {_choice(name, card['sources'])}")
    return name, card["sources"][name]


def parts(card: Card, target: str, source: str | None = None) -> dict[str, Any] | None:
    """Files of a target that trains on one and is tested on others, or None.

    Returns:
        ``train``: role of a file; ``test``: role by name of the part, in the order of tables.
    """
    _, entry = card_source(card, source)
    found: dict[str, Any] | None = (entry.get("parts") or {}).get(target)
    return found


def missing_file(card: Card, role: str, source: str | None = None) -> str | None:
    """Why a raw file is not to be had (``missing:`` in its entry), or None."""
    _, entry = card_source(card, source)
    reason: str | None = entry["files"][role].get("missing")
    return reason


def store_roles(card: Card, target: str | None = None, source: str | None = None) -> list[str]:
    """Roles of the raw files behind a store, training file first; missing ones left out.

    Args:
        card: a completed card.
        target: of a card with ``store_per_file``, or ``ALL`` for the files of all targets.
        source: a name among the card's sources; by default its ``default_source``.

    Raises:
        ConfigError: no such source or target; or nothing is left of it.
    """
    _, entry = card_source(card, source)
    if not card["store_per_file"]:
        return list(entry["files"])
    if target == ALL:
        each = (store_roles(card, name, source) for name in card["targets"])
        return list(dict.fromkeys(role for roles in each for role in roles))
    split = parts(card, target, source) if target else None
    if split is None and target not in entry["files"]:
        known = [*entry["files"], *(entry.get("parts") or {})]
        raise ConfigError(
            f"dataset {card['name']} has one store per raw file, none for {target!r}; "
            f"allowed: {', '.join(known)}"
        )
    wanted = [str(target)] if split is None else [split["train"], *split["test"].values()]
    roles = [role for role in dict.fromkeys(wanted) if not missing_file(card, role, source)]
    if not roles:
        raise ConfigError(f"dataset {card['name']}: every file of target {target!r} is missing")
    return roles


def source_files(
    card: Card, target: str | None = None, source: str | None = None
) -> dict[str, dict[str, Any]]:
    """Raw files behind a store by role (see :func:`store_roles`)."""
    _, entry = card_source(card, source)
    return {role: dict(entry["files"][role]) for role in store_roles(card, target, source)}
