"""One real run of the tiny edition: its tables, and what makes which job run again."""

from __future__ import annotations

import csv
import json
import os
import re
import shutil
import signal
import subprocess
import time
from collections import Counter

import pytest

from georecon.files import sha256_file, sha256_json
from tests.projects import Project
from tests.tables_check import check_against_baseline, check_no_avoidable_gap, load_tables

pytestmark = [pytest.mark.workflow, pytest.mark.slow, pytest.mark.timeout(600)]

TABLES = ("qm9", "md17", "md22", "3bpa", "smoothness", "noise_scale", "decoder_depth", "controls",
          "physics", "unimol")  # fmt: skip
NOTHING = "Nothing to be done"


def counts(jobs: list[tuple[str, str]]) -> dict[str, int]:
    return dict(Counter(rule for rule, _ in jobs))


def methods(jobs: list[tuple[str, str]], rule: str) -> set[str]:
    return {w.partition("method=")[2].partition(",")[0] for r, w in jobs if r == rule}


# ---- what the run left ------------------------------------------------------------------------


def test_all_tables_exist_in_four_formats(finished: Project) -> None:
    folder = finished.folder / "results/tiny/tables"
    expected = {f"{name}{suffix}" for name in TABLES for suffix in (".csv", ".md", ".tex", ".json")}
    assert {path.name for path in folder.iterdir()} == expected
    assert all(path.stat().st_size > 100 for path in folder.iterdir())


def test_fine_tuned_models_beat_the_training_mean(finished: Project) -> None:
    """But for the energies of the force set: 60 steps on 60 frames are too few for them. The other
    force sets have ten steps.
    """
    tables = load_tables(finished.folder / "results/tiny/tables")
    tables = {name: tables[name] for name in tables if name not in ("md22", "3bpa")}
    rows = tables["md17"]["rows"]
    tables["md17"]["rows"] = [row for row in rows if row["quantity"] == "force"]
    assert check_against_baseline(tables) >= 4 * 3  # methods x (2 properties + force)


def test_no_cell_is_empty_but_for_a_missing_set(finished: Project) -> None:
    check_no_avoidable_gap(load_tables(finished.folder / "results/tiny/tables"), "tiny")


def test_run_records_match_their_files(finished: Project) -> None:
    records = sorted(finished.folder.glob("results/tiny/**/*run.json"))
    kinds = Counter()
    for path in records:
        record = json.loads(path.read_text())
        kinds[record["stage"]] += 1
        assert record["settings_sha256"] == sha256_json(record["settings"]), path
        for group in ("inputs", "outputs"):
            assert record[group], path
            for name, file in record[group].items():
                file_path = finished.folder / file["path"]
                assert file_path.stat().st_size == file["bytes"], (path, name)
                assert sha256_file(file_path) == file["sha256"], (path, name)
        assert record["versions"]["torch"]
        assert record["compute"]["device"] == "cpu"
        assert record["started"] <= record["ended"]
    assert kinds["pretrain"] == 13
    assert kinds["finetune"] == kinds["evaluate"] == 49
    assert kinds["smoothness"] == 13
    assert kinds["nve"] == 4


def test_table_runs_name_files_with_their_hashes(finished: Project) -> None:
    for table in load_tables(finished.folder / "results/tiny/tables").values():
        for cell in table["cells"]:
            for run in cell["runs"]:
                assert sha256_file(finished.folder / run["path"]) == run["sha256"]


def test_test_set_is_unseen_in_pretraining(finished: Project) -> None:
    import numpy as np

    folder = finished.folder / "resources/splits/qm9"
    with np.load(folder / "pretrain_tiny.npz") as seen:
        for draw in (1, 2):
            with np.load(folder / f"pvd_tiny_draw{draw}.npz") as split:
                assert not set(seen["train"]) & (set(split["test"]) | set(split["val"]))


def test_curves_are_readable(finished: Project) -> None:
    for path in finished.folder.glob("results/tiny/**/curve.csv"):
        rows = list(csv.DictReader(path.read_text().splitlines()))
        assert rows
        assert all(float(value) == float(value) for row in rows for value in row.values())


