"""Memory that a training step keeps between its forward and its backward pass, by path.

A pre-training step (coord) and a force step (energy+force) of molecules made here at the density of
organic matter, for each path: the equations in torch operations, the kernels for CPUs, Triton's.
Counted is what autograd has saved when the last backward pass begins, each storage once, weights
left out. A law ``bytes = (a N + b E + c) F L + (d N + e E) F + f E`` in atoms N, edges E, channels
F and layers L is fitted and applied to the largest system of MD22 at the paper's batch, 32 x 370
atoms at 256/8/64. On a CUDA GPU that step is taken too where it fits, and ``peak`` is the most that
a step has allocated, with what exists for one layer at a time. Without a GPU Triton's kernels are
left out of their steps: what is kept does not depend on numbers. Prints tables; ``--json FILE``
writes the numbers (``-``: to standard output, alone; a folder: into a file named by the processor).
"""

from __future__ import annotations

import argparse
import importlib
import importlib.util
import os
import weakref
from collections import defaultdict
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from gpu_step import use
from publish import origin, publish
from torch import Tensor
from torch.autograd.graph import saved_tensors_hooks
from train_step import Case, loss_of

from georecon.graph import MolGraph, make_graph
from georecon.jobs.job import prepare_torch
from georecon.kernels import native
from georecon.kernels.autograd import only
from georecon.kernels.neighbors import radius_edges
from georecon.models.encoder import EquivariantTransformer

KINDS = ("coord", "energy+force")
RBF = 64
POINTS = [
    (channels, layers, molecules, atoms)
    for channels, layers in ((16, 1), (16, 3), (48, 1), (48, 2))
    for molecules, atoms in ((20, 10), (1, 40), (4, 40), (2, 120))
]
"""Channels, layers, molecules, atoms of each."""
LARGEST = (256, 8, 32, 370)
SPACING = 2.1  # Å between the places of a cubic lattice that atoms are near


@dataclass(eq=False)
class Held:
    """A tensor that autograd has saved."""

    tensor: Tensor


class Step(NamedTuple):
    """What a step is made of."""

    case: Case
    graph: MolGraph
    edges: int


def lumps(molecules: int, atoms: int, device: str) -> MolGraph:
    """Molecules of so many atoms each, carbon, about the places of a lattice."""
    generator, side = torch.Generator().manual_seed(0), round(atoms ** (1 / 3) + 0.499)
    places = torch.cartesian_prod(*[torch.arange(side, dtype=torch.float32)] * 3)
    places = places[places.square().sum(1).argsort()[:atoms]].repeat(molecules, 1)
    pos = SPACING * places + 0.2 * torch.randn(len(places), 3, generator=generator)
    counts = torch.full((molecules,), atoms)
    return make_graph(torch.full((len(pos),), 6), pos, counts, torch.arange(molecules)).to(device)


def make_step(kind: str, size: tuple[int, int, int, int], device: str) -> Step:
    channels, layers, molecules, atoms = size
    case = Case(f"{channels}/{layers}/{RBF}", molecules, f"{atoms} atoms", kind)
    graph = lumps(molecules, atoms, device)
    edges = radius_edges(graph, case.settings.cutoff, case.settings.max_neighbors)
    return Step(case, graph, len(edges.source))


def kept_and_peak(made: Step, device: str) -> tuple[int, float | None]:
    """Bytes that autograd keeps, and on a GPU the peak of the whole step [MB]."""
    torch.manual_seed(0)
    if device == "cuda":
        torch.cuda.reset_peak_memory_stats()
    with torch.device(device):
        model, loss = loss_of(made.case, EquivariantTransformer(made.case.settings))
    mine = {x.untyped_storage().data_ptr() for x in [*model.parameters(), *model.buffers()]}
    saved: weakref.WeakSet[Held] = weakref.WeakSet()

    def pack(tensor: Tensor) -> Held:
        held = Held(tensor)
        saved.add(held)
        return held

    before = torch.cuda.memory_allocated() if device == "cuda" else 0
    with saved_tensors_hooks(pack, lambda held: held.tensor):
        value = loss(made.graph)
    storages = {x.data_ptr(): x.nbytes() for h in saved for x in [h.tensor.untyped_storage()]}
    kept = sum(size for place, size in storages.items() if place not in mine)
    if device != "cuda":
        return kept, None
    with only("weights"):
        value.backward(inputs=[p for p in model.parameters() if p.requires_grad])
    return kept, (torch.cuda.max_memory_allocated() - before) / 2**20


