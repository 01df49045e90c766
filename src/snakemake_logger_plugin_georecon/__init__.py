"""Snakemake logger for the person at the terminal: ``snakemake --logger georecon``.

One line per finished job, errors in full with the end of their log, a header with the job counts.
Dry runs look as Snakemake prints them; Snakemake's own complete log stays in .snakemake/log.
"""

# no "from __future__ import annotations": Snakemake parses an option by its annotated type itself
import json
import os
import re
import socket
import sys
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from logging import WARNING, LogRecord
from pathlib import Path
from typing import Any

import psutil  # type: ignore[import-untyped]
from snakemake_interface_logger_plugins.base import LogHandlerBase
from snakemake_interface_logger_plugins.common import LogEvent
from snakemake_interface_logger_plugins.settings import LogHandlerSettingsBase

from georecon.duration import readable_time
from georecon.jobs.command_line import edition_of
from georecon.jobs.dag import ENDED, RUNNING, STOPPED, DagState, write_state
from georecon.paths import BENCHMARKS

# how a job ends that was asked to stop, in Snakemake's words
ASKED_TO_STOP = re.compile(r"died with <Signals\.SIG(INT|TERM)")
RED, GREEN, DIM, RESET = "\033[31m", "\033[32m", "\033[2m", "\033[0m"
# what Snakemake says on every run and nobody acts on; all of it stays in its log file
CHATTER = re.compile(
    "Assuming unrestricted|Building DAG|Using shell|Conda environments: ign|Singularity containers:"
    "|Group jobs: inactive|Select jobs to|Retrieving |Shutting down|Complete log|Elapsed time|None$"
    "|Exiting because a job|WorkflowError:\nAt least one job did not complete|Config file "
)
SILENT = {LogEvent.PROGRESS, LogEvent.RESOURCES_INFO, LogEvent.WORKFLOW_STARTED, LogEvent.RULEGRAPH}


@dataclass
class LogHandlerSettings(LogHandlerSettingsBase):  # type: ignore[misc]  # as below
    """Options of the command line, ``--logger-georecon-...``."""

    jobs_file: str = field(
        default="",
        metadata={"help": "File that gets a line of JSON for each job of a dry run."},
    )


@dataclass(kw_only=True, slots=True)
class Job:
    """What is known of a job from its start to its end."""

    rule: str = "job"
    wildcards: Mapping[str, Any] = field(default_factory=dict)
    outputs: Sequence[str] = ()
    start: float | None = None


def describe(wildcards: Mapping[str, Any]) -> str:
    """Wildcards as a person says them: ``qm9/homo georecon seed 1``.

    The edition is left out (the header has it); a bare number keeps its name.
    """
    words: list[str] = []
    previous = ""
    for name, value in wildcards.items():
        text = str(value)
        if name == "edition" or not text:
            continue
        if name == "target" and previous == "dataset":
            words[-1] += f"/{text}"
        else:
            words.append(f"{name} {text}" if text.replace(".", "", 1).isdigit() else text)
        previous = name
    return " ".join(words)


def tail(path: str | Path, lines: int = 20) -> list[str]:
    """Last lines of a text file; a sentence where it cannot be read or is empty."""
    try:
        with open(path, "rb") as handle:
            handle.seek(max(0, os.fstat(handle.fileno()).st_size - 65536))
            found = handle.read().decode("utf-8", errors="replace").splitlines()[-lines:]
    except OSError:
        return ["(no such log file)"]
    return found or ["(the log file is empty)"]


WEIGHTS = {
    "fetch": 2, "xtb": 17, "preprocess": 2, "preprocess_target": 2, "split": 2, "leak": 4,
    "pretrain": 20, "finetune": 5, "evaluate": 2, "smoothness": 3, "nve": 4, "table": 2,
    "figure": 8, "summary": 2, "site": 2,
}  # fmt: skip
"""Seconds of a job of each rule, its start included, in a laptop run on two cores; until a rule's
first job has ended, their proportions to those that have stand for it.
"""
_OTHER = 2  # seconds of a job of any other rule
ONLY_SHOWN = {"all", "doctor", "plan", "watch", "web"}
"""Rules that make nothing; a run of these alone is none that others would watch."""
_CHANGES = {LogEvent.RUN_INFO, LogEvent.JOB_INFO, LogEvent.JOB_FINISHED, LogEvent.JOB_ERROR}


def earlier_means(folder: Path) -> dict[str, float]:
    """Mean seconds of each rule that Snakemake has measured in earlier runs of an edition.

    Args:
        folder: ``results/<edition>/benchmarks``.
    """
    found: dict[str, list[float]] = {}
    for path in folder.glob("*/**/*.tsv"):
        try:
            seconds = path.read_text(encoding="utf-8").splitlines()[1].split("\t")[0]
            found.setdefault(path.relative_to(folder).parts[0], []).append(float(seconds))
        except (OSError, ValueError, IndexError):
            continue
    return {rule: sum(values) / len(values) for rule, values in found.items()}


