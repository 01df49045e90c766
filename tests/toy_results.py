"""Results of a whole edition as its jobs would write them, with made-up numbers."""

from __future__ import annotations

import csv
import zlib
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow
import pyarrow.parquet

from georecon.data.force_sums import force_sums
from georecon.data.manifest import Source
from georecon.data.molecules import Molecules
from georecon.data.split import Split, write_split
from georecon.data.store import StoreWriter
from georecon.experiments.experiments import Experiments
from georecon.experiments.sections import Finetune
from georecon.files import write_json
from georecon.reporting.figures.inputs import figure_names, figure_spec
from georecon.reporting.figures.specs import ScanFrames
from georecon.reporting.published_rows import published_json
from georecon.reporting.tables import build, write_table
from georecon.stages.evaluate import errors, force_columns, property_columns

Array = np.ndarray

ROOT = Path(__file__).resolve().parents[1]
NOTEBOOKS = ROOT / "reports" / "notebooks"


def experiments_of(edition: str) -> Experiments:
    return Experiments.load(ROOT / "config", {"edition": edition})


def with_seeds(experiments: Experiments, *seeds: int) -> Finetune:
    return replace(experiments.config.finetune, seeds=seeds)


def only_scratch(experiments: Experiments) -> Experiments:
    """One method, which is not pre-trained, one seed and no ablation."""
    config = experiments.config
    plain = (t for t in config.tables.items() if t[1].rows.sweep is None)
    tables = {name: table for name, table in plain if table.rows.methods == "all"}
    smoothness = tables["smoothness"]
    columns = tuple(c for c in smoothness.columns if c.ratio_to is None)
    tables["smoothness"] = replace(smoothness, columns=columns)
    methods = {"scratch": config.methods["scratch"]}
    finetune = with_seeds(experiments, 3)
    return Experiments(replace(config, methods=methods, finetune=finetune, tables=tables))


def many_methods(experiments: Experiments) -> Experiments:
    """Three more methods and seeds, and smoothness at several displacements of two maps."""
    config = experiments.config
    methods = dict(config.methods)
    for name in ("frad", "mine", "yours"):
        methods[name] = replace(methods["coord"], label=name.title())
    displacements = (0.01, 0.04, 0.1)
    maps = ("mean", "node")
    smoothness = replace(config.smoothness, maps=maps, displacements=displacements)
    finetune = with_seeds(experiments, 1, 2, 3, 4)
    return Experiments(replace(config, methods=methods, finetune=finetune, smoothness=smoothness))


def _random(path: str) -> np.random.Generator:
    return np.random.default_rng(zlib.crc32(path.encode()))


def _curve(path: Path, columns: list[str], steps: int) -> None:
    random = _random(str(path.name) + path.parent.as_posix()[-40:])
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "w", newline="") as handle:
        writer = csv.writer(handle, lineterminator="\n")
        writer.writerow(["step", "lr", *columns])
        for step in range(1, steps + 1):
            values = random.uniform(0.8, 1.2, len(columns)) / step**0.5
            writer.writerow([step * 50, 1e-3, *values])


def _finetuned(
    folder: Path, forces: bool, label: np.ndarray, baseline: np.ndarray, parts: list[str]
) -> None:
    random = _random(folder.as_posix()[-40:])
    size = len(label)
    outputs = {
        "ids": np.arange(size),
        "label": label,
        "prediction": label + random.normal(0.0, 0.3, size) * random.uniform(0.7, 1.3),
        "baseline": baseline,
        "naive": baseline + random.normal(0.0, 0.5, size),
    }
    table = property_columns(outputs)
    if forces:
        force = _random(f"forces of {size}").normal(0.0, 20.0, (3 * size, 3))
        noisy = force + random.normal(0.0, 5.0, force.shape)
        naive = force + random.normal(0.0, 9.0, force.shape)
        atoms = np.full(size, 3)
        predicted = (force_sums(force, one, atoms) for one in (noisy, 0.0 * force, naive))
        table |= force_columns(*predicted)
    folder.mkdir(parents=True, exist_ok=True)
    arrow = pyarrow.table({name: pyarrow.array(values) for name, values in table.items()})
    pyarrow.parquet.write_table(arrow, folder / "predictions.parquet")
    found = {"unit": "eV", **errors(table), "parts": dict.fromkeys(parts, errors(table))}
    write_json(folder / "metrics.json", found)
    names = ["train_loss", "val_score", "val_mae", *(["val_force_mae"] if forces else [])]
    _curve(folder / "curve.csv", names, 5)


def _labels(target: str, size: int) -> tuple[np.ndarray, np.ndarray]:
    """Labels and the training-mean baseline; total energies sit on atomic references."""
    random = _random(target)
    label = random.normal(2.0, 1.0, size)
    if target in ("u0", "u", "h", "g"):
        references = random.uniform(-2e4, -5e3, size)
        return label + references, references
    return label, np.full(size, 2.0)


def _pretrained(folder: Path, method: str) -> None:
    parts = ["reconstruct", "denoise", "clean"] if "georecon" in method else ["denoise"]
    columns = [f"train_{name}" for name in ["loss", *parts]]
    columns += ["val_score", *(f"val_{name}" for name in parts)]
    if "georecon" in method:
        columns += ["val_reconstruct_shuffled", "val_reconstruct_zero"]
    _curve(folder / "metrics.csv", columns, 8)


def _record(path: Path) -> dict[str, Any]:
    return {
        "stage": path.parts[2], "inputs": {}, "outputs": {}, "job": {}, "seed": 1,
        "settings": {"name": path.parent.as_posix()[-30:]},
        "seconds": 2.0, "compute": {"device": "cpu"}, "training": {"steps": 8, "best_score": 0.5},
        "final": {"val_reconstruct": 0.5, "val_reconstruct_shuffled": 0.55,
                  "val_reconstruct_zero": 0.7, "val_code_usage": 0.05,
                  "val_code_usage_isomers": 0.01},
    }  # fmt: skip


