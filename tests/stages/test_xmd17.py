"""xmd17: right thermostat, forces that are the gradient, same bytes twice, broken bonds."""

from __future__ import annotations

import json
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from georecon import units
from georecon.errors import ConfigError, DataError
from georecon.stages import xmd17
from georecon.stages.preprocess import preprocess
from georecon.stages.xmd17 import Settings, Surface, simulate

needs_xtb = pytest.mark.skipif(
    any(find_spec(name) is None for name in ("tblite", "rdkit", "ase")),
    reason="needs tblite, rdkit and ase",
)
SHORT = {"frames": 12, "spacing": 5, "equilibration": 20, "seed": 3}


@pytest.fixture(scope="module")
def ethanol(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("xmd17") / "xmd17_ethanol.npz"
    simulate("ethanol", file, **SHORT)
    return file


@needs_xtb
def test_layout_of_md17(ethanol: Path) -> None:
    with np.load(ethanol, allow_pickle=False) as data:
        assert data["R"].shape == data["F"].shape == (12, 9, 3)
        assert data["E"].shape == (12, 1)
        assert sorted(data["z"].tolist()) == [1] * 6 + [6, 6, 8]
        assert str(data["name"]) == "ethanol"
        assert str(data["theory"]) == "GFN2-xTB"
        assert np.abs(data["F"].sum(axis=1)).max() < 1e-3
        assert data["E"].std() > 0.1
    made = json.loads(ethanol.with_suffix(".json").read_text())
    assert made["settings"]["frames"] == 12
    assert set(made["packages"]) == {"tblite", "ase", "rdkit", "numpy"}
    assert made["dataset"] == "xmd17"


@needs_xtb
def test_becomes_a_store(ethanol: Path, cards: dict[str, Any], tmp_path: Path) -> None:
    manifest = preprocess(cards["xmd17"], ethanol.parent, tmp_path / "s", "ethanol")
    assert manifest.counts.molecules == 12


@needs_xtb
def test_same_seed_gives_same_bytes(ethanol: Path, tmp_path: Path) -> None:
    simulate("ethanol", tmp_path / "again.npz", **SHORT)
    assert (tmp_path / "again.npz").read_bytes() == ethanol.read_bytes()
    simulate("ethanol", tmp_path / "other.npz", **{**SHORT, "seed": 4})
    assert (tmp_path / "other.npz").read_bytes() != ethanol.read_bytes()


@needs_xtb
def test_forces_are_minus_the_gradient_of_the_energy(ethanol: Path) -> None:
    with np.load(ethanol) as data:
        R, F, E, z = data["R"][7], data["F"][7], data["E"][7, 0], data["z"].astype(np.int64)
    surface = Surface(z, R / units.BOHR_TO_ANGSTROM)

    def energy(atom: int, axis: int, shift: float) -> float:
        moved = R.copy()
        moved[atom, axis] += shift
        return surface(moved / units.BOHR_TO_ANGSTROM, 0.01)[0] * units.HARTREE_TO_KCAL_MOL

    assert energy(0, 0, 0.0) == pytest.approx(E, abs=1e-5)
    h = 1e-3
    for atom, axis in ((0, 0), (2, 1), (8, 2)):
        numeric = -(energy(atom, axis, h) - energy(atom, axis, -h)) / (2 * h)
        assert numeric == pytest.approx(F[atom, axis], abs=5e-3)


class Harmonic:
    """A spring on every coordinate, instead of xTB."""

    constant = 0.05  # [Ha/a0^2]

    def __init__(self, z: Any, x: Any) -> None:
        self.centre = x.copy()

    def __call__(self, x: Any, accuracy: float) -> tuple[float, Any]:
        away = x - self.centre
        return 0.5 * self.constant * float((away**2).sum()), -self.constant * away


def test_thermostat_samples_the_temperature(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(xmd17, "Surface", Harmonic)
    monkeypatch.setattr(xmd17.Topology, "fault", lambda self, pos: None)
    z, pos = np.array([1, 6, 8] * 20), np.random.default_rng(0).normal(size=(60, 3)) * 5
    settings = Settings(frames=3000, spacing=4, friction=0.05, equilibration=1000, seed=1)
    energies = [energy for _, energy, _ in xmd17._trajectory("springs", z, pos, settings)]
    expected = 0.5 * 180 * units.BOLTZMANN_HARTREE_PER_KELVIN * 500.0
    assert np.mean(energies) == pytest.approx(expected, rel=0.02)
    assert np.std(energies) == pytest.approx(expected / np.sqrt(90), rel=0.15)


@needs_xtb
def test_broken_molecule_stops_the_run(tmp_path: Path) -> None:
    hot = {**SHORT, "frames": 60, "temperature_K": 30_000.0}
    with pytest.raises(DataError, match=r"xmd17 ethanol, record \d+: the molecule broke: atoms"):
        simulate("ethanol", tmp_path / "a.npz", **hot)
    assert list(tmp_path.iterdir()) == []


def test_topology_notices_both_kinds_of_change() -> None:
    z = np.array([8, 1, 1])
    pos = np.array([[0.0, 0, 0], [0.96, 0, 0], [-0.24, 0.93, 0]])
    topology = xmd17.Topology(z, pos)
    assert topology.fault(pos) is None
    assert topology.fault(pos * 1.2) is None
    assert "atoms 0 and 1 are 1.54" in str(topology.fault(pos * 1.6))
    assert topology.fault(np.array([pos[0], pos[1], pos[1] + [0, 0.3, 0]])) is not None
    assert topology.fault(np.full((3, 3), np.nan)) is not None


def test_impossible_settings_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no molecule 'phenol'; allowed: aspirin, benzene"):
        simulate("phenol", tmp_path / "a.npz")
    for bad in ({"frames": 0}, {"spacing": 0}, {"timestep_fs": 2.0}, {"temperature_K": 0.0}):
        with pytest.raises(ConfigError, match=next(iter(bad))):
            simulate("ethanol", tmp_path / "a.npz", **bad)


def test_progress_is_silent_at_first_then_tells_rate_and_time_left(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    now = iter([0.0, 5.0, 11.0, 12.0])
    monkeypatch.setattr(xmd17.time, "monotonic", lambda: next(now))
    progress = xmd17._Progress("ethanol", 220)
    for done in (50, 110, 120):
        progress(done)
    text = capsys.readouterr().err
    assert text == "xmd17 ethanol: 110/220 steps, 10 steps/s, 11 s left\n"
