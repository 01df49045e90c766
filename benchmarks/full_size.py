"""The jobs of the largest data sets at full size: time and peak memory against what rules ask for.

Two stand-ins are generated in a temporary folder: an SDF with as many records as PCQM4Mv2 has
(``--records``; molecules of 14 heavy atoms on a lattice) and frames of a molecule of nine atoms, as
many as MD17's largest file (``--frames``). Then, in order, each in a process of its own, the
scripts of the workflow's rules as ``python -m georecon.mock`` runs them, with the tiny edition's
model: fetch, preprocess, split and leak report, a hundred steps of pre-training on the first;
fetch, preprocess, split, fine-tuning with the prediction of the whole test set, evaluation, table
and audit on the second. Memory is the resident set of the process and its children together, looked
at five times a second: pages of mapped files count, and the imports of Snakemake too. What a rule
asks for is the first attempt's ``mem_mb``. Exits with 1 if a job takes more than that. Needs 12 GB
of disk at full size.
"""

from __future__ import annotations

import argparse
import gzip
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import psutil
import yaml
from publish import ROOT, origin, publish

RECORDS, FRAMES = 3_384_000, 993_237
POOL = 6_000  # different molecules; each of the SDF's gzip members has all of them
STEPS = 100
CELL = {"part": "force", "target": "molecule", "method": "scratch", "seed": "1"}
Place = tuple[int, int, int]
WAYS: tuple[Place, ...] = ((1, 1, 1), (1, -1, -1), (-1, 1, -1), (-1, -1, 1))
UNIT, HYDROGEN = 1.54 / 3**0.5, 1.09 / 1.54  # [Å]; C-H by C-C
VALENCES = {"C": 4, "N": 3, "O": 2}
KCAL, REST = 400.0, -167_000.0  # [kcal/mol/Å²], [kcal/mol]


# ---- stand-ins ---------------------------------------------------------------------------------


def lattice_molecule(rng: np.random.Generator) -> tuple[list[str], np.ndarray, list[list[int]]]:
    """Elements, positions [Å] and bonds of a random tree of about 14 heavy atoms and hydrogens.

    On the lattice of diamond: no two atoms but bonded ones share an empty neighbour, so hydrogens
    have room.
    """
    sites: list[Place] = [(0, 0, 0)]
    sides, bonds, joined = [1], list[list[int]](), [set[int]()]
    taken = {sites[0]: 0}
    size = int(rng.integers(11, 18))
    for number, way in rng.integers((200, 4), size=(400, 2)).tolist():
        first = number % len(sites)
        if len(sites) == size or len(joined[first]) == 4:
            continue
        site = step(sites[first], sides[first], way)
        around = [step(site, -sides[first], k) for k in range(4)]
        beyond = [step(near, sides[first], k) for near in around for k in range(4)]
        crowd = {taken[place] for place in (*around, *beyond) if place in taken}
        if site in taken or crowd - {first} - joined[first]:
            continue
        taken[site] = len(sites)
        bonds.append([first, len(sites)])
        joined[first].add(len(sites))
        joined.append({first})
        sites.append(site)
        sides.append(-sides[first])
    elements, places, hydrogens = list[str](), [*map(np.array, sites)], list[list[int]]()
    for atom, site in enumerate(sites):
        fitting = [name for name, valence in VALENCES.items() if valence >= len(joined[atom])]
        elements.append(fitting[int(rng.integers(len(fitting)))] if rng.random() < 0.3 else "C")
        free = [end for k in range(4) if (end := step(site, sides[atom], k)) not in taken]
        for end in free[: VALENCES[elements[atom]] - len(joined[atom])]:
            hydrogens.append([atom, len(places)])
            places.append(np.array(site) + HYDROGEN * (np.array(end) - np.array(site)))
    elements += ["H"] * len(hydrogens)
    pos = UNIT * np.array(places) + rng.normal(0.0, 0.02, (len(places), 3))
    return elements, pos, [*bonds, *hydrogens]


def step(site: Place, side: int, way: int) -> Place:
    """A neighbour of a site of the lattice: four ways, from either side turned round."""
    x, y, z = WAYS[way]
    return site[0] + side * x, site[1] + side * y, site[2] + side * z


def record(number: int, rng: np.random.Generator) -> str:
    """One record of an SDF, as OGB writes them."""
    elements, pos, bonds = lattice_molecule(rng)
    lines = [f"stand-in {number}", "  georecon", ""]
    lines.append(f"{len(elements):3d}{len(bonds):3d}  0  0  0  0  0  0  0  0999 V2000")
    zeros = " 0" + "  0" * 11  # an isotope of two columns, then three each
    for element, (x, y, z) in zip(elements, pos, strict=True):
        lines.append(f"{x:10.4f}{y:10.4f}{z:10.4f} {element:<3}{zeros}")
    lines += [f"{a + 1:3d}{b + 1:3d}  1  0" for a, b in bonds]
    return "\n".join([*lines, "M  END", "$$$$", ""])


