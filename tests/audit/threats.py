"""Ways to forge a finished run: each edits a copy of one."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors import safe_open
from safetensors.numpy import load_file, save_file

from georecon.data.split import leak_report, read_split
from georecon.data.store import Store
from georecon.errors import DataError
from georecon.experiments.experiments import Experiments
from georecon.files import read_json, sha256_file, sha256_json, write_json
from georecon.reporting.published_rows import published_json
from georecon.reporting.tables import build, write_table
from georecon.stages.evaluate import evaluate
from tests.audit import tamper
from tests.audit.tamper import (
    FINETUNE,
    PUBLISHED,
    RESULTS,
    edit_json,
    edit_text,
    flip_bit,
    replace_bytes,
)

FORCE_RUN, FORCE_STORE = f"{RESULTS}/finetune/force/ethanol/coord/seed1", "resources/store/xmd17"
RUN, OTHER = f"{FINETUNE}/coord/seed1", f"{FINETUNE}/georecon/seed1"
ENCODER = f"{RESULTS}/pretrain/coord/seed1/encoder.safetensors"
SPLIT = "resources/splits/qm9/pvd_tiny_draw1.npz"
DYNAMICS = f"{RESULTS}/nve/force/ethanol/georecon/seed1"
PRETRAIN_SPLIT = "resources/splits/qm9/pretrain_tiny.npz"
LEAK = f"{RESULTS}/leaks/qm9/pvd_tiny_draw1.json"
STORE = "resources/store/qm9"
FRAMES = "resources/raw/xmd17/xmd17_ethanol.npz"
LOCK = "resources/raw/lock.json"
QM9 = f"{RESULTS}/tables/qm9"
REPORT = f"{RESULTS}/report"
FETCHED = "resources/records/fetch/qm9/qm9_part1.csv.json"
USAGE = f"{RESULTS}/pretrain/georecon/seed1"
DYNAMICS = f"{RESULTS}/nve/force/ethanol/coord/seed1"

Change = Callable[[Path], None]
Json = dict[str, Any]

# ---- tools -------------------------------------------------------------------------------------


def of_record(path: str, change: Callable[[Json], object]) -> Change:
    """Edit a record, or any JSON file."""

    def edit(folder: Path) -> None:
        edit_json(folder / path, lambda record: (change(record), None)[1])

    return edit


def of_all_records(change: Callable[[Json], object]) -> Change:
    def edit(folder: Path) -> None:
        for path in records(folder):
            record = read_json(path)
            change(record)
            path.unlink()
            write_json(path, record)

    return edit


def records(folder: Path) -> Iterator[Path]:
    yield from folder.glob("resources/records/**/*.json")
    yield from folder.glob(f"{RESULTS}/**/*run.json")
    yield from folder.glob(f"{RESULTS}/records/**/*.json")


def experiments(folder: Path) -> Experiments:
    return Experiments.load(folder / "config", {"edition": "tiny"})


def remake_tables(folder: Path) -> None:
    """All tables from what there is now."""
    e = experiments(folder)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        for table in e.config.tables:
            published = published_json(e, PUBLISHED, table)
            said_of_data = (e.tables.leaks(table), e.tables.trajectories(table))
            made = build(e.tables.spec(table), *said_of_data, published)
            write_table(made, Path(f"{RESULTS}/tables/{table}"))


def remake_run(folder: Path, run: str, change: Callable[[dict[str, np.ndarray]], object]) -> None:
    """Other test outputs, and what is evaluated from them."""
    path = folder / run / "outputs.safetensors"
    outputs = load_file(path)
    change(outputs)
    save_file(outputs, path)
    record = read_json(folder / run / "evaluate.run.json")
    store, split = (folder / record["inputs"][name]["path"] for name in ("store", "split"))
    made = (folder / run / "predictions.parquet", folder / run / "metrics.json")
    evaluate(path, split, *made, unit=record["settings"]["unit"], store_path=store.parent)


def remake_leaks(folder: Path) -> None:
    """Leak reports of what the splits are now."""
    for path in folder.glob(f"{RESULTS}/records/leak/**/*.json"):
        inputs = read_json(path)["inputs"]
        places = {name: folder / entry["path"] for name, entry in inputs.items()}
        test, seen = (Store.open(places[name].parent) for name in ("store", "pretrain_store"))
        rows = test.rows(read_split(places["split"]).test)
        of = seen.rows(read_split(places["pretrain_split"]).train)
        report = asdict(leak_report(test, rows, seen, of))
        write_json(folder / read_json(path)["outputs"]["leak"]["path"], report)


def swap(folder: Path, first: str, second: str) -> None:
    one, two = folder / first, folder / second
    one.rename(folder / "aside")
    two.rename(one)
    (folder / "aside").rename(two)


def rewrite_weights(path: Path, change: Callable[[str, np.ndarray], np.ndarray]) -> None:
    """Other weights under the same header."""
    with safe_open(path, framework="numpy") as handle:
        header = handle.metadata()
    arrays = {name: change(name, array) for name, array in load_file(path).items()}
    save_file(arrays, path.with_suffix(".new"), metadata=header)
    path.with_suffix(".new").replace(path)


# ---- files, pages, tables ----------------------------------------------------------------------


def first_number(suffix: str) -> Change:
    """Change the last digit of a line of numbers in one of the table's texts."""

    def edit(folder: Path) -> None:
        path = folder / f"{QM9}{suffix}"
        line = next(row for row in path.read_text().splitlines() if re.search(r"\d\.\d", row))
        digit = next(k for k in range(len(line) - 1, 0, -1) if line[k].isdigit())
        edit_text(path, line, f"{line[:digit]}{(int(line[digit]) + 1) % 10}{line[digit + 1 :]}")

    return edit


