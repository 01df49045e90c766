"""A check in a process beside the others: findings and notes come back; its end is noticed."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from georecon.audit.beside import beside
from georecon.audit.findings import CODE, Context, Finding
from georecon.experiments.experiments import Experiments
from georecon.records.chain import read_graph
from tests.projects import ROOT


@pytest.fixture
def context(tmp_path: Path) -> Context:
    experiments = Experiments.load(ROOT / "config", {"edition": "tiny"})
    return Context(tmp_path, experiments, read_graph(tmp_path, "tiny"), False, CODE, {})


def noted(context: Context) -> Iterator[Finding]:
    context.checked.append(f"of process {os.getpid()}")
    context.cannot("what is not here")
    yield Finding(kind="page edited", path="report/index.html", text="one")


def test_findings_and_notes_come_back_once(context: Context) -> None:
    context.checked.append("before")
    waiting = beside(context, noted)
    context.checked.append("meanwhile")
    assert [finding.text for finding in waiting] == ["one"]
    assert context.checked[:2] == ["before", "meanwhile"]
    (own,) = context.checked[2:]
    assert own != f"of process {os.getpid()}"
    assert context.unchecked == ["what is not here"]


def test_a_process_that_ends_without_an_answer_is_no_clean_check(context: Context) -> None:
    def killed(context: Context) -> list[Finding]:
        os._exit(7)

    with pytest.raises(RuntimeError, match="exit code 7"):
        list(beside(context, killed))
