"""Computed force sets: layout, same bytes twice, broken trajectories, and mixed-up files."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from georecon.data.cards import Card, computed_files
from georecon.data.raw.xtb import Frame, Start
from georecon.errors import ConfigError, DataError
from georecon.keys import as_json, from_json
from georecon.stages import xtb
from georecon.stages.preprocess import preprocess
from georecon.stages.xtb import independent_frames, simulate

needs_xtb = pytest.mark.skipif(
    any(find_spec(name) is None for name in ("tblite", "rdkit", "ase")),
    reason="needs tblite, rdkit and ase",
)
SHORT: dict[str, Any] = {
    "frames": 12, "spacing": 5, "equilibration": 20, "temperature_K": 500.0, "timestep_fs": 0.5,
    "friction": 0.01, "conformer_seed": 3, "seed": 3, "smiles": "CCO",
}  # fmt: skip


def ethanol_file(path: Path, **own: Any) -> None:
    simulate("xmd17", "xmd17_ethanol", path, {**SHORT, **own})


@pytest.fixture(scope="module")
def ethanol(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("xmd17") / "xmd17_ethanol.npz"
    ethanol_file(file)
    return file


@needs_xtb
def test_layout_of_md17(ethanol: Path) -> None:
    with np.load(ethanol, allow_pickle=False) as data:
        assert data["R"].shape == data["F"].shape == (12, 9, 3)
        assert data["E"].shape == (12, 1)
        assert sorted(data["z"].tolist()) == [1] * 6 + [6, 6, 8]
        assert str(data["theory"]) == "GFN2-xTB"
        assert float(data["temperature_K"]) == 500.0
        assert np.abs(data["F"].sum(axis=1)).max() < 1e-3
        assert data["E"].std() > 0.1
    made = json.loads(ethanol.with_suffix(".json").read_text())
    assert made["settings"]["frames"] == made["frames"] == 12
    assert 1 <= made["independent_frames"] <= 12
    assert set(made["packages"]) == {"tblite", "ase", "rdkit", "numpy"}
    assert (made["dataset"], made["theory"], made["broken"]) == ("xmd17", "GFN2-xTB", [])


@needs_xtb
def test_becomes_a_store(ethanol: Path, cards: dict[str, Any], tmp_path: Path) -> None:
    manifest = preprocess(cards["xmd17"], ethanol.parent, tmp_path / "s", "ethanol")
    assert manifest.counts.molecules == 12


@needs_xtb
def test_same_seed_gives_same_bytes(ethanol: Path, tmp_path: Path) -> None:
    ethanol_file(tmp_path / "again.npz")
    assert (tmp_path / "again.npz").read_bytes() == ethanol.read_bytes()
    ethanol_file(tmp_path / "other.npz", seed=4)
    assert (tmp_path / "other.npz").read_bytes() != ethanol.read_bytes()


@needs_xtb
def test_scan_has_its_angles_and_no_temperature(tmp_path: Path) -> None:
    scan = {"relax_steps": 1, "dihedrals": [{"atoms": [0, 1, 2, 8], "degrees": [0.0, 120.0]}]}
    made = simulate("mine", "mine_dih", tmp_path / "mine_dih.npz", {**SHORT, "scan": scan})
    assert made.independent_frames is None
    with np.load(tmp_path / "mine_dih.npz") as data:
        assert data["dihedrals"].tolist() == [[0.0], [120.0]]
        assert "temperature_K" not in data.files


def test_impossible_settings_are_refused(tmp_path: Path) -> None:
    bad: dict[str, Any]
    for bad in ({"frames": 0}, {"spacing": 0}, {"timestep_fs": 2.0}, {"temperature_K": 0.0}):
        with pytest.raises(ConfigError, match=f"simulation of xmd17_ethanol.{next(iter(bad))}"):
            ethanol_file(tmp_path / "a.npz", **bad)
    twice = [{"atoms": [0, 1, 2, 8], "degrees": [0.0]}, {"atoms": [3, 2, 1, 7], "degrees": [0.0]}]
    with pytest.raises(ConfigError, match=r"dihedrals: two turn about the bond \[1, 2\]"):
        ethanol_file(tmp_path / "a.npz", scan={"relax_steps": 0, "dihedrals": twice})


# ---- broken molecules --------------------------------------------------------------------------


def breaking(seeds: list[int]) -> Callable[..., Any]:
    """A trajectory that breaks for some seeds."""

    def trajectory(name: str, start: Start, settings: Any) -> Any:
        yield Frame(start.pos, -1.0, start.pos)
        if settings.seed in seeds:
            raise DataError(name, 1, "the molecule broke")
        yield Frame(start.pos, -2.0, start.pos)

    return trajectory


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    start = Start(np.array([1, 1]), np.array([[0.0, 0, 0], [0.74, 0, 0]]), None)
    monkeypatch.setattr(xtb, "start_geometry", lambda name, settings: start)
    return monkeypatch


def test_broken_trajectories_are_counted_and_left_out(
    fake: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    fake.setattr(xtb, "trajectory", breaking([3, 1003]))
    made = simulate("mine", "mine_a", tmp_path / "a.npz", SHORT)
    assert [text.partition(":")[0] for text in made.broken] == ["seed 3", "seed 1003"]
    assert made.frames == 2


def test_a_molecule_that_always_breaks_is_refused(fake: pytest.MonkeyPatch, tmp_path: Path) -> None:
    fake.setattr(xtb, "trajectory", breaking([3, 1003, 2003]))
    with pytest.raises(DataError, match="mine_a, record 1: the molecule broke"):
        simulate("mine", "mine_a", tmp_path / "a.npz", SHORT)
    assert list(tmp_path.iterdir()) == []


def test_a_scan_that_mostly_breaks_is_refused(fake: pytest.MonkeyPatch, tmp_path: Path) -> None:
    kept = Frame(np.zeros((2, 3)), -1.0, np.zeros((2, 3)), (0.0,))
    scan = {"relax_steps": 0, "dihedrals": [{"atoms": [0, 1, 2, 3], "degrees": [0.0]}]}
    fake.setattr(xtb, "scan_points", lambda *_: ([kept], ["10 degrees: x", "20 degrees: y"]))
    with pytest.raises(DataError, match="2 of 3 points of the scan are broken, first at 10"):
        simulate("mine", "mine_a", tmp_path / "a.npz", {**SHORT, "scan": scan})
    fake.setattr(xtb, "scan_points", lambda *_: ([kept, kept], ["10 degrees: x"]))
    assert simulate("mine", "mine_a", tmp_path / "a.npz", {**SHORT, "scan": scan}).frames == 2


# ---- independent frames ------------------------------------------------------------------------


@pytest.mark.parametrize("memory", [0.0, 0.5, 0.9])
def test_independent_frames_of_a_process_that_is_known(memory: float) -> None:
    """First-order autoregression: ½ + Σ ρᵗ = (1 + ρ) / (2 (1 − ρ))."""
    rng, values = np.random.default_rng(0), [0.0]
    for step in rng.standard_normal(20_000):
        values.append(memory * values[-1] + step)
    expected = len(values) * (1 - memory) / (1 + memory)
    assert independent_frames(np.array(values)) == pytest.approx(expected, rel=0.15)


def test_independent_frames_has_its_bounds() -> None:
    assert independent_frames(np.ones(5)) == 1.0
    assert independent_frames(np.array([1.0, -1.0] * 20)) > 38.0
    assert 1.0 <= independent_frames(np.arange(40.0)) < 5.0


# ---- files that are mixed up -------------------------------------------------------------------

BENZENE = np.array([[1.39, 60.0 * k] for k in range(6)] + [[2.48, 60.0 * k] for k in range(6)])


def toy(path: Path, *, energy: float = -5.9e2, kelvin: float | None = 300.0, **arrays: Any) -> None:
    """Twelve frames like benzene's, in kcal/mol: about -800 an atom."""
    rng = np.random.default_rng(len(path.name))
    angle = np.radians(BENZENE[:, 1])
    ring = np.stack([BENZENE[:, 0] * np.cos(angle), BENZENE[:, 0] * np.sin(angle), 0 * angle], 1)
    found: dict[str, Any] = {
        "R": ring + 0.01 * rng.standard_normal((12, 12, 3)),
        "E": 12 * energy + rng.standard_normal((12, 1)) + 0.05 * (kelvin or 0),
        "F": math.sqrt(kelvin or 10.0) * rng.standard_normal((12, 12, 3)),  # 22 eV/Å² kT
        "z": np.array([6] * 6 + [1] * 6),
        "theory": "GFN2-xTB",
        **({} if kelvin is None else {"temperature_K": kelvin}),
        **arrays,
    }
    np.savez(path, **{name: array for name, array in found.items() if array is not None})


