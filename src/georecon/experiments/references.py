"""What one section of the configuration says of another: names that exist, sizes that fit."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

from georecon.data.card_checks import findings, named
from georecon.data.cards import ISOLATED_ATOMS, Card, File
from georecon.errors import ConfigError
from georecon.experiments.methods import Methods, part_fault
from georecon.experiments.objective_keys import (
    check,
    kind_of,
    measures,
    objective_names,
    parameters,
)
from georecon.experiments.sections import (
    NVE_METRICS,
    Config,
    Method,
    Split,
    Sweep,
    Table,
    TableColumn,
)
from georecon.experiments.settings import ESTIMATES, ET, encoder_kind
from georecon.keys import choice, key_hints, refused
from georecon.paths import ENCODER_FILES
from georecon.units import allowed_units

PRETRAIN = "pretrain"
"""The part whose dataset encoders are pre-trained on; all other parts are fine-tuned on."""
_SCRATCH = "scratch"
_PUBLISHED = 5  # splits of rMD17
_VALUE = re.compile(r"[0-9.]+")
_PLACEHOLDER = re.compile(r"\{(\w*)\}")


def check_references(config: Config) -> None:
    """Check what no section can say of itself.

    Raises:
        ConfigError: all findings, one line each.
    """
    lines = [*_sets(config)]
    for name in config.methods:
        lines += _method(config, name)
    if _SCRATCH not in config.methods:
        lines.append(f"methods.{_SCRATCH}: missing")
    for name, table in config.tables.items():
        lines += _table(config, name, table)
    lines += [line for card in config.datasets.values() for line in findings(card)]
    if ENCODER_FILES in config.datasets:
        lines.append(f"datasets.{ENCODER_FILES}: the name is taken: of files of encoders")
    lines += _splits(config)
    if lines:
        raise refused(dict.fromkeys(lines))


# ---- parts -------------------------------------------------------------------------------------


def _sets(config: Config) -> Iterator[str]:
    """Parts: their datasets, and a section of fine-tuning for each that has data."""
    if PRETRAIN not in config.sets:
        yield f"sets.{PRETRAIN}: missing"
    if len(config.sets) < 2:
        yield "sets: has nothing but pretrain; must name a part to fine-tune on"
    for name, role in config.sets.items():
        if name == "seeds":
            yield "sets.seeds: the name is taken: finetune.seeds is another key"
        if role.dataset not in config.datasets:
            yield f"sets.{name}.dataset: {choice(role.dataset, sorted(config.datasets))}"
        elif name not in (PRETRAIN, *config.finetune.sets) and role.missing is None:
            yield f"finetune.{name}: missing (sets.{name} has data)"
    usable = [name for name, role in config.sets.items() if name != PRETRAIN and not role.missing]
    if config.smoothness.set not in usable:
        yield f"smoothness.set: {choice(config.smoothness.set, usable)}"
    yield from _nve(config)


def _nve(config: Config) -> Iterator[str]:
    """Dynamics: a part, and a molecule; one of another dataset leaves its cells empty."""
    if config.nve is None:
        return
    parts = [name for name in config.sets if name != PRETRAIN]
    if config.nve.set not in parts:
        yield f"nve.set: {choice(config.nve.set, parts)}"
    known = {name: None for card in config.datasets.values() for name in card.targets or {}}
    if config.nve.target not in known:
        yield f"nve.target: {choice(config.nve.target, known)}"


def _splits(config: Config) -> Iterator[str]:
    """Datasets that cannot play their part, and splits larger than their dataset."""
    seen: dict[tuple[str, str], str] = {}
    for part, role in config.sets.items():
        card = config.datasets.get(role.dataset)
        if card is None or part == PRETRAIN:
            continue
        if card.kind == "geometries":
            yield (
                f"sets.{part}.dataset: {role.dataset} is of kind geometries; "
                "allowed: forces, properties"
            )
        elif not card.targets:
            yield f"datasets.{card.name}.targets: missing; sets.{part} is trained on them"
        elif part in config.finetune.sets and role.missing is None:
            split = config.finetune.sets[part].split
            other = seen.setdefault((role.dataset, split.name), part)
            if split != config.finetune.sets[other].split:
                yield (
                    f"finetune.{part}.split.name: is {split.name!r}, as finetune.{other}'s on the "
                    "same dataset, which is another split"
                )
            if split.name == f"{PRETRAIN}_{config.edition}":
                yield f"finetune.{part}.split.name: is {split.name!r}, that of pre-training's split"
            yield from _split(config, split, card, part)
            own = [n for n, t in card.targets.items() if t and t.atomref == ISOLATED_ATOMS]
            if own and config.finetune.sets[part].references != "card":
                yield f"finetune.{part}.references: is 'fitted'; atomref of {own[0]} needs card"


def _split(config: Config, split: Split, card: Card, part: str) -> Iterator[str]:
    """Sizes against the counts that the card states; other counts are known at the split only."""
    source = card.sources.get(card.default_source)
    if source is None:
        return
    whole = source.expected_molecules or card.expected_molecules
    if split.rule == "index" and split.draws:
        seeds = [*config.finetune.seeds]
        seeds += [seed for table in config.tables.values() for seed in table.seeds or ()]
        wrong = [seed for seed in seeds if not 1 <= seed <= _PUBLISHED]
        if wrong:
            yield (
                f"finetune.{part}.split.draws: is true; seed {wrong[0]} is the number of no "
                f"published split: 1 to {_PUBLISHED}"
            )
    if split.rule == "index" and source.indices is None:
        yield f"finetune.{part}.split.rule: is 'index'; source {card.default_source} has no indices"
    told: set[str] = set()  # one store: once, not for each of its labels
    for target in card.targets or {}:
        fixed = target in source.parts
        if fixed != (split.rule == "files"):
            yield (
                f"finetune.{part}.split.rule: is {split.rule!r}; target {target} "
                f"{'has files of its own to test on: files' if fixed else 'has one file: random'}"
            )
        role = source.parts[target].train if fixed else target
        file = source.files.get(role) if card.store_per_file else None
        count = (file and file.expected_molecules) or whole
        sizes = (split.train, split.val, None if fixed else split.test)
        wanted = sum(size or 0 for size in sizes)
        if split.val_fraction is not None and split.train is None:
            wanted = card.target(target).train_val or 0
            if not wanted:
                yield f"datasets.{card.name}.targets.{target}.train_val: missing"
        store = target if card.store_per_file else card.name
        if count is not None and wanted > count and store not in told:
            told.add(store)
            yield (
                f"finetune.{part}.split: {wanted} molecules wanted (train, val and test together), "
                f"{store} has {count}"
            )


# ---- methods -----------------------------------------------------------------------------------


def _method(config: Config, name: str) -> list[str]:
    """An entry of ``methods``: its objective, or the method that it is a variant of."""
    methods = config.methods
    entry, place = methods[name], f"methods.{name}"
    if entry.encoder_file is not None:
        return _encoder_file(methods, name)
    if entry.of is not None:
        base = methods.get(entry.of)
        if base is None or base.objective is None or entry.of == name:
            bases = [key for key, one in methods.items() if one.objective and key != name]
            return [f"{place}.of: is {entry.of!r}; allowed: {', '.join(bases)}"]
        entry = Methods(config).entry(name)
    if entry.objective is None:
        return [f"{place}.params: without an objective"] if entry.params else []
    try:
        check(entry.objective, entry.params, f"{place}.params")
    except ConfigError as error:
        head, *lines = str(error).splitlines()
        return [line.strip() for line in lines] or [f"{place}.{head}"]
    return [*_kind(config, entry, entry.objective, place)]


def _kind(config: Config, entry: Method, objective: str, place: str) -> Iterator[str]:
    """An objective trains encoders of one architecture."""
    if entry.encoder is not None and entry.encoder not in config.encoders:
        return  # said by the tables that have it as a row
    sizes = config.encoders[entry.encoder].encoder if entry.encoder else config.encoder
    kind = encoder_kind(sizes)
    if kind_of(parameters(objective)) != kind:
        known = [one for one in objective_names() if kind_of(parameters(one)) == kind]
        words = "the equivariant transformer" if kind == ET else entry.encoder
        yield f"{place}.objective: {choice(objective, known)} (encoder: {words})"


def _encoder_file(methods: Mapping[str, Method], name: str) -> list[str]:
    """A method whose encoder comes from a file: it has no pre-training of its own."""
    entry = methods[name]
    place, file = f"methods.{name}", entry.encoder_file or File()
    keys = ("objective", "of", "params", "steps_factor", "encoder")
    lines = [f"{place}.{k}: a method has this or encoder_file" for k in keys if getattr(entry, k)]
    if name == _SCRATCH:
        lines.append(f"{place}.encoder_file: {_SCRATCH} is the encoder without any training")
    if named(file).name is None:
        lines.append(f"{place}.encoder_file: needs `local` (a path) or `name`")
    for other, method in methods.items():
        theirs = method.encoder_file or file
        if theirs != file and named(theirs).name == named(file).name:
            lines.append(f"{place}.encoder_file.name: is that of {other}, another file")
    unused = ("package", "path", "member", "computed", "expected_molecules", "no_forces")
    return lines + [
        f"{place}.encoder_file.{key}: only a file of a dataset has it"
        for key in unused
        if getattr(file, key)
    ]


def _sweep(config: Config, sweep: Sweep, place: str) -> Iterator[str]:
    """A sweep names a parameter and values that its objective takes."""
    entry = config.methods.get(sweep.method)
    if entry is None:
        return  # said by the rows
    if entry.objective is None:
        yield f"{place}.method: is {sweep.method!r}, which has no objective of its own"
        return
    try:
        known = key_hints(parameters(entry.objective))
    except ConfigError:
        return  # said by the method
    if sweep.parameter not in known:
        yield f"{place}.parameter: {choice(sweep.parameter, known)}"
        return
    for k, value in enumerate(sweep.values):
        if not _VALUE.fullmatch(str(value)):
            yield f"{place}.values.{k}: is {value!r}; its digits name a folder: only 0-9 and ."
        try:
            check(entry.objective, {**entry.params, sweep.parameter: value}, place)
        except ConfigError as error:
            wrong = f"{place}.{sweep.parameter}: "
            lines = [line.strip() for line in str(error).splitlines()]
            yield from (
                f"{place}.values.{k}: {line.removeprefix(wrong)}"
                for line in lines
                if line.startswith(wrong)
            )


# ---- tables ------------------------------------------------------------------------------------


def _table(config: Config, name: str, table: Table) -> Iterator[str]:
    methods, place = sorted(config.methods), f"tables.{name}"
    sweep = table.rows.sweep
    wanted = [] if table.rows.methods == "all" else list(table.rows.methods)
    if sweep is not None:
        wanted.append(sweep.method)
        yield from _sweep(config, sweep, f"{place}.rows.sweep")
        yield from _placeholders(f"{place}.rows.sweep.label", sweep.label, "value")
    for method in wanted:
        if method not in methods:
            yield f"{place}.rows: unknown method {method!r}; allowed: {', '.join(methods)}"
    rows = Methods(config).names() if table.rows.methods == "all" else wanted
    for k, method in enumerate(table.rows.compare):
        if method not in rows or sweep is not None:
            yield f"{place}.rows.compare.{k}: {choice(method, [] if sweep else rows)}"
    if table.missing is None:
        yield from _encoders(config, table, [name for name in rows if name in config.methods])
    if len(set(wanted)) < len(wanted):
        yield f"{place}.rows.methods: names a method twice"
    yield from _placeholders(f"{place}.title", table.title, "title")
    yield from _units(table, place)
    if "{title}" in table.title and not any(column.set for column in table.columns):
        yield f"{place}.title: has {{title}}, and no column names a part"
    if table.rows.quantities and table.columns[0].source != "finetune":
        yield f"{place}.columns.0.source: is {table.columns[0].source!r}; quantities need finetune"
    for k, column in enumerate(table.columns):
        yield from _column(config, table, column, f"{place}.columns.{k}")


def _units(table: Table, place: str) -> Iterator[str]:
    for quantity, unit in table.units.items():
        allowed = allowed_units("force" if quantity == "force" else "energy")
        if unit not in allowed:
            yield f"{place}.units.{quantity}: {choice(unit, allowed)}"


def _encoders(config: Config, table: Table, rows: list[str]) -> Iterator[str]:
    """The encoders of a table's rows are there, and can be trained on the parts of its columns."""
    named = [column.set for column in table.columns if column.set in config.sets]
    if config.nve and any(column.source == "nve" for column in table.columns):
        named += [config.nve.set] * (config.nve.set in config.sets)
    parts = [part for part in named if not config.sets[part].missing]
    for name in rows:
        entry = config.methods[name]
        base = config.methods.get(entry.of or name, entry)
        encoder = entry.encoder or base.encoder
        if encoder is not None and encoder not in config.encoders:
            yield f"methods.{name}.encoder: {choice(encoder, sorted(config.encoders))}"
            continue
        faults = [part_fault(config, encoder, part) for part in parts]
        yield from (f"{fault} (method {name})" for fault in faults if fault)


