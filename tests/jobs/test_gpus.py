"""GPUs of a workstation: as many jobs as there are GPUs, each alone on its own."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch

from georecon.errors import ConfigError
from georecon.jobs import gpus, job
from georecon.jobs.gpus import check_gpus, own_gpus, refuse_start, visible_gpus, why_no_gpus
from georecon.jobs.job import prepare_torch

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


HOLDS = """
import sys
from georecon.jobs.gpus import own_gpus
with own_gpus(1, print) as mine:
    print(mine[0], flush=True)
    sys.stdin.read()
"""


@contextmanager
def holders(count: int) -> Iterator[tuple[list[str], list[subprocess.Popen[str]]]]:
    """Jobs that hold a GPU each until they are killed; the GPUs, in no order, and the jobs."""
    command = [sys.executable, "-c", HOLDS]
    pipe = subprocess.PIPE
    jobs = [subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True) for _ in range(count)]
    try:
        yield [str(job.stdout and job.stdout.readline().strip()) for job in jobs], jobs
    finally:
        for job in jobs:
            job.kill()
            job.communicate()


@pytest.mark.parametrize("share", ["1", "2", "3"])
def test_as_many_jobs_hold_a_gpu_as_may(share: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GEORECON_GPU_SHARE", share)
    with holders(3 * int(share)) as (mine, _):
        assert Counter(mine) == dict.fromkeys("012", int(share))
        said: list[str] = []
        with pytest.raises(InterruptedError), own_gpus(1, lambda line: stop(said, line)):
            pass
        assert said == ["waits for 1 of 3 GPUs"]


def stop(said: list[str], line: str) -> None:
    """Note a line and leave."""
    said.append(line)
    raise InterruptedError


def test_the_card_that_fewest_hold_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also after others have given theirs back."""
    monkeypatch.setenv("GEORECON_GPU_SHARE", "2")
    with holders(6) as (mine, jobs):
        for name, left in (("0", 1), ("1", 2), ("2", 1)):
            for job in [job for own, job in zip(mine, jobs, strict=True) if own == name][:left]:
                job.kill()
                job.wait()
        with own_gpus(1, pytest.fail) as found:
            assert found == ["1"]


def test_cards_of_two_allocations_that_are_both_called_0_are_two(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")
    monkeypatch.setenv("GEORECON_GPU_SHARE", "1")
    monkeypatch.setenv("SLURM_JOB_ID", "7")
    monkeypatch.setattr(gpus, "_listed", lambda: ["GPU-1a"])
    with own_gpus(1, pytest.fail):
        monkeypatch.setattr(gpus, "_listed", lambda: ["GPU-2b"])
        monkeypatch.setenv("SLURM_JOB_ID", "8")
        with own_gpus(1, pytest.fail) as other:
            assert other == ["0"]


def test_two_shares_of_a_job_are_of_two_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GEORECON_GPU_SHARE", "2")
    with own_gpus(3, pytest.fail) as mine, own_gpus(2, pytest.fail) as other:
        assert mine == ["0", "1", "2"]
        assert other == ["0", "1"]


def test_jobs_inside_one_of_slurms_share_its_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLURM_JOB_ID", "7")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "2")
    monkeypatch.setenv("GEORECON_GPU_SHARE", "2")
    with own_gpus(1, pytest.fail) as mine, own_gpus(1, pytest.fail) as other:
        assert mine == other == ["2"]


@pytest.mark.parametrize("share", ["0", "-1", "two", "1.5", ""])
def test_a_share_that_is_no_count_is_refused(share: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GEORECON_GPU_SHARE", share)
    with (
        pytest.raises(ConfigError, match=r"GEORECON_GPU_SHARE is '.*'; must be an integer from 1"),
        own_gpus(1, print),
    ):
        pass


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


# ---- no silent CPU ------------------------------------------------------------------------------


@pytest.fixture
def build(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The description of the torch that is installed."""
    monkeypatch.delenv("GEORECON_DEVICE", raising=False)
    path = tmp_path / "torch/version.py"
    path.parent.mkdir()
    path.with_name("__init__.py").write_text("")
    found = type("Spec", (), {"submodule_search_locations": [str(path.parent)]})
    monkeypatch.setattr(gpus.importlib.util, "find_spec", lambda name: found)
    return path


@pytest.mark.parametrize(
    ("text", "refused"),
    [
        ("__version__ = '2.13.0+cpu'\ncuda = None\nhip = None", True),
        ("__version__ = '2.13.0'\ncuda: str | None = None", True),  # as on ARM or a Mac
        ("__version__ = '2.13.0'\ncuda = '12.8'\nhip = None", False),
        ("__version__ = '2.13.0+rocm6.4'\ncuda = None\nhip = '6.4'", False),
    ],
)
def test_a_torch_that_can_use_no_gpu_is_told_without_importing_it(
    text: str, refused: bool, build: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    build.write_text(text)
    assert why_no_gpus(0) is None
    reason = why_no_gpus(1)
    assert (reason is not None) == refused
    if reason is not None:
        assert "`make setup TORCH=cuda` installs one that can; GEORECON_DEVICE=cpu allows" in reason
        with pytest.raises(SystemExit, match=r"asks for 2 GPU\(s\), and torch 2\.13\.0"):
            refuse_start(2)
        monkeypatch.setenv("GEORECON_DEVICE", "cpu")
        refuse_start(2)


@pytest.mark.parametrize(
    ("count", "found", "device", "refused"),
    [
        (1, 0, None, True),
        (2, 1, None, True),
        (8, 4, "cuda", True),
        (0, 0, "cuda", True),
        (1, 0, "cpu", False),
        (1, 1, None, False),
        (0, 0, None, False),
        (2, 4, "cuda", False),
    ],
)
def test_a_job_with_fewer_gpus_than_it_asks_for_is_refused(
    count: int, found: int, device: str | None, refused: bool, build: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    build.write_text("__version__ = '2.13.0'\ncuda = '12.8'")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: found > 0)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: found)
    if device:
        monkeypatch.setenv("GEORECON_DEVICE", device)
    if not refused:
        check_gpus(count)
        return
    with pytest.raises(ConfigError) as error:
        check_gpus(count)
    words = f"the job asks for {count or 1} GPU(s); CUDA finds {found} on "
    assert str(error.value).startswith(words)
    assert str(error.value).endswith("GEORECON_DEVICE=cpu allows the CPU")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_cuda_adds_in_a_fixed_order(device: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(job, "check_gpus", lambda gpus: None)
    monkeypatch.setenv("GEORECON_DEVICE", device)
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", ":16:8")
    threads = torch.get_num_threads()
    try:
        assert prepare_torch(threads) == device
        assert torch.are_deterministic_algorithms_enabled() is (device == "cuda")
    finally:
        torch.use_deterministic_algorithms(False)


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU")
def test_a_training_without_cuda_is_refused_before_any_work(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    monkeypatch.delenv("GEORECON_DEVICE", raising=False)
    with pytest.raises(ConfigError, match="asks for 1 GPU"):
        prepare_torch(1, gpus=1)
    monkeypatch.setenv("GEORECON_DEVICE", "gpu")
    with pytest.raises(ConfigError, match="GEORECON_DEVICE is 'gpu'; allowed: cpu, cuda"):
        prepare_torch(1)
