"""Training steps of ours against torchmd-net's encoder: same sizes, molecules, heads and losses.

Forward and backward pass, in alternation in one run. Peer: torchmd-net 3.x ``TorchMD_ET`` (``pip
install torchmd-net``) in place of our encoder, and its layers in GeoRecon's decoder; heads and
losses are ours in both. Without it, ours is timed alone and the ratios are null. As shipped it runs
in a process of its own, with the same threads and none of what our jobs set: denormal floats are
not flushed, freed memory goes back to the system. Flushed it runs in ours, with all of that.
Molecules are those that ``make`` stores: QM9, and frames of aspirin. ``ratio`` is
peer time over ours by case, the median over alternating steps, ``ratio_flushed`` against the
flushed peer, ``ratio_bf16`` of our bfloat16 products. With them come quartiles, the shares of the
measured ceilings of matrix products and of memory that ours reaches, and the peak memory of a step,
each in a process of its own. ``traffic`` is what the operations of a step read and write if nothing
stays in a cache. Prints a table; ``--json FILE`` writes the numbers (``-``: to standard output,
alone; a folder: into a file named by the processor).
"""

from __future__ import annotations

import argparse
import copy
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import torch
import yaml
from publish import origin, publish
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode

from georecon import objectives
from georecon.data.store import Store
from georecon.errors import ConfigError
from georecon.experiments.settings import EncoderSettings
from georecon.graph import MolGraph
from georecon.jobs.job import prepare_torch
from georecon.kernels import native
from georecon.kernels.autograd import only
from georecon.models.encoder import EquivariantTransformer
from georecon.models.heads import ScalarHead
from georecon.noise import NoiseSource
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
    Case("256/8/64", 32, "QM9", "georecon__decoder"),
    Case("128/6/32", 8, "aspirin", "energy+force"),
]


class TheirEdges(NamedTuple):
    """What torchmd-net's layers see of the geometry; ``atoms``: first atom of each molecule."""

    index: Tensor
    length: Tensor
    rbf: Tensor
    unit: Tensor
    atoms: Tensor

    def first_molecules(self, count: int) -> TheirEdges:
        """Those of the first molecules of the batch."""
        kept = self.index[1] < self.atoms[count]
        parts = (self.length[kept], self.rbf[kept], self.unit[kept])
        return TheirEdges(self.index[:, kept], *parts, self.atoms[: count + 1])


class TheirLayer(nn.Module):
    """One of torchmd-net's layers where GeoRecon's decoder has ours."""

    def __init__(self, like: nn.Module) -> None:
        super().__init__()
        self.inner: Any = copy.deepcopy(like)
        self.inner.reset_parameters()

    def forward(self, x: Tensor, vec: Tensor, edges: TheirEdges) -> tuple[Tensor, Tensor]:
        dx, dvec = self.inner(x, vec, *edges[:4])
        return dx, dvec


class Theirs(nn.Module):
    """torchmd-net's encoder where ours would be: ``TorchMD_ET.forward``, edges apart."""

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

    def edges(self, graph: MolGraph) -> TheirEdges:
        index, length, vector = self.inner.distance(graph.pos, graph.batch, None)
        rbf = self.inner.distance_expansion(length)
        mask = index[0] != index[1]
        vector[mask] = vector[mask] / torch.norm(vector[mask], dim=1).unsqueeze(1)
        return TheirEdges(index, length, rbf, vector, graph.ptr)

    def forward(self, graph: MolGraph, edges: TheirEdges | None = None) -> tuple[Tensor, Tensor]:
        edges = self.edges(graph) if edges is None else edges
        x = self.inner.embedding(graph.z)
        x = self.inner.neighbor_embedding(graph.z, x, edges.index, edges.length, edges.rbf)
        vec = x.new_zeros(x.size(0), 3, x.size(1))
        for layer in self.inner.attention_layers:
            dx, dvec = layer(x, vec, *edges[:4])
            x, vec = x + dx, vec + dvec
        return self.inner.out_norm(x), vec


