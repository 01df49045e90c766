"""Sections of the resolved configuration: every key with its sentence, unit, range and default.

They are the only place that says so: values are checked against them, ``config/schema.yaml`` and
the tables of config/README.md are written from them (:mod:`georecon.experiments.schema`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, ClassVar, Literal

from georecon.data.cards import Card, File, Text
from georecon.experiments.settings import (
    MAPS,
    EncoderSettings,
    TrainSettings,
    UnimolSettings,
)
from georecon.keys import Key, KeysError

_FOLDER = "letters, digits and _"
Name = Annotated[str, Key("", pattern="[A-Za-z0-9_]+", words=_FOLDER)]
MethodName = Annotated[str, Key("", pattern="[a-z0-9_]+", words="lower-case letters, digits and _")]
Seed = Annotated[int, Key("", at_least=0, at_most=2**63 - 1)]
SizeKey = Key("molecules", at_least=1)
SOURCES = ("finetune", "pretrain", "smoothness", "nve")
NVE_METRICS = ("drift", "fluctuation", "stable_fs", "stable")
QUANTITIES = ("energy", "energy_per_atom", "force")
GRADES = ("A", "B", "C")
"""Of published values: the paper's own table, a transcript of it, extracted by a machine."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Role:
    """The dataset that plays a part."""

    dataset: Annotated[str, Key("a name in `datasets`")]
    label: Annotated[str, Key("what reports call the part; its name")] = ""
    missing: Annotated[
        str | None, Key("why this edition has no data for it: its cells stay empty")
    ] = None

    def words(self, name: str) -> str:
        """What reports call it."""
        return self.label or name.replace("_", " ")


@dataclass(frozen=True, kw_only=True, slots=True)
class Pretrain:
    """Pre-training."""

    validation: Annotated[int, Key("held-out molecules", at_least=2)]
    exclude_leaks: Annotated[
        bool, Key("leave out every molecule whose structure is in a test set of the edition")
    ]
    train: Annotated[TrainSettings, Key("length and rates")]


@dataclass(frozen=True, kw_only=True, slots=True)
class OtherEncoder:
    """An encoder of another architecture, for the methods that name it."""

    encoder: Annotated[UnimolSettings, Key("architecture and sizes")]
    pretrain: Annotated[TrainSettings, Key("length and rates of its pre-training")]
    finetune: Annotated[TrainSettings, Key("of its fine-tuning, on every part")]


@dataclass(frozen=True, kw_only=True, slots=True)
class Split:
    """Sizes of a fine-tuning split and how it is drawn."""

    name: Annotated[str, Key("of the split's file", pattern="[A-Za-z0-9_]+", words=_FOLDER)]
    rule: Annotated[str, Key("see Splits", choices=("pvd", "random", "files", "index"))] = "random"
    number: Annotated[
        int | None, Key("of a published split, for rule `index`", at_least=1, at_most=5)
    ] = None
    train: Annotated[int | None, Key("training molecules", at_least=1)] = None
    val: Annotated[int | None, Key("validation molecules", at_least=1)] = None
    test: Annotated[int | None, Key("test molecules; all others", at_least=1)] = None
    val_fraction: Annotated[
        float | None,
        Key("part of a target's `train_val` that validates", above=0, at_most=0.5),
    ] = None
    seed: Annotated[int, Key("of the permutation", at_least=0, at_most=2**63 - 1)] = 1
    draws: Annotated[
        bool,
        Key(
            "draw the training molecules anew for each seed, from all that neither validate nor "
            "test; for rule `index`: seed k has the published split k"
        ),
    ] = False

    def __post_init__(self) -> None:
        if self.val_fraction is None:
            for name in ("train", "val"):
                if getattr(self, name) is None:
                    raise KeysError(name, "missing; give train and val, or val_fraction")
        if self.rule in ("files", "index") and self.test is not None:
            tested = {"files": "files of `parts`", "index": "list of `indices`"}[self.rule]
            raise KeysError(
                "test",
                f"is {self.test}; rule {self.rule} tests on the whole test {tested}: write null",
            )
        if self.rule != "index" and self.number is not None:
            raise KeysError("number", f"is {self.number}; only rule index has numbers: write null")
        if self.draws and self.rule == "index" and self.number is not None:
            raise KeysError("number", f"is {self.number}; draws take the seed's own: write null")
        if self.draws and self.train is None:
            raise KeysError("draws", "is true; draws need a number of training molecules (train)")
        if self.draws and self.test is None and self.rule == "random":
            raise KeysError("draws", "is true; draws need a number of test molecules (test)")


@dataclass(frozen=True, kw_only=True, slots=True)
class FinetuneSet:
    """Fine-tuning on one part's dataset."""

    split: Annotated[Split, Key("training, validation and test set")]
    noise_sigma: Annotated[float, Key("Noisy Nodes σ; 0 switches them off", "Å", at_least=0)]
    references: Annotated[
        str,
        Key(
            "what is subtracted from labels of scalar heads first: the card's atomic references, "
            "or a least-squares fit on element counts of the training labels, which are then "
            "standardised",
            choices=("card", "fitted"),
        ),
    ]
    evaluation_batch: Annotated[int, Key("molecules a batch where errors are taken", at_least=1)]
    train: Annotated[TrainSettings, Key("length and rates")]


