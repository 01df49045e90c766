"""`snakemake --profile slurm` on a real cluster: the whole line, then faults, all at once.

One cluster and one finished run serve all tests. Each fault has a copy of that run without some of
its results; its table must come out byte for byte as in the undisturbed run.
"""

from __future__ import annotations

import csv
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.daemons import wait_for
from tests.projects import make_project
from tests.slurm.cluster import Cluster, cannot_run
from tests.slurm.runs import Run, Training, no_database, without

pytestmark = [pytest.mark.slurm, pytest.mark.timeout(1500)]

GPU_RULES = ("pretrain", "finetune", "smoothness", "nve")
PRETRAIN, FINETUNE = "pretrain/coord", "finetune/property/homo/coord"
TABLE = ("--", "table_qm9")
TWO_NODES = "set-resources:\n  pretrain: {gpu: 0, gres: 'gpu:1', nodes: 2, constraint: gpu2|gpu3}\n"
ON_GPU2 = ("pretrain:constraint=gpu2", "finetune:constraint=gpu2")


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    base = Path(tempfile.mkdtemp(prefix="georecon-slurm-"))  # a socket's path must be short
    base.chmod(0o755)
    try:
        if reason := cannot_run(base):
            pytest.skip(reason)
        made = Cluster(base)
        try:
            made.start()
            yield made
        finally:
            made.stop()
    finally:
        shutil.rmtree(base, ignore_errors=True)