def of_cell(change: Callable[[Json, Json], object]) -> Change:
    """Edit the cells of Coord and of GeoRecon for HOMO, and write the table's other forms."""

    def edit(folder: Path) -> None:
        def cells(table: Json) -> None:
            found = {(c["row"], c["column"]): c for c in table["cells"]}
            change(found["coord", "homo"], found["georecon", "homo"])

        edit_json(folder / f"{QM9}.json", cells)
        write_table(read_json(folder / f"{QM9}.json"), folder / QM9)

    return edit


def of_table(change: Callable[[Json], object]) -> Change:
    def edit(folder: Path) -> None:
        edit_json(folder / f"{QM9}.json", lambda table: (change(table), None)[1])
        write_table(read_json(folder / f"{QM9}.json"), folder / QM9)

    return edit


def one_seed_less(cell: Json, _: Json) -> None:
    cell["runs"], cell["values"] = cell["runs"][:1], {"1": cell["values"]["1"]}
    cell |= {"value": cell["values"]["1"], "std": None, "n": 1}


def evil_table(folder: Path) -> None:
    table = read_json(folder / f"{QM9}.json") | {"table": "evil"}
    write_table(table, folder / f"{RESULTS}/tables/evil")


def evil_table_with_record(folder: Path) -> None:
    evil_table(folder)
    record = read_json(folder / f"{RESULTS}/records/table/qm9.json")
    for entry in record["outputs"].values():
        entry["path"] = entry["path"].replace("qm9", "evil")
    record["job"]["log"] = None
    write_json(folder / f"{RESULTS}/records/table/evil.json", record)


def extra_output(folder: Path) -> None:
    """A file beside a run's own that its record names."""
    (folder / RUN / "evil.csv").write_text("mae\n0.1\n")
    entry = tamper._entry(folder, f"{RUN}/evil.csv")
    edit_json(folder / RUN / "run.json", lambda record: record["outputs"].update(evil=entry))


def extra_text(folder: Path) -> None:
    """A table's text of another name, in the record of a table that there is."""
    path = f"{RESULTS}/tables/evil.csv"
    shutil.copy(folder / f"{QM9}.csv", folder / path)
    record = folder / f"{RESULTS}/records/table/qm9.json"
    entry = tamper._entry(folder, path)
    edit_json(record, lambda found: found["outputs"].update(evil=entry))


def extra_record(folder: Path) -> None:
    """A file with a record of its own, of a job that there is not."""
    path = f"{RESULTS}/finetune/evil.csv"
    (folder / path).write_text("mae\n0.1\n")
    tamper._write_record(folder, f"{RESULTS}/records/evil/evil.json", "evil", {}, [], [path])


