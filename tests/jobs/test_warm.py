"""The warm process: a child of it does what the job's own process would, and dies with it."""

from __future__ import annotations

import contextlib
import json
import os
import pickle
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from snakemake import iocontainers
from snakemake.script import Snakemake

from georecon.data.split import Split, write_split
from georecon.data.store import Store
from georecon.jobs import warm
from georecon.training.loop import EXIT_INTERRUPTED
from tests.training.toy_world import SIZES

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="there is none elsewhere")

ROOT = Path(__file__).resolve().parents[2]
FINETUNE = (ROOT / "workflow/scripts/finetune.py").read_text(encoding="utf-8")
HAND_OVER = "from georecon.jobs import warm\nwarm.hand_over(snakemake)\n"
# what a script can tell about its process
FACTS = """
import json, os, resource, signal, sys
print("to stderr", file=sys.stderr)
print(json.dumps({
    "parent": os.getppid(), "imported": "torch" in sys.modules,
    "threads": len(os.listdir("/proc/self/task")), "descriptors": os.listdir("/proc/self/fd"),
    "arguments": sys.argv, "path": list(dict.fromkeys(sys.path)), "folder": os.getcwd(),
    "environment": {k: v for k, v in os.environ.items() if k != "GEORECON_WARM"},
    "stdin": sys.stdin.read(), "name": __name__, "limits": resource.getrlimit(resource.RLIMIT_CORE),
    "mask": sorted(signal.pthread_sigmask(signal.SIG_BLOCK, [])),
    "handlers": [str(signal.getsignal(n)) for n in signal.valid_signals()],
}))
if "torch" in sys.modules:
    import torch
    assert not torch.cuda.is_initialized()
"""
CONDITIONS = """
import json
from georecon.jobs import warm
print(json.dumps(warm._conditions()))
"""
WAITS = """
import os, time
from pathlib import Path
Path("pid").write_text(str(os.getpid()))
while not os.path.exists("go"): time.sleep(0.02)
"""


@dataclass
class Run:
    """A folder whose jobs find a warm process, as Snakemake's do."""

    folder: Path
    given: dict[str, str]
    server: int = 0

    def write(self, text: str, **parts: Any) -> Path:
        """A script with the object that Snakemake puts before it."""
        filled = {"input": {}, "output": {}, "params": {}, "resources": {}} | parts
        names = ("InputFiles", "OutputFiles", "Params", "ResourceList")
        kinds = [getattr(iocontainers, name) for name in names]
        lists = [kind(fromdict=filled[k]) for kind, k in zip(kinds, filled, strict=True)]
        script = Snakemake(
            *lists[:3], iocontainers.Wildcards(), 1, lists[3],
            iocontainers.Log(["log.txt"]), {}, "rule", None,
        )  # fmt: skip
        path = self.folder / "script.py"
        head = f"import pickle\nsnakemake = pickle.loads({pickle.dumps(script)!r})\n"
        path.write_text(head + text, encoding="utf-8")
        return path

    @contextlib.contextmanager
    def start(self, script: Path, **different: Any) -> Iterator[subprocess.Popen[str]]:
        """The script as Snakemake starts it, under the same conditions but for what is given."""
        options = {"cwd": self.folder} | different
        options["env"] = {**self.given, **different.get("env", {})}
        pipes = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
        command = [sys.executable, str(script)]
        with subprocess.Popen(command, text=True, **pipes, **options) as process:
            try:
                yield process
            finally:
                process.kill()

    def do(self, script: Path, **different: Any) -> tuple[int, str, str]:
        """Run it to its end: exit code, output, errors."""
        with self.start(script, **different) as process:
            output, errors = process.communicate("input", timeout=60)
        return process.returncode, output, errors

    def facts(self, **different: Any) -> dict[str, Any]:
        code, output, errors = self.do(self.write(HAND_OVER + FACTS), **different)
        assert (code, errors) == (0, "to stderr\n")
        return dict(json.loads(output))

    def taken(self, **different: Any) -> bool:
        """Whether the warm process takes a job."""
        return bool(self.facts(**different)["parent"] == self.server)


@contextlib.contextmanager
def run_in(folder: Path, source: Path = ROOT / "src") -> Iterator[Run]:
    """A run with a warm process that has imported ``source``."""
    kept = {k: v for k, v in os.environ.items() if k != warm.VARIABLE}
    kept |= dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")
    kept |= {"GEORECON_DEVICE": "cpu", "PYTHONPATH": str(source)}
    with warm.process() as variables:
        assert variables
        yield Run(folder, {**kept, **variables})


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Run]:
    with run_in(tmp_path_factory.mktemp("run")) as made:
        made.server = made.facts()["parent"]
        yield made
        for child in children(made.server):  # of a test that failed; it would be waited for
            os.kill(int(child), signal.SIGKILL)