class Progress:
    """Counts, durations and the time left.

    Args:
        stats: number of jobs by rule, and "total".
        now: time [s].
        earlier: mean seconds by rule, of earlier runs.
    """

    def __init__(
        self, stats: Mapping[str, int], now: float, earlier: Mapping[str, float] | None = None
    ) -> None:
        self.total = stats.get("total", 0)
        self.waiting = Counter({rule: n for rule, n in stats.items() if rule != "total"})
        self.start = now
        self.done = 0
        self.seconds: dict[str, list[float]] = {}
        self.earlier = dict(earlier or {})

    def finish(self, rule: str, seconds: float) -> None:
        """Count one finished job."""
        self.done += 1
        self.waiting[rule] -= 1
        self.seconds.setdefault(rule, []).append(seconds)

    def time_left(self, now: float) -> float | None:
        """Estimated seconds left, divided by how many jobs ran at the same time until now.

        Waiting jobs cost their rule's mean so far or, for a rule not seen yet, that of earlier
        runs. Without either they cost their weight, in proportion to those of the rules seen.

        Returns:
            None before two jobs are done, or while more than half of the time left is told by
            weights alone.
        """
        done = sum(sum(values) for values in self.seconds.values())
        if self.done < 2 or now <= self.start:
            return None
        weights = sum(len(values) * _weight(rule) for rule, values in self.seconds.items())
        known = guessed = 0.0
        for rule, count in self.waiting.items():
            own = self.seconds.get(rule)
            if rule == "all" or count <= 0:  # takes no time
                continue
            if own or rule in self.earlier:
                known += count * (sum(own) / len(own) if own else self.earlier[rule])
            else:
                guessed += count * _weight(rule) * done / weights
        if guessed > known:
            return None
        return (known + guessed) / max(1.0, done / (now - self.start))


def _weight(rule: str) -> float:
    return WEIGHTS.get(rule, _OTHER)


def header(stats: Mapping[str, int], edition: str) -> str:
    """First line of a run: edition and jobs by rule, most frequent first."""
    rules = Counter({rule: count for rule, count in stats.items() if rule not in ("total", "all")})
    parts = ", ".join(f"{count} {rule}" for rule, count in rules.most_common())
    total = stats.get("total", 0)
    return f"georecon {edition} edition: {total} job{'' if total == 1 else 's'} ({parts or 'all'})"