def second_record(folder: Path) -> None:
    """A cleaner record beside that of a run, of the same files."""
    path = folder / f"{RESULTS}/records/finetune/second.json"
    path.parent.mkdir()
    shutil.copy(folder / RUN / "run.json", path)
    edit_json(path, lambda record: record.update(seconds=1.0))


def linked_folder(folder: Path) -> None:
    """A table in a folder that lies elsewhere, behind a link."""
    elsewhere = folder.parent / "elsewhere"
    elsewhere.mkdir()
    shutil.copy(folder / f"{QM9}.csv", elsewhere / "evil.csv")
    (folder / f"{RESULTS}/tables/more").symlink_to(elsewhere)


def page_text(name: str, old: str, new: str) -> Change:
    return lambda folder: edit_text(folder / REPORT / name, old, new)


def snakemakes_report(folder: Path) -> None:
    """Snakemake's own page, as the launcher leaves it, then another one."""
    page = f"{REPORT}/report.html"
    (folder / page).write_text("<p>jobs</p>")
    path = f"{RESULTS}/records/report/report.json"
    tamper._write_record(folder, path, "report", {}, [], [page])
    (folder / page).write_text("<p>other jobs</p>")


# ---- data --------------------------------------------------------------------------------------


def worst_dropped(folder: Path) -> None:
    """The ten molecules of the test set with the largest errors of one run, in no run any more."""
    outputs = load_file(folder / RUN / "outputs.safetensors")
    order = np.argsort(np.abs(outputs["prediction"] - outputs["label"]))
    worst = outputs["ids"][order[-10:]]

    def split(parts: dict[str, np.ndarray]) -> None:
        parts["test"] = parts["test"][~np.isin(parts["test"], worst)]

    def run(found: dict[str, np.ndarray]) -> None:
        kept = ~np.isin(found["ids"], worst)
        found |= {name: array[kept] for name, array in found.items()}

    for number in (1, 2):
        tamper.rewrite_split(folder / SPLIT.replace("draw1", f"draw{number}"), split)
    for path in sorted(folder.glob(f"{RESULTS}/finetune/property/*/*/seed*")):
        remake_run(folder, str(path.relative_to(folder)), run)
    remake_leaks(folder)
    remake_tables(folder)


