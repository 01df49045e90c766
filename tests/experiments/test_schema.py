"""The generated files are those of the classes, and every key says what it is."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from georecon.experiments import schema
from georecon.experiments.config import config_json, load_config
from georecon.keys import Key, key_hints

CONFIG = Path(__file__).resolve().parents[2] / "config"


def test_generated_files_are_in_step() -> None:
    for path, text in schema.files(CONFIG.parent):
        assert path.read_text(encoding="utf-8") == text, (
            f"{path}: run python -m georecon.experiments.schema"
        )


def test_a_table_of_keys_that_was_edited_is_noticed() -> None:
    text = (CONFIG / "README.md").read_text(encoding="utf-8")
    edited = text.replace("| `steps` | optimiser steps |", "| `steps` | steps |")
    assert edited != text
    assert schema.readme(edited) == text


def classes(kind: Any, seen: set[type]) -> set[type]:
    """All classes of settings below one."""
    if dataclasses.is_dataclass(kind) and kind not in seen:
        assert isinstance(kind, type)
        seen.add(kind)
        for annotation, _ in key_hints(kind).values():
            classes(annotation, seen)
    for inner in getattr(kind, "__args__", ()):
        classes(inner, seen)
    return seen


def test_every_key_has_a_sentence() -> None:
    found = classes(schema.Config, set())
    assert len(found) > 15
    for kind in found:
        for name, (_, key) in key_hints(kind).items():
            if kind.__name__ != "Finetune" or name != "sets":
                assert key.sentence, f"{kind.__name__}.{name}"


@pytest.mark.parametrize("edition", ["laptop", "paper", "tiny"])
def test_the_schema_accepts_what_the_classes_accept(edition: str) -> None:
    document = yaml.safe_load((CONFIG / "schema.yaml").read_text(encoding="utf-8"))
    checker = jsonschema.Draft202012Validator(document)
    checker.check_schema(document)
    config = config_json(load_config(CONFIG, {"edition": edition}))
    assert not list(checker.iter_errors(config))
    for change in ({"gpus": -1}, {"gpu": 1}, {"encoder": {**config["encoder"], "layers": 0}}):
        assert list(checker.iter_errors({**config, **change})), change


def test_bounds_are_words_and_schema() -> None:
    key = Key("x", "Å", above=0, at_most=5)
    assert key.bounds() == "> 0, ≤ 5"
    assert key.fault(0, (float,)) == "is 0; must be greater than 0"
    assert key.fault(5, (float,)) is None
