"""Commands that the product prints: all are known here, and each does what it says when pasted."""

from __future__ import annotations

import ast
import json
import os
import re
import shlex
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.projects import ROOT, Project, jobs_of, make_project

WORDS = re.compile(
    r"(?:`|^\s*|: )((?:make|snakemake|python|git|pip|scancel) [^`\n]*)", re.MULTILINE
)
SOURCES = ("src/**/*.py", "workflow/**/*.py", "envs/*.py", "benchmarks/*.py")
MAKE = {
    "make lock",
    "make setup",
    "make setup TORCH=cuda",
    "make setup TORCH=cuda    for the GPU nodes (several GB)",
    "make setup TORCH=cu128   the same for one CUDA version; with TORCH_INDEX=<address>",
    "make setup TORCH=cpu     if no job will use a GPU",
    "make TORCH_INDEX=<url of PyTorch's CPU wheel index>",
}
RUN_ELSEWHERE = {
    "scancel {}": "tests/jobs/test_slurm.py",
    "git config --global --add safe.directory {}": "tests/records/test_git_state.py",
    "python -m georecon.recover": "tests/jobs/test_recover.py",
    "pip install '.[chem,table]'": "tests/library/test_installed.py",
    "python -m georecon.verify_bundle": "tests/audit/test_bundle.py",
    "python -m georecon.verify_bundle {}": "tests/audit/test_bundle.py",
    "pip install tensorboard": "tests/reporting/test_tensorboard.py",
    "python -m georecon.experiments.schema": "tests/experiments/test_schema.py",
}
NO_COMMANDS = {
    "make it first with snakemake",
    "make room, then the same command again",
    "make the table first, then rerun its cell",
    "git is needed to use this workflow as a module: {}",
    "git {} failed in {}: {}",
    "git does not trust {}, which belongs to another user (dubious ownership):",
    "snakemake --dry-run --profile slurm: {}",  # says who failed
    'pip install --no-cache-dir --extra-index-url "$index" "$torch+cpu"',  # of a container's recipe
    "pip install --no-cache-dir --requirement /opt/georecon/lock.txt",
    'python -c "import torch, numpy, safetensors, yaml, snakemake"',
}


