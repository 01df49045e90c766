"""Results as DataFrames are those of the tables; looks do not depend on the user's settings."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import matplotlib
import numpy as np
import pytest

from georecon.errors import DataError
from georecon.experiments.experiments import Experiments
from georecon.files import read_json, write_json
from georecon.reporting.figures.inputs import figure_spec
from georecon.reporting.figures.shared import COLOURS, Results, unit_text
from tests import toy_results as toy


@pytest.fixture(scope="module")
def experiments() -> Experiments:
    return toy.many_methods(toy.experiments_of("tiny"))


@pytest.fixture(scope="module", autouse=True)
def written(experiments: Experiments, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Results of four seeds in a folder of their own; the tests work in it."""
    folder = tmp_path_factory.mktemp("shared")
    with pytest.MonkeyPatch.context() as patch, matplotlib.rc_context():
        patch.chdir(folder)
        toy.write_results(experiments)
        yield folder


def results(experiments: Experiments, figure: str) -> Results:
    return Results(figure, "tiny", figure_spec(experiments, figure).as_json())


def table(name: str) -> dict:
    return read_json(f"results/tiny/tables/{name}.json")


def test_cells_are_the_tables(experiments: Experiments) -> None:
    frame = results(experiments, "smoothness").cells()
    cells = {(c["row"], c["column"]): c for c in table("smoothness")["cells"]}
    assert len(frame)
    for (row, column), own in frame.groupby(["row", "column"]):
        cell = cells[row, column]
        assert dict(zip(own["seed"].map(str), own["value"], strict=True)) == cell["values"]
        for name, value in (("mean", "value"), ("low", "low"), ("high", "high")):
            assert own[name].iloc[0] == cell[value]
    assert set(frame["x"]) == {0.01, 0.04, 0.1}
    assert "molecules not converged" not in set(frame["panel"])


def test_empty_cells_are_left_out(experiments: Experiments) -> None:
    before = table("noise_scale")
    content = table("noise_scale")
    for cell in content["cells"]:
        if cell["row"] == "0.04":
            cell.update(value=None, low=None, high=None, n=0, values={}, reason="not here")
    write_json("results/tiny/tables/noise_scale.json", content)
    frame = results(experiments, "ablations").cells()
    write_json("results/tiny/tables/noise_scale.json", before)
    assert set(frame[frame["table"] == "noise of the reconstruction pass"]["row"]) == {"0.4"}


def test_differences_are_the_tables_in_percent(experiments: Experiments) -> None:
    for figure, reference in (("errors_by_method", "scratch"), ("paired_differences", "coord")):
        frame = results(experiments, figure).differences(reference)
        content = table("qm9")
        means = {(c["row"], c["column"]): c["value"] for c in content["cells"]}
        one = next(
            d
            for d in content["comparison"]["differences"]
            if (d["row"], d["reference"], d["column"]) == ("georecon", reference, "homo")
        )
        (own,) = frame[(frame["method"] == "georecon") & (frame["column"] == "homo")].to_dict(
            "records"
        )
        base = means[reference, "homo"]
        assert own["difference"] == pytest.approx(100 * one["value"] / base)
        assert own["low"] == pytest.approx(100 * one["low"] / base)
        assert own["high"] == pytest.approx(100 * one["high"] / base)
        assert own["seeds"] == 4
        assert reference not in set(frame["method"])
        md17 = frame["table"] == "xmd17"
        forces = frame[md17 & (frame["quantity"] == "force")]
        assert set(forces["column"]) == {"ethanol"}


def test_mean_error_of_the_predictions_is_the_tables(experiments: Experiments) -> None:
    frame = results(experiments, "predictions").predictions()
    cells = {(c["row"], c["column"]): c["value"] for c in table("qm9")["cells"]}
    assert set(frame["panel"]) == {"HOMO", "α"}
    for method, own in frame[frame["panel"] == "HOMO"].groupby("method"):
        assert own["error"].abs().mean() == pytest.approx(cells[method, "homo"], rel=1e-9)
        assert set(own["unit"]) == {"meV"}
        assert not np.allclose(own["label_value"], own["prediction"])