@pytest.mark.parametrize(
    ("table", "name", "frames"),
    [("3bpa", "x3bpa", 50), ("md22", "xmd22", 50), ("md17", "xmd17", 400)],
)
def test_captions_of_computed_sets_name_them_and_count_independent_frames(
    finished: Project, table: str, name: str, frames: int
) -> None:
    caption = load_tables(finished.folder / "results/tiny/tables")[table]["caption"]
    assert f"{name} is computed with GFN2-xTB" in caption
    count = re.search(rf" (\d+) of {frames}\b", caption)
    assert count, caption
    assert 1 <= int(count[1]) <= frames


def test_hotter_frames_have_higher_energies(finished: Project) -> None:
    """Without a model: its training mean is farther off the hotter the test trajectory."""
    table = load_tables(finished.folder / "results/tiny/tables")["3bpa"]
    values = {(cell["row"], cell["column"]): cell["value"] for cell in table["cells"]}
    for row in ("energy_baseline", "force_baseline"):
        errors = [values[row, f"{kelvin}K_rmse"] for kelvin in (300, 600, 1200)]
        assert errors == sorted(errors)


# ---- what runs again --------------------------------------------------------------------------


def test_second_run_does_nothing(finished: Project) -> None:
    assert NOTHING in finished.snakemake("--", "tables").stdout


def test_deleted_table_is_rebuilt_alone(working: Project) -> None:
    path = working.folder / "results/tiny/tables/qm9.json"
    before = path.read_bytes()
    for suffix in (".json", ".csv", ".md", ".tex"):
        path.with_suffix(suffix).unlink()
    assert working.planned("--", "table_qm9") == [("table", "table=qm9")]
    assert NOTHING in working.snakemake("-n", "--", "table_md17").stdout
    working.snakemake("--", "table_qm9")
    assert path.read_bytes() == before
    assert NOTHING in working.snakemake("-n", "--", "tables").stdout


def test_touching_every_source_file_reruns_nothing(working: Project) -> None:
    for part in ("src", "workflow", "rules", "config"):
        for path in (working.folder / part).rglob("*"):
            if path.is_file():
                os.utime(path)
    assert NOTHING in working.snakemake("-n", "--", "tables").stdout


def test_one_methods_parameter_reruns_that_method_alone(working: Project) -> None:
    working.configure("config/methods.yaml", "coord", "params", "sigma", value=0.05)
    jobs = working.planned("--", "tables")
    assert methods(jobs, "pretrain") == methods(jobs, "finetune") == {"coord"}
    assert methods(jobs, "smoothness") == {"coord"}
    # tables of all methods have a row of Coord; sweeps, controls and Uni-Mol's do not know it
    tables = {w.removeprefix("table=") for r, w in jobs if r == "table"}
    assert tables == {"qm9", "md17", "md22", "3bpa", "smoothness", "physics"}
    assert counts(jobs) == {
        "pretrain": 2,
        "finetune": 8,  # two properties and a molecule with two seeds each, md22 and 3bpa with one
        "evaluate": 8,
        "smoothness": 2,
        "nve": 1,
        "table": 6,
    }


def test_one_fine_tuning_length_reruns_that_set_alone(working: Project) -> None:
    working.configure("config/editions/tiny.yaml", "finetune", "force", "train", "steps", value=41)
    jobs = working.planned("--", "tables")
    assert set(counts(jobs)) == {"finetune", "evaluate", "nve", "table"}
    assert all("part=force" in w for r, w in jobs if r in ("finetune", "evaluate", "nve"))
    tables = {w.removeprefix("table=") for r, w in jobs if r == "table"}
    # captions say how long training was
    assert tables == {"md17", "noise_scale", "decoder_depth", "controls", "physics"}


def test_a_title_rewrites_its_table_alone(working: Project) -> None:
    working.configure("config/tables.yaml", "md17", "title", value="Another title")
    assert working.planned("--", "tables") == [("table", "table=md17")]


def test_a_new_seed_adds_its_runs_alone(working: Project) -> None:
    working.configure("config/editions/tiny.yaml", "finetune", "seeds", value=[1, 2, 3])
    jobs = working.planned("--", "tables")
    per_seed = ("pretrain", "finetune", "evaluate", "smoothness")
    assert set(counts(jobs)) == {*per_seed, "split", "table"}
    assert all("seed=3" in w for r, w in jobs if r in per_seed)
    assert all("draw3" in w for r, w in jobs if r == "split")
    assert [counts(jobs)[rule] for rule in (*per_seed, "split")] == [3, 12, 12, 4, 2]


