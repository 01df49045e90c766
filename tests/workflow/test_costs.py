"""`snakemake plan` on a finished tiny run, with rates measured on its own data."""

from __future__ import annotations

import json
import re
import subprocess
import sys

import pytest

from tests.projects import ROOT, Project

pytestmark = [pytest.mark.workflow, pytest.mark.long]


def test_measured_rates_give_the_plan_its_hours(working: Project) -> None:
    command = [sys.executable, str(ROOT / "benchmarks/calibrate.py")]
    done = subprocess.run(
        [*command, "--edition", "tiny", "--results", "benchmarks/results"],
        cwd=working.folder, env=working.environment(), capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    (path,) = (working.folder / "benchmarks/results").glob("rates-*.json")
    content = json.loads(path.read_text())
    assert content["device"].startswith("cpu ")
    assert all(rate["seconds_per_step"] > 0.0 for rate in content["rates"].values())
    nothing = working.snakemake("--", "plan").stdout
    assert "all: 0 pre-trainings, 0 fine-tunings" in nothing
    for record in working.folder.glob("results/tiny/*/**/run.json"):
        record.unlink()
    text = working.snakemake("--", "plan").stdout
    (line,) = (
        line for line in text.splitlines() if re.match(r" +all: [1-9]\d* pre-trainings", line)
    )
    hours = re.search(r": ([0-9.e-]+) ± [0-9.e-]+ h$", line)
    assert hours is not None, line
    assert 0.0 < float(hours[1]) < 1.0
    assert "not measured" not in line
