"""Dynamics at constant energy: forces are the model's gradient; drift and breaking are noticed."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from georecon.data.manifest import Source
from georecon.data.molecules import Molecules
from georecon.data.split import Split, write_split
from georecon.data.store import StoreWriter
from georecon.errors import DataError
from georecon.experiments.settings import EncoderSettings, NveSettings
from georecon.models.potential import PropertyModel
from georecon.stages.nve import Potential, Run, load_model, measure, nve, run, slope

pytest.importorskip("ase")

ENCODER = EncoderSettings(channels=16, layers=2, heads=2, rbf=16)
Z = np.array([8, 1, 1])
POS = np.array([[0.0, 0, 0], [0.96, 0, 0], [-0.24, 0.93, 0]])


def settings(**own: Any) -> NveSettings:
    given = {"name": "nve", "part": "force", "dataset": "toy", "target": "water"}
    given |= {"method": "scratch", "unit": "kcal/mol", "head": "scalar", "code": ""}
    numbers = {"steps": 200, "timestep_fs": 0.25, "temperature_K": 300.0, "starts": 2, "seed": 1}
    return NveSettings(**{**given, **numbers, "encoder": ENCODER, **own})


class Springs:
    """A spring on each pair of atoms [eV]; ``wrong`` scales forces alone."""

    def __init__(self, wrong: float = 1.0, stiffness: float = 30.0) -> None:
        self.wrong, self.stiffness = wrong, stiffness

    def __call__(self, pos: Any) -> tuple[float, Any]:
        i, j = np.triu_indices(3, k=1)
        away = pos[i] - pos[j]
        length = np.linalg.norm(away, axis=1)
        stretch = length - np.linalg.norm(POS[i] - POS[j], axis=1)
        pull = -self.stiffness * (stretch / length)[:, None] * away
        forces = np.zeros((3, 3))
        np.add.at(forces, i, pull)
        np.add.at(forces, j, -pull)
        return 0.5 * self.stiffness * float((stretch**2).sum()), self.wrong * forces


def test_a_potential_with_its_own_gradient_conserves_energy() -> None:
    found = run(Springs(), Z, POS, settings(steps=800), seed=1)  # type: ignore[arg-type]
    assert found.held
    assert found.times[-1] == 200.0
    assert found.kelvin[0] > 50.0
    drift, rest = slope(found, 3)
    assert drift < 2.0  # meV/atom/ps
    assert rest < 2.0


def test_forces_that_are_no_gradient_are_noticed() -> None:
    """The broken twin: forces a third too large; the energy that is told swings with the bonds."""
    drifts = []
    for wrong in (1.0, 1.3):
        found = run(Springs(wrong), Z, POS, settings(steps=400), seed=1)  # type: ignore[arg-type]
        drifts.append(slope(found, 3)[1])
    assert drifts[1] > 5 * drifts[0]


def test_a_broken_bond_ends_a_run() -> None:
    away = run(Springs(stiffness=-5.0), Z, POS, settings(), seed=1)  # type: ignore[arg-type]
    assert not away.held
    assert 0.0 < away.times[-1] < 50.0
    both = measure([away, run(Springs(), Z, POS, settings(), seed=1)], settings(), 3)  # type: ignore[arg-type]
    assert both["stable"] == 0.5
    assert both["stable_fs"] == pytest.approx((away.times[-1] + 50.0) / 2)


def test_measures_of_a_line_that_is_known() -> None:
    times = np.arange(101.0)
    wave = 0.002 * np.where(np.arange(101) % 2, 1.0, -1.0)
    found = Run(times=times, energies=5.0 - 0.003 * times + wave, kelvin=times, held=True)
    drift, rest = slope(found, 3)
    assert drift == pytest.approx(1000.0, rel=1e-3)  # 3 meV/fs over 3 atoms
    assert rest == pytest.approx(2.0 / 3, rel=0.02)
    short = Run(times=times[:2], energies=times[:2], kelvin=times[:2], held=False)
    with pytest.raises(DataError, match="broke after 2 energies"):
        slope(short, 3)


def made_model(seed: int = 0) -> PropertyModel:
    """A model of energies that nobody has trained."""
    torch.manual_seed(seed)
    atomref = torch.linspace(-1.0, 0.0, 100, dtype=torch.float64)
    return PropertyModel(ENCODER, "scalar", scale=4.0, shift=-300.0, atomref=atomref)


@pytest.fixture(scope="module")
def model() -> PropertyModel:
    return made_model()


@pytest.mark.parametrize("unit", ["kcal/mol", "eV"])
def test_forces_are_minus_the_gradient_of_the_models_energy(
    model: PropertyModel, unit: str
) -> None:
    z = np.array([6, 8, 1, 1, 1, 1])  # methanol: no plane, where the encoder's norm turns sharply
    pos = np.array(
        [[-0.05, 0.66, 0.0], [-0.05, -0.76, 0.1], [-1.09, 0.97, 0.0],
         [0.44, 1.07, 0.89], [0.43, 1.08, -0.88], [0.86, -1.06, 0.2]]
    )  # fmt: skip
    potential = Potential(model, z, unit, "cpu")
    scale = {"eV": 1.0, "kcal/mol": 1 / 23.060547830619}[unit]
    _, forces = potential(pos)
    assert np.abs(forces).max() > 1e-2 * scale
    h = 1e-3
    for atom, axis in ((0, 0), (1, 1), (4, 2)):
        moved = [pos.copy() for _ in range(2)]
        moved[0][atom, axis] += h
        moved[1][atom, axis] -= h
        numeric = -(potential(moved[0])[0] - potential(moved[1])[0]) / (2 * h)
        assert numeric == pytest.approx(forces[atom, axis], rel=0.05, abs=0.02 * scale)


def test_energies_are_in_eV_and_have_their_references(model: PropertyModel) -> None:
    kcal, eV = (Potential(model, Z, unit, "cpu")(POS)[0] for unit in ("kcal/mol", "eV"))
    assert kcal * 23.060547830619 == pytest.approx(eV, rel=1e-12)
    references = float(model.atomref[torch.as_tensor(Z)].sum())
    assert eV == pytest.approx(-300.0 + references, abs=40.0)


class Files(NamedTuple):
    """A store of six frames of water, a split of three test frames, and a model's weights."""

    store: Path
    split: Path
    model: Path


