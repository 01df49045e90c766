"""Dynamics at constant energy with a fine-tuned force model: does it conserve energy, does it hold?

A force error says little of a model's use in dynamics (X. Fu et al., Trans. Mach. Learn. Res.,
2023). Each run starts from a test frame with velocities of a temperature and follows the model's
own forces, the analytic gradient of its energy, by ASE's velocity Verlet:

- ``drift`` [meV/atom/ps]: absolute slope of the total energy, by least squares;
- ``fluctuation`` [meV/atom]: root mean square distance of the total energy from that line;
- ``stable_fs`` [fs]: time until a bond breaks or forms, by the rule of the computed sets
  (:class:`georecon.data.raw.xtb.Topology`), or the energy is no number; at most the run's length;
- ``stable``: part of the runs that hold to their end.

Single precision limits how well energy can be conserved: a drift of about 1e-3 meV/atom/ps is zero.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.torch import load_file

from georecon.data.raw.xtb import Topology
from georecon.data.split import read_split
from georecon.data.store import Store
from georecon.errors import DataError
from georecon.experiments.settings import NveSettings
from georecon.files import atomic_path
from georecon.graph import make_graph
from georecon.keys import Json, from_json
from georecon.models.potential import PropertyModel
from georecon.units import factor

_RECORD = 10  # steps between two lines of the curve, which has the last step too
_FEWEST = 3  # energies that a slope needs

Float = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True, slots=True)
class Run:
    """One run: times [fs], total energies [eV] and temperatures [K], (T,); whether it held."""

    times: Float
    energies: Float
    kelvin: Float
    held: bool


class Potential:
    """A fine-tuned model of one molecule: energy [eV] and forces [eV/Å] at positions [Å].

    Args:
        model: the fine-tuned model.
        z: atomic numbers, (N,).
        unit: of the model's energies.
        device: "cpu" or "cuda".
    """

    def __init__(self, model: PropertyModel, z: NDArray[Any], unit: str, device: str) -> None:
        self._model = model.to(device).eval().requires_grad_(False)
        self._z = torch.as_tensor(z.astype(np.int64), device=device)
        self._eV, self._device = factor(unit, "eV"), device

    def __call__(self, pos: Float) -> tuple[float, Float]:
        """Energy [eV] and forces [eV/Å] (N, 3) at ``pos`` [Å] (N, 3)."""
        where = torch.as_tensor(pos, dtype=torch.float32, device=self._device)
        one = torch.tensor([len(self._z)], device=self._device)
        graph = make_graph(self._z, where, one, torch.zeros_like(one))
        energy, forces = self._model.label_and_forces(graph)
        return float(energy) * self._eV, (forces * self._eV).cpu().numpy()


def run(potential: Potential, z: NDArray[Any], pos: Float, settings: NveSettings, seed: int) -> Run:
    """Follow the model's forces from one frame.

    Args:
        potential: energies and forces.
        z: atomic numbers, (N,).
        pos: start positions [Å], (N, 3).
        settings: steps, time step and temperature are used.
        seed: of the velocities.
    """
    from ase import Atoms
    from ase import units as ase_units
    from ase.md.velocitydistribution import (
        MaxwellBoltzmannDistribution,
        Stationary,
        ZeroRotation,
    )
    from ase.md.verlet import VelocityVerlet

    from georecon.models.calculator import FunctionCalculator

    atoms = Atoms(z, pos)
    atoms.calc = FunctionCalculator(lambda atoms: potential(atoms.get_positions()))
    MaxwellBoltzmannDistribution(
        atoms, temperature_K=settings.temperature_K, rng=np.random.default_rng(seed)
    )
    Stationary(atoms)
    ZeroRotation(atoms)
    topology = Topology(z.astype(np.int64), pos, settings.temperature_K)
    dynamics = VelocityVerlet(atoms, timestep=settings.timestep_fs * ase_units.fs)
    energies, kelvin, held = [atoms.get_total_energy()], [atoms.get_temperature()], True
    for _ in range(settings.steps):
        dynamics.run(1)
        energy = atoms.get_total_energy()
        if not np.isfinite(energy) or topology.fault(atoms.get_positions()) is not None:
            held = False
            break
        energies.append(energy)
        kelvin.append(atoms.get_temperature())
    times = np.arange(len(energies), dtype=np.float64) * settings.timestep_fs
    return Run(times=times, energies=np.array(energies), kelvin=np.array(kelvin), held=held)


def slope(one: Run, atoms: int) -> tuple[float, float]:
    """Drift [meV/atom/ps] and fluctuation [meV/atom] of a run's total energy.

    Raises:
        DataError: the run ended before a slope can be told.
    """
    if len(one.energies) < _FEWEST:
        reason = f"the run broke after {len(one.energies)} energies; {_FEWEST} are needed"
        raise DataError("nve", None, reason)
    energies = (one.energies - one.energies[0]) * 1000.0 / atoms
    per_fs, offset = np.polyfit(one.times, energies, 1)
    rest = energies - (per_fs * one.times + offset)
    return abs(float(per_fs)) * 1000.0, float(np.sqrt((rest**2).mean()))


def measure(runs: list[Run], settings: NveSettings, atoms: int) -> dict[str, float]:
    """Means over runs; see the module's text."""
    found = [slope(one, atoms) for one in runs]
    length = settings.steps * settings.timestep_fs
    until = [length if one.held else float(one.times[-1]) for one in runs]
    return {
        "drift": float(np.mean([drift for drift, _ in found])),
        "fluctuation": float(np.mean([rest for _, rest in found])),
        "stable_fs": float(np.mean(until)),
        "stable": float(np.mean([one.held for one in runs])),
    }


