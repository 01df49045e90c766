"""From test outputs and a store's labels to predictions and errors."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow.parquet
import pytest
from safetensors.numpy import load_file, save_file

from georecon.data.manifest import Source
from georecon.data.molecules import Molecules
from georecon.data.split import Split, write_split
from georecon.data.store import StoreWriter
from georecon.errors import DataError
from georecon.files import read_json
from georecon.reporting.comparison import read_predictions, single_errors
from georecon.stages.evaluate import all_errors, errors, evaluate, prediction_table

IDS, ATOMS = np.array([7, 3, 9]), np.array([2, 1, 3])
META = {"rule": "toy", "seed": 0, "store_sha256": ""}
PROPERTIES = ["id", "label", "prediction", "baseline", "naive"]
FORCES = [f"{of}force_{power}" for of in ("", "baseline_", "naive_")
          for power in ("absolute", "square")]  # fmt: skip
Arrays = dict[str, np.ndarray]


def outputs(forces: bool) -> Arrays:
    """Of three molecules; their forces are predicted in float32."""
    rng = np.random.default_rng(1)
    found = {
        "ids": IDS,
        "label": rng.normal(size=3),
        "prediction": rng.normal(size=3),
        "baseline": np.full(3, 0.25),
        "naive": rng.normal(size=3),
    }
    if forces:
        found["force_prediction"] = rng.normal(size=(6, 3)).astype(np.float32)
        found["naive_force_absolute"] = rng.uniform(1.0, 2.0, size=3)
        found["naive_force_square"] = rng.uniform(1.0, 2.0, size=3)
    return found


def labels() -> np.ndarray:
    """Forces of the three molecules, in the order of the outputs."""
    return np.random.default_rng(2).normal(size=(6, 3))


class Run:
    """Files of a run in a folder: outputs, the store with its labels in another order, a split."""

    def __init__(
        self, folder: Path, given: Arrays, force_label: np.ndarray | None = None, **parts: list[int]
    ) -> None:
        self.given, self.folder = given, folder
        self.outputs, self.split = folder / "outputs.safetensors", folder / "s.npz"
        self.predictions, self.metrics = folder / "predictions.parquet", folder / "metrics.json"
        save_file(given, self.outputs)
        named = {name: np.array(ids) for name, ids in parts.items()}
        test = np.concatenate([*named.values()]) if parts else given["ids"]
        write_split(self.split, Split(np.array([1]), np.array([2]), test, named), META)
        self.store = folder / "store"
        force_label = labels() if force_label is None else force_label
        ends = np.cumsum(ATOMS)
        order = [1, 0, 2]  # 3, 7, 9
        own = [force_label[ends[k] - ATOMS[k] : ends[k]] for k in order]
        z = [np.full(ATOMS[k], 6) for k in order]
        pos = [np.random.default_rng(k).normal(size=(ATOMS[k], 3)) for k in order]
        units = {"pos": "Å", "energy": "eV", "forces": "eV/Å"}
        source = Source(source="toy", target="toy", roles=("toy",), raw={})
        forces = "force_prediction" in given
        with StoreWriter(
            self.store, dataset="toy", source=source, units=units, forces=forces
        ) as writer:
            for k, place in enumerate(order):
                known = forces and not np.isnan(own[k]).any()
                energy = {"energy": given["label"][[place]]}
                writer.append(
                    Molecules.from_list(
                        IDS[[place]], [z[k]], [pos[k]], energy, [own[k]] if known else None
                    )
                )

    def evaluate(self) -> None:
        evaluate(
            self.outputs, self.split, self.predictions, self.metrics,
            unit="eV", store_path=self.store,
        )  # fmt: skip

    def table(self) -> Arrays:
        return prediction_table(self.outputs, self.store)


def test_parts_of_a_test_set_have_errors_of_their_own(tmp_path: Path) -> None:
    given = outputs(True)
    run = Run(tmp_path, given, cold=[3], hot=[9, 7])
    run.evaluate()
    metrics = read_json(run.metrics)
    assert list(metrics["parts"]) == ["cold", "hot"]
    cold, hot = metrics["parts"]["cold"], metrics["parts"]["hot"]
    # ids are 7, 3, 9 with 2, 1, 3 atoms
    energy = given["prediction"] - given["label"]
    force = given["force_prediction"] - labels()
    assert cold["property"]["rmse"] == pytest.approx(abs(energy[1]), rel=1e-14)
    assert cold["force"]["rmse"] == pytest.approx(np.sqrt((force[2] ** 2).mean()), rel=1e-14)
    assert hot["property"]["rmse"] == pytest.approx(np.sqrt((energy[[0, 2]] ** 2).mean()))
    assert hot["force"]["mae"] == pytest.approx(np.abs(force[[0, 1, 3, 4, 5]]).mean())
    assert (cold["force"]["n"], hot["force"]["n"], metrics["force"]["n"]) == (3, 15, 18)


@pytest.mark.parametrize("forces", [False, True])
def test_files_hold_every_prediction_and_the_errors_over_them(forces: bool, tmp_path: Path) -> None:
    given = outputs(forces)
    run = Run(tmp_path, given)
    run.evaluate()
    table = pyarrow.parquet.read_table(run.predictions)
    assert table.schema.metadata[b"unit"] == b"eV"
    assert table.column_names == PROPERTIES + (["components", *FORCES] if forces else [])
    assert table.num_rows == 3
    for name, values in run.table().items():
        assert np.array_equal(table[name].to_numpy(), values), name
    metrics = read_json(run.metrics)
    assert metrics["unit"] == "eV"
    assert set(metrics) == {"unit", "property"} | ({"force"} if forces else set())
    difference = given["prediction"] - given["label"]
    assert metrics["property"]["n"] == 3
    assert metrics["property"]["mae"] == pytest.approx(np.abs(difference).mean(), rel=1e-14)
    assert metrics["property"]["rmse"] == pytest.approx(np.sqrt((difference**2).mean()), rel=1e-14)
    expected = np.abs(0.25 - given["label"]).mean()
    assert metrics["property"]["baseline_mae"] == pytest.approx(expected, rel=1e-14)
    expected = np.abs(given["naive"] - given["label"]).mean()
    assert metrics["property"]["naive_mae"] == pytest.approx(expected, rel=1e-14)
    if forces:
        error = np.abs(given["force_prediction"] - labels())
        assert metrics["force"]["mae"] == pytest.approx(error.mean(), rel=1e-14)
        assert metrics["force"]["rmse"] == pytest.approx(np.sqrt((error**2).mean()), rel=1e-14)
        assert metrics["force"]["n"] == 18
        naive = given["naive_force_absolute"].sum() / 18
        assert metrics["force"]["naive_mae"] == pytest.approx(naive, rel=1e-14)
        assert metrics["force"]["baseline_mae"] == pytest.approx(np.abs(labels()).mean())


def test_a_force_is_stored_once_in_four_bytes(tmp_path: Path) -> None:
    """Of a frame of many atoms its force components are all that counts."""
    run = Run(tmp_path, outputs(True))
    run.evaluate()
    of_forces = load_file(run.outputs)["force_prediction"]
    assert of_forces.dtype == np.float32
    rows = pyarrow.parquet.read_table(run.predictions)
    assert rows.num_rows == len(IDS)  # whatever their number of atoms
    assert {rows[name].type.bit_width for name in rows.column_names} == {64}


def test_forces_are_compared_with_the_labels_of_their_own_molecules(tmp_path: Path) -> None:
    """The store has them in another order; the twin takes its order for the outputs'."""
    run = Run(tmp_path, outputs(True))
    wanted = np.abs(run.given["force_prediction"] - labels()).sum(axis=1)
    ends = np.cumsum(ATOMS)
    frames = [wanted[end - count : end].sum() for end, count in zip(ends, ATOMS, strict=True)]
    table = run.table()
    assert table["force_absolute"] == pytest.approx(frames, rel=1e-14)
    assert table["components"].tolist() == [6, 3, 9]
    twin = np.concatenate([labels()[2:3], labels()[:2], labels()[3:]])
    broken = np.abs(run.given["force_prediction"] - twin).sum()
    assert table["force_absolute"].sum() != pytest.approx(broken, rel=1e-3)


