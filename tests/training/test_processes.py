"""Rules' trainings through torchrun: outputs of one process, errors that name the rank, signals."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from georecon.data.split import Split, write_split
from georecon.data.store import Store
from georecon.training.loop import EXIT_INTERRUPTED
from georecon.training.processes import _gpus_of_a_node
from tests.training.toy_world import PARAMS, SIZES, curve

JOB = """
import json, sys
from pathlib import Path
from georecon.jobs.job import job
from georecon.training.processes import train

order = json.loads(sys.argv[1])
with job(order["log"]) as log:
    paths = {k: v and Path(v) for k, v in order["paths"].items()}
    arguments = {"settings": order["settings"], **paths}
    result = train(order["stage"], arguments, order["resources"], 1, log)
    print(json.dumps(result.facts()))
"""
TRAIN = {
    "steps": 20,
    "batch_size": 6,
    "lr": 4e-4,
    "weight_decay": 0.0,
    "warmup": 2,
    "schedule": "cosine",
    "clip": 1.0,
    "evaluations": 4,
    "patience": 0,
    "checkpoint_seconds": 0.05,
}


@pytest.fixture(scope="module")
def split(toy_store: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    ids = Store.open(toy_store).ids
    path = tmp_path_factory.mktemp("split") / "toy.npz"
    meta = {"rule": "toy", "seed": 1, "store_sha256": Store.open(toy_store).sha256}
    write_split(path, Split(ids[:14], ids[14:19], ids[19:]), meta)
    return path


def order(stage: str, store: Path, split: Path, folder: Path, **resources: int) -> dict[str, Any]:
    """A job as a workflow script gives it."""
    folder.mkdir(parents=True, exist_ok=True)
    settings: dict[str, Any] = {"name": f"toy {stage}", "encoder": SIZES, "train": TRAIN, "seed": 1}
    settings |= {"method": "coord", "code": "c" * 16}
    paths = {"store_path": store, "split_path": split, "output": folder, "state": folder / "state"}
    if stage == "pretrain":
        settings |= {"objective": "denoise", "params": PARAMS["denoise"]}
    else:
        recipe = {"head": "scalar", "loss": "mse", "standardize": True, "atomref": {}}
        recipe |= {"fitted": False}
        recipe |= {"noise_sigma": 0.005, "noise_weight": 0.1}
        recipe |= {"energy_weight": 0.2, "force_weight": 0.8}
        settings |= {"label": "energy", "recipe": recipe, "evaluation_batch": 2}
        settings |= {"part": "toy", "dataset": "toy", "target": "toy"}
        paths |= {"encoder_path": None}
    return {
        "stage": stage,
        "settings": settings,
        "paths": {name: path and str(path) for name, path in paths.items()},
        "resources": resources,
        "log": str(folder / "log.txt"),
    }


def launch(job: dict[str, Any], **environment: str) -> subprocess.Popen[str]:
    """Start the job as Snakemake starts a script."""
    inherited = {k: v for k, v in os.environ.items() if not k.startswith("SLURM")}
    return subprocess.Popen(
        [sys.executable, "-c", JOB, json.dumps(job)],
        env={**inherited, "GEORECON_DEVICE": "cpu", "OMP_NUM_THREADS": "1", **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def done(process: subprocess.Popen[str]) -> dict[str, Any]:
    """Facts of a job that ends well."""
    output, errors = process.communicate(timeout=120)
    assert process.returncode == 0, errors[-3000:]
    return dict(json.loads(output.splitlines()[-1]))


def ranks_of(job: dict[str, Any], number: int) -> list[int]:
    """Process ids of a job's ranks, in order, once they train."""
    end = time.monotonic() + 60
    state = Path(job["paths"]["state"])
    while not list(state.glob("*/step-*")):
        assert time.monotonic() < end, "no checkpoint was written"
        time.sleep(0.02)
    found = {}
    for process in Path("/proc").glob("[0-9]*"):
        try:
            environment = (process / "environ").read_bytes().decode().split("\0")
            command = (process / "cmdline").read_bytes().decode()
        except OSError:
            continue
        if str(state) in command and "--agent" not in command:
            ranks = [v[5:] for v in environment if v.startswith("RANK=")]
            found |= {int(rank): int(process.name) for rank in ranks}
    assert sorted(found) == list(range(number))
    return [found[rank] for rank in range(number)]


@pytest.mark.parametrize("stage", ["pretrain", "finetune"])
def test_two_processes_write_what_one_writes(
    stage: str, toy_store: Path, split: Path, tmp_path: Path
) -> None:
    facts = {}
    for gpu in (0, 2):
        job = order(stage, toy_store, split, tmp_path / str(gpu), gpu=gpu)
        facts[gpu] = done(launch(job))
    assert [facts[gpu]["training"]["processes"] for gpu in (0, 2)] == [1, 2]
    assert [facts[gpu]["training"]["threads"] for gpu in (0, 2)] == [1, 1]
    assert facts[0]["training"]["best_step"] == facts[2]["training"]["best_step"]
    one, two = ({p.name for p in (tmp_path / gpu).iterdir()} for gpu in ("0", "2"))
    assert one == two
    for name in sorted(one):
        if name.endswith(".safetensors"):
            a, b = (load_file(tmp_path / gpu / name) for gpu in ("0", "2"))
            assert a.keys() == b.keys()
            assert all(torch.allclose(a[k], b[k], rtol=1e-4, atol=1e-5) for k in a), name
    name = {"pretrain": "metrics.csv", "finetune": "curve.csv"}[stage]
    pair = [curve(tmp_path / gpu, name=name) for gpu in ("0", "2")]
    assert abs(pair[0] / pair[1] - 1.0).max() < 1e-6
    assert not list((tmp_path / "2/state").glob("torchrun-*"))


