"""How far a run of the DAG is: a small file that others read while it runs.

The logger at the terminal (``snakemake_logger_plugin_georecon``) writes it at each start and end of
a job, :mod:`georecon.jobs.watch` shows it.
"""

from __future__ import annotations

import socket
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

import psutil  # type: ignore[import-untyped]

from georecon.files import json_text, read_json, temporary_path

DAG_FILE = "logs/{edition}/dag.json"
RUNNING, ENDED, STOPPED = "running", "ended", "stopped"


@dataclass(frozen=True, kw_only=True, slots=True)
class DagState:
    """A run of Snakemake at one moment.

    Attributes:
        edition: that it makes.
        host, pid: of its Snakemake.
        born: when that process began [s, clock]; numbers of processes are used again.
        time: of this moment [s, clock].
        done, total: jobs.
        waiting: jobs by rule that are not done, the most first.
        at_work: jobs that have begun (on a cluster, been submitted), and when.
        failed: attempts that ended with an error.
        seconds_left: as the terminal has it; None while nobody can say.
        state: "running", "ended" with all jobs done, or "stopped".
    """

    edition: str
    host: str
    pid: int
    born: float
    time: float
    done: int
    total: int
    waiting: Mapping[str, int]
    at_work: Sequence[tuple[str, float]]
    failed: int
    seconds_left: float | None
    state: str

    def runs(self) -> bool | None:
        """Whether its Snakemake is still at it; None if that is another machine's to know."""
        if self.state != RUNNING:
            return False
        if self.host != socket.gethostname():
            return None
        try:
            return abs(psutil.Process(self.pid).create_time() - self.born) < 1.0
        except psutil.NoSuchProcess:
            return False


def write_state(folder: Path, state: DagState) -> None:
    """Replace the edition's file, whole but without waiting for the disk: it is soon replaced.

    Nothing is written where another Snakemake that runs has said how far it is, or the disk is
    full: no run depends on it.

    Args:
        folder: working folder of the run.
        state: of the run.
    """
    path = folder / DAG_FILE.format(edition=state.edition)
    there = _read(path)
    if there is not None and there.pid != state.pid and there.runs() is not False:
        return
    temporary = temporary_path(path)
    with suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary.write_text(json_text(asdict(state)), encoding="utf-8")
        temporary.replace(path)


def read_states(folder: Path) -> list[DagState]:
    """The last state of each edition's run; a file that is none is passed over.

    Args:
        folder: working folder.
    """
    found = [_read(path) for path in sorted(folder.glob(DAG_FILE.format(edition="*")))]
    return [state for state in found if state is not None]


def _read(path: Path) -> DagState | None:
    try:
        return DagState(**read_json(path))
    except (OSError, ValueError, TypeError):
        return None