def test_perfect_predictions_have_no_error(tmp_path: Path) -> None:
    given = outputs(True)
    given["prediction"] = given["label"]
    exact = labels().astype(np.float32)
    given["force_prediction"] = exact
    found = errors(Run(tmp_path, given, exact.astype(np.float64)).table())
    for kind in ("property", "force"):
        assert found[kind]["mae"] == found[kind]["rmse"] == 0.0
        assert found[kind]["baseline_mae"] > 0


@pytest.mark.parametrize("name", ["prediction", "force_prediction"])
def test_non_finite_predictions_are_not_written_as_numbers(name: str, tmp_path: Path) -> None:
    given = outputs(True)
    given[name][1] = np.nan
    run = Run(tmp_path, given)
    with pytest.raises(Exception, match=r"(?i)finite|nan|JSON"):
        run.evaluate()
    assert not run.metrics.exists()


def test_outputs_of_other_molecules_are_refused(tmp_path: Path) -> None:
    given = outputs(True)
    given["force_prediction"] = given["force_prediction"][:-1]
    with pytest.raises(DataError, match=r"has forces \[5, 3\]; .*store has 6 atoms"):
        Run(tmp_path, given).evaluate()
    save_file(outputs(True) | {"ids": np.array([7, 3, 8])}, tmp_path / "outputs.safetensors")
    with pytest.raises(DataError, match="8: unknown molecule id"):
        prediction_table(tmp_path / "outputs.safetensors", tmp_path / "store")


