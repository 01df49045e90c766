"""Defects of Snakemake's Slurm plugin that slurm/profile.yaml works round.

Each test runs the plugin's own code with stand-ins for Slurm's clients (or reads it, where running
it needs a cluster). One that fails says that upstream has changed: look whether the way round it
names can go.
"""

from __future__ import annotations

import asyncio
import importlib.metadata
import inspect
import logging
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml

from tests.projects import ROOT

plugin = pytest.importorskip("snakemake_executor_plugin_slurm")
jobstep = pytest.importorskip("snakemake_executor_plugin_slurm_jobstep")

PROFILE = yaml.safe_load((ROOT / "slurm/profile.yaml").read_text())


class Watched(plugin.Executor):  # type: ignore[misc]
    """The plugin's status check of one job, 7, without the rest of a workflow."""

    def __init__(self, command: str) -> None:
        names = {"status_command": command, "status_attempts": 1, "requeue": True}
        settings = {**names, "init_seconds_before_status_checks": 2, "keep_successful_logs": True}
        self.workflow = SimpleNamespace(executor_settings=SimpleNamespace(**settings))
        self.logger = logging.getLogger("plugin")
        self.run_uuid = "georecon_1"
        self._status_query_calls = self._status_query_failures = 0
        self._status_query_total_seconds = self._status_query_max_seconds = 0.0
        self._status_query_min_seconds = None
        self._status_query_cycle_rows: list[object] = []
        self._preemption_warning, self._failed_nodes = False, set()
        self.next_seconds_between_status_checks = 2
        self.reported: list[str] = []

    @property
    def status_rate_limiter(self) -> Any:
        class Free:
            async def __aenter__(self) -> None: ...
            async def __aexit__(self, *_: object) -> None: ...

        return Free()

    def report_job_success(self, job_info: Any) -> None:
        self.reported.append("success")

    def report_job_error(self, job_info: Any, **_: Any) -> None:
        self.reported.append("error")

    def look(self, times: int = 1) -> str:
        """What the plugin makes of the job: "success", "error" or "waits"."""
        job = SimpleNamespace(external_jobid="7", aux={"slurm_logfile": Path("7.log")})

        async def all_looks() -> None:
            for _ in range(times):
                async for _ in self.check_active_jobs([job]):
                    pass

        asyncio.run(all_looks())
        return self.reported[-1] if self.reported else "waits"


@pytest.fixture
def clients(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Slurm's clients as scripts; gives a function that sets what one prints."""
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")

    def client(name: str, text: str, code: int = 0) -> None:
        (tmp_path / name).write_text(f"#!/bin/sh\necho '{text}'\nexit {code}\n")
        (tmp_path / name).chmod(0o755)

    client("scontrol", "MinJobAge = 300 sec")
    client("sacct", "")
    return client


def test_the_version_that_was_examined() -> None:
    """Not run here: array tasks that check the first task's files (2.8.0: outputs deleted), SIGTERM
    to a job's inner Snakemake that may hang. A new version: read its changes, run make test-slurm.
    """
    assert importlib.metadata.version("snakemake-executor-plugin-slurm") == "2.8.0"
    assert importlib.metadata.version("snakemake-executor-plugin-slurm-jobstep") == "0.6.1"
    assert not [key for key in PROFILE if "array" in key]


def test_sacct_waits_for_ever_on_a_cancelled_job_squeue_does_not(clients: Any) -> None:
    assert PROFILE["slurm-status-command"] == "squeue"
    clients("sacct", "7|CANCELLED by 0")
    assert Watched("sacct").look() == "waits"
    clients("squeue", "7|CANCELLED")
    assert Watched("squeue").look() == "error"


def test_sacct_without_a_database_waits_for_ever(clients: Any) -> None:
    clients("sacct", "Slurm accounting storage is disabled", 1)
    assert Watched("sacct").look(3) == "waits"
    clients("squeue", "7|COMPLETED")
    assert Watched("squeue").look() == "success"


def test_a_preempted_job_is_left_to_slurm_and_so_is_a_lost_node_only_with_requeue(
    clients: Any,
) -> None:
    assert PROFILE["slurm-requeue"] is True
    clients("squeue", "7|PREEMPTED")
    assert Watched("squeue").look(3) == "waits"  # for ever, where nobody requeues it
    clients("squeue", "7|NODE_FAIL")
    assert Watched("squeue").look() == "waits"
    watched = Watched("squeue")
    watched.workflow.executor_settings.requeue = False
    assert watched.look() == "error"  # and submitted again beside the job that Slurm requeues


def test_the_pause_between_looks_grows_to_three_minutes(clients: Any) -> None:
    clients("squeue", "7|RUNNING")
    watched = Watched("squeue")
    pauses = []
    for _ in range(20):
        watched.look()
        pauses.append(watched.next_seconds_between_status_checks)
    assert pauses[:3] == [12, 22, 32]
    assert pauses[-1] == 180


def test_the_jobstep_drops_the_path_of_slurms_configuration() -> None:
    """tests/slurm/cluster.py has a wrapper of srun for it."""
    source = inspect.getsource(jobstep.Executor.run_job)
    kept = source.partition("keep_slurm = {")[2].partition("}")[0]
    assert "SLURM_JOB_ID" in kept
    assert "SLURM_CONF" not in kept


def test_the_jobstep_asks_one_node_for_the_gpus_of_all() -> None:
    """So GPUs of several nodes are given by node: ``gres``, which the step does not repeat."""
    resources = {"gpu": 8, "nodes": 2}
    assert jobstep.get_gpu_setting(SimpleNamespace(resources=resources)) == "--gpus=8"
    resources = {"gpu": 0, "gres": "gpu:4", "nodes": 2}
    assert jobstep.get_gpu_setting(SimpleNamespace(resources=resources)) == ""


def test_a_rules_own_retries_are_obeyed_inside_the_allocation(tmp_path: Path) -> None:
    """So no rule of ours has any: a job's retries ask Slurm for more."""
    for path in (ROOT / "rules").glob("*.smk"):
        assert "retries:" not in path.read_text(), path.name
    assert PROFILE["retries"] == 3
    (tmp_path / "Snakefile").write_text(
        "rule a:\n    output: 'a'\n    retries: 2\n    shell: 'echo x >> tries; false'\n"
    )
    command = [sys.executable, "-m", "snakemake", "--cores", "1", "--retries", "0"]
    subprocess.run(command, cwd=tmp_path, capture_output=True, check=False)
    assert len((tmp_path / "tries").read_text().split()) == 3