def loss_of(case: Case, encoder: nn.Module) -> tuple[nn.Module, Callable[[MolGraph], Tensor]]:
    """The trained module and its loss on a batch."""
    if case.kind in METHODS:
        method = METHODS[case.kind]
        objective: Any = objectives.build(method["objective"], encoder, method["params"])
        if isinstance(encoder, Theirs) and hasattr(objective, "decoder"):
            layer = encoder.inner.attention_layers[0]
            depth = len(objective.decoder.layers)
            objective.decoder.layers = nn.ModuleList(TheirLayer(layer) for _ in range(depth))
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


def variants(case: Case) -> dict[str, tuple[Any, str]]:
    """What runs in this process: name → (trained, precision)."""
    torch.manual_seed(0)
    ours = loss_of(case, EquivariantTransformer(case.settings))
    found = {"ours": (ours, "float32")}
    with suppress(ConfigError):
        check_precision("bf16", "cpu")
        found["ours_bf16"] = (ours, "bf16")
    with suppress(ImportError):
        found["peer_flushed"] = (loss_of(case, Theirs(case.settings)), "float32")
    return found


def need_stores() -> None:
    """End here if ``make`` has not stored the molecules."""
    missing = [path for path in STORES.values() if not Path(path, "manifest.json").exists()]
    if missing:
        sys.exit(f"{missing[0]} is not there: run `make` first")


def molecules(case: Case) -> MolGraph:
    store = Store.open(Path(STORES[case.data]))
    rows = torch.randperm(len(store), generator=torch.Generator().manual_seed(0))
    return load_batch(store, rows[: case.molecules].numpy()).graph


@contextmanager
def as_shipped(case: Case, threads: int) -> Iterator[Callable[[], float]]:
    """The peer in a process of its own; a call takes one step there and gives its seconds."""
    index = str(CASES.index(case))
    command = [sys.executable, __file__, "--threads", str(threads), "--peer", index]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen(command, text=True, **pipes) as process:
        orders, answers = process.stdin, process.stdout
        assert orders is not None
        assert answers is not None

        def peer_step() -> float:
            print("step", file=orders, flush=True)
            for line in answers:
                if line.startswith("seconds "):
                    return float(line.split()[1])
            raise RuntimeError("torchmd-net's process has ended")

        yield peer_step


def serve_peer(case: Case, threads: int) -> None:
    """What :func:`as_shipped` starts: a step for each line that is read."""
    torch.set_num_threads(threads)
    torch.manual_seed(0)
    trained, graph = loss_of(case, Theirs(case.settings)), molecules(case)
    for _ in sys.stdin:
        print("seconds", step(trained, graph, "float32"), flush=True)


def seconds_of_steps(
    case: Case, timed: dict[str, tuple[Any, str]], graph: MolGraph, repeats: int, threads: int
) -> dict[str, list[float]]:
    """Times of all variants in alternation, the first of each left out."""
    steps = {name: partial(step, trained, graph, bits) for name, (trained, bits) in timed.items()}
    with ExitStack() as stack:
        if "peer_flushed" in steps:
            steps["peer"] = stack.enter_context(as_shipped(case, threads))
        rounds = [{name: rested(run) for name, run in steps.items()} for _ in range(repeats + 1)]
    return {name: [seconds[name] for seconds in rounds[1:]] for name in steps}


def rested(run: Callable[[], float]) -> float:
    """A step after the threads of the one before, in the other process, have gone to sleep."""
    time.sleep(0.05)
    return run()


def measure(
    case: Case, repeats: int, threads: int, product_gflops: float, copy_gbs: float
) -> dict[str, Any]:
    """Rates, ratios and their quartiles, shares of the ceilings, memory."""
    timed, graph = variants(case), molecules(case)
    seconds = seconds_of_steps(case, timed, graph, repeats, threads)
    ours = statistics.median(seconds["ours"])
    gflop = product_gflop(timed["ours"][0], graph, case)
    traffic = {
        name.removesuffix("_flushed"): traffic_mb(which, graph, bits) / case.molecules
        for name, (which, bits) in timed.items()
    }
    memory = {name: peak_memory(case, name) for name in ("ours", "peer") if name in seconds}
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
        "share_of_product_ceiling": gflop and gflop / ours / product_gflops,
        "traffic_mb_per_molecule": traffic,
        "share_of_memory_ceiling": traffic["ours"] * case.molecules / 1e3 / ours / copy_gbs,
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


