"""How the cost of a training step grows with batch, channels, atoms of a molecule and cores.

Energy step (forward and backward pass) of ours and of torchmd-net's encoder with denormal floats
flushed, in alternation in one run; one size is varied at a time about 64 channels, 3 layers, 32
radial functions, 64 molecules of QM9 and all cores. Large molecules are aspirins in a row, 7 Å
apart, 168 atoms a batch. ``microseconds_per_atom`` are medians. Prints a table; ``--json FILE``
writes the numbers (``-``: to standard output, alone).
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Iterator
from typing import Any

import torch
from publish import publish
from torch import Tensor
from train_step import Case, molecules, need_stores, step, variants

from georecon.graph import MolGraph
from georecon.jobs.job import prepare_torch
from georecon.records.record import compute_device

BASE = ("64/3/32", 64)
BATCHES = (8, 16, 32, 64, 128, 256)
CHANNELS = (32, 64, 128, 256)
MERGED = (1, 2, 4, 8)
APART = 7.0  # Å


def points(cores: int) -> Iterator[tuple[str, int, Case, MolGraph, int]]:
    """Axis, its value, encoder, batch and threads of each measurement."""
    size, count = BASE
    base = Case(size, count, "QM9", "energy")
    for batch in BATCHES:
        case = Case(size, batch, "QM9", "energy")
        yield "molecules in a batch", batch, case, molecules(case), cores
    for channels in CHANNELS:
        case = Case(f"{channels}/3/32", count, "QM9", "energy")
        yield "channels", channels, case, molecules(case), cores
    for merged in MERGED:
        case = Case(size, 8, "aspirin", "energy")
        graph = in_rows(molecules(case), merged)
        yield "atoms of a molecule", int(graph.ptr[1]), case, graph, cores
    for threads in sorted({1, max(1, cores // 2), cores}):
        yield "cores", threads, base, molecules(base), threads


def in_rows(graph: MolGraph, merged: int) -> MolGraph:
    """Every ``merged`` molecules of equal size become one, side by side along z."""
    place = torch.arange(graph.num_graphs) % merged
    shift = torch.zeros(graph.num_graphs, 3)
    shift[:, 2] = APART * place
    batch = graph.batch.div(merged, rounding_mode="floor")
    pos: Tensor = graph.pos + shift[graph.batch]
    first, ids = graph.ptr[::merged].contiguous(), graph.ids[::merged].contiguous()
    return MolGraph(graph.z, pos, batch, first, ids)


def cost(case: Case, graph: MolGraph, threads: int, repeats: int) -> dict[str, float]:
    """Median time of a step divided by its atoms, ours and the peer's [µs]."""
    torch.set_num_threads(threads)
    timed = {name: x for name, x in variants(case).items() if name != "ours_bf16"}
    seconds: dict[str, list[float]] = {name: [] for name in timed}
    for _ in range(repeats + 1):
        for name, (trained, bits) in timed.items():
            seconds[name].append(step(trained, graph, bits))
    atoms = len(graph.z)
    return {name: 1e6 * statistics.median(s[1:]) / atoms for name, s in seconds.items()}


def main() -> None:
    """All measurements."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", help="file for the numbers; - for standard output")
    parser.add_argument("--repeats", type=int, default=9)
    options = parser.parse_args()
    need_stores()
    cores = torch.get_num_threads()
    prepare_torch(cores)
    rows: list[dict[str, Any]] = [
        {"axis": axis, "value": value, **cost(case, graph, threads, options.repeats)}
        for axis, value, case, graph, threads in points(cores)
    ]
    report = {
        "torch": torch.__version__,
        "compute": compute_device(),
        "microseconds_per_atom": rows,
    }
    if not publish(report, options.json):
        return
    for row in rows:
        costs = ", ".join(f"{k} {v:.1f} µs" for k, v in row.items() if k not in ("axis", "value"))
        print(f"{row['axis']:>20} {row['value']:>4}: {costs} an atom")


if __name__ == "__main__":
    main()
