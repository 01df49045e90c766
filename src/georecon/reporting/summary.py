"""The report of an edition: all tables and figures on one page, with the paper's numbers."""

from __future__ import annotations

import base64
import csv
import io
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from georecon.experiments.experiments import Experiments
from georecon.files import json_text, read_json, write_text
from georecon.reporting.claims import claims_json, claims_markdown, verdicts
from georecon.reporting.escape import csv_field, markdown_escape
from georecon.reporting.expected import Expected
from georecon.reporting.html_page import html_page
from georecon.reporting.texts import markdown

if TYPE_CHECKING:
    from georecon.records.read import Record

STYLE = """table { border-collapse: collapse; font-size: 13px; display: block; overflow-x: auto; }
th, td { padding: .3em .7em; border-bottom: 1px solid #ddd; white-space: nowrap; }
th { border-bottom: 2px solid #999; }"""


def banner(experiments: Experiments) -> str:
    """Edition and its molecule sets, in sentences."""
    lines = []
    for part, role in experiments.config.sets.items():
        title = experiments.data.card(role.dataset).title
        text = title if role.missing is None else f"not in this edition ({role.missing})"
        lines.append(f"- {markdown_escape(f'{role.words(part)}: {text}')}")
    seeds = ", ".join(map(str, experiments.config.finetune.seeds))
    head = f"Edition **{markdown_escape(experiments.edition)}**; fine-tuning seeds {seeds}. Data:"
    return "\n".join([head, "", *lines])


def expected_text(entry: Expected | None) -> str:
    """What is publicly known of the paper's table."""
    if entry is None:
        return "**In the paper:** no entry in reports/expected."
    lines = [f"**In the paper:** {markdown_escape(entry.reason)}", ""]
    lines += [f"- {markdown_escape(number.text())}" for number in entry.numbers]
    lines += [
        f"- Claim: {markdown_escape(f'{claim.text} ({claim.source})')}." for claim in entry.claims
    ]
    if entry.context:
        lines += ["", "From other papers, for orientation:", ""]
        lines += [f"- {markdown_escape(number.text())}" for number in entry.context]
    return "\n".join(lines).rstrip()


def table_section(table: Mapping[str, Any], expected: Expected | None) -> str:
    """A table with its caption, reasons of its empty cells, and the paper's numbers."""
    return f"{markdown(table).rstrip()}\n\n{expected_text(expected)}"


def summary(
    tables: Sequence[Mapping[str, Any]],
    figures: Mapping[str, str],
    *,
    expected: Mapping[str, Expected],
    banner: str,
) -> str:
    """All tables in the given order, then all figures, as Markdown.

    Args:
        tables: content of the tables' JSON files.
        figures: link to each figure's picture, by name.
        expected: from ``load_expected``.
        banner: from :func:`banner`.
    """
    parts = [
        "# GeoRecon, reproduced",
        "## The paper's claims",
        claims_markdown(verdicts(expected, tables)),
        "## This edition",
        banner,
        "Numbers are those of this edition's data and sizes; they are the paper's only where "
        "edition, data and protocol are the paper's.",
        "## Tables",
    ]
    parts += [table_section(table, expected.get(table["table"])) for table in tables]
    parts.append("## Figures")
    parts += [
        f"### {markdown_escape(name.replace('_', ' ').capitalize())}\n\n![{name}]({link})"
        for name, link in figures.items()
    ]
    return "\n\n".join(parts) + "\n"


def page(text: str, title: str, pictures: Mapping[str, Path]) -> str:
    """Markdown as an HTML page of its own, without raw HTML.

    Args:
        text: Markdown.
        title: plain text.
        pictures: file of each picture that goes into the page, by its address in the text; others
            stay addresses, which the page's policy does not follow.
    """
    from markdown_it import MarkdownIt

    def inline(match: re.Match[str]) -> str:
        if match[1] not in pictures:
            return match[0]
        data = base64.b64encode(pictures[match[1]].read_bytes()).decode("ascii")
        return f'src="data:image/png;base64,{data}"'

    body = str(MarkdownIt("commonmark", {"html": False}).enable("table").render(text))
    body = re.sub(r'src="([^"]+)"', inline, body)
    return html_page(title, body, width=75, style=STYLE)


def runs_text(records: Iterable[Record]) -> str:
    """CSV with one line a run: what it was, how long it took, where its record lies."""
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(["stage", "run", "seed", "steps", "best_score", "seconds", "device", "record"])
    for record in records:
        training = record.training
        writer.writerow(
            [
                csv_field(record.stage),
                csv_field(str(record.settings.get("name", ""))),
                record.seed,
                training.steps,
                training.best_score,
                record.seconds,
                csv_field(record.compute.device or ""),
                csv_field(record.path),
            ]
        )
    return buffer.getvalue()


def report_texts(
    tables: Sequence[Mapping[str, Any]],
    figures: Sequence[str],
    records: Iterable[Record],
    *,
    expected: Mapping[str, Expected],
    banner: str,
    folder: Path,
) -> dict[str, str]:
    """Content of ``summary.md`` and ``.html``, ``claims.json``, ``runs.csv``, ``tables/*.html``.

    Args:
        tables: content of the tables' JSON files, in the order to show them.
        figures: PNG files of the figures.
        records: of the runs behind the tables.
        expected: from ``load_expected``.
        banner: from :func:`banner`.
        folder: report folder, beside the folder of the figures.

    Returns:
        Text of each file by its path in ``folder``.
    """
    links = {Path(path).stem: f"../figures/{Path(path).name}" for path in figures}
    claims = claims_json(verdicts(expected, tables), tables[0]["edition"])
    text = summary(tables, links, expected=expected, banner=banner)
    pictures = {link: folder.parent / link.removeprefix("../") for link in links.values()}
    pages = {
        f"tables/{table['table']}.html": page(
            table_section(table, expected.get(table["table"])), table["title"], {}
        )
        for table in tables
    }
    return {
        "claims.json": json_text(claims),
        "summary.md": text,
        "summary.html": page(text, "GeoRecon, reproduced", pictures),
        **pages,
        "runs.csv": runs_text(records),
    }


def write_report(
    tables: Sequence[str],
    figures: Sequence[str],
    records: Sequence[str],
    *,
    expected: Mapping[str, Expected],
    banner: str,
    folder: Path,
) -> None:
    """Write what :func:`report_texts` gives.

    Args:
        tables: JSON files of the tables, in the order to show them.
        figures: PNG files of the figures.
        records: run.json files of the runs behind the tables.
        expected: from ``load_expected``.
        banner: from :func:`banner`.
        folder: report folder, beside the folder of the figures.
    """
    from georecon.records.read import Record  # here: the Snakefile imports this module
    from georecon.records.untrusted import read_strict_json

    contents = [read_json(path) for path in tables]
    runs = [Record.from_json(read_strict_json(Path(path)), path) for path in records]
    folder.mkdir(parents=True, exist_ok=True)
    texts = report_texts(contents, figures, runs, expected=expected, banner=banner, folder=folder)
    for name, text in texts.items():
        write_text(folder / name, text)
