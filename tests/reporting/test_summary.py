from __future__ import annotations

import csv
import os
from pathlib import Path

import pytest
import yaml

from georecon.errors import ConfigError
from georecon.files import read_json
from georecon.jobs import launch
from georecon.reporting.expected import load_expected
from georecon.reporting.summary import banner, expected_text, write_report
from tests import toy_results as toy

EXPECTED = toy.ROOT / "reports" / "expected"


def test_every_table_has_an_entry_with_source_and_reason() -> None:
    entries = load_expected(EXPECTED)
    laptop, paper = (set(toy.experiments_of(name).config.tables) for name in ("laptop", "paper"))
    assert laptop <= set(entries) <= laptop | paper
    for entry in entries.values():
        assert entry.reason.strip()
        assert entry.sources
        assert entry.numbers or entry.status == "unknown"
        for number in [*entry.numbers, *entry.context]:
            assert isinstance(number.value, int | float)
            assert number.relation in ("=", ">", "<")
            assert number.source
            # a number decides something only if a tolerance says what
            assert number.verdict == "none" or number.tolerance is not None
        assert all(claim.text and claim.source for claim in entry.claims)


def test_weak_numbers_never_decide() -> None:
    entry = load_expected(EXPECTED)["md17"]
    assert entry.status == "weak"
    assert {number.verdict for number in entry.numbers} == {"none"}


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"status": "certain"}, "allowed"),
        ({"table": "other"}, "allowed"),
        ({"numbers": [{"relation": "=", "value": 1}]}, "missing numbers.what, .*numbers.unit"),
        ({"claims": [{"text": "x", "source": "y", "page": 3}]}, "unknown claims.page"),
        ({"number": []}, "unknown number"),
    ],
)
def test_bad_entry_is_refused(change: dict[str, object], words: str, tmp_path: Path) -> None:
    entry = yaml.safe_load((EXPECTED / "md22.yaml").read_text()) | change
    (tmp_path / "md22.yaml").write_text(yaml.safe_dump(entry))
    with pytest.raises(ConfigError, match=words):
        load_expected(tmp_path)


def test_summary_has_every_table_figure_and_public_number(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    experiments = toy.experiments_of("tiny")
    toy.write_results(experiments)
    names = list(experiments.config.tables)
    figure = Path("results/tiny/figures/ablations.png")
    figure.parent.mkdir()
    figure.write_bytes(b"a picture")
    records = sorted(map(str, Path("results").rglob("run.json")))
    folder = Path("results/tiny/report")
    write_report(
        [f"results/tiny/tables/{name}.json" for name in names],
        [str(figure)],
        records,
        expected=load_expected(EXPECTED),
        banner=banner(experiments),
        folder=folder,
    )
    text = (folder / "summary.md").read_text()
    titles = [read_json(f"results/tiny/tables/{name}.json")["title"] for name in names]
    places = [text.index(f"### {title}") for title in titles]
    assert places == sorted(places)
    assert text.count("**In the paper:**") == len(names)
    assert "0.05755 kcal/mol/Å" in text
    assert "Edition **tiny**" in text
    assert "(../figures/ablations.png)" in text
    page = (folder / "summary.html").read_text()
    assert "data:image/png;base64," in page
    assert "<table>" in page
    assert sorted(path.stem for path in (folder / "tables").iterdir()) == sorted(names)
    with open(folder / "runs.csv", newline="") as handle:
        assert [row["record"] for row in csv.DictReader(handle)] == records


def test_table_without_an_entry_says_so() -> None:
    assert "no entry" in expected_text(None)


def stamp(path: Path, time: float) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()
    os.utime(path, (time, time))


def test_html_report_is_due_after_a_whole_run_only(tmp_path: Path) -> None:
    assert not launch.report_is_due(tmp_path)
    stamp(tmp_path / "tables" / "qm9.json", 10)
    assert not launch.report_is_due(tmp_path)
    stamp(tmp_path / "report" / "summary.md", 20)
    assert launch.report_is_due(tmp_path)
    stamp(tmp_path / "report" / "report.html", 30)
    assert not launch.report_is_due(tmp_path)
    stamp(tmp_path / "figures" / "a.png", 40)
    assert launch.report_is_due(tmp_path)
    stamp(tmp_path / "tables" / "qm9.json", 50)  # one table made anew, the summary not
    assert not launch.report_is_due(tmp_path)