def write_files(model: PropertyModel, folder: Path) -> Files:
    """What dynamics of a fine-tuned model start from."""
    found = Files(folder / "store", folder / "s.npz", folder / "m.safetensors")
    save_file({n: t.contiguous() for n, t in model.state_dict().items()}, found.model)
    rng = np.random.default_rng(0)
    frames = Molecules.from_list(
        np.arange(6),
        [Z] * 6,
        [POS + 0.02 * rng.normal(size=(3, 3)) for _ in range(6)],
        {"energy": rng.normal(size=6)},
        [rng.normal(size=(3, 3)) for _ in range(6)],
    )
    units = {"pos": "Å", "energy": "kcal/mol", "forces": "kcal/mol/Å"}
    source = Source(source="toy", target="water", roles=("water",), raw={})
    with StoreWriter(found.store, dataset="toy", source=source, units=units, forces=True) as writer:
        writer.append(frames)
    meta = {"rule": "toy", "seed": 0, "store_sha256": ""}
    split = Split(np.array([0, 1]), np.array([2]), np.array([5, 3, 4]))
    write_split(found.split, split, meta)
    return found


@pytest.fixture
def files(model: PropertyModel, tmp_path: Path) -> Files:
    return write_files(model, tmp_path)


def test_a_run_of_a_models_file(files: Files, tmp_path: Path) -> None:
    chosen = settings(steps=20).as_json()
    found = nve(chosen, *files, tmp_path / "curve.csv", device="cpu")
    assert (found["starts"], found["atoms"]) == (2, 3)
    assert set(found) >= {"drift", "fluctuation", "stable_fs", "stable"}
    lines = (tmp_path / "curve.csv").read_text().splitlines()
    assert lines[0] == "start,time_fs,energy_meV_per_atom,kelvin"
    assert {line.split(",")[0] for line in lines[1:]} == {"0", "1"}
    held = [line.split(",")[1] for line in lines[1:] if line.startswith("0,")]
    assert held == ["0", "2.5", "5"]
    odd = settings(steps=24).as_json()
    nve(odd, *files, tmp_path / "odd.csv", device="cpu")
    times = [line.split(",")[1] for line in (tmp_path / "odd.csv").read_text().splitlines()]
    assert times[1:5] == ["0", "2.5", "5", "6"], "the last step too: a run that held is whole"
    again = nve(chosen, *files, tmp_path / "again.csv", device="cpu")
    assert again == found


def test_a_model_of_other_sizes_is_refused(files: Files) -> None:
    larger = EncoderSettings(channels=32, layers=2, heads=2, rbf=16)
    with pytest.raises(DataError, match=r"m\.safetensors: is not this edition's model"):
        load_model(settings(encoder=larger), files.model)
