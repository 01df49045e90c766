"""An audit of the paper's size: 1,200 fine-tuning runs and 20 GB of files, on a stand-in.

Writes runs of the paper edition's QM9 table into a temporary folder, each with the records that
its jobs would leave, predictions, curves and weights of made-up numbers, and bytes that fill the
weights up. Then, each in a process of its own and with the files put out of memory first: reading
(the disk), `sha256sum` on all cores (the floor), the audit's hashing; a whole audit at depth
"records" that is stopped half-way and goes on; and one more, which finds nothing changed. What
that stand-in lacks (raw files, leaks, splits of the official size) the audit says; of the runs it
must say nothing. Needs as much disk as it is told to write, and removes it.
"""

from __future__ import annotations

import argparse
import functools
import json
import multiprocessing
import os
import signal
import subprocess
import sys
import tempfile
import time
import zlib
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from multiprocessing.synchronize import Event
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from publish import ROOT, origin, publish
from safetensors.numpy import save_file

from georecon import paths
from georecon.audit import audit
from georecon.audit.expected_records import Wanted, cell_records
from georecon.audit.files import KNOWN, hash_files
from georecon.data.manifest import Source
from georecon.data.molecules import Molecules
from georecon.data.split import Split, write_split
from georecon.data.store import StoreWriter
from georecon.experiments.experiments import Experiments
from georecon.experiments.settings import FinetuneSettings, TrainSettings, encoder_json
from georecon.files import read_json
from georecon.keys import from_json
from georecon.records import record
from georecon.records.record import RunRecord
from georecon.reporting.expected import load_expected
from georecon.reporting.published_rows import published_json
from georecon.reporting.tables import build, write_table
from georecon.stages.evaluate import evaluate
from georecon.training.schedule import warmup_cosine

TABLE, METHODS = "qm9", ("scratch", "coord", "frad", "georecon", "coord_long")
MOLECULES = 400  # of the stand-in's store; a quarter are tested on
BLOCK = 1 << 20
CORES = os.cpu_count() or 1


# ---- the stand-in ------------------------------------------------------------------------------


