"""Dataset cards: where raw data comes from, what it means, and which raw files make which store.

A card comes from ``config/datasets.yaml`` or from the user's own configuration file; both are
completed and checked by :mod:`georecon.data.card_checks`, so that a set of one's own needs no more
than a path, units and what it is for (config/README.md, "Your own data").
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Annotated

from georecon.data.simulation import Atom, FileSimulation, Simulation
from georecon.errors import ConfigError
from georecon.keys import Json, Key, KeysError, as_json, choice

ALL = "all"
"""Name of the store that holds every file of a set with one store a target: for pre-training."""

ISOLATED_ATOMS = "isolated_atoms"
"""As a target's ``atomref``: the energies of the file's own frames of isolated atoms."""

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
KINDS = ("properties", "forces", "geometries")

Text = Annotated[str, Key("")]
Number = Annotated[float, Key("")]
Name = Annotated[
    str, Key("", pattern="[A-Za-z0-9_][A-Za-z0-9_-]*", words="letters, digits, _ and -")
]
"""A name that becomes a part of paths: of a target, a role of a file, a part."""


def _digest(digits: int) -> Key:
    return Key("checksum", pattern=f"[0-9a-f]{{{digits}}}", words=f"{digits} digits 0-9, a-f")


@dataclass(frozen=True, kw_only=True, slots=True)
class File:
    """One raw file: which bytes it is, and where they are had."""

    name: Annotated[
        str | None,
        Key(
            "file name; searched in `mirror:`",
            pattern=r"(?!\.\.?$)[^/\x00-\x1f]+",
            words="a file name",
        ),
    ] = None
    urls: Annotated[tuple[Text, ...], Key("addresses, tried in order")] = ()
    bytes: Annotated[int | None, Key("size", "bytes", at_least=1)] = None
    sha256: Annotated[str | None, _digest(64)] = None
    sha384: Annotated[str | None, _digest(96)] = None
    md5: Annotated[str | None, _digest(32)] = None
    package: Annotated[str | None, Key("installed Python package that has the file")] = None
    path: Annotated[str | None, Key("its path in that package")] = None
    local: Annotated[str | None, Key("path of a file of your own")] = None
    member: Annotated[str | None, Key("the file inside a tar archive")] = None
    computed: Annotated[bool, Key("whether a rule makes it")] = False
    simulation: Annotated[
        FileSimulation | None, Key("how it is computed, in place of what the card's says")
    ] = None
    temperature_K: Annotated[  # noqa: N815 - kelvin
        float | None, Key("of its dynamics: hotter files must have higher energies", "K", above=0)
    ] = None
    expected_molecules: Annotated[int | None, Key("any other count is refused", at_least=1)] = None
    missing: Annotated[str | None, Key("why it is not to be had: its cells stay empty")] = None
    no_forces: Annotated[
        str | None, Key("why a test file of `parts` has energies only: its force cells stay empty")
    ] = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Parts:
    """Files that a target is trained and tested on."""

    train: Annotated[str, Key("role of the training file")]
    test: Annotated[Mapping[Name, Text], Key("role of each test file, a column each", filled=True)]


@dataclass(frozen=True, kw_only=True, slots=True)
class Indices:
    """Published lists of rows, one number a line; ``{number}`` is the split's."""

    train: Annotated[File, Key("rows to train and validate on")]
    test: Annotated[File, Key("rows to test on")]


@dataclass(frozen=True, kw_only=True, slots=True)
class Source:
    """One place and layout that a dataset can be had from."""

    reader: Annotated[str, Key("layout of the files")]
    files: Annotated[Mapping[Name, File], Key("raw files by role")]
    raw_units: Annotated[
        Mapping[Text, Text],
        Key("unit in the file of `pos`, `energy`, `forces` or a label; else that of `units`"),
    ] = field(default_factory=dict)
    keys: Annotated[
        Mapping[Text, Text], Key("names in the file of `energy`, `forces` or a label")
    ] = field(default_factory=dict)
    expected_molecules: Annotated[int | None, Key("any other count is refused", at_least=1)] = None
    title_id: Annotated[str | None, Key("pattern of the id in a record's title")] = None
    max_rejected: Annotated[int, Key("unusable records that are left out", at_least=0)] = 0
    parts: Annotated[Mapping[Name, Parts], Key("files to train and to test a target on")] = field(
        default_factory=dict
    )
    indices: Annotated[Indices | None, Key("published lists of rows (rMD17's splits)")] = None


@dataclass(frozen=True, kw_only=True, slots=True)
class DihedralScan:
    """A test part whose frames are the molecule at one dihedral angle after the other."""

    part: Annotated[str, Key("test part of the target")]
    turned: Annotated[
        tuple[Atom, Atom, Atom, Atom],
        Key("four atoms of a frame, from 0, whose dihedral angle the scan turns"),
    ]
    slices: Annotated[
        tuple[Atom, Atom, Atom, Atom], Key("four atoms whose angle is the same along a curve")
    ]

    def __post_init__(self) -> None:
        for key, atoms in (("turned", self.turned), ("slices", self.slices)):
            if len(set(atoms)) < 4:
                raise KeysError(key, f"{[*atoms]} names an atom twice")


