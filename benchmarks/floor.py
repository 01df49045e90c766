"""Where the time of a training step goes, and what of it matrix products and memory make necessary.

For each case of train_step.py: the products of a step at their real shapes, each timed alone with
its operands in cache; the calls of the native kernels, timed in the step; what its operations read
and write, divided by the rate of a large copy; and how many operations torch is asked for.
``floor`` is the time of those products and kernels: what would be left if all else cost nothing.
``share_at_floor`` is the part of the ceiling of large products that a step at its floor would
reach. Prints a table; ``--json FILE`` writes the numbers (``-``: to standard output, alone; a
folder: into a file named by the processor).
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections import Counter
from typing import Any, NamedTuple

import torch
from publish import origin, publish
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from train_step import (
    CASES,
    Case,
    copy_ceiling,
    loss_of,
    molecules,
    need_stores,
    product_ceiling,
    step,
    traffic_mb,
)

from georecon.jobs.job import prepare_torch
from georecon.kernels import native
from georecon.models.encoder import EquivariantTransformer

PRODUCTS = {torch.ops.aten.mm.default, torch.ops.aten.addmm.default, torch.ops.aten.bmm.default}
SMALL = [
    Case("32/2/32", batch, "QM9", kind)
    for batch in (16, 32)
    for kind in ("coord", "georecon__decoder")
]
REPEATS = 3


class Product(NamedTuple):
    """A matrix product: the operation, and shape and strides of each operand."""

    operation: Any
    operands: tuple[tuple[tuple[int, ...], tuple[int, ...]], ...]

    def gflop(self) -> float:
        """Multiplications and additions, in 10⁹."""
        (*outer, rows, inner), (*_, columns) = (shape for shape, _ in self.operands[-2:])
        return 2e-9 * rows * inner * columns * (outer[0] if outer else 1)

    def seconds(self) -> float:
        """Time of one, the median of calls one after another."""
        made = [torch.empty_strided(*operand).normal_() for operand in self.operands]
        times = []
        for _ in range(12):
            started = time.perf_counter()
            for _ in range(3):
                self.operation(*made)
            times.append((time.perf_counter() - started) / 3)
        return statistics.median(times[2:])


class Count(TorchDispatchMode):
    """Counts products by shape, and all operations."""

    def __init__(self) -> None:
        super().__init__()
        self.products: Counter[Product] = Counter()
        self.operations = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.operations += 1
        if func in PRODUCTS:
            operands = (x for x in args if isinstance(x, Tensor))
            self.products[Product(func, tuple((tuple(x.shape), x.stride()) for x in operands))] += 1
        return func(*args, **(kwargs or {}))


def seconds_of_kernels(trained: Any, graph: Any) -> dict[str, float]:
    """Time of the native functions in a step, by entry."""
    run, found = native.run, Counter[str]()

    def timed(entry: str, **arguments: Any) -> None:
        started = time.perf_counter()
        run(entry, **arguments)
        found[entry] += time.perf_counter() - started  # type: ignore[assignment]

    native.run = timed
    try:
        step(trained, graph, "float32")
    finally:
        native.run = run
    return dict(found)


def measure(case: Case, product_gflops: float, copy_gbs: float) -> dict[str, Any]:
    """Times of a step and of its parts [ms]."""
    torch.manual_seed(0)
    trained, graph = loss_of(case, EquivariantTransformer(case.settings)), molecules(case)
    times = [step(trained, graph, "float32") for _ in range(REPEATS + 2)][2:]
    kernels = [seconds_of_kernels(trained, graph) for _ in range(REPEATS)]
    with Count() as count:
        step(trained, graph, "float32")
    gflop = sum(product.gflop() * n for product, n in count.products.items())
    products = sum(product.seconds() * n for product, n in count.products.items())
    by_entry = {
        entry: 1e3 * statistics.median(found[entry] for found in kernels) for entry in kernels[0]
    }
    floor = 1e3 * products + sum(by_entry.values())
    return {
        "step_ms": 1e3 * statistics.median(times),
        "products_ms": 1e3 * products,
        "products_gflop": gflop,
        "products_gflops": gflop / products,
        "kernels_ms": by_entry,
        "traffic_ms": traffic_mb(trained, graph, "float32") / copy_gbs,
        "operations": count.operations,
        "floor_ms": floor,
        "share_at_floor": 1e3 * gflop / product_gflops / floor,
    }


def show(name: str, case: dict[str, Any]) -> None:
    kernels = ", ".join(f"{entry} {ms:.2f}" for entry, ms in case["kernels_ms"].items())
    print(
        f"{name}: step {case['step_ms']:.2f} ms; products {case['products_ms']:.2f} at "
        f"{case['products_gflops']:.0f} GFLOP/s, kernels {sum(case['kernels_ms'].values()):.2f} "
        f"({kernels}); {case['operations']} operations; floor {case['floor_ms']:.2f}, "
        f"{case['share_at_floor']:.0%} of the product ceiling; traffic {case['traffic_ms']:.2f}"
    )


def main() -> None:
    """Measure all cases."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", help="file or folder for the numbers; - for standard output")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    options = parser.parse_args()
    need_stores()
    prepare_torch(options.threads)
    ceilings = product_ceiling(), copy_ceiling()
    cases = {case.name: measure(case, *ceilings) for case in (*SMALL, *CASES)}
    report = {
        **origin(),
        "product_ceiling_gflops": ceilings[0],
        "memory_ceiling_gbs": ceilings[1],
        "cases": cases,
    }
    if publish(report, options.json, "floor"):
        for name, case in cases.items():
            show(name, case)


if __name__ == "__main__":
    main()
