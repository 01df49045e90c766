"""Dynamics are computed again from the model that their record names; forged ones are noticed."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from georecon.audit import weights
from georecon.audit.findings import Context, Finding
from georecon.audit.weights import _check_dynamics, _each
from georecon.experiments.experiments import Experiments
from georecon.files import read_json, sha256_file, write_json
from georecon.records.chain import read_graph
from georecon.records.read import Record
from georecon.stages.nve import nve
from tests.projects import ROOT
from tests.stages.test_nve import made_model, settings, write_files

pytest.importorskip("ase")

PLACE = "results/tiny/nve/force/water/scratch/seed1"
CURVE, METRICS = f"{PLACE}/curve.csv", f"{PLACE}/metrics.json"
MODEL = "m.safetensors"


def claim(folder: Path, name: str) -> dict[str, Any]:
    path = folder / name
    return {"path": name, "bytes": path.stat().st_size, "sha256": sha256_file(path)}


def record_of(folder: Path) -> Record:
    """The record of the dynamics, sealed with what the files are now."""
    inputs = {"model": MODEL, "store": "store/manifest.json", "split": "s.npz"}
    content: dict[str, Any] = {
        "stage": "nve",
        "settings": settings(steps=40).as_json(),
        "job": {"log": None},
        "compute": {"device": "cpu", "threads": 1},
        "inputs": {name: claim(folder, file) for name, file in inputs.items()},
        "outputs": {name: claim(folder, file) for name, file in
                    {"metrics": METRICS, "curve": CURVE}.items()},
    }  # fmt: skip
    return Record.from_json(content, f"{PLACE}/run.json")


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with dynamics as the rule leaves them."""
    folder = tmp_path_factory.mktemp("dynamics")
    files = write_files(made_model(), folder)
    (folder / PLACE).mkdir(parents=True)
    found = nve(settings(steps=40).as_json(), *files, folder / CURVE, device="cpu")
    write_json(folder / METRICS, found)
    return folder


@pytest.fixture
def folder(sound: Path, tmp_path: Path) -> Path:
    return shutil.copytree(sound, tmp_path / "run")


@pytest.fixture(scope="module")
def experiments() -> Experiments:
    return Experiments.load(ROOT / "config", {"edition": "tiny"})


def context(folder: Path, experiments: Experiments) -> Context:
    return Context(folder, experiments, read_graph(folder, "tiny"), bundle=False)


def test_honest_dynamics_are_what_their_model_gives(folder: Path, experiments: Experiments) -> None:
    assert _check_dynamics(context(folder, experiments), record_of(folder), "cpu") is None


def half_drift(folder: Path) -> None:
    found = read_json(folder / METRICS)
    write_json(folder / METRICS, found | {"drift": found["drift"] / 2})


def held(folder: Path) -> None:
    found = read_json(folder / METRICS)
    write_json(folder / METRICS, found | {"stable_fs": 2 * found["stable_fs"]})


def no_fluctuation(folder: Path) -> None:
    found = read_json(folder / METRICS)
    found.pop("fluctuation")
    write_json(folder / METRICS, found)


def flat(folder: Path) -> None:
    """A curve whose energy stays."""
    head, *lines = [line.split(",") for line in (folder / CURVE).read_text().splitlines()]
    rows = [[start, time, "0", kelvin] for start, time, _, kelvin in lines]
    text = "\n".join(",".join(row) for row in [head, *rows]) + "\n"
    (folder / CURVE).write_text(text)


def other_model(folder: Path) -> None:
    arrays = load_file(folder / MODEL)
    rng = np.random.default_rng(0)
    for name, array in arrays.items():
        if array.ndim > 1:
            arrays[name] = (array * rng.normal(1.0, 0.05, array.shape)).astype(array.dtype)
    save_file(arrays, folder / MODEL)


FORGED: dict[str, tuple[Callable[[Path], None], str]] = {
    "a smaller drift": (half_drift, r"drift is \S+, its model gives \S+"),
    "a longer life": (held, r"stable_fs is \S+, its model gives \S+"),
    "a measure left out": (no_fluctuation, "fluctuation is None, its model gives"),
    "a flat curve": (flat, rf"{CURVE} is not the trajectory that its model gives"),
    "dynamics of another model": (other_model, rf"{CURVE} is not the trajectory"),
}


@pytest.mark.parametrize("case", FORGED)
def test_forged_dynamics_are_told_even_sealed(
    case: str, folder: Path, experiments: Experiments, monkeypatch: pytest.MonkeyPatch
) -> None:
    change, words = FORGED[case]
    change(folder)
    record = record_of(folder)
    monkeypatch.setattr(weights, "alike", lambda record: True)
    found = [
        *_each(context(folder, experiments), "dynamics", [record], _check_dynamics, "cpu", None)
    ]
    (finding,) = found
    assert isinstance(finding, Finding)
    assert (finding.kind, finding.path) == ("estimates differ", METRICS)
    assert finding.breaks
    assert record.path in finding.touches
    assert re.match(words, finding.text), finding.text


def test_a_model_that_is_not_here_is_said_and_is_no_forgery(
    folder: Path, experiments: Experiments
) -> None:
    record, looked = record_of(folder), context(folder, experiments)
    (folder / MODEL).unlink()
    assert not [*_each(looked, "dynamics", [record], _check_dynamics, "cpu", None)]
    assert looked.unchecked == [f"dynamics of 1 runs: {MODEL} is not here"]


def test_a_model_that_is_none_is_told(folder: Path, experiments: Experiments) -> None:
    record, looked = record_of(folder), context(folder, experiments)
    (folder / MODEL).write_bytes(b"no model")
    (finding,) = _each(looked, "dynamics", [record], _check_dynamics, "cpu", None)
    assert "cannot be computed again" in finding.text
