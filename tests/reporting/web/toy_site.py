"""An edition's results with real records and made-up numbers, and its page; some names hostile."""

from __future__ import annotations

import os
import struct
import zlib
from dataclasses import replace
from pathlib import Path
from typing import Any

from georecon import paths
from georecon.experiments.experiments import Experiments
from georecon.files import sha256_file, write_json, write_text
from georecon.jobs.progress import COLUMNS, PROGRESS_FILE
from georecon.records.record import RunRecord
from georecon.reporting.expected import load_expected
from georecon.reporting.published_rows import published_json
from georecon.reporting.tables import build, write_table
from georecon.reporting.web.plan import site_plan
from georecon.reporting.web.site import write_site
from tests import toy_results as toy

EXPECTED = load_expected(toy.ROOT / "reports" / "expected")
PUBLISHED = toy.ROOT / "reports" / "published"
HOSTILE = "</script><script>window.broken = 1</script>"
HOSTILE_LABEL = '"><img src=x onerror="window.broken=2">{{ 7*7 }}'
HOSTILE_SET = "<svg/onload=window.broken=3> QM9 & co"


def experiments() -> Experiments:
    """The tiny edition with three names that would run if they were not escaped."""
    config = toy.experiments_of("tiny").config
    coord = replace(config.methods["coord"], label=HOSTILE_LABEL)
    qm9 = replace(config.datasets["qm9"], title=HOSTILE_SET)
    methods, datasets = {**config.methods, "coord": coord}, {**config.datasets, "qm9": qm9}
    return Experiments(replace(config, methods=methods, datasets=datasets))


def png(width: int, height: int) -> bytes:
    """A grey picture."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        body = kind + data
        return struct.pack(">I", len(data)) + body + struct.pack(">I", zlib.crc32(body))

    rows = (b"\0" + b"\x99" * width) * height
    head = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    parts = chunk(b"IHDR", head), chunk(b"IDAT", zlib.compress(rows)), chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def record(
    stage: str, path: str, inputs: dict[str, str], outputs: dict[str, str], **extra: Any
) -> None:
    """Write a job's record with the library's own class; outputs that are not there are made."""
    for name, file in outputs.items():
        if not Path(file).exists():
            write_text(file, f"{name} of {path}\n")
    name = f"{stage} {Path(path).parent.as_posix()[-40:]} {HOSTILE if stage == 'split' else ''}"
    settings = {"name": name, "seed": 1, "file": {"package": "qm9pack"}}
    RunRecord(stage, settings, inputs).write(path, outputs, extra or None)


def write_data(found: Experiments, part: str, target: str, seed: int) -> dict[str, str]:
    """Raw file, store and split of one target with their records; inputs of a run on them."""
    dataset, split = found.data.dataset_of(part), found.data.split(part, target, seed)
    store, name = found.data.store(dataset, target), split.rsplit("/", 1)[-1]
    raw = f"{paths.RAW}/{dataset}/{target}.csv"
    folder = "resources/records"
    record("fetch", f"{folder}/fetch/{dataset}/{target}.csv.json", {}, {"raw": raw})
    write_text(f"{store}/z.npy", "not an array")
    entry = {"bytes": 12, "sha256": sha256_file(f"{store}/z.npy"), "dtype": "|u1", "shape": [12]}
    manifest = f"{store}/manifest.json"
    write_json(manifest, {"files": {"z.npy": entry}, "counts": {"molecules": 12}})
    place = f"{dataset}/{target}.json"
    record("preprocess", f"{folder}/preprocess/{place}", {"raw": raw}, {"store": manifest})
    record("split", f"{folder}/split/{dataset}/{name}.json", {"store": manifest}, {"split": split})
    return {"store": manifest, "split": split}


def write_runs(found: Experiments) -> None:
    """Records of all runs behind the tables, the data's first."""
    seeds = found.config.finetune.seeds
    data = {
        (part, seed): write_data(found, part, target, seed)
        for part, target in (
            ("property", "homo"),
            ("force", "ethanol"),
            ("large_force", "Ac-Ala3-NHMe"),
            ("out_of_distribution", "3bpa"),
        )
        for seed in seeds
    }
    training = {"steps": 8, "best_step": 8, "best_score": 0.5}
    tables = found.config.tables
    files = [file for table in tables for file in found.tables.files(table)]
    columns = [column for table in tables.values() for column in table.columns]
    final = {c.metric: 0.5 for c in columns if c.source == "pretrain"}
    methods = dict.fromkeys(
        method
        for method in (
            *found.methods.names(),
            *(row.method for table in tables for row in found.tables.rows(table)),
        )
        if found.methods.is_pretrained(method)
    )
    for folder in (found.runs.pretrain_folder(m, seed) for m in methods for seed in seeds):
        outputs = {"encoder": f"{folder}/encoder.safetensors", "metrics": f"{folder}/metrics.csv"}
        record("pretrain", f"{folder}/run.json", data["property", 1], outputs, final=final,
               training=training)  # fmt: skip
    for folder in dict.fromkeys(str(Path(file).parent) for file in files):
        _, _, stage, *rest = Path(folder).parts
        method, seed = rest[-2], int(rest[-1].removeprefix("seed"))
        encoder = {"encoder": f"{found.runs.pretrain_folder(method, seed)}/encoder.safetensors"}
        part = rest[0] if stage in ("finetune", "nve") else "property"
        inputs = {**data[part, seed],
                  **(encoder if found.methods.is_pretrained(method) else {})}  # fmt: skip
        if stage == "nve":
            tuned = folder.replace("/nve/", "/finetune/")
            inputs = {**data[part, seed], "model": f"{tuned}/model.safetensors"}
            outputs = {"metrics": f"{folder}/metrics.json", "curve": f"{folder}/curve.csv"}
            record(stage, f"{folder}/run.json", inputs, outputs)
        elif stage == "smoothness":
            outputs = {"metrics": f"{folder}/metrics.json"}
            record(stage, f"{folder}/run.json", inputs, outputs)
        elif stage == "finetune":
            names = {"outputs": "outputs.safetensors", "model": "model.safetensors"}
            outputs = {name: f"{folder}/{file}" for name, file in names.items()}
            record(stage, f"{folder}/run.json", inputs, outputs, training=training)
            made = {"metrics": f"{folder}/metrics.json"}
            made["predictions"] = f"{folder}/predictions.parquet"
            record("evaluate", f"{folder}/evaluate.run.json", {"outputs": outputs["outputs"]}, made)


