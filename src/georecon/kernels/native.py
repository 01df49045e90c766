"""Which kernels a layer runs on, and calls of those for CPUs, ``*.cpp``.

Those are compiled by :mod:`georecon.kernels.build` and called by ctypes. GPUs use
``attention_triton.py``, if triton (a part of torch's CUDA builds) and what it needs are there: a C
compiler (``CC``, else gcc or clang) and Python's headers. Where they are not, and with
``GEORECON_KERNEL=reference``, the equations run as torch operations: the same numbers but for
rounding, several times slower.
"""

from __future__ import annotations

import ctypes
import functools
import importlib.util
import os
import shutil
import subprocess
import sysconfig
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import torch

from georecon.errors import GeoreconError
from georecon.kernels import build

TYPES = {torch.float32: 0, torch.float64: 1}
KERNELS = ("native", "triton", "reference")
# fields of the native functions' ``struct Arguments``: integers, then pointers
_FIELDS = {
    "edge_attention": (
        ("molecules", "channels", "heads", "threads", "kind", "type", "vector_cutoff", "parts",
         "nodes", "embedding"),
        ("atoms", "pairs", "first", "second", "ways", "row", "steps", "qkv", "vec", "table",
         "place", "unit", "cutoff", "qkv_t", "vec_t", "table_t", "place_t", "unit_t", "cutoff_t",
         "grad_message", "grad_vector", "message", "vector", "grad_qkv", "grad_vec", "grad_table",
         "grad_place", "grad_unit", "grad_cutoff"),
    ),
    "feature_modulation": (
        ("molecules", "channels", "threads", "kind", "type"),
        ("atoms", "m", "x", "vec", "m_t", "x_t", "vec_t", "grad_y", "grad_w", "y", "w", "grad_m",
         "grad_x", "grad_vec"),
    ),
    "filter_places": (
        ("kind", "pairs", "nodes", "points"),
        ("node", "before", "row", "kept", "count"),
    ),
    "filter_table": (
        ("nodes", "functions", "columns", "threads", "kind", "type"),
        ("rbf", "factor", "weight", "bias", "grad_table", "table", "steps", "grad_weight",
         "grad_bias"),
    ),
    "gated_vectors": (
        ("atoms", "channels", "threads", "kind", "type"),
        ("u", "vec", "u_t", "vec_t", "grad_y", "grad_w", "y", "w", "grad_u", "grad_vec"),
    ),
    "layer_norm": (
        ("atoms", "channels", "threads", "kind", "type", "parts"),
        ("eps", "x", "weight", "bias", "x_t", "weight_t", "bias_t", "grad_y", "y", "grad_x",
         "grad_weight", "grad_bias"),
    ),
    "layer_update": (
        ("atoms", "channels", "threads", "kind", "type"),
        ("o", "p", "o_t", "p_t", "grad_dx", "grad_dvec", "dx", "dvec", "grad_o", "grad_p"),
    ),
    "neighbors": (
        ("molecules", "threads", "most", "kind", "type"),
        ("cutoff", "pos", "atoms", "rows", "pairs", "source", "target", "pair", "first", "second",
         "ways"),
    ),
    "vector_lengths": (
        ("atoms", "channels", "threads", "kind", "type"),
        ("smallest", "x", "vec", "x_t", "vec_t", "grad_y", "y", "grad_x", "grad_vec"),
    ),
    "whitened_norm": (
        ("atoms", "channels", "threads", "kind", "type", "parts"),
        ("eps", "vec", "weight", "vec_t", "weight_t", "grad_y", "y", "grad_vec", "grad_weight"),
    ),
}  # fmt: skip


# all of them are 64 bits wide, so that a call's structure is an array
_PLACES = {
    entry: {name: place for place, name in enumerate(integers + pointers)}
    for entry, (integers, pointers) in _FIELDS.items()
}
_ARRAYS = {entry: ctypes.c_int64 * len(places) for entry, places in _PLACES.items()}


class Library(NamedTuple):
    """The compiled kernels, and the instruction set that they are for."""

    functions: ctypes.CDLL
    instruction_set: str


@functools.cache
def library() -> Library | None:
    """The compiled kernels, or None where the equations run as torch operations.

    Raises:
        GeoreconError: ``GEORECON_KERNEL`` is not one of ``KERNELS``, or it is "native" and the
            kernel cannot be compiled.
    """
    found = _outcome()
    return found if isinstance(found, Library) else None


