"""A table that is made after an audit: its page and the web report say so."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from georecon.files import write_json, write_text
from georecon.reporting.html_page import html_page
from georecon.reporting.outdated import is_outdated, mark_outdated
from georecon.reporting.web.site import read_audit


@pytest.fixture
def results(tmp_path: Path) -> Path:
    write_text(tmp_path / "audit/index.html", html_page("Audit", "<h1>x</h1>", width=1, style=""))
    write_json(tmp_path / "audit/audit.json", {"status": "intact", "cells": {}, "counts": {}})
    write_json(tmp_path / "tables/qm9.json", {})
    os.utime(tmp_path / "tables/qm9.json", (1, 1))
    return tmp_path


def test_the_page_is_marked_once(results: Path) -> None:
    page = results / "audit/index.html"
    before = page.read_text()
    for _ in range(2):
        mark_outdated(results)
    after = page.read_text()
    assert after.count("Outdated: a table has been made since this audit.") == 1
    assert after.index("Outdated") < after.index("<h1>")
    assert len(after) > len(before)


def test_without_an_audit_there_is_nothing_to_mark(tmp_path: Path) -> None:
    mark_outdated(tmp_path)
    assert not list(tmp_path.iterdir())


def test_the_web_report_says_it_too(results: Path) -> None:
    assert not is_outdated(results)
    found = read_audit(results)
    assert found is not None
    assert found.status == "intact"
    os.utime(results / "tables/qm9.json")
    os.utime(results / "audit/audit.json", (2, 2))
    found = read_audit(results)
    assert found is not None
    assert found.status == "intact, outdated: a table is newer"
