"""``pip install .`` into a new environment, and what a chemist does with it there.

The packages that it depends on are taken from this environment, so that no network is needed; the
package itself is built and installed as a wheel, and used in a folder without a clone.
"""

from __future__ import annotations

import csv
import json
import os
import shutil
import subprocess
import sys
import sysconfig
from dataclasses import dataclass
from pathlib import Path

import ase
import ase.io
import numpy as np
import pytest
from numpy.typing import NDArray
from rdkit import Chem
from safetensors.torch import load_file

from georecon.data.manifest import Source
from georecon.data.molecules import Molecules
from georecon.data.split import read_split
from georecon.data.store import Store, StoreWriter
from georecon.library.inputs import read_inputs
from georecon.models.model_file import load_model
from georecon.stages.finetune import predict
from georecon.training.batches import load_batch
from georecon.training.world import World
from tests.projects import ROOT, Project

pytestmark = [pytest.mark.workflow, pytest.mark.long, pytest.mark.timeout(900)]

RUN = "results/tiny/finetune/property/homo/coord/seed1"
SMILES = ("CCO", "c1ccccc1", "CC(=O)C", "C", "N#CC", "C1CCOC1", "CCCCF", "OCC(N)C", "C#CC=O", "O")


@dataclass(frozen=True)
class Installed:
    """An environment with the package, and nothing of this checkout on its path."""

    folder: Path

    def run(self, *words: str, cwd: Path) -> subprocess.CompletedProcess[str]:
        """A program of its ``bin``."""
        environment = {k: v for k, v in os.environ.items() if not k.startswith("PYTHON")}
        program = str(self.folder / "bin" / words[0])
        return subprocess.run(
            [program, *words[1:]],
            cwd=cwd, env=environment, capture_output=True, text=True, check=False,
        )  # fmt: skip


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Installed:
    pytest.importorskip("setuptools", minversion="77", reason="builds the wheel")
    base = tmp_path_factory.mktemp("installed")
    source = base / "source"
    source.mkdir()
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    shutil.copytree(ROOT / "src", source / "src", ignore=shutil.ignore_patterns("__pycache__"))
    folder = base / "env"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder], check=True)
    own = Path(sysconfig.get_path("purelib", vars={"base": str(folder)}))
    # by a line of its own, in which no .pth of that folder counts: not the link to this checkout
    (own / "packages.pth").write_text(f"{sysconfig.get_path('purelib')}\n")
    pip = [sys.executable, "-m", "pip", "--python", str(folder / "bin/python"), "install"]
    options = ["--quiet", "--no-deps", "--no-build-isolation", "--no-index"]
    done = subprocess.run(
        [*pip, *options, str(source)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    shutil.rmtree(source)
    return Installed(folder)


def test_it_is_the_installed_one(installed: Installed, tmp_path: Path) -> None:
    program = "import georecon, pathlib; print(pathlib.Path(georecon.__file__).parent)"
    found = Path(installed.run("python", "-c", program, cwd=tmp_path).stdout.strip())
    assert found.is_relative_to(installed.folder)
    assert (found / "py.typed").is_file()
    assert (found / "kernels/attention.cpp").is_file()


def test_the_entry_point_lists_its_commands(installed: Installed, tmp_path: Path) -> None:
    done = installed.run("georecon", "--help", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    for command in ("launch", "doctor", "predict", "diff", "verify", "watch", "plan"):
        assert f"  {command}" in done.stdout
    for command in ("launch", "doctor", "plan"):
        refused = installed.run("georecon", command, cwd=tmp_path)
        assert refused.returncode == 2
        assert refused.stderr.startswith(f"georecon {command}: no Snakefile in this folder")
    for command in ("diff", "verify"):
        done = installed.run("georecon", command, "--help", cwd=tmp_path)
        assert done.returncode == 0, done.stderr


def test_a_package_that_is_not_there_is_named(installed: Installed, tmp_path: Path) -> None:
    (tmp_path / "rdkit.py").write_text("raise ModuleNotFoundError(name='rdkit')\n")
    program = (
        "import sys; sys.path.insert(0, '.'); sys.argv = ['georecon', 'predict', 'm', 'x', '-o',"
        " 'o.csv'];\nfrom georecon import __main__\nfrom georecon.library import command\n"
        "def main():\n    import rdkit\ncommand.main = main\nsys.exit(__main__.main())"
    )
    done = installed.run("python", "-c", program, cwd=tmp_path)
    assert done.returncode == 1
    assert done.stderr.startswith("georecon predict: needs the package rdkit, which is not")
    assert "Traceback" not in done.stderr


# ---- the same numbers as the run's own ----------------------------------------------------------


@dataclass(frozen=True)
class Own:
    """A finished run's test molecules, and what it predicted for them."""

    model: Path
    molecules: Molecules
    prediction: NDArray[np.float64]


@pytest.fixture(scope="module")
def tested(finished: Project) -> Own:
    run = finished.folder / RUN
    record = json.loads((run / "run.json").read_text())
    store = Store.open((finished.folder / record["inputs"]["store"]["path"]).parent)
    rows = store.rows(read_split(finished.folder / record["inputs"]["split"]["path"]).test)
    own = load_file(run / "outputs.safetensors")
    return Own(run / "model.safetensors", store.gather(rows), own["prediction"].numpy())


def by_the_dag(model: Path, molecules: Molecules, folder: Path) -> NDArray[np.float64]:
    """What fine-tuning's own step predicts for molecules in a store of the DAG's."""
    net, card = load_model(model)
    labels = {card.label: np.zeros(len(molecules))}
    given = Molecules(
        ids=np.arange(len(molecules)), z=molecules.z, pos=molecules.pos,
        offsets=molecules.offsets, labels=labels,
    )  # fmt: skip
    source = Source(source="toy")
    with StoreWriter(folder, dataset="toy", source=source, units={card.label: card.unit}) as writer:
        writer.append(given)
    store = Store.open(folder)
    ids = np.arange(len(store))
    batches = [
        load_batch(store, ids[start : start + card.batch], card.label)
        for start in range(0, len(ids), card.batch)
    ]
    found: NDArray[np.float64] = predict(net, batches, _Recipe(), World())["prediction"].numpy()
    return found


class _Recipe:
    forces = False


def frames_of(molecules: Molecules) -> list[ase.Atoms]:
    bounds = zip(molecules.offsets, molecules.offsets[1:], strict=False)
    return [ase.Atoms(molecules.z[a:b], molecules.pos[a:b]) for a, b in bounds]


def write_xyz(path: Path, molecules: Molecules) -> None:
    """Extended XYZ with all digits of float32; ASE's own writer has eight decimals."""
    lines = []
    for atoms in frames_of(molecules):
        lines += [str(len(atoms)), 'Properties=species:S:1:pos:R:3 pbc="F F F"']
        for symbol, place in zip(atoms.get_chemical_symbols(), atoms.positions, strict=True):
            lines.append(" ".join([symbol, *map(repr, map(float, place))]))
    path.write_text("\n".join(lines) + "\n")


def write_sdf(path: Path, molecules: Molecules) -> None:
    with Chem.SDWriter(str(path)) as writer:
        for atoms in frames_of(molecules):
            molecule = Chem.RWMol()
            conformer = Chem.Conformer(len(atoms))
            conformer.Set3D(True)
            for place, symbol in enumerate(atoms.get_chemical_symbols()):
                molecule.AddAtom(Chem.Atom(symbol))
                conformer.SetAtomPosition(place, atoms.positions[place].tolist())
            molecule.AddConformer(conformer)
            writer.write(molecule)


def write_csv(path: Path) -> None:
    path.write_text("name,smiles\n" + "".join(f"m{k},{s}\n" for k, s in enumerate(SMILES)))


def command(installed: Installed, model: Path, file: str, folder: Path) -> NDArray[np.float64]:
    """``georecon predict``, read back."""
    words = ("predict", str(model), file, "-o", f"{file}.csv")
    done = installed.run("georecon", *words, cwd=folder)
    assert done.returncode == 0, done.stderr
    with open(folder / f"{file}.csv", newline="", encoding="utf-8") as handle:
        rows = list(csv.DictReader(handle))
    assert [int(row["row"]) for row in rows] == list(range(len(rows)))
    return np.array([float(row["homo [eV]"]) for row in rows])


def test_extended_xyz_gives_the_runs_own_predictions(
    installed: Installed, tested: Own, tmp_path: Path
) -> None:
    write_xyz(tmp_path / "m.xyz", tested.molecules)
    found = command(installed, tested.model, "m.xyz", tmp_path)
    assert np.array_equal(found, tested.prediction)


@pytest.mark.parametrize("kind", ["sdf", "csv"])
def test_sdf_and_smiles_give_what_the_dag_predicts(
    kind: str, installed: Installed, tested: Own, tmp_path: Path
) -> None:
    """An SDF has four decimals and a SMILES RDKit's conformer, so a store is made of those."""
    file = tmp_path / f"m.{kind}"
    if kind == "sdf":
        write_sdf(file, tested.molecules)
    else:
        write_csv(file)
    inputs = read_inputs(file, max_z=100)
    assert inputs.refused == ()
    right = by_the_dag(tested.model, inputs.molecules, tmp_path / "store")
    found = command(installed, tested.model, file.name, tmp_path)
    assert np.array_equal(found, right)
    assert len(found) == (len(tested.prediction) if kind == "sdf" else len(SMILES))


def test_a_moved_atom_is_noticed(installed: Installed, tested: Own, tmp_path: Path) -> None:
    """The twin: what is compared is not rounded away."""
    moved = Molecules(
        ids=tested.molecules.ids, z=tested.molecules.z,
        pos=tested.molecules.pos + np.float32([1e-4, 0, 0]) * (tested.molecules.z[:, None] == 6),
        offsets=tested.molecules.offsets, labels={},
    )  # fmt: skip
    write_xyz(tmp_path / "m.xyz", moved)
    found = command(installed, tested.model, "m.xyz", tmp_path)
    assert not np.array_equal(found, tested.prediction)
    np.testing.assert_allclose(found, tested.prediction, atol=0.01)


def test_an_encoder_embeds(installed: Installed, finished: Project, tmp_path: Path) -> None:
    encoder = finished.folder / "results/tiny/pretrain/coord/seed1/encoder.safetensors"
    program = (
        "import sys, georecon; e = georecon.load(sys.argv[1]); f = e.embed(['CCO', 'C1CC', 'O'])\n"
        "print(f.values.shape[0], [r.row for r in f.refused])"
    )
    done = installed.run("python", "-c", program, str(encoder), cwd=tmp_path)
    assert done.stdout == "2 [1]\n", done.stderr
