"""The program of fixed shapes gives the model's labels, whatever the molecules in its places."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from georecon.errors import ConfigError
from georecon.experiments.settings import EncoderSettings, UnimolSettings
from georecon.graph import make_graph
from georecon.models.fixed_shape import MOST_PAIRS, FixedShapeModel, export
from georecon.models.potential import PropertyModel

SIZES = EncoderSettings(channels=16, layers=2, heads=2, rbf=8)
ATOMS = (7, 1, 4)  # in places for seven


def model_of(settings: EncoderSettings, head: str = "scalar") -> PropertyModel:
    torch.manual_seed(3)
    atomref = torch.linspace(-3.0, 2.0, settings.max_z, dtype=torch.float64)
    model = PropertyModel(settings, head, scale=1.7, shift=0.3, atomref=atomref)
    return model.eval()


def molecules(dtype: torch.dtype, most: int = max(ATOMS)) -> tuple[Tensor, Tensor]:
    """In places: numbers (3, A) with zeros, positions (3, A, 3), garbage in empty places."""
    source = torch.Generator().manual_seed(2)
    z = torch.randint(1, 10, (3, most), generator=source)
    z = torch.where(torch.arange(most) < torch.tensor(ATOMS)[:, None], z, 0)
    return z, 3.0 * torch.randn(3, most, 3, generator=source, dtype=dtype)


def right(model: PropertyModel, z: Tensor, pos: Tensor) -> Tensor:
    """Labels of the model itself."""
    filled = z > 0
    graph = make_graph(z[filled], pos[filled], filled.sum(1), torch.arange(len(z)))
    with torch.no_grad():
        return model.denormalise(model(graph), graph)


@pytest.mark.parametrize("head", ["scalar", "dipole", "spatial_extent"])
@pytest.mark.parametrize(
    "change",
    [
        {},
        {"vector_cutoff": True},
        {"vector_norm": "none"},
        {"max_neighbors": 3},
        {"cutoff": 2.0},
    ],
)
def test_labels_are_the_models(change: dict[str, object], head: str) -> None:
    model = model_of(replace(SIZES, **change), head).double()
    z, pos = molecules(torch.float64)
    with torch.no_grad():
        found = FixedShapeModel(model, 3, 7)(z, pos)
        shifted = FixedShapeModel(model, 3, 7)(z, pos + (z == 0)[..., None] * 5.0)
    torch.testing.assert_close(found, right(model, z, pos), rtol=1e-9, atol=1e-9)
    assert torch.equal(found, shifted), "what lies in empty places matters"


def test_neighbours_make_a_difference_in_these_molecules() -> None:
    """The twin: with other neighbours the labels are others."""
    z, pos = molecules(torch.float64)
    found = [
        right(model_of(replace(SIZES, **change)).double(), z, pos)
        for change in ({}, {"max_neighbors": 3}, {"cutoff": 2.0})
    ]
    assert (found[0] - found[1]).abs().max() > 1e-3
    assert (found[0] - found[2]).abs().max() > 1e-3


@pytest.mark.filterwarnings("ignore")  # torch's own, of a part that is still in motion
def test_the_exported_program_is_the_same() -> None:
    model = model_of(SIZES)
    z, pos = molecules(torch.float32)
    program = export(model, 3, 7)
    with torch.no_grad():
        found = program.module()(z, pos)
        moved = program.module()(z, pos + 0.5 * torch.sin(pos))
    torch.testing.assert_close(found, right(model, z, pos), rtol=1e-5, atol=1e-5)
    again = right(model, z, pos + 0.5 * torch.sin(pos))
    torch.testing.assert_close(moved, again, rtol=1e-5, atol=1e-5)
    assert (again - found).abs().max() > 1e-3, "neighbours were frozen into the program"


@pytest.mark.parametrize(("molecules", "atoms"), [(0, 3), (1, 0), (1, 2000)])
def test_sizes_out_of_range_are_refused(molecules: int, atoms: int) -> None:
    with pytest.raises(ConfigError, match=f"{molecules} molecules of {atoms} atoms: allowed"):
        FixedShapeModel(model_of(SIZES), molecules, atoms)
    assert MOST_PAIRS < 2000**2


def test_another_architecture_is_refused() -> None:
    settings = UnimolSettings(kind="unimol", channels=16, layers=2, heads=4, kernels=16, max_z=100)
    model = PropertyModel.blank(settings, "scalar")
    with pytest.raises(ConfigError, match="encoder of kind unimol cannot be exported; allowed"):
        FixedShapeModel(model, 1, 3)