@dataclass(frozen=True, kw_only=True, slots=True)
class Finetune:
    """Fine-tuning: seeds, and one section for each part of ``sets`` that has data.

    In the files the sections stand beside ``seeds``: ``finetune.<part>``.
    """

    seeds: Annotated[
        tuple[Seed, ...],
        Key(
            "of pre-training, fine-tuning and draw of labels together: seed k is fine-tuned from "
            "the encoder of seed k; a run each",
            filled=True,
            unique=True,
        ),
    ]
    sets: Annotated[Mapping[Name, FinetuneSet], Key("one section for each part")]


@dataclass(frozen=True, kw_only=True, slots=True)
class Smoothness:
    """Lipschitz estimates of the encoders."""

    set: Annotated[str, Key("part whose test molecules are taken")]
    molecules: Annotated[int, Key("molecules", at_least=1)]
    maps: Annotated[
        tuple[Annotated[str, Key("", choices=MAPS)], ...],
        Key("maps of the encoder", filled=True, unique=True),
    ]
    displacements: Annotated[
        tuple[Annotated[float, Key("", above=0)], ...],
        Key("standard deviations of the displacement", "Å", filled=True, unique=True),
    ]
    iterations: Annotated[int, Key("power iterations", at_least=1)]


@dataclass(frozen=True, kw_only=True, slots=True)
class Nve:
    """Dynamics at constant energy with fine-tuned force models."""

    set: Annotated[str, Key("part whose models run")]
    target: Annotated[str, Key("molecule of its dataset")]
    steps: Annotated[int, Key("steps of a run", at_least=10)]
    timestep_fs: Annotated[float, Key("time step", "fs", above=0, at_most=2.0)]
    temperature_K: Annotated[float, Key("of the first velocities", "K", above=0)]  # noqa: N815
    starts: Annotated[int, Key("runs, each from a test frame of its own", at_least=1)]


@dataclass(frozen=True, kw_only=True, slots=True)
class Method:
    """A method: an objective to pre-train with, a variant of one, or an encoder from a file."""

    label: Annotated[str, Key("name in tables")]
    objective: Annotated[
        str | None, Key("a file of `src/georecon/objectives/`; none: from scratch")
    ] = None
    encoder: Annotated[
        str | None,
        Key("a name in `encoders`, and no row of `methods: all`; none: the section `encoder`"),
    ] = None
    of: Annotated[
        str | None,
        Key(
            "method that this is a variant of: its entry with some keys changed, or, where the "
            "variant has an objective, an entry of its own; either is a row of tables that name it"
        ),
    ] = None
    encoder_file: Annotated[
        File | None,
        Key(
            "file that its encoder comes from, in place of pre-training: `name` and `urls`, or "
            "`local`; see Encoders from files"
        ),
    ] = None
    params: Annotated[Mapping[Text, object], Key("parameters of the objective")] = field(
        default_factory=dict
    )
    steps_factor: Annotated[
        float | None, Key("multiplies steps and warm-up of pre-training", above=0)
    ] = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Sweep:
    """Rows that differ in one parameter of a method."""

    method: Annotated[str, Key("a name in `methods`")]
    parameter: Annotated[str, Key("of its objective")]
    values: Annotated[
        tuple[Annotated[float, Key("", at_least=0)], ...],
        Key("a row each", filled=True, unique=True),
    ]
    name: Annotated[str, Key("in the variants' names", pattern="[a-z]+", words="letters a-z")]
    label: Annotated[str, Key("of a row, with `{value}`")]


@dataclass(frozen=True, kw_only=True, slots=True)
class TableRows:
    """Rows of a table."""

    methods: Annotated[
        tuple[Text, ...] | Literal["all"],
        Key("names in `methods`; `all`: those that are no variants", word="all", filled=True),
    ] = "all"
    quantities: Annotated[
        tuple[Annotated[str, Key("", choices=QUANTITIES)], ...],
        Key("a block of rows each, for force sets", unique=True),
    ] = ()
    baseline: Annotated[str, Key("label of a row for the training mean")] = ""
    naive: Annotated[
        str,
        Key(
            "label of a row for predictions without learned geometry: least squares on element "
            "counts, for force sets the nearest training frame"
        ),
    ] = ""
    compare: Annotated[
        tuple[Text, ...],
        Key("methods that all other methods of the table are compared with", unique=True),
    ] = ()
    sweep: Annotated[Sweep | None, Key("variants of a method in place of methods")] = None


