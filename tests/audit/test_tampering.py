"""Every kind of tampering with a real finished run turns the audit red, and is named.

The first list changes one file and nothing else. The second is of forgers who seal every record
anew afterwards, so that all hashes agree.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from georecon.audit.findings import DIFFERS, MISSING, NOT_COMPARABLE, REPRODUCED
from georecon.errors import DataError
from georecon.experiments.experiments import Experiments
from georecon.files import read_json
from georecon.reporting.tables import build, write_table
from georecon.stages.evaluate import evaluate
from tests.audit import tamper
from tests.audit.tamper import (
    FINETUNE,
    RESULTS,
    edit_json,
    edit_text,
    flip_bit,
    own_copy,
    run_audit,
)
from tests.projects import Project

pytestmark = [pytest.mark.workflow, pytest.mark.slow, pytest.mark.timeout(600)]

RUN = f"{FINETUNE}/coord/seed1"
QM9 = f"{RESULTS}/tables/qm9"
SPLIT = "resources/splits/qm9/pvd_tiny_draw1.npz"
LEAK = f"{RESULTS}/leaks/qm9/pvd_tiny_draw1.json"


def swap(folder: Path, first: str, second: str) -> None:
    one, two = folder / first, folder / second
    one.rename(folder / "aside")
    two.rename(one)
    (folder / "aside").rename(two)


def cut_curve(folder: Path) -> None:
    path = folder / RUN / "curve.csv"
    path.write_text("\n".join(path.read_text().splitlines()[:-1]) + "\n")


def cell_value(folder: Path) -> None:
    def change(table: dict[str, Any]) -> None:
        cell = next(c for c in table["cells"] if (c["row"], c["column"]) == ("coord", "homo"))
        cell["value"] *= 0.9

    edit_json(folder / f"{QM9}.json", change)


def first_number(folder: Path, suffix: str) -> None:
    """Change the last digit of a line of numbers in one of the table's texts."""
    path = folder / f"{QM9}{suffix}"
    line = next(row for row in path.read_text().splitlines() if re.search(r"\d\.\d", row))
    digit = next(k for k in range(len(line) - 1, 0, -1) if line[k].isdigit())
    edit_text(path, line, f"{line[:digit]}{(int(line[digit]) + 1) % 10}{line[digit + 1 :]}")


def shorter_training(record: dict[str, Any]) -> None:
    record["settings"]["train"]["steps"] -= 1


