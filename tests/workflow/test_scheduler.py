"""Snakemake's own work while jobs run: it must not grow with the number of jobs that ended."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

SNAKEFILE = """
import threading
from georecon.jobs.snakemake_private import lift_start_limit

onstart:
    {hook}

onsuccess:
    open("threads", "w").write(str(threading.active_count()))

rule all:
    input: expand("{{number}}", number=range(20))

rule one:
    output: "{{number}}"
    shell: "touch {{output}}"
"""


def threads_at_the_end(folder: Path, hook: str) -> int:
    folder.mkdir()
    (folder / "Snakefile").write_text(SNAKEFILE.format(hook=hook))
    command = [sys.executable, "-m", "snakemake", "--cores", "2", "--quiet", "all"]
    subprocess.run(command, cwd=folder, check=True, timeout=120)
    return int((folder / "threads").read_text())


@pytest.mark.workflow
def test_no_thread_is_left_waiting_for_each_job_that_ended(tmp_path: Path) -> None:
    lifted = threads_at_the_end(tmp_path / "lifted", "lift_start_limit(workflow)")
    limited = threads_at_the_end(tmp_path / "limited", "pass")
    assert lifted <= 6
    assert limited >= 15
