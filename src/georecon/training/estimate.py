"""What a training would take on a device that nobody has measured: a lower and an upper bound.

Counted are how often an atom goes through a layer in a step, by running the objective on small
molecules with small layers; the products of those layers, by their sizes; and the kernels that are
launched. A step takes at least what the products take at ``FASTEST`` of the device's peak, or its
launches at the rate of a host that does nothing else, and at most both at the slow ends below.
Steps measured on a GPU and on single cores (docs/performance.md) lie between the bounds, which is a
test.

Nothing here enters a number of a table.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import NamedTuple

import torch
from torch import Tensor, nn

from georecon import objectives
from georecon.experiments.settings import (
    AnyEncoder,
    EncoderSettings,
    FinetuneSettings,
    PretrainSettings,
    UnimolSettings,
)
from georecon.graph import MolGraph, make_graph
from georecon.models.encoder import AttentionLayer
from georecon.models.encoders import build_encoder
from georecon.noise import NoiseSource
from georecon.training.replay import recordable

FASTEST, SLOWEST = 0.6, 0.12
"""Parts of a device's peak that products reach."""
LAUNCH = (10e-6, 45e-6)
"""Least and most time of a launch from Python [s]."""
REPLAYED = (2e-6, 8e-6)
"""The same of a kernel in a recorded step (:mod:`georecon.training.replay`)."""
PASSES = {"forward": 1, "training": 3, "forces": 3, "force training": 9}
"""Forward passes that cost as much: a gradient costs two, and so does the gradient of that."""
LAUNCHES = {"forward": 47, "training": 142, "forces": 142, "force training": 426}
"""Kernels a layer, from a profile of a coord step on an H200: 1,240 in all at eight layers."""
_STEPS = 4  # over which an objective that does not do the same at every step is averaged
_KEPT = {"training": 35, "force training": 77}
"""Floats that a layer keeps for the backward pass, by channel and atom (benchmarks/memory.py)."""
_PEAK = (0.9, 1.6)  # the most that is allocated over what is kept
_PEAK_RECORDED = (0.9, 2.0)  # pairs without edges have their rows too
_CONTEXT = 1.0  # GB: CUDA's own


class Bounds(NamedTuple):
    """A lower and an upper bound of one quantity."""

    low: float
    high: float

    def plus(self, other: Bounds) -> Bounds:
        """Both sums."""
        return Bounds(self.low + other.low, self.high + other.high)

    def times(self, factor: float) -> Bounds:
        """Both, so many times."""
        return Bounds(self.low * factor, self.high * factor)


@dataclass(frozen=True, slots=True)
class Device:
    """A card or a processor as its data sheet has it.

    Attributes:
        tflops: float32 products of a training, outside tensor cores [TFLOP/s].
        gigabytes: memory of a card [GB]; 0: of a processor, which has the machine's.
        at_once: trainings that it runs side by side.
    """

    name: str
    tflops: float
    gigabytes: int = 0
    at_once: int = 1

    @property
    def card(self) -> bool:
        """Whether it is a GPU."""
        return self.gigabytes > 0


GPUS = (
    Device("RTX 3060", 12.7, 12),
    Device("RTX 3090", 35.6, 24),
    Device("V100", 15.7, 32),
    Device("A100", 19.5, 80),
    Device("H100", 66.9, 80),
)
CPUS = (Device("1 core", 0.16), Device("16 cores", 0.16, at_once=16))
"""A training has one core: AVX-512 at 2.5 GHz."""


@dataclass(frozen=True, slots=True)
class Load:
    """What a step or a batch consists of.

    Attributes:
        kind: a key of ``PASSES``.
        atoms: in the batch.
        neighbours: of an atom.
        applied: layers that an atom goes through, over the encoder's ``layers``; the noise pass of
            a force training not counted.
        noisy: the same of that pass.
        recorded: whether a card replays the step.
    """

    kind: str
    encoder: AnyEncoder
    atoms: float
    neighbours: float
    applied: float
    noisy: float = 0.0
    recorded: bool = False

    def seconds(self, device: Device) -> Bounds:
        """Time on a device, shared by the trainings that run there side by side [s]."""
        calls = {self.kind: self.applied, "training": self.noisy} | (
            {"training": self.applied + self.noisy} if self.kind == "training" else {}
        )
        passes = sum(PASSES[kind] * count for kind, count in calls.items())
        work = passes * self.atoms * flops(self.encoder, self.neighbours)
        # on a processor filters are read off a table, which costs next to nothing in a large batch
        least = passes * self.atoms * flops(self.encoder, self.neighbours if device.card else 0.0)
        launches = sum(LAUNCHES[kind] * count for kind, count in calls.items()) + 100
        peak = 1e12 * device.tflops
        fast, slow = REPLAYED if self.recorded and device.card else LAUNCH
        low = max(least / (FASTEST * peak), launches * fast)
        bounds = Bounds(low, work / (SLOWEST * peak) + launches * slow)
        return bounds.times(1 / device.at_once)

    def gigabytes(self) -> Bounds:
        """Most memory of a card that a training step takes [GB]."""
        kept = _KEPT[self.kind] * self.applied + _KEPT["training"] * self.noisy
        own = 4e-9 * kept * self.atoms * self.encoder.channels
        if isinstance(self.encoder, UnimolSettings):  # logits, weights and their gradient of pairs
            own += 4e-9 * 4 * self.applied * self.atoms * self.neighbours * self.encoder.heads
        least, most = _PEAK_RECORDED if self.recorded else _PEAK
        return Bounds(own * least, own * most + _CONTEXT)


