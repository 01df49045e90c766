"""The page as a file: escaping, links, size, state; no browser needed."""

from __future__ import annotations

import html.parser
import json
import re
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest

from georecon.errors import DataError
from georecon.experiments.experiments import Experiments
from georecon.files import sha256_file, write_json
from georecon.records.chain import read_graph
from georecon.reporting.costs import costs_of
from georecon.reporting.web import chains, content, state
from georecon.reporting.web.plan import site_plan
from georecon.reporting.web.site import PAPER, policy, script_json, unlike
from tests.reporting.web import toy_site
from tests.reporting.web.toy_site import write_progress


class Links(html.parser.HTMLParser):
    """Ids, addresses and forbidden things of a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.ids: list[str] = []
        self.links: list[str] = []
        self.handlers: list[str] = []
        self.labelled: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        for name, value in attrs:
            if name == "id":
                self.ids.append(value or "")
            elif name in ("href", "src"):
                self.links.append(value or "")
            elif name.startswith("on") or name == "style":
                self.handlers.append(f"{tag} {name}")
            elif name in ("aria-labelledby", "aria-controls", "for"):
                self.labelled.append(value or "")


def page_data(text: str) -> dict[str, Any]:
    (found,) = re.findall(r'<script type="application/json" id="data">(.*?)</script>', text)
    return dict(json.loads(found))


def test_every_link_leads_somewhere(page: Path) -> None:
    text = page.read_text()
    found, data = Links(text), page_data(text)
    assert len(found.ids) == len(set(found.ids))
    assert set(found.labelled) <= set(found.ids)
    known = {"cell": set(data["cells"]), "figure": set(data["figures"])}
    known["run"] = {str(k) for k in range(len(data["runs"]))}
    links = [*found.links, *(place["href"] for place in data["places"])]
    kinds = set()
    for link in links:
        if link.startswith("#/"):
            kind, _, rest = link[2:].partition("/")
            kinds.add(kind)
            assert rest in known[kind], link
        elif link.startswith("#"):
            assert link[1:] in found.ids, link
        elif link not in ("data:,", PAPER):
            assert (page.parent / link).is_file(), link
    assert kinds == set(known)
    assert PAPER in links


def test_the_head_links_what_the_repository_has(
    tree: tuple[Path, Experiments], tmp_path: Path
) -> None:
    root = shutil.copytree(tree[0], tmp_path / "tree")
    for name in ("README.md", "CITATION.cff"):
        (root / name).write_text("x")
    links = Links(toy_site.write_page(root, tree[1]).read_text()).links
    assert {"../../../README.md", "../../../CITATION.cff"} <= set(links)
    assert "../../../LICENSE" not in links


def test_paths_in_a_dialog_lead_to_their_files(
    tree: tuple[Path, Experiments], tmp_path: Path
) -> None:
    root = shutil.copytree(tree[0], tmp_path / "tree")
    (gone,) = root.glob("results/tiny/finetune/property/homo/coord/seed1/model.safetensors")
    gone.unlink()
    page = toy_site.write_page(root, tree[1])
    links = page_data(page.read_text())["links"]
    for link in links:
        if link["path"] == gone.relative_to(root).as_posix():
            assert link["href"] is None
            continue
        assert (page.parent / unquote(link["href"])).resolve() == (root / link["path"]).resolve()
    assert len(links) > 50


def test_a_run_has_the_curve_of_its_held_out_score(
    tree: tuple[Path, Experiments], tmp_path: Path
) -> None:
    root = shutil.copytree(tree[0], tmp_path / "tree")
    folder = root / "results/tiny/pretrain/coord/seed1"
    rows = [f"{step},{1 / step}" for step in range(1, 101)]
    (folder / "metrics.csv").write_text("\n".join(["step,val_score", *rows]) + "\n")
    runs = {
        run["path"]: run
        for run in page_data(toy_site.write_page(root, tree[1]).read_text())["runs"]
    }
    curve = runs["results/tiny/pretrain/coord/seed1/run.json"]["curve"]
    assert len(curve) <= chains.CURVE_POINTS
    assert curve[-1] == [100, 0.01]
    assert curve == sorted(curve)
    assert all(score == pytest.approx(1 / step, rel=1e-4) for step, score in curve)


@pytest.mark.parametrize(
    "text", ["", "step,val_score\n1,x\n", "a,b\n1,2\n", "step,val_score\n1\n", "\0\n", None]
)
def test_a_curve_that_is_none_is_left_out(text: str | None, tmp_path: Path) -> None:
    path = tmp_path / "curve.csv"
    if text is not None:
        path.write_text(text)
    assert chains.held_out_scores(path) == []


def test_scores_that_are_no_numbers_are_left_out(tmp_path: Path) -> None:
    path = tmp_path / "curve.csv"
    path.write_text("step,val_score\n1,2.0\n2,nan\n3,\n4,1.5\n")
    assert chains.held_out_scores(path) == [(1, 2.0), (4, 1.5)]


def test_page_is_small_and_has_no_inline_handler(page: Path) -> None:
    text = page.read_text()
    assert Links(text).handlers == []
    assert len(text) < 1_000_000
    assert "http://" not in text.replace("http://www.w3.org", "")


def test_chains_are_those_of_the_records(tree: tuple[Path, Experiments], page: Path) -> None:
    graph, data = read_graph(tree[0], "tiny"), page_data(page.read_text())
    assert graph.faults == []
    for cell in graph.cells():
        shown = data["cells"][content.cell_path(*cell.path.split("/"))]
        links = [data["links"][k] for _, own in shown["chain"] for k in own]
        wanted = {link.path for link in graph.chain(cell.path)} - {cell.path}
        assert {link["path"] for link in links} == wanted
        assert len(links) == len(wanted)
        for link in links:
            assert link["sha256"] == sha256_file(tree[0] / link["path"])
        filled = cell.value is not None
        assert ("Raw files" in [title for title, _ in shown["chain"]]) == filled
        assert (shown["rerun"] is not None) == filled


def test_same_files_give_the_same_page(tree: tuple[Path, Experiments], page: Path) -> None:
    before = page.read_bytes()
    toy_site.write_page(*tree)
    assert page.read_bytes() == before


@pytest.mark.parametrize("text", ["</script>", "<!--", "a\u2028b\u2029c", "]]>", "&lt;", 'x"\\'])
def test_json_cannot_leave_its_script(text: str) -> None:
    found = script_json({text: [text]})
    assert not set("<>&\u2028\u2029") & set(found)
    assert json.loads(found) == {text: [text]}


def test_json_refuses_what_a_browser_cannot_read() -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        script_json([float("nan")])


def test_policy_knows_this_script_only() -> None:
    first, second = policy("a", "b"), policy("a", "c")
    assert first != second
    assert first.startswith("default-src 'none'; style-src 'sha256-")
    assert "unsafe" not in first


def test_audit_verdicts_are_badges(tree: tuple[Path, Experiments], tmp_path: Path) -> None:
    root = shutil.copytree(tree[0], tmp_path / "tree")
    cells = {"qm9/georecon/homo": {"verdict": "differs", "why": ["file changed: <b>x</b>"]}}
    cells["qm9/coord/homo"] = {"verdict": "reproduced", "why": []}
    audit = {"status": "broken", "counts": {"differs": 1, "reproduced": 1}, "cells": cells}
    write_json(root / "results/tiny/audit/audit.json", audit)
    write_json(root / "results/tiny/audit/index.html", {})
    text = toy_site.write_page(root, tree[1]).read_text()
    assert '<span class="badge differs">✗ differs</span> 1' in text
    assert "file changed: &lt;b&gt;x&lt;/b&gt;" in text
    shown = page_data(text)["cells"]
    assert shown["qm9/georecon/homo"]["verdict"]["verdict"] == "differs"
    assert shown["qm9/scratch/homo"]["verdict"] is None


def test_what_the_edition_took_is_a_section(tree: tuple[Path, Experiments], tmp_path: Path) -> None:
    root = shutil.copytree(tree[0], tmp_path / "tree")
    before = toy_site.write_page(root, tree[1]).read_text()
    assert 'id="cost"' not in before
    assert 'href="#cost"' not in before
    graph = read_graph(root, "tiny")
    costs = costs_of(graph, root, {})
    named = {**costs.methods, "<i>mine</i>": costs.total}
    write_json(root / "results/tiny/report/cost.json", replace(costs, methods=named).as_json())
    text = toy_site.write_page(root, tree[1]).read_text()
    assert '<section id="cost"' in text
    assert 'href="#cost"' in text
    assert "&lt;i&gt;mine&lt;/i&gt;" in text
    for group in ("table", "method", "rule"):
        table = text.split(f'<table id="cost-{group}">')[1].split("</table>")[0]
        last = table.rsplit("<tr>", 1)[1]
        assert f'all, each job once</td><td class="num">{costs.total.jobs}</td>' in last


def test_a_finished_page_needs_its_tables(tree: tuple[Path, Experiments], tmp_path: Path) -> None:
    root = shutil.copytree(tree[0], tmp_path / "tree")
    (root / "results/tiny/tables/qm9.json").unlink()
    with pytest.raises(FileNotFoundError, match=r"qm9\.json"):
        toy_site.write_page(root, tree[1])
    assert toy_site.write_page(root, tree[1], live=True).is_file()


def test_state_of_nothing_at_all(tree: tuple[Path, Experiments], tmp_path: Path) -> None:
    text = toy_site.write_page(tmp_path, tree[1], live=True).read_text()
    assert re.search(r"0 of \d+ numbers are made", text)
    assert "No job is training" in text


@pytest.mark.parametrize(
    ("log", "words"),
    [
        (None, "its job has not begun"),
        ("start\nerror: a.csv: record 3: bad\n", "its job failed, .* record 3: bad"),
        ("qm9/homo: step 3/8\n", "its job has begun, .* step 3/8"),
        ("", "has begun, .* nothing written yet"),
    ],
)
def test_why_a_number_is_missing(log: str | None, words: str, tmp_path: Path) -> None:
    file = "results/tiny/finetune/property/homo/coord/seed1/metrics.json"
    if log is not None:
        path = tmp_path / "logs/tiny/finetune/property/homo/coord/seed1.log"
        path.parent.mkdir(parents=True)
        path.write_text(log)
    assert re.search(words, state.why_missing(file, tmp_path))


def test_what_trains_now_comes_from_the_runs_own_progress(tmp_path: Path) -> None:
    results = tmp_path / "results/tiny"
    write_progress(results / "state/abc", "a", step=6, score="0.25", time=1000.0)
    write_progress(results / "state/def", "b", step=3, score="nan", time=100.0)
    write_progress(tmp_path / "results/other/state/abc", "c", step=3, score="nan", time=1000.0)
    first, second = state.training_now(results, 1010.0)
    assert (first.name, first.doing, first.step, first.steps) == ("a", "running", 6, 8)
    assert (first.score_text, first.age_text) == ("0.25", "10 s")
    assert (second.name, second.score, second.score_text) == ("b", None, "")
    assert second.doing.startswith("silent")


def test_pictures_that_are_none_are_refused(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"<svg>" * 10)
    with pytest.raises(DataError, match="not a PNG"):
        content.png_size(tmp_path / "a.png")


def test_short_titles_tell_tables_apart() -> None:
    titles = ["QM9: errors", "Ablation: noise", "Ablation: depth", "Transfer"]
    assert content.short_titles(titles) == ["QM9", "Noise", "Depth", "Transfer"]


def test_published_values_stand_apart_below_the_table_with_their_sources(page: Path) -> None:
    text = page.read_text()
    start = text.index('id="table-md17"')
    section = text[start : text.index("</article>", start)]
    own, _, others = section.partition("<h4>Published, not re-run</h4>")
    assert "NequIP" not in own
    assert "NequIP" in others
    assert "arXiv 2101.03164v3" in others[others.index("Sources of the published values") :]
    assert "other data than this table" in others
    assert "NequIP" not in page_data(text)["cells"].__repr__(), "no number of ours, no chain"


# ---- held against what its files give ----------------------------------------------------------


def _unlike(root: Path, found: Experiments, text: str) -> str | None:
    plan = site_plan(found, ["errors_by_method", "not_made"], toy_site.PUBLISHED)
    return unlike(text, plan, toy_site.EXPECTED, root)


def test_a_file_that_does_not_travel_is_no_edit_of_the_page(tmp_path: Path) -> None:
    """A bundle has no arrays of stores: the page leads to them as it did where it was made."""
    found = toy_site.write_tree(tmp_path)
    text = toy_site.write_page(tmp_path, found).read_text()
    assert _unlike(tmp_path, found, text) is None
    links = [link for link in page_data(text)["links"] if link["href"]]
    gone = next(link for link in links if link["path"].endswith(".safetensors"))
    (tmp_path / gone["path"]).unlink()
    assert _unlike(tmp_path, found, text) is None
    forged = text.replace(f'"href":"{gone["href"]}"', '"href":"https://example.org/x"')
    assert forged != text
    assert "example.org" in str(_unlike(tmp_path, found, forged))
    kept = next(link for link in links if (tmp_path / link["path"]).is_file())
    cut = text.replace(f'"path":"{kept["path"]}","href":"{kept["href"]}"',
                       f'"path":"{kept["path"]}","href":null')  # fmt: skip
    assert cut != text
    assert _unlike(tmp_path, found, cut) is not None
