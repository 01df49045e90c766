"""The chain of every cell of a real tiny run, as the library recorded it."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pytest

from georecon.files import sha256_file, sha256_json, write_json
from georecon.records.chain import Graph, read_graph
from georecon.records.record import record_digest
from tests.projects import Project

pytestmark = [pytest.mark.workflow, pytest.mark.slow, pytest.mark.timeout(600)]


@pytest.fixture(scope="module")
def graph(finished: Project) -> Graph:
    return read_graph(finished.folder, "tiny")


def test_every_file_of_the_chain_is_as_recorded(finished: Project, graph: Graph) -> None:
    assert graph.faults == []
    assert len(graph.claims) > 400
    for claim in graph.claims:
        path = finished.folder / claim.path
        assert sha256_file(path) == claim.sha256, claim
        assert claim.bytes in (None, path.stat().st_size), claim


def test_a_fine_tuned_number_leads_to_its_raw_files(graph: Graph) -> None:
    chain = graph.chain("qm9/georecon/homo")
    kinds = Counter(link.kind for link in chain)
    assert kinds["cell"] == 1
    # two seeds, each fine-tuned and evaluated; one pre-training, two splits, leak, store, 3 fetches
    stages = Counter(link.facts["stage"] for link in chain if link.kind == "run")
    assert stages == {
        "finetune": 2, "evaluate": 2, "pretrain": 1, "split": 2, "leak": 1, "preprocess": 1,
        "fetch": 3,
    }  # fmt: skip
    wanted = {"metrics": 2, "predictions": 2, "outputs": 2, "model": 2, "encoder": 1, "split": 2}
    assert {kind: kinds[kind] for kind in wanted} == wanted
    raw = [link for link in chain if link.kind == "raw"]
    assert len(raw) == 3
    assert all(link.facts["package"] == "qm9pack" and len(link.sha256 or "") == 64 for link in raw)


def test_computed_raw_data_says_so(graph: Graph) -> None:
    raw = [link for link in graph.chain("md17/force_coord/ethanol") if link.kind == "raw"]
    computed = [link for link in raw if link.facts["origin"] == "computed"]
    assert [link.path for link in computed] == ["resources/raw/xmd17/xmd17_ethanol.npz"]
    assert computed[0].facts["simulation"]["frames"] > 0


def test_links_come_before_what_they_were_made_from(graph: Graph) -> None:
    for cell in graph.cells():
        place = {link.path: k for k, link in enumerate(graph.chain(cell.path))}
        for path, here in place.items():
            assert all(here < place[parent] for parent in graph.links[path].parents), path


def test_runs_say_what_a_reviewer_asks(graph: Graph) -> None:
    runs = [link for link in graph.links.values() if link.kind == "run"]
    assert {run.facts["stage"] for run in runs} >= {
        "fetch", "xmd17", "preprocess", "split", "leak", "pretrain", "finetune", "evaluate",
        "smoothness", "table",
    }  # fmt: skip
    for run in runs:
        facts = run.facts
        assert len(facts["code"]["commit"]) == 40, run.path
        assert facts["code"]["dirty"] is False
        assert len(facts["environment"]["sha256"]) == 64
        assert facts["seconds"] >= 0
        assert facts["settings_sha256"] == sha256_json(facts["settings"])
        assert "slurm" in facts["job"]
        assert facts["job"]["log"]["path"].startswith("logs/")
        assert facts["compute"]["threads"] == 1
    for record in graph.records.values():
        assert record["sha256"] == record_digest(record)


def test_every_cell_with_a_value_has_a_chain_to_a_store(graph: Graph) -> None:
    cells = list(graph.cells())
    assert len({cell.path for cell in cells}) == len(cells) > 50
    for cell in cells:
        kinds = {link.kind for link in graph.chain(cell.path)}
        assert ("store" in kinds and "raw" in kinds) == (cell.facts["value"] is not None)


def test_graph_is_json(graph: Graph) -> None:
    document = json.loads(json.dumps(graph.as_json(), allow_nan=False))
    assert document["rerun"]["qm9/coord/homo"].endswith("cell=qm9/coord/homo -- rerun")
    assert set(document["chains"]) == {cell.path for cell in graph.cells()}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('{"stage": "finetune", "settings": {}, "inputs": {}, "outputs": {"model": 3}, "job": {}}',
         "expected str"),
        ('{"stage": "finetune", "settings": {}, "inputs": {"a": {"path": "../../x", "bytes": 1, '
         '"sha256": "0"}}, "outputs": {}, "job": {}}', "out of the folder"),
        ('{"stage": NaN}', "NaN"),
        ("[" * 100_000, "nested"),
        ("[1, 2]", "expected an object"),
        ('{"stage": 1, "stage": 2}', "a key twice"),
        ("{", "not readable as JSON"),
    ],
)  # fmt: skip
def test_a_record_of_another_form_is_a_fault_not_an_error(
    text: str, words: str, tmp_path: Path
) -> None:
    path = tmp_path / "results/tiny/finetune/a/b/c/seed1/run.json"
    write_json(path, {})
    path.write_text(text)
    (fault,) = read_graph(tmp_path, "tiny").faults
    assert fault.path == "results/tiny/finetune/a/b/c/seed1/run.json"
    assert words in fault.text
