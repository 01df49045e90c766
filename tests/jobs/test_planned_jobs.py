"""Jobs of a dry run, told by Snakemake to the logger and not read from what it prints."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from georecon.jobs.planned_jobs import PlannedJob, read_jobs
from tests.projects import ROOT

SNAKEFILE = """
rule all:
    input: expand("out/{name}, it.txt", name=["a", "b"])

rule one:
    output: "out/{name}, it.txt"
    group: "together"
    threads: 1
    resources: runtime=30, mem_mb=700, gpu=2, slurm_partition="fast", small=1
    shell: "touch {output:q}"
"""


@pytest.mark.workflow
def test_every_job_has_its_rule_outputs_and_time_limit(tmp_path: Path) -> None:
    """A comma in a file name, which a listing cannot tell from the next file; and groups."""
    (tmp_path / "Snakefile").write_text(SNAKEFILE)
    subprocess.run(
        [*(sys.executable, "-m", "snakemake", "-n", "--cores", "1", "--logger", "georecon"),
         *("--logger-georecon-jobs-file", "jobs.jsonl")],
        cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(ROOT / "src")}, check=True,
        capture_output=True,
    )  # fmt: skip
    jobs = sorted(read_jobs(tmp_path / "jobs.jsonl"), key=lambda job: job.outputs)
    outputs = [("out/a, it.txt",), ("out/b, it.txt",)]
    assert jobs[0].rule == "all"
    assert jobs[0].outputs == ()
    asked = {"megabytes": 700, "cpus": 1, "gpus": 2, "partition": "fast", "small": True}
    assert jobs[1:] == [PlannedJob("one", names, 30, **asked) for names in outputs]  # type: ignore[arg-type]


def test_nothing_to_do_writes_no_file(tmp_path: Path) -> None:
    assert read_jobs(tmp_path / "jobs.jsonl") == []
