"""Sets of one's own: what edition and tables say of other sets gives way, or is refused by key."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from georecon.data.cards import ALL, store_roles
from georecon.errors import ConfigError
from georecon.experiments.config import load_config, merge
from georecon.experiments.experiments import Experiments

CONFIG = Path(__file__).resolve().parents[2] / "config"
EV = {"energy": "eV", "forces": "eV/Å"}
SPLIT = {"rule": "random", "name": "mine", "train": 6, "val": 2, "test": None}


def frames(*roles: str, **source: Any) -> dict[str, Any]:
    """A card of force frames in files of one's own."""
    files = {role: {"local": f"{role}.xyz"} for role in roles}
    return {
        "kind": "forces",
        "sources": {"local": {"reader": "frames", "raw_units": EV, "files": files, **source}},
    }


def load(card: dict[str, Any], *changes: dict[str, Any], part: str = "force") -> Experiments:
    """The laptop edition, in which a set ``mine`` plays a part."""
    given: dict[str, Any] = {
        "edition": "laptop",
        "sets": {part: {"dataset": "mine"}},
        "datasets": {"mine": card},
        "finetune": {part: {"split": SPLIT}},
    }
    for change in changes:
        given = merge(given, change)
    return Experiments(load_config(CONFIG, given))


def refusal(card: dict[str, Any], *changes: dict[str, Any], part: str = "force") -> str:
    with pytest.raises(ConfigError) as error:
        load(card, *changes, part=part)
    return str(error.value)


# ---- tables that name what the set lacks -------------------------------------------------------


def reasons(found: Experiments, table: str) -> dict[str, str | None]:
    """Reason of each column's empty cells, None where they have data."""
    cells = found.tables.spec(table).cells
    return {cell.column: cell.reason for cell in cells if cell.row.endswith(("coord", "0.4"))}


def test_targets_of_another_set_stay_empty_with_the_reason() -> None:
    found = load(frames("water"))
    said = reasons(found, "noise_scale")
    assert said["ethanol_force"] == "mine has no ethanol"
    assert said["homo"] is None
    assert set(reasons(found, "md17")) == {"water"}
    for table in found.tables.names():  # all of them can be planned
        found.tables.spec(table)
        found.tables.files(table)
        found.tables.leaks(table)


@pytest.mark.parametrize(
    ("table", "targets", "words"),
    [
        ("qm9", ["hommo"], "tables.qm9.columns.0.targets.0: is 'hommo'"),
        ("qm9", ["homo", "alpah"], "did you mean 'alpha'?"),
        ("md17", ["watr"], "did you mean 'water'?"),
        ("md17", ["water", ""], "tables.md17.columns.0.targets.1: is ''"),
    ],
)
def test_a_misspelt_target_is_refused(table: str, targets: list[str], words: str) -> None:
    part = {"qm9": "property", "md17": "force"}[table]
    columns = [{"source": "finetune", "set": part, "targets": targets}]
    assert words in refusal(frames("water"), {"tables": {table: {"columns": columns}}})


@pytest.mark.parametrize("missing", [None, "not here"])
def test_a_part_needs_a_set_that_can_be_trained_on(missing: str | None) -> None:
    """Also where it has no data: its tables' columns are the set's targets."""
    role = {"sets": {"force": {"dataset": "pcqm4mv2", "missing": missing}}}
    assert "sets.force.dataset: pcqm4mv2 is of kind geometries" in refusal(frames("x"), role)
    card = {**frames("x"), "kind": "properties", "targets": {}}
    words = refusal(card, {"sets": {"force": {"missing": missing}}})
    assert "datasets.mine.targets: missing" in words


def test_quantities_need_columns_of_fine_tuning() -> None:
    smooth = {"source": "smoothness", "metric": "scale_free", "label": "x"}
    change = {"tables": {"md17": {"columns": [smooth]}}}
    words = "tables.md17.columns.0.source: is 'smoothness'; quantities need finetune"
    assert words in refusal(frames("water"), change)


# ---- reasons and sizes that were written for something else ------------------------------------


