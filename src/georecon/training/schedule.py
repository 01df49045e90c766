"""Learning-rate schedules: functions of the step and, for the plateau, of past scores."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TypedDict


def warmup_cosine(step: int, *, warmup: int, total: int) -> float:
    """Factor on the rate at ``step`` (from 0): linear warm-up, then cosine to 0 at ``total``."""
    if step < warmup:
        return (step + 1) / warmup
    return 0.5 * (1.0 + math.cos(math.pi * (step - warmup) / max(1, total - warmup)))


class PlateauState(TypedDict):
    """A plateau as a checkpoint holds it; JSON has no infinity, so no score yet is None."""

    factor: float
    patience: int
    minimum: float
    scale: float
    best: float | None
    waited: int


@dataclass(slots=True)
class Plateau:
    """Multiply the learning rate when validation has not improved for ``patience`` evaluations.

    Lineage: PyTorch's ``ReduceLROnPlateau`` as TorchMD-NET uses it for MD17 (×0.8, patience 30),
    with linear warm-up.

    Attributes:
        factor: multiplier on each reduction.
        patience: evaluations without improvement that are waited out.
        minimum: smallest factor on the learning rate.
        scale: present factor on the learning rate. This and the next two are the state.
        best: best score so far.
        waited: evaluations since then.
    """

    factor: float = 0.8
    patience: int = 30
    minimum: float = 1e-4
    scale: float = 1.0
    best: float = field(default=math.inf)
    waited: int = 0

    def observe(self, score: float) -> None:
        """Take in one validation score (smaller is better)."""
        if score < self.best:
            self.best, self.waited = score, 0
            return
        self.waited += 1
        if self.waited > self.patience:
            self.scale, self.waited = max(self.minimum, self.scale * self.factor), 0

    def state(self) -> PlateauState:
        """State for a checkpoint."""
        return {
            "factor": self.factor,
            "patience": self.patience,
            "minimum": self.minimum,
            "scale": self.scale,
            "best": None if math.isinf(self.best) else self.best,
            "waited": self.waited,
        }

    def restore(self, state: PlateauState) -> None:
        """Inverse of :meth:`state`."""
        self.scale, self.waited = state["scale"], state["waited"]
        self.best = math.inf if state["best"] is None else state["best"]
