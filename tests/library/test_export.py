"""Weights in the forms of other programs: to the bit where they are tensors, else as close."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

import georecon
from georecon.errors import CheckpointError, ConfigError
from georecon.experiments.settings import UnimolSettings
from georecon.library.export import compared, main, to_program_file, to_torchmdnet_file
from georecon.library.models import Encoder
from georecon.models.encoder_file import save_encoder
from georecon.models.fixed_shape import export
from georecon.models.foreign_encoder import read_encoder
from georecon.models.unimol import Encoder as UnimolEncoder
from tests.library.conftest import SIZES, make_model


@pytest.mark.parametrize("ending", ["ckpt", "safetensors"])
@pytest.mark.parametrize("kind", ["encoder", "model"])
def test_an_encoder_comes_back_to_the_bit(
    ending: str, kind: str, encoder_file: Path, model_file: Path, tmp_path: Path
) -> None:
    loaded = georecon.load(encoder_file if kind == "encoder" else model_file)
    net = loaded.net if isinstance(loaded, Encoder) else loaded.net.encoder
    path = tmp_path / f"there.{ending}"
    to_torchmdnet_file(loaded, path)
    found, _ = read_encoder(path, SIZES)
    own, back = net.state_dict(), found.state_dict()
    assert own.keys() == back.keys()
    assert all(torch.equal(own[name], back[name]) for name in own)
    assert found.settings == SIZES
    tensors = torch.load(path, weights_only=True)["state_dict"] if ending == "ckpt" else None
    if tensors is not None:
        name = "model.representation_model.attention_layers.0.v_proj.weight"
        assert not torch.equal(tensors[name], own["attention_layers.0.v_proj.weight"]), (
            "the twin: rows lie in the other order there"
        )


def test_sizes_of_a_checkpoint_are_compared(encoder_file: Path, tmp_path: Path) -> None:
    to_torchmdnet_file(georecon.load(encoder_file), tmp_path / "x.ckpt")
    for change in ({"heads": 4}, {"cutoff": 6.0}, {"vector_cutoff": False}):
        (name,) = change
        with pytest.raises(CheckpointError, match=f"{name} is "):
            read_encoder(tmp_path / "x.ckpt", replace(SIZES, **change))


def test_torchmdnet_takes_the_checkpoint(encoder_file: Path, tmp_path: Path) -> None:
    """Where the package is installed, by its own class."""
    peer = pytest.importorskip("torchmdnet.models.torchmd_et")
    to_torchmdnet_file(georecon.load(encoder_file), tmp_path / "x.ckpt")
    content = torch.load(tmp_path / "x.ckpt", weights_only=True)
    options = content["hyper_parameters"]
    theirs = peer.TorchMD_ET(
        hidden_channels=options["embedding_dimension"],
        num_layers=options["num_layers"],
        num_rbf=options["num_rbf"],
        num_heads=options["num_heads"],
        trainable_rbf=False,
        max_z=options["max_z"],
        vector_cutoff=options["vector_cutoff"],
    )
    prefix = "model.representation_model."
    state = {name.removeprefix(prefix): t for name, t in content["state_dict"].items()}
    missing = theirs.load_state_dict(state, strict=False)
    assert set(missing.unexpected_keys) <= {"out_norm_vec.weight"}


@pytest.mark.filterwarnings("ignore")  # torch's own, of a part that is still in motion
def test_a_program_gives_the_models_labels(model_file: Path, tmp_path: Path) -> None:
    model = georecon.load(model_file)
    off = to_program_file(model, tmp_path / "m.pt2", 3, 9)
    assert off < 1e-4
    extra = {"card.json": ""}
    program = torch.export.load(tmp_path / "m.pt2", extra_files=extra)
    assert json.loads(extra["card.json"])["unit"] == "eV"
    same, limit = compared(program, model, 3, 9)
    assert same == off
    other = georecon.load(make_model(tmp_path, scale=2.0))
    assert compared(program, other, 3, 9)[0] > limit, "the twin: another model"


@pytest.mark.filterwarnings("ignore")
def test_a_program_that_differs_is_not_written(
    model_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = georecon.load(model_file)
    other = georecon.load(make_model(tmp_path, scale=2.0))
    monkeypatch.setattr(
        "georecon.library.export.export", lambda net, *sizes: export(other.net, *sizes)
    )
    with pytest.raises(ConfigError, match=r"labels are .* eV off the model's, allowed"):
        to_program_file(model, tmp_path / "m.pt2", 2, 5)
    assert not (tmp_path / "m.pt2").exists()


def unimol_file(folder: Path) -> Path:
    settings = UnimolSettings(kind="unimol", channels=16, layers=2, heads=4, kernels=16, max_z=100)
    path = folder / "unimol.safetensors"
    save_encoder(path, UnimolEncoder(settings), method="unimol")
    return path


def test_what_cannot_be_exported_is_said_in_a_line(
    encoder_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    unimol = str(unimol_file(tmp_path))
    cases = [
        (["nowhere.safetensors", "--to", "torchmd-net", "-o", "x.ckpt"], "nowhere.safetensors"),
        ([unimol, "--to", "torchmd-net", "-o", "x.ckpt"], "TorchMD-NET has the equivariant"),
        (
            [str(encoder_file), "--to", "torch-export", "-o", "x.pt2"],
            "an encoder predicts nothing; torch-export needs a fine-tuned model",
        ),
    ]
    for words, said in cases:
        assert main(words) == 1
        error = capsys.readouterr().err
        assert said in error
        assert len(error.splitlines()) == 1, error
    with pytest.raises(SystemExit):
        main([str(encoder_file), "--to", "torchmd-net", "-o", "x.pt2"])
    assert "allowed endings: torchmd-net: .ckpt or .safetensors" in capsys.readouterr().err


def test_the_command_writes_a_checkpoint(
    encoder_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "x.ckpt"
    assert main([str(encoder_file), "--to", "torchmd-net", "-o", str(path)]) == 0
    assert "encoder with TorchMD-NET's names" in capsys.readouterr().out
    assert path.is_file()