@pytest.mark.skipif(not Path("/proc").is_dir(), reason="finds the ranks in /proc")
def test_a_killed_rank_ends_the_job_with_its_name_and_the_job_goes_on(
    toy_store: Path, split: Path, tmp_path: Path
) -> None:
    job = order("pretrain", toy_store, split, tmp_path, gpu=2)
    job["settings"]["train"] = {**TRAIN, "steps": 4000, "evaluations": 2}
    process = launch(job, GEORECON_TIMEOUT="10")
    os.kill(ranks_of(job, 2)[1], signal.SIGKILL)
    began = time.monotonic()
    _, errors = process.communicate(timeout=60)
    assert time.monotonic() - began < 40
    assert process.returncode == 1
    assert "error: rank 1 was killed by SIGKILL" in errors
    assert "the same command continues from it" in errors
    process = launch(job, GEORECON_TIMEOUT="10")
    time.sleep(0.1)
    end = time.monotonic() + 60
    while "continues at step" not in Path(job["log"]).read_text():
        assert time.monotonic() < end
        time.sleep(0.05)
    stops(process, job, signal.SIGTERM)


def stops(process: subprocess.Popen[str], job: dict[str, Any], number: int) -> None:
    """A signal to a job that trains: it saves and ends with its code."""
    began = time.monotonic()
    process.send_signal(number)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == EXIT_INTERRUPTED, errors[-2000:]
    assert time.monotonic() - began < 10
    assert "state saved" in Path(job["log"]).read_text()


def test_a_signal_ahead_of_a_time_limit_saves_and_ends_with_its_code(
    toy_store: Path, split: Path, tmp_path: Path
) -> None:
    """SIGUSR1, Slurm's; SIGTERM ends the continued run above."""
    job = order("pretrain", toy_store, split, tmp_path, gpu=2)
    job["settings"]["train"] = {**TRAIN, "steps": 4000, "evaluations": 2}
    process = launch(job)
    ranks_of(job, 2)
    stops(process, job, signal.SIGUSR1)


def test_error_of_the_ranks_reaches_the_person(
    toy_store: Path, split: Path, tmp_path: Path
) -> None:
    job = order("pretrain", toy_store, split, tmp_path, gpu=2)
    job["settings"]["train"] = {**TRAIN, "batch_size": 1}
    process = launch(job)
    _, errors = process.communicate(timeout=100)
    assert process.returncode == 1
    assert "batch_size is 1; must be at least the number of processes (2)" in errors


def test_gpus_must_spread_evenly(toy_store: Path, split: Path, tmp_path: Path) -> None:
    process = launch(order("pretrain", toy_store, split, tmp_path, gpu=3, nodes=2))
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 1
    assert "gpu is 3; must be a multiple of nodes (2)" in errors


SRUN = """#!/bin/sh
# srun's part on one machine: the command once for each node
while [ "${1#--}" != "$1" ]; do
    case "$1" in --ntasks=*) count=${1#--ntasks=};; esac
    shift
done
trap 'kill -TERM $jobs' TERM
for k in $(seq "$count"); do "$@" & jobs="$jobs $!"; done
code=0
for job in $jobs; do wait "$job" || code=$?; done
exit $code
"""


@pytest.mark.long
@pytest.mark.slow
def test_one_agent_for_each_node(toy_store: Path, split: Path, tmp_path: Path) -> None:
    """Two real agents that meet over TCP; only srun itself is a stand-in, on this machine."""
    tools = tmp_path / "bin"
    tools.mkdir()
    (tools / "srun").write_text(SRUN)
    (tools / "srun").chmod(0o755)
    path = f"{tools}{os.pathsep}{os.environ['PATH']}"
    alone = order("pretrain", toy_store, split, tmp_path / "alone")
    job = order("pretrain", toy_store, split, tmp_path / "nodes", gpu=4, nodes=2)
    done(launch(alone))
    # two GPUs of this node are no fault: of several nodes Slurm gives whole ones, none is shared
    shown = {"CUDA_VISIBLE_DEVICES": "0,1", "GEORECON_GPU_SHARE": "1", "SLURM_JOB_ID": "7"}
    facts = done(launch(job, PATH=path, **shown))
    assert facts["training"]["processes"] == 4
    pair = [curve(tmp_path / name, name="metrics.csv") for name in ("alone", "nodes")]
    assert abs(pair[0] / pair[1] - 1.0).max() < 1e-6


@pytest.mark.parametrize(
    ("gres", "count"),
    [
        ("gpu:4", 4),
        ("gpu:h100:4", 4),
        ("gpu", 1),
        ("gpu:h100", 1),
        ("shard:2", 1),
        ("", 0),
        ("tmp:3", 0),
    ],
)
def test_gpus_of_a_node(gres: str, count: int) -> None:
    assert _gpus_of_a_node(gres) == count
