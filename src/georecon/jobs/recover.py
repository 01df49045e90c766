"""Go on after the main Snakemake was killed: its jobs end first, so that nothing is trained twice.

A job of a cluster runs on without the Snakemake that submitted it, and takes the mark of
incomplete outputs away when it ends well. So waiting for it, unlocking and giving the same command
again leaves only what is really missing. Files of ended jobs are held against their records before.
"""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

from georecon.commands import option_values, unlock_arguments
from georecon.files import read_json
from georecon.jobs.slurm import Job, in_words, left_over, watched

_PAUSE = 10.0
"""Between two looks at the queue [s]."""
USAGE = "usage: python -m georecon.recover", "then all that the killed command was given"


class Broken(NamedTuple):
    """An output that is not what its record says."""

    record: Path
    output: Path
    text: str


def wait_for_jobs(folder: Path, say: Callable[[str], None], pause: float = _PAUSE) -> None:
    """Return once no job of this folder is queued or running; a line whenever that changes."""
    told: list[Job] = []
    while jobs := left_over(folder):
        if jobs != told:
            say(f"recover: waiting for {in_words(jobs)}; Ctrl-C leaves them at work")
            told = jobs
        time.sleep(pause)


def broken_outputs(folder: Path) -> Iterator[Broken]:
    """Outputs of recorded runs that are missing or of another size than recorded.

    Their hashes are for the audit: this takes no longer than listing files.
    """
    for path in sorted(folder.glob("results/*/**/run.json")):
        try:
            outputs = read_json(path)["outputs"].values()
            claims = [(folder / claim["path"], int(claim["bytes"])) for claim in outputs]
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            yield Broken(path, path, f"not readable as a record ({error!r:.60})")
            continue
        for output, size in claims:
            found = output.stat().st_size if output.is_file() else None
            if found != size:
                what = "missing" if found is None else f"of {found} bytes"
                yield Broken(path, output, f"{what}, its record says {size}")


def set_aside(found: Broken, folder: Path) -> str:
    """Move a record away whose output is not what it says, so that its job runs again."""
    aside = found.record.with_name(f"{found.record.name}.broken")
    found.record.rename(aside)
    name = found.output.relative_to(folder) if found.output.is_relative_to(folder) else found.output
    return f"recover: {name} is {found.text}: made again; the record is now {aside.name}"


def main() -> int:
    """Wait, unlock, and give the command again."""
    arguments, folder = sys.argv[1:], Path.cwd().resolve()
    if not arguments or arguments[0] in ("-h", "--help"):
        print(f"{' '.join(USAGE)}\n\n{__doc__ or ''}")
        return 0 if arguments else 2
    if moved := option_values(arguments, "--directory", "-d"):
        folder = Path(moved[0]).resolve()
    if watched(folder):
        print("recover: a Snakemake is at work in this folder; leave it alone", file=sys.stderr)
        return 1

    def say(line: str) -> None:
        print(line, file=sys.stderr, flush=True)

    wait_for_jobs(folder, say)
    for found in {one.record: one for one in broken_outputs(folder)}.values():
        say(set_aside(found, folder))
    snakemake = [sys.executable, "-m", "snakemake"]
    unlocked = subprocess.run([*snakemake, *unlock_arguments(arguments)], check=False)
    if unlocked.returncode:
        return unlocked.returncode
    return subprocess.run([*snakemake, *arguments], check=False).returncode
