"""Models of the tiny kind, and the molecules they are given."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from georecon.experiments.settings import EncoderSettings
from georecon.models.encoder import EquivariantTransformer
from georecon.models.encoder_file import save_encoder
from georecon.models.model_file import ModelCard, save_model
from georecon.models.potential import PropertyModel

SIZES = EncoderSettings(channels=16, layers=2, heads=2, rbf=8, vector_cutoff=True)


def make_model(folder: Path, *, forces: bool = False, unit: str = "eV", scale: float = 1.7) -> Path:
    """A fine-tuned model's file; trained on H, C, N, O in 5 to 20 atoms, it says."""
    torch.manual_seed(0)
    atomref = torch.linspace(-3.0, 2.0, SIZES.max_z, dtype=torch.float64)
    model = PropertyModel(SIZES, "scalar", scale=scale, shift=0.3, atomref=atomref)
    card = ModelCard(
        run="results/tiny/finetune/property/homo/coord/seed1",
        dataset="qm9",
        target="homo",
        label="homo",
        unit=unit,
        method="coord",
        seed=1,
        head="scalar",
        forces=forces,
        encoder=SIZES,
        batch=8,
        elements=(1, 6, 7, 8),
        fewest_atoms=5,
        most_atoms=20,
    )
    path = (
        folder / f"model_{'forces' if forces else 'property'}_{unit.replace('/', '_')}.safetensors"
    )
    save_model(path, model, card)
    return path


@pytest.fixture
def model_file(tmp_path: Path) -> Path:
    """Of a property."""
    return make_model(tmp_path)


@pytest.fixture
def force_file(tmp_path: Path) -> Path:
    """Of energies and forces."""
    return make_model(tmp_path, forces=True)


@pytest.fixture
def encoder_file(tmp_path: Path) -> Path:
    """A pre-trained encoder's file."""
    torch.manual_seed(1)
    path = tmp_path / "encoder.safetensors"
    save_encoder(path, EquivariantTransformer(SIZES), method="coord")
    return path
