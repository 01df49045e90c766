"""Training steps of ours against torchmd-net's encoder: same sizes, molecules, heads and losses.

Forward and backward pass, in alternation in one run. Peer: torchmd-net 3.x ``TorchMD_ET`` (``pip
install torchmd-net``) in place of our encoder, as shipped and with denormal floats flushed; without
it, ours is timed alone and the ratios are null. Molecules are those that ``make`` stores: QM9, and
frames of aspirin. ``ratio`` is peer time over ours by case, the median over alternating steps,
``ratio_flushed`` against the flushed peer, ``ratio_bf16`` of our bfloat16 products. With them come
quartiles, the share of the measured ceiling that our matrix products reach, and the peak memory of
a step, each in a process of its own. Prints a table; ``--json FILE`` writes the numbers (``-``: to
standard output, alone).
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import yaml
from publish import publish
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from georecon import objectives
from georecon.data.store import Store
from georecon.errors import ConfigError
from georecon.graph import MolGraph
from georecon.job import prepare_torch
from georecon.models.encoder import EdgeFeatures, EncoderSettings, EquivariantTransformer
from georecon.models.heads import ScalarHead
from georecon.models.twice import only
from georecon.noise import NoiseSource
from georecon.provenance import compute_device
from georecon.training.batches import load_batch
from georecon.training.precision import check_precision, products

STORES = {"QM9": "resources/store/qm9", "aspirin": "resources/store/xmd17/aspirin"}
RATIOS = {
    "ratio": ("ours", "peer"),
    "ratio_flushed": ("ours", "peer_flushed"),
    "ratio_bf16": ("ours_bf16", "peer"),
    "ratio_bf16_flushed": ("ours_bf16", "peer_flushed"),
}
METHODS = yaml.safe_load(Path("config/methods.yaml").read_text(encoding="utf-8"))


@dataclass(frozen=True)
class Case:
    """A step: sizes as channels/layers/radial functions, molecules of a store, what is trained."""

    size: str
    molecules: int
    data: str
    kind: str

    @property
    def name(self) -> str:
        return f"{self.kind}, {self.size}, {self.molecules} x {self.data}"

    @property
    def settings(self) -> EncoderSettings:
        channels, layers, rbf = (int(part) for part in self.size.split("/"))
        return EncoderSettings(channels=channels, layers=layers, rbf=rbf, vector_norm="none")


CASES = [
    Case("64/3/32", 64, "QM9", "energy"),
    Case("64/3/32", 64, "QM9", "coord"),
    Case("256/8/64", 64, "QM9", "energy"),
    Case("256/8/64", 64, "QM9", "coord"),
    Case("256/8/64", 32, "QM9", "georecon"),
    Case("128/6/32", 8, "aspirin", "energy+force"),
]


class Theirs(nn.Module):
    """torchmd-net's encoder where ours would be; GeoRecon's decoder keeps our edges."""

    def __init__(self, settings: EncoderSettings) -> None:
        super().__init__()
        from torchmdnet.models.torchmd_et import TorchMD_ET

        self.settings = settings
        self.inner = TorchMD_ET(
            hidden_channels=settings.channels,
            num_layers=settings.layers,
            num_heads=settings.heads,
            num_rbf=settings.rbf,
            trainable_rbf=False,
            max_num_neighbors=settings.max_neighbors,
        )
        self._ours = [EquivariantTransformer(settings)]  # not a submodule: its edges only

    def edges(self, graph: MolGraph) -> EdgeFeatures:
        return self._ours[0].edges(graph)

    def forward(self, graph: MolGraph, edges: EdgeFeatures | None = None) -> tuple[Tensor, Tensor]:
        x, vec, *_ = self.inner(graph.z, graph.pos, graph.batch)
        return x, vec


def loss_of(case: Case, encoder: nn.Module) -> tuple[nn.Module, Callable[[MolGraph], Tensor]]:
    """The trained module and its loss on a batch."""
    if case.kind in METHODS:
        method = METHODS[case.kind]
        objective = objectives.build(method["objective"], encoder, method["params"])
        return objective, lambda graph: objective(graph, NoiseSource(1, 0))["loss"]
    model = nn.ModuleDict({"encoder": encoder, "head": ScalarHead(case.settings.channels)})

    def loss(graph: MolGraph) -> Tensor:
        forces = case.kind == "energy+force"
        pos = graph.pos.detach().requires_grad_(forces)
        graph = graph._replace(pos=pos)
        energy = model["head"](*model["encoder"](graph), graph)
        if not forces:
            return energy.square().mean()
        with only("positions"):
            (gradient,) = torch.autograd.grad(energy.sum(), pos, create_graph=True)
        return energy.square().mean() + gradient.square().mean()

    return model, loss


def step(
    trained: tuple[nn.Module, Callable[[MolGraph], Tensor]], graph: MolGraph, bits: str
) -> float:
    """Seconds of one forward and backward pass."""
    model, loss = trained
    started = time.perf_counter()
    model.zero_grad(set_to_none=True)
    with products(bits):
        value = loss(graph)
    with only("weights"):
        value.backward(inputs=[p for p in model.parameters() if p.requires_grad])
    return time.perf_counter() - started


def variants(case: Case) -> dict[str, tuple[Any, bool, str]]:
    """Name → (trained, whether denormal floats are flushed, precision)."""
    torch.manual_seed(0)
    ours = loss_of(case, EquivariantTransformer(case.settings))
    found = {"ours": (ours, True, "float32")}
    try:
        check_precision("bf16", "cpu")
        found["ours_bf16"] = (ours, True, "bf16")
    except ConfigError:
        pass
    try:
        peer = loss_of(case, Theirs(case.settings))
        found |= {"peer": (peer, False, "float32"), "peer_flushed": (peer, True, "float32")}
    except ImportError:
        pass
    return found


def molecules(case: Case) -> MolGraph:
    store = Store.open(Path(STORES[case.data]))
    rows = torch.randperm(len(store), generator=torch.Generator().manual_seed(0))
    return load_batch(store, rows[: case.molecules].numpy()).graph


def measure(case: Case, repeats: int, ceiling: float) -> dict[str, Any]:
    """Rates, ratios and their quartiles, share of the ceiling, memory."""
    graph, timed = molecules(case), variants(case)
    seconds: dict[str, list[float]] = {name: [] for name in timed}
    for repeat in range(repeats + 1):
        for name, (trained, flush, bits) in timed.items():
            torch.set_flush_denormal(flush)
            elapsed = step(trained, graph, bits)
            if repeat:
                seconds[name].append(elapsed)
    torch.set_flush_denormal(True)
    ours = statistics.median(seconds["ours"])
    gflop = product_gflop(timed["ours"][0], graph, case)
    memory = {name: peak_memory(case, name) for name in ("ours", "peer") if name in timed}
    return {
        "molecules_per_second": {
            name: case.molecules / statistics.median(values) for name, values in seconds.items()
        },
        "quartiles": {
            name: quartiles(seconds[theirs], seconds[mine])
            for name, (mine, theirs) in RATIOS.items()
            if mine in seconds and theirs in seconds
        },
        "product_gflop_per_molecule": gflop and gflop / case.molecules,
        "share_of_product_ceiling": gflop and gflop / ours / ceiling,
        "peak_memory_mb": memory,
    }


def product_gflop(trained: tuple[Any, Any], graph: MolGraph, case: Case) -> float | None:
    """Operations of the matrix products of a step; torch cannot count those of forces."""
    if case.kind == "energy+force":
        return None
    with FlopCounterMode(display=False) as counter:
        step(trained, graph, "float32")
    return float(counter.get_total_flops()) / 1e9


def quartiles(theirs: list[float], ours: list[float]) -> list[float]:
    """Quartiles of the ratio of times, step by step; the second is the median."""
    ratios = [a / b for a, b in zip(theirs, ours, strict=True)]
    return statistics.quantiles(ratios, n=4, method="inclusive")


def peak_memory(case: Case, name: str) -> float:
    """Memory that two steps add to a process that holds the model and the molecules [MB]."""
    index = str(CASES.index(case))
    command = [sys.executable, __file__, "--memory", index, name]
    output = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    return float(output.splitlines()[-1])


def report_memory(case: Case, name: str) -> None:
    trained, flush, bits = variants(case)[name]
    graph = molecules(case)
    torch.set_flush_denormal(flush)
    before = peak_so_far()
    for _ in range(2):
        step(trained, graph, bits)
    print(peak_so_far() - before)


def peak_so_far() -> float:
    """Peak resident memory of this process [MB]; getrusage's includes that of its parent."""
    lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    (peak,) = (line for line in lines if line.startswith("VmHWM:"))
    return int(peak.split()[1]) / 1024


