"""The doctor names what would fail, and only that."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml

from georecon.experiments.config import load_config
from georecon.jobs import gpus
from georecon.jobs.doctor import FAILS, NOTE, examine

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A clone's files, on a login node whose Slurm has partitions cpu and gpu."""
    for name in ("slurm", "envs"):
        shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("site.yaml"))
    answers = {
        "scontrol": '[ "$2" = config ] && echo "MinJobAge = 300 sec"; echo "PreemptMode=REQUEUE"',
        "sinfo": '[ "$1" = --version ] && echo slurm 22 || printf "cpu*|(null)\\ngpu|gpu:4\\n"',
        "squeue": "exit 0",
        "sbatch": "exit 1",
        "scancel": "exit 1",
    }
    (tmp_path / "bin").mkdir()
    for name, text in answers.items():
        client(tmp_path, name, text)
    monkeypatch.setenv("PATH", f"{tmp_path}/bin:/usr/bin:/bin")
    for name in ("SNAKEMAKE_PROFILE", "SNAKEMAKE_SLURM_PARTITIONS", "GEORECON_SLURM"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path


def client(place: Path, name: str, text: str) -> None:
    (place / "bin" / name).write_text(f"#!/bin/sh\n{text}\n")
    (place / "bin" / name).chmod(0o755)


def failures(place: Path, **changes: Any) -> list[str]:
    config = load_config(ROOT / "config", {"edition": "tiny", "gpus": 1, **changes})
    return [
        f.text
        for f in examine(place, place, config)
        if f.verdict == FAILS and "torch" not in f.text
    ]


def site(place: Path, **partitions: dict[str, Any]) -> None:
    (place / "slurm/site.yaml").write_text(yaml.safe_dump({"partitions": partitions}))


def test_gpu_jobs_without_a_partition_are_named_and_one_line_helps(place: Path) -> None:
    (text,) = failures(place)
    assert "with GPUs here: gpu. Name one in slurm/site.yaml" in text
    site(place, gpu={"max_gpu": 4})
    assert failures(place) == []
    site(place, cpu={}, gpus={"max_gpu": 4})
    (text,) = failures(place)
    assert text == "partition 'gpus' is unknown here; there are: cpu, gpu"


def test_partitions_named_in_the_profile_are_as_good(place: Path) -> None:
    path = place / "slurm/profile.yaml"
    gpu_rules = ("pretrain", "finetune", "smoothness", "nve")
    rules = {name: {"slurm_partition": "gpu"} for name in gpu_rules}
    path.write_text(path.read_text() + yaml.safe_dump({"set-resources": rules}))
    assert failures(place) == []


def test_profiles_that_would_win_or_be_misread(place: Path) -> None:
    site(place, gpu={"max_gpu": 4})
    (place / "profiles/default").mkdir(parents=True)
    (place / "slurm/squeue").touch()
    first, second = failures(place)
    assert "profiles/default wins over --profile" in first
    assert second.startswith("slurm/squeue: ")


def test_queue_that_forgets_and_controller_that_is_away(place: Path) -> None:
    site(place, gpu={"max_gpu": 4})
    client(place, "scontrol", 'echo "MinJobAge = 5 sec"')
    (text,) = failures(place)
    assert text.startswith("MinJobAge is 5 s")
    client(place, "scontrol", "exit 1")
    assert failures(place) == ["Slurm's clients are here, its controller does not answer"]


def test_no_slurm_fails_only_where_it_was_asked_for(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(place))
    assert failures(place) == []
    monkeypatch.setenv("GEORECON_SLURM", "1")
    (text,) = failures(place)
    assert text.startswith("no Slurm here (sbatch, squeue, sinfo, scancel not found)")


def test_disk_and_mirror(place: Path) -> None:
    site(place, gpu={"max_gpu": 4})
    (text,) = failures(place, mirror=str(place / "nowhere"))
    assert text == f"mirror: no folder {place / 'nowhere'}"


def test_cancelling_preemption_is_noted(place: Path) -> None:
    site(place, gpu={"max_gpu": 4})
    client(
        place, "scontrol", '[ "$2" = config ] && echo "MinJobAge = 300" || echo PreemptMode=CANCEL'
    )
    config = load_config(ROOT / "config", {"edition": "tiny", "gpus": 1})
    notes = [f.text for f in examine(place, place, config) if f.verdict == NOTE]
    assert "partition gpu cancels preempted jobs: the plugin waits for them for ever" in notes


def test_a_torch_that_can_use_no_gpu_fails_unless_the_cpu_is_allowed(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gpus, "torch_without_gpus", lambda: "2.13.0+cpu")
    monkeypatch.delenv("GEORECON_DEVICE", raising=False)

    def found(verdict: str, **changes: Any) -> list[str]:
        config = load_config(ROOT / "config", {"edition": "tiny", **changes})
        findings = examine(place, place, config)
        return [f.text for f in findings if f.verdict == verdict and "GPU" in f.text]

    assert any("`make setup TORCH=cuda`" in text for text in found(FAILS, gpus=1))
    assert not any("TORCH" in text for text in found(FAILS, gpus=0))
    monkeypatch.setenv("GEORECON_DEVICE", "cpu")
    assert not any("TORCH" in text for text in found(FAILS, gpus=1))
    assert any(
        text.startswith("GEORECON_DEVICE=cpu allows the CPU") for text in found(NOTE, gpus=1)
    )
