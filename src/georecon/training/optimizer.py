"""AdamW on one flat vector: a few operations a step however many parameters a model has.

Our own for its digits: torch's variants round in another order, so every table would change in its
last digits. Speed is no reason (docs/performance.md, "Libraries instead of own code"): the next
release that changes numbers anyway should use ``torch.optim.AdamW(fused=True)`` on one flat vector.
Its first use imports torch's compiler, a second, which the warm process must then do once a run.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

BETA1, BETA2, EPSILON = 0.9, 0.999, 1e-8


class AdamW:
    """Adam with decoupled weight decay (Loshchilov and Hutter 2019), torch's default betas.

    Args:
        parameters: what to train; one without a gradient is left as it is.
        weight_decay: decay per step in units of the learning rate.
    """

    def __init__(self, parameters: Sequence[nn.Parameter], weight_decay: float) -> None:
        self.parameters, self.weight_decay = list(parameters), weight_decay
        self.sizes = [parameter.numel() for parameter in self.parameters]
        flat = torch.cat([parameter.detach().flatten() for parameter in self.parameters])
        self.exp_avg, self.exp_avg_sq = torch.zeros_like(flat), torch.zeros_like(flat)

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
        return torch.cat([part.detach().flatten() for part in parts])

    @torch.no_grad()
    def step(self, gradient: Tensor, lr: float, step: int) -> None:
        """Update the parameters.

        Args:
            gradient: flat gradient, clipped if it is to be.
            lr: learning rate of this step.
            step: number of this step, from 1.
        """
        self.exp_avg.lerp_(gradient, 1.0 - BETA1)
        self.exp_avg_sq.mul_(BETA2).addcmul_(gradient, gradient, value=1.0 - BETA2)
        root = self.exp_avg_sq.sqrt().div_(math.sqrt(1.0 - BETA2**step)).add_(EPSILON)
        update = (self.exp_avg / root).mul_(-lr / (1.0 - BETA1**step))
        for parameter, part in zip(self.parameters, update.split(self.sizes), strict=True):
            if parameter.grad is None:
                continue
            if self.weight_decay:
                parameter.mul_(1.0 - lr * self.weight_decay)
            parameter.add_(part.view_as(parameter))

    def state(self) -> dict[str, Tensor]:
        """Tensors for a checkpoint."""
        return {"exp_avg": self.exp_avg, "exp_avg_sq": self.exp_avg_sq}

    def restore(self, state: dict[str, Tensor]) -> None:
        """Inverse of :meth:`state`."""
        self.exp_avg.copy_(state["exp_avg"])
        self.exp_avg_sq.copy_(state["exp_avg_sq"])