def test_a_reason_goes_with_its_dataset() -> None:
    tuned = {"noise_sigma": 0, "evaluation_batch": 4, "references": "card"}
    train = yaml.safe_load((CONFIG / "editions/laptop.yaml").read_text())["finetune"]["force"]
    section = {"finetune": {"large_force": {**tuned, "train": train["train"]}}}
    found = load(frames("big"), section, part="large_force")
    assert found.config.sets["large_force"].missing is None
    assert found.config.sets["large_force"].label == "forces of large molecules"
    assert reasons(found, "md22") == {"big": None}
    own = {"sets": {"large_force": {"missing": "on the other machine"}}}
    found = load(frames("big"), section, own, part="large_force")
    assert reasons(found, "md22") == {"big": "on the other machine"}


def test_a_reason_goes_with_its_file() -> None:
    def missing(change: dict[str, Any]) -> str | None:
        sources = {"inferred": {"files": {"test_300K": change}}}
        given = {"edition": "paper", "datasets": {"3bpa": {"sources": sources}}}
        found = load_config(CONFIG, given).datasets["3bpa"].sources["inferred"]
        return found.files["test_300K"].missing

    assert missing({"local": "test_300K.xyz"}) is None
    assert missing({"urls": ["https://example.org/test_300K.xyz"]}) is None
    assert missing({"sha256": "0" * 64}) is not None
    assert missing({"local": "x.xyz", "missing": "lost"}) == "lost"


def test_sizes_go_with_the_rule_of_a_split() -> None:
    parts = {"parts": {"hot": {"train": "a", "test": {"b": "b"}}}}
    files = {"finetune": {"force": {"split": {"rule": "files"}}}}
    laptop = load_config(CONFIG, {"edition": "laptop"}).finetune.sets["force"].split
    assert laptop.test == 110
    card = {**frames("a", "b", **parts), "targets": {"hot": None}}
    own = {"finetune": {"force": {"split": {"name": "mine", "train": 6, "val": 2}}}}
    given = {"sets": {"force": {"dataset": "mine"}}, "datasets": {"mine": card}}
    config = load_config(CONFIG, merge({"edition": "laptop", **given}, merge(own, files)))
    assert config.finetune.sets["force"].split.test is None
    config = load_config(CONFIG, {"edition": "laptop", "finetune": {"force": {"split": {}}}})
    assert config.finetune.sets["force"].split == laptop


@pytest.mark.parametrize(
    ("sets", "split", "test"),
    [
        ({"force": {"dataset": "mine"}}, {"name": "mine", "train": 6, "val": 2}, None),
        ({"force": {"dataset": "mine"}}, {"name": "mine", "train": 6, "val": 2, "test": 3}, 3),
        ({"force": {"dataset": "mine"}}, None, 110),
        ({"force": {"dataset": "xmd17"}}, {"train": 6}, 110),
        ({}, {"train": 6}, 110),
    ],
)
def test_sizes_go_with_the_dataset_of_a_split(
    sets: dict[str, Any], split: dict[str, Any] | None, test: int | None
) -> None:
    given = {"edition": "laptop", "sets": sets, "datasets": {"mine": frames("a")}}
    own = {"finetune": {"force": {"split": split}}} if split else {}
    config = load_config(CONFIG, {**given, **own})
    assert config.finetune.sets["force"].split.test == test


@pytest.mark.parametrize("rule", ["files", "index"])
def test_a_size_that_a_rule_ignores_is_refused(rule: str) -> None:
    split = {"split": {"rule": rule, "test": 5}}
    words = refusal(frames("x"), {"finetune": {"force": split}})
    assert f"finetune.force.split.test: is 5; rule {rule} tests on the whole" in words


@pytest.mark.parametrize("rule", ["random", "pvd"])
def test_a_number_is_for_published_splits_only(rule: str) -> None:
    split = {"split": {"rule": rule, "number": 2}}
    words = refusal(frames("x"), {"finetune": {"force": split}})
    assert "finetune.force.split.number: is 2; only rule index" in words


# ---- files ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "roles", [("csv", "sdf"), ("sdf", "csv"), ("csv", "uncharacterized", "sdf")]
)
def test_the_order_of_keys_in_files_does_not_matter(roles: tuple[str, ...]) -> None:
    files = {role: {"local": f"x.{role}"} for role in roles}
    source = {"reader": "gdb9", "files": files, "expected_molecules": 20}
    card = {"default_source": "own", "sources": {"own": source}}
    given = {"edition": "laptop", "datasets": {"qm9": card}}
    split = {"finetune": {"property": {"split": {**SPLIT, "train": 10}}}}
    assert load_config(CONFIG, {**given, **split})