def write_structures(path: Path, count: int) -> None:
    """An SDF of so many records, the pool again and again: gzip members make one file."""
    rng = np.random.default_rng(0)
    texts = [record(number, rng) for number in range(min(POOL, count))]
    whole, rest = divmod(count, len(texts))
    member = gzip.compress("".join(texts).encode(), 6)
    with open(path, "wb") as out:
        for _ in range(whole):
            out.write(member)
        if rest:
            out.write(gzip.compress("".join(texts[:rest]).encode(), 6))


def write_frames(path: Path, count: int) -> None:
    """Frames of one molecule in MD17's layout: displacements, each in a harmonic well."""
    rng = np.random.default_rng(1)
    at_rest = np.array(np.meshgrid(*[np.arange(3)] * 2, indexing="ij")).reshape(2, 9).T * 1.3
    at_rest = np.concatenate([at_rest, np.zeros((9, 1))], axis=1)
    moved = rng.normal(0.0, 0.05, (count, 9, 3))
    energy = REST + 0.5 * KCAL * (moved**2).sum(axis=(1, 2))
    z = np.array([6, 6, 6, 8, 8, 1, 1, 1, 1], dtype=np.uint8)
    np.savez(path, R=at_rest + moved, E=energy[:, None], F=-KCAL * moved, z=z)


def configuration(folder: Path) -> dict[str, Any]:
    """The tiny edition with both stand-ins, and one table of one run."""
    tiny = yaml.safe_load((ROOT / "config/editions/tiny.yaml").read_text(encoding="utf-8"))
    all_tables = yaml.safe_load((ROOT / "config/tables.yaml").read_text(encoding="utf-8"))
    frames = {"reader": "frames", "files": {"molecule": {"local": str(folder / "frames.npz")}},
              "raw_units": {"pos": "Angstrom", "energy": "kcal/mol", "forces": "kcal/mol/Angstrom"},
              "keys": {"pos": "R", "energy": "E", "forces": "F", "z": "z"}}  # fmt: skip
    files = {"archive": {"local": str(folder / "structures.sdf.gz")}}
    return {
        "edition": "tiny",
        "sets": {"pretrain": {"dataset": "structures"}, "force": {"dataset": "frames"}},
        "datasets": {
            "structures": {"title": "stand-in for PCQM4Mv2", "kind": "geometries",
                           "sources": {"local": {"reader": "sdf", "files": files}}},
            "frames": {"title": "stand-in for MD17", "kind": "forces", "sources": {"local": frames},
                       "units": {"energy": "kcal/mol"}},
        },
        "pretrain": {"train": {"steps": STEPS, "evaluations": 1}},
        "finetune": {
            "seeds": [1],
            "force": {
                "split": {"rule": "random", "name": "full", "train": 950, "val": 50, "test": None,
                          "seed": 1, "draws": False},
                "train": {**tiny["finetune"]["force"]["train"], "steps": STEPS},
                "evaluation_batch": 512,
            },
        },
        "nve": None,
        "tables": {
            **{name: None for name in all_tables if name != "md17"},
            "md17": {
                "rows": {"methods": ["scratch"], "compare": []},
                "columns": [{"source": "finetune", "set": "force", "targets": ["molecule"]}],
            },
        },
    }  # fmt: skip


# ---- jobs --------------------------------------------------------------------------------------


class Job(NamedTuple):
    """A rule and its wildcards."""

    rule: str
    wildcards: dict[str, str]


def jobs() -> Iterator[Job]:
    """The jobs in the order of their inputs."""
    of_pretraining = {"dataset": "structures"}
    of_frames = {"dataset": "frames"}
    yield Job("fetch", {**of_pretraining, "file": "structures.sdf.gz"})
    yield Job("preprocess", of_pretraining)
    yield Job("split", {**of_pretraining, "split": "pretrain_tiny"})
    yield Job("fetch", {**of_frames, "file": "frames.npz"})
    yield Job("preprocess_target", {**of_frames, "target": "molecule"})
    yield Job("split", {**of_frames, "split": "molecule_full"})
    yield Job("leak", {**of_frames, "split": "molecule_full"})
    yield Job("pretrain", {"method": "coord", "seed": "1"})
    yield Job("finetune", CELL)
    yield Job("evaluate", CELL)
    yield Job("table", {"table": "md17"})
    yield Job("audit", {})


class Measured(NamedTuple):
    """A job's time, and its memory at most."""

    wall_seconds: float
    cpu_seconds: float
    peak_megabytes: float


def command(job: Job, config: dict[str, Any], *more: str) -> list[str]:
    """What runs a rule's script alone."""
    given = [f"{name}={json.dumps(value)}" for name, value in config.items()]
    wildcards = [f"{name}={value}" for name, value in job.wildcards.items()]
    return [sys.executable, "-m", "georecon.mock", job.rule, *wildcards, *more, "--config", *given]


def environment() -> dict[str, str]:
    """Without what names raw files elsewhere."""
    kept = {name: value for name, value in os.environ.items() if name != "GEORECON_MIRROR"}
    return kept | {"PYTHONPATH": str(ROOT / "src"), "GEORECON_DEVICE": "cpu"}


