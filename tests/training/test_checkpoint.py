"""Checkpoints: damage of any kind is noticed, and the one before it is used."""

from __future__ import annotations

import json
import random
import shutil
import warnings
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from georecon.errors import CheckpointError
from georecon.training import checkpoint
from georecon.training.checkpoint import Checkpoint, load, load_latest, save

DIGEST = "a" * 64
STATE = {
    "best_step": 5,
    "best_score": 0.25,
    "waited": 0,
    "plateau": {"scale": 0.8, "waited": 3, "best": None},
    "sums": {"loss": 1.0 / 3.0},
    "since": 2,
}


def content(step: int) -> Checkpoint:
    generator = torch.Generator().manual_seed(step)
    tensors = {
        "model/weight": torch.randn(31, 17, generator=generator),
        "model/scale": torch.randn((), generator=generator, dtype=torch.float64),
        "optimizer/step": torch.tensor(float(step)),
        "best/weight": torch.randn(31, 17, generator=generator),
    }
    return Checkpoint(step, tensors, {**STATE, "best_step": step})


def same(found: Checkpoint, expected: Checkpoint) -> bool:
    return (
        found.step == expected.step
        and found.state == expected.state
        and found.tensors.keys() == expected.tensors.keys()
        and all(
            torch.equal(t, expected.tensors[n]) and t.dtype == expected.tensors[n].dtype
            for n, t in found.tensors.items()
        )
    )


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for step in (10, 20):
        save(tmp_path / "state", content(step), DIGEST)
    return tmp_path / "state"


def newest(folder: Path, name: str = "state.safetensors") -> Path:
    return folder / "step-000000020" / name


def fall_back(folder: Path) -> None:
    """The damaged newest save is passed over with a warning that names it."""
    with pytest.warns(RuntimeWarning, match=r"passed over.*step-000000020"):
        found = load_latest(folder, DIGEST)
    assert found is not None
    assert same(found, content(10))


def test_round_trip_is_exact(folder: Path) -> None:
    found = load_latest(folder, DIGEST)
    assert found is not None
    assert same(found, content(20))


def test_the_last_two_are_kept(folder: Path) -> None:
    save(folder, content(30), DIGEST)
    assert sorted(p.name for p in folder.iterdir()) == ["step-000000020", "step-000000030"]


def test_saving_a_step_again_replaces_it(folder: Path) -> None:
    save(folder, content(20), DIGEST)
    assert len(list(folder.iterdir())) == 2
    assert same(load(folder / "step-000000020", DIGEST), content(20))


def test_files_hold_no_pickle(folder: Path) -> None:
    for path in folder.rglob("*"):
        assert path.is_dir() or path.suffix in (".safetensors", ".json")


def test_nothing_to_load(tmp_path: Path) -> None:
    assert load_latest(tmp_path / "nothing", DIGEST) is None


CUTS: dict[str, Callable[[int], int]] = {
    "0": lambda size: 0,
    "1 byte": lambda size: 1,
    "half": lambda size: size // 2,
    "-1 byte": lambda size: size - 1,
}


@pytest.mark.parametrize("name", ["state.safetensors", "manifest.json"])
@pytest.mark.parametrize("cut", CUTS)
def test_torn_file_is_noticed(cut: str, name: str, folder: Path) -> None:
    path = newest(folder, name)
    data = path.read_bytes()
    if name == "manifest.json" and cut == "-1 byte":
        data += b" "  # cut the brace, not the newline after it
        data = data.rstrip()
    path.write_bytes(data[: CUTS[cut](len(data))])
    fall_back(folder)


@pytest.mark.parametrize("block", range(10))
def test_flipped_bit_in_the_tensors_is_noticed(block: int, folder: Path) -> None:
    path = newest(folder)
    data = path.read_bytes()
    chooser = random.Random(block)
    for _ in range(10):
        position, bit = chooser.randrange(len(data)), chooser.randrange(8)
        damaged = bytearray(data)
        damaged[position] ^= 1 << bit
        path.write_bytes(bytes(damaged))
        fall_back(folder)