def test_ids_do_not_follow_the_order_of_files() -> None:
    for roles in (("b", "a", "c"), ("c", "b", "a")):
        found = load(frames(*roles))
        assert store_roles(found.data.card("mine"), ALL) == ["a", "b", "c"]
        assert found.data.targets("mine") == list(roles)  # columns do
        card = {**frames(*roles), "kind": "geometries"}
        del card["sources"]["local"]["raw_units"]
        only = load_config(
            CONFIG,
            {"edition": "laptop", "sets": {"pretrain": {"dataset": "m"}}, "datasets": {"m": card}},
        )
        assert store_roles(only.datasets["m"]) == ["a", "b", "c"]


def test_two_files_of_one_name_are_told_apart() -> None:
    files = {"a": {"local": "one/md.xyz"}, "b": {"local": "two/md.xyz"}}
    words = refusal(frames("x", files=files))
    assert "mine.sources.local.files.b.name: is 'md.xyz', as that of files.a, another file" in words
    files["b"]["name"] = "other.xyz"
    found = load(frames("x", files=files))
    assert found.data.raw_names("mine", "b") == ["other.xyz"]
    assert found.data.raw_file("mine", "other.xyz").local == "two/md.xyz"
    lists = {"train": {"local": "a/rows.csv"}, "test": {"local": "b/rows.csv"}}
    words = refusal(frames("x", indices=lists))
    assert "indices.test.name: is 'rows.csv', as that of indices.train" in words
    # members of one archive are one file
    one = {"name": "lists.tar.gz", "urls": ["https://example.org/lists.tar.gz"]}
    lists = {"train": {**one, "member": "a.csv"}, "test": {**one, "member": "b.csv"}}
    load(frames("x", indices=lists))


@pytest.mark.parametrize("name", ["a{b}.xyz", "a{.xyz", "{number}.xyz", "a}{.xyz"])
def test_names_with_braces_are_refused(name: str) -> None:
    """They would be wildcards of the workflow."""
    words = refusal(frames("x", files={"x": {"local": f"data/{name}"}}))
    assert f"mine.sources.local.files.x.name: is {name!r}; must have no braces" in words
    words = refusal(frames("x", files={"x": {"local": f"{name}/x.xyz"}}))
    assert f"mine.sources.local.files.x.local: is '{name}/x.xyz'" in words
    lists = {"train": {"local": "{numbr}.csv"}, "test": {"local": "{number}.csv"}}
    words = refusal(frames("x", indices=lists))
    assert "indices.train.name: is '{numbr}.csv'" in words
    assert "indices.test" not in words


@pytest.mark.parametrize("number", [None, 1, 4])
def test_lists_of_rows_have_the_number_of_the_split_in_their_names(number: int | None) -> None:
    lists = {part: {"local": f"splits/{part}_{{number}}.csv"} for part in ("train", "test")}
    split = {"split": {"rule": "index", "number": number}}
    found = load(frames("x", indices=lists), {"finetune": {"force": split}})
    name = f"train_{number or 1}.csv"
    assert found.data.split_plan("mine", "x_mine").indices["train"].name == name
    assert found.data.raw_file("mine", name).local == f"splits/{name}"


def test_lists_without_a_place_are_refused() -> None:
    words = refusal(frames("x", indices={"train": {}, "test": {"local": "t.csv"}}))
    assert "datasets.mine.sources.local.indices.train: needs `local`" in words


def test_own_references_need_a_section_that_takes_the_cards() -> None:
    card = {**frames("x"), "targets": {"x": {"atomref": "isolated_atoms"}}}
    words = "finetune.force.references: is 'fitted'; atomref of x needs card"
    assert words in refusal(card)
    found = load(card, {"finetune": {"force": {"references": "card"}}})
    assert found.runs.recipe("force", "x").isolated_atoms


def test_all_is_no_name_of_a_target() -> None:
    """It is the store of all files, and the word for all targets."""
    card = frames("a", "b", parts={"all": {"train": "a", "test": {"b": "b"}}})
    split = {"finetune": {"force": {"split": {"rule": "files"}}}}
    for change in ({}, {"targets": {"all": None}}):
        assert "datasets.mine.targets.all: the name is taken" in refusal({**card, **change}, split)
    assert "local.files.all: the name is taken" in refusal(frames("all"))


