"""Models from files: exact, equal to what the run predicted, refused by name where they differ."""

from __future__ import annotations

import io
import json
import os
import struct
import subprocess
import sys
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path

import ase
import ase.build
import ase.io
import numpy as np
import pytest
import torch
from ase import units
from ase.calculators.fd import calculate_numerical_forces
from safetensors.torch import load_file, save_file

import georecon
from georecon.data.molecules import Molecules
from georecon.data.split import read_split
from georecon.data.store import Store
from georecon.errors import CheckpointError, ConfigError
from georecon.graph import pool_mean
from georecon.library.calculator import GeoReconCalculator
from georecon.library.command import Line
from georecon.library.models import Encoder, Model, UnlikeTrainingWarning, graphs
from tests.library.conftest import make_model
from tests.projects import Project

ETHANOL = ase.build.molecule("CH3CH2OH")


def loaded(path: Path) -> Model:
    model = georecon.load(path)
    assert isinstance(model, Model)
    return model


# ---- equal to the run's own ---------------------------------------------------------------------


@pytest.mark.workflow
@pytest.mark.parametrize("place", ["property/homo/coord", "force/ethanol/coord"])
def test_predictions_are_the_runs_own_to_the_bit(
    place: str, finished: Project, tmp_path: Path
) -> None:
    run = finished.folder / "results/tiny/finetune" / place / "seed1"
    record = json.loads((run / "run.json").read_text())
    model, own = loaded(run / "model.safetensors"), load_file(run / "outputs.safetensors")
    assert model.card.run == f"results/tiny/finetune/{place}/seed1"
    store = Store.open((finished.folder / record["inputs"]["store"]["path"]).parent)
    tested = read_split(finished.folder / record["inputs"]["split"]["path"]).test
    molecules = store.gather(store.rows(tested))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UnlikeTrainingWarning)  # sizes that 40 molecules have not
        found = model.predict(molecules)
        frames = [
            ase.Atoms(molecules.z[a:b], molecules.pos[a:b])
            for a, b in zip(molecules.offsets, molecules.offsets[1:], strict=False)
        ]
        ase.io.write(tmp_path / "m.xyz", frames, format="extxyz")
        assert np.allclose(model.predict(tmp_path / "m.xyz").values, found.values, atol=1e-4)
    assert np.array_equal(found.values, own["prediction"].numpy())
    assert found.unit == record_unit(run)
    if found.forces is not None:
        stored = own["force_prediction"].numpy()
        assert stored.dtype == np.float32  # as the model computes
        assert np.array_equal(np.concatenate(found.forces).astype(np.float32), stored)


def record_unit(run: Path) -> str:
    """Unit that the evaluation of the run recorded."""
    found: str = json.loads((run / "metrics.json").read_text())["unit"]
    return found


def test_an_embedding_is_the_mean_of_the_encoders_features(encoder_file: Path) -> None:
    encoder = georecon.load(encoder_file)
    assert isinstance(encoder, Encoder)
    found = encoder.embed([ETHANOL, "CO"])
    assert found.values.shape == (2, 16)
    assert encoder.embed([]).values.shape == (0, 16)
    turned = ETHANOL.copy()
    turned.rotate(40, (1, 2, 3))
    np.testing.assert_allclose(encoder.embed(turned).values[0], found.values[0], atol=1e-5)
    (graph,) = graphs(_molecules(), 5)
    with torch.no_grad():
        right = pool_mean(encoder.net(graph)[0], graph)[0].numpy()
    np.testing.assert_allclose(found.values[0], right, atol=1e-6)


def _molecules() -> Molecules:
    return Molecules.from_list([0], [ETHANOL.numbers], [ETHANOL.positions])


def test_what_is_unlike_the_training_set_is_said_once_each(model_file: Path) -> None:
    items = [ETHANOL, ase.build.molecule("SiH4"), ase.build.molecule("H2O")]
    with pytest.warns(UnlikeTrainingWarning) as caught:
        found = loaded(model_file).predict(items)
    assert found.unlike == tuple(str(one.message) for one in caught)
    element, size = found.unlike
    assert element.startswith("Si in 1 molecule(s), first in row 1: the training set of qm9 had H,")
    assert size.startswith("1 molecule(s) of other sizes than the training set's 5 to 20 atoms,")
    assert len(found.values) == 3


