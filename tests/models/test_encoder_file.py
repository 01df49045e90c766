"""Encoder files: exact, the same bytes for the same weights, and refused where they do not fit."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from georecon.errors import CheckpointError
from georecon.experiments.settings import EncoderSettings
from georecon.models.encoder import EquivariantTransformer
from georecon.models.encoder_file import load_encoder, save_encoder


def make(seed: int = 0, **changes: int) -> EquivariantTransformer:
    torch.manual_seed(seed)
    small = {"channels": 8, "layers": 1, "heads": 2, "rbf": 4, "max_z": 10}
    return EquivariantTransformer(EncoderSettings(**{**small, **changes}))


def test_round_trip_is_exact(tmp_path: Path) -> None:
    first, second = make(0), make(1)
    save_encoder(tmp_path / "encoder.safetensors", first, method="coord")
    load_encoder(tmp_path / "encoder.safetensors", second)
    expected = first.state_dict()
    assert all(torch.equal(t, expected[n]) for n, t in second.state_dict().items())


def test_same_weights_give_the_same_bytes(tmp_path: Path) -> None:
    """The file's hash is part of the identity of every run that starts from it."""
    path, encoder = tmp_path / "encoder.safetensors", make()
    found = set()
    for _ in range(12):
        save_encoder(path, encoder, method="coord")
        found.add(path.read_bytes())
    assert len(found) == 1, f"{len(found)} different files from 12 saves"


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"channels": 16}, "the model needs"),
        ({"layers": 2}, "missing from the file"),
        ({"rbf": 8}, "the model needs"),
    ],
)
def test_encoder_of_other_sizes_is_refused_by_tensor(
    changes: dict[str, int], words: str, tmp_path: Path
) -> None:
    path = tmp_path / "encoder.safetensors"
    save_encoder(path, make(), method="coord")
    with pytest.raises(CheckpointError, match=words):
        load_encoder(path, make(**changes))


def test_deeper_encoder_does_not_fit_a_shallow_one(tmp_path: Path) -> None:
    path = tmp_path / "encoder.safetensors"
    save_encoder(path, make(layers=2), method="coord")
    with pytest.raises(CheckpointError, match="unknown to the model"):
        load_encoder(path, make())


def test_another_safetensors_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "other.safetensors"
    save_file({"x": torch.zeros(3)}, path)
    with pytest.raises(CheckpointError, match="not an encoder"):
        load_encoder(path, make())


@pytest.mark.parametrize("cut", [0, 1, 100, -1])
def test_torn_file_is_refused_by_name(cut: int, tmp_path: Path) -> None:
    path = tmp_path / "encoder.safetensors"
    save_encoder(path, make(), method="coord")
    path.write_bytes(path.read_bytes()[:cut])
    with pytest.raises(CheckpointError, match=r"encoder\.safetensors"):
        load_encoder(path, make())
