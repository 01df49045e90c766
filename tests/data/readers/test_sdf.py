"""SDF files: containers, ids, processes, damage, constant memory."""

from __future__ import annotations

import gzip
import io
import os
import signal
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from georecon.data.molecules import Molecules, Rejected
from georecon.data.readers.sdf import iter_sdf
from georecon.data.store import Store
from georecon.errors import DataError
from georecon.stages.preprocess import preprocess
from tests.data.readers.sdf_fixtures import FAULTS, WATER, put

CONFORMERS = "pretrain/conformers/conformer_benchmark_neutral_subset.sdf.gz"


def read(path: Path, **options: Any) -> Molecules:
    return Molecules.concatenate(iter_sdf(path, **options))


def read_all(path: Path, **options: Any) -> tuple[list[bytes], list[Rejected]]:
    """The bytes of every array, and what was rejected."""
    rejected: list[Rejected] = []
    molecules = read(path, on_reject=rejected.append, **options)
    arrays = (molecules.ids, molecules.z, molecules.pos, molecules.offsets)
    return [array.tobytes() for array in arrays], rejected


def test_counts_of_the_conformers(mirror: Path) -> None:
    got = read(mirror / CONFORMERS)
    assert (len(got), len(got.z)) == (5528, 226_232)
    assert np.array_equal(got.ids, np.arange(5528))


@pytest.mark.parametrize("processes", [2, 3])
def test_processes_change_nothing(mirror: Path, processes: int) -> None:
    file = mirror / CONFORMERS
    assert read_all(file, processes=processes) == read_all(file)


def test_a_cut_at_every_byte_changes_nothing(tmp_path: Path) -> None:
    pytest.importorskip("rdkit.Chem")
    faults = [FAULTS[name] for name in ("bad counts line", "crlf", "missing end", "isotopes")]
    records = b"".join(WATER.encode() + fault.record for fault in faults)
    file = put(tmp_path / "a.sdf", records)
    whole = read_all(file)
    assert len(whole[0][0]) // 8 == 6
    assert [one.record for one in whole[1]] == ["1", "5", "6"]
    for block_bytes in (1, 2, 3, 5, 7, *range(700, 700 + len(WATER))):
        assert read_all(file, block_bytes=block_bytes) == whole, block_bytes
    for processes in (2, 3):
        assert read_all(file, block_bytes=257, processes=processes) == whole


def test_stores_of_one_and_two_processes_have_the_same_bytes(
    cards: dict[str, Any], tmp_path: Path
) -> None:
    """Every record of the file is in the store or in its manifest, with file row, title, reason."""
    pytest.importorskip("rdkit.Chem")
    records = b"".join(WATER.encode() + fault.record for fault in FAULTS.values())
    put(tmp_path / "a.sdf", records * 300)
    rows = 300 * sum(1 + fault.rows for fault in FAULTS.values())
    source = {"reader": "sdf", "max_rejected": rows, "files": {"archive": {"name": "a.sdf"}}}
    card = cards["pcqm4mv2"] | {
        "expected_molecules": rows,
        "default_source": "toy",
        "sources": {"toy": source},
    }
    manifests = []
    for processes in (1, 2):
        preprocess(card, tmp_path, tmp_path / f"{processes}", processes=processes)
        store = Store.open(tmp_path / f"{processes}", verify=True)
        manifests.append((tmp_path / f"{processes}" / "manifest.json").read_bytes())
    assert manifests[0] == manifests[1]
    rejected = store.manifest.rejected
    assert [int(one.record) for one in rejected] == sorted(set(range(rows)) - set(store.ids))
    assert all("title 'water 3'" in one.reason for one in rejected)


def test_every_container_gives_the_same(tmp_path: Path) -> None:
    text = WATER * 3
    plain = read(put(tmp_path / "a.sdf", text))
    assert len(plain) == 3
    with gzip.open(tmp_path / "a.sdf.gz", "wt") as handle:
        handle.write(text)
    with tarfile.open(tmp_path / "a.sdf.tar.gz", "w:gz") as archive:
        info = tarfile.TarInfo("folder/a.sdf")
        info.size = len(text)
        archive.addfile(info, io.BytesIO(text.encode()))
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as bundle:
        bundle.writestr("a.sdf", text)
        bundle.writestr("__MACOSX/._a.sdf", "x")
    for name in ("a.sdf.gz", "a.sdf.tar.gz", "a.zip"):
        other = read(tmp_path / name, block_bytes=2)
        assert np.array_equal(other.pos, plain.pos), name
        assert np.array_equal(other.ids, [0, 1, 2]), name


@pytest.mark.parametrize("processes", [1, 2])
def test_ids_from_titles(tmp_path: Path, processes: int) -> None:
    text = WATER + WATER.replace("water 3", "water 17")
    file = put(tmp_path / "a.sdf", text)
    options = {"processes": processes, "block_bytes": 10}
    assert read(file, title_id=r"water (\d+)", **options).ids.tolist() == [3, 17]
    with pytest.raises(DataError, match=r"a\.sdf, record 0: expected an id.*title 'water 3'"):
        read(file, title_id=r"mol(\d+)", **options)
    rejected: list[Rejected] = []
    got = read(file, title_id=r"(17|\d\d\d)", on_reject=rejected.append, **options)
    assert got.ids.tolist() == [17]
    assert [one.record for one in rejected] == ["0"]