def printed(path: Path) -> Iterator[str]:
    """Texts of a source file that are no docstrings; values in them as {}."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    passed = {
        id(node.value)
        for node in ast.walk(tree)
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.JoinedStr):
            passed |= {id(value) for value in node.values}
            parts = [v.value if isinstance(v, ast.Constant) else "{}" for v in node.values]
            yield "".join(map(str, parts))
    for node in ast.walk(tree):
        if (
            isinstance(node, ast.Constant)
            and isinstance(node.value, str)
            and id(node) not in passed
        ):
            yield node.value


def test_every_command_in_the_source_is_known_here() -> None:
    """Others come from georecon.commands, which has the configuration; add none by hand."""
    files = [path for pattern in SOURCES for path in ROOT.glob(pattern)]
    found = {c.strip() for path in files for text in printed(path) for c in WORDS.findall(text)}
    assert found == MAKE | set(RUN_ELSEWHERE) | NO_COMMANDS
    for file in RUN_ELSEWHERE.values():
        assert (ROOT / file).is_file()


@pytest.mark.parametrize("line", sorted(MAKE))
def test_make_takes_what_is_printed(line: str, tmp_path: Path) -> None:
    if shutil.which("make") is None:
        pytest.skip("make is not installed")
    shutil.copy(ROOT / "Makefile", tmp_path)
    (tmp_path / "envs").mkdir()
    command = re.sub(r"<[^>]*>", "https://example.org/simple", line).split("   ")[0]
    words = [*shlex.split(command), "--dry-run"]
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("MAKE", "MFLAGS"))}
    done = subprocess.run(
        words, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "envs/bootstrap.py" in done.stdout


# ---- under a user's configuration ----------------------------------------------------------------

GIVEN = ("--configfile", "my set.yaml", "--config", "edition=tiny", "pretrain={validation: 3}")
"""A run of seed 3 alone: no command that drops its configuration plans that."""


def configured(project: Project) -> Project:
    (project.folder / "my set.yaml").write_text("finetune: {seeds: [3]}\n")
    return project


def pasted(line: str, project: Project, *more: str) -> subprocess.CompletedProcess[str]:
    """A printed line in a shell in the working folder, with further options for a dry run."""
    program, _, rest = line.partition(" ")
    return subprocess.run(
        ["/bin/sh", "-c", f"{program} {' '.join(more)} {rest}"],
        cwd=project.folder,
        env=project.environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )


def seeds_of(text: str) -> set[str]:
    """Seeds of the fine-tunings that a dry run plans."""
    jobs = [wildcards for rule, wildcards in jobs_of(text) if rule == "finetune"]
    return {match[1] for each in jobs if (match := re.search(r"seed=(\d+)", each))}


@pytest.fixture(scope="module")
def mine(tmp_path_factory: pytest.TempPathFactory) -> Project:
    return configured(make_project(tmp_path_factory.mktemp("mine") / "project"))


@pytest.mark.workflow
@pytest.mark.long
def test_the_hint_of_rerun_makes_a_cell(mine: Project) -> None:
    said = mine.snakemake(*GIVEN, "--", "rerun", edition=None, check=False).stdout
    line = re.search(r"error: cell is not given: (.*)", said)
    assert line is not None, said
    done = pasted(
        line[1].replace("<table>/<row>/<column>", "qm9/coord/homo"), mine, "-n", "--nolock"
    )
    assert seeds_of(done.stdout) == {"3"}, done.stdout
    assert "rerun" in done.stdout


@pytest.mark.workflow
@pytest.mark.long
def test_the_hint_of_verify_bundle_verifies(mine: Project, tmp_path: Path) -> None:
    said = mine.snakemake("--", "verify_bundle", check=False).stdout
    line = re.search(r"error: bundle is not given: (.*)", said)
    assert line is not None, said
    done = pasted(line[1].replace("PATH", str(tmp_path / "x.zip")), mine)
    assert f"refused: {tmp_path / 'x.zip'}: no such file" in done.stdout


@pytest.mark.workflow
@pytest.mark.long
def test_the_hint_of_plan_measures(mine: Project) -> None:
    said = mine.snakemake(*GIVEN, "--", "plan", edition=None).stdout
    line = re.search(r"Measure where trainings will run: (.*)", said)
    assert line is not None, said
    done = pasted(line[1], mine, "-n", "--nolock")
    assert {rule for rule, _ in jobs_of(done.stdout)} == {"measure", "trial"}, done.stdout


@pytest.mark.workflow
@pytest.mark.long
@pytest.mark.parametrize(
    ("target", "meant"),
    [("tabel_qm9", "table_qm9"), ("docter", "doctor"), ("Report", "report"), ("re-run", "rerun")],
)
def test_a_wrong_target_is_told_which_is_meant(target: str, meant: str, mine: Project) -> None:
    result = mine.snakemake("-n", "--nolock", "--", target, check=False)
    assert result.returncode == 2
    line = re.search(
        rf"georecon: no target '{target}' \(did you mean '{meant}'\?\); `(.*)` lists them",
        result.stdout,
    )
    assert line is not None, result.stdout
    assert "Traceback" not in result.stdout
    assert meant in pasted(line[1], mine).stdout.split()


@pytest.mark.workflow
@pytest.mark.long
def test_right_targets_and_those_like_none_are_snakemakes(mine: Project) -> None:
    path = "results/tiny/tables/qm9.json"
    for target in ("workflow_all", "table_qm9", path):
        snakefile = ("--snakefile", "workflow/Snakefile") if target == "workflow_all" else ()
        result = mine.snakemake("-n", "--nolock", *snakefile, "--", target, check=False)
        assert result.returncode == 0, result.stdout
    result = mine.snakemake("-n", "--nolock", "--", "xyzzy", check=False)
    assert "No rule to produce xyzzy" in result.stdout


@pytest.mark.workflow
@pytest.mark.long
@pytest.mark.timeout(600)
def test_the_audits_rerun_command_is_that_of_the_runs_configuration(
    working: Project,
) -> None:
    project = configured(working)
    said = project.snakemake(*GIVEN, "--", "audit", edition=None, check=False).stdout
    path = project.folder / "results/tiny/audit/audit.json"
    assert path.is_file(), said[-3000:]
    audit = json.loads(path.read_text())
    done = pasted(audit["cells"]["qm9/coord/homo"]["rerun"], project, "-n", "--nolock")
    assert seeds_of(done.stdout) == {"3"}, done.stdout
    redo = {m[1] for f in audit["findings"] if (m := re.search(r"`(.*)` redoes it", f["text"]))}
    for line in redo:
        assert "2" not in seeds_of(pasted(line, project, "-n", "--nolock").stdout)
