"""The audit's page says so when a table has been made since."""

from __future__ import annotations

from pathlib import Path

from georecon.files import write_text

_MARK = "<p><strong>Outdated: a table has been made since this audit.</strong></p>"
_BODY = "<body>\n"


def mark_outdated(results: Path) -> None:
    """Put a mark on the page of an audit, if there is one without.

    Args:
        results: folder of an edition.
    """
    page = results / "audit" / "index.html"
    if not page.is_file():
        return
    text = page.read_text(encoding="utf-8")
    if _MARK not in text:
        write_text(page, text.replace(_BODY, f"{_BODY}{_MARK}\n", 1))


def is_outdated(results: Path) -> bool:
    """Whether a table is newer than the audit."""
    audit = (results / "audit" / "audit.json").stat().st_mtime
    tables = (results / "tables").glob("*.json")
    return any(path.stat().st_mtime > audit for path in tables)