@dataclass(frozen=True, kw_only=True, slots=True)
class Target:
    """What is trained on, with its recipe."""

    label: Annotated[str, Key("label in the store; the target's name, `energy` for forces")] = ""
    title: Annotated[str, Key("in tables; the target's name")] = ""
    unit: Annotated[str, Key("of the label; that of `units`")] = ""
    force_unit: Annotated[str, Key("of the forces; that of `units`")] = ""
    table_unit: Annotated[str, Key("of the label in tables; `unit`")] = ""
    table_force_unit: Annotated[str, Key("of the forces in tables; that of `units`")] = ""
    energy_weight: Annotated[
        float | None, Key("weight of the energies' loss; 0.2 for forces", at_least=0)
    ] = None
    force_weight: Annotated[
        float | None, Key("weight of the forces' loss; 0.8 for forces", above=0)
    ] = None
    denoise_weight: Annotated[float, Key("weight of the Noisy Nodes loss", at_least=0)] = 0.1
    head: Annotated[str, Key("output head", choices=("scalar", "dipole", "spatial_extent"))] = (
        "scalar"
    )
    loss: Annotated[str, Key("on standardised labels", choices=("mse", "smooth_l1"))] = "mse"
    standardize: Annotated[bool, Key("subtract the training mean, divide by the spread")] = True
    atomref: Annotated[
        str | None,
        Key(
            "entry of `atomrefs` that is subtracted first; `isolated_atoms`: the energies of the "
            "file's own frames with `config_type=IsolatedAtom`"
        ),
    ] = None
    train_val: Annotated[
        int | None, Key("training and validation frames of the set's own protocol", at_least=2)
    ] = None
    atoms: Annotated[
        float | None, Key("of one of its molecules, for what a plan estimates", at_least=1)
    ] = None
    scan: Annotated[
        DihedralScan | None, Key("a test part that is a dihedral scan, for the figure of it")
    ] = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Card:
    """A dataset: what it is, where it is had, what is trained on."""

    kind: Annotated[str, Key("what a record has", choices=KINDS)]
    sources: Annotated[Mapping[Text, Source], Key("where it is had", filled=True)]
    name: Annotated[str, Key("filled in: its key in `datasets`")] = ""
    title: Annotated[str, Key("for captions; its name")] = ""
    citation: Annotated[str, Key("what to cite")] = ""
    doi: Annotated[str, Key("of the citation")] = ""
    licence: Annotated[str, Key("of the data")] = ""
    id: Annotated[str, Key("what a molecule id is")] = ""
    atoms: Annotated[
        float | None, Key("of a molecule on average, for what a plan estimates", at_least=1)
    ] = None
    traps: Annotated[tuple[Text, ...], Key("what has gone wrong for others")] = ()
    store_per_file: Annotated[
        bool | None, Key("one store for each raw file; true for forces, else false")
    ] = None
    expected_molecules: Annotated[int | None, Key("any other count is refused", at_least=1)] = None
    units: Annotated[
        Mapping[Text, Text],
        Key("unit in the store; Å, eV, eV/Å for what `raw_units` names, else the file's"),
    ] = field(default_factory=dict)
    ranges: Annotated[
        Mapping[Text, tuple[Number, Number]] | None,
        Key(
            "plausible lowest and highest value of a label, `nearest_neighbour` [Å], `bond_ratio`, "
            "`largest_gap` [Å], `energy_per_atom`, `force_rms`; `bond_ratio: [0.55, 1.4]`, the "
            "shortest distance over the sum of covalent radii"
        ),
    ] = None
    outliers: Annotated[
        Mapping[Text, Annotated[float, Key("", above=0)]],
        Key(
            "farthest allowed value from the mean of the others, in standard deviations; 10 for "
            "every label, `energy`, `force_rms`"
        ),
    ] = field(default_factory=dict)
    theory: Annotated[str, Key("level of theory; a file that names another is refused")] = ""
    simulation: Annotated[Simulation | None, Key("how its computed files are made")] = None
    default_source: Annotated[str, Key("which source is read; the first")] = ""
    atomrefs: Annotated[
        Mapping[Text, Mapping[Text, Number]],
        Key("energies of isolated atoms by name and element, in store units"),
    ] = field(default_factory=dict)
    targets: Annotated[
        Mapping[Name, Target | None] | None,
        Key("what is trained on; forces: each file, else none"),
    ] = None

    @property
    def forces(self) -> bool:
        """Whether it has energies and forces."""
        return self.kind == "forces"

    def target(self, name: str) -> Target:
        """A target of a completed card."""
        found = (self.targets or {}).get(name)
        if found is None:
            raise ConfigError(f"dataset {self.name}: target {choice(name, self.targets or {})}")
        return found


