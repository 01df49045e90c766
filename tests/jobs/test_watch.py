"""The live table, from the files of a real run; rows and lines of progress."""

from __future__ import annotations

import csv
import io
import shutil
import signal
import time
from pathlib import Path

import pytest
from rich.console import Console

from georecon.jobs import progress, watch
from georecon.jobs.progress import COLUMNS, PROGRESS_FILE, Progress
from tests.training.test_resume import wait_for
from tests.training.toy_run import Interposed, finish, make_task, run, start, stop_self


def shown(results: Path) -> str:
    """The table as text."""
    console = Console(file=io.StringIO(), width=200)
    watch.watch(results, once=True, console=console)
    return console.file.getvalue()  # type: ignore[attr-defined]


def test_a_running_job_is_shown_then_stopped_then_gone(toy_store: Path, tmp_path: Path) -> None:
    folder = tmp_path / "laptop/state/abc"
    process = start(toy_store, folder, pause=0.1)
    wait_for(folder / PROGRESS_FILE)
    time.sleep(2.5)  # a second row, with a rate
    text = shown(tmp_path)
    (row,) = watch.running(tmp_path, time.time())
    process.terminate()
    finish(process)
    assert "1 unfinished trainings" in text
    assert "laptop: toy" in text
    assert "running" in text
    assert f"{row['step']}/40" in text
    assert 0 < int(row["step"]) < 40
    assert float(row["molecules_per_second"]) > 1.0
    assert float(row["eta_seconds"]) > 0.0
    assert float(row["memory_mb"]) > 10.0
    assert int(row["pid"]) == process.pid
    assert "stopped" in shown(tmp_path)
    shutil.rmtree(folder)
    assert "0 unfinished trainings" in shown(tmp_path)


def test_a_killed_job_falls_silent(toy_store: Path, tmp_path: Path) -> None:
    folder = tmp_path / "laptop/state/abc"
    process = start(toy_store, folder, pause=0.1)
    wait_for(folder / PROGRESS_FILE)
    time.sleep(0.2)
    process.kill()
    finish(process)
    assert watch.running(tmp_path, time.time())[0]["state"] == "running"
    later = time.time() + watch.SILENT_SECONDS + 5
    assert watch.running(tmp_path, later)[0]["state"].startswith("silent 6")


@pytest.mark.parametrize("keep", [0, 10, -1, -20])
def test_a_torn_row_is_passed_over(
    keep: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(progress, "ROW_SECONDS", 0.0)
    folder = tmp_path / "laptop/state/abc"
    folder.mkdir(parents=True)
    one = Progress(folder, name="a run", steps=9, molecules=4, first_step=0, say=lambda line: None)
    one.update(1, 0.5, float("nan"))
    path = folder / PROGRESS_FILE
    whole = path.read_bytes()
    one.update(2, 0.5, float("nan"))
    added = path.read_bytes()[len(whole) :]
    path.write_bytes(whole + added[:keep] if keep > 0 else (whole + added)[: keep or len(whole)])
    row = watch.latest(path)
    assert row is not None
    assert row["step"] in ("1", "2")
    assert set(row) == set(COLUMNS)


def test_rows_and_lines_of_a_run(
    toy_store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(progress, "ROW_SECONDS", 0.0)
    monkeypatch.setattr(progress, "LINE_SECONDS", 0.0)
    said: list[str] = []
    with pytest.raises(SystemExit):
        run(Interposed(make_task(toy_store), stop_self(11)), tmp_path, said.append)
    with open(tmp_path / PROGRESS_FILE, newline="") as handle:
        rows = list(csv.DictReader(handle))
    assert [int(row["step"]) for row in rows] == [*range(1, 13), 12]
    assert [row["state"] for row in rows] == ["running"] * 12 + ["stopped"]
    assert [row["val_score"] == "nan" for row in rows[:12]] == [True] * 4 + [False] * 8
    for word in ("toy: step 7/40, ", "molecules/s, loss ", "validation ", " left, ", " MB"):
        assert word in said[6], word
    assert "validation" not in said[2]
    assert said[-1] == "toy: stopped at step 12, state saved"
    assert signal.getsignal(signal.SIGUSR1) == signal.SIG_DFL
