"""SDF records per second of our reader against RDKit's and against plain decompression.

Peer: RDKit's ``ForwardSDMolSupplier(sanitize=False, removeHs=False)`` on the same .sdf.gz, with
atomic numbers and positions of each molecule taken into NumPy arrays; with ``sanitize=True``, its
default, for information. Both start from the compressed file. All are timed in alternation; ratios
are taken within a round; the median over rounds counts and ``spread`` holds the lowest and highest.
RDKit reads the first copies only, ours all: its rate does not depend on how many. On a busy machine
see ``by_cpu_time``: the same figures from the CPU time of the busiest process instead of the clock,
which is what free cores would give.

Files: real records of the mirror folder ($GEORECON_MIRROR, else ../shared/data), repeated as often
as ``--copies`` says. Peak memory is that of the reader and its worker together, in the whole of
rule preprocess on a .sdf.tar.gz ten times larger. The projection to PCQM4Mv2's 3,378,606 records
scales by compressed bytes a record: 1,559,712,928 / 3,378,606 = 462 there, as printed here.
Prints a table; ``--json FILE`` writes the numbers (``-``: to standard output, alone).
"""

from __future__ import annotations

import argparse
import gzip
import os
import statistics
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from publish import publish

from georecon.data.readers.sdf import iter_sdf
from georecon.experiments.config import load_config
from georecon.keys import as_json
from georecon.stages.preprocess import preprocess

ROOT = Path(__file__).resolve().parents[1]
MIRROR = Path(os.environ.get("GEORECON_MIRROR") or ROOT.parent / "shared" / "data")
FILES = {
    "conformers": "pretrain/conformers/conformer_benchmark_neutral_subset.sdf.gz",
    "gdb9": "qm9/raw/gdb9_subset12000.sdf.gz",
}
PCQM4MV2_RECORDS, PCQM4MV2_BYTES = 3_378_606, 1_559_712_928  # of the .sdf.tar.gz
_READ = 1 << 20


def make_gz(source: Path, copies: int, target: Path) -> None:
    """Repeat a .gz file: compressed members one after the other are one .gz file."""
    data = source.read_bytes()
    with open(target, "wb") as out:
        for _ in range(copies):
            out.write(data)


def make_tar_gz(source: Path, copies: int, target: Path) -> None:
    """A .tar.gz around so many copies, without compressing them again."""
    data = source.read_bytes()
    info = tarfile.TarInfo("records.sdf")
    info.size = copies * len(gzip.decompress(data))
    padding = bytes(-info.size % tarfile.BLOCKSIZE + 2 * tarfile.BLOCKSIZE)
    with open(target, "wb") as out:
        out.write(gzip.compress(info.tobuf()))
        for _ in range(copies):
            out.write(data)
        out.write(gzip.compress(padding))


def decompress(path: Path) -> int:
    """Bytes of a .gz file, decompressed and dropped."""
    count = 0
    with gzip.open(path) as handle:
        while block := handle.read(_READ):
            count += len(block)
    return count


def ours(path: Path, processes: int) -> int:
    """Molecules that our reader gives."""
    return sum(len(chunk) for chunk in iter_sdf(path, processes=processes))


def theirs(path: Path, limit: int, *, sanitize: bool) -> int:
    """Records that RDKit goes through, those that it refuses included."""
    from rdkit import Chem, rdBase

    quiet = rdBase.BlockLogs()
    z, pos = [], []
    count = 0
    with gzip.open(path) as handle:
        supplier = Chem.ForwardSDMolSupplier(handle, sanitize=sanitize, removeHs=False)
        for count, molecule in enumerate(supplier, 1):
            if molecule is not None:
                z.append(np.array([atom.GetAtomicNum() for atom in molecule.GetAtoms()], np.uint8))
                pos.append(molecule.GetConformer().GetPositions())
            if count == limit:
                break
    del quiet
    return count


def store(path: Path) -> int:
    """Molecules in the store that rule preprocess makes of a file with two threads."""
    source = {"reader": "sdf", "max_rejected": 0, "files": {"archive": {"name": path.name}}}
    card = as_json(load_config(ROOT / "config", {"edition": "paper"}).datasets["pcqm4mv2"]) | {
        "expected_molecules": None,
        "default_source": "benchmark",
        "sources": {"benchmark": source},
    }
    with tempfile.TemporaryDirectory(dir=path.parent) as folder:
        manifest = preprocess(card, path.parent, Path(folder) / "store", processes=2)
    return manifest.counts.molecules


class Rate(NamedTuple):
    """Items per second, and per CPU second of the busiest process."""

    wall: float
    cpu: float


def rate(task: Callable[[], int]) -> Rate:
    """Run once; processes that it starts have ended when it does, at most one at a time."""
    before, started = os.times(), time.perf_counter()
    count = task()
    wall, after = time.perf_counter() - started, os.times()
    here = after.user + after.system - before.user - before.system
    child = after.children_user + after.children_system
    child -= before.children_user + before.children_system
    return Rate(count / wall, count / max(here, child))


