"""Hashing: in parallel, each unchanged file once, memory flat, and it goes on after a stop."""

from __future__ import annotations

import os
import resource
from pathlib import Path

import pytest

from georecon.audit import files
from georecon.audit.files import Hashed, KnownHashes, hash_files
from georecon.files import sha256_file


@pytest.fixture
def names(tmp_path: Path) -> list[str]:
    for k in range(200):
        (tmp_path / f"{k}.bin").write_bytes(bytes([k]) * (k + 1))
    return [f"{k}.bin" for k in range(200)]


def test_every_file_has_its_hash_and_a_missing_one_none(tmp_path: Path, names: list[str]) -> None:
    found = hash_files(tmp_path, [*names, *names, "gone.bin"])
    assert found["gone.bin"] is None
    assert found["7.bin"] == Hashed(8, sha256_file(tmp_path / "7.bin"))
    assert len(found) == 201


def test_only_changed_files_are_read_again(
    tmp_path: Path, names: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[str] = []

    def spy(path: Path) -> str:
        read.append(path.name)
        return sha256_file(path)

    monkeypatch.setattr(files, "sha256_file", spy)
    known = tmp_path / "audit/hashes.json"
    hash_files(tmp_path, names, KnownHashes(known))
    assert sorted(read) == sorted(names)
    read.clear()
    path, stat = tmp_path / "3.bin", (tmp_path / "3.bin").stat()
    path.write_bytes(b"abcd")  # of the same size, and as old as before
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    found = hash_files(tmp_path, names, KnownHashes(known))
    assert read == ["3.bin"]
    assert [name for name, one in found.items() if one is not None and not one.kept] == ["3.bin"]


def test_an_audit_that_is_stopped_goes_on(
    tmp_path: Path, names: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(files, "_SAVE_SECONDS", 0.0)
    known = tmp_path / "audit/hashes.json"
    (tmp_path / names[150]).unlink()
    os.mkfifo(tmp_path / "never")  # no file: None, and nobody waits for it
    hash_files(tmp_path, [*names[:100], "never"], KnownHashes(known))
    found = hash_files(tmp_path, names, KnownHashes(known))
    assert sum(one is not None and one.kept for one in found.values()) == 100


def test_a_list_that_is_none_is_no_list(tmp_path: Path, names: list[str]) -> None:
    known = tmp_path / "hashes.json"
    for text in ("", "[]", '{"0.bin": [1, 2]}', '{"0.bin": 3}', "{"):
        known.write_text(text)
        found = hash_files(tmp_path, names[:2], KnownHashes(known))
        assert found["0.bin"] == Hashed(1, sha256_file(tmp_path / "0.bin"))


def test_large_files_take_no_memory_and_progress_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(files, "_SAY_SECONDS", 0.0)
    for k in range(8):
        with open(tmp_path / f"{k}.bin", "wb") as handle:
            handle.truncate(64 << 20)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    said: list[str] = []
    hash_files(tmp_path, [f"{k}.bin" for k in range(8)], None, said.append)
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    assert grown < 32 << 10  # [KiB], of half a gigabyte
    assert len(said) == 8
    assert said[-1].startswith("8 files, 0.5 GB hashed, ")
