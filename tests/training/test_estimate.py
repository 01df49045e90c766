"""Bounds of steps that were not measured, held against those that were."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from georecon.experiments.experiments import Experiments
from georecon.experiments.settings import FinetuneSettings, PretrainSettings
from georecon.files import read_json
from georecon.training.estimate import (
    CPUS,
    GPUS,
    Device,
    applied_layers,
    flops,
    neighbours,
    prediction,
    steps_per_batch,
    training_step,
)
from tests.projects import ROOT

H100 = GPUS[-1]  # an H200 has the same processors
MEASURED = read_json(ROOT / "benchmarks/results/gpu_step-nvidia-h200.json")["cases"]
REPLAYED = read_json(ROOT / "benchmarks/results/replay-nvidia-h200.json")["replayed"]


@pytest.fixture(scope="module")
def paper() -> Experiments:
    return Experiments.load(ROOT / "config", {"edition": "paper"})


def pretraining(paper: Experiments, method: str, batch: int) -> PretrainSettings:
    run = paper.runs.pretrain_settings(method, 1)
    return replace(run, train=replace(run.train, batch_size=batch))


def forces(paper: Experiments) -> FinetuneSettings:
    run = paper.runs.finetune_settings("force", "aspirin", "coord", 1)
    small = replace(run.encoder, channels=128, layers=6, rbf=32)
    recipe = replace(run.recipe, noise_sigma=0.0)  # the benchmark's step has no noise pass
    return replace(run, encoder=small, recipe=recipe)


@pytest.mark.parametrize(
    ("case", "method", "batch"),
    [
        ("coord, 256/8/64, 128 x QM9", "coord", 128),
        ("georecon, 256/8/64, 70 x QM9", "georecon__decoder", 70),
        ("energy+force, 128/6/32, 8 x aspirin", None, 8),
    ],
)
def test_measured_steps_lie_between_the_bounds(
    paper: Experiments, case: str, method: str | None, batch: int
) -> None:
    run = pretraining(paper, method, batch) if method else forces(paper)
    load = replace(training_step(run, 18.0 if method else 21.0), recorded=False)
    seconds = load.seconds(H100)
    assert seconds.low < MEASURED[case]["seconds_per_step"]["triton"] < seconds.high
    assert seconds.high < 10 * seconds.low  # a bracket that says something
    peak = MEASURED[case]["peak_memory_mb"]["triton"] / 1e3
    assert 0.9 * load.gigabytes().low < peak < load.gigabytes().high


@pytest.mark.parametrize("made", REPLAYED, ids=lambda made: made["name"])
def test_recorded_steps_do_so_too(paper: Experiments, made: dict[str, Any]) -> None:
    _, what, _ = made["name"].split(maxsplit=2)
    run = paper.runs.finetune_settings(*what.split("/"), "scratch", 1)
    load = training_step(run, made["atoms"])
    seconds = load.seconds(H100)
    assert seconds.low < made["rate"]["seconds_per_step"] < seconds.high
    assert seconds.high < 10 * seconds.low
    if made["atoms"] < 30:  # a broken twin
        assert replace(load, recorded=False).seconds(H100).low > made["rate"]["seconds_per_step"]
    peak = made["rate"]["device_bytes"] / 1e9
    assert 0.9 * load.gigabytes().low < peak < load.gigabytes().high


def test_the_largest_system_too(paper: Experiments) -> None:
    """193 ms and 8.6 GiB on that card, docs/performance.md."""
    run = paper.runs.finetune_settings("large_force", "double-walled_nanotube", "coord", 1)
    whole = replace(run, train=replace(run.train, part_atoms=0))
    load = replace(training_step(whole, 370.0), noisy=0.0)
    assert load.seconds(H100).low < 0.193 < load.seconds(H100).high
    assert load.gigabytes().low < 8.6 * 1.074 < load.gigabytes().high
    assert steps_per_batch(run, 370.0) == pytest.approx(32 * 370 / 6000)
    parted, unparted = training_step(run, 370.0), training_step(whole, 370.0)
    assert parted.gigabytes().low < 0.6 * unparted.gigabytes().low


@pytest.mark.parametrize(
    ("case", "method"), [("coord, 32/2/32, 16 x QM9", "coord"),
                         ("georecon, 32/2/32, 16 x QM9", "georecon__decoder"),
                         ("coord, 32/2/32, 32 x QM9", "coord"),
                         ("georecon, 32/2/32, 32 x QM9", "georecon__decoder")],
)  # fmt: skip
def test_steps_of_a_core_lie_between_the_bounds(case: str, method: str) -> None:
    laptop = Experiments.load(ROOT / "config", {"edition": "laptop"})
    batch = int(case.split(", ")[2].split(" ", maxsplit=1)[0])
    seconds = training_step(pretraining(laptop, method, batch), 18.0).seconds(CPUS[0])
    for name in ("v3", "v4"):
        path = ROOT / f"benchmarks/results/laptop_step-intel-xeon-processor-x86-64-{name}.json"
        rate = read_json(path)["cases"][case]["molecules_per_cpu_second"]["now"]
        assert seconds.low < batch / rate < seconds.high


@pytest.mark.parametrize(
    ("case", "method"),
    [("coord, 256/8/64, 64 x QM9", "coord"), ("georecon, 256/8/64, 32 x QM9", "georecon__decoder")],
)
def test_large_steps_of_two_threads_take_half_of_a_core_s(
    paper: Experiments, case: str, method: str
) -> None:
    measured = read_json(ROOT / "benchmarks/results/train_step-amd-epyc-native.json")
    assert measured["compute"]["threads"] == 2
    batch = int(case.split(", ")[2].split(" ", maxsplit=1)[0])
    rate = measured["cases"][case]["molecules_per_second"]["ours"] / 2
    seconds = training_step(pretraining(paper, method, batch), 18.0).seconds(CPUS[0])
    assert seconds.low < batch / rate < seconds.high


def test_filters_are_no_part_of_a_processor_s_lower_bound(paper: Experiments) -> None:
    """118 ms of a core of an Intel Xeon at 128/6/64 and batch 32, found by the trial."""
    run = paper.runs.pretrain_settings("coord", 1)
    small = replace(run.encoder, channels=128, layers=6)
    run = replace(run, encoder=small, train=replace(run.train, batch_size=32))
    load = training_step(run, 18.0)
    assert load.seconds(CPUS[0]).low < 0.118 < load.seconds(CPUS[0]).high
    card = Device("as fast", CPUS[0].tflops, 1)
    assert load.seconds(card).low > 0.118  # a broken twin


def test_sixteen_cores_share_the_trainings(paper: Experiments) -> None:
    one, sixteen = (training_step(pretraining(paper, "coord", 70), 18.0).seconds(d) for d in CPUS)
    assert one == pytest.approx(sixteen.times(16))
    assert not any(device.card for device in CPUS)


def test_an_atoms_layers_are_counted(paper: Experiments) -> None:
    layers = paper.config.encoder.layers
    assert applied_layers(pretraining(paper, "coord", 70)) == layers
    every = paper.config.methods["georecon"].params["every"]
    assert applied_layers(pretraining(paper, "georecon", 70)) == layers * (1 + 1 / every)
    plain = pretraining(paper, "georecon__decoder", 70)
    deeper = replace(plain, params={**plain.params, "depth": plain.params["depth"] + 1})
    assert applied_layers(plain) > 2 * layers
    assert applied_layers(deeper) == applied_layers(plain) + 1
    unimol = paper.runs.pretrain_settings("unimol", 1)
    assert applied_layers(unimol) == unimol.encoder.layers


def test_what_costs_more_is_said_to(paper: Experiments) -> None:
    slow, fast = Device("slow", 10.0, 16), Device("fast", 20.0, 16)
    coord = training_step(pretraining(paper, "coord", 4096), 18.0)
    assert coord.seconds(slow).low == pytest.approx(2 * coord.seconds(fast).low)
    encoder = paper.config.encoder
    assert flops(encoder, 30.0) > flops(encoder, 15.0)
    assert neighbours(encoder, 9.0) == 8.0
    assert neighbours(encoder, 370.0) == encoder.max_neighbors
    force = paper.runs.finetune_settings("force", "aspirin", "coord", 1)
    tested = prediction(force, 100_000, 21.0).seconds(H100)
    trained = training_step(force, 21.0).seconds(H100)
    assert tested.low * force.train.batch_size < trained.low * force.evaluation_batch
