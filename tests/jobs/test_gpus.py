"""GPUs of a workstation: as many jobs as there are GPUs, each alone on its own."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from georecon.errors import ConfigError
from georecon.jobs.gpus import own_gpus, visible_gpus

JOB = """
import json, os, sys, time
from georecon.jobs.gpus import own_gpus
with own_gpus(int(sys.argv[1]), print) as mine:
    start = time.monotonic()
    time.sleep(0.4)
    shown = os.environ.get("CUDA_VISIBLE_DEVICES")
    print(json.dumps([mine, shown, start, time.monotonic()]))
"""


@pytest.fixture(autouse=True)
def workstation(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", None)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1,2")
    monkeypatch.delenv("SLURM_JOB_ID", raising=False)


def start(count: int) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", JOB, str(count)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def test_no_two_jobs_hold_a_gpu_at_a_time() -> None:
    jobs = [start(count) for count in (1, 2, 1, 1, 3)]
    found = [json.loads(job.communicate(timeout=60)[0].splitlines()[-1]) for job in jobs]
    for index, (mine, shown, begin, end) in enumerate(found):
        assert shown.split(",") == mine
        for other, _, other_begin, other_end in found[index + 1 :]:
            if set(mine) & set(other):
                assert end <= other_begin or other_end <= begin
    assert sorted(len(mine) for mine, *_ in found) == [1, 1, 1, 2, 3]


def test_a_killed_jobs_gpu_is_free_again() -> None:
    code = JOB.replace("sleep(0.4)", "sleep(60)").replace(
        "start =", "print('holds', flush=True); start ="
    )
    job = subprocess.Popen([sys.executable, "-c", code, "3"], stdout=subprocess.PIPE, text=True)
    assert job.stdout is not None
    assert job.stdout.readline() == "holds\n"
    job.kill()
    job.communicate()
    with own_gpus(3, pytest.fail) as mine:
        assert mine == ["0", "1", "2"]


def test_more_gpus_than_there_are_is_refused() -> None:
    with (
        pytest.raises(ConfigError, match=r"gpu is 4; this machine shows 3: 0, 1, 2"),
        own_gpus(4, print),
    ):
        pass


def test_slurm_hands_out_gpus_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLURM_JOB_ID", "7")
    with own_gpus(1, print) as mine:
        assert mine == []


def test_gpus_are_known_by_their_uuid(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    listing = "GPU 0: NVIDIA X (UUID: GPU-1a-2b)\nGPU 1: NVIDIA X (UUID: GPU-3c)"
    (tmp_path / "nvidia-smi").write_text(f"#!/bin/sh\necho '{listing}'\n")
    (tmp_path / "nvidia-smi").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES")
    assert visible_gpus() == ["GPU-1a-2b", "GPU-3c"]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert visible_gpus() == []
