from __future__ import annotations

import io
import os
import random
import re
import socket
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import psutil
import pytest
from rich.console import Console

from georecon.jobs.command_line import edition_of
from georecon.jobs.dag import DagState, read_states, write_state
from georecon.jobs.watch import state_words, watch
from snakemake_logger_plugin_georecon import (
    WEIGHTS,
    Progress,
    describe,
    earlier_means,
    header,
    tail,
)

ROOT = Path(__file__).resolve().parents[2]
SNAKEFILE = """
rule all:
    input:
        expand("results/laptop/{dataset}/{target}/seed{seed}.txt",
               dataset="qm9", target=["homo", "gap"], seed=[0, 1])

rule finetune:
    output: "results/laptop/{dataset}/{target}/seed{seed}.txt"
    log: "logs/{dataset}/{target}{seed}.log"
    shell: '''
        for i in $(seq 40); do echo "line $i" >> {log}; done
        echo "a job speaks" >&2
        [ -z "${{BREAK:-}}" ] || {{ echo "ValueError: loss is nan" >> {log}; exit 3; }}
        echo x > {output}
    '''
"""


def snakemake(folder: Path, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "snakemake", "--logger", "georecon", "--cores", "2", *arguments],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT / "src"), **variables},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "Snakefile").write_text(SNAKEFILE)
    return tmp_path


@pytest.mark.workflow
def test_one_line_per_finished_job_and_one_header(folder: Path) -> None:
    done = snakemake(folder)
    assert done.returncode == 0
    lines = done.stdout.splitlines()
    assert lines[0] == "georecon laptop edition: 5 jobs (4 finetune)"
    jobs = [line for line in lines if line.startswith("[")]
    assert len(jobs) == 5
    assert all(re.match(rf"\[{n}/5\] +{20 * n}%  ", jobs[n - 1]) for n in range(1, 6))
    pattern = r"finetune  qm9/(homo|gap) seed [01] +\d+\.\d s"
    assert sum(bool(re.search(pattern, line)) for line in jobs) == 4
    assert re.search(r"about \d+ s left", jobs[2])
    rest = [line for line in lines[1:] if not line.startswith("[")]
    assert rest == ["a job speaks"] * 4
    assert "\x1b" not in done.stdout
    again = snakemake(folder)
    assert again.stdout == "Nothing to do: everything asked for is up to date.\n"


WATCHED = """
rule all:
    input:
        expand("{n}.txt", n=[1, 2])

def before(wildcards):
    return ["1.txt"] if wildcards.n == "2" else []

rule look:
    input: before
    output: "{n}.txt"
    shell: "sleep 1; COLUMNS=160 {PYTHON} -m georecon.watch --once > {output}; {TEST}"
"""


@pytest.mark.workflow
@pytest.mark.parametrize(
    ("test", "state"), [("true", "ended"), ("test {wildcards.n} = 1", "stopped")]
)
def test_a_run_says_how_far_it_is(test: str, state: str, tmp_path: Path) -> None:
    snakefile = WATCHED.replace("{PYTHON}", sys.executable).replace("{TEST}", test)
    (tmp_path / "Snakefile").write_text(snakefile)
    snakemake(tmp_path, "--cores", "1", "--keep-incomplete")
    texts = [(tmp_path / f"{n}.txt").read_text() for n in (1, 2)]
    for text in texts:
        assert "1 unfinished runs of the DAG" in text
        (row,) = (line for line in text.splitlines() if "running" in line)
        assert re.search(r"laptop .* [01]/3 .* look n [12] \([0-9]+ s\) .* [12] look", row), row
    (found,) = read_states(tmp_path)
    assert (found.state, found.total, found.runs()) == (state, 3, False)
    assert (found.done, found.failed) == ((3, 0) if state == "ended" else (1, 1))
    assert found.at_work == []
    shown = io.StringIO()
    watch(tmp_path / "results", once=True, console=Console(file=shown, width=160))
    assert ("stopped" in shown.getvalue()) == (state == "stopped")


def state_of(pid: int, born: float) -> DagState:
    return DagState(
        edition="laptop", host=socket.gethostname(), pid=pid, born=born, time=5.0, done=1, total=3,
        waiting={"finetune": 2}, at_work=[("finetune homo seed 1", 2.0)], failed=0,
        seconds_left=60.0, state="running",
    )  # fmt: skip


def own_state() -> DagState:
    return state_of(os.getpid(), psutil.Process().create_time())


@pytest.mark.workflow
@pytest.mark.parametrize("rule", ["plan", "web", "look"])
def test_a_run_that_makes_nothing_or_comes_second_leaves_the_state(
    rule: str, tmp_path: Path
) -> None:
    outputs = "    output: touch('1.txt')\n" if rule == "look" else "    shell: 'true'\n"
    (tmp_path / "Snakefile").write_text(f"rule {rule}:\n{outputs}")
    write_state(tmp_path, own_state())
    assert snakemake(tmp_path, "--nolock").returncode == 0
    (left,) = read_states(tmp_path)
    assert (left.pid, left.done, left.state) == (os.getpid(), 1, "running")
    write_state(tmp_path, replace(own_state(), state="stopped"))
    (tmp_path / "1.txt").unlink(missing_ok=True)
    assert snakemake(tmp_path, "--nolock").returncode == 0
    (left,) = read_states(tmp_path)
    assert left.state == ("ended" if rule == "look" else "stopped")