def measure(source: Path, folder: Path, *, copies: int, repeats: int) -> dict[str, Any]:
    """Rates of all, and the ratios of each round."""
    gz, tar = folder / "records.sdf.gz", folder / "records.sdf.tar.gz"
    make_gz(source, copies, gz)
    make_tar_gz(source, copies, tar)
    records = ours(gz, 1)
    some = max(1, 2 * records // copies)
    tasks: dict[str, Callable[[], int]] = {
        "rdkit": lambda: theirs(gz, some, sanitize=False),
        "rdkit_sanitized": lambda: theirs(gz, some // 4, sanitize=True),
        "ours": lambda: ours(gz, 1),
        "ours_two_processes": lambda: ours(gz, 2),
        "preprocess_two_threads": lambda: store(tar),
    }
    size = decompress(gz)
    tasks["decompression"] = lambda: decompress(gz) * records // size
    rounds = [{name: rate(task) for name, task in tasks.items()} for _ in range(repeats)]
    larger = PCQM4MV2_BYTES / gz.stat().st_size  # than this file
    wall = figures([{k: v.wall for k, v in one.items()} for one in rounds], larger * records)
    cpu = figures([{k: v.cpu for k, v in one.items()} for one in rounds], larger * records)
    return {
        "records": records,
        "bytes_per_record": size / records,
        "compressed_bytes_per_record": gz.stat().st_size / records,
        **wall,
        "by_cpu_time": cpu,
    }


def figures(rounds: list[dict[str, float]], records: float) -> dict[str, Any]:
    """Medians of rates and ratios, and minutes for so many records of this size."""

    def over(key: str, base: str) -> list[float]:
        return [one[key] / one[base] for one in rounds]

    two = "ours_two_processes"
    found = {
        "ratio_per_core": over("ours", "rdkit"),
        "ratio_per_core_sanitized": over("ours", "rdkit_sanitized"),
        "ratio_two_cores": over(two, "rdkit"),
        "fraction_of_decompression": over(two, "decompression"),
        "projected_minutes": [records / one[two] / 60 for one in rounds],
        "projected_minutes_preprocess": [
            records / one["preprocess_two_threads"] / 60 for one in rounds
        ],
    }
    rates = {name: statistics.median(one[name] for one in rounds) for name in rounds[0]}
    return {
        "records_per_second": rates,
        **{key: statistics.median(values) for key, values in found.items()},
        "spread": {key: [min(values), max(values)] for key, values in found.items()},
    }


def peak_memory(source: Path, folder: Path, copies: int) -> float:
    """Peak resident memory [MB] of reader and worker in rule preprocess, on so many copies."""
    tar = folder / "larger.sdf.tar.gz"
    make_tar_gz(source, copies, tar)
    command = [sys.executable, str(Path(__file__)), "--peak", str(tar)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return float(done.stdout)


def print_peak(path: Path) -> None:
    """Make the store, then print the peak of this process and of its largest child [MB]."""
    import resource

    store(path)
    here = Path("/proc/self/status").read_text(encoding="ascii")
    peak = int(here.split("VmHWM:")[1].split()[0])
    peak += resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
    print(peak * 1024 / 1e6)


def main() -> None:
    """Both files; the first one's figures are also at the top level."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", help="file for the numbers; - for standard output")
    parser.add_argument("--copies", type=int, default=20, help="of the mirror's records")
    parser.add_argument("--repeats", type=int, default=5, help="rounds")
    parser.add_argument("--peak", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.peak:
        print_peak(options.peak)
        return
    missing = [name for name in FILES.values() if not (MIRROR / name).is_file()]
    if missing:
        print(f"skipped: no {missing[0]} in GEORECON_MIRROR or {MIRROR}", file=sys.stderr)
        sys.exit(1 if options.json else 0)  # `make bench` goes on
    load = [os.getloadavg()[0]]
    cases = {}
    with tempfile.TemporaryDirectory() as folder:
        for name, file in FILES.items():
            size = {"copies": options.copies, "repeats": options.repeats}
            cases[name] = measure(MIRROR / file, Path(folder), **size)
        first = MIRROR / FILES["conformers"]
        peak = peak_memory(first, Path(folder), 10 * options.copies)
    load.append(os.getloadavg()[0])
    report = cases["conformers"] | {"peak_memory_mb": peak, "cases": cases}
    report |= {"load_average": load, "cores": os.cpu_count(), "repeats": options.repeats}
    if not publish(report, options.json):
        return
    for name, case in cases.items():
        for key, (low, high) in case["spread"].items():
            by_cpu = f"by CPU time {case['by_cpu_time'][key]:.2f}"
            print(f"{name:12s} {key:30s} {case[key]:8.2f}   ({low:.2f} to {high:.2f}); {by_cpu}")
    print(f"peak memory {peak:.0f} MB; load average {load[0]:.1f} to {load[1]:.1f}")


if __name__ == "__main__":
    main()
