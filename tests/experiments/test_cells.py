"""What runs an edition has, and which runs each table cell is made of."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from georecon.data.cards import computed_files
from georecon.errors import ConfigError
from georecon.experiments.experiments import Experiments
from georecon.experiments.tables import predictions
from georecon.jobs.rule_values import RuleValues
from georecon.reporting.expected import load_expected

CONFIG = Path(__file__).resolve().parents[2] / "config"


def experiments(edition: str = "laptop", **overrides: Any) -> Experiments:
    return Experiments.load(CONFIG, {"edition": edition, **overrides})


DECODER = "georecon__decoder"  # the variant that has a decoder


@pytest.fixture(scope="module")
def laptop() -> Experiments:
    return experiments()


def test_a_variant_with_an_objective_has_parameters_of_its_own(laptop: Experiments) -> None:
    of = laptop.methods.entry("georecon")
    found = laptop.methods.entry(DECODER)
    assert found.objective == "reconstruct" != of.objective
    assert "clean_noise" in of.params
    assert "clean_noise" not in found.params
    assert DECODER not in laptop.methods.names()


def test_sweep_value_of_the_method_itself_is_the_method(laptop: Experiments) -> None:
    swept = {"noise_scale": ("georecon", "sigma_rec"), "decoder_depth": (DECODER, "depth")}
    variants = set()
    for table, (method, parameter) in swept.items():
        own = str(laptop.config.methods[method].params[parameter])
        rows = {row.key: row.method for row in laptop.tables.rows(table)}
        assert rows.pop(own) == method
        assert all(other.startswith(f"{method}__") for other in rows.values())
        variants |= set(rows.values())
    assert laptop.methods.variants().keys() == variants


def test_no_table_of_the_default_edition_is_empty(laptop: Experiments) -> None:
    """Cells are empty where data of that name cannot exist, and give the card's reason."""
    files = laptop.data.card("xmd22").sources["computed"].files
    reasons = {file.missing for file in files.values() if file.missing}
    for table in laptop.tables.names():
        cells = laptop.tables.spec(table).cells
        empty = {cell.reason for cell in cells} - {None}
        assert len([cell for cell in cells if cell.reason is None]) > 0, table
        assert empty == (reasons if table == "md22" else set()), table


@pytest.mark.parametrize("edition", ["tiny", "laptop", "evidence", "workstation", "paper"])
def test_ablations_show_homo_and_the_enthalpy(edition: str) -> None:
    """A list of the paper's experiments names one on H; the claims are judged by both."""
    found = experiments(edition)
    expected = load_expected(CONFIG.parent / "reports" / "expected")
    for table in ("noise_scale", "decoder_depth"):
        columns = [c for c in found.tables.columns(table) if c.source == "finetune"]
        assert [c.key for c in columns if c.part == "property"] == ["homo", "h"]
        assert [c.unit for c in columns if c.part == "property"] == ["meV", "meV"]
        (test,) = (test for claim in expected[table].claims for test in claim.tests)
        assert test.columns == ("homo", "h")


def test_variant_differs_from_its_method_in_the_swept_parameter_alone(laptop: Experiments) -> None:
    for name, change in laptop.methods.variants().items():
        base = laptop.runs.pretrain_settings(change.method, 1).as_json()
        found = laptop.runs.pretrain_settings(name, 1).as_json()
        assert found["params"] == {**base["params"], change.parameter: change.value}
        assert {k for k in found if found[k] != base[k]} == {"name", "method", "params"}


def test_a_variant_is_its_method_with_some_keys_changed() -> None:
    paper = experiments("paper")
    base = paper.runs.pretrain_settings(DECODER, 1).as_json()
    found = paper.runs.pretrain_settings("georecon__noclean", 1).as_json()
    weights = {**base["params"]["weights"], "clean": 0.0}
    assert found["params"] == {**base["params"], "weights": weights}
    assert {key for key in found if found[key] != base[key]} == {"name", "method", "params"}
    assert "georecon__noclean" not in paper.methods.names()
    assert "no clean head" in [row.label for row in paper.tables.rows("choices")]
    assert "no clean head" not in [row.label for row in paper.tables.rows("qm9")]


