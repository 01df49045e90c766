"""Values of rules: a function gets the wildcards that its parameters are called like."""

from __future__ import annotations

from functools import partial

import pytest

from georecon.errors import ConfigError
from georecon.jobs.rule_values import of

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
