"""From test outputs to predictions and errors."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow
import pyarrow.parquet
import pytest
from safetensors.numpy import save_file

from georecon.data.split import Split, write_split
from georecon.files import read_json
from georecon.reporting.comparison import read_predictions, single_errors
from georecon.stages.evaluate import all_errors, errors, evaluate, prediction_table


def outputs(forces: bool) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(1)
    found = {
        "ids": np.array([7, 3, 9]),
        "label": rng.normal(size=3),
        "prediction": rng.normal(size=3),
        "baseline": np.full(3, 0.25),
        "naive": rng.normal(size=3),
    }
    if forces:
        found["atoms"] = np.array([2, 1, 3])
        found["force_label"] = rng.normal(size=(6, 3))
        found["force_prediction"] = rng.normal(size=(6, 3))
        found["force_naive"] = rng.normal(size=(6, 3))
    return found


META = {"rule": "toy", "seed": 0, "store_sha256": ""}


def whole(given: dict[str, np.ndarray], folder: Path) -> Path:
    """The split of a run without test parts."""
    write_split(folder / "s.npz", Split(np.array([1]), np.array([2]), given["ids"]), META)
    return folder / "s.npz"


def test_parts_of_a_test_set_have_errors_of_their_own(tmp_path: Path) -> None:
    given = outputs(True)
    save_file(given, tmp_path / "outputs.safetensors")
    parts = {"cold": np.array([3]), "hot": np.array([9, 7])}
    split = Split(np.array([1]), np.array([2]), np.array([3, 9, 7]), parts)
    write_split(tmp_path / "s.npz", split, META)
    paths = tmp_path / "predictions.parquet", tmp_path / "metrics.json"
    evaluate(tmp_path / "outputs.safetensors", tmp_path / "s.npz", *paths, unit="eV")
    metrics = read_json(paths[1])
    assert list(metrics["parts"]) == ["cold", "hot"]
    cold, hot = metrics["parts"]["cold"], metrics["parts"]["hot"]
    # ids are 7, 3, 9 with 2, 1, 3 atoms
    energy = given["prediction"] - given["label"]
    force = given["force_prediction"] - given["force_label"]
    assert cold["property"]["rmse"] == pytest.approx(abs(energy[1]), rel=1e-14)
    assert cold["force"]["rmse"] == pytest.approx(np.sqrt((force[2] ** 2).mean()), rel=1e-14)
    assert hot["property"]["rmse"] == pytest.approx(np.sqrt((energy[[0, 2]] ** 2).mean()))
    assert hot["force"]["mae"] == pytest.approx(np.abs(force[[0, 1, 3, 4, 5]]).mean())
    assert (cold["force"]["n"], hot["force"]["n"], metrics["force"]["n"]) == (3, 15, 18)


@pytest.mark.parametrize("forces", [False, True])
def test_files_hold_every_prediction_and_the_errors_over_them(forces: bool, tmp_path: Path) -> None:
    given = outputs(forces)
    save_file(given, tmp_path / "outputs.safetensors")
    paths = tmp_path / "a" / "predictions.parquet", tmp_path / "a" / "metrics.json"
    evaluate(tmp_path / "outputs.safetensors", whole(given, tmp_path), *paths, unit="eV")
    table = pyarrow.parquet.read_table(paths[0])
    assert table.schema.metadata[b"unit"] == b"eV"
    names = ["kind", "id", "atom", "axis", "label", "prediction", "baseline", "naive"]
    assert table.column_names == names
    assert table.num_rows == 3 + (18 if forces else 0)
    metrics = read_json(paths[1])
    assert metrics["unit"] == "eV"
    assert set(metrics) == {"unit", "property"} | ({"force"} if forces else set())
    difference = given["prediction"] - given["label"]
    assert metrics["property"]["n"] == 3
    assert metrics["property"]["mae"] == pytest.approx(np.abs(difference).mean(), rel=1e-14)
    assert metrics["property"]["rmse"] == pytest.approx(np.sqrt((difference**2).mean()), rel=1e-14)
    columns = {name: pyarrow.array(values) for name, values in prediction_table(given).items()}
    assert table.equals(pyarrow.table(columns))
    expected = np.abs(0.25 - given["label"]).mean()
    assert metrics["property"]["baseline_mae"] == pytest.approx(expected, rel=1e-14)
    expected = np.abs(given["naive"] - given["label"]).mean()
    assert metrics["property"]["naive_mae"] == pytest.approx(expected, rel=1e-14)
    if forces:
        error = np.abs(given["force_prediction"] - given["force_label"]).mean()
        assert metrics["force"]["mae"] == pytest.approx(error, rel=1e-14)
        assert metrics["force"]["n"] == 18
        error = np.abs(given["force_naive"] - given["force_label"]).mean()
        assert metrics["force"]["naive_mae"] == pytest.approx(error, rel=1e-14)
        assert metrics["force"]["baseline_mae"] == pytest.approx(
            np.abs(given["force_label"]).mean()
        )


def test_force_rows_name_molecule_atom_and_axis() -> None:
    given = outputs(True)
    table = prediction_table(given)
    rows = table["kind"] == "force"
    assert table["id"][rows].tolist() == [7] * 6 + [3] * 3 + [9] * 9
    assert table["atom"][rows].tolist() == [0] * 3 + [1] * 3 + [0] * 3 + [0] * 3 + [1] * 3 + [2] * 3
    assert table["axis"][rows].tolist() == [0, 1, 2] * 6
    where = rows & (table["id"] == 9) & (table["atom"] == 2) & (table["axis"] == 1)
    assert table["label"][where].tolist() == [given["force_label"][5, 1]]
    assert table["prediction"][where].tolist() == [given["force_prediction"][5, 1]]
    assert not table["baseline"][rows].any()


def test_perfect_predictions_have_no_error() -> None:
    given = outputs(True)
    given["prediction"], given["force_prediction"] = given["label"], given["force_label"]
    found = errors(prediction_table(given))
    for kind in ("property", "force"):
        assert found[kind]["mae"] == found[kind]["rmse"] == 0.0
        assert found[kind]["baseline_mae"] > 0


def test_non_finite_predictions_are_not_written_as_numbers(tmp_path: Path) -> None:
    given = outputs(False)
    given["prediction"][1] = np.nan
    save_file(given, tmp_path / "outputs.safetensors")
    with pytest.raises(Exception, match=r"(?i)finite|nan|JSON"):
        evaluate(
            tmp_path / "outputs.safetensors",
            whole(given, tmp_path),
            tmp_path / "p.parquet",
            tmp_path / "m.json",
            unit="eV",
        )
    assert not (tmp_path / "m.json").exists()


def test_energies_per_atom_are_those_per_molecule_over_its_atoms() -> None:
    """A molecule's error over its own atoms, not the mean error over the mean number of atoms."""
    given = outputs(True)
    found = errors(prediction_table(given))
    for name in ("prediction", "baseline", "naive"):
        prefix = "" if name == "prediction" else f"{name}_"
        each = (given[name] - given["label"]) / np.array([2, 1, 3])
        entry = found["property"]
        assert entry[f"{prefix}mae_per_atom"] == pytest.approx(np.abs(each).mean(), rel=1e-14)
        assert entry[f"{prefix}rmse_per_atom"] == pytest.approx(np.sqrt((each**2).mean()))
        assert entry[f"{prefix}mae_per_atom"] != pytest.approx(entry[f"{prefix}mae"] / 2)
    assert not [key for key in found["force"] if "per_atom" in key]