@pytest.fixture(autouse=True)
def clean(run: Run) -> None:
    for name in ("pid", "go", "log.txt"):
        (run.folder / name).unlink(missing_ok=True)


def until(condition: Callable[[], Any], seconds: float = 30.0) -> Any:
    end = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < end, "waited too long"
        time.sleep(0.01)
    return found


def pid_in(folder: Path) -> int:
    return int(until(lambda: (folder / "pid").exists() and (folder / "pid").read_text()))


def is_waiting(process: subprocess.Popen[str]) -> bool:
    """Whether a job has been told that it is taken: it catches a signal that Python does not."""
    status = Path(f"/proc/{process.pid}/status").read_text()
    caught = int(status.partition("SigCgt:")[2].split()[0], 16)
    return bool(caught >> (signal.SIGUSR1 - 1) & 1)


def is_alive(pid: int) -> bool:
    return Path(f"/proc/{pid}").exists()


# ---- the same as the job's own process ----------------------------------------------------------


def test_the_process_is_like_the_jobs_own_but_has_imported_torch(run: Run) -> None:
    forked, own = run.facts(), run.facts(env={warm.VARIABLE: ""})
    command = Path(f"/proc/{run.server}/cmdline").read_bytes().split(b"\0")
    assert b"georecon.jobs.warm" in command
    assert len(list(Path(f"/proc/{run.server}/task").iterdir())) == 1
    assert (forked.pop("parent"), own.pop("parent")) == (run.server, os.getpid())
    assert (forked.pop("imported"), own.pop("imported")) == (True, False)
    assert forked == own
    assert own["threads"] == 1
    assert own["stdin"] == "input"


def finetune(
    run: Run, store: Path, split: Path, steps: int = 20, seed: int = 1, **train: Any
) -> Path:
    """The rule's own script on a toy store."""
    train = {
        "steps": steps, "batch_size": 6, "lr": 4e-4, "weight_decay": 0.0, "warmup": 2, "clip": 1.0,
        "schedule": "cosine", "evaluations": 2, "patience": 0, "checkpoint_seconds": 0.05, **train,
    }  # fmt: skip
    recipe = {
        "head": "scalar", "loss": "mse", "standardize": True, "atomref": {}, "noise_sigma": 0.005,
        "noise_weight": 0.1, "energy_weight": 0.2, "force_weight": 0.8, "fitted": False,
    }  # fmt: skip
    settings = {"name": "toy", "encoder": SIZES, "train": train, "seed": seed, "label": "energy"}
    settings |= {"recipe": recipe, "evaluation_batch": 2, "dataset": "toy", "target": "toy"}
    settings |= {"method": "scratch", "code": "c" * 16, "part": "toy"}
    names = ("model.safetensors", "outputs.safetensors", "curve.csv", "run.json")
    (run.folder / "made").mkdir(exist_ok=True)
    return run.write(
        FINETUNE,
        input={"store": str(store / "manifest.json"), "split": str(split)},
        output={name.split(".")[0]: f"made/{name}" for name in names},
        params={"settings": settings, "state": "state"},
    )


