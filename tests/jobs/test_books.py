"""Slurm's books: attempts and steps of a job together, whatever the cluster keeps."""

from __future__ import annotations

import pytest

from georecon.jobs import books
from georecon.jobs.books import Entry, parse_books, read_books

TEXT = """\
7|3600|01:30:00||1800000|billing=1,cpu=1,gres/gpu=2,mem=8G,node=1
7.batch|3600|01:30:00|2000000K|1800000|cpu=1,gres/gpu=2
7.extern|3600|00:00.001|0|1800000|cpu=1
7|1800|30:00.500||0|cpu=1,gres/gpu=2
7.batch|1800|30:00|3G||cpu=1
8|60|1-00:00:00|||cpu=1
9|60|||0|
not|a|line
"""


def test_attempts_add_up_and_steps_do_not() -> None:
    found = parse_books(TEXT)
    assert found["7"].gpu_hours == 2 * 1.5  # both attempts of two GPUs
    assert found["7"].cpu_hours == pytest.approx(2.0, abs=1e-3)
    assert found["7"].peak_mb == pytest.approx(3221.2, abs=0.1)
    assert found["7"].energy_kwh == pytest.approx(0.5)  # not that of its steps again
    assert found["8"] == Entry(cpu_hours=24, gpu_hours=0, peak_mb=None, energy_kwh=None)
    assert found["9"].cpu_hours == 0
    assert len(found) == 3


def test_energy_of_steps_alone() -> None:
    text = "5|10|00:10||0|\n5.batch|10|00:10|1M|3600000|\n5.extern|10|0|1M|3600000|\n"
    assert parse_books(text)["5"].energy_kwh == 1.0


def test_many_jobs_are_asked_for_in_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def ask(*words: str) -> str:
        asked.append(words[words.index("--jobs") + 1].split(","))
        return "".join(f"{job}|1|00:01|||\n" for job in asked[-1])

    monkeypatch.setattr(books, "ask", ask)
    found = read_books([str(k) for k in range(450)] + ["x; rm", "3"])
    assert [len(jobs) for jobs in asked] == [200, 200, 50]
    assert len(found) == 450


def test_without_books_there_is_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []
    monkeypatch.setattr(books, "ask", lambda *words: asked.append(words))
    assert read_books(map(str, range(900))) == {}
    assert len(asked) == 1
    assert read_books([]) == {}
