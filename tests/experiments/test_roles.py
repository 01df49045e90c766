"""Parts of an edition are names of one's own: two property sets and two force sets."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from georecon.errors import ConfigError
from georecon.experiments.config import config_json, load_config, merge
from georecon.experiments.experiments import Experiments
from georecon.experiments.trainings import trainings
from georecon.reporting.figures.inputs import figure_spec
from georecon.reporting.summary import banner

CONFIG = Path(__file__).resolve().parents[2] / "config"
SMALL = {"rule": "random", "train": 30, "val": 10, "test": 20, "seed": 4}


def given(**more: Any) -> dict[str, Any]:
    """The tiny edition with a second property set and a second force set under own names."""
    edition = config_json(load_config(CONFIG, {"edition": "tiny"}))
    tuned = edition["finetune"]
    polymers = {
        "kind": "properties",
        "units": {"gap": "eV", "mass": "1"},
        "sources": {
            "own": {
                "reader": "frames",
                "raw_units": {"gap": "eV", "mass": "1"},
                "files": {"all_of_them": {"local": "polymers.xyz"}},
            }
        },
        "targets": {"gap": {"table_unit": "meV"}, "mass": None},
    }
    energies = {"quantities": ["energy", "force"], "baseline": "Training mean"}
    return {
        "edition": "tiny",
        "sets": {
            "revised": {"dataset": "rmd17", "label": "revised forces"},
            "polymers": {"dataset": "polymers"},
        },
        "datasets": {"polymers": polymers},
        "finetune": {
            "revised": {**tuned["force"], "split": {"name": "few", **SMALL, "train": 40}},
            "polymers": {
                **tuned["property"],
                "noise_sigma": 0.0,
                "split": {"name": "few", **SMALL},
            },
        },
        "tables": {
            "rmd17": {
                "title": "{title}: errors",
                "caption": "Errors.",
                "rows": {"methods": "all", **energies},
                "columns": [{"source": "finetune", "set": "revised", "targets": ["ethanol"]}],
            },
            "polymers": {
                "title": "{title}: errors",
                "caption": "Errors.",
                "rows": {"methods": "all"},
                "columns": [{"source": "finetune", "set": "polymers"}],
            },
        },
        **more,
    }


@pytest.fixture(scope="module")
def both() -> Experiments:
    return Experiments.load(CONFIG, given())


def test_each_set_has_its_split_recipe_and_table(both: Experiments) -> None:
    assert both.data.finetune_parts() == [
        *("property", "force", "large_force", "out_of_distribution", "revised", "polymers")
    ]
    few = both.data.split_plan("rmd17", "ethanol_few")
    assert (few.train, few.val, few.test, few.seed) == (40, 10, 20, 4)
    assert both.data.split_plan("polymers", "few").train == 30
    assert both.data.split("force", "ethanol", 1) != both.data.split("revised", "ethanol", 1)
    assert both.runs.recipe("revised", "ethanol").forces
    recipe = both.runs.recipe("polymers", "gap")
    assert not recipe.forces
    assert (recipe.noise_sigma, both.runs.recipe("property", "homo").noise_sigma) == (0.0, 0.005)
    assert both.tables.spec("rmd17").title == "rMD17: errors"
    assert [c.key for c in both.tables.columns("polymers")] == ["gap", "mass"]
    files = both.tables.files("rmd17")
    assert files
    assert all("/finetune/revised/ethanol/" in file for file in files)
    assert {run.part for run in trainings(both, "polymers") if run.target} == {"polymers"}


def test_the_other_tables_stay_as_they_are(both: Experiments) -> None:
    tiny = Experiments.load(CONFIG, {"edition": "tiny"})
    for table in tiny.tables.names():
        assert both.tables.spec(table) == tiny.tables.spec(table), table


def test_reports_call_them_by_their_names(both: Experiments) -> None:
    text = banner(both)
    assert "- revised forces: rMD17" in text
    assert "- polymers: polymers" in text
    spec = figure_spec(both, "predictions")
    assert {run.path.split("/")[3] for run in spec.runs} == {"property", "polymers"}


def test_pretraining_looks_at_every_test_set() -> None:
    found = Experiments.load(CONFIG, given(pretrain={"exclude_leaks": True}))
    plan = found.data.split_plan("qm9", "pretrain_tiny")
    assert {test.split.split("/")[2] for test in plan.tests} == {
        "qm9", "xmd17", "xmd22", "x3bpa", "rmd17", "polymers"
    }  # fmt: skip


def again(**split: Any) -> dict[str, Any]:
    """The section of the revised forces for a second part on the same dataset."""
    section = given()["finetune"]["revised"]
    return {**section, "split": {**section["split"], **split}}


def test_two_parts_may_share_a_dataset_and_a_split() -> None:
    """As sets of many and of few labels do; each has runs of its own."""
    sets = {"again": {"dataset": "rmd17"}}
    few = merge(given(), {"sets": sets, "finetune": {"again": again(name="fewer", train=20)}})
    same = merge(given(), {"sets": sets, "finetune": {"again": again()}})
    for document, equal in ((few, False), (same, True)):
        found = Experiments.load(CONFIG, document)
        first, second = (found.data.split(part, "ethanol", 1) for part in ("revised", "again"))
        assert (first == second) is equal
        folders = {found.runs.finetune_folder(p, "ethanol", "coord", 1) for p in found.config.sets}
        assert len(folders) == len(found.config.sets)


BAD: dict[str, tuple[dict[str, Any], list[str]]] = {
    "section of no part": (
        {"finetune": {"revisd": {}}}, ["finetune.revisd: unknown key", "did you mean 'revised'?"]
    ),
    "two splits of one dataset with one name": (
        {"sets": {"again": {"dataset": "rmd17"}}, "finetune": {"again": again(train=41)}},
        ["finetune.again.split.name: is 'few', as finetune.revised's", "another split"],
    ),
    "draws of published lists": (
        {"finetune": {"revised": {"split": {
            "rule": "index", "number": 1, "test": None, "draws": True}}}},
        ["finetune.revised.split.number: is 1; draws take the seed's own: write null"],
    ),
    "a seed that no published split has": (
        {"finetune": {"seeds": [1, 6], "revised": {"split": {
            "rule": "index", "test": None, "draws": True}}}},
        ["finetune.revised.split.draws: is true; seed 6 is the number of no published split: 1 to"],
    ),
    "a unit of another quantity": (
        {"tables": {"rmd17": {"units": {"force": "meV"}}}},
        ["tables.rmd17.units.force: is 'meV'; allowed: eV/Å, meV/Å"],
    ),
    "validation errors per atom": (
        {"tables": {"rmd17": {"rows": {"quantities": ["energy_per_atom"]}, "columns": [
            {"source": "finetune", "set": "revised", "metric": "validation"}]}}},
        ["tables.rmd17.columns.0.metric: is 'validation'; energy_per_atom has test errors only"],
    ),
    "comparison with a method that has no row": (
        {"tables": {"rmd17": {"rows": {"compare": ["cord"]}}}},
        ["tables.rmd17.rows.compare.0: is 'cord'", "did you mean 'coord'?"],
    ),
    "part without a section": (
        {"sets": {"spare": {"dataset": "rmd17"}}}, ["finetune.spare: missing"]
    ),
    "forces of a property set": (
        {"tables": {"polymers": {"rows": {"quantities": ["energy", "force"]}}}},
        ["tables.polymers.columns.0.set: is 'polymers', of kind properties"],
    ),
    "unknown target": (
        {"tables": {"polymers": {"columns": [
            {"source": "finetune", "set": "polymers", "targets": ["gab"]}]}}},
        ["tables.polymers.columns.0.targets.0: is 'gab'", "did you mean 'gap'?"],
    ),
    "smoothness on a part without data": (
        {"smoothness": {"set": "large_force"}, "sets": {"large_force": {"missing": "not here"}}},
        ["smoothness.set: is 'large_force'", "polymers"]
    ),
    "dynamics of no part": (
        {"nve": {"set": "forse"}}, ["nve.set: is 'forse'; allowed: ", "did you mean 'force'?"]
    ),
    "dynamics of no molecule": (
        {"nve": {"target": "ethanal"}}, ["nve.target: is 'ethanal'", "did you mean 'ethanol'?"]
    ),
    "a number that dynamics do not have": (
        {"tables": {"physics": {"columns": [{"source": "nve", "metric": "drft", "label": "x"}]}}},
        ["tables.physics.columns.0.metric: is 'drft'", "did you mean 'drift'?"],
    ),
    "a test part of no dataset": (
        {"tables": {"physics": {"columns": [{"source": "finetune", "set": "out_of_distribution",
            "parts": ["dihedral"], "quantity": "energy", "metric": "relative"}]}}},
        ["tables.physics.columns.0.parts.0: is 'dihedral'", "did you mean 'dihedrals'?"],
    ),
    "relative forces": (
        {"tables": {"rmd17": {"columns": [
            {"source": "finetune", "set": "revised", "metric": "relative"}]}}},
        ["tables.rmd17.columns.0.metric: is 'relative'; needs quantity energy"],
    ),
    "two computed files of one seed": (
        {"datasets": {"x3bpa": {"sources": {"short": {"files": {"short_test_300K": {
            "simulation": {"seed": 1}}}}}}}},
        ["datasets.x3bpa.sources.short.files.short_test_300K.simulation: has the molecule, ",
         "the same trajectory; give it another seed"],
    ),
    "a split called as pre-training's": (
        {"finetune": {"property": {"split": {"name": "pretrain_tiny"}}}},
        ["finetune.property.split.name: is 'pretrain_tiny'", "pre-training"],
    ),
    "a part called as a key": (
        {"sets": {"seeds": {"dataset": "md17"}}}, ["sets.seeds: the name is taken"]
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD)
def test_what_does_not_fit_is_refused(case: str) -> None:
    change, words = BAD[case]
    with pytest.raises(ConfigError) as error:
        load_config(CONFIG, merge(given(), change))
    for word in words:
        assert word in str(error.value), f"{word!r} not in {error.value}"