@pytest.fixture(scope="module")
def split(toy_store: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    store = Store.open(toy_store)
    path = tmp_path_factory.mktemp("split") / "toy.npz"
    meta = {"rule": "toy", "seed": 1, "store_sha256": store.sha256}
    write_split(path, Split(store.ids[:14], store.ids[14:19], store.ids[19:]), meta)
    return path


def test_a_training_writes_the_same_bytes_and_a_true_record(
    run: Run, toy_store: Path, split: Path
) -> None:
    made = {}
    for name, variables in (("own", {warm.VARIABLE: ""}), ("forked", {})):
        script = finetune(run, toy_store, split)
        with run.start(script, env=variables) as process:
            _, errors = process.communicate(timeout=60)
        assert process.returncode == 0, errors
        files = {path.name: path.read_bytes() for path in (run.folder / "made").iterdir()}
        record = json.loads(files.pop("run.json"))
        assert (record["job"].pop("pid") == process.pid) == (name == "own")
        for timed in ("started", "ended", "seconds", "sha256"):
            del record[timed]
        del record["training"]["seconds"]
        made[name] = (files, record, (run.folder / "log.txt").read_bytes())
        shutil.rmtree(run.folder / "made")
    assert set(made["own"][0]) == {"model.safetensors", "outputs.safetensors", "curve.csv"}
    assert made["own"] == made["forked"]
    run.do(finetune(run, toy_store, split, seed=2))
    other = (run.folder / "made/model.safetensors").read_bytes()
    assert other != made["own"][0]["model.safetensors"]


def test_errors_end_the_job_as_ever(run: Run, toy_store: Path, split: Path) -> None:
    script = finetune(run, toy_store, split.with_name("gone.npz"))
    code, _, errors = run.do(script)
    assert code == 1
    assert "gone.npz" in errors
    script = finetune(run, toy_store, split, precision="none")
    code, _, errors = run.do(script)
    assert (code, len(errors.splitlines())) == (1, 2), errors
    assert errors.startswith("    error: configuration refused:\n")
    assert "train.precision: is 'none'; allowed: float32, bf16" in errors
    assert (run.folder / "log.txt").read_text() == errors.strip() + "\n"
    text = "from georecon.jobs.job import job\nwith job('log.txt'):\n    1 / 0\n"
    code, _, errors = run.do(run.write(HAND_OVER + text))
    assert code == 1
    assert "ZeroDivisionError" in errors
    assert "1 / 0" in (run.folder / "log.txt").read_text()
    assert run.do(run.write(HAND_OVER + "raise SystemExit(7)"))[0] == 7


# ---- life and death -----------------------------------------------------------------------------


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGUSR1])
def test_a_stop_signal_saves_the_state_and_the_job_goes_on_from_it(
    run: Run, toy_store: Path, split: Path, number: int
) -> None:
    with run.start(finetune(run, toy_store, split, steps=100_000)) as process:
        until(lambda: list(run.folder.glob("state/*/step-*")))
        process.send_signal(number)
        _, errors = process.communicate(timeout=30)
    assert process.returncode == EXIT_INTERRUPTED, errors
    assert "state saved" in errors
    with run.start(finetune(run, toy_store, split, steps=100_000)) as process:
        until(lambda: "continues at step" in (run.folder / "log.txt").read_text())
    until(lambda: not children(run.server))
    shutil.rmtree(run.folder / "state")


def children(pid: int) -> list[str]:
    """Children of a process, ended ones that nobody has waited for included."""
    return Path(f"/proc/{pid}/task/{pid}/children").read_text().split()


def server_of(child: int) -> int:
    return int(Path(f"/proc/{child}/stat").read_text().rsplit(")", 1)[1].split()[1])


def test_without_a_handler_a_signal_ends_the_job_as_ever(run: Run) -> None:
    script = run.write(HAND_OVER + WAITS)
    for number in (signal.SIGTERM, signal.SIGINT):
        for variables in ({}, {warm.VARIABLE: ""}):
            with run.start(script, env=variables) as process:
                child = pid_in(run.folder)
                until(lambda: process.pid == child or is_waiting(process))  # noqa: B023
                process.send_signal(number)
                _, errors = process.communicate(timeout=30)
            assert process.returncode == -number
            assert ("KeyboardInterrupt" in errors) == (number == signal.SIGINT)
            assert "killed by" not in errors
            assert not is_alive(child)
            (run.folder / "pid").unlink()


def test_a_signal_to_the_jobs_group_comes_once_and_the_warm_process_stays(run: Run) -> None:
    text = """
import signal, time
from pathlib import Path
seen = []
signal.signal(signal.SIGINT, lambda number, frame: seen.append(number))
Path("pid").write_text("0")
while not seen: time.sleep(0.01)
time.sleep(0.3)
print(len(seen))
"""
    with run.start(run.write(HAND_OVER + text), process_group=0) as process:
        until(lambda: (run.folder / "pid").exists() and is_waiting(process))
        os.killpg(process.pid, signal.SIGINT)
        os.kill(run.server, signal.SIGINT)
        assert process.communicate(timeout=30) == ("1\n", "")
    assert run.taken()


def test_a_killed_job_takes_its_child_with_it(run: Run) -> None:
    with run.start(run.write(HAND_OVER + WAITS)) as process:
        child = pid_in(run.folder)
        assert child != process.pid
    until(lambda: not is_alive(child), 5.0)
    assert children(run.server) == []
    assert run.taken()


def test_a_killed_child_is_reported_by_the_signals_name(run: Run) -> None:
    with run.start(run.write(HAND_OVER + WAITS)) as process:
        until(lambda: is_waiting(process))
        os.kill(pid_in(run.folder), signal.SIGKILL)
        _, errors = process.communicate(timeout=30)
    assert process.returncode == -signal.SIGKILL
    assert errors == "    error: killed by SIGKILL (out of memory?)\n"
    assert (run.folder / "log.txt").read_text() == errors.strip() + "\n"