def test_every_variant_is_a_row_of_a_table_of_the_paper_edition() -> None:
    paper = experiments("paper")
    shown = {row.method for table in paper.config.tables for row in paper.tables.rows(table)}
    assert shown >= set(paper.config.methods)


def test_equal_compute_trains_longer_and_warms_up_in_proportion() -> None:
    paper = experiments("paper")
    usual, long = (
        paper.runs.pretrain_settings(name, 1).as_json()["train"] for name in ("coord", "coord_long")
    )
    factor = paper.config.methods["coord_long"].steps_factor
    assert factor > 1
    for name in ("steps", "warmup"):
        assert long[name] == round(factor * usual[name])
    assert {k for k in long if long[k] != usual[k]} == {"steps", "warmup"}


def test_an_edition_switches_a_method_or_table_off_with_null(laptop: Experiments) -> None:
    assert laptop.methods.names() == ["scratch", "coord", "coord_long", "georecon"]
    assert "choices" not in experiments("tiny").config.tables
    assert {"frad", "coord_long"} < set(experiments("paper").methods.names())
    more = experiments(tables={"unimol": None})
    assert set(laptop.config.tables) - set(more.config.tables) == {"unimol"}


def test_a_new_method_becomes_a_row_of_every_table_of_all_methods(laptop: Experiments) -> None:
    mine = {"label": "Mine", "objective": "denoise", "params": {"sigma": 0.1}}
    more = experiments(methods={"mine": mine})
    for table, entry in more.config.tables.items():
        before = [row.label for row in laptop.tables.rows(table)]
        after = [row.label for row in more.tables.rows(table)]
        if not more.tables.compares_methods(table):
            assert after == before, table
            continue
        quantities = len(entry.rows.quantities or (None,))
        assert len(after) == len(before) + quantities, table
        assert sum("Mine" in label for label in after) == quantities
        new = {file for file in more.tables.files(table)} - set(laptop.tables.files(table))
        assert all("/mine/" in file for file in new)
        assert bool(new) == any(
            not more.tables.missing(table, c) for c in more.tables.columns(table)
        ), table


def without_md22() -> Experiments:
    return experiments(sets={"large_force": {"missing": "not here"}})


def test_missing_set_gives_its_reason_and_no_files() -> None:
    found = without_md22()
    spec = found.tables.spec("md22").as_json()
    assert spec["cells"]
    assert {cell.get("reason") for cell in spec["cells"]} == {"not here"}
    assert found.tables.files("md22") == []
    assert found.tables.leaks("md22") == []
    assert found.tables.trajectories("md22") == []


def test_a_missing_file_empties_its_column_alone(laptop: Experiments) -> None:
    cells = laptop.tables.spec("md22").cells
    files = laptop.data.card("xmd22").sources["computed"].files
    for cell in cells:
        assert cell.reason == files[cell.column].missing
        assert (cell.reason is None) == (cell.column == "Ac-Ala3-NHMe")
    assert laptop.data.tested("xmd22") == ["Ac-Ala3-NHMe"]
    evidence = experiments("evidence")
    assert evidence.data.tested("xmd22") == ["Ac-Ala3-NHMe", "DHA"]
    assert all("Ac-Ala3-NHMe" in file for file in laptop.tables.files("md22"))
    assert len(laptop.tables.leaks("md22")) == 1


@pytest.mark.parametrize("edition", ["laptop", "evidence", "tiny"])
def test_computed_sets_are_never_named_official(edition: str) -> None:
    """Twin: the paper edition has no computed file, and its names have no x."""
    found = experiments(edition)
    for table, name in (("3bpa", "x3bpa"), ("md22", "xmd22"), ("md17", "xmd17")):
        spec = found.tables.spec(table)
        assert spec.title.startswith(f"{name}:")
        assert "GFN2-xTB" in spec.caption
        assert found.tables.trajectories(table)
        assert all(f"/{name}/" in file for file in found.tables.trajectories(table))
    paper = experiments("paper")
    for table in ("3bpa", "md22", "md17"):
        assert paper.tables.trajectories(table) == []
        assert not paper.tables.spec(table).title.startswith("x")