def terms(step: Step) -> dict[str, float]:
    """What the law's factors are multiplied by."""
    n, e, f = len(step.graph.z), step.edges, step.case.settings.channels
    layers = step.case.settings.layers
    return {"N F L": n * f * layers, "E F L": e * f * layers, "F L": f * layers,
            "N F": n * f, "E F": e * f, "E": e}  # fmt: skip


def fitted(steps: list[Step], kept: list[int]) -> tuple[dict[str, float], float]:
    """The law's factors [bytes], by least squares of relative errors; the largest of those."""
    sizes = zip(steps, kept, strict=True)
    rows = [[x / size for x in terms(step).values()] for step, size in sizes]
    found, *_ = np.linalg.lstsq(np.array(rows), np.ones(len(rows)), rcond=None)
    error = float(np.abs(rows @ found - 1).max())
    return dict(zip(terms(steps[0]), found.tolist(), strict=True)), error


def paths(device: str) -> list[str]:
    """Kernels whose steps can be taken here; Triton's only without its kernels on a CPU."""
    names = ["reference"]
    if device == "cpu" and native.library() is not None:
        names.append("native")
    if importlib.util.find_spec("triton") is None:
        return names
    if device == "cpu":
        os.environ["TRITON_INTERPRET"] = "1"
        code = importlib.import_module("georecon.kernels.attention_triton_kernels")
        nothing: Any = defaultdict(lambda: lambda *arrays, **sizes: None)  # for any grid
        for name in ("forward", "backward_atoms", "backward_pairs", "join_loops"):
            setattr(code, name, nothing)
    return [*names, "triton"]


def measure(kind: str, path: str, device: str) -> dict[str, Any]:
    """All sizes, the law, and what it says of the largest system; its peak on a GPU."""
    use(path)
    steps = [make_step(kind, size, device) for size in POINTS]
    found = [kept_and_peak(step, device) for step in steps]
    factors, error = fitted(steps, [kept for kept, _ in found])
    largest = make_step(kind, LARGEST, device)
    estimate = sum(factors[name] * x for name, x in terms(largest).items())
    report = {
        "points": [
            {"size": step.case.name, "atoms": len(step.graph.z), "edges": step.edges,
             "kept_mb": kept / 2**20, "peak_mb": peak}
            for step, (kept, peak) in zip(steps, found, strict=True)
        ],
        "bytes_per": factors,
        "largest_relative_error": error,
        "largest": {"atoms": len(largest.graph.z), "edges": largest.edges,
                    "estimated_kept_gb": estimate / 2**30},
    }  # fmt: skip
    if device == "cuda" and estimate < 0.6 * torch.cuda.get_device_properties(0).total_memory:
        kept, peak = kept_and_peak(largest, device)
        report["largest"] |= {"kept_gb": kept / 2**30, "peak_gb": (peak or 0) / 2**10}
    return report


def show(name: str, found: dict[str, Any]) -> None:
    law = " + ".join(f"{value:.1f} {term}" for term, value in found["bytes_per"].items())
    last, largest = found["points"][-1], found["largest"]
    print(f"{name}: bytes = {law} (off by {found['largest_relative_error']:.1%} at most)")
    print(f"    {last['size']} ({last['edges']} edges): {last['kept_mb']:.1f} MB kept")
    text = f"{largest['atoms']} atoms, {largest['edges']} edges at 256/8/64: "
    text += f"{largest['estimated_kept_gb']:.1f} GB kept by the law"
    if "peak_gb" in largest:
        text += f", {largest['kept_gb']:.1f} GB measured, {largest['peak_gb']:.1f} GB at the peak"
    print("    " + text)


def main() -> None:
    """All steps on all paths."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", help="file or folder for the numbers; - for standard output")
    options = parser.parse_args()
    device = "cuda" if torch.cuda.is_available() else "cpu"
    prepare_torch(torch.get_num_threads())
    start = origin()
    steps = {f"{kind}, {path}": measure(kind, path, device)
             for path in paths(device) for kind in KINDS}  # fmt: skip
    if publish({**start, "steps": steps}, options.json, "memory"):
        for name, found in steps.items():
            show(name, found)


if __name__ == "__main__":
    main()
