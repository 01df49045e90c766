"""Native operations that torch differentiates twice, as training on forces needs.

The native function of an operation f computes one of three things, said by its ``kind``:

0. the outputs f(x) of the inputs x,
1. the gradient G(g, x) = ∇ₓ⟨g, f(x)⟩ for a gradient g of the outputs,
2. the derivatives of ⟨t, G(g, x)⟩ along a direction t of the inputs: with respect to g, which is
   the derivative of f along t, and with respect to x, a Hessian-vector product.

Each kind is the backward of the one before. A third derivative is refused.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import torch
from torch import Tensor

from georecon.kernels import native

Arrays = dict[str, Tensor | None]
_only: ContextVar[str] = ContextVar("only", default="")


class Operation(ABC):
    """A native operation, with what it needs beside the inputs that may have gradients.

    Attributes:
        entry: name of the native function.
        inputs: names of its inputs; one that is left out is None.
        of_weights, of_positions: inputs that depend on weights alone, or on positions alone;
            their gradients are computed only where they are asked for (:func:`only`).
    """

    entry: str
    inputs: tuple[str, ...]
    of_weights: frozenset[str] = frozenset()
    of_positions: frozenset[str] = frozenset()

    @abstractmethod
    def arguments(self, *inputs: Any) -> dict[str, Tensor | int | None]:
        """Sizes, and arrays that have no gradient."""

    @abstractmethod
    def outputs(self, *inputs: Any) -> Arrays:
        """Empty arrays that the native function fills with its outputs, by name."""

    def parts(self, *inputs: Any) -> dict[str, int]:
        """Inputs whose gradient the native function writes in parts, and how many.

        It leaves their sum in the first part.
        """
        return {}

    def apply(self, *inputs: Tensor | None) -> Any:
        """Outputs in their order; None for one that is left out."""
        function: Any = _Outputs.apply
        return function(self, *(None if x is None else x.contiguous() for x in inputs))

    def run(self, kind: int, inputs: Sequence[Tensor | None], **more: Tensor | None) -> None:
        """Call the native function; its arrays must be contiguous."""
        sizes = {"kind": kind, "threads": torch.get_num_threads()}
        named = dict(zip(self.inputs, inputs, strict=True))
        native.run(self.entry, **sizes, **self.arguments(*inputs), **named, **more)

    def gradient_room(self, inputs: Sequence[Tensor | None], wanted: Sequence[bool]) -> Arrays:
        """Empty arrays for the gradients to compute, None for those that nobody asks for."""
        optional = self.of_weights | self.of_positions
        skipped = {"positions": self.of_weights, "weights": self.of_positions}.get(_only.get(), ())
        parts = self.parts(*inputs)
        room: Arrays = {}
        for name, x, want in zip(self.inputs, inputs, wanted, strict=True):
            if x is None or name in skipped or not (want or name not in optional):
                room[name] = None
            elif name in parts:
                room[name] = x.new_empty(parts[name], *x.shape)
            else:
                room[name] = torch.empty_like(x)
        return room

    def joined(self, inputs: Sequence[Tensor | None], room: Arrays) -> Iterable[Tensor | None]:
        """Gradients of the inputs in their order, out of what the native function wrote."""
        parts = self.parts(*inputs)
        return (x[0] if x is not None and name in parts else x for name, x in room.items())


@contextmanager
def only(what: str) -> Iterator[None]:
    """Compute no gradient, inside this context, that a call of autograd does not need.

    Args:
        what: what that call differentiates with respect to: "weights" or "positions".
    """
    token = _only.set(what)
    try:
        yield
    finally:
        _only.reset(token)


def _named(prefix: str, arrays: Arrays) -> Arrays:
    return {f"{prefix}_{name}": x for name, x in arrays.items()}


def _dense(tensors: Sequence[Tensor | None]) -> list[Tensor | None]:
    return [None if x is None else x.contiguous() for x in tensors]


class _Outputs(torch.autograd.Function):
    """Kind 0: the operation itself."""

    @staticmethod
    def forward(ctx, operation, *inputs):  # type: ignore[no-untyped-def]
        ctx.operation = operation
        ctx.save_for_backward(*inputs)
        out = operation.outputs(*inputs)
        ctx.names = tuple(out)
        operation.run(0, inputs, **out)
        return tuple(out.values())

    @staticmethod
    def backward(ctx, *grads):  # type: ignore[no-untyped-def]
        wanted = ctx.needs_input_grad[1:]
        given = *_dense(grads), *ctx.saved_tensors
        arguments = ctx.operation, ctx.names, wanted, *given
        if not torch.is_grad_enabled():  # nobody will differentiate the gradient
            return None, *_gradient(*arguments)
        function: Any = _Gradient.apply
        return None, *function(*arguments)


def _gradient(
    operation: Operation, names: tuple[str, ...], wanted: Sequence[bool], *given: Tensor | None
) -> tuple[Tensor | None, ...]:
    """Gradients of the inputs from those of the outputs, which come first in ``given``."""
    grads, inputs = dict(zip(names, given, strict=False)), given[len(names) :]
    room = operation.gradient_room(inputs, wanted)
    operation.run(1, inputs, **_named("grad", grads), **_named("grad", room))
    return tuple(operation.joined(inputs, room))


class _Gradient(torch.autograd.Function):
    """Kind 1: the gradient, which is the backward of :class:`_Outputs`."""

    @staticmethod
    def forward(ctx, operation, names, wanted, *given):  # type: ignore[no-untyped-def]
        ctx.operation, ctx.names = operation, names
        ctx.save_for_backward(*given)
        return _gradient(operation, names, wanted, *given)

    @staticmethod
    def backward(ctx, *directions):  # type: ignore[no-untyped-def]
        function: Any = _Curvature.apply
        given = *_dense(directions), *ctx.saved_tensors
        return None, None, None, *function(ctx.operation, ctx.names, *given)


class _Curvature(torch.autograd.Function):
    """Kind 2: the backward of :class:`_Gradient`; the directions are its first arguments."""

    @staticmethod
    def forward(ctx, operation, names, *given):  # type: ignore[no-untyped-def]
        count = len(operation.inputs)
        directions, given = given[:count], given[count:]
        grads, inputs = dict(zip(names, given, strict=False)), given[len(names) :]
        moved = {
            f"{name}_t": _direction(t, x, optional=name in operation.of_weights)
            for name, t, x in zip(operation.inputs, directions, inputs, strict=True)
        }
        out = operation.outputs(*inputs)
        room = operation.gradient_room(inputs, [True] * count)
        operation.run(2, inputs, **moved, **_named("grad", grads), **out, **_named("grad", room))
        return *out.values(), *operation.joined(inputs, room)

    @staticmethod
    def backward(ctx, *_):  # type: ignore[no-untyped-def]
        raise NotImplementedError(
            "the CPU kernel has two derivatives; for a third, set GEORECON_KERNEL=reference"
        )


def _direction(direction: Tensor | None, of: Tensor | None, *, optional: bool) -> Tensor | None:
    """A direction; where autograd gives none, zeros, unless the native function takes none."""
    if of is None or direction is not None:
        return direction
    return None if optional else torch.zeros_like(of)