def test_test_trajectories_have_seeds_of_their_own(laptop: Experiments) -> None:
    made = computed_files(laptop.data.card("x3bpa"))
    dynamics = {name: one for name, one in made.items() if one.scan is None}
    assert len({one.seed for one in dynamics.values()}) == len(dynamics) == 4
    assert {one.conformer_seed for one in made.values()} == {1}
    assert {name.rpartition("_")[2]: one.temperature_K for name, one in dynamics.items()} == {
        "300K": 300.0, "600K": 600.0, "1200K": 1200.0,
    }  # fmt: skip
    (scan,) = (one.scan for one in made.values() if one.scan)
    assert sorted(len(one.degrees) for one in scan.dihedrals) == [1, 3, 18]
    assert (120.0, 150.0, 180.0) in [one.degrees for one in scan.dihedrals]


def test_missing_table_gives_its_reason() -> None:
    found = experiments(tables={"unimol": {"missing": "not today"}})
    cells = found.tables.spec("unimol").as_json()["cells"]
    assert {cell["reason"] for cell in cells} == {"not today"}
    assert found.tables.files("unimol") == []


@pytest.mark.parametrize("edition", ["laptop", "paper", "tiny"])
def test_every_table_is_a_full_grid(edition: str) -> None:
    found = experiments(edition)
    for table in found.config.tables:
        spec = found.tables.spec(table).as_json()
        rows = [row["key"] for row in spec["rows"]]
        columns = [column["key"] for column in spec["columns"]]
        assert len(set(rows)) == len(rows) > 0
        assert len(set(columns)) == len(columns) > 0
        places = [(cell["row"], cell["column"]) for cell in spec["cells"]]
        assert places == [(row, column) for row in rows for column in columns]
        for cell in spec["cells"]:
            assert ("reason" in cell) != ("files" in cell)


@pytest.mark.parametrize("edition", ["laptop", "paper", "tiny"])
def test_files_of_a_table_are_those_of_its_cells(edition: str) -> None:
    found = experiments(edition)
    for table in found.config.tables:
        cells = found.tables.spec(table).as_json()["cells"]
        expected = {
            file
            for cell in cells
            for group in ("files", "divide_by")
            for file in cell.get(group, {}).values()
        }
        if found.config.tables[table].rows.compare:  # by molecule, which errors do not say
            tuned = (file for file in expected if "/finetune/" in file)
            expected |= {predictions(file) for file in tuned}
        files = found.tables.files(table)
        assert set(files) == expected
        assert len(files) == len(expected)
        assert all(file.startswith(f"results/{edition}/") for file in files)


def test_table_qm9_has_no_force_runs_and_no_variants(laptop: Experiments) -> None:
    files = laptop.tables.files("qm9")
    assert len(files) == 2 * 12 * 4 * len(laptop.config.finetune.seeds)  # errors, predictions
    assert not [file for file in files if "xmd17" in file or "__" in file]


def test_rows_without_a_model_read_the_same_runs_as_a_method(laptop: Experiments) -> None:
    cells = {(c["row"], c["column"]): c for c in laptop.tables.spec("qm9").as_json()["cells"]}
    baseline, naive, method = (cells[row, "homo"] for row in ("baseline", "naive", "scratch"))
    assert baseline["files"] == naive["files"] == method["files"]
    assert [c["key"][1] for c in (baseline, naive, method)] == ["baseline_mae", "naive_mae", "mae"]


