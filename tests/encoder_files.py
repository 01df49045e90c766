"""Files that encoders come from, of every layout that is read."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch
from safetensors.torch import save_file

from georecon.experiments.settings import EncoderSettings
from georecon.models.encoder import EquivariantTransformer
from georecon.models.encoder_file import save_encoder
from georecon.models.torchmdnet import to_torchmdnet
from georecon.models.torchmdnet_options import READ
from tests.models.test_torchmdnet import lightning_content

TINY = EncoderSettings(channels=16, layers=2, heads=2, rbf=16)


def made_encoder(settings: EncoderSettings = TINY, seed: int = 7) -> EquivariantTransformer:
    """An encoder that nobody has trained."""
    torch.manual_seed(seed)
    return EquivariantTransformer(settings)


def write_pvd(path: Path, encoder: EquivariantTransformer) -> Path:
    """What PVD's training saves of its model, ``denoised-pcqm4mv2.ckpt`` for one."""
    sizes = {name: getattr(encoder.settings, one.setting) for name, one in READ.items()}
    content, _ = lightning_content(encoder, **sizes)
    content["callbacks"] = {}
    torch.save(content, path)
    return path


def write_own(path: Path, encoder: EquivariantTransformer) -> Path:
    """Our own file."""
    save_encoder(path, encoder, method="coord")
    return path


def write_state(path: Path, encoder: EquivariantTransformer) -> Path:
    """The state dict of a TorchMD-NET model, with its head."""
    state = {f"representation_model.{k}": t for k, t in to_torchmdnet(encoder).items()}
    torch.save(state | {"output_model.weight": torch.zeros(3)}, path)
    return path


def write_state_safetensors(path: Path, encoder: EquivariantTransformer) -> Path:
    """The same of the encoder alone, as safetensors."""
    save_file({k: t.contiguous() for k, t in to_torchmdnet(encoder).items()}, path)
    return path


LAYOUTS: dict[str, Callable[[Path, EquivariantTransformer], Path]] = {
    "pvd.ckpt": write_pvd,
    "own.safetensors": write_own,
    "state.pt": write_state,
    "state.safetensors": write_state_safetensors,
}
