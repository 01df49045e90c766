"""``georecon export MODEL --to FORM -o FILE``: trained weights in the forms of other programs.

``torchmd-net``: the encoder alone, by TorchMD-NET's names: a Lightning checkpoint with its
hyper-parameters (``.ckpt``), or its state dict (``.safetensors``). ``torch-export``: a fine-tuned
model as a program of torch (``.pt2``) for batches of one size.
"""

from __future__ import annotations

import argparse
import io
import json
import math
import sys
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor

from georecon.data.molecules import Molecules
from georecon.errors import ConfigError, GeoreconError
from georecon.experiments.settings import encoder_kind
from georecon.files import atomic_path
from georecon.keys import as_json
from georecon.library.models import Encoder, Model, graphs, load
from georecon.models.encoder import EquivariantTransformer
from georecon.models.fixed_shape import export
from georecon.models.torchmdnet import checkpoint_content, to_torchmdnet

FORMS = {"torchmd-net": (".ckpt", ".safetensors"), "torch-export": (".pt2",)}
"""Forms, each with the endings of its files."""
TOLERANCE = 1e-5
"""Largest difference of a program's label from the model's, over the size of what the network adds
to the references: rounding of float32 in another order makes a tenth of it."""


def to_torchmdnet_file(model: Encoder | Model, path: Path) -> None:
    """Write an encoder by TorchMD-NET's names.

    Args:
        model: an encoder, or a fine-tuned model, whose head stays behind: TorchMD-NET's has other
            parameters.
        path: ``.ckpt`` for a checkpoint with hyper-parameters, ``.safetensors`` for tensors alone.

    Raises:
        ConfigError: an encoder of another architecture.
    """
    encoder = model.net if isinstance(model, Encoder) else model.net.encoder
    if not isinstance(encoder, EquivariantTransformer):
        kind = encoder_kind(encoder.settings)
        raise ConfigError(
            f"encoder of kind {kind}: TorchMD-NET has the equivariant transformer only"
        )
    with atomic_path(path) as temporary:
        if path.suffix == ".safetensors":
            state = to_torchmdnet(encoder)
            save_file({name: t.detach().contiguous() for name, t in state.items()}, temporary)
        else:
            torch.save(checkpoint_content(encoder), temporary)


def to_program_file(model: Encoder | Model, path: Path, molecules: int, atoms: int) -> float:
    """Write a fine-tuned model as a program of torch.

    ``torch.export.load(path).module()(z, pos)`` gives the labels (B,) in the model's unit of
    atomic numbers (B, A), 0 for an empty place, and positions [Å] (B, A, 3). The file's
    ``card.json`` is the model's card.

    Args:
        model: a fine-tuned model.
        path: ``.pt2``.
        molecules: in a batch, B.
        atoms: places in a molecule, A.

    Returns:
        Largest difference from the model for molecules of several sizes [label unit].

    Raises:
        ConfigError: an encoder without a head, one of another architecture, or a program that
            does not give the model's labels.
    """
    if isinstance(model, Encoder):
        raise ConfigError("an encoder predicts nothing; torch-export needs a fine-tuned model")
    program = export(model.net, molecules, atoms)
    off, limit = compared(program, model, molecules, atoms)
    if not off <= limit:
        raise ConfigError(
            f"the program's labels are {off:.2g} {model.card.unit} off the model's, allowed "
            f"{limit:.2g}: not written"
        )
    held = io.BytesIO()
    torch.export.save(program, held, extra_files={"card.json": json.dumps(as_json(model.card))})
    with atomic_path(path) as temporary:
        temporary.write_bytes(held.getvalue())
    return off


def compared(
    program: torch.export.ExportedProgram, model: Model, molecules: int, atoms: int
) -> tuple[float, float]:
    """Largest difference of a program's labels from the model's, and what rounding allows.

    Args:
        program: of the model.
        model: whose molecules have other numbers of atoms, each one less than the one before.
        molecules: in a batch, B.
        atoms: places in a molecule, A.

    Returns:
        Both in the label's unit.
    """
    z, pos, counts = _examples(model, molecules, atoms)
    labels: list[Tensor] = []
    rows = zip(z, pos, counts, strict=True)
    given = [(row[:n].numpy(), place[:n].numpy()) for row, place, n in rows]
    own = Molecules.from_list(range(molecules), [r for r, _ in given], [p for _, p in given])
    outputs: list[Tensor] = []
    with torch.no_grad():
        found = program.module()(z, pos)
        for graph in graphs(own, molecules):
            outputs.append(model.net(graph))
            labels.append(model.net.denormalise(outputs[-1], graph))
    size = max(1.0, float(torch.cat(outputs).abs().max())) * float(model.net.scale)
    return float((found - torch.cat(labels)).abs().max()), TOLERANCE * size


def _examples(model: Model, molecules: int, atoms: int) -> tuple[Tensor, Tensor, list[int]]:
    """Random atoms about as dense as in molecules: numbers (B, A), positions (B, A, 3), counts."""
    source = torch.Generator().manual_seed(1)
    known = torch.tensor(model.card.elements)
    z = known[torch.randint(len(known), (molecules, atoms), generator=source)]
    counts = atoms - torch.arange(molecules) % atoms
    z = torch.where(torch.arange(atoms) < counts[:, None], z, 0)
    side = torch.arange(math.ceil(atoms ** (1 / 3)), dtype=torch.float32)
    lattice = torch.cartesian_prod(side, side, side)[:atoms]
    noise = torch.randn(molecules, atoms, 3, generator=source)
    return z, 1.5 * lattice + 0.2 * noise, counts.tolist()


def main(arguments: list[str] | None = None) -> int:
    """Command line; 0 if the file was written."""
    parser = argparse.ArgumentParser(
        prog="georecon export", description="Trained weights in the forms of other programs."
    )
    parser.add_argument("model", help="file of a run, or bundle.zip::member")
    parser.add_argument("--to", choices=sorted(FORMS), required=True)
    parser.add_argument("-o", "--output", type=Path, required=True, help=_endings())
    parser.add_argument("--molecules", type=int, default=1, help="in a batch (torch-export)")
    parser.add_argument("--atoms", type=int, default=32, help="places in each (torch-export)")
    options = parser.parse_args(arguments)
    if options.output.suffix not in FORMS[options.to]:
        parser.error(f"-o is {options.output}; allowed endings: {_endings()}")
    try:
        model = load(options.model)
        if options.to == "torchmd-net":
            to_torchmdnet_file(model, options.output)
            print(f"{options.output}: encoder with TorchMD-NET's names")
            return 0
        size = (options.molecules, options.atoms)
        off = to_program_file(model, options.output, *size)
        print(
            f"{options.output}: labels of {size[0]} molecule(s) of up to {size[1]} atoms, at most "
            f"{off:.2g} of their unit off the model's"
        )
    except (GeoreconError, OSError) as error:
        print(error, file=sys.stderr)
        return 1
    return 0


def _endings() -> str:
    return "; ".join(f"{form}: {' or '.join(endings)}" for form, endings in FORMS.items())
