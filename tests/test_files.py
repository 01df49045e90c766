"""Files are whole or absent, and as open to others as the umask says."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.numpy import save_file

from georecon.files import atomic_path, write_json
from georecon.models.encoder import EncoderSettings, EquivariantTransformer
from georecon.models.encoder_file import save_encoder


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
