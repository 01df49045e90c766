"""F12: nothing in the project runs what a pickle says; four payloads, each through its reader."""

from __future__ import annotations

import builtins
import json
import os
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors import SafetensorError

from georecon.data.manifest import Source
from georecon.data.readers.extxyz import read_extxyz
from georecon.data.readers.md17 import FORCE_UNITS, load_npz
from georecon.data.split import read_split
from georecon.data.store import Store
from georecon.errors import GeoreconError
from georecon.files import sha256_file, sha256_json
from georecon.training import checkpoint


class Payload:
    """Pickled, it calls something harmful when it is loaded."""

    def __init__(self, call: Callable[..., Any], *arguments: Any) -> None:
        self.call, self.arguments = call, arguments

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return self.call, self.arguments


def touch(marker: Path) -> Payload:
    return Payload(os.mkdir, str(marker))


def evaluate(marker: Path) -> Payload:
    return Payload(builtins.eval, f"__import__('os').mkdir({str(marker)!r})")


def object_array(path: Path, payload: Payload) -> None:
    arrays = {"R": np.zeros((1, 1, 3)), "z": np.array([1]), "F": np.zeros((1, 1, 3))}
    np.savez(path, E=np.array([payload], dtype=object), **arrays)


def object_split(path: Path, payload: Payload) -> None:
    bad = np.array([payload], dtype=object)
    np.savez(path, train=bad, val=np.array([2]), test=np.array([3]))


def torch_file(path: Path, payload: Payload) -> None:
    torch.save({"weight": payload}, path)


def plain_pickle(path: Path, payload: Payload) -> None:
    path.write_bytes(pickle.dumps(payload))


def read_checkpoint(path: Path) -> None:
    """As the training loop does, with a manifest that vouches for the payload's bytes."""
    folder = path.with_suffix("")
    folder.mkdir()
    os.replace(path, folder / "state.safetensors")
    sha256 = sha256_file(folder / "state.safetensors")
    manifest = {"format_version": 1, "step": 1, "digest": "d", "sha256": sha256, "state": {}}
    (folder / "manifest.json").write_text(
        json.dumps(manifest | {"check": sha256_json(manifest)}), encoding="utf-8"
    )
    checkpoint.load(folder, "d")


def read_vouched_split(path: Path) -> None:
    """With a description beside it that vouches for the payload's bytes."""
    path.with_suffix(".json").write_text(json.dumps({"sha256": sha256_file(path)}))
    read_split(path)


def read_frames(path: Path) -> None:
    read_extxyz(path, ranges={}, units=FORCE_UNITS)


CASES: dict[str, tuple[str, Any, Any, Any]] = {
    "object_array": ("a.npz", object_array, touch, load_npz),
    "torch_file": ("a.pt", torch_file, touch, read_checkpoint),
    "plain_pickle": ("a.pkl", plain_pickle, touch, read_frames),
    "eval_in_object_array": ("a.npz", object_array, evaluate, load_npz),
    # the same payloads where else the project reads such files
    "pickle_named_npz": ("a.npz", plain_pickle, evaluate, load_npz),
    "split": ("a.npz", object_split, evaluate, read_vouched_split),
    "pickled_checkpoint": ("a.pt", plain_pickle, evaluate, read_checkpoint),
}
NAIVE: dict[str, Callable[[Path], Any]] = {
    "object_array": lambda path: np.load(path, allow_pickle=True)["E"],
    "torch_file": lambda path: torch.load(path, weights_only=False),
    "plain_pickle": lambda path: pickle.loads(path.read_bytes()),
    "eval_in_object_array": lambda path: np.load(path, allow_pickle=True)["E"],
}
"""Broken twins: how the same files are read by those who trust them."""


@pytest.mark.parametrize("case", CASES)
def test_payload_is_refused_and_not_run(case: str, tmp_path: Path) -> None:
    name, write, payload, read = CASES[case]
    marker = tmp_path / "marker"
    write(tmp_path / name, payload(marker))
    if case in NAIVE:  # the payload works
        NAIVE[case](tmp_path / name)
        assert marker.exists()
        marker.rmdir()
    with pytest.raises((GeoreconError, ValueError, SafetensorError)):
        read(tmp_path / name)
    assert not marker.exists()


def test_payload_in_a_store_is_refused(tmp_path: Path) -> None:
    from georecon.data.molecules import Molecules
    from georecon.data.store import StoreWriter

    molecules = Molecules.from_list([1], [[1, 1]], [[[0.0, 0, 0], [0, 0, 0.74]]])
    with StoreWriter(tmp_path / "s", dataset="d", source=Source(), units={"pos": "Å"}) as writer:
        writer.append(molecules)
    marker = tmp_path / "marker"
    arrays = sorted((tmp_path / "s").glob("*.npy"))
    assert arrays
    for array in arrays:
        np.save(array, np.array([evaluate(marker)], dtype=object), allow_pickle=True)
        with pytest.raises(GeoreconError):
            Store.open(tmp_path / "s")
    assert not marker.exists()