def _placeholders(place: str, text: str, allowed: str) -> Iterator[str]:
    rest = _PLACEHOLDER.sub(lambda m: "" if m[1] == allowed else m[0], text)
    if "{" in rest or "}" in rest:
        yield f"{place}: is {text!r:.60}; braces are for {{{allowed}}} alone"


def _measured(config: Config, table: Table, column: TableColumn, place: str) -> Iterator[str]:
    """A column of pre-training or smoothness."""
    for key in ("metric", "label"):
        if not getattr(column, key):
            yield f"{place}.{key}: missing"
    metrics = {"smoothness": ESTIMATES, "nve": NVE_METRICS}.get(column.source) or _measures(config)
    if column.metric and metrics and column.metric not in metrics:
        yield f"{place}.metric: {choice(column.metric, metrics)}"
    if column.source == "nve" and config.nve is None and table.missing is None:
        yield f"{place}.source: is 'nve'; this edition has no section `nve`"
    maps = ("all", *config.smoothness.maps)
    if column.source == "smoothness" and column.map not in maps and table.missing is None:
        yield f"{place}.map: {choice(column.map, maps)} (smoothness.maps)"
    if column.ratio_to is not None and column.ratio_to not in config.methods:
        yield f"{place}.ratio_to: {choice(column.ratio_to, sorted(config.methods))}"


