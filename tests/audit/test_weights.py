"""Validation errors, which some tables show, again from fine-tuned weights."""

from __future__ import annotations

from dataclasses import replace

import pytest

from georecon.audit import weights
from georecon.audit.findings import Context
from georecon.experiments.experiments import Experiments
from georecon.jobs.job import prepare_torch
from georecon.kernels import native
from georecon.records.chain import read_graph
from tests.audit.tamper import FINETUNE, RESULTS
from tests.projects import Project

pytestmark = [pytest.mark.workflow, pytest.mark.slow]

RUNS = (f"{FINETUNE}/coord/seed1", f"{RESULTS}/finetune/force/ethanol/scratch/seed2")


@pytest.mark.parametrize("kernel", ["native", "reference"])
@pytest.mark.parametrize("run", RUNS)
def test_validation_errors_follow_from_fine_tuned_weights(
    run: str, kernel: str, finished: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    if native.library() is None:
        pytest.skip("no C++ compiler: there is one kernel only")
    prepare_torch(1)
    monkeypatch.setattr(native, "kernel", lambda device="cpu": kernel)
    e = Experiments.load(finished.folder / "config", {"edition": "tiny"})
    context = Context(finished.folder, e, read_graph(finished.folder, "tiny"), bundle=False)
    record = context.graph.records[f"{run}/run.json"]
    assert weights.alike(record) == (kernel == "native")
    assert weights._check_validation(context, record, "cpu") is None
    assert record.final is not None
    for name in [name for name in record.final if name.endswith("mae") and "val" in name]:
        better = {**record.final, name: 0.99 * float(str(record.final[name]))}
        text = weights._check_validation(context, replace(record, final=better), "cpu")
        assert text is not None
        assert text.startswith(f"{name} of the best step is")
