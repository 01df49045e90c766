"""Put a finished edition's results under docs/: its page, tables, claims, figures and records.

``python docs/publish_run.py EDITION`` writes a page and a folder of the edition's name: every
table as JSON, CSV and Markdown, ``claims.json``, the figures, and ``records.tar.xz`` with the
record of every job that made them. Nothing is written by hand but what stands between the page's
marks ``notes``, which stays. ``--results FOLDER`` names another folder than ``results/<edition>``.
"""

from __future__ import annotations

import argparse
import io
import shutil
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from readme_results import trainings, versions

from georecon.files import atomic_path, read_json, write_text
from georecon.reporting.claims import Verdict, claims_markdown
from georecon.reporting.escape import markdown_escape

ROOT = Path(__file__).resolve().parents[1]
NOTES_BEGIN, NOTES_END = "<!-- notes: written by hand -->", "<!-- end of notes -->"
LIMIT = 5 << 20
"""Bytes that an edition may take up in the repository."""
RECORDS = ("pretrain", "finetune", "smoothness", "records")


def page(edition: str, results: Path, notes: str) -> str:
    """The edition's page."""
    tables = {path.stem: read_json(path) for path in sorted((results / "tables").glob("*.json"))}
    claims = [Verdict(**one) for one in read_json(results / "report/claims.json")["verdicts"]]
    decided = [one for one in claims if one.effect is not None]
    parts = [
        f"# Edition `{edition}`",
        f"Made by `make EDITION={edition}` at commit {_made_at(results)} and written by "
        f"`python docs/publish_run.py {edition}`. Tables as JSON and CSV, verdicts, figures and "
        f"the records of all jobs are in [{edition}/]({edition}).",
        NOTES_BEGIN + notes + NOTES_END,
    ]
    if decided:
        absent = len(claims) - len(decided)
        rest = f"Without numbers in this edition: {absent}."
        parts += ["## Claims", f"{claims_markdown(decided)} {rest}"]
    for name, table in tables.items():
        if any(cell["values"] for cell in table["cells"]):
            text = (results / "tables" / f"{name}.md").read_text(encoding="utf-8").strip()
            body = "\n".join(line for line in text.splitlines() if not line.startswith("#"))
            parts += [f"## {markdown_escape(table['title'])}", body.strip()]
            parts += list(_pictures(edition, results, name))
    return "\n\n".join(parts) + "\n"


def _made_at(results: Path) -> str:
    """Commits of the trainings; several where a run went on after a change of its tables.

    Raises:
        SystemExit: trainings of the same kind were made by different sources.
    """
    codes: dict[str, set[str]] = {}
    runs = trainings(results)
    for run in runs:
        settings = run.get("settings", {})
        kind = str(settings.get("encoder", {}).get("kind"))
        codes.setdefault(kind, set()).add(str(settings.get("code")))
    if any(len(own) > 1 for own in codes.values()):
        raise SystemExit(f"{results}: trainings of different sources: {codes}")
    return " and ".join(sorted(name[:7] for name in versions(results, runs)))


def _pictures(edition: str, results: Path, table: str) -> Iterator[str]:
    """Figures that are named after a table."""
    for path in sorted((results / "figures").glob("*.png")):
        if path.stem == table or path.stem.startswith(f"{table}_"):
            yield f"![{path.stem}]({edition}/figures/{path.name})"


def records(results: Path, target: Path) -> None:
    """All records of an edition's jobs in one archive, the same bytes for the same records."""
    names = sorted(
        path for part in RECORDS for path in (results / part).rglob("*.json")
        if path.name.endswith("run.json") or part == "records"
    )  # fmt: skip
    with atomic_path(target) as temporary, tarfile.open(temporary, "w:xz") as archive:
        for path in names:
            data = path.read_bytes()
            entry = tarfile.TarInfo(path.relative_to(results).as_posix())
            entry.size = len(data)
            archive.addfile(entry, io.BytesIO(data))


def publish(edition: str, results: Path, docs: Path) -> None:
    """Write the page and its folder.

    Raises:
        SystemExit: they would take up more than ``LIMIT``, or runs of different sources.
    """
    path, folder = docs / f"{edition}.md", docs / edition
    notes = "\n"
    if path.is_file():
        text = path.read_text(encoding="utf-8")
        notes = text[text.index(NOTES_BEGIN) + len(NOTES_BEGIN) : text.index(NOTES_END)]
    text = page(edition, results, notes)
    shutil.rmtree(folder, ignore_errors=True)
    for part, endings in (("tables", ("json", "csv", "md")), ("figures", ("png",))):
        (folder / part).mkdir(parents=True)
        for ending in endings:
            for found in sorted((results / part).glob(f"*.{ending}")):
                shutil.copyfile(found, folder / part / found.name)
    shutil.copyfile(results / "report/claims.json", folder / "claims.json")
    records(results, folder / "records.tar.xz")
    size = sum(found.stat().st_size for found in folder.rglob("*") if found.is_file())
    if size > LIMIT:
        raise SystemExit(f"{folder} holds {size} bytes, allowed {LIMIT}")
    write_text(path, text)


def main(arguments: list[str] | None = None) -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("edition")
    parser.add_argument("--results", type=Path)
    parser.add_argument("--docs", type=Path, default=ROOT / "docs")
    options: Any = parser.parse_args(arguments)
    results = options.results or ROOT / "results" / options.edition
    publish(options.edition, results, options.docs)


if __name__ == "__main__":
    main()
