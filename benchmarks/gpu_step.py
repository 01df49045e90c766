"""Training steps on a CUDA GPU: Triton's kernels, the equations in torch operations, torchmd-net.

The cases of train_step.py at the sizes that a GPU is used for, with AdamW, in alternation in one
run: molecules/s (median and quartiles), peak memory, the ratio to each of the others, whether 50
steps give the same weights bit by bit when they are run twice, and the hours that 400,000 GeoRecon
steps of 70 molecules would take. Needs the stores that ``make`` makes; torchmd-net is left out
where it is not installed (``pip install torchmd-net``). Prints a table, case by
case; ``--json FILE`` writes it.
Without a GPU it says so and measures nothing.
"""

from __future__ import annotations

import argparse
import copy
import os
import statistics
import time
from collections.abc import Callable
from typing import Any

os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # products in a fixed order

import torch
from publish import publish
from torch import Tensor, nn
from train_step import Case, Theirs, loss_of, molecules, need_stores, quartiles, step

from georecon.graph import MolGraph
from georecon.jobs.job import prepare_torch
from georecon.kernels import native
from georecon.models.encoder import EquivariantTransformer
from georecon.records.record import compute_device

CASES = [
    Case("256/8/64", 128, "QM9", "coord"),
    Case("128/6/32", 8, "aspirin", "energy+force"),
    Case("256/8/64", 70, "QM9", "georecon__decoder"),
]
VARIANTS = {
    "triton": ("triton", "float32"),
    "triton_bf16": ("triton", "bf16"),
    "reference": ("reference", "float32"),
    "torchmd-net": ("reference", "float32"),
}
"""Name → (GEORECON_KERNEL, precision); the peer's encoder has no use for the first."""
STEPS_TWICE = 50
PAPER_STEPS = 400_000
Trained = tuple[nn.Module, Callable[[MolGraph], Tensor]]


def use(kernel: str) -> None:
    """Choose the kernel of this process."""
    os.environ["GEORECON_KERNEL"] = kernel
    native.kernel.cache_clear()


def build(case: Case, name: str) -> Trained:
    """Model and loss of a variant, from the same seed."""
    torch.manual_seed(0)
    encoder = Theirs if name == "torchmd-net" else EquivariantTransformer
    with torch.device("cuda"):
        return loss_of(case, encoder(case.settings))


class Training:
    """One variant of a case and its optimiser."""

    def __init__(self, case: Case, name: str, graph: MolGraph) -> None:
        self.kernel, self.bits = VARIANTS[name]
        self.trained, self.graph = build(case, name), graph
        weights = self.trained[0].parameters()
        self.optimizer = torch.optim.AdamW(weights, lr=1e-4, fused=True)

    def run(self, steps: int) -> float:
        """Seconds a step."""
        use(self.kernel)
        torch.cuda.synchronize()
        started = time.perf_counter()
        for _ in range(steps):
            step(self.trained, self.graph, self.bits)
            self.optimizer.step()
        torch.cuda.synchronize()
        return (time.perf_counter() - started) / steps

    def memory(self) -> float:
        """Peak of a step above what is kept between steps [MB]."""
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        self.run(1)
        return (torch.cuda.max_memory_allocated() - before) / 2**20


def repeats_itself(case: Case, name: str, graph: MolGraph) -> bool:
    """Whether the same steps from the same start give the same weights in every bit."""
    torch.use_deterministic_algorithms(True, warn_only=True)
    found = []
    for _ in range(2):
        training = Training(case, name, graph)
        training.run(STEPS_TWICE)
        found.append(copy.deepcopy(training.trained[0].state_dict()))
    torch.use_deterministic_algorithms(False)
    return all(torch.equal(found[0][key], found[1][key]) for key in found[0])


def measure(case: Case, names: list[str], rounds: int, steps: int) -> dict[str, Any]:
    """Rates, ratios to Triton's kernels in float32, memory and repeatability."""
    graph = molecules(case).to("cuda")
    trainings = {name: Training(case, name, graph) for name in names}
    seconds: dict[str, list[float]] = {name: [] for name in names}
    for one in trainings.values():
        one.run(3)  # compiles
    for _ in range(rounds):
        for name, one in trainings.items():
            seconds[name].append(one.run(steps))
    report = {
        "molecules_per_second": {
            name: quartiles([case.molecules] * rounds, values) for name, values in seconds.items()
        },
        "seconds_per_step": {name: statistics.median(values) for name, values in seconds.items()},
        "times_faster_than": {
            f"{mine} / {other}": quartiles(seconds[other], seconds[mine])
            for mine in names
            for other in names
            if mine.startswith("triton") and not other.startswith("triton")
        },
        "peak_memory_mb": {name: one.memory() for name, one in trainings.items()},
        "same_bits_twice": {
            name: repeats_itself(case, name, graph) for name in names if name != "torchmd-net"
        },
    }
    if case.kind == "georecon__decoder":
        report["hours_of_paper_steps"] = {
            name: PAPER_STEPS * value / 3600 for name, value in report["seconds_per_step"].items()
        }
    return report


def show(name: str, case: dict[str, Any]) -> None:
    print(name)
    for variant, (low, median, high) in case["molecules_per_second"].items():
        memory, same = case["peak_memory_mb"][variant], case["same_bits_twice"].get(variant, "-")
        hours = case.get("hours_of_paper_steps", {}).get(variant)
        projected = "" if hours is None else f", {PAPER_STEPS} steps in {hours:.1f} h"
        print(f"    {variant}: {median:.0f} molecules/s ({low:.0f} to {high:.0f}), "
              f"{memory:.0f} MB, same bits twice: {same}{projected}")  # fmt: skip
    for pair, (low, median, high) in case["times_faster_than"].items():
        print(f"    {pair}: {median:.2f} ({low:.2f} to {high:.2f})", flush=True)


def available() -> list[str]:
    """Variants that can run here."""
    names = [name for name in VARIANTS if name != "torchmd-net"]
    if not torch.cuda.is_bf16_supported(including_emulation=False):
        names.remove("triton_bf16")
    try:
        Theirs(CASES[1].settings)
    except ImportError:
        return names
    return [*names, "torchmd-net"]


def main() -> None:
    """Run all cases."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", help="file for the numbers")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--steps", type=int, default=10, help="steps of a round")
    options = parser.parse_args()
    if not torch.cuda.is_available():
        print("gpu_step.py: torch finds no CUDA GPU here, so there is nothing to measure")
        return
    need_stores()
    prepare_torch(torch.get_num_threads())
    names, cases = available(), {}
    use("triton")
    compute = compute_device()
    print(f"{compute['name']}, torch {torch.__version__}", flush=True)
    for case in CASES:
        cases[case.name] = measure(case, names, options.rounds, options.steps)
        show(case.name, cases[case.name])
    publish({"torch": torch.__version__, "compute": compute, "cases": cases}, options.json)


if __name__ == "__main__":
    main()
