"""Files are whole or absent, and as open to others as the umask says."""

from __future__ import annotations

import errno
import os
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.numpy import save_file

from georecon.data.manifest import Source
from georecon.data.store import StoreWriter
from georecon.files import atomic_path, full_disk, remove_leftovers, temporary_path, write_json
from georecon.models.encoder import EncoderSettings, EquivariantTransformer
from georecon.models.encoder_file import save_encoder
from tests.data.toy_molecules import make_molecules


@pytest.fixture(params=[0o022, 0o077, 0o002, 0o027], ids=oct)
def umask(request: pytest.FixtureRequest) -> Iterator[int]:
    before = os.umask(request.param)
    yield request.param
    os.umask(before)


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def by_safetensors(path: Path) -> None:
    with atomic_path(path) as temporary:
        save_file({"a": np.zeros(3)}, temporary)


def by_open(path: Path) -> None:
    write_json(path, {"a": 1})


def by_encoder(path: Path) -> None:
    settings = EncoderSettings(channels=4, layers=1, heads=2, rbf=4)
    save_encoder(path, EquivariantTransformer(settings), method="coord")


def by_torch(path: Path) -> None:
    with atomic_path(path) as temporary:
        torch.save({"a": 1}, temporary)


@pytest.mark.parametrize("write", [by_safetensors, by_open, by_encoder, by_torch])
def test_outputs_follow_the_umask(
    write: Callable[[Path], None], umask: int, tmp_path: Path
) -> None:
    write(tmp_path / "file")
    assert mode(tmp_path / "file") == 0o666 & ~umask
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_the_twin_without_it_is_closed_to_others(tmp_path: Path) -> None:
    """What safetensors alone does."""
    save_file({"a": np.zeros(3)}, tmp_path / "file")
    (tmp_path / "open").touch()
    if mode(tmp_path / "file") == mode(tmp_path / "open"):
        pytest.skip("this version of safetensors follows the umask itself")
    assert mode(tmp_path / "file") == 0o600


def test_a_mode_that_was_chosen_stays(tmp_path: Path) -> None:
    with atomic_path(tmp_path / "file") as temporary:
        temporary.touch(0o640)
        temporary.chmod(0o640)
    assert mode(tmp_path / "file") == 0o640


# ---- what killed processes leave -----------------------------------------------------------------

LIVE = """
import sys, time
from pathlib import Path
from georecon.files import temporary_path
path = temporary_path(Path(sys.argv[1]))
path.mkdir() if sys.argv[2] == "folder" else path.touch()
print(path.name, flush=True)
time.sleep(60)
"""


@pytest.mark.parametrize("kind", ["folder", "file"])
@pytest.mark.parametrize("name", ["qm9", "a[1]*.json", "größe.npz", "x" * 200])
def test_leftovers_of_the_dead_go_and_those_of_the_living_stay(
    kind: str, name: str, tmp_path: Path
) -> None:
    path = tmp_path / name
    with subprocess.Popen(
        [sys.executable, "-c", LIVE, str(path), kind], stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        left = tmp_path / process.stdout.readline().strip()
        other = tmp_path / f".other{left.name[len(name) + 1 :]}"
        other.touch()
        remove_leftovers(path)
        assert left.exists(), "its process lives"
        process.kill()
        process.wait()
        remove_leftovers(path)
    assert not left.exists()
    assert other.exists(), "another file's"


@pytest.mark.parametrize(
    ("suffix", "days", "goes"),
    [
        (".0badc0de-1-12345678.tmp", 0, False),  # another machine's, at work
        (".0badc0de-1-12345678.tmp", 2, True),
        (".12345678.tmp", 0, False),  # an earlier version's
        (".12345678.tmp", 2, True),
        (".12345678.tmp.mode", 2, True),
        (".tmp", 9, False),
        (".mine.tmp", 9, False),
        (".12345678.bak", 9, False),
    ],
)
def test_what_cannot_be_asked_goes_after_a_day(
    suffix: str, days: int, goes: bool, tmp_path: Path
) -> None:
    left = tmp_path / f".store{suffix}"
    left.mkdir()
    (left / "ids.npy").touch()
    for path in (left / "ids.npy", left):
        os.utime(path, (time.time() - days * 86400,) * 2)
    remove_leftovers(tmp_path / "store")
    assert left.exists() != goes


KILLED = """
import os, signal, sys
from georecon.data.manifest import Source
from georecon.data.store import StoreWriter
from georecon.files import atomic_path
with StoreWriter(sys.argv[1], dataset="toy", source=Source(source="code"), units={}):
    with atomic_path(sys.argv[1] + ".json") as temporary:
        temporary.touch()
        os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_killed_preprocess_leaves_nothing_for_ever(tmp_path: Path) -> None:
    for _ in range(2):
        subprocess.run([sys.executable, "-c", KILLED, str(tmp_path / "qm9")], check=False)
        assert len(list(tmp_path.iterdir())) == 2, "only the last one's"
    with StoreWriter(tmp_path / "qm9", dataset="t", source=Source(source="code"), units={}) as new:
        new.append(make_molecules(10))
        write_json(tmp_path / "qm9.json", {})
        assert len(list(tmp_path.iterdir())) == 2, "the new ones alone"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["qm9", "qm9.json"]


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (OSError(errno.ENOSPC, "No space left on device", "a.csv"), "while writing a.csv"),
        (OSError(errno.EDQUOT, "Disk quota exceeded"), "the disk or your quota is full"),
        (RuntimeError("Error while serializing: No space left on device (os error 28)"), "full"),
        (OSError(errno.EACCES, "Permission denied", "a.csv"), None),
        (ValueError("28"), None),
    ],
)
def test_a_full_disk_is_said_in_a_sentence(error: Exception, said: str | None) -> None:
    text = full_disk(error)
    assert (text is None) == (said is None)
    assert said is None or (text is not None and said in text and "\n" not in text)


def test_a_temporary_name_says_whose_it_is(tmp_path: Path) -> None:
    first, second = temporary_path(tmp_path / "a"), temporary_path(tmp_path / "a")
    assert first != second
    assert f"-{os.getpid()}-" in first.name
    assert first.name.startswith(".a.")
