"""What follows a backward pass: torch's AdamW on one vector against it on a list, on one thread.

From gradients to changed weights: gather, norm, clip, step. torch steps a tensor at a time
(``single``), many at once (``foreach``), in one kernel (``fused``), or that on one vector of which
all parameters are views (``flat``), which is what we use. Milliseconds of processor time, medians
over alternating steps, beside the whole step of that model; ``start`` is the processor time from
the first use of each to the end of its first step in a new process that has imported torch.
``relative_difference`` says how far weights lie from those of ``flat`` after one step on equal
gradients, relative to the largest weight of their tensor. Prints the numbers; ``--json FILE``
writes them.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

import torch
from publish import publish
from torch import Tensor, nn

from georecon.graph import MolGraph
from georecon.jobs.job import prepare_torch
from georecon.kernels.autograd import only
from georecon.models.encoder import EncoderSettings, EquivariantTransformer
from georecon.models.heads import ScalarHead
from georecon.training.optimizer import FlatAdamW

SIZES = {"32/2/32, 16 molecules": (32, 4, 2, 32, 16), "256/8/64, 64 molecules": (256, 8, 8, 64, 64)}
LISTED: dict[str, dict[str, Any]] = {
    "single": {"foreach": False},
    "foreach": {"foreach": True},
    "fused": {"fused": True},
}
LR, CLIP, ATOMS = 3e-3, 10.0, 18


def batch(molecules: int) -> MolGraph:
    """Made-up molecules of QM9's size: atoms 1.3 Å apart and more, on a distorted lattice."""
    source = torch.Generator().manual_seed(0)
    lattice = 1.6 * torch.cartesian_prod(*(torch.arange(3.0),) * 3)[:ATOMS]
    pos = lattice + 0.2 * torch.randn(molecules, ATOMS, 3, generator=source)
    z = torch.tensor([1, 6, 7, 8])[torch.randint(4, (molecules * ATOMS,), generator=source)]
    ids = torch.arange(molecules)
    ptr = ATOMS * torch.arange(molecules + 1)
    return MolGraph(z, pos.reshape(-1, 3), ids.repeat_interleave(ATOMS), ptr, ids)


class Model(nn.Module):
    """Encoder and scalar head."""

    def __init__(self, channels: int, heads: int, layers: int, rbf: int) -> None:
        super().__init__()
        settings = EncoderSettings(channels=channels, heads=heads, layers=layers, rbf=rbf)
        torch.manual_seed(0)
        self.encoder, self.head = EquivariantTransformer(settings), ScalarHead(channels)

    def backward(self, graph: MolGraph) -> None:
        self.zero_grad(set_to_none=True)
        energy: Tensor = self.head(*self.encoder(graph), graph)
        with only("weights"):
            loss = (energy - graph.ids % 7).square().mean()
            loss.backward(inputs=list(self.parameters()))


def gradients(model: Model) -> list[Tensor | None]:
    return [None if p.grad is None else p.grad.clone() for p in model.parameters()]


def give(model: Model, kept: list[Tensor | None]) -> None:
    for parameter, gradient in zip(model.parameters(), kept, strict=True):
        parameter.grad = None if gradient is None else gradient.clone()


Step = Callable[[], None]


def step_of(name: str, model: Model) -> Step:
    """One step of a variant, after a backward pass."""
    parameters = list(model.parameters())
    if name == "flat":
        flat = FlatAdamW(parameters, 0.0)

        def flat_step() -> None:
            gradient = flat.gradient()
            norm = float(gradient.norm())
            if norm > CLIP:
                gradient *= CLIP / norm
            flat.step(gradient, LR)

        return flat_step
    adamw = torch.optim.AdamW(parameters, lr=LR, weight_decay=0.0, **LISTED[name])

    def step() -> None:
        nn.utils.clip_grad_norm_(parameters, CLIP, error_if_nonfinite=True)
        adamw.step()

    return step


def cost(size: tuple[int, ...], steps: int) -> dict[str, float]:
    """Milliseconds of each variant, and of a step's forward and backward pass."""
    *sizes, molecules = size
    graph, model = batch(molecules), Model(*sizes)
    taken: dict[str, list[float]] = {"forward and backward": []}
    variants = {name: step_of(name, model) for name in (*LISTED, "flat")}  # flat moves the weights
    for _ in range(steps):
        started = time.process_time()
        model.backward(graph)
        taken["forward and backward"].append(time.process_time() - started)
        kept = gradients(model)
        for name, step in variants.items():
            give(model, kept)
            started = time.process_time()
            step()
            taken.setdefault(name, []).append(time.process_time() - started)
    return {name: 1e3 * statistics.median(some[3:]) for name, some in taken.items()}


def digits() -> dict[str, float]:
    """By variant: how far weights lie from flat's after the first step, the same gradients."""
    *sizes, molecules = SIZES["32/2/32, 16 molecules"]
    graph, models = batch(molecules), {}
    for name in ("flat", *LISTED):
        models[name] = Model(*sizes)
        models[name].backward(graph)
        step_of(name, models[name])()
    return {name: difference(models["flat"], models[name]) for name in LISTED}


def difference(first: nn.Module, second: nn.Module) -> float:
    pairs = zip(first.parameters(), second.parameters(), strict=True)
    return max(
        float(((a - b).abs().max() / a.abs().max().clamp_min(1e-12)).detach()) for a, b in pairs
    )


def start(name: str) -> float:
    """Seconds of processor time that the first use of a variant takes in a new process."""
    use = "FlatAdamW([p], 0.0); o.step(o.gradient(), 0.1)"
    if name != "flat":
        use = f"torch.optim.AdamW([p], **{LISTED[name]}); o.step()"
    code = (
        "import time, torch, georecon.stages.finetune\n"
        "from georecon.training.optimizer import FlatAdamW\n"
        "p = torch.nn.Parameter(torch.ones(3)); p.sum().backward(); s = time.process_time()\n"
        f"o = {use}\nprint(time.process_time() - s)"
    )
    runs = [subprocess.check_output([sys.executable, "-c", code], text=True) for _ in range(3)]
    return statistics.median(map(float, runs))


def main() -> None:
    """Measure, print and publish."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", help="file for the numbers; - for standard output alone")
    parser.add_argument("--steps", type=int, default=200)
    options = parser.parse_args()
    prepare_torch(1)
    report = {
        "torch": torch.__version__,
        "milliseconds": {
            name: cost(size, options.steps if size[0] < 100 else max(20, options.steps // 10))
            for name, size in SIZES.items()
        },
        "start_seconds": {name: start(name) for name in ("flat", *LISTED)},
        "relative_difference": digits(),
    }
    if publish(report, options.json):
        for part, numbers in report.items():
            print(part, numbers)


if __name__ == "__main__":
    main()