@pytest.fixture(scope="module")
def whole(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Everything, undisturbed, from a fresh clone."""
    folder = tmp_path_factory.mktemp("slurm")
    origin = make_project(folder / "origin").folder
    subprocess.run(["git", "clone", "-q", origin, folder / "clone"], check=True)
    run = Run(cluster, folder / "clone")
    run.start("--", "all")
    run.finish()
    return run


# ---- the faults ------------------------------------------------------------------------------


def out_of_memory(whole: Run, folder: Path) -> Run:
    run = without(whole, folder, PRETRAIN, FINETUNE)
    memory = ("pretrain:mem_mb=300*attempt*attempt", *ON_GPU2)
    run.start("--set-resources", *memory, *TABLE)
    run.finish()
    return run


def out_of_time(whole: Run, folder: Path) -> Run:
    run = without(whole, folder, FINETUNE)
    run.start("--set-resources", "finetune:runtime=attempt", *ON_GPU2, *TABLE)
    run.freeze()
    run.finish()
    return run


def node_lost(whole: Run, folder: Path) -> Run:
    run = without(whole, folder, FINETUNE)
    run.start("--set-resources", "finetune:constraint=gpu1|gpu3", *TABLE)
    training = run.freeze()
    node = run.cluster.run("squeue", "-h", "-j", training.job, "-o", "%N").strip()
    run.cluster.lose_node(node)
    try:
        run.finish()
    finally:
        run.cluster.start_node(node)
    return run


def preempted(whole: Run, folder: Path) -> Run:
    run = without(whole, folder, FINETUNE, gpu_partition="gpu-low")
    run.start(*TABLE)
    training = run.freeze()
    run.cluster.run(
        "sbatch", "-p", "gpu", "-w", "gpu3", "--nodes=1", "--gres=gpu:4", "-t", "1", "--mem=100",
        "-o", "/dev/null", "--wrap", "sleep 10",
    )  # fmt: skip
    wait_for("preemption", lambda: run.state(training.job) != "RUNNING", 240)
    run.finish()
    return run


def cancelled(whole: Run, folder: Path) -> Run:
    run = without(whole, folder, PRETRAIN, FINETUNE)
    run.start("--set-resources", *ON_GPU2, *TABLE)
    run.cluster.run("scancel", run.freeze().job)
    run.finish()
    return run


def killed(whole: Run, folder: Path) -> tuple[Run, tuple[str, ...], Training]:
    """A run whose Snakemake is dead while a training of it goes on, and what it was given."""
    run = without(whole, folder, PRETRAIN, FINETUNE)
    arguments = ("--set-resources", *ON_GPU2, *TABLE)
    run.start(*arguments)
    training = run.freeze()
    run.kill()
    return run, arguments, training


def main_killed(whole: Run, folder: Path) -> Run:
    run, arguments, training = killed(whole, folder)
    again = subprocess.run(
        run.command(*arguments), cwd=run.folder, env=run.environment,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False,
    )  # fmt: skip
    assert again.returncode != 0
    lines = re.findall(r"^  ((?:scancel|\S*snakemake) .*)$", again.stdout, re.M)
    assert len(lines) == 3, again.stdout
    assert lines[0] == f"scancel {training.job}"
    with open(run.log, "ab") as out:
        done = subprocess.run(
            ["bash", "-e", "-c", "\n".join(lines)], cwd=run.folder, env=run.environment,
            stdout=out, stderr=out, check=False, timeout=600,
        )  # fmt: skip
    assert done.returncode == 0, run.text()[-4000:]
    return run


def recovered(whole: Run, folder: Path) -> Run:
    """Snakemake killed, its training left to end: nothing is trained twice."""
    run, arguments, training = killed(whole, folder)
    command = [sys.executable, "-m", "georecon.recover", *run.command(*arguments)[1:]]
    with open(run.log, "ab") as out:
        run.main = subprocess.Popen(
            command, cwd=run.folder, env=run.environment, stdin=subprocess.DEVNULL, stdout=out,
            stderr=out, start_new_session=True,
        )  # fmt: skip
    wait_for("a line", lambda: f"waiting for {training.job} (rule_pretrain" in run.text(), 120)
    os.kill(training.pid, signal.SIGCONT)
    run.finish()
    return run


def unlocked_too_soon(whole: Run, folder: Path) -> Run:
    """The lock removed by hand while jobs still run: nothing may be submitted beside them."""
    run = without(whole, folder, FINETUNE)
    run.start("--set-resources", *ON_GPU2, *TABLE)
    training = run.freeze()
    run.kill()
    subprocess.run(["snakemake", "--unlock"], cwd=run.folder, env=run.environment, check=True)
    run.start("--set-resources", *ON_GPU2, *TABLE)
    assert run.main is not None
    assert run.main.wait(120) == 1
    assert f"  scancel {training.job}\n" in run.text()
    os.kill(training.pid, signal.SIGCONT)  # left to end instead
    wait_for("its end", lambda: run.state(training.job) == "COMPLETED", 120)
    run.start("--set-resources", *ON_GPU2, *TABLE)
    run.finish()
    return run


def database_down(whole: Run, folder: Path) -> Run:
    run = without(whole, folder, PRETRAIN, FINETUNE)
    run.start("--set-resources", *ON_GPU2, *TABLE)
    training = run.freeze()
    with no_database(run.cluster):
        os.kill(training.pid, signal.SIGCONT)
        second = run.folder / "results/tiny" / FINETUNE / "seed1/run.json"
        wait_for("a training begun and ended meanwhile", second.exists, 300)
    run.finish()
    return run


def two_nodes(whole: Run, folder: Path) -> Run:
    run = without(whole, folder, PRETRAIN)
    profile = run.folder / "slurm/profile.yaml"
    profile.write_text(profile.read_text() + TWO_NODES)
    run.start("--", f"results/tiny/{PRETRAIN}/seed1/encoder.safetensors")
    run.finish()
    return run


def never_started(whole: Run, folder: Path) -> Run:
    """A job that asks for more time than its partition has, and no site file that says so."""
    run = without(whole, folder, FINETUNE)
    (run.folder / "slurm/site.yaml").unlink()
    asked = ("finetune:runtime=120", "finetune:slurm_partition=gpu", *ON_GPU2)
    run.start("--set-resources", *asked, *TABLE)
    wait_for("a line about it", lambda: "Slurm will never start job" in run.text(), 120)
    (number,) = set(re.findall(r"never start job (\d+) \(rule_finetune", run.text()))
    assert "PartitionTimeLimit; it asks for 2:00:00" in run.text()
    run.cluster.run("scontrol", "update", f"JobId={number}", "TimeLimit=30")
    run.finish()
    return run


def controller_in_a_job(whole: Run, folder: Path) -> Run:
    """Snakemake in a job of its own, whose limits are others than those of any job of it."""
    run = without(whole, folder, FINETUNE)
    asked = ("--parsable", "--partition=cpu", "--time=50", "--mem=1234M", f"--output={run.log}")
    done = subprocess.run(
        ["sbatch", *asked, "slurm/controller.sh", *run.command(*TABLE)[1:]],
        cwd=run.folder, env=run.environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    number = done.stdout.strip()
    working = ("PENDING", "CONFIGURING", "RUNNING", "COMPLETING")
    wait_for("end of the controller", lambda: run.state(number) not in working, 500)
    assert run.state(number) == "COMPLETED", run.text()[-4000:]
    assert f"Snakemake runs in Slurm job {number}" in run.text()
    return run


def trial(whole: Run, folder: Path) -> Run:
    """No fault: a job for each kind of training measures what it costs, `plan` adds up what is
    left, and then that is trained.
    """
    run = without(whole, folder, FINETUNE)
    run.start("--set-resources", "measure:constraint=gpu2", "--", "trial")
    run.finish()
    plan = ["snakemake", "--cores", "1", "--configfile", "small.yaml", "--", "plan"]
    with open(run.log, "ab") as out:
        subprocess.run(
            plan, cwd=run.folder, check=True, stdout=out, stderr=out, env=run.environment
        )
    run.start("--set-resources", *ON_GPU2, *TABLE)
    run.finish()
    return run


FAULTS: tuple[Callable[[Run, Path], Run], ...] = (
    node_lost, preempted, never_started, out_of_time, main_killed, recovered, unlocked_too_soon,
    out_of_memory, cancelled, database_down, two_nodes, controller_in_a_job, trial,
)  # fmt: skip


@pytest.fixture(scope="module")
def faults(
    whole: Run, tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest
) -> Iterator[dict[str, Future[Run]]]:
    """All that the selected tests ask for, at the same time."""
    folder = tmp_path_factory.mktemp("faults")
    names = {item.name.removeprefix("test_") for item in request.session.items}
    chosen = [fault for fault in FAULTS if fault.__name__ in names]
    with ThreadPoolExecutor(len(FAULTS)) as pool:
        yield {f.__name__: pool.submit(f, whole, folder / f.__name__) for f in chosen}


def same_tables(run: Run, whole: Run) -> None:
    assert run.tables() == whole.tables()
    assert len(run.tables()) == 5 * 4


# ---- what must hold --------------------------------------------------------------------------


def test_whole_line_makes_all_tables_and_figures(whole: Run) -> None:
    results = whole.folder / "results/tiny"
    assert "No suitable partition" not in whole.text()
    assert len(whole.tables()) == 5 * 4
    assert len(list(results.glob("figures/*.pdf"))) == 9
    assert (results / "report/index.html").is_file()


def test_books_show_gpus_as_asked_and_none_elsewhere(whole: Run) -> None:
    rows = whole.booked()
    rules = Counter(row["Comment"].removeprefix("rule_").partition("_")[0] for row in rows)
    assert not rules.keys() & {"fetch", "plan", "all"}  # these stay on the login node
    assert rules["pretrain"] >= 2
    assert rules["finetune"] == 7
    assert rules["evaluate"] == rules["tables"] == rules["leak"] == 1  # grouped
    for row in rows:
        assert row["State"] == "COMPLETED", row
        with_gpu = row["Comment"].startswith(tuple(f"rule_{name}" for name in GPU_RULES))
        assert ("gres/gpu=1" in row["AllocTRES"]) == with_gpu, row
        assert ("gres/gpu" in row["AllocTRES"]) == with_gpu, row
        assert row["Partition"] == ("gpu" if with_gpu else "cpu"), row


def test_out_of_memory(faults: dict[str, Future[Run]], whole: Run) -> None:
    run = faults["out_of_memory"].result()
    same_tables(run, whole)
    first, second = [r for r in run.booked() if r["Comment"].startswith("rule_pretrain")]
    assert first["State"] in ("FAILED", "OUT_OF_MEMORY")
    assert second["State"] == "COMPLETED"
    assert (first["ReqMem"], second["ReqMem"]) == ("300M", "1200M")


def test_out_of_time(faults: dict[str, Future[Run]], whole: Run) -> None:
    run = faults["out_of_time"].result()
    same_tables(run, whole)
    assert run.states("finetune") == ["TIMEOUT", "COMPLETED"]
    assert run.record("finetune")["resumed_at"] > 0


def test_node_lost(faults: dict[str, Future[Run]], whole: Run) -> None:
    run = faults["node_lost"].result()
    same_tables(run, whole)
    assert run.states("finetune") == ["NODE_FAIL", "COMPLETED"]
    assert run.record("finetune")["resumed_at"] > 0


def test_preempted(faults: dict[str, Future[Run]], whole: Run) -> None:
    run = faults["preempted"].result()
    same_tables(run, whole)
    assert run.states("finetune") == ["PREEMPTED", "COMPLETED"]
    assert run.record("finetune")["resumed_at"] > 0


def test_cancelled(faults: dict[str, Future[Run]], whole: Run) -> None:
    run = faults["cancelled"].result()
    same_tables(run, whole)
    assert run.states("pretrain") == ["CANCELLED", "COMPLETED"]
    assert run.record("pretrain")["resumed_at"] > 0


def test_main_killed(faults: dict[str, Future[Run]], whole: Run) -> None:
    run = faults["main_killed"].result()
    same_tables(run, whole)
    assert run.states("pretrain") == ["CANCELLED", "COMPLETED"]
    assert run.record("pretrain")["resumed_at"] > 0


def test_recovered(faults: dict[str, Future[Run]], whole: Run) -> None:
    run = faults["recovered"].result()
    same_tables(run, whole)
    for rule in ("pretrain", "finetune"):
        assert run.states(rule) == ["COMPLETED"]
    assert run.record("pretrain")["resumed_at"] == 0


def test_unlocked_too_soon(faults: dict[str, Future[Run]], whole: Run) -> None:
    run = faults["unlocked_too_soon"].result()
    same_tables(run, whole)
    assert "CANCELLED" not in run.states("finetune")
    assert run.record("finetune")["resumed_at"] == 0


def test_database_down(faults: dict[str, Future[Run]], whole: Run) -> None:
    run = faults["database_down"].result()
    same_tables(run, whole)
    assert run.states("pretrain") == run.states("finetune") == ["COMPLETED"]


def test_two_nodes(faults: dict[str, Future[Run]], whole: Run) -> None:
    """One encoder by two processes on two nodes: the losses of one process, batch size included."""
    run = faults["two_nodes"].result()
    assert run.record("pretrain")["processes"] == 2
    (row,) = [r for r in run.booked() if r["Comment"].startswith("rule_pretrain")]
    assert "node=2" in row["AllocTRES"]
    assert "gres/gpu=2" in row["AllocTRES"]

    def losses(run: Run) -> list[float]:
        path = run.folder / "results/tiny" / PRETRAIN / "seed1/metrics.csv"
        rows = list(csv.DictReader(path.read_text().splitlines()))
        return [float(value) for row in rows for key, value in row.items() if "loss" in key]

    assert losses(run) == pytest.approx(losses(whole), rel=1e-3)
    assert losses(run)


def test_never_started(faults: dict[str, Future[Run]], whole: Run) -> None:
    run = faults["never_started"].result()
    same_tables(run, whole)
    assert run.states("finetune") == ["COMPLETED"]  # nor was it asked for again


def test_controller_in_a_job(faults: dict[str, Future[Run]], whole: Run) -> None:
    """Its jobs ask for what those of a login node do, and the plugin has nothing to warn of."""
    run = faults["controller_in_a_job"].result()
    same_tables(run, whole)
    own = [state for state in run.states("finetune") if state != "NODE_FAIL"]  # a neighbour's fault
    assert own == ["COMPLETED"]
    assert "running snakemake in a SLURM job context" not in run.text()

    def asked(of: Run) -> set[tuple[str, ...]]:
        rows = [row for row in of.booked() if row["Comment"].startswith("rule_finetune")]
        found = [row for row in rows if "homo" in row["Comment"] and "coord" in row["Comment"]]
        return {tuple(row[name] for name in ("Partition", "AllocTRES", "ReqMem")) for row in found}

    assert len(asked(run)) == 1
    assert asked(run) == asked(whole)
    assert "1234M" not in str(asked(run))


def test_trial(faults: dict[str, Future[Run]], whole: Run) -> None:
    """Its jobs get what trainings get, and the plan has its hours from them."""
    run = faults["trial"].result()
    same_tables(run, whole)
    rows = [row for row in run.booked() if row["Comment"].startswith("rule_measure")]
    asked = {(row["State"], row["Partition"], "gres/gpu=1" in row["AllocTRES"]) for row in rows}
    assert (len(rows), asked) == (4, {("COMPLETED", "gpu", True)})
    assert not run.states("pretrain")
    assert run.states("finetune") == ["COMPLETED"]
    assert "Measured: 1 of 1 kinds of training" in run.text()
    assert re.search(r" all: 0 pre-trainings, 1 fine-tunings; cpu .*: \S+ ± \S+ h, ", run.text())
    assert "Bounds, from sizes" not in run.text()


def test_doctor_names_what_no_partition_can_start(whole: Run, tmp_path: Path) -> None:
    """The paper edition's trainings ask for a day, the partitions have an hour."""
    site = tmp_path / "site.yaml"
    site.write_text("partitions:\n  cpu: {}\n  gpu: {max_gpu: 4}\n")
    lines = []
    for environment in ({"SNAKEMAKE_SLURM_PARTITIONS": str(site)}, {}):
        command = ["snakemake", "--cores", "1", "--nolock", "--config", "edition=paper"]
        done = subprocess.run(
            [*command, "--", "doctor"], cwd=whole.folder, check=False, stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT, env={**whole.environment, **environment}, text=True,
        )  # fmt: skip
        lines.append([line for line in done.stdout.splitlines() if "asks for" in line])
    for rule in ("pretrain", "finetune", "nve"):
        (line,) = (line for line in lines[0] if f"FAILS rule {rule} asks for" in line)
        assert "gpu (60 min, 64000 MB, 8 CPUs, 4 GPUs)" in line
    assert not [line for line in lines[0] if "rule evaluate" in line]
    assert lines[1] == []  # the folder's own site file has the hour, and no job asks for more