@pytest.mark.parametrize("given", [None, {}, {"title": "Mine"}])
def test_a_target_may_be_null(given: dict[str, Any] | None) -> None:
    found = load({**frames("x"), "targets": {"x": given}})
    recipe = found.runs.recipe("force", "x")
    assert (recipe.energy_weight, recipe.force_weight, recipe.head) == (0.2, 0.8, "scalar")
    assert [column.key for column in found.tables.columns("md17")] == ["x"]


# ---- a test file with energies only ------------------------------------------------------------

PARTS = {"parts": {"hot": {"train": "cold", "test": {"600K": "warm", "1200K": "hot"}}}}
TRAIN = yaml.safe_load((CONFIG / "editions/laptop.yaml").read_text())["finetune"]["force"]["train"]
TUNED = {
    "finetune": {
        "out_of_distribution": {
            "split": {"rule": "files"}, "noise_sigma": 0, "evaluation_batch": 4,
            "references": "card", "train": TRAIN,
        }
    }
}  # fmt: skip


def three_files(no_forces: str) -> dict[str, Any]:
    card = frames("cold", "warm", "hot", **PARTS)
    card["sources"]["local"]["files"][no_forces]["no_forces"] = "energies only, says its author"
    return {**card, "targets": {"hot": None}}


@pytest.mark.parametrize(("role", "part"), [("warm", "600K"), ("hot", "1200K")])
def test_force_cells_of_a_file_with_energies_stay_empty_with_the_reason(
    role: str, part: str
) -> None:
    found = load(three_files(role), TUNED, part="out_of_distribution")
    for cell in found.tables.spec("3bpa").cells:
        empty = cell.row.startswith("force_") and cell.column.startswith(part)
        assert cell.reason == ("energies only, says its author" if empty else None), cell


@pytest.mark.parametrize("role", ["cold", "x"])
def test_only_a_test_file_may_have_energies_only(role: str) -> None:
    card = three_files("cold") if role == "cold" else frames("x")
    card["sources"]["local"]["files"][role]["no_forces"] = "so"
    change = (TUNED,) if role == "cold" else ()
    part = "out_of_distribution" if role == "cold" else "force"
    words = refusal(card, *change, part=part)
    assert f"mine.sources.local.files.{role}.no_forces: only a test file of `parts`" in words


# ---- titles and captions -----------------------------------------------------------------------


@pytest.mark.parametrize("table", ["qm9", "md17", "md22", "3bpa"])
def test_titles_follow_the_set(table: str) -> None:
    parts = {
        "qm9": "property",
        "md17": "force",
        "md22": "large_force",
        "3bpa": "out_of_distribution",
    }
    card = {**frames("x"), "title": "Ours, frames of ethanol"}
    if table == "qm9":
        card |= {"kind": "properties", "targets": {"gap": None}, "units": {"gap": "eV"}}
        del card["sources"]["local"]["raw_units"]
    given = {
        "edition": "laptop",
        "datasets": {"mine": card},
        "sets": {parts[table]: {"dataset": "mine", "missing": "later"}},
        # smoothness and pre-training stay on a set with data
        **({"smoothness": {"set": "force"}} if table == "qm9" else {}),
    }
    spec = Experiments(load_config(CONFIG, given)).tables.spec(table)
    assert spec.title.startswith("Ours: ")
    for name in ("QM9", "MD17", "MD22", "3BPA", "300 K", "twelve"):
        assert name not in spec.title + spec.caption.partition(" Edition")[0], name


def test_titles_of_the_official_sets() -> None:
    paper = Experiments(load_config(CONFIG, {"edition": "paper"}))
    heads = {name: paper.tables.spec(name).title.partition(":")[0] for name in paper.tables.names()}
    assert {"qm9": "QM9", "md17": "MD17", "md22": "MD22", "3bpa": "3BPA"}.items() <= heads.items()


def test_captions_say_how_many_molecules_pretraining_is_given() -> None:
    config = load_config(CONFIG, {"edition": "paper"})
    caption = Experiments(config).tables.spec("qm9").caption
    train = config.pretrain.train
    assert f"({train.steps * train.batch_size} in all)" in caption
    assert f"Coord, equal compute: {round(1.25 * train.steps)} steps." in caption