def measure(job: Job, config: dict[str, Any], folder: Path) -> Measured:
    """Run a job.

    Raises:
        SystemExit: it failed; with what it said.
    """
    output = folder / "output.txt"
    started = time.monotonic()
    with open(output, "wb") as out:
        child = subprocess.Popen(
            command(job, config), cwd=folder / "work", stdout=out, stderr=out, env=environment()
        )
        process, peak = psutil.Process(child.pid), 0
        while True:
            peak = max(peak, _resident(process))
            try:
                pid, status, usage = os.wait4(child.pid, os.WNOHANG)
            except ChildProcessError:
                raise SystemExit(f"{job.rule}: its end was not seen") from None
            if pid:
                break
            time.sleep(0.2)
    child.returncode = os.waitstatus_to_exitcode(status)  # its peak counts the process before it
    seconds = time.monotonic() - started
    if child.returncode and job.rule != "audit":  # which also says what the stand-in lacks
        raise SystemExit(f"{job.rule}: {output.read_text(errors='replace')[-3000:]}")
    return Measured(seconds, usage.ru_utime + usage.ru_stime, peak / 1e6)


def _resident(process: psutil.Process) -> int:
    """Memory of a process and its children now, or the process's own at most [bytes]."""
    total = highest = 0
    with suppress(psutil.Error, OSError):
        status = Path(f"/proc/{process.pid}/status").read_text(encoding="utf-8")
        rows = [row.split() for row in status.splitlines() if row.startswith("VmHWM")]
        highest = 1024 * max((int(row[1]) for row in rows), default=0)  # none once it has ended
        for one in (process, *process.children(recursive=True)):
            with suppress(psutil.Error):
                total += one.memory_info().rss
    return max(total, highest)


def requested(job: Job, config: dict[str, Any], folder: Path) -> int | None:
    """Memory that the rule asks for [MB]; None if it asks for none."""
    done = subprocess.run(
        command(job, config, "--show"), cwd=folder / "work", env=environment(),
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    if done.returncode:
        raise SystemExit(f"{job.rule}: {done.stderr[-3000:]}")
    found = yaml.safe_load(done.stdout)["resources"].get("mem_mb")
    return found if isinstance(found, int) else None


def cell_holds(work: Path) -> bool:
    """Whether the audit computed the number of the cell again."""
    audited = json.loads((work / "results/tiny/audit/audit.json").read_text(encoding="utf-8"))
    cells = audited["cells"].values()
    filled = [cell for cell in cells if cell["value"] is not None]
    return bool(filled) and all(cell["recomputed"] is not None for cell in filled)


def sizes(work: Path) -> dict[str, int]:
    """Files of the run that a frame adds to [bytes]."""
    names = ("outputs.safetensors", "predictions.parquet")
    return {n: sum(p.stat().st_size for p in work.glob(f"results/**/{n}")) for n in names}


def run_all(records: int, frames: int, folder: Path) -> dict[str, Any]:
    """Both stand-ins, and every job."""
    write_structures(folder / "structures.sdf.gz", records)
    write_frames(folder / "frames.npz", frames)
    (folder / "work").mkdir()
    (folder / "work/config").symlink_to(ROOT / "config")  # the Snakefile reads it from there
    config, rows = configuration(folder), list[dict[str, Any]]()
    for job in jobs():
        asked = requested(job, config, folder)
        found = measure(job, config, folder)
        rows.append({"rule": job.rule, **job.wildcards, **found._asdict(), "requested_mb": asked})
        print(line(rows[-1]), file=sys.stderr, flush=True)
    return {
        "records": records,
        "frames": frames,
        "cell_computed_again": cell_holds(folder / "work"),
        "bytes": sizes(folder / "work"),
        "jobs": rows,
    }


def line(row: dict[str, Any]) -> str:
    """A job for people."""
    asked = row["requested_mb"]
    name = " ".join(str(row[key]) for key in ("rule", "dataset") if key in row)
    return (
        f"{name:30} {row['wall_seconds']:8.1f} s {row['cpu_seconds']:8.1f} CPU s "
        f"{row['peak_megabytes']:7.0f} MB of {'any' if asked is None else asked}"
    )


def main() -> int:
    """All measurements."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--records", type=int, default=RECORDS, help="of the SDF")
    parser.add_argument("--frames", type=int, default=FRAMES, help="of the one molecule")
    parser.add_argument("--json", help="file for the numbers; -: standard output; or a folder")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="georecon-full-size-") as place:
        report = {**origin(), **run_all(given.records, given.frames, Path(place).resolve())}
    asked = [row for row in report["jobs"] if row["requested_mb"] is not None]
    over = [row["rule"] for row in asked if row["peak_megabytes"] > row["requested_mb"]]
    if publish(report, given.json, "full_size"):
        print(f"more than was asked for: {', '.join(over) or 'none'}")
    return 1 if over or not report["cell_computed_again"] else 0


if __name__ == "__main__":
    sys.exit(main())
