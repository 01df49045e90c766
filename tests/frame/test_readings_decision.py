"""The rule that was written down before the readings ran, on numbers made up to decide it."""

from __future__ import annotations

from types import ModuleType

import pytest

from georecon.experiments.experiments import Experiments
from tests.frame.repository import load_script
from tests.projects import ROOT

ARMS = ("coord", "georecon__decoder", "fp", "georecon", "georecon__nocode", "georecon__shuffled")
FORCES = ("ethanol", "malonaldehyde", "toluene")
COLUMNS = {
    "readings": ("homo_validation", "u0_validation"),
    "readings_forces": tuple(f"{name}_force_validation" for name in FORCES),
}
Tables = dict[str, dict[tuple[str, str], dict[int, float]]]


@pytest.fixture(scope="module")
def decision() -> ModuleType:
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(ROOT / "benchmarks"))  # where it finds publish.py
        return load_script(ROOT / "benchmarks/readings_decision.py")


def tables(**better: tuple[str, ...]) -> Tables:
    """Errors of 100 by arm, column and seed, but 90 for an arm in the columns named for it."""
    return {
        table: {
            (arm, column): {
                seed: (90.0 if column.partition("_")[0] in better.get(arm, ()) else 100.0)
                + 5.0 * seed
                + 0.1 * ((ARMS.index(arm) + seed) % 3)
                for seed in (1, 2, 3)
            }
            for arm in ARMS
            for column in columns
        }
        for table, columns in COLUMNS.items()
    }


ALL = ("homo", "u0", *FORCES)


@pytest.mark.parametrize(
    ("better", "default"),
    [
        ({}, "georecon__decoder"),
        ({"fp": ("homo",)}, "georecon__decoder"),
        ({"fp": ("homo", "u0")}, "fp"),
        ({"fp": ("u0", *FORCES)}, "fp"),
        ({"georecon": ("homo", "u0")}, "georecon__decoder"),
        ({"georecon": ALL}, "georecon"),
        ({"fp": ALL, "georecon": ALL}, "fp"),
    ],
)
def test_the_rule(decision: ModuleType, better: dict[str, tuple[str, ...]], default: str) -> None:
    assert decision.default(decision.differences(tables(**better))) == default


def test_seeds_are_paired(decision: ModuleType) -> None:
    """Seeds differ by five and arms by ten: unpaired, the interval would include zero."""
    found = decision.differences(tables(fp=ALL))
    (one,) = (
        d for d in found if (d.arm, d.other, d.quantity) == ("fp", "georecon__decoder", "HOMO")
    )
    assert one.surely_better
    broken = tables(fp=ALL)
    cell = broken["readings"]["fp", "homo_validation"]
    cell[1], cell[3] = cell[3], cell[1]
    found = decision.differences(broken)
    (one,) = (
        d for d in found if (d.arm, d.other, d.quantity) == ("fp", "georecon__decoder", "HOMO")
    )
    assert not one.surely_better


def test_forces_are_the_mean_over_sets_of_relative_differences(decision: ModuleType) -> None:
    made = tables()
    for arm in ARMS:  # toluene in another unit changes nothing
        cell = made["readings_forces"][arm, "toluene_force_validation"]
        made["readings_forces"][arm, "toluene_force_validation"] = {
            s: 7.0 * v for s, v in cell.items()
        }
    for one, other in zip(decision.differences(tables()), decision.differences(made), strict=True):
        assert one.by_seed == pytest.approx(other.by_seed)


def test_its_rows_and_columns_are_those_of_the_edition(decision: ModuleType) -> None:
    """The tables that ``readings`` makes have every row and column that the rule reads."""
    experiments = Experiments.load(ROOT / "config", {"edition": "readings"})
    for table, columns in decision.QUANTITIES.values():
        spec = experiments.tables.spec(table)
        assert set(columns) <= {column.key for column in spec.columns}
        arms = {arm for pair in decision.PAIRS for arm in pair}
        assert arms <= {row.key for row in spec.rows}