def half_trained(folder: Path) -> None:
    def split(parts: dict[str, np.ndarray]) -> None:
        parts["train"] = parts["train"][: len(parts["train"]) // 2]

    tamper.rewrite_split(folder / SPLIT, split)


def train_on_test(parts: dict[str, np.ndarray]) -> None:
    parts["train"] = np.concatenate([parts["train"][:-5], parts["test"][:5]])


def pretrain_on_test(folder: Path) -> None:
    with np.load(folder / SPLIT) as split:
        test = split["test"][:3]

    def change(parts: dict[str, np.ndarray]) -> None:
        parts["train"] = np.concatenate([parts["train"], test])

    tamper.rewrite_split(folder / PRETRAIN_SPLIT, change)


def other_molecules(folder: Path) -> None:
    """A training part of molecules that somebody chose, as many as configured."""
    pool = Store.open(folder / STORE).ids

    def change(parts: dict[str, np.ndarray]) -> None:
        free = np.setdiff1d(pool, np.concatenate([*parts.values()]))
        parts["train"] = free[: len(parts["train"])]

    tamper.rewrite_split(folder / SPLIT, change)


def shift_labels(array: np.ndarray) -> None:
    array += 0.001


def moved_atom(array: np.ndarray) -> None:
    array[0] += 0.1


def labels_everywhere(folder: Path) -> None:
    """Labels of a store, and test outputs that agree with them."""
    tamper.rewrite_array(folder, f"{STORE}/labels_homo.npy", shift_labels)
    for path in sorted(folder.glob(f"{FINETUNE}/*/seed*")):
        run = str(path.relative_to(folder))
        remake_run(folder, run, lambda found: shift_labels(found["label"]))
    remake_tables(folder)


def raw_file(folder: Path) -> None:
    flip_bit(folder / "resources/raw/qm9/qm9_part1.csv")


def raw_file_and_lock(folder: Path) -> None:
    """Another raw file, and lists of what was fetched that agree."""
    raw_file(folder)
    path = folder / "resources/raw/qm9/qm9_part1.csv"
    found = {"sha256": sha256_file(path), "bytes": path.stat().st_size}
    edit_json(folder / LOCK, lambda lock: lock["qm9/qm9_part1.csv"].update(found))
    edit_json(folder / FETCHED, lambda record: record["fetched"].update(found))
    roles = {"part1": found["sha256"]}

    def manifest(content: Json) -> None:
        for role, sha256 in roles.items():
            content["source"]["raw"][role]["sha256"] = sha256

    edit_json(folder / STORE / "manifest.json", manifest)


def raw_file_and_card(folder: Path) -> None:
    """The same, and its dataset card, wherever that stands."""
    path = folder / "resources/raw/qm9/qm9_part1.csv"
    was = {"sha256": sha256_file(path), "bytes": path.stat().st_size}
    raw_file_and_lock(folder)
    edit_text(folder / "config/datasets.yaml", was["sha256"], sha256_file(path))
    for record in (folder / FETCHED, folder / "resources/records/preprocess/qm9.json"):
        text = record.read_text()
        if was["sha256"] in text:
            replace_bytes(record, text.replace(was["sha256"], sha256_file(path)).encode())


def address(folder: Path) -> None:
    url = {"url": "package:other/data/qm9_part1.csv"}
    edit_json(folder / LOCK, lambda lock: lock["qm9/qm9_part1.csv"].update(url))


def address_and_record(folder: Path) -> None:
    address(folder)
    url = read_json(folder / LOCK)["qm9/qm9_part1.csv"]["url"]
    edit_json(folder / FETCHED, lambda record: record["fetched"].update(url=url))


def forged_frames(folder: Path) -> None:
    """Energies of a simulated molecule; the store made of them is not asked about."""
    path = folder / FRAMES
    with np.load(path) as archive:
        arrays = {name: archive[name] for name in archive.files}
    arrays["E"] = arrays["E"] + 1.0
    path.unlink()
    np.savez(path, **arrays)


# ---- trainings ---------------------------------------------------------------------------------


def better(found: dict[str, np.ndarray]) -> None:
    found["prediction"] = (found["prediction"] + found["label"]) / 2


def better_predictions(folder: Path) -> None:
    """Predictions moved towards their labels; metrics and tables made from them."""
    path = folder / RUN / "outputs.safetensors"
    honest = path.read_bytes()
    remake_run(folder, RUN, better)
    replace_bytes(path, honest)
    remake_tables(folder)


def other_forces(folder: Path) -> None:
    """Errors of smaller forces than the test outputs have; metrics and tables made from them."""
    path = folder / FORCE_RUN / "outputs.safetensors"
    honest = path.read_bytes()

    def change(found: dict[str, np.ndarray]) -> None:
        found["force_prediction"] = found["force_prediction"] * np.float32(0.9)

    remake_run(folder, FORCE_RUN, change)
    replace_bytes(path, honest)
    remake_tables(folder)


def worse_baselines(folder: Path) -> None:
    """What needs no model is made worse in all runs, so that every model looks better."""

    def change(found: dict[str, np.ndarray]) -> None:
        found["naive"] = found["label"] + 2 * (found["naive"] - found["label"])

    for path in sorted(folder.glob(f"{FINETUNE}/*/seed*")):
        remake_run(folder, str(path.relative_to(folder)), change)
    remake_tables(folder)


def better_outputs(folder: Path) -> None:
    remake_run(folder, RUN, better)
    remake_tables(folder)


def other_labels(folder: Path) -> None:
    """Labels of one run's test outputs moved to its predictions.

    Its tables cannot be made anew: methods are paired by molecule and label.
    """

    def change(found: dict[str, np.ndarray]) -> None:
        found["label"] = found["prediction"] * 0.999

    remake_run(folder, RUN, change)
    with pytest.raises(DataError, match="tested on other molecules"):
        remake_tables(folder)


def zeroed(folder: Path) -> None:
    rewrite_weights(folder / RUN / "model.safetensors", lambda _, array: np.zeros_like(array))


def other_encoder(folder: Path) -> None:
    """GeoRecon's encoder under Coord's name, its header edited."""
    arrays = load_file(folder / ENCODER.replace("coord", "georecon"))
    rewrite_weights(folder / ENCODER, lambda name, _: arrays[name])


def other_encoder_and_smoothness(folder: Path) -> None:
    other_encoder(folder)
    place = f"{RESULTS}/smoothness/coord/seed1/metrics.json"
    shutil.copy(folder / place.replace("coord", "georecon"), folder / place)
    remake_tables(folder)


def half_smoothness(folder: Path) -> None:
    path = folder / f"{RESULTS}/smoothness/georecon/seed1/metrics.json"
    document = read_json(path)
    for values in document["estimates"].values():
        values |= {k: v / 2 for k, v in values.items() if isinstance(v, float)}
    write_json(path, document)
    remake_tables(folder)


def half_drift(folder: Path) -> None:
    path = folder / f"{DYNAMICS}/metrics.json"
    document = read_json(path)
    write_json(path, document | {"drift": document["drift"] / 2})
    remake_tables(folder)


def copied_seed(folder: Path) -> None:
    """Seed 1's files as those of seed 2, whose record stays."""
    for name in ("model.safetensors", "curve.csv"):
        shutil.copy(folder / RUN / name, folder / FINETUNE / "coord/seed2" / name)


def relabelled_seeds(folder: Path) -> None:
    """Files of two seeds exchanged; the records stay, and all that follows is made anew."""
    two = f"{FINETUNE}/coord/seed2"
    for name in ("model.safetensors", "outputs.safetensors", "curve.csv"):
        swap(folder, f"{RUN}/{name}", f"{two}/{name}")
    facts = [read_json(folder / run / "run.json") for run in (RUN, two)]
    for run, other in zip((RUN, two), reversed(facts), strict=True):
        both = {key: other[key] for key in ("training", "final")}
        edit_json(folder / run / "run.json", lambda record, both=both: record.update(both))
        remake_run(folder, run, lambda found: None)
    remake_tables(folder)


def nameless(folder: Path) -> None:
    """Better metrics; the record calls predictions something else, for no check to look at them."""
    edit_json(folder / RUN / "metrics.json", lambda m: m["property"].update(mae=0.1))

    def record(found: Json) -> None:
        found["outputs"]["other"] = found["outputs"].pop("predictions")

    edit_json(folder / RUN / "evaluate.run.json", record)


def shorter(record: Json) -> None:
    record["settings"]["train"]["steps"] -= 1


def cut(path: str) -> Change:
    def edit(folder: Path) -> None:
        lines = (folder / path).read_text().splitlines()
        replace_bytes(folder / path, ("\n".join(lines[:-1]) + "\n").encode())

    return edit


def better_curve(folder: Path) -> None:
    """A validation error, in the curve and as the record reports it."""
    path = folder / RUN / "curve.csv"
    head, *rows = [line.split(",") for line in path.read_text().splitlines()]
    place = [head.index(name) for name in ("val_score", "val_mae")]
    for row in rows:
        for column in place:
            row[column] = repr(float(row[column]) / 2)
    replace_bytes(path, ("\n".join(",".join(row) for row in [head, *rows]) + "\n").encode())

    def record(found: Json) -> None:
        found["final"] |= {k: found["final"][k] / 2 for k in ("val_score", "val_mae")}
        found["training"]["best_score"] /= 2

    edit_json(folder / RUN / "run.json", record)


def another_training(folder: Path) -> None:
    """Weights of a longer, luckier training; all else as it would have been made from them."""
    import torch

    from georecon.experiments.settings import FinetuneSettings
    from georecon.keys import from_json
    from georecon.models.potential import PropertyModel
    from georecon.stages.finetune import predict
    from georecon.training.batches import in_order
    from georecon.training.world import World

    rng = np.random.default_rng(0)
    path = folder / RUN / "model.safetensors"
    floats = ("scale", "shift", "atomref")

    def change(name: str, array: np.ndarray) -> np.ndarray:
        noise = rng.normal(scale=0.01, size=array.shape).astype(array.dtype)
        return array if name in floats else array + noise

    rewrite_weights(path, change)
    settings = from_json(FinetuneSettings, read_json(folder / RUN / "run.json")["settings"])
    references = torch.zeros(settings.encoder.max_z, dtype=torch.float64)
    head = settings.recipe.head
    model = PropertyModel(settings.encoder, head, scale=1.0, shift=0.0, atomref=references)
    arrays = {name: torch.from_numpy(array) for name, array in load_file(path).items()}
    model.load_state_dict(arrays)
    store, split = Store.open(folder / STORE), read_split(folder / SPLIT)
    test = in_order(store, split.test, settings.evaluation_batch, settings.label)
    made = predict(model, test, settings.recipe, World())
    now = {name: value.numpy() for name, value in made.items()}
    remake_run(folder, RUN, lambda found: found.update(now))
    remake_tables(folder)


def header_of_weights(folder: Path) -> None:
    """Fine-tuned weights that say they predict in another unit."""
    path = folder / RUN / "model.safetensors"
    with safe_open(path, framework="numpy") as handle:
        header = json.loads(handle.metadata()["georecon"])
    header["unit"] = "meV"
    save_file(load_file(path), path.with_suffix(".new"), metadata={"georecon": json.dumps(header)})
    path.with_suffix(".new").replace(path)


def code_usage(folder: Path) -> None:
    """Code usage at the best step, in the curve and as the record and all tables report it."""
    path, name = folder / USAGE / "metrics.csv", "val_code_usage"
    record = read_json(folder / USAGE / "run.json")
    lines = path.read_text().splitlines()
    place = lines[0].split(",").index(name)
    for k, line in enumerate(lines):
        values = line.split(",")
        if values[0] == str(record["training"]["best_step"]):
            values[place] = repr(float(values[place]) + 0.1)
            lines[k] = ",".join(values)
    replace_bytes(path, ("\n".join(lines) + "\n").encode())
    edit_json(folder / USAGE / "run.json", lambda r: r["final"].update(
        {name: r["final"][name] + 0.1}))  # fmt: skip
    remake_tables(folder)


def rates(folder: Path) -> None:
    """A curve of twice the learning rate."""
    path = folder / RUN / "curve.csv"
    head, *rows = [line.split(",") for line in path.read_text().splitlines()]
    place = head.index("lr")
    for row in rows:
        row[place] = repr(2 * float(row[place]))
    replace_bytes(path, ("\n".join(",".join(row) for row in [head, *rows]) + "\n").encode())
    edit_json(folder / RUN / "run.json", lambda r: r["final"].update(lr=2 * r["final"]["lr"]))


def trajectory(folder: Path) -> None:
    """Dynamics with less drift, as the figure shows it; the measures stay."""
    path = folder / DYNAMICS / "curve.csv"
    head, *rows = path.read_text().splitlines()
    calm = [",".join([*row.split(",")[:2], "0.0", row.split(",")[3]]) for row in rows]
    replace_bytes(path, ("\n".join([head, *calm]) + "\n").encode())


# ---- code and machines -------------------------------------------------------------------------


def mixed_kernels(record: Json) -> None:
    record["compute"] |= {"kernel": "reference", "instruction_set": None}


def all_kernels(record: Json) -> None:
    if "kernel" in record["compute"]:
        mixed_kernels(record)


def torch_version(record: Json) -> None:
    with suppress(KeyError):
        record["versions"]["torch"] = "2.12.1"


def edition(record: Json) -> None:
    text = json.dumps(record["settings"]).replace('"batch_size": 16', '"batch_size": 32')
    record["settings"] = json.loads(text)
    record["settings_sha256"] = sha256_json(record["settings"])


def without_commit(record: Json) -> None:
    record["code"] |= {"commit": None, "dirty": None, "changed": []}


def configured_anew(folder: Path) -> None:
    """Other clipping of gradients in records and in the configuration: as if it had been so."""
    rate = "lr: 5.0e-3"
    path = folder / "config/editions/tiny.yaml"
    edit_text(path, rate, f"{rate}\n      clip: 5.0")  # of properties
    for path in sorted(folder.glob(f"{RESULTS}/finetune/property/*/*/seed*/run.json")):
        if read_json(path)["settings"]["train"]["lr"] == 5.0e-3:  # another encoder has its own
            edit_json(path, lambda record: record["settings"]["train"].update(clip=5.0))


def without_versions(record: Json) -> None:
    record["versions"] = {}