def _measures(config: Config) -> tuple[str, ...]:
    """Numbers of a pre-training at its best step; none where an objective's are not known."""
    of_each = [measures(method.objective) for method in config.methods.values() if method.objective]
    if None in of_each:
        return ()
    names = dict.fromkeys(name for found in of_each if found for name in found)
    return tuple(f"{part}_{name}" for part in ("val", "train") for name in names)


def _column(config: Config, table: Table, column: TableColumn, place: str) -> Iterator[str]:
    if column.source != "finetune":
        yield from _measured(config, table, column, place)
        return
    sets = sorted(name for name in config.sets if name != PRETRAIN)
    if column.set not in sets:
        yield f"{place}.set: {choice(column.set, sets)}"
        return
    role = config.sets[column.set]
    card = config.datasets.get(role.dataset)
    if card is None or table.missing is not None or role.missing is not None:
        return
    targets = card.targets or {}
    # a target of another dataset: the cells of this one stay empty and say so
    known = {name for one in config.datasets.values() for name in one.targets or {}}
    if column.targets != "all":
        for k, target in enumerate(column.targets):
            if target not in known:
                yield f"{place}.targets.{k}: {choice(target, targets)}"
    parts = _test_parts(config)
    for k, part in enumerate(column.parts):
        if part not in parts:
            yield f"{place}.parts.{k}: {choice(part, parts)}"
    yield from _errors(table, column, card, place)