Change = Callable[[Path], None]
OF_ONE_FILE: dict[str, tuple[Change, str, str, str]] = {
    "flipped bit in a raw file": (
        lambda f: flip_bit(f / "resources/raw/qm9/qm9_part1.csv"),
        "file changed", "resources/raw/qm9/qm9_part1.csv", "the raw"),
    "flipped bit in a store's array": (
        lambda f: flip_bit(f / "resources/store/qm9/pos.npy"),
        "file changed", "resources/store/qm9/pos.npy", "the array"),
    "flipped bit in a split": (
        lambda f: flip_bit(f / SPLIT), "file changed", SPLIT, "the split"),
    "flipped bit in an encoder": (
        lambda f: flip_bit(f / RESULTS / "pretrain/coord/seed1/encoder.safetensors"),
        "file changed", f"{RESULTS}/pretrain/coord/seed1/encoder.safetensors", "the encoder"),
    "flipped bit in a fine-tuned model": (
        lambda f: flip_bit(f / RUN / "model.safetensors"),
        "file changed", f"{RUN}/model.safetensors", "the model"),
    "flipped bit in predictions": (
        lambda f: flip_bit(f / RUN / "predictions.parquet"),
        "file changed", f"{RUN}/predictions.parquet", "the predictions"),
    "edited number in CSV": (
        lambda f: first_number(f, ".csv"), "table edited", f"{QM9}.csv", "line"),
    "edited number in Markdown": (
        lambda f: first_number(f, ".md"), "table edited", f"{QM9}.md", "line"),
    "edited number in LaTeX": (
        lambda f: first_number(f, ".tex"), "table edited", f"{QM9}.tex", "line"),
    "edited number in a table's JSON": (
        cell_value, "value differs", f"{QM9}.json", "qm9/coord/homo: value is"),
    "edited caption": (
        lambda f: edit_json(f / f"{QM9}.json", lambda t: t.update(caption="All seeds.")),
        "table edited", f"{QM9}.json", "caption"),
    "edited metrics": (
        lambda f: edit_json(f / RUN / "metrics.json", lambda m: m["property"].update(mae=0.1)),
        "metrics differ", f"{RUN}/metrics.json", "property.mae is 0.1"),
    "swapped checkpoints of two seeds": (
        lambda f: swap(f, f"{RUN}/model.safetensors", f"{FINETUNE}/coord/seed2/model.safetensors"),
        "file changed", f"{RUN}/model.safetensors",
        f"the bytes of {FINETUNE}/coord/seed2/model.safetensors"),
    "changed configuration in run.json": (
        lambda f: edit_json(f / RUN / "run.json", shorter_training),
        "record edited", f"{RUN}/run.json", "the configuration was changed"),
    "changed commit in run.json": (
        lambda f: edit_json(f / RUN / "run.json", lambda r: r["code"].update(commit="0" * 40)),
        "record edited", f"{RUN}/run.json", "not that whose digest"),
    "deleted log": (
        lambda f: (f / "logs/tiny/finetune/property/homo/coord/seed1.log").unlink(),
        "file missing", "logs/tiny/finetune/property/homo/coord/seed1.log", "the log"),
    "deleted record of a run": (
        lambda f: (f / RUN / "run.json").unlink(),
        "record missing", f"{RUN}/run.json", "record of a job"),
    "deleted record of a raw file": (
        lambda f: (f / "resources/records/fetch/qm9/qm9_part1.csv.json").unlink(),
        "record missing", "resources/records/fetch/qm9/qm9_part1.csv.json", "record of a job"),
    "deleted predictions": (
        lambda f: (f / RUN / "predictions.parquet").unlink(),
        "file missing", f"{RUN}/predictions.parquet", "the predictions"),
    "deleted table": (
        lambda f: (f / f"{QM9}.md").unlink(), "file missing", f"{QM9}.md", "is gone"),
    "truncated curve": (
        cut_curve, "curve differs", f"{RUN}/curve.csv", "last and best step"),
    "edited leak report": (
        lambda f: edit_json(f / LEAK, lambda r: r.update(shared=r["shared"] + 1)),
        "file changed", LEAK, "the leak"),
    "run.json copied from another method": (
        lambda f: shutil.copyfile(f / FINETUNE / "georecon/seed1/run.json", f / RUN / "run.json"),
        "record of another run", f"{RUN}/run.json", "georecon/seed1"),
    "runs of two seeds exchanged": (
        lambda f: swap(f, RUN, f"{FINETUNE}/coord/seed2"),
        "record of another run", f"{RUN}/run.json", "seed2"),
}  # fmt: skip