def test_properties_and_molecules_without_forces_have_none_per_atom() -> None:
    assert "mae_per_atom" not in errors(prediction_table(outputs(False)))["property"]
    given = outputs(True)
    given["force_label"][:2] = np.nan  # of the first molecule
    assert "mae_per_atom" not in errors(prediction_table(given))["property"]


def test_single_errors_per_atom_average_to_the_metric(tmp_path: Path) -> None:
    """What a table compares by molecule is what it shows; the twin is off by the atoms."""
    given = outputs(True)
    save_file(given, tmp_path / "outputs.safetensors")
    path = tmp_path / "predictions.parquet"
    files = (tmp_path / "outputs.safetensors", whole(given, tmp_path), path, tmp_path / "m.json")
    evaluate(*files, unit="eV")
    read, metrics = read_predictions(path, "p"), read_json(tmp_path / "m.json")["property"]
    for metric in ("mae", "mae_per_atom", "rmse", "rmse_per_atom"):
        found = single_errors(read, "property", metric, "p").errors.mean()
        assert found == pytest.approx(metrics[metric], rel=1e-12)
    assert metrics["mae"] != pytest.approx(metrics["mae_per_atom"], rel=0.1)


@pytest.mark.parametrize("most", [1, 2, 5, 100])
def test_parts_of_any_size_give_the_same_rows_and_errors(
    most: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = outputs(True)
    given["force_label"][2] = np.nan  # of the molecule with one atom: no forces known
    save_file(given, tmp_path / "outputs.safetensors")
    parts = {"cold": np.array([3]), "hot": np.array([9, 7])}
    split = Split(np.array([1]), np.array([2]), np.array([3, 9, 7]), parts)
    write_split(tmp_path / "s.npz", split, META)
    monkeypatch.setattr("georecon.stages.evaluate.PART_ATOMS", most)
    paths = tmp_path / "predictions.parquet", tmp_path / "metrics.json"
    evaluate(tmp_path / "outputs.safetensors", tmp_path / "s.npz", *paths, unit="eV")
    whole = prediction_table(given)
    columns = {name: pyarrow.array(values) for name, values in whole.items()}
    assert pyarrow.parquet.read_table(paths[0]).equals(pyarrow.table(columns))
    wanted = all_errors(whole, parts)
    found = read_json(paths[1])
    for kind in ("property", "force"):
        assert found[kind] == pytest.approx(wanted[kind], rel=1e-14)
        for name in set(parts) & set(found["parts"]):
            assert found["parts"][name].get(kind) == (
                pytest.approx(wanted["parts"][name][kind], rel=1e-14)
                if kind in wanted["parts"][name]
                else None
            )
    assert "force" not in found["parts"]["cold"]
    groups = pyarrow.parquet.ParquetFile(paths[0]).num_row_groups
    assert groups == {1: 3, 2: 3, 5: 3, 100: 2}[most]  # that without known forces is empty
