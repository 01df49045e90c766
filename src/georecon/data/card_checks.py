"""What a dataset card may leave out, and what is refused of it before any work."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from georecon.data.cards import (
    ALL,
    ISOLATED_ATOMS,
    READER_KEYS,
    READER_ROLES,
    Card,
    File,
    Source,
    Target,
    computed_files,
    quantities,
)
from georecon.data.simulation import FileSimulation, Simulation, alike
from georecon.errors import ConfigError
from georecon.keys import choice
from georecon.units import allowed_units, quantity_of, unit_name

# Weights of energies and forces in the force lineage (docs/method.md).
_ENERGY_WEIGHT, _FORCE_WEIGHT = 0.2, 0.8
_STORE_UNITS = {"length": "Å", "energy": "eV", "force": "eV/Å"}
_MEASURES = {"pos": "length", "energy": "energy", "forces": "force"}
# Shortest distance over the sum of the two covalent radii: 0.75 to 1.2 in real molecules, even
# hot ones; a file in bohr or nanometres gives 1.5 to 2.2 or 0.1.
DEFAULT_RANGES = {"bond_ratio": (0.55, 1.4)}
_DEFAULT_OUTLIERS = 10.0
_COMMON_KEYS = ("reader", "files", "expected_molecules", "parts", "indices")


def complete(name: str, card: Card) -> Card:
    """The card with everything that may be left out filled in; values given are never changed.

    Args:
        name: of the dataset.
        card: as read from the configuration files.

    Raises:
        ConfigError: a unit is unknown; names its dotted key.
    """
    sources = {
        key: _complete_source(name, key, entry, card.simulation)
        for key, entry in card.sources.items()
    }
    filled = replace(
        card,
        name=name,
        title=card.title or name,
        sources=sources,
        store_per_file=card.forces if card.store_per_file is None else card.store_per_file,
        default_source=card.default_source or next(iter(sources)),
        ranges=DEFAULT_RANGES if card.ranges is None else card.ranges,
        outliers={**_outliers(card), **card.outliers},
    )
    filled = replace(filled, targets=_targets(filled))
    filled = replace(filled, units=_units(filled))
    return replace(filled, targets=_recipes(filled))


def _outliers(card: Card) -> dict[str, float]:
    labels = [(t and t.label) or name for name, t in (card.targets or {}).items()]
    names = ["energy", "force_rms"] if card.forces else labels
    return dict.fromkeys(names, _DEFAULT_OUTLIERS)


def _complete_source(dataset: str, name: str, source: Source, shared: Simulation | None) -> Source:
    files = {
        role: _heated(named(file, f"{dataset}_{role}.npz"), shared)
        for role, file in source.files.items()
    }
    lists = source.indices
    if lists is not None:
        lists = replace(lists, train=named(lists.train), test=named(lists.test))
    where = f"datasets.{dataset}.sources.{name}.raw_units"
    units = {key: _known_unit(unit, f"{where}.{key}") for key, unit in source.raw_units.items()}
    return replace(source, files=files, raw_units=units, indices=lists)


def named(file: File, computed: str = "") -> File:
    """A file of the user's own is called as at its place; a computed one by dataset and role."""
    if file.name is not None or not (file.local or (computed and file.computed)):
        return file
    return replace(file, name=Path(file.local).name if file.local else computed)


def _heated(file: File, shared: Simulation | None) -> File:
    """A computed trajectory says its temperature."""
    if shared is None or not file.computed or file.temperature_K is not None:
        return file
    made = (file.simulation or FileSimulation()).over(shared)
    return file if made.scan else replace(file, temperature_K=made.temperature_K)


def _known_unit(unit: str, where: str) -> str:
    try:
        return unit_name(unit)
    except ConfigError as error:
        raise ConfigError(f"configuration refused:\n  {where}: {error}") from None


def _targets(card: Card) -> dict[str, Target]:
    """Targets as given; for forces by default one for each file, or each entry of ``parts``."""
    given: Mapping[str, Target | None] | None = card.targets
    source = card.sources.get(card.default_source)
    if given is None and card.forces and source:
        given = dict.fromkeys(source.parts or source.files)
    return {name: target or Target() for name, target in (given or {}).items()}


def _units(card: Card) -> dict[str, str]:
    """Units in the store: as given, else Å, eV and eV/Å, else the unit in the file."""
    where = f"datasets.{card.name}.units"
    units = {key: _known_unit(unit, f"{where}.{key}") for key, unit in card.units.items()}
    source = card.sources.get(card.default_source)
    raw = {"pos": "Å", **(source.raw_units if source else {})}
    for name in quantities(card):
        if name not in units and name in raw:
            kind = _MEASURES.get(name, quantity_of(raw[name]))
            units[name] = _STORE_UNITS.get(kind, raw[name])
    return units


