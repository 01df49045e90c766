"""The page's two rules in a real tiny run."""

from __future__ import annotations

import shutil
import subprocess
import time
from pathlib import Path

import pytest

from georecon.jobs.launch import OPTIONS, launch
from tests.projects import Project

pytestmark = [pytest.mark.workflow, pytest.mark.slow, pytest.mark.timeout(600)]


@pytest.mark.long
def test_web_works_beside_a_run_that_holds_the_folder(working: Project) -> None:
    folder = working.folder / "results/tiny"
    encoder = folder / "pretrain/georecon/seed1/encoder.safetensors"
    encoder.unlink()
    for target in (folder / "finetune/property").iterdir():
        if target.name != "h":  # of the ablations, which are not made again
            shutil.rmtree(target / "georecon")
    (folder / "tables/qm9.json").unlink()
    run = subprocess.Popen(
        working.launch_command("--", "table_qm9"), cwd=working.folder, env=working.environment(),
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip
    try:
        locks = working.folder / ".snakemake/locks"
        while not (locks.is_dir() and any(locks.iterdir())) and run.poll() is None:
            time.sleep(0.1)
        working.snakemake("--", "web")
        text = (folder / "report/state.html").read_text()
    finally:
        output, _ = run.communicate(timeout=280)
    assert run.returncode == 0, output[-3000:]
    assert 'id="missing"' in text
    assert "numbers are made" in text
    assert encoder.is_file()
    working.snakemake("--", "web")
    assert 'id="missing"' not in (folder / "report/state.html").read_text()


def test_launcher_does_not_lock_for_the_state(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    commands: list[list[str]] = []

    def note(command: list[str], **_: object) -> subprocess.CompletedProcess[str]:
        commands.append(command)
        return subprocess.CompletedProcess(command, 0)

    monkeypatch.setattr(subprocess, "run", note)
    assert launch(["--config", "edition=tiny", "--", "web"], tmp_path) == 0
    (command,) = commands
    assert command[3:] == [*OPTIONS, "--config", "edition=tiny", "--", "web"]
