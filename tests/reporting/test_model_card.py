"""Cards say what a file of weights is, from its records, with the numbers of its own run."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from georecon.files import read_json, write_json
from georecon.library import card as command
from georecon.records.chain import read_graph
from georecon.records.record import record_digest
from georecon.reporting.model_card import CardBook
from georecon.reporting.web import chains
from tests.reporting.card_results import FINETUNE, PRETRAIN, STORES, graph_of, write_results


def cards(root: Path) -> dict[str, str | None]:
    graph = graph_of(root)
    book = CardBook(graph, STORES.values())
    return {path: book.card(record) for path, record in graph.records.items()}


def head_and_body(text: str | None) -> tuple[dict[str, Any], str]:
    assert text is not None
    _, head, body = text.split("---\n", 2)
    return yaml.safe_load(head), body


def test_a_fine_tuned_models_card(tmp_path: Path) -> None:
    head, body = head_and_body(cards(tmp_path)[f"{FINETUNE}/run.json"])
    assert head["license"] == "mit"
    assert head["library_name"] == "georecon"
    assert head["datasets"] == ["qm9", "pcqm"]
    assert head["metrics"] == ["mae"]
    (model,) = head["model-index"]
    assert model["name"] == "georecon-tiny-finetune-property-homo-coord-seed1"
    (result,) = model["results"]
    assert result == {
        "task": {"type": "graph-ml", "name": "qm9/coord/homo"},
        "dataset": {"type": "qm9", "name": "QM9, molecules"},
        "metrics": [{"type": "mae", "name": "qm9/coord/homo", "value": 0.25, "unit": "eV"}],
    }
    record = read_json(tmp_path / f"{FINETUNE}/run.json")
    for fact in (
        record["sha256"],
        record["settings_sha256"],
        record["outputs"]["model"]["sha256"],
        record["inputs"]["encoder"]["sha256"],
        "| qm9/coord/homo | mae | 0.25 | eV |",
        "licence: CC0",
        "licence: CC BY 4.0",
        "PCQM \\| many molecules",
        "20 steps",
    ):
        assert fact in body, fact
    assert "baseline" not in body, "the number of a row that is no method's own"


def test_an_encoders_card_has_the_numbers_of_runs_that_began_with_it(tmp_path: Path) -> None:
    found = cards(tmp_path)
    head, body = head_and_body(found[f"{PRETRAIN}/run.json"])
    assert head["datasets"] == ["pcqm"]
    assert [r["metrics"][0]["value"] for r in head["model-index"][0]["results"]] == [0.25]
    assert head["model-index"][0]["results"][0]["dataset"]["type"] == "qm9"
    assert "objective `denoise`" in body
    assert '.embed(["CCO"])' in body


def test_without_tables_there_are_no_numbers(tmp_path: Path) -> None:
    write_results(tmp_path)
    (tmp_path / "results/tiny/tables/qm9.json").unlink()
    graph = read_graph(tmp_path, "tiny")
    text = CardBook(graph, []).card(graph.records[f"{FINETUNE}/run.json"])
    head, body = head_and_body(text)
    assert "model-index" not in head
    assert head["metrics"] == []
    assert head["datasets"] == []
    assert "No finished table has a number of it." in body


def test_a_hostile_name_stays_a_text(tmp_path: Path) -> None:
    write_results(tmp_path)
    path = tmp_path / f"{FINETUNE}/run.json"
    record = read_json(path)
    record["settings"]["method"] = "x\n---\nlicense: gpl"
    record["sha256"] = record_digest({k: v for k, v in record.items() if k != "sha256"})
    write_json(path, record)
    graph = read_graph(tmp_path, "tiny")
    head, _ = head_and_body(CardBook(graph, []).card(graph.records[f"{FINETUNE}/run.json"]))
    assert head["license"] == "mit"
    assert head["tags"][-1] == "x --- license: gpl"


def test_a_runs_dialog_has_curve_settings_and_card(tmp_path: Path) -> None:
    graph = graph_of(tmp_path)
    book = chains.ChainBook(
        graph, [*graph.records, *graph.links], tmp_path, "results/tiny/report",
        CardBook(graph, STORES.values()),
    )  # fmt: skip
    runs = {run["path"]: run for run in book.as_json()["runs"]}
    tuned = runs[f"{FINETUNE}/run.json"]
    assert tuned["curve"] == [(10, 0.9)]
    assert tuned["settings"]["method"] == "coord"
    assert tuned["card"].startswith("---\nlicense: mit\n")
    json.dumps(runs)


# ---- command ------------------------------------------------------------------------------------


def refusals(folder: Path) -> dict[str, str]:
    (folder / "other.safetensors").write_text("")
    (folder / f"{FINETUNE}/stray.safetensors").write_text("")
    (folder / "results/tiny/state/x").mkdir(parents=True)
    (folder / "results/tiny/state/x/y.safetensors").write_text("")
    return {
        str(folder / "nowhere"): "no such file",
        str(folder / "other.safetensors"): "lies in no results/<edition> of a project",
        str(folder / "results/tiny/state/x/y.safetensors"): "no record of a training lies beside",
        str(folder / f"{FINETUNE}/stray.safetensors"): "is not among the files that the record",
        f"{folder / 'other.safetensors'}::x": "cannot be read as a bundle",
    }


def test_the_command_prints_or_says_why_not(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    write_results(tmp_path)
    root = Path(__file__).resolve().parents[2]
    (tmp_path / "config").symlink_to(root / "config")
    output = tmp_path / "README.md"
    file = str(tmp_path / f"{FINETUNE}/model.safetensors")
    assert command.main([file, "-o", str(output)]) == 0
    assert command.main([file]) == 0
    assert capsys.readouterr().out == output.read_text()
    head, _ = head_and_body(output.read_text())
    assert head["datasets"] == ["qm9"]
    for name, words in refusals(tmp_path).items():
        assert command.main([name]) == 1, name
        said = capsys.readouterr().err
        assert words in said
        assert len(said.splitlines()) == 1
