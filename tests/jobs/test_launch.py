from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from georecon.jobs import launch

ROOT = Path(__file__).resolve().parents[2]
COMMAND = [sys.executable, "-m", "georecon.launch"]
# `second` waits for the file `go`, and leaves its process id while it waits
SNAKEFILE = """
import os
onstart: open("threads", "w").write(os.environ["OMP_NUM_THREADS"])

rule second:
    input: "results/laptop/first.txt"
    output: "results/laptop/second.txt"
    shell: '''
        echo $$ > pid
        while [ ! -e go ]; do sleep 0.1; done
        echo x > {output}
    '''

rule first:
    output: "results/laptop/first.txt"
    shell: "echo run >> first-runs; echo x > {output}"
"""


def environment(**variables: str) -> dict[str, str]:
    kept = {k: v for k, v in os.environ.items() if k not in launch.THREADS}
    return {**kept, "PYTHONPATH": str(ROOT / "src"), **variables}


def run(folder: Path, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*COMMAND, *arguments],
        cwd=folder,
        env=environment(**variables),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
        timeout=60,
    )


def wait_until(condition: Callable[[], bool], seconds: float = 30.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited too long"
        time.sleep(0.05)


def is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return (
            subprocess.run(["ps", "-p", str(pid)], capture_output=True, check=False).returncode == 0
        )


@contextmanager
def started(folder: Path) -> Iterator[tuple[subprocess.Popen[bytes], int]]:
    """A launcher in a session of its own whose `second` waits; with that job's process id."""
    (folder / "pid").unlink(missing_ok=True)
    with (
        (folder / "output").open("w") as output,
        subprocess.Popen(
            COMMAND,
            cwd=folder,
            env=environment(),
            stderr=output,
            start_new_session=True,
        ) as process,
    ):
        try:
            wait_until(lambda: (folder / "pid").exists() and (folder / "pid").read_text() != "")
            yield process, int((folder / "pid").read_text())
        finally:
            (folder / "go").touch()
            process.kill()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "Snakefile").write_text(SNAKEFILE)
    return tmp_path


@pytest.mark.workflow
def test_killed_run_continues_and_then_there_is_nothing_to_do(folder: Path) -> None:
    with started(folder) as (process, job):
        busy = run(folder)
        assert busy.returncode == 1
        assert f"Another run is busy in this folder (process {process.pid})" in busy.stdout
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        wait_until(lambda: not is_alive(job), 5.0)
    assert any((folder / ".snakemake/locks").iterdir())
    again = run(folder)
    assert again.returncode == 0
    assert "The last run was killed; it continues" in again.stdout
    assert (folder / "first-runs").read_text() == "run\n"
    assert (folder / "threads").read_text() == "1"
    nothing = run(folder)
    assert nothing.returncode == 0
    assert "Nothing to do" in nothing.stdout
    assert "continues" not in nothing.stdout


@pytest.mark.workflow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signal_reaches_the_jobs_and_the_next_run_works(
    folder: Path, number: signal.Signals
) -> None:
    with started(folder) as (process, job):
        process.send_signal(number)
        assert process.wait(30) == 128 + number
        wait_until(lambda: not is_alive(job), 5.0)
    output = (folder / "output").read_text()
    assert "Stopped: second" in output
    assert "Failed:" not in output
    again = run(folder, OMP_NUM_THREADS="2")
    assert again.returncode == 0
    assert (folder / "threads").read_text() == "2"


@pytest.mark.workflow
def test_failure_gives_snakemakes_code_and_says_how_to_go_on(folder: Path) -> None:
    (folder / "Snakefile").write_text("rule broken:\n    output: 'x'\n    shell: 'exit 3'\n")
    done = run(folder)
    assert done.returncode == 1
    assert "Failed: broken" in done.stdout
    assert "Stopped after" in done.stdout
    assert json.loads((folder / launch.STATE).read_text())["state"] == "ended"


@pytest.mark.workflow
def test_dry_run_neither_takes_nor_needs_the_lock(folder: Path) -> None:
    with launch.launch_lock(folder) as lock:
        assert lock is not None
        done = run(folder, "-np")
    assert done.returncode == 0
    assert "rule second:" in done.stdout
    assert "Done in" not in done.stdout


WARM = """
from georecon.jobs import warm

warm.hand_over(snakemake)
import os, signal, time
from pathlib import Path

def save(number, frame):
    time.sleep(0.5)
    Path("saved").touch()
    raise SystemExit(75)

signal.signal(signal.SIGINT, save)
Path("parent").write_bytes(Path(f"/proc/{os.getppid()}/cmdline").read_bytes())
Path("pid").write_text(str(os.getpid()))
while not os.path.exists("go"):
    time.sleep(0.02)
Path(snakemake.output[0]).touch()
"""


@pytest.fixture
def training(folder: Path) -> Path:
    """A folder whose job is handed over where it can be."""
    (folder / "job.py").write_text(WARM)
    rule = "rule one:\n    output: 'x'\n    log: 'log.txt'\n    script: 'job.py'\n"
    (folder / "Snakefile").write_text(rule)
    return folder