def _recipes(card: Card) -> dict[str, Target]:
    recipes = {}
    force = card.units.get("forces", "")
    for name, given in (card.targets or {}).items():
        target = given or Target()
        label = target.label or ("energy" if card.forces else name)
        unit = card.units.get(label, "")
        filled = replace(
            target,
            label=label,
            unit=target.unit or unit,
            table_unit=target.table_unit or target.unit or unit,
        )
        if card.forces:
            filled = replace(
                filled,
                energy_weight=_or(target.energy_weight, _ENERGY_WEIGHT),
                force_weight=_or(target.force_weight, _FORCE_WEIGHT),
                force_unit=target.force_unit or force,
                table_force_unit=target.table_force_unit or force,
            )
        recipes[name] = filled
    return recipes


def _or(given: float | None, default: float) -> float:
    return default if given is None else given


# ---- checks ------------------------------------------------------------------------------------


def findings(card: Card) -> list[str]:
    """What is wrong with a completed card, one line each with its dotted key."""
    base = f"datasets.{card.name}"
    lines = []
    if card.default_source not in card.sources:
        lines.append(f"{base}.default_source: {choice(card.default_source, card.sources)}")
    for name, source in card.sources.items():
        lines += _source_findings(card, source, f"{base}.sources.{name}")
    for quantity in quantities(card):
        if quantity not in card.units:
            lines.append(
                f"{base}.units.{quantity}: missing; say it here or, for the unit in the file, in "
                f"sources.{card.default_source}.raw_units"
            )
    for quantity, kind in _MEASURES.items():
        unit = card.units.get(quantity)
        if unit is not None and quantity_of(unit) != kind:
            lines.append(f"{base}.units.{quantity}: {choice(unit, allowed_units(kind))}")
    if card.units.get("pos", "Å") != "Å":
        lines.append(f"{base}.units.pos: must be Å; say the file's unit in a source's raw_units")
    for name, (low, high) in (card.ranges or {}).items():
        if low > high:
            lines.append(f"{base}.ranges.{name}: is [{low}, {high}]; must be lowest, highest")
    return lines + _target_findings(card, base) + _simulation_findings(card, base)


def _simulation_findings(card: Card, base: str) -> list[str]:
    """Computed files that nothing says how to make, or that would be the same trajectory."""
    if card.default_source not in card.sources:
        return []
    where = f"{base}.sources.{card.default_source}.files"
    files = card.sources[card.default_source].files
    lines = [
        f"{where}.{role}.computed: needs {base}.simulation"
        if file.computed
        else f"{where}.{role}.simulation: only a file with `computed: true` is simulated"
        for role, file in files.items()
        if (file.computed and card.simulation is None)
        or (file.simulation is not None and not file.computed)
    ]
    lines += [
        f"{where}.{role}.name: is {file.name!r}; a computed file must end in .npz"
        for role, file in files.items()
        if file.computed and not str(file.name).endswith(".npz")
    ]
    made = computed_files(card)
    roles = {str(file.name).removesuffix(".npz"): role for role, file in files.items()}
    lines += [
        f"{where}.{roles[name]}.simulation.smiles: missing"
        for name, one in made.items()
        if not one.smiles
    ]
    return lines + [
        f"{where}.{roles[two]}.simulation: has the molecule, temperature and seed of {roles[one]}: "
        "the same trajectory; give it another seed"
        for one, two in alike(made)
    ]


def _source_findings(card: Card, source: Source, where: str) -> list[str]:
    reader = source.reader
    if reader not in READER_KEYS:
        return [
            f"{where}.reader: {choice(reader, READER_KEYS)}; frames reads extended XYZ and .npz"
        ]
    allowed = (*_COMMON_KEYS, *READER_KEYS[reader])
    own = {key for keys in READER_KEYS.values() for key in keys} - set(allowed)
    lines = [
        f"{where}.{key}: reader {reader} has no such key; allowed: {', '.join(allowed)}"
        for key in sorted(own)
        if getattr(source, key)
    ]
    roles = READER_ROLES.get(reader)
    if roles and sorted(source.files) not in [sorted(names) for names in roles]:
        wanted = " or ".join(f"[{', '.join(names)}]" for names in roles)
        lines.append(f"{where}.files: are [{', '.join(source.files)}]; {reader} takes {wanted}")
    if not source.files:
        lines.append(f"{where}.files: missing")
    for role, file in source.files.items():
        if file.name is None:
            lines.append(f"{where}.files.{role}: needs `local` (a path) or `name` with `urls`")
        if role == ALL:
            lines.append(f"{where}.files.{role}: the name is taken")
    for quantity, unit in source.raw_units.items():
        stored = card.units.get(quantity)
        kind = quantity_of(stored) if stored else None
        if stored is None:
            names = ", ".join(quantities(card))
            lines.append(f"{where}.raw_units.{quantity}: unknown quantity; allowed: {names}")
        elif quantity_of(unit) != kind:
            units = ", ".join(allowed_units(kind))
            lines.append(f"{where}.raw_units.{quantity}: is {unit!r}; allowed: {units}")
    lines += _index_findings(source, where) + _name_findings(source, where)
    return lines + _part_findings(card, source, where) + _force_findings(card, source, where)


