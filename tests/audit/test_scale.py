"""The stand-in of the paper's size, small: what benchmarks/audit_scale.py measures and how."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from tests.projects import ROOT


@pytest.mark.long
@pytest.mark.slow
def test_a_small_stand_in_is_hashed_stopped_and_gone_on_with() -> None:
    command = [sys.executable, str(ROOT / "benchmarks/audit_scale.py"), "--runs", "20"]
    done = subprocess.run(
        [*command, "--gigabytes", "0.05", "--json", "-"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    found = json.loads(done.stdout)
    assert found["gigabytes"] == pytest.approx(0.05, rel=0.2)
    assert found["ratio"] > 0.0
    assert found["hashing_megabytes"] < 50.0
    first, again = found["audit"], found["again"]
    assert first["wrong"] == again["wrong"] == []
    assert first["cells"] >= 10
    assert first["kept"] >= min(found["stopped_with"], first["files"]) - 5
    assert again["kept"] == again["files"] == first["files"]
    assert again["bytes"] == first["bytes"] > 40e6
