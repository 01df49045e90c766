"""`snakemake -n --profile slurm all` in the paper edition: what each job would ask Slurm for."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml

from georecon.errors import ConfigError
from georecon.jobs.gpus import torch_without_gpus
from georecon.jobs.slurm import Limits, use_site_file
from tests.projects import ROOT, Project, make_project

partitions = pytest.importorskip("snakemake_executor_plugin_slurm.partitions")
pytestmark = pytest.mark.workflow

GPU_RULES = {"pretrain", "finetune", "smoothness", "nve"}
LOCAL = {"fetch", "all", "cost"}
SITE = "partitions:\n  cpu: {max_runtime: 1-00:00:00}\n  gpu: {max_runtime: 12h, max_gpu: 8}\n"


def uncommented(text: str) -> str:
    """The profile with its site's block taken out of the comment."""
    return re.sub(
        r"^# (set-resources:|  (?:pretrain|finetune|smoothness|nve|measure): )",
        r"\1",
        text,
        flags=re.M,
    )


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """The workflow with a site's settings."""
    project = make_project(tmp_path_factory.mktemp("site") / "project")
    (project.folder / "slurm/site.yaml").write_text(SITE)
    project.edit("slurm/profile.yaml", uncommented)
    return project


@pytest.fixture(scope="module")
def jobs(site: Project) -> list[tuple[str, dict[str, Any]]]:
    """Rule and resources of every job, from one dry run."""
    return asked(site, "all")


def asked(site: Project, target: str) -> list[tuple[str, dict[str, Any]]]:
    text = site.snakemake("-n", "--profile", "slurm", "--", target, edition=None).stdout
    pattern = r"^ *(?:local)?rule (\w+):\n((?: +\w.*\n)+)"
    found = []
    for rule, block in re.findall(pattern, text, re.M):
        line = re.search(r"resources: (.*)", block)
        assert line is not None, block
        pairs = [pair.partition("=") for pair in line[1].split(", ")]
        values = {k: int(v) if v.isdigit() else v for k, _, v in pairs}
        threads = re.search(r"threads: (\d+)", block)
        found.append((rule, values | {"threads": int(threads[1]) if threads else 1}))
    return found


def test_every_job_has_its_partition_time_memory_and_gpu(
    jobs: list[tuple[str, dict[str, Any]]], tmp_path: Path
) -> None:
    counts = Counter(rule for rule, _ in jobs)
    assert sum(counts.values()) > 1000
    assert counts["finetune"] > 500
    (tmp_path / "site.yaml").write_text(SITE)
    known = partitions.read_partition_file(tmp_path / "site.yaml")
    silent = SimpleNamespace(debug=print, info=print, warning=print)
    for rule, values in jobs:
        assert values["runtime"] > 0, rule
        assert values["mem_mb"] >= 1000, rule
        assert (values.get("gpu", 0) == 1) == (rule in GPU_RULES), rule
        assert values.get("slurm_partition") == ("gpu" if rule in GPU_RULES else None), rule
        if rule in LOCAL:
            continue
        free = {k: v for k, v in values.items() if k not in ("slurm_partition", "threads")}
        job = SimpleNamespace(name=rule, threads=values["threads"], resources=free)
        chosen = partitions.get_best_partition(known, job, silent)
        assert chosen == ("gpu" if rule in GPU_RULES else "cpu"), rule


def test_no_job_asks_for_more_time_than_the_site_has(
    jobs: list[tuple[str, dict[str, Any]]],
) -> None:
    times = {rule: values["runtime"] for rule, values in jobs}
    assert times["pretrain"] == times["finetune"] == 12 * 60
    assert max(times.values()) <= 24 * 60


def test_the_trial_asks_for_what_trainings_ask_for(site: Project) -> None:
    jobs = asked(site, "trial")
    counts = Counter(rule for rule, _ in jobs)
    assert {*counts} == {"measure", "trial"}
    assert 20 < counts["measure"] < 60
    for values in (values for rule, values in jobs if rule == "measure"):
        assert (values["gpu"], values["slurm_partition"]) == (1, "gpu")
        assert (values["runtime"], values["mem_mb"]) == (30, 8000)


def test_local_rules_and_groups_of_the_profile(bare: Project) -> None:
    text = (ROOT / "Snakefile").read_text()
    local = re.findall(
        r"^    (\w+),$", text.partition("localrules:")[2].partition("include:")[0], re.M
    )
    profile = yaml.safe_load((ROOT / "slurm/profile.yaml").read_text())
    grouped = {entry.partition("=")[0] for entry in profile["groups"]}
    assert {"fetch", "plan", "doctor"} <= set(local)
    assert not grouped & (GPU_RULES | set(local))
    rules = set(
        re.findall(r"rule (\w+):", "".join(p.read_text() for p in bare.folder.glob("rules/*.smk")))
    )
    rules |= {"preprocess_target"}
    assert grouped <= rules


def test_site_file_is_found_and_a_bad_one_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SNAKEMAKE_SLURM_PARTITIONS", "")  # restored afterwards
    monkeypatch.delenv("SNAKEMAKE_SLURM_PARTITIONS")
    assert use_site_file(tmp_path) == Limits(None, None)
    (tmp_path / "slurm").mkdir()
    (tmp_path / "slurm/site.yaml").write_text(SITE)
    assert use_site_file(tmp_path) == Limits(cpu=1440.0, gpu=720.0)
    (tmp_path / "slurm/site.yaml").write_text("partitions: {gpu: {max_gpus: 4}}\n")
    with pytest.raises(ConfigError, match=r"site\.yaml: not a partition file .*max_gpus"):
        use_site_file(tmp_path)


@pytest.mark.skipif(torch_without_gpus() is None, reason="torch's build here can use GPUs")
@pytest.mark.parametrize("device", [None, pytest.param("cpu", marks=pytest.mark.long)])
def test_a_torch_without_cuda_stops_the_profile_before_anything_is_submitted(
    device: str | None, bare: Project, tmp_path: Path
) -> None:
    (tmp_path / "bin").mkdir()
    for name in ("sbatch", "squeue", "sinfo", "scancel", "sacct", "scontrol"):
        client = tmp_path / "bin" / name
        client.write_text(f"#!/bin/sh\necho {name} >> {tmp_path}/called\n")
        client.chmod(0o755)
    environment = bare.environment() | {"PATH": f"{tmp_path}/bin:{os.environ['PATH']}"}
    del environment["GEORECON_DEVICE"]
    if device:
        environment["GEORECON_DEVICE"] = device
    work = (
        "--directory",
        str(tmp_path / "work"),
        "--configfile",
        str(bare.folder / "config/config.yaml"),
    )
    command = [
        "--profile",
        str(bare.folder / "slurm"),
        # Snakemake waits for as long before it ends, the plugin before it first asks
        *("--max-jobs-per-timespan", "60/1s"),
        *("--slurm-init-seconds-before-status-checks", "1"),
        *work,
        "--config",
        "edition=tiny",
        "gpus=1",
        "--",
        "rerun",
    ]
    done = subprocess.run(
        [sys.executable, "-m", "snakemake", *command],
        cwd=bare.folder, env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    refused = "georecon: a training asks for 1 GPU(s), and torch" in done.stderr
    assert refused == (device is None), done.stderr[-3000:]
    assert ("cell is not given" in done.stderr) == (device == "cpu")
    assert "Traceback" not in done.stderr
    called = tmp_path / "called"
    assert not called.exists() or "sbatch" not in called.read_text()
