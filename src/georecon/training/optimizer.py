"""torch's fused AdamW on one flat vector: one call a step however many parameters a model has.

The parameters of the model become views of that vector, so the gradient that the processes of a run
add up, its norm and the update are one tensor each. A step of a small model then costs a quarter
of torch's step over a list of parameters (docs/performance.md, "Libraries instead of own code").
"""

from __future__ import annotations

import os
from collections.abc import Sequence

import torch
from torch import Tensor, nn

_MOMENTS = ("exp_avg", "exp_avg_sq")


class FlatAdamW:
    """Adam with decoupled weight decay (Loshchilov and Hutter 2019), torch's default betas.

    A parameter that gets no gradient counts as one whose gradient is zero: weight decay alone
    changes it.

    Args:
        parameters: what to train, of one type and on one device; their storage is replaced by
            views of one vector, so they must not be moved to another device afterwards.
        weight_decay: decay per step in units of the learning rate.
    """

    def __init__(self, parameters: Sequence[nn.Parameter], weight_decay: float) -> None:
        self.parameters = list(parameters)
        self.flat = nn.Parameter(torch.cat([p.detach().flatten() for p in self.parameters]))
        parts = self.flat.detach().split([p.numel() for p in self.parameters])
        for parameter, part in zip(self.parameters, parts, strict=True):
            parameter.data = part.view_as(parameter)
        self._adamw = torch.optim.AdamW([self.flat], weight_decay=weight_decay, fused=True)

    def zero_grad(self) -> None:
        """Forget all gradients."""
        for parameter in self.parameters:
            parameter.grad = None

    def gradient(self) -> Tensor:
        """All gradients as one vector; zero where there is none."""
        parts = (
            parameter.grad if parameter.grad is not None else torch.zeros_like(parameter)
            for parameter in self.parameters
        )
        return torch.cat([part.reshape(-1) for part in parts]).detach()

    def step(self, gradient: Tensor, lr: float) -> None:
        """Update the parameters.

        Args:
            gradient: flat gradient, clipped if it is to be.
            lr: learning rate of this step.
        """
        self.flat.grad = gradient
        self._adamw.param_groups[0]["lr"] = lr
        self._adamw.step()

    def state(self) -> dict[str, Tensor]:
        """The moments, for a checkpoint; before the first step they are zero."""
        state = self._adamw.state.get(self.flat, {})
        return {name: state.get(name, torch.zeros_like(self.flat)) for name in _MOMENTS}

    def restore(self, state: dict[str, Tensor], step: int) -> None:
        """Go on after ``step`` steps with the moments of :meth:`state`."""
        moments = {name: state[name].to(self.flat) for name in _MOMENTS}
        steps = torch.tensor(float(step), device=self.flat.device)
        self._adamw.state[self.flat] = {"step": steps, **moments}


def preload() -> None:
    """Import what torch imports when an optimiser is first made: its compiler, a second.

    The environment, in which the compiler names its cache, stays as it was.
    """
    before = dict(os.environ)
    FlatAdamW([nn.Parameter(torch.zeros(1))], 0.0)
    for name in set(os.environ) - set(before):
        del os.environ[name]
