"""`snakemake --profile sge` on a real Grid Engine: a training out of time, and how jobs can end."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
import yaml

from georecon.jobs.watch import latest
from tests.daemons import wait_for
from tests.projects import ROOT, Project
from tests.sge.cluster import GridEngine, cannot_run

pytestmark = pytest.mark.slurm

RUN = "results/tiny/finetune/property/homo/coord/seed1"
QUICK = ("--latency-wait", "5", "--seconds-between-status-checks", "2")
needs_plugin = pytest.mark.skipif(
    importlib.util.find_spec("snakemake_executor_plugin_cluster_generic") is None,
    reason="needs pip install snakemake-executor-plugin-cluster-generic",
)


@pytest.fixture(scope="module")
def cluster() -> Iterator[GridEngine]:
    if reason := cannot_run():
        pytest.skip(reason)
    base = Path(tempfile.mkdtemp(prefix="georecon-sge-"))
    base.chmod(0o755)
    made = GridEngine(base)
    try:
        made.start()
        yield made
    finally:
        made.stop()
        shutil.rmtree(base, ignore_errors=True)


@pytest.fixture
def status(cluster: GridEngine, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], str]:
    """``status`` of sge/status.py, which waits three seconds for a record."""
    for name, value in cluster.environment.items():
        monkeypatch.setenv(name, value)
    spec = importlib.util.spec_from_file_location("sge_status", ROOT / "sge/status.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    monkeypatch.setattr(module, "BOOKED_SECONDS", 3.0)
    asked: Callable[[str], str] = module.status
    return asked


def submit(cluster: GridEngine, *words: str) -> str:
    """Number of a new job."""
    output = ("-j", "y", "-o", f"{cluster.base}/tmp/", "-S", "/bin/sh")
    return cluster.run("qsub", "-terse", *output, *words).strip()


def profile_submit(cluster: GridEngine, **asked: object) -> subprocess.CompletedProcess[str]:
    """The profile's submit command for a job that sleeps."""
    profile = yaml.safe_load((ROOT / "sge/profile.yaml").read_text())
    line = profile["cluster-generic-submit-cmd"]
    given = SimpleNamespace(**{"mem_mb": 4000, "runtime": 3, "gpu": 0, **asked})
    line = line.format(rule="finetune", threads=2, resources=given)
    script = cluster.base / "tmp/sleep.sh"
    script.write_text("sleep 60\n")
    return subprocess.run(
        f'{line} "{script}"', shell=True, cwd=cluster.base, env=cluster.environment,
        capture_output=True, text=True, check=False,
    )  # fmt: skip


# ---- a run ---------------------------------------------------------------------------------------


def freeze(project: Project, main: subprocess.Popen[bytes], log: Path) -> int:
    """Stop the first training; its process."""
    until = time.monotonic() + 90
    while time.monotonic() < until:
        assert main.poll() is None, f"it ended first\n{log.read_text()[-3000:]}"
        for path in project.folder.glob("results/tiny/state/*/progress.csv"):
            if row := latest(path):
                os.kill(int(row["pid"]), signal.SIGSTOP)
                return int(row["pid"])
        time.sleep(0.01)
    raise TimeoutError(f"no training began\n{log.read_text()[-3000:]}")


def waits(pid: int, number: signal.Signals) -> bool:
    """Whether a signal is waiting for a stopped process."""
    text = Path(f"/proc/{pid}/status").read_text()
    (pending,) = re.findall(r"^ShdPnd:\s*(\w+)$", text, re.MULTILINE)
    return bool(int(pending, 16) >> (number - 1) & 1)


