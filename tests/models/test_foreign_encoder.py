"""Encoders from files: every layout gives the same weights; other sizes and code are refused."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from georecon.errors import CheckpointError
from georecon.experiments.settings import EncoderSettings
from georecon.models.encoder_file import load_encoder
from georecon.models.foreign_encoder import read_encoder
from georecon.stages.import_encoder import import_encoder
from tests.encoder_files import LAYOUTS, TINY, made_encoder, write_own, write_pvd

PAPER = EncoderSettings()  # 256 channels, 8 layers, 64 RBF: the public checkpoint's


def same_weights(one: torch.nn.Module, other: torch.nn.Module) -> bool:
    first, second = one.state_dict(), other.state_dict()
    return first.keys() == second.keys() and all(torch.equal(first[k], second[k]) for k in first)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_layout_gives_the_same_weights(layout: str, tmp_path: Path) -> None:
    encoder = made_encoder()
    path = LAYOUTS[layout](tmp_path / layout, encoder)
    found, _ = read_encoder(path, TINY)
    assert same_weights(found, encoder)
    assert not same_weights(found, made_encoder(seed=8)), "the twin: another encoder"
    assert found.settings == TINY


def test_the_names_of_the_layouts_differ(tmp_path: Path) -> None:
    words = [read_encoder(write(tmp_path / name, made_encoder()), TINY)[1]
             for name, write in LAYOUTS.items()]  # fmt: skip
    assert len(set(words)) == len(LAYOUTS)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize(
    "other", [{"channels": 32, "layers": 3}, {"rbf": 32}, {"max_z": 90}, {"vector_norm": "none"}]
)
def test_an_encoder_of_other_sizes_is_refused_by_name(
    layout: str, other: dict[str, object], tmp_path: Path
) -> None:
    path = LAYOUTS[layout](tmp_path / layout, made_encoder(replace(TINY, **other)))
    with pytest.raises(CheckpointError, match=re.escape(str(path))) as refused:
        read_encoder(path, TINY)
    for name, value in other.items():
        assert f"{name} is {value}, here {getattr(TINY, name)}" in str(refused.value)


@pytest.mark.parametrize("other", [{"heads": 4}, {"max_neighbors": 64}, {"cutoff": 6.0}])
@pytest.mark.parametrize("write", [write_pvd, write_own])
def test_sizes_that_no_tensor_tells_are_compared_too(write, other, tmp_path: Path) -> None:
    path = write(tmp_path / "file", made_encoder(replace(TINY, **other)))
    (name,) = other
    with pytest.raises(CheckpointError, match=f"{name} is {other[name]}, here"):
        read_encoder(path, TINY)


class Payload:
    """A pickle that runs code where it is read carelessly."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


def test_a_pickle_with_code_is_refused_and_does_not_run(tmp_path: Path) -> None:
    marker, path = tmp_path / "marker", tmp_path / "encoder.ckpt"
    torch.save({"state_dict": Payload(marker)}, path)
    with pytest.raises(CheckpointError, match=r"encoder\.ckpt: refers to code, which is not run"):
        read_encoder(path, TINY)
    assert not marker.exists()
    torch.load(path, weights_only=False)  # the twin: it is live
    assert marker.exists()


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "not a whole torch checkpoint"),
        (b"hello\n" * 40, "not a whole torch checkpoint"),
        (b"\x10\0\0\0\0\0\0\0{broken", "not a whole safetensors file"),
    ],
)
def test_what_is_no_encoder_is_refused_by_name(content: bytes, words: str, tmp_path: Path) -> None:
    path = tmp_path / "file.ckpt"
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match=rf"file\.ckpt: {words}"):
        read_encoder(path, TINY)
    torch.save({"weight": torch.zeros(3)}, path)
    with pytest.raises(CheckpointError, match="no encoder of TorchMD-NET: it has no"):
        read_encoder(path, TINY)
    torch.save([1, 2], path)
    with pytest.raises(CheckpointError, match="holds a list"):
        read_encoder(path, TINY)
    path.unlink()
    with pytest.raises(CheckpointError, match="No such file"):
        read_encoder(path, TINY)


def test_the_lineages_checkpoint_becomes_an_encoder_of_the_paper(tmp_path: Path) -> None:
    """Of its sizes and layout; what is written is what pre-training would have written."""
    encoder = made_encoder(PAPER)
    path = write_pvd(tmp_path / "denoised-pcqm4mv2.ckpt", encoder)
    settings = {"name": "n", "method": "coord_public", "encoder": {}, "code": "c"}
    said: list[str] = []
    import_encoder(settings, path, tmp_path / "encoder.safetensors", said.append)
    found = made_encoder(PAPER, seed=8)
    load_encoder(tmp_path / "encoder.safetensors", found)
    assert same_weights(found, encoder)
    assert said == ["denoised-pcqm4mv2.ckpt: Lightning's checkpoint of PVD or TorchMD-NET, as "
                    "encoder of coord_public"]  # fmt: skip
    small = settings | {"encoder": {"channels": 32}}
    with pytest.raises(CheckpointError, match=r"methods\.coord_public\.encoder_file: .*channels"):
        import_encoder(small, path, tmp_path / "encoder.safetensors", said.append)
