"""The four examples of docs/own-data.md on files of one's own, from YAML to a finished table."""

from __future__ import annotations

import gzip
import json
import math
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from georecon.experiments.config import merge
from tests.frame.documented import all_blocks
from tests.own_data import write_labelled, write_qm9, write_sdf, write_xyz
from tests.projects import Project, make_project

pytestmark = [pytest.mark.workflow, pytest.mark.long, pytest.mark.timeout(900)]

FEW: dict[str, Any] = {
    "encoder": {"channels": 16, "heads": 2, "rbf": 16},
    "pretrain": {"validation": 16, "train": {"steps": 4, "evaluations": 1}},
    "methods": {"coord_long": None},
    "tables": {"controls": None},
}
STEPS = {"train": {"steps": 4, "evaluations": 1}}


def of_targets(part: str, *targets: str) -> dict[str, Any]:
    """Few targets, steps and seeds of a property set."""
    columns = [{"source": "finetune", "set": part, "targets": list(targets)}]
    return {"finetune": {"seeds": [1], part: STEPS}, "tables": {"qm9": {"columns": columns}}}


def example(word: str) -> dict[str, Any]:
    """The YAML of docs/own-data.md that has a word."""
    own = (block.text for path, block in all_blocks("yaml") if path.name == "own-data.md")
    (found,) = (text for text in own if word in text)
    given: dict[str, Any] = yaml.safe_load(found)
    return given


def made(project: Project, table: str, small: dict[str, Any]) -> dict[str, Any]:
    """The table that the documented command makes, at the sizes of a second file."""
    (project.folder / "small.yaml").write_text(yaml.safe_dump(merge(FEW, small)))
    files = ("--configfile", "my.yaml", "small.yaml")
    project.launch(*files, "--", f"table_{table}", edition=None)
    file = project.folder / f"results/laptop/tables/{table}.json"
    found: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    return found


def own_project(
    folder: Path, given: dict[str, Any], word: str, data: Callable[[Path], Path]
) -> Project:
    """A clone with ``my.yaml``, and the file that it names beside it."""
    project = make_project(folder / "project")
    text = yaml.safe_dump(given, allow_unicode=True, sort_keys=False)
    (project.folder / "my.yaml").write_text(text, encoding="utf-8")
    (name,) = (line.split()[-1].strip("}") for line in text.splitlines() if f"../{word}" in line)
    data(Path(os.path.normpath(project.folder / name)))
    return project


def share(project: Project, finished: Project) -> None:
    """QM9 as it was preprocessed before: the same files in the same format."""
    for part in ("raw/qm9", "store/qm9", "records/fetch/qm9", "records/preprocess"):
        source = finished.folder / "resources" / part
        shutil.copytree(source, project.folder / "resources" / part, copy_function=os.link)
    shutil.copy(finished.folder / "resources/raw/lock.json", project.folder / "resources/raw")


def filled(table: dict[str, Any]) -> list[dict[str, Any]]:
    cells = [cell for cell in table["cells"] if cell["value"] is not None]
    assert all(math.isfinite(cell["value"]) for cell in cells)
    return cells


def keys(table: dict[str, Any], what: str) -> set[str]:
    return {entry["key"] for entry in table[what]}


def test_energies_and_forces(finished: Project, tmp_path: Path) -> None:
    given = example("mine:")
    project = own_project(tmp_path, given, "my_molecule", lambda path: write_xyz(path, 400))
    share(project, finished)
    table = made(project, "md17", {"finetune": {"seeds": [1], "force": STEPS}})
    assert table["title"].startswith("Mine: ")
    assert "300 training, 50 validation, all other test" in table["caption"]
    assert keys(table, "columns") == {"my_molecule"}
    assert len(filled(table)) == len(table["cells"])
    assert {"energy_baseline", "force_scratch", "force_georecon"} < keys(table, "rows")
    split = project.folder / "resources/splits/mine/my_molecule_mine.json"
    assert json.loads(split.read_text())["counts"] == {"train": 300, "val": 50, "test": 50}


def test_conformers_to_pretrain_on(finished: Project, tmp_path: Path) -> None:
    pytest.importorskip("rdkit.Chem")

    def packed(path: Path) -> Path:
        plain = write_sdf(path.with_suffix(""), 80)
        broken = plain.read_bytes() + b"no molecule\n\n\n\n$$$$\n"
        path.write_bytes(gzip.compress(broken))
        return path

    project = own_project(tmp_path, example("conformers:\n"), "conformers", packed)
    share(project, finished)
    table = made(project, "qm9", of_targets("property", "homo"))
    assert len(filled(table)) == len(table["cells"]) > 3
    assert "Pre-training: Our conformers" in table["caption"]
    assert "draws from 64 molecules" in table["caption"]
    manifest = json.loads((project.folder / "resources/store/conformers/manifest.json").read_text())
    assert (manifest["counts"]["molecules"], manifest["counts"]["rejected"]) == (80, 1)


def test_an_archive_of_qm9s_layout(tmp_path: Path) -> None:
    pytest.importorskip("rdkit.Chem")
    given = example("qm9_xyz")
    given["datasets"]["qm9"]["sources"]["ours"]["expected_molecules"] = 150
    project = own_project(tmp_path, given, "molecules", lambda path: write_qm9(path, 150))
    split = {"finetune": {"property": {"split": {"train": 80, "val": 20, "test": 30}}}}
    small = merge(of_targets("property", "homo", "u0"), split)
    table = made(project, "qm9", small)
    assert table["title"] == "Our molecules: mean absolute error of each property"
    assert len(filled(table)) == len(table["cells"])
    assert {"baseline", "scratch", "coord", "georecon"} < keys(table, "rows")
    # 150 molecules less 50 that are validated or tested on, less 16 that validate pre-training
    assert "draws from 84 molecules" in table["caption"]


def test_a_property_of_ones_own(finished: Project, tmp_path: Path) -> None:
    pytest.importorskip("rdkit.Chem")
    given = example("solvation:\n")
    project = own_project(tmp_path, given, "solvation", lambda path: write_labelled(path, 150))
    share(project, finished)
    split = {"train": 80, "val": 20}
    table = made(
        project, "qm9", {"finetune": {"seeds": [1], "property": {**STEPS, "split": split}}}
    )
    assert table["title"] == "Our solvation energies: mean absolute error of each property"
    assert keys(table, "columns") == {"dG"}
    assert [column["unit"] for column in table["columns"]] == ["kcal/mol"]
    assert len(filled(table)) == len(table["cells"]) > 3
    assert "80 training, 20 validation, all other test" in table["caption"]
    naive = next(c["value"] for c in table["cells"] if c["row"] == "naive")
    assert naive < 0.4  # the label is additive but for 0.2 kcal/mol of noise: in the file's unit