EDIT = "\nEDITED = 1\n"


def test_a_comment_a_docstring_and_another_layout_rerun_nothing(working: Project) -> None:
    working.edit("src/georecon/models/encoder.py", lambda text: f"# edited\n{text}\n\n# edited\n")
    working.edit(
        "src/georecon/training/curve.py", lambda text: text.replace('"""', '"""Edited. ', 1)
    )
    working.edit("src/georecon/noise.py", lambda text: text.replace("\n\n", "\n\n\n"))
    working.edit("src/georecon/kernels/attention.cpp", lambda text: "// edited\n" + text)
    working.edit("workflow/scripts/finetune.py", lambda text: text + "# edited\n")
    assert NOTHING in working.snakemake("-n", "--", "tables").stdout


def test_an_edited_helper_that_trainings_call_reruns_them(working: Project) -> None:
    working.edit("src/georecon/data/split.py", lambda text: text + EDIT)
    jobs = counts(working.planned("--", "tables"))
    assert (jobs["pretrain"], jobs["finetune"], jobs["smoothness"]) == (13, 49, 13)
    assert "preprocess" not in jobs


def test_an_edited_model_reruns_training_but_no_data(working: Project) -> None:
    working.edit("src/georecon/models/encoder.py", lambda text: text + EDIT)
    jobs = counts(working.planned("--", "tables"))
    assert (jobs["pretrain"], jobs["finetune"], jobs["smoothness"]) == (13, 49, 13)
    assert not {"fetch", "xtb", "preprocess", "preprocess_target", "split", "leak"} & set(jobs)


def test_an_edited_second_encoder_reruns_its_own_methods(working: Project) -> None:
    working.edit("src/georecon/models/unimol/pairs.py", lambda text: text + EDIT)
    jobs = working.planned("--", "tables")
    assert methods(jobs, "pretrain") == {"unimol", "unimol_georecon"}
    assert methods(jobs, "finetune") == {"unimol_scratch", "unimol", "unimol_georecon"}
    assert counts(jobs) == {"pretrain": 2, "finetune": 3, "evaluate": 3, "table": 1}


def test_an_edited_objective_reruns_its_methods(working: Project) -> None:
    working.edit("src/georecon/objectives/denoise.py", lambda text: text + EDIT)
    jobs = working.planned("--", "tables")
    assert methods(jobs, "pretrain") == {"coord"}


MINE = '''
"""Denoising with the noise of each atom halved: a method that the project does not have."""

from dataclasses import dataclass
from typing import Annotated

from torch.nn import functional

from georecon.keys import Key
from georecon.models.heads import VectorHead
from georecon.objectives import PretrainingObjective


@dataclass(frozen=True)
class Parameters:
    """Parameters of this method."""

    sigma: Annotated[float, Key("standard deviation of the noise", "Å", above=0)]


class Objective(PretrainingObjective):
    """Predict half of the noise."""

    def __init__(self, encoder, parameters):
        super().__init__(encoder)
        self.sigma = parameters.sigma
        self.head = VectorHead(encoder.settings.channels)

    def forward(self, graph, noise):
        """Loss on one batch."""
        noisy, epsilon = noise.displace(graph, "mine", self.sigma)
        loss = functional.mse_loss(self.head(*self.encoder(noisy), noisy), epsilon / 2)
        return {"loss": loss, "halved": loss}
'''
ENTRY = """
mine:
  label: A method of my own
  objective: mine
  params: {sigma: 0.05}
"""