def test_seeds_go_together_from_pre_training_to_the_draw_of_labels(laptop: Experiments) -> None:
    """Every file behind seed k of a cell is of seed k; the twin would mix encoders or labels."""
    values = RuleValues(laptop)
    for seed in laptop.config.finetune.seeds:
        assert f"/georecon/seed{seed}/" in values.encoder("georecon", seed)["encoder"]
        assert laptop.data.split("property", "homo", seed).endswith(f"_draw{seed}.npz")
        assert laptop.data.split_plan("qm9", f"pvd_small_draw{seed}").draw == seed
        assert laptop.runs.pretrain_settings("georecon", seed).seed == seed
        assert laptop.runs.finetune_settings("property", "homo", "georecon", seed).seed == seed
    cell = next(
        c for c in laptop.tables.spec("smoothness").cells if c.divide_by and c.row == "georecon"
    )
    for seed, file in cell.files.items():
        assert file.endswith(f"/seed{seed}/metrics.json")
        assert cell.divide_by[seed] == file.replace("/georecon/", "/coord/")


def test_a_table_may_have_seeds_of_its_own(laptop: Experiments) -> None:
    assert laptop.config.tables["controls"].seeds == (1,)
    cells = [c for c in laptop.tables.spec("controls").cells if c.reason is None]
    assert cells
    assert all(set(c.files) == {1} for c in cells)
    caption = laptop.tables.spec("controls").caption
    assert "Seeds 1, each" in caption


def test_validation_errors_come_from_the_runs_themselves() -> None:
    readings = experiments("readings")
    for table, key in (("readings", "val_mae"), ("readings_forces", "val_force_mae")):
        cells = [c for c in readings.tables.spec(table).cells if c.column.endswith("validation")]
        assert cells
        assert all(c.key == ("final", key) for c in cells)
        assert all(file.endswith("/run.json") for c in cells for file in c.files.values())
        assert not [f for f in readings.tables.files(table) if f.endswith(".parquet")]


def test_columns_of_one_dataset_in_several_parts_say_which() -> None:
    evidence = experiments("evidence")
    columns = evidence.tables.columns("labels")
    assert len({column.key for column in columns}) == len(columns) == 10
    assert columns[0].label.endswith("(properties, 100 labels)")


def test_force_rows_read_forces_and_energy_rows_energies(laptop: Experiments) -> None:
    for cell in laptop.tables.spec("md17").as_json()["cells"]:
        kind = "force" if cell["row"].startswith("force") else "property"
        assert cell["key"][0] == kind
        assert cell["unit"].endswith("/Å") == (kind == "force")


def test_ratio_to_coord_divides_by_coord(laptop: Experiments) -> None:
    ratios = [c for c in laptop.tables.spec("smoothness").as_json()["cells"] if "divide_by" in c]
    assert len(ratios) == len(laptop.tables.rows("smoothness"))
    for cell in ratios:
        assert all("/coord/" in file for file in cell["divide_by"].values())
        assert cell["divide_by"].keys() == cell["files"].keys()


@pytest.mark.parametrize("table", ["qm9", "md17", "smoothness", "noise_scale"])
def test_caption_has_edition_data_steps_and_seeds(table: str, laptop: Experiments) -> None:
    caption = laptop.tables.spec(table).as_json()["caption"]
    config = laptop.config
    assert "Edition laptop" in caption
    assert f"{config.encoder.channels} channels" in caption
    assert f"{config.pretrain.train.steps} steps" in caption
    if table in ("qm9", "noise_scale"):
        split = config.finetune.sets["property"].split
        assert f"{split.train} training" in caption
        seeds = config.tables[table].seeds or config.finetune.seeds
        assert f"Seeds {', '.join(map(str, seeds))}, each" in caption
    if table == "md17":
        title = config.datasets["xmd17"].title
        assert title in caption
        # named as what it is, never as MD17
        assert laptop.tables.spec(table).as_json()["title"].startswith(title.split(",")[0])


def test_caption_of_an_empty_table_names_no_runs() -> None:
    assert "Fine-tuning" not in without_md22().tables.spec("md22").as_json()["caption"]


