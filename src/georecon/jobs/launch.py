"""What ``make`` runs: Snakemake, one at a time, going on after a kill, with a summary at the end.

``python -m georecon.launch [Snakemake targets and options]``. Exit codes: 0 all made or nothing to
do; 1 Snakemake failed, or another run holds this folder; 130 and 143 after SIGINT and SIGTERM.
"""

from __future__ import annotations

import fcntl
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import chdir, contextmanager, suppress
from pathlib import Path
from typing import IO, Any

from georecon.commands import last_values, option_values
from georecon.duration import readable_time
from georecon.files import full_disk, read_json, write_json
from georecon.jobs import warm
from georecon.jobs.command_line import edition_of
from georecon.jobs.surroundings import open_streams, settle
from georecon.paths import RESULT_RECORD
from georecon.records.record import RunRecord

LOCK = ".snakemake/georecon-launch.lock"
STATE = ".snakemake/georecon-launch.json"
# each option's value is optional or single, so that a target may follow the last one
OPTIONS = (
    *("--logger", "georecon"),
    *("--rerun-triggers", "mtime", "params", "input", "software-env"),
    "--rerun-incomplete",
    *("--cores", "all"),
)
# calls that change nothing: no lock, no summary
READ_ONLY = re.compile(
    r"-[A-Za-z]*n[A-Za-z]*|-h|-S|-D|-l|--(dry-?run|help|version|lint|summary|detailed-summary|dag"
    r"|rulegraph|filegraph|d3dag|list(-.*)?|lt)"
)
# target without outputs: it takes no lock of Snakemake's and may run beside another run
BESIDE = "web"
# every job computes with one thread; jobs run beside each other
THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
# kills the process group it belongs to as soon as the launcher is gone without a word
KEEPER = 'trap "" INT TERM HUP; read -r word <&{pipe} || kill -KILL 0'


@contextmanager
def launch_lock(folder: Path) -> Iterator[IO[str] | None]:
    """Hold this folder for one run; yields the lock file, or None where another run holds it.

    The lock belongs to the open file, so a child that inherits it keeps holding it: a Snakemake
    that outlives its launcher still keeps a second run away.
    """
    path = folder / LOCK
    path.parent.mkdir(exist_ok=True)
    with open(path, "a", encoding="utf-8") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield None
            return
        yield handle


def foreign_snakemake(folder: Path) -> int | None:
    """Process id of a Snakemake working in this folder that no launcher started, if there is one.

    Only asked while this process holds the launch lock, so any that is found is foreign.
    """
    import psutil  # type: ignore[import-untyped]

    for process in psutil.process_iter(["pid", "cmdline", "cwd"]):
        program = {Path(word).name for word in (process.info["cmdline"] or ())[:4]}
        if process.info["cwd"] == str(folder.resolve()) and "snakemake" in program:
            return int(process.info["pid"])
    return None


def snakemake(*arguments: str) -> list[str]:
    """A Snakemake command of this Python."""
    return [sys.executable, "-m", "snakemake", *arguments]


def read_state(folder: Path) -> dict[str, Any]:
    """What the last launcher wrote, or nothing."""
    try:
        value = read_json(folder / STATE)
    except (OSError, ValueError):
        return {}
    return value if isinstance(value, dict) else {}


def holder(folder: Path) -> str:
    """`` (process N)`` of the run that holds this folder, as far as it is known."""
    pid = read_state(folder).get("pid")
    return f" (process {pid})" if pid else ""


def recover(folder: Path) -> str | None:
    """Make way after a run that was killed: with or without a lock of Snakemake's, unlock.

    Returns:
        A reason why this run must not start, or None.
    """
    if read_state(folder).get("state") != "running":
        return None
    if (pid := foreign_snakemake(folder)) is not None:
        return f"Snakemake is already running in this folder (process {pid}); wait for it."
    say("The last run was killed; it continues from what is finished.")
    done = subprocess.run(
        snakemake("--unlock"), cwd=folder, capture_output=True, text=True, check=False
    )
    if done.returncode != 0:
        return f"The folder could not be unlocked:\n{done.stderr.strip()}"
    return None


def say(text: str) -> None:
    """Print a message for the person at the terminal."""
    print(text, file=sys.stderr, flush=True)


class Run:
    """One Snakemake process with its group, and the signals passed on to it."""

    def __init__(self) -> None:
        self.signals: list[int] = []
        self.child: subprocess.Popen[bytes] | None = None

    def forward(self, number: int, frame: object = None) -> None:
        """Pass a signal on to the group; the second one asks harder, the third one kills.

        A closed terminal (SIGHUP) counts as SIGTERM.
        """
        self.signals.append(signal.SIGTERM if number == signal.SIGHUP else number)
        self._deliver()

    def _deliver(self) -> None:
        if self.child is None or not self.signals:
            return
        strength = (self.signals[0], signal.SIGTERM, signal.SIGKILL)
        with suppress(ProcessLookupError):
            os.killpg(self.child.pid, strength[min(len(self.signals), 3) - 1])

    def run(self, arguments: Sequence[str], folder: Path, lock: IO[str]) -> int:
        """Run Snakemake to its end, never to outlive this process; the exit code."""
        numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
        before = {n: signal.getsignal(n) for n in numbers}
        for number, handler in before.items():
            if handler != signal.SIG_IGN:  # nohup stays nohup
                signal.signal(number, self.forward)
        try:
            with warm.process() as variables:
                code = self._run(arguments, folder, lock, variables)
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
        if self.signals:
            return 128 + self.signals[0]
        return 128 - code if code < 0 else code

    def _run(
        self, arguments: Sequence[str], folder: Path, lock: IO[str], variables: Mapping[str, str]
    ) -> int:
        environment = {**dict.fromkeys(THREADS, "1"), **os.environ, **variables}
        self.child = subprocess.Popen(
            snakemake(*OPTIONS, *arguments),
            cwd=folder,
            env=environment,
            pass_fds=(lock.fileno(),),
            process_group=0,
        )
        reader, writer = os.pipe()
        with subprocess.Popen(
            ["/bin/sh", "-c", KEEPER.format(pipe=reader)],
            pass_fds=(reader,),
            process_group=self.child.pid,
        ):
            os.close(reader)
            self._deliver()
            code = self.child.wait()
            with suppress(BrokenPipeError):
                os.write(writer, b"end\n")
            os.close(writer)
        return code