def product_ceiling() -> float:
    """Rate of a large float32 matrix product [GFLOP/s], the best of five."""
    size = 2048
    a, b = torch.randn(size, size), torch.randn(size, size)
    best = float("inf")
    for _ in range(5):
        started = time.perf_counter()
        a @ b
        best = min(best, time.perf_counter() - started)
    return 2 * size**3 / best / 1e9


def show(name: str, case: dict[str, Any]) -> None:
    rates = ", ".join(f"{k} {v:.0f}" for k, v in case["molecules_per_second"].items())
    print(f"{name}: molecules/s {rates}")
    for ratio, (low, median, high) in case["quartiles"].items():
        print(f"    {ratio} {median:.2f} ({low:.2f} to {high:.2f})")
    if case["share_of_product_ceiling"] is not None:
        share = f"{case['share_of_product_ceiling']:.0%} of the product ceiling"
        print(f"    {case['product_gflop_per_molecule']:.2f} GFLOP a molecule, {share}")
    print("    memory: " + ", ".join(f"{k} {v:.0f} MB" for k, v in case["peak_memory_mb"].items()))


def main() -> None:
    """Run all cases."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", help="file for the numbers; - for standard output")
    parser.add_argument("--kinds", nargs="+", default=sorted({case.kind for case in CASES}))
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--memory", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    missing = [path for path in STORES.values() if not Path(path, "manifest.json").exists()]
    if missing:
        sys.exit(f"{missing[0]} is not there: run `make` first")
    prepare_torch(options.threads)
    if options.memory:
        report_memory(CASES[int(options.memory[0])], options.memory[1])
        return
    ceiling = product_ceiling()
    cases = {
        case.name: measure(case, options.repeats, ceiling)
        for case in CASES
        if case.kind in options.kinds
    }
    report = {
        "torch": torch.__version__,
        "compute": compute_device(),
        "product_ceiling_gflops": ceiling,
        **{
            ratio: {
                name: case["quartiles"].get(ratio, [None] * 3)[1] for name, case in cases.items()
            }
            for ratio in RATIOS
        },
        "cases": cases,
    }
    if not publish(report, options.json):
        return
    print(f"product ceiling {ceiling:.0f} GFLOP/s, {options.threads} threads")
    for name, case in cases.items():
        show(name, case)


if __name__ == "__main__":
    main()