def test_a_new_objective_is_one_file_and_one_entry(working: Project) -> None:
    """From a file and a config entry to a row with numbers; nothing else runs again."""
    (working.folder / "src/georecon/objectives/mine.py").write_text(MINE)
    working.edit("config/methods.yaml", lambda text: text + ENTRY)
    jobs = working.planned("--", "table_qm9")
    assert counts(jobs) == {"pretrain": 2, "finetune": 4, "evaluate": 4, "table": 1}
    assert methods(jobs, "pretrain") == methods(jobs, "finetune") == {"mine"}
    working.launch("--", "table_qm9")
    table = json.loads((working.folder / "results/tiny/tables/qm9.json").read_text())
    row = [cell for cell in table["cells"] if cell["row"] == "mine"]
    assert [cell["n"] for cell in row] == [2, 2]
    assert all(cell["value"] > 0 for cell in row)
    assert "A method of my own" in (working.folder / "results/tiny/tables/qm9.md").read_text()
    curve = working.folder / "results/tiny/pretrain/mine/seed1/metrics.csv"
    assert "val_halved" in curve.read_text()


def test_edited_tables_code_rewrites_tables_alone(working: Project) -> None:
    working.edit("src/georecon/reporting/tables.py", lambda text: text + EDIT)
    assert counts(working.planned("--", "tables")) == {"table": len(TABLES)}


def test_edited_preprocessing_reruns_from_there(working: Project) -> None:
    working.edit("src/georecon/data/readers/qm9_package.py", lambda text: text + EDIT)
    jobs = counts(working.planned("--", "table_qm9"))
    assert jobs["preprocess"] == 1
    assert "fetch" not in jobs


def test_another_library_module_reruns_nothing(working: Project) -> None:
    working.edit("src/georecon/jobs/launch.py", lambda text: text + EDIT)
    assert NOTHING in working.snakemake("-n", "--", "tables").stdout


# ---- killed -----------------------------------------------------------------------------------


def test_killed_training_continues_and_gives_the_same_encoder(working: Project) -> None:
    target = "results/tiny/pretrain/coord/seed1/encoder.safetensors"
    state = working.folder / "results/tiny/state"
    for keys, value in ((("steps",), 200), (("checkpoint_seconds",), 0.1)):
        working.configure("config/editions/tiny.yaml", "pretrain", "train", *keys, value=value)
    known = {path.parent for path in state.glob("*/step-*")}
    process = subprocess.Popen(
        working.command("--", target), cwd=working.folder, env=working.environment(),
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True,
    )  # fmt: skip
    end = time.monotonic() + 120
    while not [p for p in state.glob("*/step-*") if p.parent not in known]:
        assert time.monotonic() < end, "no checkpoint was written"
        assert process.poll() is None, "the run ended before it could be killed"
        time.sleep(0.02)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    locked = working.snakemake("--", target, check=False)
    if locked.returncode:  # Snakemake's own lock, as the README says
        assert "lock" in locked.stdout.lower()
        working.snakemake("--unlock")
        working.snakemake("--", target)
    path = working.folder / target
    training = json.loads((path.parent / "run.json").read_text())["training"]
    assert 0 < training["resumed_at"] < 200 == training["steps"]
    log = (working.folder / "logs/tiny/pretrain/coord/seed1.log").read_text()
    assert f"continues at step {training['resumed_at']} of 200" in log
    resumed, curve = path.read_bytes(), (path.parent / "metrics.csv").read_bytes()
    assert not {p.parent for p in state.glob("*/step-*")} - known, "finished, yet state stays"
    working.snakemake("--forcerun", "pretrain", "--", target)
    assert json.loads((path.parent / "run.json").read_text())["training"]["resumed_at"] == 0
    assert path.read_bytes() == resumed
    assert (path.parent / "metrics.csv").read_bytes() == curve


def test_failed_job_leaves_no_output(working: Project) -> None:
    """A store that is gone: readable message, no half-made files at the declared paths."""
    folder = working.folder / "results/tiny/finetune/property/homo/scratch/seed1"
    (folder / "outputs.safetensors").unlink()
    working.edit("workflow/scripts/finetune.py", lambda t: t.replace("result =", "1 / 0; result ="))
    result = working.snakemake(
        "--", str((folder / "outputs.safetensors").relative_to(working.folder)), check=False
    )
    assert result.returncode != 0
    assert not (folder / "outputs.safetensors").exists()
    log = working.folder / "logs/tiny/finetune/property/homo/scratch/seed1.log"
    assert "ZeroDivisionError" in log.read_text()


def test_state_of_finished_runs_is_not_needed(working: Project) -> None:
    shutil.rmtree(working.folder / "results/tiny/state")
    assert NOTHING in working.snakemake("-n", "--", "tables").stdout