@dataclass(frozen=True, kw_only=True, slots=True)
class TableColumn:
    """Columns of a table: where their numbers come from."""

    source: Annotated[str, Key("stage of the runs", choices=SOURCES)]
    set: Annotated[str, Key("finetune: a part in `sets`")] = ""
    targets: Annotated[
        tuple[Text, ...] | Literal["all"],
        Key("finetune: targets of the part's dataset", word="all", filled=True),
    ] = "all"
    parts: Annotated[
        tuple[Text, ...], Key("finetune: test parts of a target that has several; all")
    ] = ()
    quantity: Annotated[
        str | None, Key("finetune, force sets without rows of quantities", choices=QUANTITIES)
    ] = None
    map: Annotated[str, Key("smoothness: the map", choices=("all", *MAPS))] = "all"
    metric: Annotated[
        str,
        Key(
            "the number; finetune: `mae`, `rmse`, `relative` (of energies: rmse about the mean "
            "error) or `validation`; nve: `drift`, `fluctuation`, `stable_fs`, `stable`",
            pattern="[a-z0-9_]*",
            words="a name of a number",
        ),
    ] = ""
    label: Annotated[str, Key("of the column, finetune apart")] = ""
    unit: Annotated[str, Key("of the number, finetune apart")] = ""
    ratio_to: Annotated[str | None, Key("smoothness: divide by this method's")] = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Table:
    """One table: the jobs of a table are exactly the runs that its cells name."""

    title: Annotated[
        str, Key("with `{title}` for that of the first column's dataset, up to its comma")
    ]
    caption: Annotated[str, Key("what the numbers are; conditions are added")]
    rows: Annotated[TableRows, Key("rows")]
    columns: Annotated[tuple[TableColumn, ...], Key("columns", filled=True)]
    missing: Annotated[str | None, Key("why all its cells are empty")] = None
    units: Annotated[
        Mapping[Annotated[str, Key("", choices=QUANTITIES)], Text],
        Key("unit of a quantity of force sets in this table, such as meV/Å; the targets' own"),
    ] = field(default_factory=dict)
    seeds: Annotated[
        tuple[Seed, ...] | None, Key("of its runs; those of `finetune`", filled=True, unique=True)
    ] = None
    published: Annotated[
        tuple[Text, ...],
        Key("files of `reports/published` whose values stand below the rows", unique=True),
    ] = ()


@dataclass(frozen=True, kw_only=True, slots=True)
class Config:
    """The resolved configuration: shared files, edition and the user's own merged."""

    # pydantic's, for this class and all those in it
    __pydantic_config__: ClassVar[dict[str, str]] = {"extra": "forbid"}

    edition: Annotated[
        str,
        Key("a file of `editions/`", pattern="[a-z0-9_]+", words="lower-case letters, digits, _"),
    ]
    gpus: Annotated[int, Key("GPUs that a training job asks the scheduler for", at_least=0)]
    sets: Annotated[
        Mapping[Name, Role],
        Key("which dataset plays which part: `pretrain`, and parts under any other names"),
    ]
    encoder: Annotated[EncoderSettings, Key("sizes of the equivariant transformer")]
    encoders: Annotated[
        Mapping[Name, OtherEncoder], Key("encoders of other architectures, that methods name")
    ] = field(default_factory=dict)
    pretrain: Annotated[Pretrain, Key("pre-training")]
    finetune: Annotated[Finetune, Key("fine-tuning")]
    smoothness: Annotated[Smoothness, Key("Lipschitz estimates")]
    methods: Annotated[Mapping[MethodName, Method], Key("pre-training methods", filled=True)]
    tables: Annotated[Mapping[Name, Table], Key("tables", filled=True)]
    datasets: Annotated[Mapping[Name, Card], Key("dataset cards", filled=True)]
    published: Annotated[
        tuple[Annotated[str, Key("", choices=GRADES)], ...],
        Key(
            "grades of published values that tables show: A the paper's own table, B a transcript "
            "of it, C extracted by a machine; `[]`: none",
            unique=True,
        ),
    ] = ("A", "B")
    nve: Annotated[Nve | None, Key("dynamics with fine-tuned force models; none: no such run")] = (
        None
    )
    mirror: Annotated[
        str | None, Key("folder or base address with copies of raw files, tried first")
    ] = None
    offline: Annotated[bool | None, Key("never use the network")] = None
    start_from: Annotated[
        str | None,
        Key("bundle of published results of this edition; what fits is taken, the rest made"),
    ] = None
    bundle: Annotated[str | None, Key("for `verify_bundle`: the bundle")] = None
    bundle_weights: Annotated[bool | None, Key("for `bundle`: take fine-tuned weights along")] = (
        None
    )
    cell: Annotated[
        str | None,
        Key(
            "for `rerun`: `<table>/<row>/<column>`",
            pattern=r"(?!\.\.?/)[^/\s]+/(?!\.\.?/)[^/\s]+/(?!\.\.?$)[^/\s]+",
            words="<table>/<row>/<column>",
        ),
    ] = None
    depth: Annotated[
        str | None,
        Key("for `audit`: how deep (docs/audit.md)", choices=("records", "weights", "rerun")),
    ] = None
    sample: Annotated[
        int | None,
        Key("for `audit`: cells that are recomputed or trained again", at_least=1),
    ] = None
    sample_seed: Annotated[
        int | None, Key("for `audit`: decides which cells", at_least=0, at_most=2**63 - 1)
    ] = None
    full: Annotated[
        bool | None, Key("for `audit`: hash also files that are as an earlier audit found them")
    ] = None
