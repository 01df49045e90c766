"""Nested values of --config: text where text is meant, numbers where they are."""

from __future__ import annotations

from typing import Any

import pytest
from snakemake.cli import parse_config

from georecon.errors import ConfigError
from georecon.experiments.config import load_config
from georecon.experiments.option_texts import read_texts
from tests.projects import ROOT

FULL = {"edition": "tiny"}


@pytest.mark.parametrize(
    ("pair", "value"),
    [
        ("finetune={seeds: [1, 2, 3]}", {"seeds": [1, 2, 3]}),
        ("finetune={'seeds': ['1', '2']}", {"seeds": [1, 2]}),  # as jobs are given it
        ("pretrain={exclude_leaks: yes}", {"exclude_leaks": True}),
        ("pretrain={train: {lr: 0.5, steps: 7}}", {"train": {"lr": 0.5, "steps": 7}}),
        ("encoder={cutoff: 4}", {"cutoff": 4}),
        ("methods={coord: {label: 2024}}", {"coord": {"label": "2024"}}),
        ("methods={coord: {label: null}}", {"coord": {"label": "null"}}),
        ("methods={georecon: {params: {sigma_rec: 0.1}}}",
         {"georecon": {"params": {"sigma_rec": 0.1}}}),
        ("tables={unimol: null}", {"unimol": None}),
        ("tables={qm9: {rows: {methods: all}}}", {"qm9": {"rows": {"methods": "all"}}}),
        ("tables={qm9: {columns: [{source: finetune, set: qm9}]}}",
         {"qm9": {"columns": [{"source": "finetune", "set": "qm9"}]}}),
        ("sets={md17: {missing: null}}", {"md17": {"missing": None}}),
        ("finetune={qm9: {split: {train: 50, val_fraction: null}}}",
         {"qm9": {"split": {"train": 50, "val_fraction": None}}}),
        ("smoothness={displacements: [0.1, 1]}", {"displacements": [0.1, 1]}),
        ("datasets={mine: {sources: {local: {files: {a: {bytes: 12, md5: 0123}}}}}}",
         {"mine": {"sources": {"local": {"files": {"a": {"bytes": 12, "md5": "0123"}}}}}}),
        ("gpus=2", 2),
        ("mirror=/a/b", "/a/b"),
    ],
)  # fmt: skip
def test_a_value_is_what_a_file_would_say(pair: str, value: Any) -> None:
    name = pair.partition("=")[0]
    assert read_texts(parse_config([pair])) == {name: value}
    # as Snakemake hands it on to the process of a job, whatever it has become by then
    given = parse_config([f"{name}={parse_config([pair])[name]!r}"])
    assert read_texts(given) in ({name: value}, {name: repr(value)})


@pytest.mark.parametrize(
    ("pair", "words"),
    [
        ("finetune={seeds: [1, two]}", r"finetune\.seeds\.1: is 'two'; must be integer"),
        ("finetune={seeds: 3}", r"finetune\.seeds: is '3'; must be a list"),
        ("encoder={cutoff: far}", r"encoder\.cutoff: is 'far'; must be number"),
        ("encoder={chanels: 32}", r"encoder\.chanels: unknown key.*'channels'"),
        ("pretrain={exclude_leaks: maybe}",
         r"pretrain\.exclude_leaks: is 'maybe'; must be boolean"),
        ("pretrain={train: {lr: 1e-3}}", r"pretrain\.train\.lr: .*write 1\.0e-3"),
        ("finetune={seeds: [1", r"finetune: is .*must be a mapping"),
    ],
)  # fmt: skip
def test_what_is_no_such_value_is_refused_by_its_key(pair: str, words: str) -> None:
    given = read_texts(parse_config([pair]))
    with pytest.raises(ConfigError, match=words):
        load_config(ROOT / "config", {**FULL, **given})


def test_texts_of_files_stay_texts() -> None:
    """A broken twin: what a file says as text is refused as before."""
    with pytest.raises(ConfigError, match=r"finetune\.seeds\.0: is '1'; must be integer"):
        load_config(ROOT / "config", {**FULL, "finetune": {"seeds": ["1"]}})
