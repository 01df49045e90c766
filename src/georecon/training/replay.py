"""CUDA graphs: a part of a step whose shapes recur is recorded once and replayed from then on.

A step of small molecules is thousands of kernels of a few microseconds each, which the host
launches one by one, forward, backward and backward again. Replayed, they follow each other on the
device, and the numbers are those of the same operations launched one by one, to the bit.
``GEORECON_GRAPHS=0`` launches them so.

Molecules of one size have edges in arrays of one shape (:mod:`georecon.kernels.fixed_edges`). With
``GEORECON_GRAPHS=all`` batches of several sizes are filled up to a few shapes
(:mod:`georecon.padding`) and recorded too; edges and noise are found before, one operation at a
time.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Hashable, Iterator
from typing import Any, NamedTuple, TypeVar

import torch
from torch import Tensor

from georecon.errors import ConfigError, TrainingError
from georecon.experiments.settings import AnyEncoder, EncoderSettings
from georecon.kernels.fixed_edges import MOST_ATOMS
from georecon.models.encoder import EdgeFeatures

T = TypeVar("T")

SWITCH = "GEORECON_GRAPHS"
NONE, EQUAL, ALL = SWITCHES = ("0", "1", "all")
MOST = 8
"""Shapes that are recorded, each with memory of its own; those that come later are launched."""
_WARM = 3  # runs before a recording: libraries choose kernels and take their memory then


class Terms(NamedTuple):
    """What a part of a step gives.

    Attributes:
        names: of the losses.
        values: the losses, (k,) float64.
        gradient: of ``"loss"`` with respect to all parameters, flat.
    """

    names: tuple[str, ...]
    values: Tensor
    gradient: Tensor


class Recurring(NamedTuple):
    """A part of a step as a function of tensors.

    Attributes:
        loss: losses by name, from ``inputs`` alone and without waiting for the device.
        inputs: tensors, and what never changes with a step, in tuples.
    """

    loss: Callable[[Any], dict[str, Tensor]]
    inputs: Any


Differentiate = Callable[[Callable[[], dict[str, Tensor]]], Terms]
"""From the losses of a part of a step to its terms."""
Record = Callable[[Callable[[], Terms]], tuple[Callable[[], None], Terms]]
"""From a function without arguments to its replay, and the place where that leaves the result."""


def recorded(function: Callable[[], Terms]) -> tuple[Callable[[], None], Terms]:
    """A CUDA graph of a function (``Record``)."""
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(_WARM):
            function()
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph, capture_error_mode="thread_local"):
        terms = function()
    return graph.replay, terms


def recordable(encoder: AnyEncoder, atoms: float) -> bool:
    """Whether steps on molecules that all have so many atoms are recorded on GPUs."""
    return 0 < atoms <= MOST_ATOMS and isinstance(encoder, EncoderSettings)


def recordable_sizes(encoder: AnyEncoder) -> bool:
    """Whether steps on molecules of several sizes are recorded on GPUs; errors of :func:`switch`.

    Off unless asked for: no GPU has run it yet.
    """
    return switch() == ALL and isinstance(encoder, EncoderSettings)


def padded(inputs: Any) -> Any:
    """Inputs of losses with all edges in arrays of a few sizes."""
    return _with(inputs, EdgeFeatures, EdgeFeatures.padded)


def switch() -> str:
    """Value of ``GEORECON_GRAPHS``, one of ``SWITCHES``: steps of molecules of one size are
    recorded unless it says otherwise.

    Raises:
        ConfigError: another value.
    """
    given = os.environ.get(SWITCH, EQUAL)
    if given not in SWITCHES:
        raise ConfigError(f"{SWITCH} is {given!r}; allowed: {', '.join(SWITCHES)}")
    return given


class Replay:
    """Parts of steps, recorded by their shapes.

    Args:
        differentiate: what is done with the losses.
        record: :func:`recorded`.
    """

    def __init__(self, differentiate: Differentiate, record: Record = recorded) -> None:
        self.differentiate, self.record = differentiate, record
        self._recordings: dict[Hashable, _Recording] = {}

    def __call__(self, part: Recurring) -> Terms:
        """Terms of a part of a step; arrays of their own.

        Raises:
            TrainingError: it cannot be recorded; says what helps.
        """
        shapes = tuple(_shapes(part.inputs))
        if shapes not in self._recordings:
            if len(self._recordings) == MOST or switch() == NONE:
                return self.differentiate(lambda: part.loss(part.inputs))
            self._recordings[shapes] = self._recording(part)
        recording = self._recordings[shapes]
        for place, tensor in zip(recording.inputs, _tensors(part.inputs), strict=True):
            place.copy_(tensor)
        recording.replay()
        names, values, gradient = recording.terms
        return Terms(names, values.clone(), gradient.clone())

    def _recording(self, part: Recurring) -> _Recording:
        inputs = _copied(part.inputs)
        try:
            replay, terms = self.record(lambda: self.differentiate(lambda: part.loss(inputs)))
        except torch.OutOfMemoryError:
            raise  # the job says what helps
        except RuntimeError as error:
            cause = str(error).splitlines()[0]
            raise TrainingError(
                f"a step cannot be recorded as a CUDA graph here ({cause}); {SWITCH}=0 launches "
                "its kernels one by one: the same numbers, slower"
            ) from error
        return _Recording(list(_tensors(inputs)), replay, terms)


class _Recording(NamedTuple):
    inputs: list[Tensor]
    replay: Callable[[], None]
    terms: Terms


def _tensors(inputs: Any) -> Iterator[Tensor]:
    if isinstance(inputs, Tensor):
        yield inputs
    elif isinstance(inputs, tuple):
        for part in inputs:
            yield from _tensors(part)


def _shapes(inputs: Any) -> Iterator[Hashable]:
    if isinstance(inputs, Tensor):
        yield inputs.shape, inputs.dtype
    elif isinstance(inputs, tuple):
        for part in inputs:
            yield from _shapes(part)
    else:
        yield inputs


def _copied(inputs: Any) -> Any:
    return _with(inputs, Tensor, Tensor.clone)


def _with(inputs: Any, kind: type[T], change: Callable[[T], T]) -> Any:
    """Inputs with all of a kind changed."""
    if isinstance(inputs, kind):
        return change(inputs)
    if isinstance(inputs, tuple):
        parts = [_with(part, kind, change) for part in inputs]
        return type(inputs)(*parts) if hasattr(inputs, "_fields") else tuple(parts)
    return inputs