def flops(encoder: AnyEncoder, neighbours: float) -> float:
    """Operations of one layer's forward pass for one atom.

    Queries, keys, values, the three products of vectors and the output are 17 F² multiplications,
    the filters of an edge 4 R F, made once a pair; Uni-Mol's are 12 F² and 2 F a pair of tokens.
    """
    wide = encoder.channels
    if isinstance(encoder, EncoderSettings):
        return 2 * (17 * wide**2 + neighbours / 2 * 4 * encoder.rbf * wide) + 40 * neighbours * wide
    return 2 * (12 * wide**2 + 2 * neighbours * wide) + 10 * neighbours * encoder.heads


def neighbours(encoder: AnyEncoder, atoms: float) -> float:
    """Neighbours of an atom in a molecule of so many atoms, at most."""
    limit = encoder.max_neighbors if isinstance(encoder, EncoderSettings) else atoms + 2
    return max(1.0, min(atoms - 1.0, float(limit)))


def training_step(settings: PretrainSettings | FinetuneSettings, atoms: float) -> Load:
    """A training step.

    Args:
        settings: of the run.
        atoms: of a molecule of its data, on average.
    """
    encoder, train = settings.encoder, settings.train
    batch = train.batch_size * atoms
    near = neighbours(encoder, atoms)
    if isinstance(settings, PretrainSettings):
        return Load("training", encoder, batch, near, applied_layers(settings))
    if not settings.recipe.forces:
        return Load("training", encoder, batch, near, encoder.layers)
    noisy = encoder.layers if settings.recipe.noise_sigma else 0
    if train.part_atoms:
        batch = min(batch, train.part_atoms)
    recorded = recordable(encoder, atoms)
    return Load("force training", encoder, batch, near, encoder.layers, noisy, recorded)


def steps_per_batch(settings: PretrainSettings | FinetuneSettings, atoms: float) -> float:
    """Parts that a batch is taken in (``part_atoms``)."""
    most = settings.train.part_atoms
    return max(1.0, settings.train.batch_size * atoms / most) if most else 1.0


def prediction(settings: FinetuneSettings, molecules: float, atoms: float) -> Load:
    """One batch of predictions: of ``evaluation_batch`` molecules, or of all if they are fewer."""
    size = min(float(settings.evaluation_batch), molecules)
    kind = "forces" if settings.recipe.forces else "forward"
    near = neighbours(settings.encoder, atoms)
    return Load(kind, settings.encoder, size * atoms, near, settings.encoder.layers)


def applied_layers(settings: PretrainSettings) -> float:
    """Layers that an atom goes through in a pre-training step, the decoder's included."""
    encoder = build_encoder(_small(settings.encoder))
    objective = objectives.build(settings.objective, encoder, settings.params)
    graph = _molecules()
    with _counted(objective) as atoms, torch.no_grad():
        for step in range(_STEPS):
            objective(graph, NoiseSource(0, step))
    return sum(atoms) / len(graph.z) / _STEPS


def _small(encoder: AnyEncoder) -> AnyEncoder:
    return replace(encoder, channels=8, heads=2)


def _molecules() -> MolGraph:
    """Two molecules with an angle that turns, for objectives that turn one."""
    zigzag = [[1.26 * k, 0.4 * (k % 2), 0.3 * (k // 2 % 2)] for k in range(8)]
    pos = torch.tensor(zigzag * 2)
    z = torch.tensor([1, 6, 6, 6, 6, 6, 6, 1] * 2)
    return make_graph(z, pos, torch.tensor([8, 8]), torch.arange(2))


@contextmanager
def _counted(module: nn.Module) -> Iterator[list[int]]:
    """Atoms of each call of a layer below a module."""
    from georecon.models.unimol.encoder import Layer

    found: list[int] = []

    def note(_: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        found.append(len(inputs[0]))

    layers = [part for part in module.modules() if isinstance(part, AttentionLayer | Layer)]
    handles = [layer.register_forward_pre_hook(note) for layer in layers]
    try:
        yield found
    finally:
        for handle in handles:
            handle.remove()
