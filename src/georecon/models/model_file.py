"""model.safetensors: weights of a fine-tuned model with what is needed to use them.

The header says sizes, head, unit, data and run; references, scale and shift are among the tensors.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from georecon.errors import CheckpointError, ConfigError
from georecon.experiments.settings import AnyEncoder, encoder_json
from georecon.files import atomic_path
from georecon.keys import KeysError, as_json, from_json
from georecon.models.potential import PropertyModel

MODEL_FORMAT = "georecon-model-1"
_LONGEST_HEADER = 1 << 20  # bytes; ours have a few hundred


@dataclass(frozen=True, kw_only=True, slots=True)
class ModelCard:
    """What a fine-tuned model is.

    Attributes:
        run: folder of the run that made it, from the project's root; names edition and part.
        dataset, target, label: what it was trained on.
        unit: of its predictions; forces are in ``unit``/Å.
        method, seed: of its encoder's pre-training and of the fine-tuning.
        head: name of the output head.
        forces: whether it was trained on forces.
        encoder: sizes.
        batch: molecules a batch in which the run predicted its test set.
        elements: atomic numbers of its training molecules.
        fewest_atoms, most_atoms: of its training molecules.
    """

    run: str
    dataset: str
    target: str
    label: str
    unit: str
    method: str
    seed: int
    head: str
    forces: bool
    encoder: AnyEncoder
    batch: int
    elements: tuple[int, ...]
    fewest_atoms: int
    most_atoms: int


def save_model(path: Path, model: PropertyModel, card: ModelCard) -> None:
    """Write a fine-tuned model."""
    # One key: safetensors writes several in an order that changes from process to process.
    encoder = encoder_json(card.encoder)  # defaults, too: they may change
    header = json.dumps({"format": MODEL_FORMAT, **as_json(card), "encoder": encoder})
    tensors = {name: t.detach().cpu().contiguous() for name, t in model.state_dict().items()}
    with atomic_path(path) as temporary:
        save_file(tensors, temporary, metadata={"georecon": header})


def load_model(path: Path) -> tuple[PropertyModel, ModelCard]:
    """A fine-tuned model, ready to predict, and what it is.

    Raises:
        CheckpointError: not a whole file, another format or version, or tensors that do not fit
            the sizes in its header; names the first.
    """
    header, tensors = read_tensors(path)
    if header.get("format") != MODEL_FORMAT:
        found = header.get("format")
        older = "; models of before 26 November 2026 do not say what they are: train them again"
        what = "no header of this project" if found is None else f"format {found!r}"
        raise CheckpointError(f"{path}: {what}, expected {MODEL_FORMAT}{older}")
    try:
        card = from_json(ModelCard, {k: v for k, v in header.items() if k != "format"})
    except (ConfigError, KeysError, TypeError, ValueError) as error:
        raise CheckpointError(f"{path}: its header is not usable ({error})") from None
    try:
        model = PropertyModel.blank(card.encoder, card.head)
    except ValueError as error:
        raise CheckpointError(f"{path}: {error}") from None
    check_tensors(path, tensors, model.state_dict())
    model.load_state_dict(tensors)
    return model.eval(), card


def read_tensors(path: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Header of this project, empty if there is none, and tensors of a safetensors file.

    Raises:
        CheckpointError: not a whole safetensors file, or a header of more than a mebibyte.
    """
    with _opened(path) as handle:
        return _header(handle), {name: handle.get_tensor(name) for name in handle.keys()}  # noqa: SIM118


def read_format(path: Path) -> object:
    """What a file of this project says that it is, without its tensors; None if it says nothing.

    Raises:
        CheckpointError: as of :func:`read_tensors`.
    """
    with _opened(path) as handle:
        return _header(handle).get("format")


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    try:
        with open(path, "rb") as file:
            size = int.from_bytes(file.read(8), "little")
        if _LONGEST_HEADER < size <= path.stat().st_size:
            raise CheckpointError(f"{path}: a header of {size} bytes, allowed {_LONGEST_HEADER}")
        with safe_open(path, framework="pt") as handle:
            yield handle
    except (OSError, ValueError, SafetensorError) as error:
        raise CheckpointError(f"{path}: not a whole safetensors file ({error})") from None


def _header(handle: Any) -> dict[str, Any]:
    header = json.loads((handle.metadata() or {}).get("georecon", "{}"))
    return header if isinstance(header, dict) else {}


def check_tensors(path: Path, found: dict[str, Tensor], expected: dict[str, Any]) -> None:
    """Refuse tensors that a model does not have, or has in another shape.

    Raises:
        CheckpointError: names the first tensor that is missing, unknown or differs in shape.
    """
    for name in [*expected, *found]:
        if name not in found or name not in expected:
            where = "missing from the file" if name not in found else "unknown to the model"
            raise CheckpointError(f"{path}: tensor {name!r} is {where}")
        if found[name].shape != expected[name].shape:
            shapes = f"{tuple(found[name].shape)}, the model needs {tuple(expected[name].shape)}"
            raise CheckpointError(f"{path}: tensor {name!r} is {shapes}")
