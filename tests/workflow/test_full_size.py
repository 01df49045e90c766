"""The stand-ins of the largest data sets, small: what benchmarks/full_size.py measures and how."""

from __future__ import annotations

import importlib
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from georecon.data.readers.sdf import iter_sdf
from tests.projects import ROOT


def test_stand_in_molecules_have_bonds_where_their_distances_say(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    full_size = importlib.import_module("full_size")
    rng, heavy = np.random.default_rng(0), []
    for _ in range(50):
        elements, pos, bonds = full_size.lattice_molecule(rng)
        distance = np.linalg.norm(pos[:, None] - pos[None], axis=-1)
        close = {tuple(pair) for pair in np.argwhere(np.triu(distance < 1.7, 1)).tolist()}
        of_hydrogens = {pair for pair in close if elements[pair[0]] == elements[pair[1]] == "H"}
        assert close - of_hydrogens == {tuple(sorted(pair)) for pair in bonds}
        assert distance[np.triu_indices(len(pos), 1)].min() > 0.8
        heavy.append(sum(element != "H" for element in elements))
    assert 12 < np.mean(heavy) < 16


@pytest.mark.long
def test_a_small_stand_in_goes_through_every_job() -> None:
    command = [sys.executable, str(ROOT / "benchmarks/full_size.py"), "--records", "700"]
    done = subprocess.run(
        [*command, "--frames", "1500", "--json", "-"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]
    found = json.loads(done.stdout)
    assert found["cell_computed_again"]
    rules = [job["rule"] for job in found["jobs"]]
    assert rules[0] == "fetch"
    assert {"preprocess", "split", "leak", "pretrain", "finetune", "evaluate"} <= {*rules}
    assert rules[-1] == "audit"
    for job in found["jobs"]:
        assert job["wall_seconds"] > 0.0
        assert job["peak_megabytes"] > 20.0
        if job["rule"] not in ("fetch", "audit"):
            assert job["peak_megabytes"] <= job["requested_mb"], job
    frames = 1500 - 1000
    assert found["bytes"]["outputs.safetensors"] < 170 * frames + 1000
    assert found["bytes"]["predictions.parquet"] < 90 * frames + 4000


def test_stand_in_records_are_of_the_plain_layout(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They are decoded in blocks, as OGB's are; RDKit gets none of them."""
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    full_size = importlib.import_module("full_size")
    monkeypatch.setattr("georecon.data.readers.sdf_block.read_record", None)  # would be called
    full_size.write_structures(tmp_path / "s.sdf.gz", 40)
    assert sum(len(chunk) for chunk in iter_sdf(tmp_path / "s.sdf.gz", processes=1)) == 40