FILES = {"train_300K": 300.0, "test_300K": 300.0, "test_600K": 600.0, "test_1200K": 1200.0}


def x3bpa(folder: Path) -> None:
    for role, kelvin in FILES.items():
        toy(folder / f"x3bpa_{role}.npz", kelvin=kelvin)
    toy(folder / "x3bpa_test_dih.npz", kelvin=None)


def kcal(path: Path) -> dict[str, Any]:
    with np.load(path) as data:
        return {name: data[name] for name in data.files}


def swap(folder: Path, one: str, two: str, *, silent: bool) -> None:
    """Exchange two files; ``silent``: they do not say their temperature."""
    first, second = (folder / f"x3bpa_{role}.npz" for role in (one, two))
    files = kcal(first), kcal(second)
    for path, arrays in zip((second, first), files, strict=True):
        kept = {name: a for name, a in arrays.items() if not silent or name != "temperature_K"}
        np.savez(path, **kept)


def test_the_toy_set_itself_is_fine(cards: dict[str, Any], tmp_path: Path) -> None:
    x3bpa(tmp_path)
    store = preprocess(cards["x3bpa"], tmp_path, tmp_path / "s", "3bpa")
    assert store.counts.molecules == 60


@pytest.mark.parametrize("silent", [False, True])
@pytest.mark.parametrize(
    ("one", "two"),
    [("test_600K", "test_1200K"), ("train_300K", "test_1200K"), ("test_300K", "test_600K")],
)
def test_mixed_up_temperatures_are_refused(
    cards: dict[str, Any], tmp_path: Path, one: str, two: str, silent: bool
) -> None:
    x3bpa(tmp_path)
    swap(tmp_path, one, two, silent=silent)
    words = "temperatures mixed up|is it another temperature" if silent else "another temperature"
    with pytest.raises(DataError, match=words):
        preprocess(cards["x3bpa"], tmp_path, tmp_path / "s", "3bpa")


