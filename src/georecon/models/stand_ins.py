"""Read a ``torch.save`` file of somebody else without running anything that it names.

torch's own restricted reader (``weights_only``) builds tensors and plain values. What else old
Lightning files mention, classes of Lightning or TorchMD-NET, argument namespaces, paths, NumPy
scalars, is replaced by stand-ins made here; none of it is imported. Every other name is refused.
"""

from __future__ import annotations

import pickle
import re
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch

from georecon.errors import CheckpointError

_LIBRARIES = (
    *("pytorch_lightning.", "lightning.", "lightning_fabric.", "lightning_utilities."),
    "torchmdnet.",
)
_HARMLESS = re.compile(
    r"argparse\.Namespace|types\.SimpleNamespace"
    r"|pathlib\.(_local\.)?(Pure)?(Posix|Windows)?Path"
    r"|collections\.(defaultdict|deque)|builtins\.(dict|list|tuple|int|float|str|bool|object)"
    r"|datetime\.(datetime|date|time|timedelta|timezone)|uuid\.UUID|decimal\.Decimal"
    r"|numpy\.dtype|numpy\.dtypes\.\w+|numpy\.ndarray"
    r"|numpy\.(_core|core)\.(multiarray|numeric)\.(scalar|_reconstruct|_frombuffer)"
)
_SCALAR = re.compile(r"[<>|=]?[biuf][1248]")
_OLD_MAGIC = b"\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19"
"""Near the start of every file of torch before 1.6: its magic number, pickled."""


class _Thing:
    """Stands for an object of a class that is not imported: takes any state, does nothing."""

    arguments: tuple[Any, ...] = ()

    def __new__(cls, *arguments: Any) -> _Thing:
        made = super().__new__(cls)
        made.arguments = arguments
        return made

    def __init__(self, *arguments: Any) -> None:
        pass

    def __setstate__(self, state: Any) -> None:
        if isinstance(state, dict):
            self.__dict__.update((key, value) for key, value in state.items() if type(key) is str)
        else:
            self.state = state


class _Dictionary:
    """Stands for a class of dictionaries: what is built is an ``OrderedDict`` of its items."""

    def __new__(cls, *_arguments: Any) -> OrderedDict[Any, Any]:  # type: ignore[misc]
        return OrderedDict()


def _scalar(dtype: Any, data: Any) -> Any:
    """The Python number of a pickled NumPy scalar; anything else stays a stand-in."""
    name = dtype.arguments[0] if isinstance(dtype, _Thing) and dtype.arguments else ""
    if not (isinstance(name, str) and _SCALAR.fullmatch(name) and isinstance(data, bytes)):
        return _Thing(dtype, data)
    state = getattr(dtype, "state", ())
    order = state[1] if isinstance(state, tuple) and len(state) > 1 else "<"
    kind = np.dtype(name).newbyteorder(">" if order == ">" else "<")
    if len(data) != kind.itemsize:
        raise ValueError(f"a number of {kind} in {len(data)} bytes")
    return np.frombuffer(data, kind)[0].item()


def _stand_in(name: str) -> Any:
    last = name.rsplit(".", 1)[-1]
    if last == "scalar":
        return _scalar
    if last == "dict" or last.lower().endswith("dict"):
        return type(last, (_Dictionary,), {})
    return type(last, (_Thing,), {})


@contextmanager
def _nothing_else_allowed() -> Iterator[None]:
    """Without the classes that other packages have told torch to build (PyTorch Geometric does)."""
    others = torch.serialization.get_safe_globals()
    torch.serialization.clear_safe_globals()
    try:
        yield
    finally:
        torch.serialization.clear_safe_globals()
        torch.serialization.add_safe_globals(others)


def read_checkpoint(path: Path) -> Any:
    """A ``torch.save`` file's tensors and plain values; foreign objects become stand-ins.

    Raises:
        CheckpointError: not a whole file of torch 1.6 or later, or it refers to any code but the
            names above; names the file.
    """
    _refuse_old(path)
    try:
        with _nothing_else_allowed():
            return _read(path)
    except (
        OSError,
        RuntimeError,
        ValueError,
        EOFError,
        TypeError,
        pickle.UnpicklingError,
    ) as error:
        lines = str(error).splitlines() or [type(error).__name__]
        reason = next((line.strip() for line in lines if "WeightsUnpickler" in line), lines[0])
        raise CheckpointError(f"{path}: not a whole torch checkpoint ({reason})") from None


def _read(path: Path) -> Any:
    names = torch.serialization.get_unsafe_globals_in_checkpoint(path)
    foreign = [
        name for name in names if not name.startswith(_LIBRARIES) and not _HARMLESS.fullmatch(name)
    ]
    if foreign:
        raise CheckpointError(f"{path}: refers to code, which is not run: {min(foreign)}")
    made: list[Any] = [(_stand_in(name), name) for name in names]
    with torch.serialization.safe_globals(made):
        return torch.load(path, map_location="cpu", weights_only=True)


def _refuse_old(path: Path) -> None:
    try:
        with open(path, "rb") as handle:
            head = handle.read(64)
    except OSError:
        return  # said below, with the rest that may be wrong
    if _OLD_MAGIC in head:
        raise CheckpointError(
            f"{path}: written in the format of torch before 1.6, which is not read; open it once "
            "where it was made, with torch 1.6 or later, and write it again with torch.save"
        )


def plain_options(found: Any) -> dict[str, Any]:
    """Hyper-parameters as a dictionary, from one or from an argument namespace.

    Raises:
        TypeError: neither.
    """
    if isinstance(found, dict):
        return dict(found)
    if isinstance(found, _Thing):
        return {key: value for key, value in vars(found).items() if key != "arguments"}
    raise TypeError(f"hyper_parameters are {type(found).__name__}")
