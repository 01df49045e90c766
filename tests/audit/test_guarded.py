"""A check that stumbles ends in a finding, and the audit goes on."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from georecon.audit import _guarded
from georecon.audit.findings import Finding
from georecon.files import read_json


def stumbling(error: Exception | Path) -> Iterator[Finding]:
    yield Finding(kind="file changed", path="a", text="first")
    if isinstance(error, Path):
        read_json(error)
    else:
        raise error


@pytest.mark.parametrize("error", [KeyError("x"), TypeError("x"), ValueError("x"), IndexError()])
def test_values_of_another_form_are_a_finding(error: Exception) -> None:
    first, second = _guarded(stumbling(error))
    assert (first.text, second.kind) == ("first", "record unreadable")


@pytest.mark.parametrize("name", ["leaks/draw3.json", "a.json", "tables/qm9.json"])
def test_a_file_that_the_configuration_asks_for_and_nobody_made_is_a_finding(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An audit under another configuration than the tables' own, say."""
    monkeypatch.chdir(tmp_path)
    _, found = _guarded(stumbling(tmp_path / name))
    assert (found.kind, found.path) == ("file missing", name)