@pytest.mark.parametrize("forces", [False, True])
def test_from_one_atom_to_five_thousand(forces: bool, tmp_path: Path) -> None:
    grid = np.stack(np.meshgrid(*[np.arange(18)] * 3), -1).reshape(-1, 3)[:5000] * 1.6
    items = [ase.Atoms("H"), ETHANOL, ase.Atoms("C5000", positions=grid)]
    with pytest.warns(UnlikeTrainingWarning, match="2 molecule.s. of other sizes"):
        found = loaded(make_model(tmp_path, forces=forces)).predict(items)
    assert np.isfinite(found.values).all()
    if found.forces is not None:
        assert [force.shape for force in found.forces] == [(1, 3), (9, 3), (5000, 3)]
        assert np.array_equal(found.forces[0], np.zeros((1, 3)))
        assert all(np.isfinite(force).all() for force in found.forces)


def test_who_asks_is_told_how_far_it_is(model_file: Path) -> None:
    said: list[str] = []
    loaded(model_file).predict([ETHANOL] * 3 + ["C1CC"], batch=2, progress=said.append)
    assert said[3:] == [
        "4 molecules read", "2 of 3 molecules predicted", "3 of 3 molecules predicted",
    ]  # fmt: skip


# ---- files --------------------------------------------------------------------------------------


def of_another_version(path: Path) -> None:
    header = {"georecon": json.dumps({"format": "georecon-model-0"})}
    save_file({"x": torch.zeros(1)}, path, metadata=header)


def of_before(path: Path) -> None:
    save_file({"x": torch.zeros(1)}, path)


def truncated(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-8])


def with_a_huge_header(path: Path) -> None:
    size = 3 << 20
    path.write_bytes(struct.pack("<Q", size) + b" " * (size + 8))


def with_another_head(path: Path) -> None:
    _changed(path, {"head": "tensor"})


def with_other_sizes(path: Path) -> None:
    _changed(path, {"encoder": {"channels": 24, "layers": 2, "heads": 2, "rbf": 8}})


def with_an_unknown_key(path: Path) -> None:
    _changed(path, {"kind": "x"})


def _changed(path: Path, change: dict[str, object]) -> None:
    raw = path.read_bytes()
    (size,) = struct.unpack("<Q", raw[:8])
    header = json.loads(json.loads(raw[8 : 8 + size])["__metadata__"]["georecon"])
    save_file(load_file(path), path, metadata={"georecon": json.dumps({**header, **change})})


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (of_another_version, "format is 'georecon-model-0', allowed: georecon-encoder-1"),
        (of_before, "format is None"),
        (truncated, "not a whole safetensors file"),
        (with_a_huge_header, "a header of 3145728 bytes, allowed 1048576"),
        (with_another_head, "head is 'tensor'; allowed: "),
        (with_other_sizes, "the model needs"),
        (with_an_unknown_key, "kind"),
        (lambda path: path.unlink(), "not a whole safetensors file"),
    ],
)
def test_a_file_that_is_none_is_refused(
    spoil: Callable[[Path], None], words: str, model_file: Path
) -> None:
    spoil(model_file)
    with pytest.raises(CheckpointError, match=words) as error:
        georecon.load(model_file)
    assert str(error.value).startswith(str(model_file))


def test_a_model_in_a_bundle(model_file: Path, tmp_path: Path) -> None:
    bundle = tmp_path / "bundle.zip"
    with zipfile.ZipFile(bundle, "w") as archive:
        archive.write(model_file, "results/x/model.safetensors")
    found = georecon.load(f"{bundle}::results/x/model.safetensors")
    assert isinstance(found, Model)
    assert np.array_equal(found.predict(ETHANOL).values, loaded(model_file).predict(ETHANOL).values)
    with pytest.raises(CheckpointError, match=r"has no member y; models in it: results/x/model"):
        georecon.load(f"{bundle}::y")
    with pytest.raises(CheckpointError, match="cannot be read as a bundle"):
        georecon.load(f"{model_file}::y")


def test_the_same_model_gives_the_same_bytes(tmp_path: Path) -> None:
    found = {make_model(tmp_path).read_bytes() for _ in range(6)}
    assert len(found) == 1


# ---- calculator ---------------------------------------------------------------------------------


