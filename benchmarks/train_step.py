"""Training steps of our encoder against torchmd-net's: same sizes and molecules, in alternation.

Peer: torchmd-net 3.x ``TorchMD_ET`` (``pip install torchmd-net``), as shipped and with denormal
floats flushed. Without it, ours is timed alone and the ratio is null. Molecules: QM9 from the store
that ``make`` builds. Prints a table; ``--json FILE`` writes the numbers (``-``: to standard output,
alone).
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from pathlib import Path

import torch
from torch import nn

from georecon.data.store import Store
from georecon.graph import MolGraph
from georecon.job import prepare_torch
from georecon.models.encoder import EncoderSettings, EquivariantTransformer
from georecon.models.heads import ScalarHead
from georecon.training.batches import load_batch

STORE = Path("resources/store/qm9")
SIZES = {"32/2/32": (32, 2, 4, 32), "64/3/32": (64, 3, 8, 32), "256/8/64": (256, 8, 8, 64)}


class Ours(nn.Module):
    """Encoder and scalar head."""

    def __init__(self, channels: int, layers: int, heads: int, rbf: int) -> None:
        super().__init__()
        settings = EncoderSettings(
            channels=channels, layers=layers, heads=heads, rbf=rbf, vector_norm="none"
        )
        self.encoder = EquivariantTransformer(settings)
        self.head = ScalarHead(channels)

    def forward(self, graph: MolGraph) -> torch.Tensor:
        return self.head(*self.encoder(graph), graph)


class Theirs(nn.Module):
    """torchmd-net's encoder with the same head."""

    def __init__(self, channels: int, layers: int, heads: int, rbf: int) -> None:
        super().__init__()
        from torchmdnet.models.torchmd_et import TorchMD_ET

        self.encoder = TorchMD_ET(
            hidden_channels=channels,
            num_layers=layers,
            num_heads=heads,
            num_rbf=rbf,
            trainable_rbf=False,
            max_num_neighbors=32,
        )
        self.head = ScalarHead(channels)

    def forward(self, graph: MolGraph) -> torch.Tensor:
        x, vec, *_ = self.encoder(graph.z, graph.pos, graph.batch)
        return self.head(x, vec, graph)


def step(model: nn.Module, graph: MolGraph, *, forces: bool) -> float:
    """Seconds of one forward and backward pass; with forces, of the force loss as well."""
    started = time.perf_counter()
    model.zero_grad(set_to_none=True)
    pos = graph.pos.detach().requires_grad_(forces)
    energy = model(graph._replace(pos=pos))
    loss = energy.square().mean()
    if forces:
        (gradient,) = torch.autograd.grad(energy.sum(), pos, create_graph=True)
        loss = loss + gradient.square().mean()
    loss.backward()
    return time.perf_counter() - started


def measure(size: str, *, molecules: int, forces: bool, repeats: int) -> dict[str, object]:
    """Median molecules/s of both and the ratio, over alternating steps."""
    store = Store.open(STORE)
    rows = torch.randperm(len(store), generator=torch.Generator().manual_seed(0))[:molecules]
    graph = load_batch(store, rows.numpy()).graph
    models = {"ours": (Ours(*SIZES[size]), True)}
    try:
        peer = Theirs(*SIZES[size])
        models |= {"peer": (peer, False), "peer_flushed": (peer, True)}
    except ImportError:
        pass
    seconds: dict[str, list[float]] = {name: [] for name in models}
    for repeat in range(repeats + 1):
        for name, (model, flush) in models.items():
            torch.set_flush_denormal(flush)
            elapsed = step(model, graph, forces=forces)
            if repeat:
                seconds[name].append(elapsed)
    rates = {name: molecules / statistics.median(values) for name, values in seconds.items()}
    result: dict[str, object] = {
        "molecules_per_second": rates,
        "ratio": None,
        "ratio_flushed": None,
    }
    if "peer" in rates:
        result["ratio"] = rates["ours"] / rates["peer"]
        result["ratio_flushed"] = rates["ours"] / rates["peer_flushed"]
    return result


def main() -> None:
    """Run all cases."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", help="file for the numbers; - for standard output")
    parser.add_argument("--sizes", nargs="+", default=["32/2/32", "64/3/32"], choices=list(SIZES))
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    if not (STORE / "manifest.json").exists():
        sys.exit(f"{STORE} is not there: run `snakemake --cores all {STORE}/manifest.json` first")
    prepare_torch(options.threads)
    cases = {}
    for size in options.sizes:
        for name, molecules, forces in (("energy", 32, False), ("energy+force", 8, True)):
            found = measure(size, molecules=molecules, forces=forces, repeats=options.repeats)
            cases[f"{size} {name}"] = found
    report = {"torch": torch.__version__, "threads": options.threads, "cases": cases}
    report["ratio"] = {name: case["ratio"] for name, case in cases.items()}
    text = json.dumps(report, indent=2)
    if options.json == "-":
        print(text)
        return
    if options.json:
        Path(options.json).write_text(text + "\n", encoding="utf-8")
    for name, case in cases.items():
        rates = ", ".join(f"{k} {v:.0f}" for k, v in case["molecules_per_second"].items())
        print(f"{name:24s} molecules/s: {rates}; ratio {case['ratio'] or 'no peer'}")


if __name__ == "__main__":
    main()