def _test_parts(config: Config) -> list[str]:
    """Names of the test parts of all datasets; a column without data names another's."""
    sources = (one for card in config.datasets.values() for one in card.sources.values())
    return sorted({name for one in sources for split in one.parts.values() for name in split.test})


def _errors(table: Table, column: TableColumn, card: Card, place: str) -> Iterator[str]:
    """Which errors a column of fine-tuning shows: quantity and metric."""
    if not card.forces and (table.rows.quantities or column.quantity):
        yield f"{place}.set: is {column.set!r}, of kind {card.kind}; energy and force need forces"
    if column.metric == "relative" and (column.quantity != "energy" or not card.forces):
        yield f"{place}.metric: is 'relative'; needs quantity energy of a force set"
    metrics = ("", "mae", "rmse", "relative", "validation")
    if column.metric not in metrics:
        yield f"{place}.metric: {choice(column.metric, metrics[1:])}"
    per_atom = "energy_per_atom" in (column.quantity, *table.rows.quantities)
    if column.metric == "validation" and per_atom:
        yield f"{place}.metric: is 'validation'; energy_per_atom has test errors only"
    if column.metric == "validation" and (table.rows.naive or table.rows.baseline):
        yield f"{place}.metric: is 'validation'; rows naive and baseline have test errors"
