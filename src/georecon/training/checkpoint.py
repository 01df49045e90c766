"""Checkpoints that are whole or absent, and checked by hash when read.

One folder a save: ``state.safetensors`` (weights and optimiser moments) and ``manifest.json``
(format version, step, digest of the run, sha256 of the tensors, small state). The folder is
written under a temporary name, fsynced and renamed; the last two are kept, and each holds the best
weights so far as well.
"""

from __future__ import annotations

import os
import shutil
import warnings
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from georecon.errors import CheckpointError
from georecon.files import read_json, sha256_file, sha256_json, write_json

FORMAT_VERSION = 1
KEEP = 2


class Checkpoint(NamedTuple):
    """Tensors by name and the small state beside them."""

    step: int
    tensors: dict[str, Tensor]
    state: dict[str, Any]


def save(folder: Path, checkpoint: Checkpoint, digest: str) -> None:
    """Write ``folder/step-<step>`` and remove all but the last two.

    Args:
        folder: the run's state folder.
        checkpoint: what to save; tensors on any device.
        digest: identity of the run (settings, data, code, seed); a later load must give the same.

    Raises:
        CheckpointError: it cannot be written (a full disk); earlier ones are as they were.
    """
    final = folder / f"step-{checkpoint.step:09d}"
    temporary = folder / f".tmp-{checkpoint.step}-{os.getpid()}"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for unfinished in folder.glob(".tmp-*"):  # of a save that was killed
            shutil.rmtree(unfinished, ignore_errors=True)
        temporary.mkdir()
        _write(temporary, checkpoint, digest)
        shutil.rmtree(final, ignore_errors=True)
        os.replace(temporary, final)
        _fsync_folder(folder)
    except (OSError, SafetensorError) as error:
        raise CheckpointError(f"{final}: cannot be written ({error})") from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    for old in _saves(folder)[:-KEEP]:
        shutil.rmtree(old)


def _write(folder: Path, checkpoint: Checkpoint, digest: str) -> None:
    tensors = folder / "state.safetensors"
    save_file(
        {name: t.detach().cpu().contiguous() for name, t in checkpoint.tensors.items()}, tensors
    )
    with open(tensors, "rb") as handle:
        os.fsync(handle.fileno())
    manifest = {
        "format_version": FORMAT_VERSION,
        "step": checkpoint.step,
        "digest": digest,
        "sha256": sha256_file(tensors),
        "torch": torch.__version__,
        "threads": torch.get_num_threads(),
        "state": checkpoint.state,
    }
    write_json(folder / "manifest.json", manifest | {"check": sha256_json(manifest)})


def _fsync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _saves(folder: Path) -> list[Path]:
    return sorted(folder.glob("step-*"))


def load(path: Path, digest: str) -> Checkpoint:
    """Read one saved folder.

    Raises:
        CheckpointError: damaged, of another format version, or of another run.
    """
    try:
        manifest = read_json(path / "manifest.json")
        found = sha256_file(path / "state.safetensors")
        check, version = manifest.pop("check"), manifest["format_version"]
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise CheckpointError(f"{path}: unreadable ({error})") from None
    if version != FORMAT_VERSION:
        raise CheckpointError(f"{path}: format version {version}; this code reads {FORMAT_VERSION}")
    if check != sha256_json(manifest):
        raise CheckpointError(f"{path}: manifest.json does not have the hash it states")
    if found != manifest["sha256"]:
        stated = f"{found[:12]}…, manifest says {manifest['sha256'][:12]}…"
        raise CheckpointError(f"{path}: tensors have sha256 {stated}")
    if manifest["digest"] != digest:
        raise CheckpointError(f"{path}: belongs to another run ({manifest['digest'][:12]}…)")
    return Checkpoint(manifest["step"], load_file(path / "state.safetensors"), manifest["state"])


def load_latest(folder: Path, digest: str) -> Checkpoint | None:
    """Newest sound checkpoint of a run, or None; a damaged one is passed over with a warning."""
    for path in reversed(_saves(folder)):
        try:
            return load(path, digest)
        except CheckpointError as error:
            warnings.warn(f"checkpoint passed over: {error}", RuntimeWarning, stacklevel=2)
    return None
