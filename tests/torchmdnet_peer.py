"""Real molecules and formula weights for the comparison with torchmd-net."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from itertools import islice
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from georecon.data.readers.qm9_package import PACK_FILES, _read_pack_file, find_qm9pack
from georecon.experiments.settings import EncoderSettings
from georecon.graph import make_graph
from georecon.models.encoder import EquivariantTransformer
from georecon.models.torchmdnet import to_torchmdnet

SIZES = {"channels": 8, "layers": 2, "rbf": 6, "heads": 2}
QM9_IDS = (21, 117)  # propanol's size and a ring with N and O
MD17 = {"ethanol": 0, "aspirin": 700}
Molecules = dict[str, tuple[Tensor, Tensor]]


def formula_state(shapes: Mapping[str, torch.Size]) -> dict[str, Tensor]:
    """Weights that anybody can write down again: sin(0.7 + 0.37 k) / 2 along each tensor."""
    state = {}
    for name, shape in shapes.items():
        k = torch.arange(torch.Size(shape).numel(), dtype=torch.float64)
        values = torch.sin(0.7 + 0.37 * k) * 0.5
        state[name] = (values + (name.endswith("norm.weight"))).reshape(shape)
    return state


def make_encoder(**options: object) -> EquivariantTransformer:
    """A small encoder in float64, without vector norm unless asked for."""
    settings = EncoderSettings(**SIZES, **{"vector_norm": "none", **options})  # type: ignore[arg-type]
    return EquivariantTransformer(settings).double()


def qm9_molecules() -> Molecules:
    """Two molecules of QM9 from the first lines of qm9pack's first file."""
    import tempfile

    with open(find_qm9pack() / PACK_FILES[0]) as source, tempfile.TemporaryDirectory() as folder:
        part = Path(folder) / "part.csv"
        part.write_text("".join(islice(source, 200)))
        found = _read_pack_file(part)
    made = {}
    for gdb in QM9_IDS:
        (row,) = np.flatnonzero(found.ids == gdb)
        atoms = slice(found.offsets[row], found.offsets[row + 1])
        made[f"qm9 {gdb}"] = (torch.tensor(found.z[atoms]).long(), torch.tensor(found.pos[atoms]))
    return {name: (z, pos.double()) for name, (z, pos) in made.items()}


def md17_frames(mirror: Path) -> Molecules:
    """Two frames of MD17 from the mirror."""
    made = {}
    for name, row in MD17.items():
        with np.load(mirror / "md17" / "raw" / f"md17_{name}_subset2000.npz") as arrays:
            z, pos = arrays["z"].astype(np.int64), arrays["R"][row].astype(np.float64)
        made[f"md17 {name} {row}"] = (torch.from_numpy(z), torch.from_numpy(pos))
    return made


Encode = Callable[[Tensor], tuple[Tensor, Tensor]]


def outputs(encode: Encode, pos: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Features and forces of the energy ``Σ sin(k) x_k + Σ vec² / 2`` over all atoms."""
    pos = pos.clone().requires_grad_(True)
    x, vec = encode(pos)
    weights = torch.sin(torch.arange(x.shape[1], dtype=x.dtype))
    energy = (x * weights).sum() + 0.5 * vec.square().sum()
    (gradient,) = torch.autograd.grad(energy, pos)
    return x.detach(), vec.detach(), -gradient


def our_outputs(
    encoder: EquivariantTransformer, z: Tensor, pos: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Features and forces of one molecule, ours."""
    graph = make_graph(z, pos, torch.tensor([len(z)]), torch.tensor([0]))
    return outputs(lambda moved: encoder(graph._replace(pos=moved)), pos)


def peer_outputs(z: Tensor, pos: Tensor, **options: bool) -> tuple[Tensor, Tensor, Tensor]:
    """The same from torchmd-net 3.1 with the formula weights."""
    from torchmdnet.models.torchmd_et import TorchMD_ET

    theirs = TorchMD_ET(
        hidden_channels=SIZES["channels"],
        num_layers=SIZES["layers"],
        num_rbf=SIZES["rbf"],
        num_heads=SIZES["heads"],
        trainable_rbf=False,
        max_num_neighbors=32,
        dtype=torch.float64,
        **options,
    )
    shapes = {name: t.shape for name, t in to_torchmdnet(make_encoder()).items()}
    missing = theirs.load_state_dict(formula_state(shapes), strict=False)
    assert not missing.unexpected_keys
    batch = torch.zeros_like(z)
    return outputs(lambda moved: theirs.double()(z, moved, batch)[:2], pos)