def nve(
    settings: Json,
    store_path: Path,
    split_path: Path,
    model_path: Path,
    curve_path: Path,
    *,
    device: str,
) -> Json:
    """Run from the first test frames; write the curves, return the measures.

    Args:
        settings: of ``NveSettings``, as JSON.
        store_path: store of the frames.
        split_path: the first ``starts`` ids of its test part are the starts.
        model_path: ``model.safetensors`` of a fine-tuning run.
        curve_path: CSV to write: start, time [fs], change of the total energy [meV/atom], T [K].
        device: "cpu" or "cuda".
    """
    chosen = from_json(NveSettings, settings)
    store, split = Store.open(store_path), read_split(split_path)
    frames = store.gather(store.rows(split.test[: chosen.starts]))
    model = load_model(chosen, model_path)
    runs, lines = [], ["start,time_fs,energy_meV_per_atom,kelvin"]
    for number in range(len(frames)):
        atoms = slice(frames.offsets[number], frames.offsets[number + 1])
        z, pos = frames.z[atoms], frames.pos[atoms].astype(np.float64)
        potential = Potential(model, z, chosen.unit, device)
        one = run(potential, z, pos, chosen, seed=1000 * chosen.seed + number)
        runs.append(one)
        lines += _lines(one, number, len(z))
    with atomic_path(curve_path) as temporary:
        temporary.write_text("\n".join(lines) + "\n", encoding="utf-8")
    size = int(frames.n_atoms()[0])
    return {"starts": len(runs), "atoms": size, **measure(runs, chosen, size)}


def load_model(settings: NveSettings, path: Path) -> PropertyModel:
    """The fine-tuned model of a file, its label map included.

    Raises:
        DataError: the file has other tensors or sizes than the settings' model.
    """
    model = PropertyModel.blank(settings.encoder, settings.head)
    try:
        model.load_state_dict(load_file(path))
    except (RuntimeError, OSError, SafetensorError) as error:
        raise DataError(path, None, f"is not this edition's model: {error}") from None
    return model


def _lines(one: Run, number: int, atoms: int) -> Iterator[str]:
    for k in sorted({*range(0, len(one.times), _RECORD), len(one.times) - 1}):
        energy = (one.energies[k] - one.energies[0]) * 1000.0 / atoms
        yield f"{number},{one.times[k]:g},{energy:.6g},{one.kelvin[k]:.6g}"
