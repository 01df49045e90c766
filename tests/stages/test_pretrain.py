"""What pre-training writes, and its held-out measures again from that."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from georecon.data.split import Split, write_split
from georecon.errors import CheckpointError
from georecon.experiments.experiments import Experiments
from georecon.jobs.job import prepare_torch
from georecon.keys import Json
from georecon.stages.pretrain import measures_of, pretrain
from georecon.training.world import World
from tests.projects import ROOT
from tests.toy_graphs import write_store

METHODS = {
    "coord": "tiny", "frad": "tiny", "georecon": "tiny", "georecon__decoder": "tiny",
    "georecon__sum": "tiny", "unimol": "tiny", "unimol_georecon": "tiny", "fp": "readings",
}  # fmt: skip


def settings_of(method: str, edition: str) -> Json:
    """Of the edition, with the tiny one's sizes and steps."""
    tiny, own = (Experiments.load(ROOT / "config", {"edition": name}) for name in ("tiny", edition))
    like = method if edition == "tiny" else "coord"
    settings = tiny.runs.pretrain_settings(like, 1).as_json()
    entry = own.methods.entry(method)
    changed: Json = {"method": method, "objective": entry.objective, "params": {**entry.params}}
    return settings | changed


def trained(folder: Path, settings: Json) -> dict[str, float]:
    """Train for a few steps; the measures at the best one."""
    store = write_store(folder / "store", 60)
    ids = store.ids
    meta = {"rule": "toy", "seed": 1, "store_sha256": store.sha256}
    write_split(folder / "split.npz", Split(ids[:40], ids[40:], ids[:0]), meta)
    (folder / "out").mkdir()
    result = pretrain(
        settings, folder / "store", folder / "split.npz", folder / "out",
        state=folder / "state", world=World(), say=lambda line: None,
    )  # fmt: skip
    return result.final


def again(folder: Path, settings: Json) -> dict[str, float]:
    store, split = folder / "store", folder / "split.npz"
    return measures_of(settings, store, split, folder / "out", device="cpu")


@pytest.mark.parametrize("method", METHODS)
def test_measures_follow_from_what_was_written(method: str, tmp_path: Path) -> None:
    """To the bit, for every kind of objective."""
    prepare_torch(1)
    settings = settings_of(method, METHODS[method])
    final = trained(tmp_path, settings)
    found = again(tmp_path, settings)
    assert found == {name: value for name, value in final.items() if name.startswith("val_")}
    names = load_file(tmp_path / "out/objective.safetensors")
    assert names
    assert not [name for name in names if name.startswith("encoder.")]


def test_other_weights_give_others_and_those_of_another_method_are_refused(tmp_path: Path) -> None:
    prepare_torch(1)
    settings = settings_of("georecon", "tiny")
    final = trained(tmp_path, settings)
    path = tmp_path / "out/objective.safetensors"
    arrays = load_file(path)
    doubled = {n: np.asarray(a * 2, a.dtype) for n, a in arrays.items()}
    header = {"georecon": '{"format": "georecon-objective-1"}'}
    save_file(doubled, path, metadata=header)
    assert again(tmp_path, settings)["val_reconstruct"] != final["val_reconstruct"]
    save_file({"head.weight": arrays[next(iter(arrays))]}, path, metadata=header)
    with pytest.raises(CheckpointError, match="missing from the file"):
        again(tmp_path, settings)
    save_file(arrays, path)
    with pytest.raises(CheckpointError, match="not the rest of an objective"):
        again(tmp_path, settings)