def _lists(source: Source) -> dict[str, File]:
    """Published lists of rows by part."""
    lists = source.indices
    return {} if lists is None else {"train": lists.train, "test": lists.test}


def _index_findings(source: Source, where: str) -> list[str]:
    return [
        f"{where}.indices.{part}: needs `local` (a path) or `name`, among the raw files"
        for part, file in _lists(source).items()
        if file.name is None
    ]


def _name_findings(source: Source, where: str) -> list[str]:
    """Names with wildcards, and two files of one name: both would be the first one's bytes."""
    files = {f"files.{role}": file for role, file in source.files.items()}
    files |= {f"indices.{part}": file for part, file in _lists(source).items()}
    seen: dict[str, str] = {}
    lines = []
    for place, file in files.items():
        for key, text in (("name", file.name), ("local", file.local)):
            rest = (text or "").replace("{number}", "" if place.startswith("indices.") else "{}")
            if "{" in rest or "}" in rest:
                lines.append(f"{where}.{place}.{key}: is {text!r}; must have no braces")
        first = seen.setdefault(file.name or place, place)
        if not _same_bytes(files[first], file):
            lines.append(
                f"{where}.{place}.name: is {file.name!r}, as that of {first}, another file; "
                "give it a `name` of its own"
            )
    return lines


def _same_bytes(one: File, other: File) -> bool:
    """Whether two entries are of one file, as members of an archive; a name alone says no other."""
    pairs = [(one.sha256, other.sha256), (one.sha384, other.sha384), (one.md5, other.md5)]
    both = [first == second for first, second in pairs if first and second]
    if both:
        return all(both)
    places = [(file.local, file.package, file.path, file.urls) for file in (one, other)]
    return not any(places[0]) or not any(places[1]) or places[0] == places[1]


def _force_findings(card: Card, source: Source, where: str) -> list[str]:
    """``no_forces`` of files that are trained on, or of sets without forces."""
    tested = {role for split in source.parts.values() for role in split.test.values()}
    trained = {split.train for split in source.parts.values()}
    trained |= set(card.targets or {}) - set(source.parts)
    return [
        f"{where}.files.{role}.no_forces: only a test file of `parts` may have energies only"
        for role, file in source.files.items()
        if file.no_forces is not None and not (card.forces and role in tested - trained)
    ]


def _part_findings(card: Card, source: Source, where: str) -> list[str]:
    lines = []
    for target, split in source.parts.items():
        named = {"train": split.train} | {f"test.{k}": v for k, v in split.test.items()}
        lines += [
            f"{where}.parts.{target}.{part}: {choice(role, source.files)}"
            for part, role in named.items()
            if role not in source.files
        ]
        if target not in (card.targets or {}):
            lines.append(f"{where}.parts.{target}: {choice(target, card.targets or {})}")
    return lines


def _target_findings(card: Card, base: str) -> list[str]:
    lines = []
    source = card.sources.get(card.default_source)
    known = [*source.files, *source.parts] if source else []
    for name in card.targets or {}:
        target = card.target(name)
        if name == ALL:
            lines.append(f"{base}.targets.{name}: the name is taken")
        if card.forces and name not in known:
            lines.append(
                f"{base}.targets.{name}: source {card.default_source} has no such file or part; "
                f"it has: {', '.join(known)}"
            )
        frames = source is not None and source.reader == "frames"
        allowed = [*card.atomrefs, *([ISOLATED_ATOMS] if frames else [])]
        if target.atomref and target.atomref not in allowed:
            lines.append(f"{base}.targets.{name}.atomref: {choice(target.atomref, allowed)}")
        lines += _unit_findings(target, f"{base}.targets.{name}")
        lines += _scan_findings(card, name, f"{base}.targets.{name}.scan.part")
    return lines


def _scan_findings(card: Card, name: str, where: str) -> list[str]:
    """A scan that is a test part of no source; one that another source lacks is not drawn there."""
    scan = card.target(name).scan
    splits = [source.parts[name] for source in card.sources.values() if name in source.parts]
    known = list(dict.fromkeys(part for split in splits for part in split.test))
    return [] if scan is None or scan.part in known else [f"{where}: {choice(scan.part, known)}"]


def _unit_findings(target: Target, where: str) -> list[str]:
    """Units that a table could not convert."""
    lines = []
    pairs = (("unit", "table_unit"), ("force_unit", "table_force_unit"))
    for stored, shown in pairs:
        have, want = getattr(target, stored), getattr(target, shown)
        known = allowed_units()
        if have and have not in known:
            lines.append(f"{where}.{stored}: {choice(have, known)}")
        elif have and want not in allowed_units(quantity_of(have)):
            lines.append(f"{where}.{shown}: {choice(want, allowed_units(quantity_of(have)))}")
    return lines
