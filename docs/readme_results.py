"""Put a laptop run's numbers and the evidence edition's verdicts into README.md.

``python docs/readme_results.py``; numbers are those of one run, with its commit.
``--results FOLDER`` names another folder than ``results/laptop``. The verdicts are those of
``docs/evidence/claims.json``, which ``docs/publish_run.py evidence`` writes.
"""

from __future__ import annotations

import argparse
import re
import shutil
from pathlib import Path
from typing import Any

from georecon.files import read_json, write_text
from georecon.reporting.claims import CONTRARY, SUPPORTED, UNDECIDED, Verdict, claims_markdown
from georecon.reporting.escape import markdown_escape
from georecon.reporting.layout import layout
from georecon.units import UNIT_DISPLAY

ROOT = Path(__file__).resolve().parents[1]
PICTURE = "docs/images/errors_by_method.png"
BEGIN, END = "<!-- results: written by docs/readme_results.py -->", "<!-- end of results -->"
EVIDENCE = ROOT / "docs/evidence/claims.json"
FIRST, LAST = "<!-- verdicts: written by docs/readme_results.py -->", "<!-- end of verdicts -->"


def claims_table(claims: dict[str, Any]) -> str:
    """Verdicts on claims that this edition has numbers for; the others are counted."""
    found = [Verdict(**one) for one in claims["verdicts"]]
    there = [one for one in found if one.effect is not None]
    absent = len(found) - len(there)
    return f"{claims_markdown(there)} Without numbers in this edition: {absent}."


def properties_table(table: dict[str, Any]) -> str:
    """The QM9 table with a row for each property."""
    shown = layout(table).main
    heads = [markdown_escape(line.label) for line in shown.lines]
    lines = [f"| | {' | '.join(heads)} |", "|---|" + "---:|" * len(heads)]
    for k, head in enumerate(shown.heads):
        cells = [line.cells[k] for line in shown.lines]
        texts = [re.sub(r" \(\d+\)$", "", cell.text) + "†" * cell.worse for cell in cells]
        marked = [f"**{t}**" if cell.bold else t for t, cell in zip(texts, cells, strict=True)]
        unit = UNIT_DISPLAY.get(head.unit, head.unit)
        lines.append(f"| {markdown_escape(head.label)} [{unit}] | {' | '.join(marked)} |")
    return "\n".join(lines)


def commit_of(results: Path) -> str:
    """Short name of the code version that made the run's trainings.

    Raises:
        SystemExit: they were made by several versions, or by code that was not committed.
    """
    found = versions(results, trainings(results))
    if len(found) != 1:
        raise SystemExit(f"{results}: trainings of {sorted(found)}; one commit is wanted")
    return found.copy().pop()[:7]


def trainings(results: Path) -> list[dict[str, Any]]:
    """Records of the run's fine-tunings."""
    return [read_json(path) for path in sorted(results.glob("finetune/*/*/*/*/run.json"))]


def versions(results: Path, runs: list[dict[str, Any]]) -> set[str]:
    """Commits that made the trainings of a folder.

    Raises:
        SystemExit: some were made by code that was not committed.
    """
    if any(run["code"]["dirty"] for run in runs):
        raise SystemExit(
            f"{results}: trainings of code that was not committed; one commit is wanted"
        )
    return {str(run["code"]["commit"]) for run in runs}


def section(results: Path) -> str:
    """The README's part between its marks."""
    table, claims = (
        read_json(results / "tables/qm9.json"),
        read_json(results / "report/claims.json"),
    )
    seeds = max(cell["n"] for cell in table["cells"])
    return "\n\n".join(
        [
            BEGIN,
            f"What `make` found at commit {commit_of(results)}, in minutes of training; it decides "
            "nothing about the paper's scale:",
            claims_table(claims),
            f"QM9, mean ± half of the 95 % interval over {seeds} seeds; † worse than counting "
            "atoms; bold where the best is certain:",
            properties_table(table),
            END,
        ]
    )


def verdicts(claims: dict[str, Any]) -> str:
    """The evidence edition's verdicts by outcome, between their marks."""
    found = [Verdict(**one) for one in claims["verdicts"]]
    lines = ["| verdict | compared, effect, table |", "|---|---|"]
    for outcome in (SUPPORTED, CONTRARY, UNDECIDED):
        own = [one for one in found if one.verdict == outcome and one.effect is not None]
        texts = [f"{one.compared}: {one.interval()} ({one.table})" for one in own]
        if outcome == UNDECIDED and (absent := sum(one.effect is None for one in found)):
            texts.append(f"without numbers there: {absent}")
        lines.append(f"| **{outcome}** | {markdown_escape('; '.join(texts)) or 'none'} |")
    return "\n\n".join([FIRST, "\n".join(lines), LAST])


def replaced(text: str, begin: str, end: str, new: str) -> str:
    """A text with what is between two marks, and the marks, replaced."""
    return text[: text.index(begin)] + new + text[text.index(end) + len(end) :]


def main() -> None:
    """Write README.md and the picture."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--results", type=Path, default=ROOT / "results" / "laptop")
    options = parser.parse_args()
    readme = ROOT / "README.md"
    text = readme.read_text(encoding="utf-8")
    text = replaced(text, BEGIN, END, section(options.results))
    write_text(readme, replaced(text, FIRST, LAST, verdicts(read_json(EVIDENCE))))
    shutil.copyfile(options.results / "figures/errors_by_method.png", ROOT / PICTURE)


if __name__ == "__main__":
    main()
