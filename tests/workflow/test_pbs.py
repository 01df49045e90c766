"""The PBS profile, with Snakemake's own executor and stand-ins for the scheduler's commands."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.projects import ROOT, Project

STATUS = ROOT / "pbs/status.py"
STAND_IN = Path(__file__).with_name("pbs_stand_in.py")


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of a stand-in whose commands are on the path."""
    place, commands = tmp_path / "server", tmp_path / "commands"
    place.mkdir()
    commands.mkdir()
    for name in ("qsub", "qstat"):
        path = commands / name
        path.write_text(f'#!/bin/sh\nexec "{sys.executable}" "{STAND_IN}" {name} "$@"\n')
        path.chmod(0o755)
    monkeypatch.setenv("PBS_STAND_IN", str(place))
    here = os.pathsep.join([str(commands), str(Path(sys.executable).parent), os.environ["PATH"]])
    monkeypatch.setenv("PATH", here)
    return place


def jobs(server: Path) -> list[dict[str, Any]]:
    """Jobs in the order in which they were submitted."""
    paths = sorted(server.glob("*.json"), key=lambda path: int(path.name.split(".")[0]))
    return [json.loads(path.read_text()) for path in paths]


def run(project: Project, *targets: str) -> str:
    """Snakemake under the profile."""
    options = ["--profile", "pbs", "--config", "edition=tiny", "--latency-wait", "5"]
    done = subprocess.run(
        [sys.executable, "-m", "snakemake", *options, "--", *targets],
        cwd=project.folder,
        env=project.environment(),
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert done.returncode == 0, (done.stdout + done.stderr)[-3000:]
    return done.stdout + done.stderr


needs_plugin = pytest.mark.skipif(
    importlib.util.find_spec("snakemake_executor_plugin_cluster_generic") is None,
    reason="needs pip install snakemake-executor-plugin-cluster-generic",
)


@needs_plugin
@pytest.mark.long
@pytest.mark.workflow
def test_jobs_go_through_the_queue_and_again_with_more_memory(
    working: Project, server: Path
) -> None:
    """A run's predictions and its table are made again; the first job is killed once."""
    table = working.folder / "results/tiny/tables/qm9.csv"
    (metrics, *_) = sorted(working.folder.glob("results/tiny/finetune/property/**/metrics.json"))
    before = table.read_bytes(), metrics.read_bytes()
    metrics.unlink()
    table.unlink()
    (server / "killed").write_text("1000mb")  # what an evaluation asks for at first
    said = run(working, "table_qm9")
    found = [(job["name"], job["mem"], job["code"]) for job in jobs(server)]
    assert found[:2] == [("georecon_evaluate", "1000mb", 271), ("georecon_evaluate", "2000mb", 0)]
    assert [name for name, *_ in found[2:]] == ["georecon_table"]
    for job in jobs(server):
        assert (job["select"], job["ngpus"]) == ("1", "0")
        assert re.fullmatch(r"\d+:00|\d+", job["walltime"]), job
    assert (table.read_bytes(), metrics.read_bytes()) == before
    assert "Traceback" not in said


@pytest.mark.parametrize(
    ("facts", "word"),
    [({}, "running"), ({"code": 0}, "success"), ({"code": 1}, "failed"), ({"code": 271}, "failed")],
)
def test_a_state_is_one_word(facts: dict[str, int], word: str, server: Path) -> None:
    (server / "7.stand-in.json").write_text(json.dumps(facts))
    assert asked("7.stand-in").stdout == f"{word}\n"


def test_a_server_that_is_silent_is_asked_again_and_one_that_forgot_is_named(server: Path) -> None:
    forgotten = asked("8.stand-in")
    assert forgotten.stdout == "failed\n"
    assert "does not know job 8.stand-in any more" in forgotten.stderr
    (server / "silent").touch()
    silent = asked("8.stand-in")
    assert silent.stdout == "running\n"
    assert "no answer about 8.stand-in: cannot connect to server" in silent.stderr


def asked(job: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(STATUS), job]
    return subprocess.run(command, capture_output=True, text=True, check=True)
