"""The report of an edition: all tables and figures on one page, with the paper's numbers."""

from __future__ import annotations

import base64
import csv
import io
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from georecon.errors import ConfigError
from georecon.experiments.cells import Experiments
from georecon.experiments.config import read_yaml
from georecon.files import read_json, write_text
from georecon.reporting.html_page import html_page
from georecon.reporting.tables import markdown
from georecon.units import UNIT_DISPLAY

REQUIRED = ("table", "status", "reason", "sources", "numbers", "claims", "context")
"""Keys of a file in reports/expected; ``NUMBER``: of an entry of ``numbers`` or ``context``."""
NUMBER = ("what", "relation", "value", "unit", "source", "tolerance", "verdict", "note")
STATUS = ("unknown", "weak", "partial")
STYLE = """table { border-collapse: collapse; font-size: 13px; display: block; overflow-x: auto; }
th, td { padding: .3em .7em; border-bottom: 1px solid #ddd; white-space: nowrap; }
th { border-bottom: 2px solid #999; }"""


def load_expected(folder: Path) -> dict[str, dict[str, Any]]:
    """The paper's public numbers by table.

    Raises:
        ConfigError: a file lacks a key or has an unknown status.
    """
    found = {}
    for path in sorted(folder.glob("*.yaml")):
        entry = read_yaml(path)
        missing = [key for key in REQUIRED if key not in entry]
        for number in [*entry.get("numbers", []), *entry.get("context", [])]:
            missing += [f"numbers.{key}" for key in NUMBER if key not in number]
        if missing:
            raise ConfigError(f"{path.name}: missing {', '.join(dict.fromkeys(missing))}")
        if entry["status"] not in STATUS or entry["table"] != path.stem:
            raise ConfigError(
                f"{path.name}: table is {entry['table']!r} and status {entry['status']!r}; "
                f"allowed: {path.stem!r}, and one of {', '.join(STATUS)}"
            )
        found[path.stem] = entry
    return found


def banner(experiments: Experiments) -> str:
    """Edition and the data behind each of its parts, in sentences."""
    words = {
        "pretrain": "pre-training",
        "property": "properties",
        "force": "forces",
        "large_force": "forces of large molecules",
        "out_of_distribution": "out of distribution",
    }
    lines = []
    for part, entry in experiments.config["sets"].items():
        title = experiments.card(entry["dataset"])["title"]
        text = f"not in this edition ({entry['missing']})" if "missing" in entry else title
        lines.append(f"- {words.get(part, part)}: {text}")
    seeds = ", ".join(map(str, experiments.config["finetune"]["seeds"]))
    head = f"Edition **{experiments.edition}**; fine-tuning seeds {seeds}. Data:"
    return "\n".join([head, "", *lines])


def number_text(number: Mapping[str, Any]) -> str:
    """One public number as a list item: what, value, unit, source, what it may be used for."""
    unit = (
        ""
        if number["unit"] in ("", "1")
        else f" {UNIT_DISPLAY.get(number['unit'], number['unit'])}"
    )
    relation = "" if number["relation"] == "=" else f"{number['relation']} "
    note = f" {number['note']}" if number["note"] else ""
    return f"- {number['what']}: {relation}{number['value']}{unit} ({number['source']}).{note}"


def expected_text(entry: Mapping[str, Any] | None) -> str:
    """What is publicly known of the paper's table."""
    if entry is None:
        return "**In the paper:** no entry in reports/expected."
    lines = [f"**In the paper:** {entry['reason']}", ""]
    lines += [number_text(number) for number in entry["numbers"]]
    lines += [f"- Claim: {claim['text']} ({claim['source']})." for claim in entry["claims"]]
    if entry["context"]:
        lines += ["", "From other papers, for orientation:", ""]
        lines += [number_text(number) for number in entry["context"]]
    return "\n".join(lines).rstrip()


def table_section(table: Mapping[str, Any], expected: Mapping[str, Any] | None) -> str:
    """A table with its caption, reasons of its empty cells, and the paper's numbers."""
    return f"{markdown(dict(table)).rstrip()}\n\n{expected_text(expected)}"


def summary(
    tables: Sequence[Mapping[str, Any]],
    figures: Mapping[str, str],
    *,
    expected: Mapping[str, dict[str, Any]],
    banner: str,
) -> str:
    """All tables in the given order, then all figures, as Markdown.

    Args:
        tables: content of the tables' JSON files.
        figures: link to each figure's picture, by name.
        expected: from :func:`load_expected`.
        banner: from :func:`banner`.
    """
    parts = [
        "# GeoRecon, reproduced",
        banner,
        "Numbers are those of this edition's data and sizes; they are the paper's only where "
        "edition, data and protocol are the paper's.",
        "## Tables",
    ]
    parts += [table_section(table, expected.get(table["table"])) for table in tables]
    parts.append("## Figures")
    parts += [
        f"### {name.replace('_', ' ').capitalize()}\n\n![{name}]({link})"
        for name, link in figures.items()
    ]
    return "\n\n".join(parts) + "\n"


def page(text: str, title: str, folder: Path) -> str:
    """Markdown as an HTML page of its own; pictures, given relative to ``folder``, go into it."""
    from markdown_it import MarkdownIt

    def inline(match: re.Match[str]) -> str:
        data = base64.b64encode((folder / match[1]).read_bytes()).decode("ascii")
        return f'src="data:image/png;base64,{data}"'

    body = str(MarkdownIt("commonmark").enable("table").render(text))
    body = re.sub(r'src="([^":]+\.png)"', inline, body)
    return html_page(title, body, width=75, style=STYLE)


def runs_text(records: Mapping[str, Mapping[str, Any]]) -> str:
    """CSV with one line a run: what it was, how long it took, where its record lies.

    Args:
        records: content of run.json by path.
    """
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(["stage", "run", "seed", "steps", "best_score", "seconds", "device", "record"])
    for path, record in records.items():
        training = record.get("training", {})
        writer.writerow(
            [
                record["stage"],
                record["settings"].get("name", ""),
                record["seed"],
                training.get("steps"),
                training.get("best_score"),
                record["seconds"],
                record["compute"]["device"],
                path,
            ]
        )
    return buffer.getvalue()


def write_report(
    tables: Sequence[str],
    figures: Sequence[str],
    records: Sequence[str],
    *,
    expected: Mapping[str, dict[str, Any]],
    banner: str,
    folder: Path,
) -> None:
    """Write ``summary.md``, ``summary.html``, ``runs.csv`` and ``tables/<table>.html``.

    Args:
        tables: JSON files of the tables, in the order to show them.
        figures: PNG files of the figures.
        records: run.json files of the runs behind the tables.
        expected: from :func:`load_expected`.
        banner: from :func:`banner`.
        folder: report folder, beside the folder of the figures.
    """
    contents = [read_json(path) for path in tables]
    links = {Path(path).stem: f"../figures/{Path(path).name}" for path in figures}
    text = summary(contents, links, expected=expected, banner=banner)
    write_text(folder / "summary.md", text)
    write_text(folder / "summary.html", page(text, "GeoRecon, reproduced", folder))
    for table in contents:
        section = table_section(table, expected.get(table["table"]))
        write_text(
            folder / "tables" / f"{table['table']}.html", page(section, table["title"], folder)
        )
    write_text(folder / "runs.csv", runs_text({path: read_json(path) for path in records}))
