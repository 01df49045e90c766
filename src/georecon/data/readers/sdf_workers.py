"""Blocks of SDF records parsed here or in other processes, results in file order.

The workers are plain child processes that speak raw bytes over pipes: ``multiprocessing`` would run
a Snakemake script anew in each child, and pickles what it sends. Each worker holds one block at a
time, so memory is bounded by their number.
"""

from __future__ import annotations

import io
import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from typing import IO, Any, NamedTuple, cast

import numpy as np
from numpy.typing import NDArray

from georecon.data.checks import faults
from georecon.data.molecules import Molecules
from georecon.data.readers.sdf_block import parse_block

# glibc: keep freed arrays for the next block. Mapping each anew costs a third of the time.
_KEEP_MEMORY = {
    "MALLOC_MMAP_THRESHOLD_": str(64 << 20),
    "MALLOC_TRIM_THRESHOLD_": str(256 << 20),
}


@dataclass(frozen=True, slots=True)
class Reading:
    """How records become molecules.

    Attributes:
        title_id: pattern whose first group in the title is the id; None: the id is the row.
        ranges: plausible values (``georecon.data.checks``); a record outside is rejected.
    """

    title_id: str | None = None
    ranges: dict[str, Sequence[float]] = field(default_factory=dict)


class Part(NamedTuple):
    """Molecules of one block; where ids are rows, they and the rejected rows count from 0."""

    rows: int
    molecules: Molecules
    rejected: list[tuple[int, str]]


def read_part(data: memoryview, reading: Reading) -> Part:
    """Parse a block and set aside what has no id or is implausible."""
    block = parse_block(data)
    rejected = block.rejected
    good = np.ones(len(block.row), dtype=np.bool_)
    ids = block.row
    if reading.title_id is not None:
        ids = np.zeros_like(ids)
        pattern = re.compile(reading.title_id)
        for molecule in range(len(ids)):
            title = block.title(molecule)
            match = pattern.search(title)
            if match is None or not match[1].isdecimal() or len(match[1]) > 18:
                good[molecule] = False
                reason = f"expected an id as in {reading.title_id!r}"
                rejected.append((int(block.row[molecule]), title, reason))
            else:
                ids[molecule] = int(match[1])
    molecules = Molecules(
        ids=ids, z=block.z, pos=block.pos.astype(np.float32), offsets=block.offsets, labels={}
    )
    for molecule, reason in faults(molecules, reading.ranges):
        if good[molecule]:
            good[molecule] = False
            rejected.append((int(block.row[molecule]), block.title(molecule), reason))
    if not good.all():
        molecules = molecules.keep(good)
    reasons = [(row, f"{reason} (title {title!r})") for row, title, reason in sorted(rejected)]
    return Part(block.rows, molecules, reasons)


def read_parts(blocks: Iterable[memoryview], reading: Reading, processes: int) -> Iterator[Part]:
    """Parse blocks, in this process or in ``processes - 1`` others while this one reads on.

    Each block is used up before the next one is asked for. If ``blocks`` raises, the parts of the
    blocks before the error are yielded first.

    Raises:
        ChildProcessError: a worker ended before its work did.
    """
    if processes == 1:
        for block in blocks:
            yield read_part(block, reading)
        return
    with _started(processes - 1, reading) as workers:
        sent = received = 0
        failure: Exception | None = None
        source = iter(blocks)
        while failure is None:
            try:
                block = next(source)
            except StopIteration:
                break
            except Exception as error:
                failure = error
                break
            worker = workers[sent % len(workers)]
            part = worker.receive() if sent >= len(workers) else None
            worker.send(block)
            sent += 1
            if part is not None:
                received += 1
                yield part
        for turn in range(received, sent):
            yield workers[turn % len(workers)].receive()
        if failure is not None:
            raise failure


class _Worker:
    """A child process that answers each block with its part."""

    def __init__(self, reading: Reading) -> None:
        path = os.pathsep.join(entry for entry in sys.path if entry)
        self._process = subprocess.Popen(
            [sys.executable, "-m", __name__, json.dumps(asdict(reading))],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={**os.environ, **_KEEP_MEMORY, "PYTHONPATH": path},
        )
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._stdin, self._stdout = self._process.stdin, self._process.stdout

    def send(self, block: memoryview) -> None:
        try:
            self._stdin.write(len(block).to_bytes(8, "little"))
            self._stdin.write(block)
            self._stdin.flush()
        except BrokenPipeError as error:
            raise self._ended() from error

    def receive(self) -> Part:
        try:
            return _read_answer(self._stdout)
        except EOFError as error:
            raise self._ended() from error

    def stop(self) -> None:
        self._process.kill()
        self._process.wait()
        self._stdout.close()
        with suppress(BrokenPipeError):
            self._stdin.close()

    def _ended(self) -> ChildProcessError:
        code = self._process.wait()
        why = f"was ended by signal {-code}" if code < 0 else f"ended with exit code {code}"
        return ChildProcessError(
            f"a reader process {why} (memory?); nothing was kept, run it again"
        )


@contextmanager
def _started(count: int, reading: Reading) -> Iterator[list[_Worker]]:
    workers: list[_Worker] = []
    try:
        for _ in range(count):
            workers.append(_Worker(reading))
        yield workers
    finally:
        for worker in workers:
            worker.stop()


def _write_answer(stream: IO[bytes], part: Part) -> None:
    molecules = part.molecules
    head = {"rows": part.rows, "molecules": len(molecules), "atoms": len(molecules.z)}
    stream.write(json.dumps({**head, "rejected": part.rejected}).encode() + b"\n")
    for array in (molecules.ids, molecules.offsets, molecules.z, molecules.pos):
        stream.write(array.tobytes())
    stream.flush()


def _read_answer(stream: IO[bytes]) -> Part:
    line = stream.readline()
    if not line.endswith(b"\n"):
        raise EOFError
    head = json.loads(line)

    def array(dtype: Any, count: int) -> NDArray[Any]:
        data = stream.read(count * np.dtype(dtype).itemsize)
        return np.frombuffer(data, dtype=dtype)

    m, n = head["molecules"], head["atoms"]
    ids, offsets, z = array(np.int64, m), array(np.int64, m + 1), array(np.uint8, n)
    pos = array(np.float32, 3 * n)
    if len(pos) != 3 * n:
        raise EOFError
    molecules = Molecules(ids=ids, z=z, pos=pos.reshape(n, 3), offsets=offsets, labels={})
    return Part(head["rows"], molecules, [(row, reason) for row, reason in head["rejected"]])


def _work() -> None:
    """Answer blocks until the parent closes the pipe."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent decides
    reading = Reading(**json.loads(sys.argv[1]))
    stdin, stdout = cast(io.BufferedIOBase, sys.stdin.buffer), sys.stdout.buffer
    buffer = bytearray()
    while head := stdin.read(8):
        size = int.from_bytes(head, "little")
        if size > len(buffer):
            buffer = bytearray(size)
        block = memoryview(buffer)[:size]
        if stdin.readinto(block) != size:
            return
        _write_answer(stdout, read_part(block, reading))


if __name__ == "__main__":
    _work()