@pytest.mark.workflow
def test_a_run_in_another_folder_leaves_nothing_here(tmp_path: Path) -> None:
    for name in ("here", "there"):
        (tmp_path / name).mkdir()
    (tmp_path / "here/Snakefile").write_text("rule look:\n    output: touch('1.txt')\n")
    assert snakemake(tmp_path / "here", "--directory", str(tmp_path / "there")).returncode == 0
    assert [state.state for state in read_states(tmp_path / "there")] == ["ended"]
    assert read_states(tmp_path / "here") == []


@pytest.mark.workflow
def test_a_state_that_cannot_be_written_is_no_fault(folder: Path) -> None:
    (folder / "logs").mkdir()
    (folder / "logs/laptop").touch()
    done = snakemake(folder)
    assert "Traceback" not in done.stdout
    assert done.stdout.count("\n[") == 5


def test_a_killed_run_is_said_to_be(tmp_path: Path) -> None:
    process = subprocess.Popen(["true"])
    process.wait()
    write_state(tmp_path, state := state_of(process.pid, 0.0))
    assert [state_words(one, 10.0) for one in read_states(tmp_path)] == ["killed"]
    shown = io.StringIO()
    watch(tmp_path / "results", once=True, console=Console(file=shown, width=160))
    (row,) = (line for line in shown.getvalue().splitlines() if "killed" in line)
    assert "60 s" not in row
    assert "homo" not in row
    assert state_words(own_state(), 10.0) == "running"
    again = replace(own_state(), born=1.0)  # its number is now another process's
    assert state_words(again, 10.0) == "killed"
    assert state_words(replace(state, host="login3"), 10.0) == "on login3, last word 5 s ago"
    (tmp_path / "logs/laptop/dag.json").write_text("{}")
    assert read_states(tmp_path) == []


TABLE = """
rule table:
    output: csv="results/laptop/tables/{table}.csv", md="results/laptop/tables/{table}.md"
    shell: "touch {output}"
"""


@pytest.mark.workflow
def test_a_finished_table_is_said_with_its_file(tmp_path: Path) -> None:
    (tmp_path / "Snakefile").write_text(TABLE)
    done = snakemake(tmp_path, "results/laptop/tables/qm9.md")
    assert done.returncode == 0
    lines = [line for line in done.stdout.splitlines() if line.startswith("Table ")]
    assert lines == ["Table qm9 is there: results/laptop/tables/qm9.md"]


@pytest.mark.workflow
def test_failed_job_shows_rule_wildcards_and_the_end_of_its_log(folder: Path) -> None:
    done = snakemake(folder, BREAK="1")
    assert done.returncode == 1
    block = done.stdout[done.stdout.index("Failed: finetune  qm9/") :]
    assert "target = " in block
    assert re.search(r"log: logs/qm9/(homo|gap)[01]\.log, its end:", block)
    assert "| ValueError: loss is nan" in block
    assert "| line 40" in block
    assert "| line 21\n" not in block


@pytest.mark.workflow
def test_dry_run_lists_the_jobs_as_snakemake_does(folder: Path) -> None:
    done = snakemake(folder, "-n")
    assert done.returncode == 0
    assert done.stdout.count("rule finetune:") == 4
    assert "This was a dry-run" in done.stdout
    assert "finetune        4" in done.stdout


@pytest.mark.workflow
def test_unknown_target_is_reported(folder: Path) -> None:
    done = snakemake(folder, "nonsense")
    assert done.returncode != 0
    assert "No rule to produce nonsense" in done.stdout


@pytest.mark.parametrize(
    ("wildcards", "text"),
    [
        ({"dataset": "qm9", "target": "homo", "method": "georecon", "seed": "1"},
         "qm9/homo georecon seed 1"),
        ({"edition": "laptop", "table": "qm9"}, "qm9"),
        ({"method": "georecon", "noise": "0.04"}, "georecon noise 0.04"),
        ({"target": "homo"}, "homo"),
        ({}, ""),
    ],
)  # fmt: skip
def test_wildcards_are_joined_readably(wildcards: dict[str, str], text: str) -> None:
    assert describe(wildcards) == text


def test_time_left_weighs_rules_by_their_own_mean_and_parallel_jobs() -> None:
    progress = Progress({"slow": 4, "fast": 2, "total": 6}, now=0.0)
    progress.finish("slow", 10.0)
    assert progress.time_left(10.0) is None
    progress.finish("slow", 10.0)
    progress.finish("fast", 2.0)
    # 2 slow and 1 fast left = 22 s of work; 22 s were done in 11 s: two at a time
    assert progress.time_left(11.0) == pytest.approx(11.0)


