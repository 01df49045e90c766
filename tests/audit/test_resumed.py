"""A training that was stopped and went on is as honest as one that was not, at every depth."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from georecon.audit.starts import Brief
from georecon.jobs.job import prepare_torch
from georecon.stages.finetune import finetune
from georecon.stages.pretrain import pretrain
from georecon.training.loop import EXIT_INTERRUPTED
from tests.audit.tamper import FINETUNE, RESULTS
from tests.audit.test_commands import rerun_of
from tests.projects import Project

pytestmark = [pytest.mark.workflow, pytest.mark.long, pytest.mark.timeout(900)]

PRETRAIN = f"{RESULTS}/pretrain/coord/seed1"
TUNED = f"{FINETUNE}/coord/seed1"


def stop(folder: Path, run: str, train: Callable[..., object], steps: int) -> bytes:
    """Unmake a run, and leave its training as a signal after some steps does; its weights."""
    record: dict[str, Any] = json.loads((folder / run / "run.json").read_text())
    inputs = record["inputs"]
    outputs = {name: folder / entry["path"] for name, entry in record["outputs"].items()}
    kept = outputs["encoder" if train is pretrain else "model"].read_bytes()
    data = [Path(inputs["store"]["path"]).parent, Path(inputs["split"]["path"])]
    if train is finetune:
        data.append(Path(inputs["encoder"]["path"]))
    before = Path.cwd()
    os.chdir(folder)
    try:
        with pytest.raises(SystemExit) as end:
            train(
                record["settings"], *data, Path(run), state=Path(RESULTS, "state"),
                world=Brief("cpu", steps), say=lambda line: None,
            )  # fmt: skip
    finally:
        os.chdir(before)
    assert end.value.code == EXIT_INTERRUPTED
    for path in (*outputs.values(), folder / run / "run.json"):
        path.unlink()
    return kept


def test_a_resumed_training_is_honest_at_all_three_depths(working: Project) -> None:
    prepare_torch(1)
    stops = ((TUNED, finetune, "model", 13), (PRETRAIN, pretrain, "encoder", 7))
    kept = {run: stop(working.folder, run, train, steps) for run, train, _, steps in stops}
    made = [f"{run}/run.json" for run, *_ in stops]  # of a missing file behind a table nobody asks
    working.launch("--", *made, "tables")
    for run, _, name, steps in stops:
        record = json.loads((working.folder / run / "run.json").read_text())
        assert record["training"]["resumed_at"] == steps
        assert (working.folder / record["outputs"][name]["path"]).read_bytes() == kept[run]
    assert "audit of tiny: intact at depth records" in working.snakemake("--", "audit").stdout
    cell = rerun_of("qm9/coord/homo")
    deeper = [word.replace("rerun", "weights") for word in cell]
    text = working.snakemake(*deeper, "--", "audit", edition=None).stdout
    assert "audit of tiny: intact at depth weights" in text
    text = working.snakemake(*cell, "--", "audit", edition=None).stdout
    assert "audit of tiny: intact at depth rerun" in text
    page = (working.folder / f"{RESULTS}/audit/index.html").read_text()
    assert "qm9/coord/homo trained again: " in page
    assert "2 of 2 files the same to the bit" in page
    assert "before this command" not in page