def why_reference(device: str = "cpu") -> str | None:
    """Why the equations run as torch operations on a type of device although nobody asked for
    that; None where they do not, or were asked for.
    """
    if _wanted() is not None or kernel(device) != "reference":
        return None
    found = _outcome() if device == "cpu" else _missing_for_triton(device)
    return found if isinstance(found, str) else None


@functools.cache
def _outcome() -> Library | str:
    return load()


def load() -> Library | str:
    """The compiled kernels, or why there are none; errors as of :func:`library`."""
    wanted = _wanted()
    if wanted not in (None, "native"):
        return f"GEORECON_KERNEL is {wanted!r}"
    try:
        path, instruction_set = build.obtain()
        return Library(ctypes.CDLL(str(path)), instruction_set)
    except (OSError, subprocess.CalledProcessError) as error:
        output = str(getattr(error, "stderr", None) or error).strip()
        if wanted is None:
            return output.splitlines()[-1] if output else type(error).__name__
        raise GeoreconError(f"GEORECON_KERNEL is 'native', but: {output}") from None


@functools.cache
def kernel(device: str = "cpu") -> str:
    """Which of ``KERNELS`` this process uses on a type of device.

    Models in float64, which nothing trains, use the equations on GPUs.

    Raises:
        GeoreconError: ``GEORECON_KERNEL`` asks for what cannot run here; says why.
    """
    wanted = _wanted()
    if device == "cpu" and wanted in (None, "native"):
        return "reference" if library() is None else "native"
    if wanted == "native":
        raise GeoreconError(f"GEORECON_KERNEL is 'native', which is for CPUs, not {device}")
    if wanted == "reference":
        return wanted
    missing = _missing_for_triton(device)
    if missing and wanted:
        raise GeoreconError(f"GEORECON_KERNEL is 'triton', but: {missing}")
    return "reference" if missing else "triton"


@contextmanager
def forced(name: str) -> Iterator[None]:
    """Let this process use one of ``KERNELS``, as ``GEORECON_KERNEL`` does for a whole run."""
    before = os.environ.get("GEORECON_KERNEL")
    os.environ["GEORECON_KERNEL"] = name
    kernel.cache_clear()
    try:
        yield
    finally:
        os.environ.pop("GEORECON_KERNEL")
        if before is not None:
            os.environ["GEORECON_KERNEL"] = before
        kernel.cache_clear()


@functools.cache
def number(value: float) -> torch.Tensor:
    """A number that a native function is given by address."""
    return torch.tensor(value, dtype=torch.float64)


def instruction_set(device: str = "cpu") -> str | None:
    """What the kernels that a type of device uses are compiled for; None where they are not."""
    loaded = library() if kernel(device) == "native" else None
    return None if loaded is None else loaded.instruction_set


def _wanted() -> str | None:
    """Value of ``GEORECON_KERNEL``."""
    wanted = os.environ.get("GEORECON_KERNEL")
    if wanted not in (None, *KERNELS):
        raise GeoreconError(f"GEORECON_KERNEL is {wanted!r}; allowed: {', '.join(KERNELS)}")
    return wanted


def _missing_for_triton(device: str) -> str | None:
    """Why Triton cannot run on a type of device, or None where it can."""
    if importlib.util.find_spec("triton") is None:
        return "triton is not installed"
    if os.environ.get("TRITON_INTERPRET") == "1":
        return None
    if device != "cuda":
        return f"Triton runs on GPUs, not on {device}, except with TRITON_INTERPRET=1"
    compilers = [os.environ["CC"]] if "CC" in os.environ else ["gcc", "clang"]
    if not any(map(shutil.which, compilers)):
        return "no C compiler: looked for CC, gcc and clang"
    header = Path(sysconfig.get_path("include"), "Python.h")
    return None if header.is_file() else f"no {header}: install Python's headers"


def run(entry: str, **arguments: torch.Tensor | int | None) -> None:
    """Call a native function; tensors must be contiguous, and None stands for an array left out."""
    loaded = library()
    assert loaded is not None, "only called where the kernels are there"
    places, values = _PLACES[entry], _ARRAYS[entry]()
    for name, value in arguments.items():
        if isinstance(value, torch.Tensor):
            assert value.is_contiguous(), name
            values[places[name]] = value.data_ptr()
        elif value is not None:
            values[places[name]] = value
    if getattr(loaded.functions, entry)(values):
        raise ValueError(f"{entry} has no type {arguments['type']}")
