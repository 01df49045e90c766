"""A job takes from published results what was made as it would make it, and nothing else."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from georecon.errors import DataError
from georecon.files import sha256_file, write_json
from georecon.records.read import Record
from georecon.records.record import LOG_VARIABLE, RunRecord, record_digest
from georecon.records.start import INFO, VARIABLE, take
from georecon.records.untrusted import read_strict_json

PLACE = "results/tiny/finetune/property/homo/coord/seed1"
RUN, LOG = f"{PLACE}/run.json", "logs/tiny/finetune/seed1.log"
OUTPUTS = {"model": f"{PLACE}/model.safetensors", "curve": f"{PLACE}/curve.csv"}
SETTINGS = {"name": "n", "seed": 1, "train": {"steps": 20}, "code": "c0de"}
STORE = "resources/store/qm9/manifest.json"


def write(folder: Path, name: str, text: str) -> None:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


@pytest.fixture
def start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Published results of one run, in a working folder that has its data and none of its files."""
    start = tmp_path / "resources/start/abc"
    for folder in (start, tmp_path):
        write(folder, STORE, "a store")
    for name, text in {**dict.fromkeys(OUTPUTS.values(), "made there"), LOG: "a log\n"}.items():
        write(start, name, text)
    monkeypatch.chdir(start)
    monkeypatch.setenv(LOG_VARIABLE, LOG)
    RunRecord("finetune", SETTINGS, {"store": STORE}).write(RUN, OUTPUTS)
    write_json(start / INFO, {"name": "published.zip", "sha256": "ab" * 32})
    monkeypatch.chdir(tmp_path)
    write(tmp_path, LOG, "")
    monkeypatch.setenv(VARIABLE, "resources/start/abc")
    return start


def taken(settings: dict[str, Any] = SETTINGS, outputs: dict[str, str] = OUTPUTS) -> list[str]:
    """What the job says of why it makes it itself; nothing where it takes it."""
    said: list[str] = []
    found = take(RunRecord("finetune", settings, {"store": STORE}), RUN, outputs, said.append)
    assert found == (not said)
    return said


def change_record(start: Path, change: Callable[[dict[str, Any]], object], **seal: bool) -> None:
    """Edit the published record; sealed, as a forger would leave it."""
    content = json.loads((start / RUN).read_text())
    change(content)
    if seal.get("sealed", True):
        content["sha256"] = record_digest({k: v for k, v in content.items() if k != "sha256"})
    write_json(start / RUN, content)


def test_what_fits_is_taken_and_says_from_where(start: Path) -> None:
    assert taken() == []
    for name in (*OUTPUTS.values(), LOG):
        assert Path(name).read_bytes() == (start / name).read_bytes()
    before, after = (read_strict_json(folder / RUN) for folder in (start, Path()))
    record = Record.from_json(after, RUN)
    assert record.sha256 == record.digest
    assert record.imported is not None
    assert (record.imported.name, record.imported.sha256) == ("published.zip", "ab" * 32)
    assert after.pop("imported")["record"] == before["sha256"]
    assert {k: v for k, v in after.items() if k != "sha256"} == {
        k: v for k, v in before.items() if k != "sha256"
    }


def test_what_was_taken_before_keeps_where_it_was_from_first(start: Path) -> None:
    earlier = {"name": "first.zip", "sha256": "cd" * 32}
    change_record(start, lambda r: r.update(imported=earlier))
    assert taken() == []
    assert json.loads(Path(RUN).read_text())["imported"]["earlier"] == earlier


def test_without_published_results_nothing_is_looked_for(
    start: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(VARIABLE)
    said: list[str] = []
    assert not take(RunRecord("finetune", SETTINGS, {}), RUN, OUTPUTS, said.append)
    assert said == []
    assert not Path(RUN).exists()


def no_run(start: Path) -> None:
    (start / RUN).unlink()


def no_weights(start: Path) -> None:
    (start / OUTPUTS["model"]).unlink()


def other_bytes(start: Path) -> None:
    (start / OUTPUTS["curve"]).write_text("forged")


def other_log(start: Path) -> None:
    (start / LOG).write_text("forged")


def edited(start: Path) -> None:
    change_record(start, lambda r: r.update(seconds=99.0), sealed=False)


def of_another_store(start: Path) -> None:
    change_record(start, lambda r: r["inputs"]["store"].update(sha256="0" * 64))


def with_another_input(start: Path) -> None:
    entry = {"path": "resources/x", "bytes": 1, "sha256": "0" * 64}
    change_record(start, lambda r: r["inputs"].update(encoder=entry))


def into_another_folder(start: Path) -> None:
    entry = {"path": "Snakefile", "bytes": 10, "sha256": sha256_file(start / OUTPUTS["curve"])}
    change_record(start, lambda r: r["outputs"].update(curve=entry))


def out_of_the_folder(start: Path) -> None:
    change_record(start, lambda r: r["outputs"]["curve"].update(path="../x"))


def onto_another_log(start: Path) -> None:
    change_record(start, lambda r: r["job"]["log"].update(path="Snakefile"))


def of_another_stage(start: Path) -> None:
    change_record(start, lambda r: r.update(stage="pretrain"))


def of_other_types(start: Path) -> None:
    change_record(start, lambda r: r.update(settings=[1]))


def unreadable(start: Path) -> None:
    (start / RUN).write_text("{")


MISFITS: dict[Callable[[Path], None], str] = {
    no_run: "it has no such run",
    no_weights: f"it has no {OUTPUTS['model']} (a bundle has it if it was written with bundle_w",
    other_bytes: f"its {OUTPUTS['curve']} is not the file that its record names",
    other_log: f"its {LOG} is not the file that its record names",
    edited: "its record was edited",
    of_another_store: f"it was made from another {STORE}",
    with_another_input: "it was made from another resources/x",
    into_another_folder: "it wrote other files",
    out_of_the_folder: "names '../x', a path out of the folder",
    onto_another_log: "it wrote another log",
    of_another_stage: "its record is of another stage or format",
    of_other_types: "expected dict",
    unreadable: "not readable as JSON",
}


@pytest.mark.parametrize("spoil", MISFITS, ids=lambda f: f.__name__)
def test_what_does_not_fit_is_made_here_and_said_in_a_line(
    spoil: Callable[[Path], None], start: Path
) -> None:
    spoil(start)
    before = sha256_file(STORE)
    (line,) = taken()
    assert line.startswith("made here, not taken from published.zip: ")
    assert MISFITS[spoil] in line
    assert line.isprintable()
    assert not Path(RUN).exists(), "a record of what was not taken"
    assert not Path("Snakefile").exists()
    assert sha256_file(STORE) == before


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({**SETTINGS, "code": "other"}, "it was made by other code than is here"),
        ({**SETTINGS, "seed": 2}, "seed is 1, the configuration says 2"),
        ({**SETTINGS, "train": {"steps": 40}}, "train.steps is 20, the configuration says 40"),
    ],
)
def test_other_settings_are_named(settings: dict[str, Any], words: str, start: Path) -> None:
    (line,) = taken(settings)
    assert words in line


def test_a_hostile_name_cannot_steer_the_terminal(start: Path) -> None:
    change_record(start, lambda r: r["settings"].update(name="\x9b31m"))
    (line,) = taken()
    assert line.isprintable()


def test_a_folder_that_is_gone_is_an_error(start: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, "resources/start/gone")
    with pytest.raises(DataError, match=r"start\.json: is missing"):
        taken()
