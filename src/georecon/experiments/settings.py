"""What a job is given: all that its numbers depend on, data apart.

Plain JSON in the parameters of a rule and in its record; these classes on both sides of that. No
torch and no pydantic: planning and training both import this.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated

from georecon.keys import Json, Key, KeysError, as_json

ET = "et"
MAPS = ("mean", "mean_normalised", "sum", "node")
ESTIMATES = (
    "spectral_mean", "spectral_max", "unconverged", "difference_mean", "spread", "scale_free",
    "spread_isomers", "scale_free_isomers",
)  # fmt: skip
"""Numbers of a map's smoothness."""

Params = Mapping[str, object]
"""Parameters of an objective: what its class ``Parameters`` reads."""


@dataclass(frozen=True, kw_only=True, slots=True)
class EncoderSettings:
    """Sizes and options of the encoder; the defaults are the paper's (PVD's ET, 256/8/8/64)."""

    channels: Annotated[int, Key("features of an atom, F", at_least=2)] = 256
    layers: Annotated[int, Key("attention layers", at_least=1)] = 8
    heads: Annotated[int, Key("attention heads; a divisor of `channels`", at_least=1)] = 8
    rbf: Annotated[int, Key("radial basis functions, K", at_least=2)] = 64
    cutoff: Annotated[float, Key("radius of the graph", "Å", above=0)] = 5.0
    max_neighbors: Annotated[
        int, Key("most neighbours of an atom, itself included", at_least=2)
    ] = 32
    max_z: Annotated[int, Key("atomic numbers are below", at_least=10, at_most=119)] = 100
    vector_norm: Annotated[
        str, Key("normalisation of the vector features", choices=("whitened", "none"))
    ] = "whitened"
    vector_cutoff: Annotated[bool, Key("whether vectors are smooth at the cutoff")] = False

    def __post_init__(self) -> None:
        check_heads(self.channels, self.heads)
        if self.vector_norm not in ("whitened", "none"):
            raise KeysError("vector_norm", f"is {self.vector_norm!r}; allowed: whitened, none")


@dataclass(frozen=True, kw_only=True, slots=True)
class UnimolSettings:
    """Sizes of a Uni-Mol encoder; the paper's backbone is 512/15/64 with 128 kernels."""

    kind: Annotated[str, Key("architecture", choices=("unimol",))]
    channels: Annotated[int, Key("features of an atom, F", at_least=2)]
    layers: Annotated[int, Key("transformer layers", at_least=1)]
    heads: Annotated[int, Key("attention heads, H; a divisor of `channels`", at_least=1)]
    kernels: Annotated[int, Key("Gaussian kernels of distances, K", at_least=2)]
    max_z: Annotated[int, Key("atomic numbers are below", at_least=10, at_most=119)]

    def __post_init__(self) -> None:
        check_heads(self.channels, self.heads)


AnyEncoder = EncoderSettings | UnimolSettings
"""Settings of an encoder: the equivariant transformer's, or those of another ``kind``."""


def check_heads(channels: int, heads: int) -> None:
    """Refuse a width that attention heads cannot share out.

    Raises:
        KeysError: it is no multiple of their number.
    """
    if channels % heads:
        text = f"is {channels}; must be a multiple of {{at}}heads ({heads})"
        raise KeysError("channels", text)


