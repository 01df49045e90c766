"""A job ends with a sentence: bad input, and a disk that is full."""

from __future__ import annotations

import errno
import mmap
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy
import pytest
import torch

from georecon.errors import DataError
from georecon.files import write_json
from georecon.jobs.job import job


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (DataError("a.npz", 3, "is bad"), "error: a.npz, record 3: is bad"),
        (OSError(errno.ENOSPC, "No space left on device", "t.csv"), "full while writing t.csv"),
        (OSError(errno.EDQUOT, "Disk quota exceeded", "t.csv"), "full while writing t.csv"),
    ],
)
def test_the_message_alone_is_said(
    error: Exception, words: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as end, job(tmp_path / "a/b.log"):
        raise error
    assert end.value.code == 1
    said = capsys.readouterr().err
    assert words in said
    assert "Traceback" not in said
    assert words in (tmp_path / "a/b.log").read_text()


def test_any_other_error_keeps_its_traceback(tmp_path: Path) -> None:
    with pytest.raises(PermissionError), job(tmp_path / "b.log"):
        raise PermissionError(errno.EACCES, "Permission denied", "t.csv")
    assert "Traceback" in (tmp_path / "b.log").read_text()


GPU = (
    "CUDA out of memory. Tried to allocate 20.00 GiB. GPU 0 has a total capacity of 79.10 GiB of "
    "which 3.25 GiB is free. Including non-PyTorch memory, this process has 75.84 GiB in use. If "
    "reserved but unallocated memory is large try setting PYTORCH_ALLOC_CONF"
)


def fail(words: str) -> None:
    raise RuntimeError(words)


@pytest.mark.parametrize(
    ("full", "words"),
    [
        (lambda: numpy.empty(1 << 58, numpy.uint8), "machine's memory is full (it was to allocate"),
        (
            lambda: torch.empty(1 << 50),
            "machine's memory is full (it was to allocate 4503599627370",
        ),
        (lambda: bytearray(1 << 62), "this machine's memory is full: run fewer"),
        (lambda: mmap.mmap(-1, 1 << 56), "this machine's memory is full: run fewer"),
        (
            lambda: fail("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling x"),
            "the GPU's memory is",
        ),
        (
            lambda: (_ for _ in ()).throw(torch.OutOfMemoryError(GPU)).__next__(),
            "the GPU's memory is full (Tried to allocate 20.00 GiB, has a total capacity of 79.10 "
            "GiB of which 3.25 GiB is free): in a training take batches in smaller parts",
        ),
    ],
)
def test_memory_that_is_really_full(
    full: Callable[[], object], words: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as end, job(tmp_path / "b.log"):
        full()
    assert end.value.code == 1
    said = capsys.readouterr().err
    assert words in said
    assert said.count("\n") == 1
    assert "Traceback" in (tmp_path / "b.log").read_text()  # for whoever wants to know where


SCRIPT = """
import sys
from pathlib import Path
from georecon.files import write_text
from georecon.jobs.job import job
with job("logs/table.log") as log:
    log.write("x" * 100)
    write_text("results/table.csv", "y" * 3_000_000)
"""


@pytest.mark.skipif(os.getuid() != 0, reason="mounts a small disk: root only")
@pytest.mark.parametrize("filled", [0, 990_000])
def test_a_disk_that_is_really_full(filled: int, tmp_path: Path) -> None:
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=1m", "none", str(tmp_path)],
        capture_output=True, check=False,
    )  # fmt: skip
    if mounted.returncode:
        pytest.skip("no tmpfs can be mounted here")
    try:
        (tmp_path / "other").write_bytes(b"z" * filled)
        done = subprocess.run(
            [sys.executable, "-c", SCRIPT],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 1
        assert "the disk or your quota is full" in done.stderr
        assert "Traceback" not in done.stderr
        assert list((tmp_path / "results").glob("*")) == []
    finally:
        subprocess.run(["umount", str(tmp_path)], check=True)


def test_a_sound_job_says_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with job(tmp_path / "b.log") as log:
        write_json(tmp_path / "a.json", {})
        log.write("a line")
    assert capsys.readouterr().err == ""
    assert (tmp_path / "b.log").read_text() == "a line\n"
