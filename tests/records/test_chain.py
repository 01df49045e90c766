"""The chain of every cell of a real tiny run, as the library recorded it."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from georecon.files import sha256_file, sha256_json, write_json
from georecon.records.chain import Graph, Run, read_graph
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
    # two seeds, each pre-trained, fine-tuned on its own draw and evaluated; their splits and
    # pre-training's, leak, store, 3 fetches
    stages = Counter(link.record.stage for link in chain if isinstance(link, Run))
    assert stages == {
        "finetune": 2, "evaluate": 2, "pretrain": 2, "split": 3, "leak": 1, "preprocess": 1,
        "fetch": 3,
    }  # fmt: skip
    wanted = {"metrics": 2, "predictions": 2, "outputs": 2, "model": 2, "encoder": 2, "split": 3}
    assert {kind: kinds[kind] for kind in wanted} == wanted
    raw = [link for link in chain if link.kind == "raw"]
    assert len(raw) == 3
    assert all(link.facts["package"] == "qm9pack" and len(link.sha256 or "") == 64 for link in raw)


def test_computed_raw_data_says_so(graph: Graph) -> None:
    raw = [link for link in graph.chain("md17/force_coord/ethanol") if link.kind == "raw"]
    computed = [link for link in raw if link.facts["origin"] == "computed"]
    assert [link.path for link in computed] == ["resources/raw/xmd17/xmd17_ethanol.npz"]
    simulation = computed[0].facts["simulation"]
    assert isinstance(simulation, dict)
    assert simulation["frames"] > 0


def test_links_come_before_what_they_were_made_from(graph: Graph) -> None:
    for cell in graph.cells():
        place = {link.path: k for k, link in enumerate(graph.chain(cell.path))}
        for path, here in place.items():
            assert all(here < place[parent] for parent in graph.links[path].parents), path


def test_runs_say_what_a_reviewer_asks(graph: Graph) -> None:
    records = graph.records.values()
    assert {record.stage for record in records} >= {
        "fetch", "xtb", "preprocess", "split", "leak", "pretrain", "finetune", "evaluate",
        "smoothness", "table",
    }  # fmt: skip
    for record in records:
        assert len(record.code.commit or "") == 40, record.path
        assert record.code.dirty is False
        assert len(record.lock_sha256 or "") == 64
        assert record.seconds is not None
        assert record.seconds >= 0
        assert record.settings_sha256 == sha256_json(record.settings)
        assert record.log is not None
        assert record.log.path.startswith("logs/")
        assert record.compute.threads == 1
        assert record.sha256 == record.digest


def test_every_cell_with_a_value_has_a_chain_to_a_store(graph: Graph) -> None:
    cells = list(graph.cells())
    assert len({cell.path for cell in cells}) == len(cells) > 50
    for cell in cells:
        kinds = {link.kind for link in graph.chain(cell.path)}
        assert ("store" in kinds and "raw" in kinds) == (cell.value is not None)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('{"stage": "finetune", "settings": {}, "inputs": {}, "outputs": {"model": 3}, "job": {}}',
         "expected str"),
        ('{"stage": "finetune", "settings": {}, "inputs": {"a": {"path": "../../x", "bytes": 1, '
         '"sha256": "0"}}, "outputs": {}, "job": {}}', "out of the folder"),
        ('{"stage": "finetune", "settings": {}, "inputs": {}, "outputs": {}, "job": {}, '
         '"training": {"steps": []}}', "record steps: is [], expected int"),
        ('{"stage": "finetune", "settings": {}, "inputs": {}, "outputs": {}, "job": {}, '
         '"seconds": true}', "record seconds: is True, expected float"),
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


@pytest.mark.parametrize(
    ("manifest", "words"),
    [
        ({"files": {"z.npy": 3}}, "z.npy: is 3, expected dict"),
        ({"files": {"z.npy": {"sha256": "0", "bytes": "1"}}}, "bytes: is '1', expected int"),
        ({"files": []}, "files: is [], expected dict"),
        ({}, "files: is None, expected dict"),
    ],
)
def test_a_manifest_of_another_form_is_a_fault_not_an_error(
    manifest: dict[str, object], words: str, tmp_path: Path
) -> None:
    store = "resources/store/toy/manifest.json"
    written = {"path": store, "bytes": 1, "sha256": "0" * 64}
    record = {"stage": "preprocess", "settings": {}, "inputs": {}, "job": {}}
    path = tmp_path / "resources/records/preprocess/toy.json"
    write_json(path, record | {"outputs": {"store": written}})
    write_json(tmp_path / store, manifest)
    (fault,) = read_graph(tmp_path, "tiny").faults
    assert (fault.kind, fault.path) == ("file unreadable", store)
    assert words in fault.text