class Traffic(TorchDispatchMode):
    """Counts the bytes of all arrays that operations are given and return, views left out."""

    def __init__(self) -> None:
        super().__init__()
        self.bytes = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        if not func.is_view and "empty" not in func.__name__:
            self.count((args, kwargs, out))
        return out

    def count(self, arrays: Any) -> None:
        tensors = (x for x in tree_leaves(arrays) if isinstance(x, Tensor))
        self.bytes += sum(x.nbytes for x in tensors)


def traffic_mb(trained: tuple[Any, Any], graph: MolGraph, bits: str) -> float:
    """What a step reads and writes [MB]; of a native operation its arrays, each once."""
    run = native.run
    with Traffic() as traffic:

        def counted(entry: str, **arguments: Any) -> None:
            traffic.count(arguments)
            run(entry, **arguments)

        native.run = counted
        try:
            step(trained, graph, bits)
        finally:
            native.run = run
    return traffic.bytes / 1e6


def peak_memory(case: Case, name: str) -> float:
    """Memory that two steps add to a process that holds the model and the molecules [MB]."""
    index = str(CASES.index(case))
    command = [sys.executable, __file__, "--memory", index, name]
    output = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    return float(output.splitlines()[-1])


def report_memory(case: Case, name: str) -> None:
    trained, bits = variants(case)["peer_flushed" if name == "peer" else name]
    graph = molecules(case)
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


def copy_ceiling() -> float:
    """Bytes read and written in a copy of a large array [GB/s], the best of five."""
    source = torch.ones(2**26)
    target = torch.empty_like(source)
    best = float("inf")
    for _ in range(5):
        started = time.perf_counter()
        target.copy_(source)
        best = min(best, time.perf_counter() - started)
    return 2 * source.nbytes / best / 1e9


def show(name: str, case: dict[str, Any]) -> None:
    rates = ", ".join(f"{k} {v:.0f}" for k, v in case["molecules_per_second"].items())
    print(f"{name}: molecules/s {rates}")
    for ratio, (low, median, high) in case["quartiles"].items():
        print(f"    {ratio} {median:.2f} ({low:.2f} to {high:.2f})")
    if case["share_of_product_ceiling"] is not None:
        share = f"{case['share_of_product_ceiling']:.0%} of the product ceiling"
        print(f"    {case['product_gflop_per_molecule']:.2f} GFLOP a molecule, {share}")
    traffic = ", ".join(f"{k} {v:.1f} MB" for k, v in case["traffic_mb_per_molecule"].items())
    share = f"{case['share_of_memory_ceiling']:.0%} of the memory ceiling"
    print(f"    traffic of a molecule: {traffic}; {share}")
    print("    memory: " + ", ".join(f"{k} {v:.0f} MB" for k, v in case["peak_memory_mb"].items()))


def main() -> None:
    """Run all cases."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", help="file or folder for the numbers; - for standard output")
    parser.add_argument("--kinds", nargs="+", default=sorted({case.kind for case in CASES}))
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--memory", nargs=2, help=argparse.SUPPRESS)
    parser.add_argument("--peer", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    need_stores()
    if options.peer is not None:
        serve_peer(CASES[options.peer], options.threads)
        return
    prepare_torch(options.threads)
    if options.memory:
        report_memory(CASES[int(options.memory[0])], options.memory[1])
        return
    ceilings = product_ceiling(), copy_ceiling()
    cases = {
        case.name: measure(case, options.repeats, options.threads, *ceilings)
        for case in CASES
        if case.kind in options.kinds
    }
    report = {
        **origin(),
        "product_ceiling_gflops": ceilings[0],
        "memory_ceiling_gbs": ceilings[1],
        **{
            ratio: {
                name: case["quartiles"].get(ratio, [None] * 3)[1] for name, case in cases.items()
            }
            for ratio in RATIOS
        },
        "cases": cases,
    }
    if not publish(report, options.json, "train_step"):
        return
    print(
        f"ceilings: products {ceilings[0]:.0f} GFLOP/s, memory {ceilings[1]:.0f} GB/s, "
        f"{options.threads} threads"
    )
    for name, case in cases.items():
        show(name, case)


if __name__ == "__main__":
    main()
