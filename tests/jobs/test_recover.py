"""After a killed run: its jobs are waited for, broken files made again, the command given again."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from georecon.jobs import recover

RECORD = {"outputs": {"encoder": {"path": "results/e/a/encoder", "bytes": 3}}}


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project with a Snakefile of one rule, and a queue that prints a file."""
    (tmp_path / "rows").write_text("")
    (tmp_path / "squeue").write_text(
        f"#!/bin/sh\ncat {tmp_path}/rows; echo look >>{tmp_path}/looks; : >{tmp_path}/rows\n"
    )
    (tmp_path / "squeue").chmod(0o755)
    (tmp_path / "Snakefile").write_text('rule all:\n    output: "made"\n    shell: "touch made"\n')
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    monkeypatch.setattr(recover, "_PAUSE", 0.01)
    return tmp_path


def run(place: Path, **record: object) -> Path:
    folder = place / "results/e/a"
    folder.mkdir(parents=True)
    (folder / "encoder").write_text("abc")
    (folder / "run.json").write_text(json.dumps(RECORD | record))
    return folder


def test_jobs_are_waited_for_and_named_when_they_change(place: Path) -> None:
    (place / "rows").write_text(f"7|RUNNING|rule_pretrain|georecon_1|{place}\n")
    lines: list[str] = []
    recover.wait_for_jobs(place, lines.append, pause=0.01)
    assert lines == ["recover: waiting for 7 (rule_pretrain, RUNNING); Ctrl-C leaves them at work"]
    assert (place / "looks").read_text().count("look") == 2


def test_whole_outputs_are_left_and_broken_ones_made_again(place: Path) -> None:
    folder = run(place)
    assert list(recover.broken_outputs(place)) == []
    (folder / "encoder").write_text("ab")
    (found,) = recover.broken_outputs(place)
    assert found.text == "of 2 bytes, its record says 3"
    assert recover.set_aside(found, place) == (
        "recover: results/e/a/encoder is of 2 bytes, its record says 3: made again; the record is "
        "now run.json.broken"
    )
    assert sorted(path.name for path in folder.iterdir()) == ["encoder", "run.json.broken"]
    (folder / "run.json.broken").rename(folder / "run.json")
    (folder / "encoder").unlink()
    (found,) = recover.broken_outputs(place)
    assert found.text.startswith("missing")


@pytest.mark.parametrize("text", ["", "{", "[]", '{"outputs": {"a": {"path": "x"}}}'])
def test_a_record_that_says_nothing_is_broken(place: Path, text: str) -> None:
    (run(place) / "run.json").write_text(text)
    (found,) = recover.broken_outputs(place)
    assert found.text.startswith("not readable as a record")


@pytest.mark.long
def test_the_command_is_given_again_after_the_lock_is_gone(
    place: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    (place / "rows").write_text(f"7|RUNNING|rule_pretrain|georecon_1|{place}\n")
    (place / ".snakemake/locks").mkdir(parents=True)
    for kind in ("input", "output"):
        (place / f".snakemake/locks/0.{kind}.lock").write_text(f"{place}/made\n")
    monkeypatch.setattr(sys, "argv", ["recover", "--cores", "1", "--quiet", "--", "all"])
    assert recover.main() == 0
    assert (place / "made").exists()
    assert "waiting for 7" in capfd.readouterr().err
    monkeypatch.setattr(sys, "argv", ["recover"])
    assert recover.main() == 2


def test_a_living_snakemake_is_left_alone(
    place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(recover, "watched", lambda folder: True)
    monkeypatch.setattr(sys, "argv", ["recover", "--cores", "1"])
    assert recover.main() == 1
    assert "leave it alone" in capsys.readouterr().err