@dataclass(frozen=True, kw_only=True, slots=True)
class TrainSettings:
    """How long and how fast to train."""

    steps: Annotated[int, Key("optimiser steps", at_least=1)]
    batch_size: Annotated[int, Key("molecules a step, of all processes together", at_least=1)]
    lr: Annotated[float, Key("peak learning rate of AdamW", above=0)]
    weight_decay: Annotated[float, Key("of AdamW", at_least=0)]
    warmup: Annotated[int, Key("steps of linear warm-up", at_least=0)]
    schedule: Annotated[
        str,
        Key(
            "to zero at the last step, or ×0.8 after 30 evaluations without improvement",
            choices=("cosine", "plateau"),
        ),
    ]
    clip: Annotated[float, Key("largest gradient norm; 0: gradients stay as they are", at_least=0)]
    evaluations: Annotated[
        int, Key("validations, evenly over the run, the last step included", at_least=1)
    ]
    patience: Annotated[
        int, Key("evaluations without improvement before stopping; 0: never", at_least=0)
    ]
    checkpoint_seconds: Annotated[float, Key("time between saves of the state", "s", above=0)]
    precision: Annotated[
        str,
        Key(
            "of matrix products in training steps; validation is in float32",
            choices=("float32", "bf16"),
        ),
    ] = "float32"
    part_atoms: Annotated[
        int,
        Key(
            "most atoms at once: a larger batch is taken in parts, whose gradients are added, so "
            "that memory is bounded; 0: any number",
            at_least=0,
        ),
    ] = 0

    def evaluation_steps(self) -> list[int]:
        """Steps after which a run is validated, increasing: evenly spaced, the last one included.

        With more evaluations than steps there are some that are not positive, which no run meets.
        """
        every = max(1, self.steps // max(1, self.evaluations))
        return sorted({self.steps - k * every for k in range(self.evaluations)})


@dataclass(frozen=True, kw_only=True, slots=True)
class Recipe:
    """How one target is learned (docs/method.md; PVD and Frad's per-target recipes)."""

    head: Annotated[str, Key("output head")]
    loss: Annotated[str, Key("on standardised labels")]
    standardize: Annotated[bool, Key("subtract the training mean, divide by the spread")]
    atomref: Annotated[
        Mapping[int, float], Key("reference of each element by atomic number, subtracted first")
    ]
    fitted: Annotated[
        bool, Key("references are fitted on the training labels, and labels are standardised")
    ]
    noise_sigma: Annotated[float, Key("Noisy Nodes σ; 0 switches them off", "Å", at_least=0)]
    noise_weight: Annotated[float, Key("weight of the Noisy Nodes loss", at_least=0)]
    energy_weight: Annotated[float, Key("weight of the energies' loss", at_least=0)] = 0.0
    force_weight: Annotated[float, Key("of the forces' loss; 0: a property", at_least=0)] = 0.0
    isolated_atoms: Annotated[bool, Key("whether the references are the store's own")] = False

    @property
    def forces(self) -> bool:
        """Whether forces are learned too."""
        return self.force_weight > 0.0


class _RunSettings:
    """What runs of all stages have in common."""

    __slots__ = ()
    encoder: AnyEncoder

    def as_json(self) -> Json:
        """For the rule's parameters and the record: the encoder's defaults are written out too."""
        return {**as_json(self), "encoder": encoder_json(self.encoder)}


@dataclass(frozen=True, kw_only=True, slots=True)
class PretrainSettings(_RunSettings):
    """One pre-training run."""

    name: str
    method: str
    objective: str
    params: Params
    encoder: AnyEncoder
    train: TrainSettings
    seed: int
    code: str


@dataclass(frozen=True, kw_only=True, slots=True)
class EncoderFileSettings(_RunSettings):
    """An encoder that comes from a file; ``encoder`` is what it must be."""

    name: str
    method: str
    encoder: EncoderSettings
    code: str


@dataclass(frozen=True, kw_only=True, slots=True)
class NveSettings(_RunSettings):
    """Dynamics at constant energy with one fine-tuned force model.

    Attributes:
        unit: of the model's energies.
    """

    name: str
    part: str
    dataset: str
    target: str
    method: str
    unit: str
    head: str
    encoder: AnyEncoder
    steps: int
    timestep_fs: float
    temperature_K: float  # noqa: N815 - kelvin
    starts: int
    seed: int
    code: str


@dataclass(frozen=True, kw_only=True, slots=True)
class FinetuneSettings(_RunSettings):
    """One fine-tuning run."""

    name: str
    part: str
    dataset: str
    target: str
    method: str
    label: str
    recipe: Recipe
    encoder: AnyEncoder
    train: TrainSettings
    evaluation_batch: int
    seed: int
    code: str


@dataclass(frozen=True, kw_only=True, slots=True)
class SmoothnessSettings(_RunSettings):
    """Smoothness estimates of one encoder."""

    name: str
    method: str
    encoder: AnyEncoder
    molecules: int
    maps: tuple[str, ...]
    displacements: tuple[float, ...]
    iterations: int
    seed: int
    code: str


def encoder_json(encoder: AnyEncoder) -> Json:
    """All keys of an encoder."""
    return {name: getattr(encoder, name) for name in type(encoder).__slots__}


def encoder_kind(encoder: AnyEncoder) -> str:
    """Name of an encoder's architecture; the equivariant transformer's is "et"."""
    return encoder.kind if isinstance(encoder, UnimolSettings) else ET


def encoder_modules(encoder: AnyEncoder) -> tuple[str, ...]:
    """Modules that a run imports for its encoder's sake; none for the equivariant transformer,
    which every run imports.
    """
    return modules_of_kind(encoder_kind(encoder))


def modules_of_kind(kind: str) -> tuple[str, ...]:
    """The same by the name of an architecture."""
    return () if kind == ET else (f"georecon.models.{kind}",)


# ---- splits ------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True, slots=True)
class Rows:
    """A published list of rows: a raw file, or a member of one."""

    name: str
    member: str | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class FileParts:
    """Roles of the training file and of each test part's file."""

    train: str
    test: Mapping[str, str]


@dataclass(frozen=True, kw_only=True, slots=True)
class TestSet:
    """A test set that pre-training must not see; ``same``: molecules of the same dataset."""

    store: str
    split: str
    same: bool


@dataclass(frozen=True, kw_only=True, slots=True)
class SplitPlan:
    """How one split is made.

    Attributes:
        rule: a key of ``georecon.stages.split.RULES``.
        store: folder of the store that it splits.
        seed: of the permutation.
        name, number: as configured; the number of a published split.
        train, val, test: sizes; no test size means all others.
        draw: seed of the training molecules, drawn from all that neither validate nor test; None:
            the first of the permutation.
        files: of rule "files".
        indices: of rule "index", by part.
        tests, exclude_leaks: of rule "pretrain".
    """

    rule: str
    store: str
    seed: int
    name: str | None = None
    number: int | None = None
    train: int | None = None
    val: int | None = None
    test: int | None = None
    draw: int | None = None
    files: FileParts | None = None
    indices: Mapping[str, Rows] = field(default_factory=dict)
    tests: tuple[TestSet, ...] = ()
    exclude_leaks: bool = False

    def as_json(self) -> Json:
        """For the rule's parameters, the record and the split's description."""
        found: Json = as_json(self)
        if self.rule == "pretrain":
            return found | {"tests": as_json(self.tests), "exclude_leaks": self.exclude_leaks}
        return found | {"test": self.test}
