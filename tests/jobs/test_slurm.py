"""Jobs that a killed run left behind: found by folder, named in a recipe, never doubled."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from georecon import commands
from georecon.jobs.slurm import (
    explain_jobs,
    leave_outer_job,
    left_over,
    refuse_beside_jobs,
    stuck,
    watched,
)


@pytest.fixture
def queue(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """squeue prints the file that this gives."""
    rows = tmp_path / "rows"
    rows.write_text("")
    (tmp_path / "squeue").write_text(f"#!/bin/sh\ncat {rows}\n")
    (tmp_path / "squeue").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    monkeypatch.setattr(sys, "argv", ["snakemake", "--profile", "slurm", "--", "table qm9"])
    monkeypatch.delenv("GEORECON_COMMAND", raising=False)
    monkeypatch.setattr(commands, "_own", lambda name, moved=False: (name,))
    return rows


def job(number: int, state: str, folder: object, name: str = "georecon_1-2") -> str:
    return f"{number}|{state}|rule_pretrain_wildcards_coord_1|{name}|{folder}\n"


def test_only_this_folders_jobs_of_the_workflow_count(queue: Path, tmp_path: Path) -> None:
    queue.write_text(
        job(1, "RUNNING", tmp_path)
        + job(2, "PENDING", tmp_path / "other")
        + job(3, "RUNNING", tmp_path, name="mine")
        + job(4, "PENDING", tmp_path)
    )
    assert [j.id for j in left_over(tmp_path)] == ["1", "4"]


def test_recipe_has_three_lines_that_a_shell_understands(
    queue: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    explain_jobs(tmp_path)
    queue.write_text(job(1, "COMPLETING", tmp_path))
    explain_jobs(tmp_path)
    assert capsys.readouterr().err == ""  # nothing stands in the way
    queue.write_text(job(1, "RUNNING", tmp_path) + job(4, "PENDING", tmp_path))
    explain_jobs(tmp_path)
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("  ")]
    assert lines == [
        "  scancel 1 4", "  snakemake --unlock", "  snakemake --profile slurm -- 'table qm9'",
        "  python -m georecon.recover --profile slurm -- 'table qm9'",
    ]  # fmt: skip


def test_unlocking_is_not_answered_with_the_recipe(
    queue: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    queue.write_text(job(1, "RUNNING", tmp_path))
    monkeypatch.setattr(sys, "argv", ["snakemake", "--unlock"])
    explain_jobs(tmp_path)
    assert capsys.readouterr().err == ""


def test_jobs_that_a_living_snakemake_watches_are_not_explained(
    queue: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    queue.write_text(job(1, "RUNNING", tmp_path))
    (tmp_path / "snakemake").write_text("import time; time.sleep(60)\n")
    with subprocess.Popen([sys.executable, "snakemake"], cwd=tmp_path) as alive:
        explain_jobs(tmp_path)
        alive.kill()
    assert capsys.readouterr().err == ""
    explain_jobs(tmp_path)
    assert "scancel 1" in capsys.readouterr().err


@pytest.mark.parametrize(("words", "seen"), [((), True), (("--mode", "subprocess"), False)])
def test_a_snakemake_in_a_job_is_watched_for_but_not_one_that_works_for_it(
    words: tuple[str, ...], seen: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SLURM_JOB_ID", "7")  # of both: the controller may be a job itself
    (tmp_path / "snakemake").write_text("import time; time.sleep(60)\n")
    with subprocess.Popen([sys.executable, "snakemake", *words], cwd=tmp_path) as alive:
        found = watched(tmp_path)
        alive.kill()
    assert found == seen


OUTER = {
    "SLURM_JOB_ID": "7", "SLURM_CPUS_PER_TASK": "3", "SLURM_MEM_PER_NODE": "900",
    "SRUN_DEBUG": "3", "SLURM_CONF": "/etc/slurm.conf", "SBATCH_ACCOUNT": "paper",
}  # fmt: skip


def test_jobs_get_nothing_of_the_job_that_snakemake_runs_in(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """What says where Slurm is and what the user asks of all jobs stays."""
    for name, value in OUTER.items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("GEORECON_SLURM", raising=False)
    leave_outer_job()
    assert {name: os.environ.get(name) for name in OUTER} == OUTER  # no jobs are submitted
    monkeypatch.setenv("GEORECON_SLURM", "1")
    leave_outer_job()
    left = {name for name in OUTER if name in os.environ}
    assert left == {"SLURM_CONF", "SBATCH_ACCOUNT"}
    assert "runs in Slurm job 7" in capsys.readouterr().err
    leave_outer_job()  # on a login node
    assert capsys.readouterr().err == ""


def test_nothing_is_submitted_beside_running_jobs(queue: Path, tmp_path: Path) -> None:
    refuse_beside_jobs(tmp_path)
    queue.write_text(job(1, "RUNNING", tmp_path))
    with pytest.raises(SystemExit, match="scancel 1\n"):
        refuse_beside_jobs(tmp_path)
    with pytest.raises(SystemExit, match="nothing was submitted") as told:
        refuse_beside_jobs(tmp_path, explained=True)
    assert "scancel" not in str(told.value)


def test_cancelled_jobs_are_waited_for(queue: Path, tmp_path: Path) -> None:
    queue.write_text(job(1, "COMPLETING", tmp_path))
    (tmp_path / "squeue").write_text(f"#!/bin/sh\ncat {queue}; : >{queue}\n")
    refuse_beside_jobs(tmp_path)  # the second look finds an empty queue


def test_no_slurm_means_no_jobs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert left_over(tmp_path) == []


def test_a_job_that_never_starts_is_named_once(queue: Path, tmp_path: Path) -> None:
    def row(number: int, reason: str, folder: Path = tmp_path, name: str = "georecon_1") -> str:
        return f"{number}|{reason}|rule_finetune|{name}|{folder}|gpu|1-00:00:00|8000M\n"

    queue.write_text(
        row(1, "Resources")
        + row(2, "PartitionTimeLimit")
        + row(3, "PartitionTimeLimit", tmp_path / "other")
        + row(4, "BadConstraints", name="mine")
        + row(5, "BadConstraints")
    )
    shown: set[str] = set()
    first, second = stuck(tmp_path, shown)
    assert first.startswith(
        "georecon: Slurm will never start job 2 (rule_finetune): PartitionTimeLimit; it asks for "
        "1-00:00:00 and 8000M of partition gpu."
    )
    assert "job 5 (rule_finetune): BadConstraints" in second
    assert stuck(tmp_path, shown) == []