class LogHandler(LogHandlerBase):  # type: ignore[misc]  # its package has no stubs here
    """The handler Snakemake asks for; records arrive one at a time, from a single thread.

    Snakemake's own filter keeps ``--quiet`` and ``--printshellcmds`` working, its own formatter
    serves dry runs and whatever is not treated here.
    """

    writes_to_stream = True
    writes_to_file = False
    has_filter = False
    has_formatter = False
    needs_rulegraph = False

    def __post_init__(self) -> None:
        settings = self.common_settings
        self.stream = sys.stdout if settings.stdout else sys.stderr
        plain = settings.nocolor or "NO_COLOR" in os.environ or os.environ.get("TERM") == "dumb"
        self.colour = self.stream.isatty() and not plain
        self.jobs: dict[int, Job] = {}
        self.progress: Progress | None = None
        self.exceptions: list[str] = []
        self.stopped = False
        self.width = 8
        self.edition, self.failed, self.folder = "", 0, Path()

    def emit(self, record: LogRecord) -> None:
        """Handle one record; a fault in here never stops the workflow."""
        try:
            self._handle(record)
        except BrokenPipeError:
            raise
        except Exception:
            self.handleError(record)

    def close(self) -> None:
        """Print errors that no failed job has claimed, and note how the run ended."""
        self._flush_exceptions()
        if self.progress is not None:
            self._note_state(ENDED if self.progress.done >= self.progress.total else STOPPED)
            self.progress = None  # logging closes handlers once more at the end of the process
        super().close()

    def _handle(self, record: LogRecord) -> None:
        event = getattr(record, "event", None)
        handlers = {
            LogEvent.RUN_INFO: self._run_info,
            LogEvent.JOB_STARTED: self._job_started,
            LogEvent.JOB_INFO: self._job_info,
            LogEvent.JOB_FINISHED: self._job_finished,
            LogEvent.JOB_ERROR: self._job_error,
            LogEvent.ERROR: self._exception,
        }
        if self.common_settings.dryrun or self.common_settings.verbose:
            if event == LogEvent.JOB_INFO and self.common_settings.dryrun and self._noted(record):
                return
            if (text := self.format(record)) and text != "None":
                self._write(text)
        elif event not in SILENT:
            handlers.get(event, self._other)(record)
            if event in _CHANGES:
                self._note_state(RUNNING)

    def _note_state(self, state: str) -> None:
        """How far the run is, for ``watch``.

        Not of a Snakemake that a job started, and of none that only shows something.
        """
        progress, now = self.progress, time.time()
        if progress is None or "--mode" in sys.argv or set(progress.waiting) <= ONLY_SHOWN:
            return
        write_state(
            self.folder,
            DagState(
                edition=self.edition,
                host=socket.gethostname(),
                pid=os.getpid(),
                born=psutil.Process().create_time(),
                time=now,
                done=progress.done,
                total=progress.total,
                waiting={rule: n for rule, n in progress.waiting.most_common() if n > 0},
                at_work=[
                    (f"{job.rule} {describe(job.wildcards)}".rstrip(), job.start)
                    for job in self.jobs.values()
                    if job.start is not None
                ],
                failed=self.failed,
                seconds_left=progress.time_left(now),
                state=state,
            ),
        )

    def _noted(self, record: LogRecord) -> bool:
        """Whether a file is to have the job, which then gets a line of JSON instead of a text."""
        if self.settings is None or not self.settings.jobs_file:
            return False
        values = record.__dict__
        job = {
            "rule": values["rule_name"],
            "wildcards": dict(values["wildcards"] or {}),
            "output": [str(path) for path in values["output"] or ()],
            "resources": dict((values["resources"] or {}).items()),
        }
        with open(self.settings.jobs_file, "a", encoding="utf-8") as handle:
            handle.write(json.dumps(job, default=str) + "\n")
        return True

    def _write(self, text: str, colour: str = "") -> None:
        if self.colour and colour:
            text = f"{colour}{text}{RESET}"
        # one call a message, so that lines of running jobs cannot come in between
        self.stream.write(f"{text}\n")
        self.stream.flush()

    def _other(self, record: LogRecord) -> None:
        text = self.format(record)
        if text.startswith("Nothing to be done"):
            self._write("Nothing to do: everything asked for is up to date.")
        elif text and not CHATTER.match(text):
            self._write(text, RED if record.levelno >= WARNING else "")

    def _run_info(self, record: LogRecord) -> None:
        stats: Mapping[str, int] = getattr(record, "stats", {})
        self.folder = Path.cwd()  # which Snakemake leaves before it closes its handlers
        self.edition = edition = edition_of(sys.argv[1:], self.folder)
        known = earlier_means(Path(BENCHMARKS.format(edition=edition)))
        self.progress = Progress(stats, record.created, known)
        self.width = max((len(rule) for rule in stats), default=8)
        self._write(header(stats, edition), GREEN)

    def _job_started(self, record: LogRecord) -> None:
        started: Sequence[int | str] = getattr(record, "jobs", ())
        for jobid in started:
            if isinstance(jobid, int):  # a group has a name, and no end of its own
                self.jobs.setdefault(jobid, Job()).start = record.created

    def _job_info(self, record: LogRecord) -> None:
        values = record.__dict__
        job = self.jobs.setdefault(values["jobid"], Job())
        job.rule, job.wildcards = values["rule_name"], dict(values["wildcards"] or {})
        job.outputs = [str(path) for path in values.get("output") or ()]
        job.start = job.start or record.created
        if values.get("rule_msg"):
            self._write(f"{job.rule}: {values['rule_msg']}", DIM)

    def _job_finished(self, record: LogRecord) -> None:
        job = self.jobs.pop(record.__dict__["job_id"], Job())
        seconds = record.created - (job.start or record.created)
        if self.progress is None:  # --quiet
            return
        self.progress.finish(job.rule, seconds)
        done, total = self.progress.done, self.progress.total
        left = self.progress.time_left(record.created)
        rest = f"   about {readable_time(left)} left" if left is not None and done < total else ""
        width = len(str(total))
        count = f"[{done:>{width}}/{total}] {100 * done // max(total, 1):>3}%"
        line = f"{job.rule:<{self.width}}  {describe(job.wildcards):<36} {seconds:>8.1f} s{rest}"
        self._write(f"{DIM}{count}{RESET}  {line}" if self.colour else f"{count}  {line}")
        for path in job.outputs if job.rule == "table" else ():
            if path.endswith(".md"):
                self._write(f"Table {describe(job.wildcards)} is there: {path}", GREEN)

    def _exception(self, record: LogRecord) -> None:
        text = str(record.msg)
        if not CHATTER.match(text):
            self.exceptions.append(text)
        if getattr(record, "exception", "") == "WorkflowError":
            self._flush_exceptions()

    def _flush_exceptions(self) -> None:
        for text in self.exceptions:
            self._write(text, RED)
        self.exceptions.clear()

    def _job_error(self, record: LogRecord) -> None:
        values = record.__dict__
        job = self.jobs.get(values["jobid"], Job())
        job.start = None
        name = f"{values['rule_name']}  {describe(job.wildcards)}".rstrip()
        reasons = [text for text in self.exceptions if not ASKED_TO_STOP.search(text)]
        self.stopped |= len(reasons) < len(self.exceptions)
        self.exceptions.clear()
        if self.stopped and not reasons:
            self._write(f"Stopped: {name}")
            return
        self.failed += 1
        lines = [f"Failed: {name}"]
        lines += [f"    {name} = {value}" for name, value in job.wildcards.items()]
        if values.get("shellcmd"):
            reasons.append(f"shell: {values['shellcmd'].strip()}")
        reasons += [f"{name}: {value}" for name, value in (values.get("aux") or {}).items()]
        lines += [f"    {line}" for reason in reasons for line in reason.splitlines()]
        for path in values.get("log") or ():
            lines += [f"    log: {path}, its end:", *(f"    | {line}" for line in tail(path))]
        self._write("\n".join(lines), RED)