def test_without_its_warm_process_a_job_fails_and_the_next_works(tmp_path: Path) -> None:
    with run_in(tmp_path) as run:
        script = run.write(HAND_OVER + WAITS)
        with run.start(script) as first, run.start(script) as second:
            until(lambda: is_waiting(first) and is_waiting(second))
            server = server_of(pid_in(tmp_path))
            left = children(server)
            assert len(left) == 2
            os.kill(server, signal.SIGKILL)
            for process in (first, second):
                assert process.wait(30) == 1
                _, errors = process.communicate()
                assert errors.startswith("    error: the warm process")
        until(lambda: not any(is_alive(int(pid)) for pid in left), 5.0)
        facts = run.facts()
        assert (facts["parent"], facts["imported"]) == (os.getpid(), False)


def test_at_the_end_the_warm_process_waits_for_a_child_that_saves(tmp_path: Path) -> None:
    with contextlib.ExitStack() as jobs:
        with run_in(tmp_path) as run:
            script = run.write(HAND_OVER + WAITS + 'print("saved")')
            process = jobs.enter_context(run.start(script))
            until(lambda: is_waiting(process))
            child = pid_in(tmp_path)
            subprocess.run("(sleep 1; touch go) &", shell=True, cwd=tmp_path, check=True)
        assert not is_alive(child)
        assert process.communicate(timeout=10) == ("saved\n", "")
    assert process.returncode == 0


# ---- who is taken -------------------------------------------------------------------------------


def test_only_jobs_under_the_same_conditions_are_taken(run: Run, tmp_path: Path) -> None:
    assert run.taken()
    assert not run.taken(env={"OMP_NUM_THREADS": "2"})
    assert not run.taken(env={"GEORECON_KERNEL": "reference"})
    assert not run.taken(cwd=tmp_path)
    assert not run.taken(start_new_session=True)
    several = run.write(HAND_OVER + FACTS, resources={"gpu": 2})
    assert json.loads(run.do(several)[1])["parent"] == os.getpid()
    assert run.taken()


@pytest.mark.long
def test_an_edited_source_file_is_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ignored = shutil.ignore_patterns("__pycache__", "*.egg-info")
    source = shutil.copytree(ROOT / "src", tmp_path / "src", ignore=ignored)
    with run_in(tmp_path, source) as other:  # this one's program is not that of its jobs
        assert other.facts()["parent"] == os.getpid()
    monkeypatch.setenv("PYTHONPATH", str(source))
    with run_in(tmp_path, source) as run:
        run.server = run.facts()["parent"]
        assert run.server != os.getpid()
        assert run.taken()
        unused = source / "georecon/reporting/tables.py"
        unused.write_text(unused.read_text() + "# edited\n")
        assert run.taken()
        used = source / "georecon/stages/finetune.py"
        used.write_text(used.read_text() + "# edited\n")
        assert not run.taken()


def test_threads_after_the_imports_mean_no_warm_process(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """OpenBLAS starts its threads when numpy is imported."""
    with run_in(tmp_path) as run:
        assert run.facts(env={"OPENBLAS_NUM_THREADS": "2"})["parent"] == os.getpid()
        assert "jobs go on without a warm process" in capfd.readouterr().err
        assert run.facts()["parent"] == os.getpid()


@pytest.mark.skipif(os.getuid() != 0, reason="only root can be someone else")
@pytest.mark.parametrize("user", [0, 65534])
def test_other_users_are_neither_served_nor_trusted(run: Run, user: int) -> None:
    def as_user(action: Callable[[], None]) -> int:
        """Process that ends with code 0 if the action does not fail."""
        pid = os.fork()
        if pid == 0:
            try:
                os.setuid(user)
                action()
                os._exit(0)
            finally:
                os._exit(1)
        return pid

    def ask() -> None:
        with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as connection:
            connection.connect(f"\0{run.given[warm.VARIABLE]}")
            socket.send_fds(connection, [request], [0, 1, 2])
            assert connection.recv(16) == (b"" if user else b"accepted")

    def squat() -> None:
        with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as listener:
            listener.bind(f"\0{name}")
            listener.listen()
            connection, _ = listener.accept()
            assert (connection.recv(1 << 20) == b"") == bool(user)  # what a job says to it

    conditions = json.loads(run.do(run.write(CONDITIONS))[1])
    request = json.dumps({"arguments": [str(run.write(""))], "conditions": conditions}).encode()
    assert os.waitpid(as_user(ask), 0)[1] == 0
    name = f"georecon-{os.urandom(8).hex()}"
    pid = as_user(squat)
    until(lambda: name in Path("/proc/net/unix").read_text())
    run.facts(env={warm.VARIABLE: name})
    assert os.waitpid(pid, 0)[1] == 0