def test_flipped_bit_in_the_manifest_never_changes_the_state(folder: Path) -> None:
    """Every bit of a seeded choice: refused with a warning, or of no consequence (white space)."""
    path = newest(folder, "manifest.json")
    data = path.read_bytes()
    chooser = random.Random(0)
    silent = []
    for _ in range(150):
        position, bit = chooser.randrange(len(data)), chooser.randrange(8)
        damaged = bytearray(data)
        damaged[position] ^= 1 << bit
        path.write_bytes(bytes(damaged))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            found = load_latest(folder, DIGEST)
        assert found is not None
        if not (same(found, content(20)) or same(found, content(10))):
            silent.append(damaged[max(0, position - 20) : position + 20].decode("utf-8", "replace"))
    assert not silent, (
        f"{len(silent)} of 150 flips change the state unnoticed, such as {silent[0]!r}"
    )


@pytest.mark.parametrize("key", ["format_version", "step", "digest", "sha256", "state"])
def test_manifest_without_a_key_is_refused(key: str, folder: Path) -> None:
    path = newest(folder, "manifest.json")
    manifest = json.loads(path.read_text())
    del manifest[key]
    path.write_text(json.dumps(manifest))
    with pytest.raises(CheckpointError):
        load(path.parent, DIGEST)


@pytest.mark.parametrize("text", ["[]", "3", "null", '{"format_version": 1}', "\x00\x00", ""])
def test_manifest_that_is_something_else_is_refused(text: str, folder: Path) -> None:
    path = newest(folder, "manifest.json")
    path.write_text(text)
    with pytest.raises(CheckpointError, match="step-000000020"):
        load(path.parent, DIGEST)


@pytest.mark.parametrize("name", ["state.safetensors", "manifest.json"])
def test_missing_file_is_noticed(name: str, folder: Path) -> None:
    newest(folder, name).unlink()
    fall_back(folder)


def test_another_runs_checkpoint_is_refused(folder: Path) -> None:
    with pytest.raises(CheckpointError, match="another run"):
        load(folder / "step-000000020", "b" * 64)
    with pytest.warns(RuntimeWarning, match="another run"):
        assert load_latest(folder, "b" * 64) is None


def test_another_format_version_is_refused(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checkpoint, "FORMAT_VERSION", checkpoint.FORMAT_VERSION + 1)
    with pytest.raises(CheckpointError, match="version"):
        load(folder / "step-000000020", DIGEST)


def test_all_damaged_means_a_fresh_start_with_a_warning_each(folder: Path) -> None:
    for path in folder.glob("*/state.safetensors"):
        path.write_bytes(b"")
    with pytest.warns(RuntimeWarning) as warned:
        assert load_latest(folder, DIGEST) is None
    assert len(warned) == 2


def test_half_written_folder_is_not_taken_for_a_checkpoint(folder: Path) -> None:
    shutil.copytree(folder / "step-000000020", folder / ".tmp-30-1")
    found = load_latest(folder, DIGEST)
    assert found is not None
    assert found.step == 20


def test_failed_save_leaves_the_others(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_space(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(checkpoint, "write_json", no_space)
    with pytest.raises(CheckpointError, match=r"step-000000030: cannot be written.*No space left"):
        save(folder, content(30), DIGEST)
    assert sorted(p.name for p in folder.iterdir()) == ["step-000000010", "step-000000020"]


def test_manifest_records_the_threads(folder: Path) -> None:
    manifest = json.loads(newest(folder, "manifest.json").read_text())
    assert manifest["threads"] == torch.get_num_threads()


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_full_device_is_named_and_leaves_the_others(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The tensors go through a link to /dev/full: the write itself fails, as on a full disk."""
    real = Path.mkdir

    def mkdir(self: Path, *given: object, **options: object) -> None:
        real(self, *given, **options)
        if self.name.startswith(".tmp-"):
            (self / "state.safetensors").symlink_to("/dev/full")

    monkeypatch.setattr(Path, "mkdir", mkdir)
    with pytest.raises(CheckpointError, match="step-000000030: cannot be written"):
        save(folder, content(30), DIGEST)
    assert sorted(p.name for p in folder.iterdir()) == ["step-000000010", "step-000000020"]
    assert same(load(folder / "step-000000020", DIGEST), content(20))