HARTREE, EV = 627.509, 23.0605
MIXED: dict[str, tuple[str, dict[str, Callable[[Any], Any]]]] = {
    "energy per atom": ("energy_per_atom = ", {"E": lambda E: E / 12}),
    "energy in eV": ("energy_per_atom = ", {"E": lambda E: E / EV}),
    "energy in hartree": ("energy_per_atom = ", {"E": lambda E: E / HARTREE}),
    "forces in eV/Å": ("force_rms = |mean squared force over kT is 0.0", {"F": lambda F: F / EV}),
    "forces in Ha/a0": ("force_rms = ", {"F": lambda F: F / 1185.8}),
    "positions in nm": ("nearest_neighbour = ", {"R": lambda R: R / 10}),
    "level of theory": ("never mix the two", {"theory": lambda _: "PBE+vdW-TS"}),
    "coupled cluster": ("never mix the two", {"theory": lambda _: "Psi4: CCSD(T), cc-pVTZ"}),
    "all-electron energies": ("energy_per_atom = ", {"E": lambda E: E * 20}),
    "no energies": ("has no E; it has: F, R", {"E": lambda _: None}),
    "no forces": ("has no F; it has: E, R", {"F": lambda _: None}),
}


@pytest.mark.parametrize("what", MIXED)
@pytest.mark.parametrize("role", ["train_300K", "test_600K", "test_dih"])
def test_one_wrong_part_is_refused(
    cards: dict[str, Any], tmp_path: Path, role: str, what: str
) -> None:
    words, changes = MIXED[what]
    x3bpa(tmp_path)
    path = tmp_path / f"x3bpa_{role}.npz"
    arrays = kcal(path) | {name: change(kcal(path)[name]) for name, change in changes.items()}
    np.savez(path, **{name: array for name, array in arrays.items() if array is not None})
    with pytest.raises(DataError, match=words) as refusal:
        preprocess(cards["x3bpa"], tmp_path, tmp_path / "s", "3bpa")
    assert path.name in str(refusal.value)


def test_relabelled_frames_are_no_md17(cards: dict[str, Any], tmp_path: Path) -> None:
    """rMD17's layout: energies of the size of MD17's, another level of theory."""
    toy(tmp_path / "md17_benzene2017.npz", energy=-12_000.0, kelvin=None, theory=None)
    arrays = kcal(tmp_path / "md17_benzene2017.npz")
    names = {"R": "coords", "E": "energies", "F": "forces", "z": "nuclear_charges"}
    relabelled = {names[name]: array for name, array in arrays.items()}
    np.savez(tmp_path / "md17_benzene2017.npz", **relabelled, old_energies=arrays["E"])
    card = {**cards["md17"], "expected_molecules": None}
    card["sources"]["official"]["files"]["benzene"]["expected_molecules"] = None
    with pytest.raises(DataError, match="is PBE/def2-SVP, the card's PBE\\+vdW-TS: never mix"):
        preprocess(card, tmp_path, tmp_path / "s", "benzene")


def test_no_two_files_are_the_same_trajectory(cards: dict[str, Any]) -> None:
    for name in ("xmd17", "x3bpa", "xmd22"):
        made = computed_files(from_json(Card, cards[name]))
        keys = [json.dumps(as_json(one), sort_keys=True) for one in made.values()]
        assert len(set(keys)) == len(keys) > 0