def test_curves_are_in_the_tables_unit(experiments: Experiments) -> None:
    frame = results(experiments, "finetuning_curves").curves()
    homo = frame[frame["panel"] == "HOMO"]
    np.testing.assert_allclose(homo["error"], 1000 * homo["val_mae"])
    force = frame[frame["panel"] == "xmd17 ethanol"]
    np.testing.assert_allclose(force["error"], force["val_force_mae"])
    assert set(frame["seed"]) == {1, 2, 3, 4}


def test_norms_have_every_molecule(experiments: Experiments) -> None:
    frame = results(experiments, "lipschitz_distribution").norms()
    places = frame.groupby(["method", "seed", "map", "displacement"]).size()
    assert set(places) == {16}
    assert len(places) == len(experiments.methods.names()) * 4 * 2 * 3


def test_a_scan_has_its_angles_and_the_relative_error_of_the_table(
    experiments: Experiments,
) -> None:
    frame = results(experiments, "dihedral_scan").scans()
    assert set(frame["slice"]) == {120.0, 180.0}
    assert sorted(set(frame["angle"])) == [round(330 * k / 9) for k in range(10)]
    assert set(frame["unit"]) == {"meV"}
    assert frame["reference"].min() == 0.0
    keys = ["method", "seed", "slice", "angle"]
    assert not frame.duplicated(keys).any()
    for _, run in frame.groupby(["method", "seed"]):
        assert len(run) == 20
        off = run["energy"] - run["reference"]
        assert off.mean() == pytest.approx(0.0, abs=1e-6)
        assert off.std(ddof=0) == pytest.approx(run["error"].std(ddof=0))
    whole = results(experiments, "dihedral_scan").predictions()
    assert len(whole) == 2 * len(frame), "the other half are no frames of the scan"


def test_of_frames_at_the_same_angles_the_lowest_is_shown(
    experiments: Experiments, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = results(experiments, "dihedral_scan")
    angles = found._angles(found.spec.scans[0])
    angles["angle"] = angles["angle"].iloc[0]
    monkeypatch.setattr(Results, "_angles", lambda self, scan: angles)
    frame = found.scans()
    assert len(frame) == 2 * len(found.spec.runs)
    whole = found.predictions().merge(angles, on="id")
    lowest = whole.groupby("slice")["label_value"].min()
    for place, own in frame.groupby("slice"):
        assert set(own["label_value"]) == {lowest[place]}


def test_a_scan_that_names_an_atom_too_many_is_refused(experiments: Experiments) -> None:
    spec = figure_spec(experiments, "dihedral_scan")
    (scan,) = spec.scans
    other = replace(spec, scans=(replace(scan, turned=(*scan.turned[:3], 16)),))
    with pytest.raises(DataError, match="scan of x3bpa names atom 16; allowed: 0 to 15"):
        Results("dihedral_scan", "tiny", other.as_json()).scans()


def test_dynamics_say_how_long_they_were_to_last(experiments: Experiments) -> None:
    frame = results(experiments, "energy_drift").curves()
    assert set(frame["until_fs"]) == {10.0}
    ends = frame.groupby(["method", "seed", "start"])["time_fs"].max()
    assert {end for (_, _, start), end in ends.items() if start == 0} == {10.0}
    assert {end for (_, _, start), end in ends.items() if start == 1} == {5.0}


def test_colours_and_markers_stay_with_their_method_and_differ(experiments: Experiments) -> None:
    many = results(experiments, "smoothness")
    few = results(toy.experiments_of("tiny"), "smoothness")
    assert {name: many.colours[name] for name in few.colours} == few.colours
    assert many.colours["coord"] == COLOURS["coord"]
    assert len(set(many.colours.values())) == len(many.colours)
    assert len(set(many.markers.values())) == len(many.markers)


def test_settings_of_matplotlib_do_not_matter(experiments: Experiments) -> None:
    def drawn() -> bytes:
        own = results(experiments, "smoothness")
        figure, (axes,) = own.grid(1, columns=1, height=1.5)
        axes.plot([1, 2], [-1, 1])
        own.legend(figure, ["coord"])
        return own.finish(figure, note="A line.")._repr_png_()

    plain = drawn()
    hostile = {"savefig.bbox": "tight", "axes.grid.axis": "x", "font.size": 20.0}
    matplotlib.rcParams.update(hostile)
    assert drawn() == plain


def test_units_are_shown_and_pure_numbers_have_none() -> None:
    assert unit_text("a0^3") == " [a₀³]"
    assert unit_text("1") == unit_text("") == ""
