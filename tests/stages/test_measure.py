"""The trial of one kind: what is timed is the training itself, at its own sizes."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from georecon.data.manifest import Source
from georecon.data.split import Split, write_split
from georecon.data.store import StoreWriter
from georecon.data.synthetic import synthetic_molecules
from georecon.errors import ConfigError
from georecon.experiments.experiments import Experiments
from georecon.experiments.rates import Measurement
from georecon.experiments.trial import TrialJob, trial_jobs
from georecon.stages import measure as module
from georecon.stages.measure import STEPS, Clock, line, measure, times_of
from tests.projects import ROOT


@pytest.fixture(scope="module")
def jobs() -> dict[str, TrialJob]:
    experiments = Experiments.load(ROOT / "config", {"edition": "tiny"})
    return {job.name: job for job in trial_jobs(experiments).values()}


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GEORECON_DEVICE", "cpu")


def measured(job: TrialJob) -> Measurement:
    threads = torch.get_num_threads()
    try:
        return measure(job.as_json(), Path(), started=0.0, threads=1, gpus=0, say=print)
    finally:
        torch.set_num_threads(threads)
        torch.set_flush_denormal(False)


@pytest.mark.parametrize(
    "name", ["pretrain coord seed 1", "finetune force/ethanol scratch seed 1",
             "finetune property/homo unimol_scratch seed 1"]
)  # fmt: skip
def test_a_kind_is_measured_without_any_data(jobs: dict[str, TrialJob], name: str) -> None:
    job = jobs[name]
    found = measured(job)
    rate = found.rate
    assert (found.kind, found.molecules, found.code) == (job.kind, "synthetic", job.code)
    assert found.device.startswith("cpu ")
    assert rate.fault() is None
    assert 0 < rate.seconds_per_step < 5
    assert rate.step_error < rate.step_spread
    assert rate.host_bytes > 1e8
    assert rate.device_bytes == 0
    assert rate.state_bytes > rate.output_bytes > 1000
    assert (rate.predicted_bytes > 0) == (job.stage == "finetune")
    assert [*Path().iterdir()] == []  # nothing is left
    assert f"{job.name} (made-up molecules of {round(job.atoms or 0)} atoms): " in line(job, found)


def test_molecules_that_are_there_are_taken(
    jobs: dict[str, TrialJob], monkeypatch: pytest.MonkeyPatch
) -> None:
    job = jobs["pretrain coord seed 1"]
    units, source = {"pos": "Å"}, Source(source="toy", roles=("toy",))
    with StoreWriter(job.store, dataset="qm9", source=source, units=units) as writer:
        writer.append(synthetic_molecules(200, 5))
    ids, seen = np.arange(200), {}
    split = Split(ids[:100], ids[100:150], ids[150:])
    Path(job.split).parent.mkdir(parents=True)
    write_split(job.split, split, {"rule": "toy", "seed": 0, "store_sha256": ""})

    def noted(settings: object, store: Path, *rest: object, **more: object) -> object:
        seen["store"] = store
        return pretrain(settings, store, *rest, **more)

    pretrain = module.pretrain
    monkeypatch.setattr(module, "pretrain", noted)
    assert measured(job).molecules == "stored"
    assert seen == {"store": Path(job.store)}
    assert job.atoms == 18.03  # which these have not


def test_without_data_and_size_it_says_what_to_do(jobs: dict[str, TrialJob]) -> None:
    job = replace(jobs["pretrain coord seed 1"], atoms=None)
    with pytest.raises(ConfigError, match=r"datasets\.qm9: no molecules in .* or give `atoms`"):
        measured(job)


def test_steps_and_validations_are_told_apart() -> None:
    ends, now = [], 100.0  # the first two steps are slow: kernels are compiled
    for step in range(1, STEPS + 1):
        now += 30.0 if step == 1 else 5.0 if step == 2 else 0.5
        now += 2.0 if step in (7, 14) else 0.0
        ends.append(now)
    found = times_of(ends, {7, 14})
    assert found.step == pytest.approx(0.5)
    assert found.validation == pytest.approx(2.0)
    assert found.step_error == pytest.approx(0.0, abs=1e-9)
    wrong = times_of(ends, {6, 13})  # a broken twin: validations are among the steps
    assert wrong.step > 0.6
    assert wrong.validation == 0.0


def ends_of(lengths: list[float]) -> list[float]:
    return list(map(float, np.cumsum(lengths)))


@pytest.mark.parametrize("period", [1, 2, 4])
@pytest.mark.parametrize("phase", range(4))
def test_an_objective_that_does_more_now_and_then_costs_its_mean(period: int, phase: int) -> None:
    """Twin: the plain mean of the steps that are counted is off where some of them are left out."""
    steps = [3.0 if (k + phase) % period == 0 else 1.0 for k in range(STEPS)]
    found = times_of(ends_of([t + 2.0 * (k in (6, 13)) for k, t in enumerate(steps)]), {7, 14})
    assert found.step == pytest.approx(1.0 + 2.0 / period)
    assert found.step_error == pytest.approx(0.0, abs=1e-9)
    assert found.validation == pytest.approx(2.0)
    plain = np.mean([t for k, t in enumerate(steps) if k > 1 and k not in (6, 13)])
    assert (plain == pytest.approx(found.step)) == (period < 4)


def test_the_error_is_that_of_the_mean() -> None:
    draw = np.random.default_rng(1)
    found = [times_of(ends_of([*draw.normal(10, 1, STEPS)]), {7, 14}) for _ in range(2000)]
    scatter = np.std([one.step for one in found])
    assert np.mean([one.step_error**2 for one in found]) ** 0.5 == pytest.approx(scatter, rel=0.1)
    assert np.mean([one.step_spread for one in found]) == pytest.approx(1.0, rel=0.05)


def test_a_validation_that_noise_hides_costs_nothing_give_or_take() -> None:
    ends = [*np.cumsum([1.0, 1.0, *[1.0, 1.2] * 6])]
    found = times_of(ends, {7, 14})
    assert found.validation >= 0.0
    assert found.validation_error > 0.0


def test_the_clock_is_a_world_of_one() -> None:
    clock = Clock("cpu")
    assert clock.any(True)
    assert not clock.any(False)
    assert len(clock.ends) == 2
    assert clock.ends[0] <= clock.ends[1]
    assert (clock.rank, clock.size, clock.first) == (0, 1, True)