def quantities(card: Card) -> list[str]:
    """What a store of this card holds and so needs a unit: positions, labels, forces."""
    if card.kind == "geometries":
        return ["pos"]
    if card.forces:
        return ["pos", "energy", "forces"]
    targets = (card.targets or {}).items()
    return ["pos", *dict.fromkeys((t and t.label) or name for name, t in targets)]


def reading_json(card: Card, target: str | None = None) -> Json:
    """The part of a card that a store depends on: no recipes, titles, addresses or other stores.

    Args:
        card: a completed card.
        target: whose store, of a card with ``store_per_file``.
    """
    name, source = card_source(card)
    alone = target if card.store_per_file and target != ALL else None
    split = source.parts.get(alone or "")
    own = [alone] if split is None else [split.train, *split.test.values()]
    kept = [role for role in sorted(source.files) if alone is None or role in own]
    files = {role: replace(source.files[role], urls=(), simulation=None) for role in kept}
    chosen = [key for key in card.targets or {} if alone in (None, key)]
    reading = Card(
        kind=card.kind,
        sources={
            name: replace(
                source,
                files=files,
                parts={key: one for key, one in source.parts.items() if alone in (None, key)},
            )
        },
        name=card.name,
        store_per_file=card.store_per_file,
        expected_molecules=card.expected_molecules,
        units=card.units,
        ranges=card.ranges,
        outliers=card.outliers,
        theory=card.theory,
        default_source=card.default_source,
        targets={key: Target(label=card.target(key).label) for key in chosen},
    )
    found: Json = as_json(reading)
    return found


def computed_files(card: Card) -> dict[str, Simulation]:
    """Files of the card's source that a rule makes, by name without ``.npz``, and how."""
    _, source = card_source(card)
    if card.simulation is None:
        return {}
    return {
        str(file.name).removesuffix(".npz"): (file.simulation or FileSimulation()).over(
            card.simulation
        )
        for file in source.files.values()
        if file.computed and not (file.missing or file.local)
    }


# ---- which files make a store ------------------------------------------------------------------


def card_source(card: Card, source: str | None = None) -> tuple[str, Source]:
    """Name and entry of a card's source; by default the one that ``default_source`` names.

    Raises:
        ConfigError: the card has no such source; lists those it has.
    """
    name = source or card.default_source
    if name not in card.sources:
        raise ConfigError(f"dataset {card.name}: source {choice(name, card.sources)}")
    return name, card.sources[name]


def parts(card: Card, target: str, source: str | None = None) -> Parts | None:
    """Files of a target that trains on one and is tested on others, or None."""
    _, entry = card_source(card, source)
    return entry.parts.get(target)


def missing_file(card: Card, role: str, source: str | None = None) -> str | None:
    """Why a raw file is not to be had (``missing:`` in its entry), or None."""
    _, entry = card_source(card, source)
    return entry.files[role].missing


def missing_target(card: Card, target: str) -> str | None:
    """Why a target of a card with one store a file has no data, or None."""
    _, entry = card_source(card)
    if not card.store_per_file or target in entry.parts or target not in entry.files:
        return None
    return entry.files[target].missing


def store_roles(card: Card, target: str | None = None, source: str | None = None) -> list[str]:
    """Roles of the raw files behind a store; missing ones left out.

    A training file stands before its test files.

    Args:
        card: a completed card.
        target: of a card with ``store_per_file``, or ``ALL`` for the files of all targets.
        source: a name among the card's sources; by default its ``default_source``.

    Raises:
        ConfigError: no such source or target; or nothing is left of it.
    """
    _, entry = card_source(card, source)
    # by name where nothing else orders them: ids, and so splits, do not follow the order of keys
    if not card.store_per_file:
        return sorted(entry.files)
    if target == ALL:
        there = [name for name in sorted(card.targets or {}) if not missing_target(card, name)]
        each = (store_roles(card, name, source) for name in there)
        return list(dict.fromkeys(role for roles in each for role in roles))
    split = entry.parts.get(target) if target else None
    if split is None and target not in entry.files:
        raise ConfigError(
            f"dataset {card.name} has one store per raw file, none for {target!r}; "
            f"allowed: {', '.join([*entry.files, *entry.parts])}"
        )
    wanted = [str(target)] if split is None else [split.train, *split.test.values()]
    roles = [role for role in dict.fromkeys(wanted) if not missing_file(card, role, source)]
    if not roles:
        raise ConfigError(f"dataset {card.name}: every file of target {target!r} is missing")
    return roles


def source_files(
    card: Card, target: str | None = None, source: str | None = None
) -> dict[str, File]:
    """Raw files behind a store by role (see :func:`store_roles`)."""
    _, entry = card_source(card, source)
    return {role: entry.files[role] for role in store_roles(card, target, source)}
