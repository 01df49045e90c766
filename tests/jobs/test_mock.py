"""A rule's script alone: it gets all that it reads, and makes what Snakemake would have made."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from georecon.errors import ConfigError
from georecon.experiments.experiments import Experiments
from georecon.experiments.trial import trial_jobs
from georecon.jobs.mock import SNAKEFILE, describe, mock_snakemake
from georecon.jobs.snakemake_private import script_job
from tests.projects import ROOT, Project

TINY = {"edition": "tiny"}
RUN = {"method": "coord", "seed": "1"}
TUNED = {"part": "property", "target": "homo", **RUN}
JOBS: dict[str, dict[str, str]] = {
    "fetch": {"dataset": "qm9", "file": "qm9_part1.csv"},
    "xtb": {"dataset": "xmd17", "trajectory": "xmd17_ethanol"},
    "preprocess": {"dataset": "qm9"},
    "preprocess_target": {"dataset": "xmd17", "target": "ethanol"},
    "split": {"dataset": "qm9", "split": "pvd_tiny_draw1"},
    "leak": {"dataset": "qm9", "split": "pvd_tiny_draw1"},
    "pretrain": RUN,
    "finetune": TUNED,
    "evaluate": TUNED,
    "smoothness": RUN,
    "nve": {"part": "force", "target": "ethanol", **RUN},
    "table": {"table": "qm9"},
    "figure": {"figure": "smoothness"},
    **{name: {} for name in ("summary", "cost", "site", "web", "audit", "bundle", "verify_bundle")},
    **{name: {} for name in ("rerun", "plan", "doctor", "watch")},
}
KIND = next(iter(trial_jobs(Experiments.load(ROOT / "config", TINY))))
JOBS["measure"] = {"kind": KIND}
GROUPS = ("input", "output", "params", "wildcards", "log", "resources")


def attributes(source: str) -> set[tuple[str, str]]:
    """What a script reads of the groups of ``snakemake``: group and name, aliases followed."""
    tree = ast.parse(source)
    alias = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Assign):
            target, value = node.targets[0], node.value
            pairs = (
                zip(target.elts, value.elts, strict=True)
                if isinstance(target, ast.Tuple) and isinstance(value, ast.Tuple)
                else [(target, value)]
            )
            for name, whole in pairs:
                if isinstance(name, ast.Name) and ast.unparse(whole).startswith("snakemake."):
                    alias[name.id] = ast.unparse(whole)
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute):
            path = ast.unparse(node).split(".")
            path = [*alias.get(path[0], path[0]).split("."), *path[1:]]
            if len(path) > 2 and path[0] == "snakemake" and path[1] in GROUPS:
                found.add((path[1], path[2]))
    return found - {(group, name) for group in GROUPS for name in ("get", "items", "keys")}


def missing(given: Any, source: str) -> set[tuple[str, str]]:
    names = {group: set(getattr(given, group).keys()) for group in GROUPS}
    return {(group, name) for group, name in attributes(source) if name not in names[group]}


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A working folder with nothing but the configuration."""
    (tmp_path / "config").symlink_to(ROOT / "config")
    return tmp_path


def test_these_are_all_rules_with_a_script(place: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        mock_snakemake("none", folder=place)
    rules = set(str(caught.value).partition("there are: ")[2].split(", "))
    assert rules == {*JOBS, "import_encoder"}  # no method of the tiny edition has such a file


@pytest.mark.parametrize("rule", JOBS)
def test_a_script_gets_all_that_it_reads(rule: str, place: Path) -> None:
    given, script = script_job(SNAKEFILE, rule, JOBS[rule], folder=place, config=TINY)
    source = script.read_text(encoding="utf-8")
    assert "snakemake" in source or rule == "watch"
    assert missing(given, source) == set()
    broken = source + "\nsnakemake.params.nothing\n"
    assert missing(given, broken) == {("params", "nothing")}
    assert Path(given.scriptdir) == script.parent
    assert given.rule == rule
    assert f"rule: {rule}" in describe(given)
    assert given.config["edition"] == "tiny"


def test_an_unknown_value_of_a_wildcard_is_refused_with_the_reason(place: Path) -> None:
    with pytest.raises(ConfigError, match=r"rule split: edition 'laptop' has no split .*nope"):
        mock_snakemake("split", folder=place, dataset="qm9", split="nope")


# ---- really run ------------------------------------------------------------------------------


def alone(project: Project, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "georecon.mock", *arguments, "--config", "edition=tiny"],
        cwd=project.folder, env=project.environment(), capture_output=True, text=True, check=False,
    )  # fmt: skip


@pytest.mark.workflow
@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize(
    ("rule", "file"),
    [
        ("table", "results/tiny/tables/qm9.json"),
        ("evaluate", "results/tiny/finetune/property/homo/coord/seed1/metrics.json"),
        ("leak", "results/tiny/leaks/qm9/pvd_tiny_draw1.json"),
    ],
)
def test_a_script_alone_makes_the_same_file(rule: str, file: str, working: Project) -> None:
    path = working.folder / file
    before = path.read_bytes()
    path.unlink()
    wildcards = [f"{name}={value}" for name, value in JOBS[rule].items()]
    done = alone(working, rule, *wildcards)
    assert done.returncode == 0, done.stderr
    assert path.read_bytes() == before


@pytest.mark.workflow
@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_training_alone_makes_the_same_model(working: Project) -> None:
    folder = working.folder / "results/tiny/finetune/property/homo/scratch/seed1"
    before = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").unlink()
    arguments = [f"{n}={v}" for n, v in (TUNED | {"method": "scratch"}).items()]
    done = alone(working, "finetune", *arguments)
    assert done.returncode == 0, done.stderr
    assert (folder / "model.safetensors").read_bytes() == before


def test_mistakes_at_the_command_line_are_told_in_a_line(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "georecon.mock", "finetune", "qm9"],
        cwd=tmp_path, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 2
    assert done.stderr == "georecon.mock: wildcards are name=value; given: qm9\n"