@pytest.mark.workflow
@pytest.mark.skipif(sys.platform != "linux", reason="there is no warm process elsewhere")
def test_jobs_run_in_the_warm_process_unless_it_is_switched_off(training: Path) -> None:
    (training / "go").touch()
    assert run(training).returncode == 0
    assert b"georecon.jobs.warm" in (training / "parent").read_bytes()
    assert run(training, "--forceall", GEORECON_WARM="0").returncode == 0
    assert b"georecon.jobs.warm" not in (training / "parent").read_bytes()


@pytest.mark.workflow
@pytest.mark.skipif(sys.platform != "linux", reason="there is no warm process elsewhere")
def test_job_of_the_warm_process_dies_with_the_launcher_and_saves_when_asked(
    training: Path,
) -> None:
    with started(training) as (process, job):
        process.kill()
        process.wait()
        wait_until(lambda: not is_alive(job), 5.0)
    (training / "go").unlink()
    with started(training) as (process, job):
        process.send_signal(signal.SIGINT)
        assert process.wait(30) == 128 + signal.SIGINT
        assert (training / "saved").exists()
        assert not is_alive(job)
    output = (training / "output").read_text()
    assert "Traceback" not in output
    assert not (training / "x").exists()


def test_lock_is_held_by_one_only(tmp_path: Path) -> None:
    with launch.launch_lock(tmp_path) as first, launch.launch_lock(tmp_path) as second:
        assert first is not None
        assert second is None
    with launch.launch_lock(tmp_path) as third:
        assert third is not None


def test_a_foreign_snakemake_is_not_unlocked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / ".snakemake").mkdir()
    (tmp_path / launch.STATE).write_text('{"state": "running", "pid": 1}')
    monkeypatch.setattr(launch, "foreign_snakemake", lambda folder: 4711)
    problem = launch.recover(tmp_path)
    assert problem is not None
    assert "process 4711" in problem


@pytest.mark.workflow
def test_a_run_killed_before_it_took_snakemakes_lock_is_no_obstacle(folder: Path) -> None:
    (folder / ".snakemake").mkdir()
    (folder / launch.STATE).write_text('{"state": "running", "pid": 1}')
    (folder / "go").touch()
    done = run(folder)
    assert done.returncode == 0, done.stdout
    assert "The last run was killed; it continues" in done.stdout


@pytest.mark.parametrize("text", ["", "{", "[]", '{"state": "ended"}'])
def test_a_damaged_or_ended_state_file_is_no_obstacle(tmp_path: Path, text: str) -> None:
    (tmp_path / ".snakemake").mkdir()
    (tmp_path / launch.STATE).write_text(text)
    assert launch.recover(tmp_path) is None


def test_summary_lists_tables_report_and_time(tmp_path: Path) -> None:
    tables = tmp_path / "results/laptop/tables"
    tables.mkdir(parents=True)
    (tables / "qm9.json").write_text('{"title": "QM9 test errors"}')
    (tables / "odd.json").write_text("[]")
    (tables / "broken.json").write_text("{")
    (tmp_path / "results/laptop/report").mkdir()
    (tmp_path / "results/laptop/report/index.html").touch()
    (tmp_path / "results/laptop/report/report.html").touch()
    text = launch.summary("laptop", tmp_path, 0, 754.0)
    assert text.splitlines() == [
        "Tables of the laptop edition, in results/laptop/tables:",
        "  odd",
        "  qm9              QM9 test errors",
        "Report:  results/laptop/report/index.html",
        "Jobs:    results/laptop/report/report.html",
        "Done in 13 min.",
    ]


@pytest.mark.parametrize("argument", ["-n", "-np", "-qn", "--dry-run", "--lint", "--list-rules"])
def test_read_only_calls_are_known(argument: str) -> None:
    assert launch.READ_ONLY.fullmatch(argument)


@pytest.mark.parametrize("argument", ["table_qm9", "--cores", "--nolock", "-p", "-F", "--unlock"])
def test_other_calls_take_the_lock(argument: str) -> None:
    assert not launch.READ_ONLY.fullmatch(argument)


@pytest.mark.parametrize(
    ("given", "made"),
    [
        (["--config", "a=1", "--", "x"], ["--config", "a=1", "--", "x"]),
        (["--config", "a=1", "--config", "b=2", "--", "x"], ["--config", "a=1", "b=2", "--", "x"]),
        (["-C", "a=1", "-n", "--config=b=2"], ["-n", "--config", "a=1", "b=2"]),
        (["--config", "a=1", "c=3", "--cores", "2", "--config", "edition=tiny", "--", "x", "y"],
         ["--cores", "2", "--config", "a=1", "c=3", "edition=tiny", "--", "x", "y"]),
        (["-n"], ["-n"]),
    ],
)  # fmt: skip
def test_no_pair_of_the_configuration_is_lost(given: list[str], made: list[str]) -> None:
    """Snakemake itself takes the last --config alone: EDITION= would undo a user's ARGS=."""
    assert launch.one_config(given) == made
