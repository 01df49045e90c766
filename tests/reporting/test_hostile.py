"""Words from a configuration stay words in every output: Markdown, HTML, CSV, the site.

LaTeX has its own test beside its compiler (``test_latex.py``).
"""

from __future__ import annotations

import csv
import html.parser
import io
import json
import re
from dataclasses import replace
from pathlib import Path

import pytest

from georecon.experiments.experiments import Experiments
from georecon.reporting.claims import Verdict, claims_markdown
from georecon.reporting.escape import csv_field, markdown_escape, one_line
from georecon.reporting.expected import Expected, PublicClaim
from georecon.reporting.html_page import POLICY
from georecon.reporting.summary import banner, page, table_section, write_report
from georecon.reporting.texts import csv_text, markdown
from tests import toy_results as toy
from tests.reporting.hostile import HOSTILE, hostile_table
from tests.reporting.web import toy_site


class Page(html.parser.HTMLParser):
    """Tags and texts of a page, cells of its tables."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.events: list[str] = []
        self.addresses: list[str] = []
        self.rows: list[list[str]] = []
        self.open: list[str] = []
        self.texts: list[str] = []
        self.policies: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.events += [name for name, _ in attrs if name.startswith("on")]
        self.addresses += [value or "" for name, value in attrs if name in ("href", "src")]
        found = dict(attrs)
        if found.get("http-equiv") == "Content-Security-Policy":
            self.policies.append(found["content"] or "")
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th"):
            self.rows[-1].append("")
        self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        while self.open and self.open.pop() != tag:
            pass

    def handle_data(self, text: str) -> None:
        self.texts.append(text)
        if self.open and {"td", "th"} & {*self.open}:
            self.rows[-1][-1] += text


def expected_of(text: str) -> Expected:
    claims = (PublicClaim(text=text, source=text, tests=()),)
    return Expected(table="hostile", status="weak", reason=text, sources=(), numbers=(),
                    claims=claims, context=())  # fmt: skip


def check_page(text: str) -> Page:
    """Nothing in a page but what this project writes into one."""
    found = Page(text)
    wanted = {"html", "head", "meta", "title", "style", "body", "h1", "h2", "h3", "p", "strong",
              "table", "thead", "tbody", "tr", "th", "td", "ul", "li", "br", "img"}  # fmt: skip
    assert {*found.tags} <= wanted
    assert found.events == []
    assert all(address.startswith("data:image/png;base64,") for address in found.addresses)
    assert found.policies == [POLICY]
    return found


@pytest.mark.parametrize("text", HOSTILE)
def test_a_page_of_a_table_shows_the_words_and_every_number_in_its_place(text: str) -> None:
    table = hostile_table(text)
    found = check_page(page(table_section(table, expected_of(text)), text, {}))
    label = one_line(text)
    head, first, second, other_head, difference = found.rows
    assert head == ["", f"{label} [{label}]", f"{label} [{label}]"]
    assert first == [label, "1.500 (1)", "2.500 (1)"]
    assert second == [label, "3.500 (1)", "–"]
    assert other_head == ["", f"{label} [{label}]", "better", "worse"]
    assert difference[1:] == ["+2.0 [1.0, 3.0]", "0 of 1 (0)", "1 of 1 (1)"]
    assert label in "".join(found.texts)


@pytest.mark.parametrize("text", HOSTILE)
def test_markdown_keeps_one_line_a_row(text: str) -> None:
    lines = markdown(hostile_table(text)).splitlines()
    assert lines[0] == f"### {markdown_escape(text)}"
    rows = [line for line in lines if line.startswith("|")]
    assert len(rows) == 4 + 3


@pytest.mark.parametrize("text", HOSTILE)
def test_verdicts_of_claims_keep_their_columns(text: str) -> None:
    verdict = Verdict(claim=text, source=text, table="t", compared=text, effect=None, low=None,
                      high=None, columns=0, seeds=0, verdict="undecided", reason=text)  # fmt: skip
    found = check_page(page(claims_markdown([verdict]), text, {}))
    label = one_line(text)
    assert found.rows[1] == [label, label, "t", "–", "0", f"undecided ({label})"]


@pytest.mark.parametrize("text", HOSTILE)
def test_no_field_of_a_csv_is_a_formula_and_numbers_are_numbers(text: str) -> None:
    lines = list(csv.DictReader(io.StringIO(csv_text(hostile_table(text)))))
    assert len(lines) == 4
    for line in lines:
        for name, value in line.items():
            number = name in ("mean", "n") or name.startswith(("difference", "better", "worse_r"))
            assert number or not value.startswith(("=", "+", "-", "@", "\t")), (name, value)
        assert line["row_label"].removeprefix("'") == text.removeprefix("'")
    assert [line["mean"] for line in lines] == ["1.5", "2.5", "3.5", ""]


def test_numbers_below_zero_stay_numbers_in_csv() -> None:
    table = hostile_table("x")
    table["cells"][0]["value"] = -1.5
    (line, *_) = csv.DictReader(io.StringIO(csv_text(table)))
    assert line["mean"] == "-1.5"


@pytest.mark.parametrize(
    ("text", "field"),
    [("=1", "'=1"), ("+1", "'+1"), ("-x", "'-x"), ("@x", "'@x"), ("\tx", "'\tx"), ("a=1", "a=1"),
     (" =1", "' =1"), ("", "")],
)  # fmt: skip
def test_texts_that_a_spreadsheet_would_compute(text: str, field: str) -> None:
    assert csv_field(text) == field


@pytest.mark.parametrize(
    "text", [*HOSTILE, "a_b", "E_HOMO", "_x_", "a & b", "&amp;", "x < y > z", "+1", "10) y", "=== "]
)
@pytest.mark.parametrize("form", ["{}", "### {}", "- {}", "| {} |\n|---|", "**{}**"])
def test_escaped_markdown_reads_as_the_text(text: str, form: str) -> None:
    from markdown_it import MarkdownIt

    parser = MarkdownIt("commonmark").enable(["table", "strikethrough"])
    shown = Page(parser.render(form.format(markdown_escape(text))))
    assert "".join(shown.texts).strip() == one_line(text)
    known = {"p", "h3", "ul", "li", "table", "thead", "tbody", "tr", "th", "td", "strong"}
    assert {*shown.tags} <= known


def hostile_edition() -> Experiments:
    """The tiny edition with a hostile word wherever a configuration has words for a reader."""
    text, config = HOSTILE[0], toy.experiments_of("tiny").config
    methods = dict(config.methods)
    for name in ("coord", "georecon"):
        methods[name] = replace(methods[name], label=text)
    datasets = {**config.datasets, "qm9": replace(config.datasets["qm9"], title=text)}
    tables = {name: replace(t, title=text, caption=text) for name, t in config.tables.items()}
    return Experiments(replace(config, methods=methods, datasets=datasets, tables=tables))


def test_one_string_through_every_output_of_an_edition(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    experiments = hostile_edition()
    toy.write_results(experiments)
    toy_site.write_runs(experiments)
    results = Path("results/tiny")
    names = [f"{results}/tables/{name}.json" for name in experiments.config.tables]
    records = sorted(map(str, results.rglob("run.json")))
    report = results / "report"
    write_report(names, [], records, expected={}, banner=banner(experiments), folder=report)
    pages = [report / "summary.html", *sorted((report / "tables").iterdir())]
    assert len(pages) == 1 + len(names)
    for path in pages:
        check_page(path.read_text())
        assert one_line(HOSTILE[0]) in "".join(Page(path.read_text()).texts)
    for path in sorted((results / "tables").glob("*.csv")):
        for line in csv.reader(io.StringIO(path.read_text())):
            assert not any(field.startswith(("=", "@", "\t")) for field in line)
    text = toy_site.write_page(tmp_path, experiments).read_text()
    found = Page(text)
    assert found.events == []
    assert found.tags.count("script") == 2
    (data,) = re.findall(r'<script type="application/json" id="data">(.*?)</script>', text)
    assert json.loads(data)["cells"]["qm9/coord/homo"]["row"] == HOSTILE[0]
    assert HOSTILE[0] in "".join(found.texts)