def test_settings_hold_what_numbers_depend_on(laptop: Experiments) -> None:
    base = laptop.runs.finetune_settings("property", "homo", "georecon", 1).as_json()
    more = experiments(finetune={"property": {"train": {"steps": 151}}})
    assert more.runs.finetune_settings("property", "homo", "georecon", 1).as_json() != base
    assert more.runs.finetune_settings("force", "ethanol", "georecon", 1).as_json() == (
        laptop.runs.finetune_settings("force", "ethanol", "georecon", 1).as_json()
    )
    assert (
        more.runs.pretrain_settings("coord", 1).as_json()
        == laptop.runs.pretrain_settings("coord", 1).as_json()
    )
    titled = experiments(tables={"qm9": {"title": "other"}})
    assert titled.runs.finetune_settings("property", "homo", "georecon", 1).as_json() == base


def test_pretraining_leaves_out_what_fine_tuning_validates_and_tests(laptop: Experiments) -> None:
    plan = laptop.data.split_plan("qm9", "pretrain_laptop").as_json()
    assert plan["rule"] == "pretrain"
    (held_out,) = plan["tests"]
    assert held_out == {
        "store": "resources/store/qm9",
        "split": laptop.data.test_split("property", "homo"),
        "same": True,
    }
    assert plan["exclude_leaks"] is False


def test_exclude_leaks_looks_at_every_test_set() -> None:
    found = experiments(pretrain={"exclude_leaks": True})
    plan = found.data.split_plan("qm9", "pretrain_laptop").as_json()
    assert plan["exclude_leaks"] is True
    splits = {entry["split"]: entry["same"] for entry in plan["tests"]}
    expected = {found.data.test_split("property", "homo"): True}
    for part, dataset in (("force", "xmd17"), ("large_force", "xmd22")):
        names = found.data.tested(dataset)
        expected |= {found.data.test_split(part, name): False for name in names}
    expected |= {found.data.test_split("out_of_distribution", "3bpa"): False}
    assert splits == expected
    assert "removed from pre-training" in found.tables.spec("qm9").as_json()["caption"]
    assert "removed from pre-training" not in experiments().tables.spec("qm9").caption


# train + validation frames / all frames of the sGDML protocol, docs/method.md
MD22 = {
    "Ac-Ala3-NHMe": (6000, 85109), "DHA": (8000, 69753), "stachyose": (8000, 27272),
    "AT-AT": (3000, 20001), "AT-AT-CG-CG": (2000, 10153), "buckyball-catcher": (600, 6102),
    "double-walled_nanotube": (800, 5032),
}  # fmt: skip


def test_md22_has_the_sizes_of_its_protocol() -> None:
    paper = experiments("paper")
    assert set(paper.data.targets("md22")) == set(MD22)
    for name, (fitted, frames) in MD22.items():
        plan = paper.data.split_plan("md22", f"{name}_sgdml").as_json()
        assert plan["train"] + plan["val"] == fitted
        assert plan["val"] == fitted // 10
        assert plan["test"] is None
        file = paper.data.card("md22").sources["official"].files[name]
        assert file.expected_molecules == frames


def test_md22_has_energies_per_atom_beside_those_per_molecule() -> None:
    spec = experiments("paper").tables.spec("md22")
    units = {row.key: row.unit for row in spec.rows}
    assert units["energy_coord"] == "kcal/mol"
    assert units["energy_per_atom_coord"] == "meV"
    keys = {cell.row: cell.key for cell in spec.cells}
    assert keys["energy_coord"] == ("property", "mae")
    assert keys["energy_per_atom_coord"] == ("property", "mae_per_atom")
    assert keys["energy_per_atom_naive"] == ("property", "naive_mae_per_atom")
    assert keys["force_coord"] == ("force", "mae")


def test_rmd17_has_the_split_of_each_seed_and_units_of_its_table() -> None:
    paper = experiments("paper")
    plans = [paper.data.split_plan("rmd17", f"ethanol_official_draw{seed}") for seed in (1, 2, 3)]
    assert [plan.number for plan in plans] == [1, 2, 3]
    for seed, plan in enumerate(plans, 1):
        assert plan.draw is None
        assert (plan.train, plan.val, plan.test) == (950, 50, None)
        for part, rows in plan.indices.items():
            assert rows.member == f"rmd17/splits/index_{part}_0{seed}.csv"
    spec = paper.tables.spec("rmd17")
    assert {row.unit for row in spec.rows} == {"meV", "meV/Å"}
    assert {cell.unit for cell in spec.cells} == {"kcal/mol", "kcal/mol/Å"}
    assert "950 training, 50 validation, published rows test" in spec.caption
    assert {row.unit for row in paper.tables.rows("md17")} == {"kcal/mol", "kcal/mol/Å"}
    five = experiments("paper", tables={"rmd17": {"seeds": [1, 2, 3, 4, 5]}})
    assert five.data.split_plan("rmd17", "ethanol_official_draw5").number == 5