def test_energies_per_atom_are_those_per_molecule_over_its_atoms(tmp_path: Path) -> None:
    """A molecule's error over its own atoms, not the mean error over the mean number of atoms."""
    given = outputs(True)
    found = errors(Run(tmp_path, given).table())
    for name in ("prediction", "baseline", "naive"):
        prefix = "" if name == "prediction" else f"{name}_"
        each = (given[name] - given["label"]) / ATOMS
        entry = found["property"]
        assert entry[f"{prefix}mae_per_atom"] == pytest.approx(np.abs(each).mean(), rel=1e-14)
        assert entry[f"{prefix}rmse_per_atom"] == pytest.approx(np.sqrt((each**2).mean()))
        assert entry[f"{prefix}mae_per_atom"] != pytest.approx(entry[f"{prefix}mae"] / 2)
    assert not [key for key in found["force"] if "per_atom" in key]


def test_properties_and_molecules_without_forces_have_none_per_atom(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
    assert "mae_per_atom" not in errors(Run(tmp_path / "a", outputs(False)).table())["property"]
    unknown = labels()
    unknown[:2] = np.nan  # of the first molecule
    found = errors(Run(tmp_path / "b", outputs(True), unknown).table())
    assert "mae_per_atom" not in found["property"]
    assert found["force"]["n"] == 12


def test_single_errors_per_atom_average_to_the_metric(tmp_path: Path) -> None:
    """What a table compares by molecule is what it shows; the twin is off by the atoms."""
    run = Run(tmp_path, outputs(True))
    run.evaluate()
    read, metrics = read_predictions(run.predictions, "p"), read_json(run.metrics)
    for metric in ("mae", "mae_per_atom", "rmse", "rmse_per_atom"):
        found = single_errors(read, "property", metric, "p").errors.mean()
        assert found == pytest.approx(metrics["property"][metric], rel=1e-12)
    for metric in ("mae", "rmse"):
        found = single_errors(read, "force", metric, "p").errors.mean()
        assert found == pytest.approx(metrics["force"][metric], rel=1e-12)
    assert metrics["property"]["mae"] != pytest.approx(metrics["property"]["mae_per_atom"], rel=0.1)


@pytest.mark.parametrize("most", [1, 2, 5, 100])
def test_parts_of_any_size_give_the_same_rows_and_errors(
    most: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    unknown = labels()
    unknown[2] = np.nan  # of the molecule with one atom: no forces known
    run = Run(tmp_path, outputs(True), unknown, cold=[3], hot=[9, 7])
    wanted = run.table()
    monkeypatch.setattr("georecon.stages.evaluate.PART_ATOMS", most)
    run.evaluate()
    stored = pyarrow.parquet.read_table(run.predictions)
    assert {name: stored[name].to_pylist() for name in wanted} == {
        name: values.tolist() for name, values in wanted.items()
    }
    found = read_json(run.metrics)
    assert found == {"unit": "eV", **all_errors(wanted, {"cold": np.array([3]),
                                                         "hot": np.array([9, 7])})}  # fmt: skip
    assert "force" not in found["parts"]["cold"]