def test_ends_of_files(tmp_path: Path) -> None:
    for end in ("$$$$", "$$$$\n\n \n", "$$$$\r\n", "$$$$ text after it\n"):
        file = put(tmp_path / "a.sdf", WATER + WATER.removesuffix("$$$$\n") + end)
        for block_bytes in (1, 2, 5, 1000):
            assert len(read(file, block_bytes=block_bytes)) == 2, end
    for text in ("", "\n\n"):
        with pytest.raises(DataError, match="holds no records"):
            read(put(tmp_path / "b.sdf", text))


@pytest.mark.parametrize("processes", [1, 2, 3])
def test_truncated_files_are_refused(tmp_path: Path, processes: int) -> None:
    options = {"processes": processes, "block_bytes": 100_000}
    with pytest.raises(DataError, match=r"a\.sdf, record 1: record cut short"):
        read(put(tmp_path / "a.sdf", (WATER * 2)[:-20]), **options)
    data = gzip.compress((WATER * 5000).encode())
    (tmp_path / "c.sdf.gz").write_bytes(data[: len(data) // 2])
    with pytest.raises(DataError, match=r"c\.sdf\.gz"):
        read(tmp_path / "c.sdf.gz", **options)
    with pytest.raises(DataError, match=r"gone\.sdf"):
        read(tmp_path / "gone.sdf", **options)


def test_what_came_before_the_damage_is_counted(tmp_path: Path) -> None:
    file = put(tmp_path / "a.sdf", WATER * 1000 + "water 3\n")
    for processes in (1, 2, 3):
        seen: list[int] = []
        chunks = (len(chunk) for chunk in iter_sdf(file, processes=processes, block_bytes=1000))
        with pytest.raises(DataError, match="record 1000: record cut short"):
            seen.extend(chunks)
        assert sum(seen) == 1000


def test_a_file_without_record_ends_is_refused(tmp_path: Path) -> None:
    """Old Mac line ends, or no SDF at all: refused before it fills the memory."""
    file = put(tmp_path / "a.sdf", b"x" * 20_000_000)
    with pytest.raises(DataError, match=r"record 0: no \$\$\$\$ line within 16777216 bytes"):
        read(file)


def children() -> set[int]:
    tasks = Path(f"/proc/{os.getpid()}/task")
    if not tasks.is_dir():
        pytest.skip("needs Linux's /proc to find the child processes")
    files = [task / "children" for task in tasks.iterdir()]
    return {int(pid) for file in files for pid in file.read_text().split()}


@pytest.mark.parametrize("processes", [2, 3])
@pytest.mark.timeout(30)
def test_a_killed_worker_is_a_clear_error(tmp_path: Path, processes: int) -> None:
    before = children()
    file = put(tmp_path / "a.sdf", WATER * 20_000)
    chunks = iter_sdf(file, processes=processes, block_bytes=50_000)
    next(chunks)
    workers = children() - before
    assert len(workers) == processes - 1
    os.kill(min(workers), signal.SIGKILL)
    with pytest.raises(
        DataError, match=r"a\.sdf, record \d+: a reader process was ended by signal 9"
    ):
        list(chunks)
    assert children() == before


def test_no_worker_outlives_its_reader(tmp_path: Path) -> None:
    before = children()
    file = put(tmp_path / "a.sdf", WATER * 20_000)
    chunks = iter_sdf(file, processes=3, block_bytes=50_000)
    next(chunks)
    assert len(children() - before) == 2
    chunks.close()  # type: ignore[attr-defined]
    assert children() == before


_PEAK = """
import resource, sys
from pathlib import Path
from georecon.data.readers.sdf import iter_sdf
molecules = sum(len(chunk) for chunk in iter_sdf(sys.argv[1], processes=2))
worker = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
print(molecules, worker, Path("/proc/self/status").read_text().split("VmHWM:")[1].split()[0])
"""


def test_memory_does_not_grow_with_the_file(tmp_path: Path) -> None:
    """Ten times the records: the same peak, within 16 MiB, of reader and worker."""
    if not Path("/proc/self/status").exists():
        pytest.skip("needs Linux's /proc for the peak of a process")
    peaks = []
    for copies in (20_000, 200_000):
        with gzip.open(tmp_path / "a.sdf.gz", "wb", compresslevel=1) as handle:
            for _ in range(copies // 1000):
                handle.write((WATER * 1000).encode())
        done = subprocess.run(
            [sys.executable, "-c", _PEAK, str(tmp_path / "a.sdf.gz")],
            check=True,
            capture_output=True,
            text=True,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        )
        molecules, *kib = (int(word) for word in done.stdout.split())
        assert molecules == copies
        peaks.append(np.array(kib))
    assert (peaks[1] - peaks[0] < 16 * 1024).all()
    assert (peaks[1] < 100 * 1024).all()


def test_archives_with_other_members_are_refused(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "a.sdf.tar.gz", "w:gz") as archive:
        info = tarfile.TarInfo("a.sdf")
        info.type, info.linkname = tarfile.SYMTYPE, "/etc/passwd"
        archive.addfile(info)
    with pytest.raises(DataError, match=r"record a\.sdf: is not a regular file"):
        read(tmp_path / "a.sdf.tar.gz")
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as bundle:
        bundle.writestr("a.txt", "x")
    with pytest.raises(DataError, match=r"expected one \.sdf file inside"):
        read(tmp_path / "a.zip")