@pytest.fixture(scope="module")
def sound(finished: Project, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return own_copy(finished, tmp_path_factory.mktemp("sound") / "run")


@pytest.fixture
def folder(finished: Project, tmp_path: Path) -> Path:
    return own_copy(finished, tmp_path / "run")


def test_an_untouched_run_is_intact(sound: Path) -> None:
    result = run_audit(sound)
    assert result.status == "intact", list(result.lines())
    assert not result.findings
    for place, cell in result.cells.items():
        assert cell.verdict == (MISSING if cell.value is None else REPRODUCED), place
    assert result.counts()[REPRODUCED] > 50
    assert result.hashed.files > 250


@pytest.mark.parametrize("name", OF_ONE_FILE)
def test_one_changed_file_is_found_and_named(name: str, folder: Path) -> None:
    change, kind, path, words = OF_ONE_FILE[name]
    change(folder)
    result = run_audit(folder)
    assert result.status == "broken"
    found = [(f.kind, f.path) for f in result.findings]
    assert (kind, path) in found, found
    finding = next(f for f in result.findings if (f.kind, f.path) == (kind, path))
    assert words in finding.text
    assert not finding.path.startswith("/")
    if not path.startswith(QM9) or kind == "value differs":
        assert finding.cells, "names no cell"
    for cell in finding.cells:
        assert result.cells[cell].verdict != REPRODUCED


# ---- forgers ----------------------------------------------------------------------------------


def better_predictions(folder: Path) -> None:
    """Predictions moved towards their labels; metrics, tables and all records made from them."""
    import pyarrow
    import pyarrow.parquet

    path = folder / RUN / "predictions.parquet"
    table = pyarrow.parquet.read_table(path)
    better = (table["prediction"].to_numpy() + table["label"].to_numpy()) / 2
    place = table.schema.get_field_index("prediction")
    table = table.set_column(place, "prediction", pyarrow.array(better))
    pyarrow.parquet.write_table(table, path)
    edit_json(folder / RUN / "metrics.json", lambda m: m["property"].update(again(path)))
    remake_tables(folder)


def again(predictions: Path) -> dict[str, Any]:
    from georecon.audit.values import read_predictions
    from georecon.stages.evaluate import errors

    return errors(read_predictions(predictions, "x")[0])["property"]


def remake_tables(folder: Path) -> None:
    experiments = Experiments.load(folder / "config", {"edition": "tiny"})
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        for table in experiments.config.tables:
            made = build(experiments.tables.spec(table), experiments.tables.leaks(table))
            write_table(made, Path(f"{RESULTS}/tables/{table}"))


def better_outputs(folder: Path) -> None:
    """Labels of one run's test outputs changed, and what is evaluated from them.

    Its tables cannot be made anew: methods are paired by molecule and label.
    """
    from safetensors.numpy import load_file, save_file

    path = folder / RUN / "outputs.safetensors"
    outputs = load_file(path)
    outputs["label"] = outputs["prediction"] * 0.999
    save_file(outputs, path)
    made = (folder / RUN / "predictions.parquet", folder / RUN / "metrics.json")
    evaluate(path, folder / SPLIT, *made, unit="eV")
    with pytest.raises(DataError, match="tested on other molecules"):
        remake_tables(folder)


def train_on_test(parts: dict[str, np.ndarray]) -> None:
    parts["train"] = np.concatenate([parts["train"][:-5], parts["test"][:5]])


def pretrain_on_test(folder: Path) -> None:
    with np.load(folder / SPLIT) as split:
        test = split["test"][:3]

    def change(parts: dict[str, np.ndarray]) -> None:
        parts["train"] = np.concatenate([parts["train"], test])

    tamper.rewrite_split(folder / "resources/splits/qm9/pretrain_tiny.npz", change)


def other_lengths(folder: Path) -> None:
    for seed in (1, 2):
        edit_json(folder / FINETUNE / f"coord/seed{seed}/run.json", shorter_training)


def one_seed_less(folder: Path) -> None:
    def change(table: dict[str, Any]) -> None:
        cell = next(c for c in table["cells"] if (c["row"], c["column"]) == ("coord", "homo"))
        cell["runs"] = cell["runs"][:1]
        cell["values"] = {"1": cell["values"]["1"]}
        cell |= {"value": cell["values"]["1"], "std": None, "n": 1}

    edit_json(folder / f"{QM9}.json", change)
    write_table(read_json(folder / f"{QM9}.json"), folder / QM9)


def other_methods_runs(folder: Path) -> None:
    def change(table: dict[str, Any]) -> None:
        cells = {(c["row"], c["column"]): c for c in table["cells"]}
        mine, best = cells["georecon", "homo"], cells["coord", "homo"]
        mine |= {key: best[key] for key in ("value", "std", "values", "runs")}

    edit_json(folder / f"{QM9}.json", change)
    write_table(read_json(folder / f"{QM9}.json"), folder / QM9)


def a_certain_win(folder: Path) -> None:
    def change(table: dict[str, Any]) -> None:
        best = next(d for d in table["comparison"]["differences"] if d["row"] == "georecon")
        best |= {"value": -500.0}

    edit_json(folder / f"{QM9}.json", change)
    write_table(read_json(folder / f"{QM9}.json"), folder / QM9)


def no_comparison(folder: Path) -> None:
    edit_json(folder / f"{QM9}.json", lambda table: table.update(comparison=None))
    write_table(read_json(folder / f"{QM9}.json"), folder / QM9)


def other_labels(array: np.ndarray) -> None:
    array += 0.001


def cut_pretraining(folder: Path) -> None:
    path = folder / RESULTS / "pretrain/georecon/seed1/metrics.csv"
    path.write_text("\n".join(path.read_text().splitlines()[:-1]) + "\n")


SEALED: dict[str, tuple[Change, str, str, str]] = {
    "better predictions": (
        better_predictions, "predictions differ", f"{RUN}/predictions.parquet", "test outputs"),
    "better test outputs": (
        better_outputs, "predictions differ", f"{RUN}/predictions.parquet", "labels"),
    "edited metrics": (
        lambda f: edit_json(f / RUN / "metrics.json", lambda m: m["property"].update(mae=0.1)),
        "metrics differ", f"{RUN}/metrics.json", "stored predictions give"),
    "test molecules moved into training": (
        lambda f: tamper.rewrite_split(f / SPLIT, train_on_test), "test set seen", SPLIT, "twice"),
    "test molecules moved into pre-training": (
        pretrain_on_test, "test set seen", "resources/splits/qm9/pretrain_tiny.npz",
        "3 validation or test molecules"),
    "one method trained with other lengths": (
        other_lengths, "unequal conditions", f"{QM9}.json", "train.steps"),
    "settings that the configuration does not have": (
        other_lengths, "settings differ", f"{RUN}/run.json", "train.steps is 39"),
    "a cell with fewer seeds than its neighbours": (
        one_seed_less, "table edited", f"{QM9}.json", "coord/homo"),
    "a cell filled from another method's runs": (
        other_methods_runs, "table edited", f"{QM9}.json", "georecon/homo"),
    "a difference to another method": (
        a_certain_win, "value differs", f"{QM9}.json", "value -500.0 of georecon against coord"),
    "a table without its comparison": (
        no_comparison, "value differs", f"{QM9}.json", "comparison of methods"),
    "labels of a store": (
        lambda f: tamper.rewrite_array(f, "resources/store/qm9/labels_homo.npy", other_labels),
        "predictions differ", f"{RUN}/predictions.parquet", "labels are not those"),
    "truncated pre-training curve": (
        cut_pretraining, "curve differs", f"{RESULTS}/pretrain/georecon/seed1/metrics.csv", "step"),
    "leak report of another test set": (
        lambda f: edit_json(f / LEAK, lambda r: r.update(test_molecules=5)),
        "leak report differs", LEAK, "its splits hold"),
}  # fmt: skip


@pytest.mark.parametrize("name", SEALED)
def test_a_forger_who_seals_all_records_is_found(name: str, folder: Path) -> None:
    change, kind, path, words = SEALED[name]
    change(folder)
    tamper.seal_all(folder)
    result = run_audit(folder)
    found = [(f.kind, f.path, f.text) for f in result.findings]
    assert any((k, p) == (kind, path) and words in t for k, p, t in found), found
    assert result.status == "broken"
    assert not [f for f in result.findings if f.kind in ("record edited", "file changed")]


def test_sealing_alone_breaks_nothing(folder: Path) -> None:
    """The twin of the forgers' tests: what they find is not the seal."""
    tamper.seal_all(folder)
    assert run_audit(folder).status == "intact"


def test_uncommitted_code_is_loud_but_breaks_no_chain(folder: Path) -> None:
    def change(record: dict[str, Any]) -> None:
        record["code"] |= {"dirty": True, "changed": ["src/georecon/models/encoder.py"]}

    edit_json(folder / RUN / "run.json", change)
    tamper.seal_all(folder)
    result = run_audit(folder)
    assert result.status == "intact"
    assert result.cells["qm9/coord/homo"].verdict == NOT_COMPARABLE
    assert result.cells["qm9/georecon/homo"].verdict == REPRODUCED
    assert any("UNCOMMITTED CODE" in line and "encoder.py" in line for line in result.lines())


def test_a_table_that_was_never_made_is_missing(folder: Path) -> None:
    for path in (folder / RESULTS / "tables").glob("md17.*"):
        path.unlink()
    (folder / RESULTS / "records/table/md17.json").unlink()
    result = run_audit(folder)
    assert (result.status, result.tables_missing) == ("incomplete", ["md17"])


def test_verdicts_of_a_changed_number(folder: Path) -> None:
    cell_value(folder)
    (folder / FINETUNE / "scratch/seed2/predictions.parquet").unlink()
    cells = run_audit(folder).cells
    edited = cells["qm9/coord/homo"]
    assert edited.verdict == DIFFERS
    assert edited.value is not None
    assert edited.recomputed is not None
    assert edited.recomputed.value > edited.value
    assert cells["qm9/scratch/homo"].verdict == MISSING
    assert cells["qm9/georecon/alpha"].verdict == REPRODUCED
