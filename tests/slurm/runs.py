"""Runs of the workflow on a test cluster, and what the cluster's books say about them."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from georecon.jobs.launch import THREADS
from georecon.jobs.watch import latest
from tests.daemons import wait_for
from tests.slurm.cluster import Cluster

SMALL = Path(__file__).parent / "small.yaml"
SITE = "partitions:\n  cpu: {max_runtime: 60}\n  {gpu}: {max_runtime: 60, max_gpu: 4}\n"
COLUMNS = ("JobID", "State", "Partition", "AllocTRES", "ReqMem", "Comment", "WorkDir")
# seconds; the profile's values suit a cluster with many users
QUICK = ("--slurm-init-seconds-before-status-checks", "2", "--latency-wait", "10")
books = threading.Lock()
"""Held while the database is away."""


@dataclass(frozen=True)
class Training:
    """One training under way: its process is stopped, so that it waits for what comes."""

    job: str
    pid: int
    step: int


class Run:
    """A folder with the workflow, and Snakemake in it.

    Args:
        cluster: where its jobs go.
        folder: a clone of the project.
        gpu_partition: that of GPU jobs.
    """

    def __init__(self, cluster: Cluster, folder: Path, gpu_partition: str = "gpu") -> None:
        self.cluster, self.folder = cluster, folder
        (folder / "slurm/site.yaml").write_text(SITE.replace("{gpu}", gpu_partition))
        shutil.copy2(SMALL, folder / "small.yaml")
        self.log = folder / "main.log"
        self.main: subprocess.Popen[bytes] | None = None
        self.environment = {
            **cluster.environment,
            **dict.fromkeys(THREADS, "1"),
            "GEORECON_DEVICE": "cpu",
            "PYTHONPATH": str(folder / "src"),  # what set-up does for a clone
            "PATH": f"{Path(sys.executable).parent}:{cluster.environment['PATH']}",
        }

    def command(self, *arguments: str) -> list[str]:
        """The user's command, with a small edition and shorter waits."""
        given = ("--configfile", "small.yaml", *QUICK)
        return ["snakemake", "--profile", "slurm", *given, *arguments]

    def start(self, *arguments: str) -> None:
        """Start Snakemake; its output goes to ``main.log``."""
        with open(self.log, "ab") as out:
            self.main = subprocess.Popen(
                self.command(*arguments), cwd=self.folder, env=self.environment,
                stdin=subprocess.DEVNULL, stdout=out, stderr=out, start_new_session=True,
            )  # fmt: skip

    def finish(self, seconds: float = 900.0) -> None:
        """Wait for Snakemake's good end."""
        assert self.main is not None
        try:
            code = self.main.wait(seconds)
        except subprocess.TimeoutExpired:
            os.killpg(self.main.pid, signal.SIGKILL)
            self.main.wait()
            code = None
        queue = self.cluster.run("squeue", "-o", "%i %T %r %k") if code != 0 else ""
        assert code == 0, f"exit code {code}\n{self.text()[-4000:]}\n{queue}"

    def kill(self) -> None:
        """SIGKILL Snakemake and what it runs on its own machine."""
        assert self.main is not None
        os.killpg(self.main.pid, signal.SIGKILL)
        self.main.wait()

    def text(self) -> str:
        """What Snakemake has printed."""
        return self.log.read_text(errors="replace")

    def freeze(self, seconds: float = 180.0) -> Training:
        """Stop the first training that has saved its state."""
        assert self.main is not None
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            assert self.main.poll() is None, f"it ended first\n{self.text()[-4000:]}"
            for path in self.folder.glob("results/tiny/state/*/progress.csv"):
                row = latest(path)
                if row and row["job"] and any(path.parent.glob("step-*")):
                    os.kill(int(row["pid"]), signal.SIGSTOP)
                    return Training(row["job"], int(row["pid"]), int(row["step"]))
            time.sleep(0.05)
        raise TimeoutError(f"no training began\n{self.text()[-4000:]}")

    def state(self, job: str) -> str:
        """A job's state now."""
        return self.cluster.run("squeue", "-h", "-t", "all", "-j", job, "-o", "%T").strip()

    def booked(self) -> list[dict[str, str]]:
        """The books' rows of this folder's jobs, every attempt one."""
        command = ("sacct", "-n", "-P", "-X", "-D", "-S", "now-2hours", "-o", ",".join(COLUMNS))
        with books:
            wait_for("all ends in the books", lambda: "RUNNING" not in self._rows(command))
            lines = self._rows(command).splitlines()
        return [dict(zip(COLUMNS, line.split("|"), strict=True)) for line in lines]

    def _rows(self, command: tuple[str, ...]) -> str:
        lines = self.cluster.run(*command).splitlines()
        return "\n".join(line for line in lines if line.endswith(f"|{self.folder}"))

    def states(self, rule: str) -> list[str]:
        """States of a rule's attempts, first one first."""
        rows = [row for row in self.booked() if row["Comment"].startswith(f"rule_{rule}")]
        return [row["State"].split()[0] for row in rows]

    def record(self, stage: str) -> dict[str, Any]:
        """``training`` of Coord's run.json."""
        place = {"pretrain": "pretrain/coord", "finetune": "finetune/property/homo/coord"}[stage]
        text = (self.folder / f"results/tiny/{place}/seed1/run.json").read_text()
        found: dict[str, Any] = json.loads(text)["training"]
        return found

    def tables(self) -> dict[str, bytes]:
        """Bytes of all table files."""
        return {p.name: p.read_bytes() for p in self.folder.glob("results/tiny/tables/*")}


def without(run: Run, folder: Path, *places: str, gpu_partition: str = "gpu") -> Run:
    """A copy of a finished run in which some results and the table of them are missing."""
    shared = shutil.ignore_patterns("resources", "locks", "__pycache__", "main.log")
    shutil.copytree(run.folder, folder, symlinks=True, ignore=shared)
    os.symlink(run.folder / "resources", folder / "resources")
    for place in places:
        shutil.rmtree(folder / "results/tiny" / place)
    for path in folder.glob("results/tiny/tables/qm9.*"):
        path.unlink()
    return Run(run.cluster, folder, gpu_partition)


@contextmanager
def no_database(cluster: Cluster) -> Iterator[None]:
    """The time without slurmdbd and MariaDB."""
    with books:
        cluster.stop_database()
        try:
            yield
        finally:
            cluster.start_database()
