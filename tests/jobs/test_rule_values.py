"""Values of rules: a function gets the wildcards that its parameters are called like."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import pytest

from georecon.errors import ConfigError
from georecon.experiments.experiments import Experiments
from georecon.jobs.rule_values import RuleValues, of
from tests.projects import ROOT

JOB = {"dataset": "qm9", "target": "homo", "seed": "2"}


def place(dataset: str, target: str | None) -> str:
    return f"{dataset}/{target}"


def whole(seed: int) -> int:
    return seed + 1


def constant() -> str:
    return "same"


def test_wildcards_go_to_the_parameters_of_their_name() -> None:
    assert of(place)(JOB) == "qm9/homo"
    assert of(whole)(JOB) == 3
    assert of(constant)({}) == "same"


def test_a_file_in_what_is_returned() -> None:
    assert of(place, "store/{}/manifest.json")(JOB) == "store/qm9/homo/manifest.json"


def test_what_is_given_beforehand_is_not_asked_for() -> None:
    value = of(partial(place, "other"))
    assert value({"target": "homo"}) == "other/homo"
    assert value.__name__ == "place"


def test_a_wildcard_that_may_be_missing_and_one_that_may_not() -> None:
    assert of(place)({"dataset": "qm9"}) == "qm9/None"
    with pytest.raises(ConfigError, match="place needs the wildcard 'dataset'"):
        of(place)({"target": "homo"})


def test_the_first_table_is_made_before_encoders_of_others() -> None:
    """A newcomer has QM9 to look at while the rest is trained."""
    found = Experiments.load(ROOT / "config", {"edition": "laptop"})
    values = RuleValues(found)
    assert found.tables.names()[0] == "qm9"
    encoders = [values.pretrain_priority(m, k) for m in ("coord", "georecon") for k in (1, 2, 3)]
    runs = [values.finetune_priority("property", "cv", m, 3) for m in ("scratch", "coord_long")]
    others = [values.pretrain_priority(m, 1) for m in ("georecon__noise1.0", "unimol")]
    later = [
        values.finetune_priority("force", "ethanol", "coord", 1),
        values.finetune_priority("property", "homo", "unimol", 1),
        values.finetune_priority("property", "homo", "georecon__nocode", 1),
    ]
    for group in (encoders, runs, others, later):
        assert len(set(group)) == 1
    assert encoders[0] > runs[0] > others[0] > later[0] == 0
    assert values.table_priority("qm9") == runs[0]
    assert values.table_priority("md17") == 0


def test_an_own_file_that_is_gone_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else an earlier copy of another file would do, and the old table would stay."""
    monkeypatch.chdir(tmp_path)
    files = {"glycol": {"local": "glycol.xyz"}}
    card = {"title": "Mine", "kind": "forces", "sources": {"local": {"reader": "frames",
            "raw_units": {"pos": "Angstrom", "energy": "eV", "forces": "eV/Angstrom"},
            "files": files}}}  # fmt: skip
    values = RuleValues(
        Experiments.load(ROOT / "config", {"edition": "laptop", "datasets": {"mine": card}})
    )
    (name,) = values.raw_files("mine", "glycol")
    with pytest.raises(ConfigError, match=r"datasets\.mine: local: glycol\.xyz .* is not there"):
        values.own_file("mine", Path(name).name)
    Path("glycol.xyz").write_text("")
    assert values.own_file("mine", Path(name).name) == ["glycol.xyz"]
    assert values.own_file("qm9", "qm9_part1.csv") == []