def test_forces_are_the_slope_of_the_energy(force_file: Path) -> None:
    atoms = ETHANOL.copy()
    atoms.rattle(0.05, seed=1)
    atoms.calc = GeoReconCalculator(loaded(force_file), double=True)
    numeric = calculate_numerical_forces(atoms, eps=1e-5)
    np.testing.assert_allclose(atoms.get_forces(), numeric, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("unit", ["eV", "kcal/mol", "Ha"])
def test_energies_are_in_ev_whatever_the_label(unit: str, tmp_path: Path) -> None:
    atoms = ETHANOL.copy()
    model = loaded(make_model(tmp_path, forces=True, unit=unit))
    factor = {"eV": 1.0, "kcal/mol": units.kcal / units.mol, "Ha": units.Hartree}[unit]
    atoms.calc = GeoReconCalculator(model)
    found = model.predict(ETHANOL)
    assert found.forces is not None
    assert atoms.get_potential_energy() == pytest.approx(found.values[0] * factor, rel=1e-6)
    np.testing.assert_allclose(atoms.get_forces(), found.forces[0] * factor, rtol=1e-5, atol=1e-7)


def test_what_a_calculator_cannot_do_is_refused(tmp_path: Path, force_file: Path) -> None:
    with pytest.raises(ConfigError, match=r"predicts homo in D, no energy"):
        GeoReconCalculator(loaded(make_model(tmp_path, unit="D")))
    atoms = ase.build.bulk("Cu")
    atoms.calc = GeoReconCalculator(loaded(force_file))
    with pytest.raises(ConfigError, match="periodic"):
        atoms.get_potential_energy()


# ---- commands -----------------------------------------------------------------------------------


def georecon_command(*words: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "georecon", *words]
    environment = {**os.environ, "PYTHONPATH": str(Path(georecon.__file__).parents[1])}
    return subprocess.run(
        command, cwd=cwd, text=True, capture_output=True, check=False, env=environment
    )


@pytest.mark.parametrize("ending", ["csv", "parquet"])
def test_predict_writes_a_table_with_units(ending: str, force_file: Path, tmp_path: Path) -> None:
    pandas = pytest.importorskip("pandas")
    ase.io.write(tmp_path / "m.xyz", [ETHANOL, ase.build.molecule("SiH4")], format="extxyz")
    output = tmp_path / f"out.{ending}"
    done = georecon_command("predict", force_file.name, "m.xyz", "-o", output.name, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout == f"2 molecule(s) predicted: {output.name}\n"
    assert "unlike the training set: Si in 1 molecule(s), first in row 1" in done.stderr
    table = pandas.read_csv(output) if ending == "csv" else pandas.read_parquet(output)
    found = loaded(force_file)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UnlikeTrainingWarning)
        right = found.predict(tmp_path / "m.xyz")
    assert table["homo [eV]"].tolist() == right.values.tolist()
    assert right.forces is not None
    if ending == "parquet":
        assert np.array_equal(table["forces [eV/Å]"][0], right.forces[0].ravel())


def test_predict_says_which_rows_it_left_out(model_file: Path, tmp_path: Path) -> None:
    (tmp_path / "m.csv").write_text("smiles\nCCO\nC1CC\n")
    words = ("predict", model_file.name, "m.csv", "-o", "out.csv")
    done = georecon_command(*words, cwd=tmp_path)
    assert done.returncode == 1
    assert done.stderr == "row 1: 'C1CC' is no SMILES that RDKit reads\n"
    assert len((tmp_path / "out.csv").read_text().splitlines()) == 2


def test_predict_refuses_in_a_sentence(encoder_file: Path, tmp_path: Path) -> None:
    (tmp_path / "m.smi").write_text("CCO\n")
    words = ("predict", encoder_file.name, "m.smi", "-o", "out.csv")
    done = georecon_command(*words, cwd=tmp_path)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == "encoder.safetensors: an encoder, expected a fine-tuned model\n"


class Terminal(io.StringIO):
    """A stream that a person watches."""

    def isatty(self) -> bool:
        return True


def test_predict_shows_a_person_how_far_it_is() -> None:
    watched, unwatched = Terminal(), io.StringIO()
    for stream in (watched, unwatched):
        line = Line(stream, interval=0)
        line("1 molecules read")
        line("2 molecules read")
        line.clear()
    start = "\r\x1b[K"
    assert watched.getvalue() == f"{start}1 molecules read{start}2 molecules read{start}"
    assert unwatched.getvalue() == ""
    seldom = Terminal()
    line = Line(seldom, interval=1000)
    line("a")
    line("b")
    assert seldom.getvalue() == f"{start}a"


def test_commands_are_listed(tmp_path: Path) -> None:
    for words, code in (((), 2), (("--help",), 0), (("fly",), 2)):
        done = georecon_command(*words, cwd=tmp_path)
        assert done.returncode == code
        assert "  predict      predictions of a fine-tuned model for a file" in done.stdout
    assert "'fly' is no command" in georecon_command("fly", cwd=tmp_path).stderr