def list_tables(folder: Path) -> list[str]:
    """One line for each finished table: its name and title."""
    lines = []
    for path in sorted(folder.glob("*.json")):
        try:
            value = read_json(path)
        except (OSError, ValueError):
            continue
        title = str(value.get("title") or "") if isinstance(value, dict) else ""
        lines.append(f"  {path.stem:<16} {title}".rstrip())
    return lines


def summary(edition: str, folder: Path, code: int, seconds: float) -> str:
    """What a run leaves behind: tables, where the report lies, how long it took."""
    results = Path("results") / edition
    lines = []
    if tables := list_tables(folder / results / "tables"):
        lines += [f"Tables of the {edition} edition, in {results / 'tables'}:", *tables]
    shown = (("Report", "index.html"), ("Jobs", "report.html"), ("Summary", "summary.md"))
    for label, name in shown:
        if (folder / results / "report" / name).exists():
            lines.append(f"{label + ':':<9}{results / 'report' / name}")
    took = readable_time(seconds)
    if code == 0:
        lines.append(f"Done in {took}.")
    else:
        lines.append(f"Stopped after {took}. The same command continues from what is finished.")
    return "\n".join(lines)


def _newest(folder: Path, pattern: str) -> float:
    return max((path.stat().st_mtime for path in folder.glob(pattern)), default=0.0)


def report_is_due(results: Path) -> bool:
    """Whether a summary of all tables is there and Snakemake's HTML report is older than it.

    A summary older than a table belongs to an earlier run; the report then waits for the next one.
    """
    page, newest = results / "report" / "report.html", _newest(results / "report", "summary.md")
    if not newest or newest < _newest(results / "tables", "*.json"):
        return False
    return not page.exists() or page.stat().st_mtime < max(
        newest, _newest(results / "figures", "*.png")
    )


def write_report(arguments: Sequence[str], folder: Path, edition: str) -> None:
    """Snakemake's HTML report of a finished edition; it cannot be a rule of the run it reports.

    Args:
        arguments: Snakemake's command-line arguments of the run.
        folder: working folder.
        edition: edition that the run made.
    """
    page = f"results/{edition}/report/report.html"
    pairs = [pair for pair in last_values(arguments, "--config", "-C") if "=" in pair]
    files = last_values(arguments, "--configfile", "--configfiles")
    files = [name for name in files if (folder / name).is_file()]
    given = ["--configfile", *files] if files else []
    result = subprocess.run(
        snakemake(
            *("--quiet", "--report", page, *given),
            *("--config", f"edition={edition}", *pairs, "--", "report"),
        ),
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )
    if result.returncode != 0:
        reason = (result.stderr.strip() or "no reason given").splitlines()[-1]
        say(f"Tables and figures are complete, but {page} could not be written: {reason}")
        return
    record = RunRecord("report", {}, {})
    where = RESULT_RECORD.format(edition=edition, stage="report")
    with chdir(folder):
        record.write(f"{where}/report.json", {"page": page})


def launch(arguments: Sequence[str], folder: Path) -> int:
    """Run Snakemake in ``folder``; the exit code (module docstring)."""
    beside = list(arguments[-1:]) == [BESIDE]
    if beside or any(map(READ_ONLY.fullmatch, arguments)):
        return subprocess.run(snakemake(*OPTIONS, *arguments), cwd=folder, check=False).returncode
    start = time.monotonic()
    with launch_lock(folder) as lock:
        if lock is None:
            say(f"Another run is busy in this folder{holder(folder)}; wait for it or stop it.")
            return 1
        if (problem := recover(folder)) is not None:
            say(problem)
            return 1
        write_json(folder / STATE, {"state": "running", "pid": os.getpid()})
        code = Run().run(arguments, folder, lock)
        write_json(folder / STATE, {"state": "ended", "pid": os.getpid(), "code": code})
        edition = edition_of(arguments, folder)
        if code == 0 and report_is_due(folder / "results" / edition):
            write_report(arguments, folder, edition)
    say(summary(edition, folder, code, time.monotonic() - start))
    return code


def one_config(arguments: Sequence[str]) -> list[str]:
    """The same call with all pairs of ``--config`` in one place: Snakemake takes the last alone."""
    names = ("--config", "-C")
    if sum(word.partition("=")[0] in names for word in arguments) < 2:
        return list(arguments)
    kept: list[str] = []
    inside = False
    for word in arguments:
        if word.startswith("-"):
            inside = word.partition("=")[0] in names
        if not inside:
            kept.append(word)
    end = kept.index("--") if "--" in kept else len(kept)
    return [*kept[:end], "--config", *option_values(arguments, *names), *kept[end:]]


def main() -> int:
    """Command line."""
    open_streams()
    folder = Path.cwd()
    try:
        settle(folder, say)
        return launch(one_config(sys.argv[1:]), folder)
    except OSError as error:
        if (text := full_disk(error)) is None:
            raise
        say(text)
        return 1
