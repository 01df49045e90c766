"""Training steps at the laptop edition's sizes, one thread, this checkout against another one.

The whole step of the training loop with its optimiser, in molecules per CPU-second. Each checkout's
steps run in a process of its own, with its own environment, a few at a time in alternation; both
read the molecules that ``make`` has stored here. ``ratio`` has the quartiles over rounds of the
time of the other checkout over ours. Prints a table; ``--json FILE`` writes the numbers (``-``: to
standard output, alone).
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import time
from contextlib import ExitStack
from importlib import import_module
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
CASES = [
    *(f"{kind}, 32/2/32, {batch} x QM9" for batch in (16, 32) for kind in
      ("coord", "georecon", "finetune")),
    "finetune, 32/2/32, 8 x aspirin",
]  # fmt: skip
MODULES = (
    "data.store", "jobs.job", "models.encoder", "models.potential", "stages.finetune",
    "stages.pretrain", "training.batches", "training.loop", "objectives",
)  # fmt: skip
STORES = {"QM9": ("qm9", "gap"), "aspirin": ("xmd17/aspirin", "energy")}


def either(name: str) -> Any:
    """A module where it is now, or where it was before there were folders for jobs and stages."""
    try:
        return import_module(f"georecon.{name}")
    except ModuleNotFoundError:
        return import_module(f"georecon.{name.rpartition('.')[2]}")


def trainer(case: str) -> Any:
    """The training loop of a case, in whichever checkout is imported."""
    import torch
    import yaml

    new: dict[str, Any] = {}
    for name in MODULES:
        new |= vars(either(name))
    kind, size, data = case.split(", ")
    channels, layers, rbf = (int(part) for part in size.split("/"))
    batch, name = data.split(" x ")
    folder, label = STORES[name]
    new["prepare_torch"](1)
    torch.manual_seed(0)
    store = new["Store"].open(ROOT / "resources/store" / folder)
    sizes = new["EncoderSettings"](channels=channels, layers=layers, heads=4, rbf=rbf)
    batches = new["ShuffledBatches"](
        store, store.ids[:], batch_size=int(batch), seed=1,
        label=label if kind == "finetune" else None,
    )  # fmt: skip
    if kind == "finetune":
        task = finetuning(new, sizes, batches, forces=name != "QM9")
    else:
        text = Path("config/methods.yaml").read_text(encoding="utf-8")
        method = yaml.safe_load(text)[kind]
        encoder = new["EquivariantTransformer"](sizes)
        objective = new["build"](method["objective"], encoder, method["params"])
        task = new["PretrainTask"](objective, batches, [], seed=1)
    settings = new["TrainSettings"](
        steps=10**6, batch_size=int(batch), lr=1e-4, weight_decay=0.0, warmup=20,
        schedule="cosine", clip=10.0, evaluations=1, patience=0, checkpoint_seconds=10**9,
    )  # fmt: skip
    return new["Trainer"](task, settings, Path("state"), "benchmark")


def finetuning(new: dict[str, Any], sizes: Any, batches: Any, *, forces: bool) -> Any:
    """Fine-tuning on one property, or on energies and forces, with Noisy Nodes."""
    import torch

    options: dict[str, Any] = {"energy_weight": 0.2, "force_weight": 0.8} if forces else {}
    if "fitted" in new["Recipe"].__dataclass_fields__:
        options["fitted"] = False
    recipe = new["Recipe"](
        head="scalar", loss="mse", standardize=True, atomref={}, noise_sigma=0.005,
        noise_weight=0.1, **options,
    )  # fmt: skip
    zeros = torch.zeros(sizes.max_z)
    model = new["PropertyModel"](sizes, "scalar", scale=1.0, shift=0.0, atomref=zeros)
    model = new["FinetuneModel"](model, sizes.channels)
    return new["FinetuneTask"](model, recipe, batches, [], seed=1)


def serve(case: str) -> None:
    """Steps of a case: as many as each line of the input says; their CPU seconds as the answer."""
    run = trainer(case)
    for line in sys.stdin:
        before = time.process_time()
        for _ in range(int(line)):
            run.train_step()
        print("seconds", time.process_time() - before, flush=True)


class Server:
    """Steps of a case in a checkout of its own."""

    def __init__(self, checkout: Path, case: str, stack: ExitStack) -> None:
        python = checkout / ".venv/bin/python"
        environment = {**os.environ, "PYTHONPATH": str(checkout / "src")}
        pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
        command = [str(python), __file__, "--serve", case]
        self.process = stack.enter_context(
            subprocess.Popen(command, text=True, cwd=checkout, env=environment, **pipes)
        )

    def steps(self, count: int) -> float:
        """CPU seconds of a step."""
        orders, answers = self.process.stdin, self.process.stdout
        assert orders is not None
        assert answers is not None
        print(count, file=orders, flush=True)
        for line in answers:
            if line.startswith("seconds "):
                return float(line.split()[1]) / count
        raise RuntimeError("the other process has ended")


def measure(case: str, checkouts: dict[str, Path], rounds: int, steps: int) -> dict[str, Any]:
    """Rates of both checkouts and quartiles of their ratio."""
    with ExitStack() as stack:
        servers = {name: Server(path, case, stack) for name, path in checkouts.items()}
        for server in servers.values():
            server.steps(5)
        found = [{n: server.steps(steps) for n, server in servers.items()} for _ in range(rounds)]
    molecules = int(case.rpartition(", ")[2].partition(" x ")[0])
    ratios = [times["before"] / times["now"] for times in found]
    return {
        "molecules_per_cpu_second": {
            name: molecules / statistics.median(times[name] for times in found) for name in servers
        },
        "ratio": statistics.quantiles(ratios, n=4, method="inclusive"),
    }


def commit(checkout: Path) -> str:
    """Which one a checkout holds."""
    command = ["git", "-C", str(checkout), "rev-parse", "--short", "HEAD"]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


def main() -> None:
    """Run all cases."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--before", type=Path, help="the other checkout, with its own .venv")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--steps", type=int, default=6, help="of a round")
    parser.add_argument("--json", help="file or folder for the numbers; - for standard output")
    parser.add_argument("--cases", nargs="+", default=CASES)
    parser.add_argument("--serve", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve:
        serve(options.serve)
        return
    if options.before is None:
        parser.error("--before: which checkout to compare with")
    from publish import origin, publish

    from georecon.jobs.job import prepare_torch

    prepare_torch(1)
    checkouts = {"before": options.before.resolve(), "now": ROOT}
    cases = {}
    for case in options.cases:
        cases[case] = found = measure(case, checkouts, options.rounds, options.steps)
        rates, (low, middle, high) = found["molecules_per_cpu_second"], found["ratio"]
        if options.json != "-":
            print(
                f"{case}: {rates['before']:.0f} -> {rates['now']:.0f} molecules a CPU-second, "
                f"{middle:.2f} ({low:.2f} to {high:.2f})"
            )
    publish(
        {**origin(), "before": commit(checkouts["before"]), "cases": cases},
        options.json,
        "laptop_step",
    )


if __name__ == "__main__":
    main()