LAPTOP = {
    "fetch": 3, "xtb": 8, "preprocess": 1, "preprocess_target": 8, "split": 10, "leak": 9,
    "pretrain": 9, "finetune": 148, "evaluate": 148, "smoothness": 10, "table": 8, "figure": 6,
    "summary": 1, "site": 1, "all": 1, "total": 371,
}  # fmt: skip


def run(costs: dict[str, float], *, earlier: dict[str, float] | None = None) -> list[float]:
    """What is said to be left over what is left, of one job at a time in the order above."""
    rules = [rule for rule in LAPTOP if rule not in ("total", "evaluate")]
    jobs = [rule for rule in rules for _ in range(LAPTOP[rule])]
    while "finetune" in jobs:  # each is evaluated before the next one
        at = jobs.index("finetune")
        jobs[at : at + 1] = ["Finetune", "evaluate"]
    jobs = [rule.lower() for rule in jobs]
    progress, now = Progress(LAPTOP, 0.0, earlier), 0.0
    total, ratios = sum(costs[rule] for rule in jobs), []
    for rule in jobs[:-2]:
        now += costs[rule]
        progress.finish(rule, costs[rule])
        if (left := progress.time_left(now)) is not None:
            ratios.append(left / (total - now))
    return ratios


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("speed", [0.3, 1.0, 20.0])
def test_no_time_is_said_that_is_off_by_much(seed: int, speed: float) -> None:
    """Also where rules cost up to three times more or less than their weights say."""
    draw = random.Random(seed)
    costs = {rule: speed * WEIGHTS.get(rule, 0) * 3 ** draw.uniform(-1, 1) for rule in LAPTOP}
    ratios = run(costs)
    assert len(ratios) > 150, "most of a run has a time"
    assert all(1 / 2.6 < ratio < 2.6 for ratio in ratios), (min(ratios), max(ratios))
    first = run(costs, earlier={rule: cost / 2 for rule, cost in costs.items()})
    assert len(first) >= 360, "an earlier run is known from the second job on"
    assert all(0.4 < ratio < 1.1 for ratio in first)


def test_cheap_rules_at_the_start_tell_nothing_of_dear_ones() -> None:
    progress = Progress({"fetch": 3, "finetune": 100, "total": 103}, 0.0)
    for now in (1.0, 2.0, 3.0):
        progress.finish("fetch", 1.0)
        assert progress.time_left(now) is None
    progress.finish("finetune", 7.0)
    assert progress.time_left(10.0) == pytest.approx(99 * 7.0)


def test_earlier_runs_are_read_by_rule(tmp_path: Path) -> None:
    for name, seconds in (
        ("finetune/qm9/a/seed1", "4"),
        ("finetune/qm9/b/seed1", "6"),
        ("figure/x", "9"),
    ):
        path = tmp_path / f"{name}.tsv"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"s\th:m:s\n{seconds}.0\t0:00:04\n")
    for name, text in (("empty", ""), ("odd", "s\nNA\n"), ("binary", "s\n\x00\n")):
        (tmp_path / f"figure/{name}.tsv").write_text(text)
    assert earlier_means(tmp_path) == {"finetune": 5.0, "figure": 9.0}
    assert earlier_means(tmp_path / "nowhere") == {}


def test_header_orders_rules_by_number() -> None:
    stats = {"all": 1, "table": 2, "finetune": 72, "total": 75}
    assert header(stats, "laptop") == "georecon laptop edition: 75 jobs (72 finetune, 2 table)"


def test_tail_of_a_missing_empty_and_binary_log(tmp_path: Path) -> None:
    assert tail(tmp_path / "none") == ["(no such log file)"]
    (tmp_path / "empty").touch()
    assert tail(tmp_path / "empty") == ["(the log file is empty)"]
    (tmp_path / "odd").write_bytes(b"\xff\xfe\nend\n")
    assert tail(tmp_path / "odd")[-1] == "end"


def test_edition_follows_snakemakes_order_of_precedence(tmp_path: Path) -> None:
    assert edition_of([], tmp_path) == "laptop"
    (tmp_path / "config").mkdir()
    (tmp_path / "config/config.yaml").write_text("edition: small\n")
    (tmp_path / "other.yaml").write_text("edition: other\n")
    (tmp_path / "slurm").mkdir()
    (tmp_path / "paper.yaml").write_text("edition: paper\n")
    (tmp_path / "slurm/profile.yaml").write_text("configfile: paper.yaml\n")
    assert edition_of(["all"], tmp_path) == "small"
    assert edition_of(["--configfile", "other.yaml"], tmp_path) == "other"
    assert edition_of(["--profile", "slurm", "all"], tmp_path) == "paper"
    given = ["--profile", "slurm", "--configfile", "other.yaml", "--", "all"]
    assert edition_of(given, tmp_path) == "other"
    assert edition_of(["--profile=slurm", "--config", "edition=mine", "--"], tmp_path) == "mine"