@needs_plugin
@pytest.mark.workflow
def test_a_training_out_of_time_saves_and_goes_on_with_more(
    cluster: GridEngine, working: Project
) -> None:
    """One training is stopped until Grid Engine has sent the signal that is due ahead of its time
    limit, then let go: it saves and leaves. Metrics and table must be those of an undisturbed run.
    """
    tables = sorted(working.folder.glob("results/tiny/tables/qm9.*"))
    files = [*tables, working.folder / RUN / "metrics.json"]
    before = {path: path.read_bytes() for path in files}
    shutil.rmtree(working.folder / RUN)
    for path in tables:
        path.unlink()
    log = working.folder / "main.log"
    options = ["--profile", "sge", "--config", "edition=tiny", *QUICK]
    more = ["--set-resources", "finetune:runtime=attempt", "finetune:gpu=1"]
    path = f"{Path(sys.executable).parent}:{cluster.environment['PATH']}"
    with open(log, "wb") as out:
        main = subprocess.Popen(
            [sys.executable, "-m", "snakemake", *options, *more, "--", "table_qm9"],
            cwd=working.folder, env={**working.environment(), **cluster.environment, "PATH": path},
            stdin=subprocess.DEVNULL, stdout=out, stderr=out, start_new_session=True,
        )  # fmt: skip
    try:
        pid = freeze(working, main, log)
        wait_for("SIGUSR1", lambda: waits(pid, signal.SIGUSR1), 60)
        os.kill(pid, signal.SIGCONT)
        code = main.wait(240)
    finally:
        if main.poll() is None:
            os.killpg(main.pid, signal.SIGKILL)
            main.wait()
    text = log.read_text()
    assert code == 0, text[-4000:]
    assert {path: path.read_bytes() for path in files} == before
    assert json.loads((working.folder / RUN / "run.json").read_text())["training"]["resumed_at"] > 0
    assert re.search(r"sge/status\.py: job \d+: failed 0, exit_status 1, maxvmem", text)
    first, second = cluster.records("georecon_finetune")
    assert (first["exit_status"], second["exit_status"]) == ("1", "0")
    assert "h_rt=60,mem_free=8000M,s_rt=30" in first["category"]
    assert "h_rt=120,mem_free=16000M,s_rt=90" in second["category"]
    assert "gpu=1" in first["category"]
    (evaluation,) = cluster.records("georecon_evaluate")
    assert "gpu" not in evaluation["category"]
    assert "Traceback" not in text


# ---- its parts -----------------------------------------------------------------------------------


def test_ends_of_jobs(
    cluster: GridEngine, status: Callable[[str], str], capsys: pytest.CaptureFixture[str]
) -> None:
    sleep = ("-b", "y", "sleep", "60")
    jobs = {
        "good": submit(cluster, "-b", "y", "true"),
        "bad": submit(cluster, "-b", "y", "false"),
        "late": submit(cluster, "-l", "h_rt=2", *sleep),
        "deleted": submit(cluster, *sleep),
        "held": submit(cluster, "-o", "/nowhere/at/all", "-b", "y", "true"),
    }
    assert status(jobs["deleted"]) == "running"
    wait_for("its start", lambda: cluster.state(jobs["deleted"]) == "r")
    cluster.run("qdel", jobs["deleted"])
    wait_for("an error", lambda: cluster.state(jobs["held"]) == "Eqw")
    wait_for("all ends", lambda: set(cluster.states()) == {jobs["held"]})
    words = {name: status(job) for name, job in jobs.items()}
    assert words.pop("good") == "success"
    assert set(words.values()) == {"failed"}
    said = capsys.readouterr().err
    assert f"job {jobs['bad']}: failed 0, exit_status 1" in said
    assert f"job {jobs['late']}: failed 37 : qmaster enforced h_rt" in said
    assert f"job {jobs['deleted']}: failed 100 : assumedly after job, exit_status 137" in said
    assert f"job {jobs['held']} is deleted, Grid Engine holds it in error" in said
    assert "can't open output file" in said
    assert jobs["held"] not in cluster.states()


def test_a_job_without_a_record_is_named_and_a_silent_qmaster_asked_again(
    status: Callable[[str], str],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert status("9999") == "failed"
    assert "no record of job 9999" in capsys.readouterr().err
    monkeypatch.setenv("SGE_QMASTER_PORT", "1")
    assert status("9999") == "running"
    assert "no answer about job 9999" in capsys.readouterr().err


def test_a_job_asks_by_slot_and_for_names_that_the_site_has(cluster: GridEngine) -> None:
    job = profile_submit(cluster, gpu=1).stdout.strip()
    said = cluster.run("qstat", "-j", job)
    cluster.run("qdel", job)
    assert re.search(r"resource_list: +mem_free=2000M,s_rt=150,h_rt=180,gpu=1$", said, re.MULTILINE)
    assert re.search(r"parallel environment: +smp range: 2$", said, re.MULTILINE)
    refused = profile_submit(cluster, gpu="1,cards=1")
    assert (refused.returncode, refused.stdout) == (1, "")
    assert 'unknown resource "cards"' in refused.stderr


def test_jobs_of_a_host_share_their_temporary_folder(cluster: GridEngine) -> None:
    """Where GPUs are locked; Grid Engine gives every job one of its own."""
    script, found = cluster.base / "tmp/where.sh", cluster.base / "tmp/found"
    command = f"{sys.executable} -c 'import tempfile; print(tempfile.gettempdir())' >> {found}"
    text = (ROOT / "sge/jobscript.sh").read_text()
    script.write_text(text.format(properties="", exec_job=command))
    jobs = {submit(cluster, str(script)) for _ in range(2)}
    wait_for("their end", lambda: not jobs & set(cluster.states()))
    assert found.read_text() == "/tmp\n" * 2