def write_tree(root: Path) -> Experiments:
    """A finished edition below ``root``: runs, records, tables, one figure."""
    found, before = experiments(), Path.cwd()
    os.chdir(root)
    try:
        toy.write_results(found)
        write_runs(found)
        for name in found.config.tables:
            stem = Path(found.runs.folder(paths.TABLE, table=name))
            published = published_json(found, PUBLISHED, name)
            write_table(build(found.tables.spec(name), [], published=published), stem)
        picture = Path("results/tiny/figures/errors_by_method.png")
        picture.parent.mkdir()
        picture.write_bytes(png(600, 300))
    finally:
        os.chdir(before)
    return found


def write_page(root: Path, found: Experiments, *, live: bool = False) -> Path:
    """The page of the tree."""
    page = root / "results/tiny/report" / ("state.html" if live else "index.html")
    before = Path.cwd()
    os.chdir(root)
    try:
        plan = site_plan(found, ["errors_by_method", "not_made"], PUBLISHED)
        write_site(plan, EXPECTED, page, root=Path(), live=live)
    finally:
        os.chdir(before)
    return page


def write_progress(folder: Path, name: str, *, step: int, score: str, time: float) -> None:
    """``progress.csv`` of a run that has taken ``step`` of 8 steps; its last row is cut off."""
    row = dict.fromkeys(COLUMNS, "1") | {"name": name, "state": "running", "job": ""}
    row |= {"time": str(time), "step": str(step), "steps": "8", "val_score": score}
    text = f"{','.join(COLUMNS)}\n{','.join(row.values())}\n{time + 1},cut"
    write_text(folder / PROGRESS_FILE, text)