def test_md17_has_both_published_sizes() -> None:
    paper = experiments("paper")
    for part, name, sizes in (
        ("force", "random950", (950, 50)),
        ("force_9500", "random9500", (9500, 500)),
    ):
        plan = paper.data.split_plan("md17", f"aspirin_{name}")
        assert (plan.train, plan.val, plan.test) == (*sizes, None)
        assert paper.data.dataset_of(part) == "md17"
    few, many = (paper.tables.files(table) for table in ("md17", "md17_9500"))
    assert not set(few) & set(many)


def test_3bpa_has_a_column_for_each_test_part_and_measure() -> None:
    paper = experiments("paper")
    parts = ["300K", "600K", "1200K", "dihedrals"]
    assert [c.key for c in paper.tables.columns("3bpa")] == [
        f"{part}_{metric}" for metric in ("rmse", "mae") for part in parts
    ]
    cells = {(c["row"], c["column"]): c for c in paper.tables.spec("3bpa").as_json()["cells"]}
    cell = cells["force_georecon", "600K_rmse"]
    assert cell["key"] == ["parts", "600K", "force", "rmse"]
    assert cell["unit"] == "eV/Å"
    assert cells["energy_baseline", "1200K_mae"]["key"] == [
        "parts", "1200K", "property", "baseline_mae"
    ]  # fmt: skip
    assert {row["unit"] for row in paper.tables.spec("3bpa").as_json()["rows"]} == {"meV", "meV/Å"}
    plan = paper.data.split_plan("3bpa", "3bpa_train300K").as_json()
    assert (plan["rule"], plan["train"], plan["val"]) == ("files", 450, 50)
    assert plan["files"]["train"] == "train_300K"
    assert list(plan["files"]["test"]) == parts
    assert paper.data.raw_names("3bpa", "3bpa") == [
        f"{name}.xyz" for name in ("train_300K", "test_300K", "test_600K", "test_1200K", "test_dih")
    ]


def test_missing_test_file_gives_empty_cells_and_the_other_parts_stay() -> None:
    found = experiments("paper", datasets={"3bpa": {"default_source": "inferred"}})
    cells = found.tables.spec("3bpa").as_json()["cells"]
    empty = {c["column"].rpartition("_")[0]: c["reason"] for c in cells if "reason" in c}
    assert set(empty) == {"300K", "dihedrals"}
    assert "test_300K.xyz" in empty["300K"]
    plan = found.data.split_plan("3bpa", "3bpa_train300K").as_json()
    assert list(plan["files"]["test"]) == ["inferred_600K", "inferred_1200K"]
    assert "test_300K.xyz" not in found.data.raw_names("3bpa", "3bpa")


def test_missing_training_file_leaves_nothing() -> None:
    files = {"train_300K": {"missing": "lost"}}
    sources = {"official": {"files": files}}
    found = experiments("paper", datasets={"3bpa": {"sources": sources}})
    assert {c["reason"] for c in found.tables.spec("3bpa").as_json()["cells"]} == {"lost"}
    assert found.tables.files("3bpa") == found.tables.leaks("3bpa") == []
    assert found.data.tested("3bpa") == []


@pytest.mark.parametrize(
    "call",
    [
        lambda e: e.methods.entry("nothing"),
        lambda e: e.data.split_plan("qm9", "nothing"),
        lambda e: e.data.card_file("qm9", "nothing.csv"),
    ],
)
def test_unknown_names_are_refused(call: Any, laptop: Experiments) -> None:
    with pytest.raises(ConfigError):
        call(laptop)