def experiments(runs: int) -> Experiments:
    """The paper edition with one table of about so many fine-tunings."""
    config = Experiments.load(ROOT / "config", {"edition": "paper"}).config
    table = config.tables[TABLE]
    targets = tuple(config.datasets["qm9"].targets)[: 12 if runs >= 240 else 2]
    seeds = tuple(range(1, 1 + max(1, runs // (len(targets) * len(METHODS)))))
    columns = (replace(table.columns[0], targets=targets),)
    return Experiments(
        replace(
            config,
            methods={name: config.methods[name] for name in METHODS},
            finetune=replace(config.finetune, seeds=seeds),
            tables={TABLE: replace(table, columns=columns)},
        )
    )


def write_stand_in(e: Experiments, size: int) -> None:
    """All files of the edition, below the current folder.

    Args:
        e: the edition.
        size: of all weights together [bytes].
    """
    record.git_state = functools.cache(record.git_state)  # type: ignore[assignment]
    record.versions = functools.cache(record.versions)  # type: ignore[assignment]
    labels, rng = _write_store(e), np.random.default_rng(0)
    jobs: dict[str, Wanted] = {}
    for row in e.tables.rows(TABLE):
        for column in e.tables.columns(TABLE):
            if row.method in METHODS:
                jobs |= cell_records(e, TABLE, row, column)
    trained = {"pretrain": _write_encoder, "finetune": functools.partial(_write_tuned, labels, rng)}
    stages = {path: path.split("/")[2] for path in jobs if path.startswith(paths.RESULTS[:8])}
    tuned = [p for p, s in stages.items() if s == "finetune" and p.endswith("/run.json")]
    for stage, write in trained.items():
        for path in [p for p, s in stages.items() if s == stage and p.endswith("/run.json")]:
            Path(path).parent.mkdir(parents=True, exist_ok=True)
            write(Path(path).parent, jobs[path], size // len(tuned))
    for path in tuned:
        _evaluate(Path(path).parent, jobs[f"{Path(path).parent}/evaluate.run.json"])
    published = published_json(e, ROOT / "reports" / "published", TABLE)
    stem, spec = Path(e.runs.folder(paths.TABLE, table=TABLE)), e.tables.spec(TABLE)
    write_table(build(spec, [], published=published), stem)


def _write_store(e: Experiments) -> dict[str, np.ndarray]:
    """A store of diatomic molecules with all labels, and splits of it; returns the labels."""
    store, rng = Path(e.data.store("qm9", "homo")), np.random.default_rng(1)
    targets, ids = e.data.targets("qm9"), np.arange(MOLECULES)
    labels = {e.data.card("qm9").target(t).label: rng.normal(size=MOLECULES) for t in targets}
    pair, places = np.array([6, 8]), rng.normal(size=(MOLECULES, 2, 3))
    molecules = Molecules.from_list(ids, [pair] * MOLECULES, [*places], labels, None)
    units = {"pos": "Å"} | {
        e.data.card("qm9").target(t).label: e.data.card("qm9").target(t).unit for t in targets
    }
    with StoreWriter(store, dataset="qm9", source=Source(), units=units) as writer:
        writer.append(molecules)
    digest = read_json(store / "manifest.json")["sha256"]
    meta = {"rule": "stand-in", "seed": 1, "store_sha256": digest}
    parts = Split(ids[: MOLECULES // 2], ids[MOLECULES // 2 : -MOLECULES // 4],
                  ids[-MOLECULES // 4 :])  # fmt: skip
    for path in {e.data.split("property", "homo", seed) for seed in e.config.finetune.seeds}:
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        write_split(path, parts, meta)
    for path in (e.data.pretrain_split(), f"{e.data.pretrain_store()}/manifest.json"):
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        Path(path).write_text("stand-in\n", encoding="utf-8")
    return labels


def _curve(path: Path, settings: TrainSettings) -> dict[str, Any]:
    """A curve that falls to its end, and what the record says of its training."""
    assert settings.schedule == "cosine"
    rows = []
    for step in (step for step in settings.evaluation_steps() if step > 0):
        rate = settings.lr * warmup_cosine(step - 1, warmup=settings.warmup, total=settings.steps)
        own = 1.0 + zlib.crc32(str(path).encode()) * 1e-9  # no two runs have the same curve
        rows.append({"step": step, "lr": rate, "train_loss": own, "val_score": own / step})
    lines = [",".join(rows[0]), *(",".join(map(repr, row.values())) for row in rows)]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    last = rows[-1]
    training = {"steps": last["step"], "best_step": last["step"], "best_score": last["val_score"]}
    return {"training": training, "final": {k: v for k, v in last.items() if k != "step"}}


def _write_encoder(folder: Path, wanted: Wanted, _: int) -> None:
    settings = wanted.settings
    header = {"georecon": f'{{"method": "{settings["method"]}"}}'}
    digits = np.frombuffer(str(folder).encode(), dtype=np.uint8)
    for name in ("encoder", "objective"):
        save_file({name: digits}, folder / f"{name}.safetensors", metadata=header)
    facts = _curve(folder / "metrics.csv", from_json(TrainSettings, settings["train"]))
    outputs = {name: folder / f"{name}.safetensors" for name in ("encoder", "objective")}
    outputs["metrics"] = folder / "metrics.csv"
    _write_record("pretrain", wanted, folder / "run.json", outputs, facts)


def _write_tuned(
    labels: dict[str, np.ndarray], rng: np.random.Generator, folder: Path, wanted: Wanted, size: int
) -> None:
    """Weights filled up with random bytes, and test outputs."""
    run = from_json(FinetuneSettings, wanted.settings)
    names = ("dataset", "target", "label", "method", "seed")
    card = {name: getattr(run, name) for name in names} | {
        "head": run.recipe.head,
        "forces": run.recipe.forces,
        "encoder": encoder_json(run.encoder),
        "unit": read_json(wanted.inputs["store"])["units"][run.label],
    }
    bulk = {"bulk": np.frombuffer(rng.bytes(max(size, 64)), dtype=np.uint8)}
    save_file(bulk, folder / "model.safetensors", metadata={"georecon": json.dumps(card)})
    ids = np.arange(MOLECULES)[-MOLECULES // 4 :]
    label = labels[run.label][ids]
    outputs = {"ids": ids, "label": label, "prediction": label + rng.normal(size=len(ids)),
               "baseline": 0 * label, "naive": 0 * label}  # fmt: skip
    save_file(outputs, folder / "outputs.safetensors")
    facts = _curve(folder / "curve.csv", run.train)
    made = {name: folder / f"{name}.safetensors" for name in ("model", "outputs")}
    _write_record("finetune", wanted, folder / "run.json", made | {"curve": folder / "curve.csv"},
                  facts)  # fmt: skip


def _evaluate(folder: Path, wanted: Wanted) -> None:
    made = {"predictions": folder / "predictions.parquet", "metrics": folder / "metrics.json"}
    evaluate(folder / "outputs.safetensors", Path(wanted.inputs["split"]), *made.values(),
             unit=wanted.settings["unit"],
             store_path=Path(wanted.inputs["store"]).parent)  # fmt: skip
    _write_record("evaluate", wanted, folder / "evaluate.run.json", made)


def _write_record(
    stage: str,
    wanted: Wanted,
    path: Path,
    outputs: dict[str, Path],
    facts: dict[str, Any] | None = None,
) -> None:
    RunRecord(stage, wanted.settings, wanted.inputs).write(path, outputs, facts)


# ---- measurements ------------------------------------------------------------------------------


class Measured(NamedTuple):
    """Time [s], what a function gave back, and the memory it took beyond imports [MB]."""

    seconds: float
    value: Any
    megabytes: float


def _peak() -> float:
    """Of this process since its start; what ``resource`` says counts the one it came from."""
    lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) / 1024


def _alone(work: Callable[..., Any], *given: Any) -> Measured:
    before, started = _peak(), time.monotonic()
    value = work(*given)
    return Measured(time.monotonic() - started, value, _peak() - before)


def measured(root: Path, work: Callable[..., Any], *given: Any) -> Measured:
    """Of a function in a fresh process, with no file of the stand-in in memory."""
    evict(root)
    fresh = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=fresh) as pool:
        return pool.submit(_alone, work, *given).result()


def files(root: Path) -> list[str]:
    return sorted(p.relative_to(root).as_posix() for p in root.rglob("*") if p.is_file())


def evict(root: Path) -> None:
    os.sync()
    for name in files(root):
        with open(root / name, "rb") as handle:
            os.posix_fadvise(handle.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def read_all(root: Path) -> int:
    """Read every file and look at nothing: what the disk gives."""

    def read(name: str) -> int:
        buffer, total = bytearray(BLOCK), 0
        with open(root / name, "rb", buffering=0) as handle:
            while count := handle.readinto(buffer):
                total += count
        return total

    with ThreadPoolExecutor(CORES) as pool:
        return sum(pool.map(read, files(root)))


def sha256sum(root: Path) -> None:
    """The same hashes by the program that everybody has, as many at a time."""
    names = "\0".join(files(root)).encode()
    command = ["xargs", "-0", "-n", "16", "-P", str(CORES), "sha256sum", "--"]
    subprocess.run(command, input=names, cwd=root, check=True, stdout=subprocess.DEVNULL)


def hash_all(root: Path, part: int = 1) -> int:
    """As the audit hashes; every ``part``-th file."""
    return len(hash_files(root, files(root)[::part]))


def run_audit(root: Path, e: Experiments) -> dict[str, Any]:
    """A whole audit at depth "records"."""
    os.chdir(root)
    said: list[str] = []
    found = audit(root, e, load_expected(ROOT / "reports" / "expected"), say=said.append)
    results = e.runs.folder(paths.RESULTS)
    runs = tuple(f"{results}/{stage}/" for stage in ("finetune", "pretrain"))
    wrong = [f for f in found.findings if f.path.startswith(runs) and f.breaks]
    kinds = sorted({f.kind for f in found.findings})
    return {
        "files": found.hashed.files, "bytes": found.hashed.bytes, "kept": found.hashed.kept,
        "cells": len(found.cells), "said": said, "kinds": kinds,
        "wrong": [f"{f.kind}: {f.path}: {f.text}" for f in wrong],
    }  # fmt: skip


def interrupted(root: Path, e: Experiments, ready: Event) -> None:
    with suppress(KeyboardInterrupt):
        ready.set()
        run_audit(root, e)


def stopped(root: Path, e: Experiments, seconds: float) -> int:
    """An audit that is interrupted after some time; how many hashes it leaves."""
    evict(root)
    fresh = multiprocessing.get_context("spawn")
    ready = fresh.Event()
    process = fresh.Process(target=interrupted, args=(root, e, ready))
    known = root / e.runs.folder(paths.AUDIT) / KNOWN
    process.start()
    ready.wait()
    process.join(seconds)
    if process.pid is not None and process.is_alive():
        os.kill(process.pid, signal.SIGINT)
    process.join()
    return len(read_json(known)) if known.is_file() else 0


def measure(root: Path, e: Experiments) -> dict[str, Any]:
    """All measurements of a stand-in."""
    (root / e.runs.folder(paths.AUDIT)).mkdir(parents=True, exist_ok=True)
    disk = measured(root, read_all, root)
    floor = measured(root, sha256sum, root)
    tenth = measured(root, hash_all, root, 10)
    hashed = measured(root, hash_all, root)
    left = stopped(root, e, max(1.0, hashed.seconds / 2))
    resumed, again = (measured(root, run_audit, root, e) for _ in range(2))
    return {
        "gigabytes": disk.value / 1e9,
        "files": hashed.value,
        "disk_seconds": disk.seconds,
        "sha256sum_seconds": floor.seconds,
        "hashing_seconds": hashed.seconds,
        "ratio": hashed.seconds / floor.seconds,
        "hashing_megabytes": hashed.megabytes,
        "hashing_megabytes_of_a_tenth": tenth.megabytes,
        "stopped_with": left,
        "audit_seconds": resumed.seconds,
        "audit_megabytes": resumed.megabytes,
        "audit": resumed.value,
        "again_seconds": again.seconds,
        "again": again.value,
    }


def lines(found: dict[str, Any]) -> Iterator[str]:
    """For people."""
    speed, first, again = found["gigabytes"] * 1000, found["audit"], found["again"]
    for name in ("disk", "sha256sum", "hashing"):
        seconds = found[f"{name}_seconds"]
        yield f"{name}: {seconds:.1f} s, {speed / seconds:.0f} MB/s"
    yield f"hashing over sha256sum on {CORES} cores: ratio {found['ratio']:.2f}"
    yield (
        f"memory of hashing: {found['hashing_megabytes']:.0f} MB, of a tenth of the files "
        f"{found['hashing_megabytes_of_a_tenth']:.0f} MB"
    )
    yield f"stopped half-way: {found['stopped_with']} of {found['files']} hashes kept"
    yield (
        f"whole audit, going on: {found['audit_seconds']:.1f} s, {first['kept']} of "
        f"{first['files']} files kept, {first['cells']} cells, {found['audit_megabytes']:.0f} MB"
    )
    yield (
        f"once more: {found['again_seconds']:.1f} s, {again['kept']} of {again['files']} files kept"
    )
    yield f"findings on runs: {len(first['wrong'])}; of all kinds: {', '.join(first['kinds'])}"
    yield from first["wrong"][:5]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=1200, help="fine-tuning runs, about")
    parser.add_argument("--gigabytes", type=float, default=20.0, help="of their weights")
    parser.add_argument("--json", help="file for the numbers; -: standard output; or a folder")
    given = parser.parse_args()
    e = experiments(given.runs)
    with tempfile.TemporaryDirectory(prefix="georecon-audit-scale-") as place:
        root, before = Path(place).resolve(), Path.cwd()
        os.chdir(root)
        write_stand_in(e, int(given.gigabytes * 1e9))
        os.chdir(before)
        found = measure(root, e)
    report = {**origin(), **found} if given.json else found
    if publish(report, given.json, "audit_scale"):
        print("\n".join(lines(found)))
    return 1 if found["audit"]["wrong"] else 0


if __name__ == "__main__":
    sys.exit(main())