def _smoothness(path: Path, experiments: Experiments) -> None:
    section, random = experiments.config.smoothness, _random(path.as_posix()[-40:])
    names = (
        "spectral_mean",
        "spectral_max",
        "difference_mean",
        "spread",
        "scale_free",
        "spread_isomers",
        "scale_free_isomers",
        "unconverged",
    )
    places = [f"{which}/{size}" for which in section.maps for size in section.displacements]
    estimates = {
        place: {name: float(random.uniform(0.3, 2.0)) for name in names} | {"unconverged": 0}
        for place in places
    }
    norms = {place: random.lognormal(0.0, 0.3, 16).tolist() for place in places}
    write_json(path, {"molecules": 4, "estimates": estimates, "norms": norms})


def _dynamics(folder: Path, until: float) -> None:
    """Curves of two starts; the second start breaks half way."""
    random = _random(folder.as_posix()[-40:])
    names = ("drift", "fluctuation", "stable_fs", "stable")
    measures = {name: float(random.uniform(0.3, 1.0)) for name in names}
    write_json(folder / "metrics.json", {"starts": 2, "atoms": 9, **measures})
    lines = ["start,time_fs,energy_meV_per_atom,kelvin"]
    for start, part in enumerate((1.0, 0.5)):
        walk = random.normal(size=21).cumsum()
        times = np.linspace(0.0, part * until, 21)
        lines += [f"{start},{t:g},{e:.4f},300.0" for t, e in zip(times, walk, strict=True)]
    (folder / "curve.csv").write_text("\n".join(lines) + "\n")


def _placed(p: Array, q: Array, r: Array, degrees: float) -> Array:
    """A point 1.4 from ``r``, with this dihedral angle to the three."""
    bond = (r - q) / np.linalg.norm(r - q)
    normal = np.cross(q - p, bond)
    normal /= np.linalg.norm(normal)
    turn = np.radians(degrees)
    across = np.cos(turn) * np.cross(normal, bond) + np.sin(turn) * normal
    return np.asarray(r + 1.4 * (0.4 * bond + 0.9 * across))


def scan_positions(scan: ScanFrames, places: list[tuple[float, float]]) -> Array:
    """Frames with these (slice, angle) of a scan whose two dihedrals share a bond: (M, N, 3)."""
    a, b, c, d = scan.turned
    assert scan.slices[:3] == (b, c, d)
    pos = _random("frames").uniform(5.0, 9.0, (len(places), 16, 3))
    pos[:, b], pos[:, c], pos[:, d] = [0.0, 0, 0], [1.4, 0, 0], [2.0, 1.3, 0]
    for frame, (place, angle) in zip(pos, places, strict=True):
        frame[scan.slices[3]] = _placed(frame[b], frame[c], frame[d], place)
        frame[a] = _placed(frame[d], frame[c], frame[b], angle)
    return pos


def _scan_frames(scan: ScanFrames, molecules: int) -> None:
    """Store and split of a scan: the second half of the test molecules, in two slices."""
    ids = np.arange(molecules)
    others, own = np.split(ids, [molecules // 2])
    angles = np.linspace(0.0, 330.0, len(own) // 2)
    places = [(place, float(angle)) for place in (120.0, 180.0) for angle in angles]
    frames = np.concatenate([scan_positions(scan, places)] * 2)
    source = Source(source="toy", target="toy", roles=("toy",), raw={})
    folder = Path(scan.store).parent
    folder.parent.mkdir(parents=True, exist_ok=True)
    units = {"pos": "Å", "energy": "eV"}
    with StoreWriter(folder, dataset="toy", source=source, units=units, forces=False) as writer:
        z, energies = [np.full(16, 6)] * molecules, {"energy": np.zeros(molecules)}
        writer.append(Molecules.from_list(ids, z, list(frames), energies))
    Path(scan.split).parent.mkdir(parents=True, exist_ok=True)
    split = Split(ids[:0], ids[:0], ids, {"others": others, scan.part: own})
    write_split(Path(scan.split), split, {"rule": "toy", "seed": 0, "store_sha256": ""})


def write_results(experiments: Experiments, molecules: int = 40) -> None:
    """Write everything that figures and summary read, below the current folder."""
    files = [file for table in experiments.config.tables
             for file in experiments.tables.files(table)]  # fmt: skip
    for figure in figure_names(experiments, NOTEBOOKS):
        spec = figure_spec(experiments, figure)
        files += [file for file in spec.files() if file.startswith("results/")]
        for scan in spec.scans:
            _scan_frames(scan, molecules)
    nve = experiments.config.nve
    for path in dict.fromkeys(Path(file).parent for file in files):
        stage, *rest = path.parts[2:]
        if stage == "tables":
            continue
        if stage == "finetune":
            label, baseline = _labels(rest[1], molecules)
            dataset = experiments.data.dataset_of(rest[0])
            parts = list(experiments.data.parts(dataset, rest[1]))
            _finetuned(path, experiments.data.has_forces(dataset), label, baseline, parts)
        elif stage == "pretrain":
            _pretrained(path, rest[0])
        elif stage == "smoothness":
            _smoothness(path / "metrics.json", experiments)
        elif stage == "nve" and nve is not None:
            _dynamics(path, nve.steps * nve.timestep_fs)
        write_json(path / "run.json", _record(path / "run.json"))
    for name in experiments.config.tables:
        published = published_json(experiments, ROOT / "reports" / "published", name)
        table = build(experiments.tables.spec(name), [], published=published)
        write_table(table, Path(f"results/{experiments.edition}/tables/{name}"))
