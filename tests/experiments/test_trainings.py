"""Runs by table, sizes of their data, and kinds of equal cost."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from georecon.experiments.experiments import Experiments
from georecon.experiments.trainings import Training, all_trainings, molecules, trainings
from tests.experiments.toy_rates import RATE
from tests.projects import ROOT


@pytest.fixture(scope="module")
def tiny() -> Experiments:
    return Experiments.load(ROOT / "config", {"edition": "tiny"})


@pytest.fixture(scope="module")
def paper() -> Experiments:
    return Experiments.load(ROOT / "config", {"edition": "paper"})


def tuned(experiments: Experiments, table: str = "qm9") -> list[Training]:
    return [run for run in trainings(experiments, table) if run.stage == "finetune"]


def test_seeds_methods_and_like_targets_are_of_one_kind(
    tiny: Experiments, paper: Experiments
) -> None:
    assert len({run.kind() for run in tuned(tiny)}) == 1
    heads = {run.settings.recipe.head for run in tuned(paper)}  # type: ignore[union-attr]
    assert len({run.kind() for run in tuned(paper)}) == len(heads) == 3
    depths = {r.kind() for r in trainings(tiny, "decoder_depth") if r.stage == "pretrain"}
    noises = {r.kind() for r in trainings(tiny, "noise_scale") if r.stage == "pretrain"}
    assert (len(depths), len(noises)) == (2, 1)


def test_molecules_of_as_many_atoms_are_of_one_kind(paper: Experiments) -> None:
    md17 = {run.target: run.kind() for run in tuned(paper, "md17")}
    assert md17["ethanol"] == md17["malonaldehyde"]
    assert md17["ethanol"] != md17["aspirin"]
    assert {run.kind() for run in tuned(paper, "md17_9500")} == {*md17.values()}


Change = Callable[[Any], Any]


@pytest.mark.parametrize(
    "change",
    [
        lambda s: replace(s, train=replace(s.train, batch_size=99)),
        lambda s: replace(s, train=replace(s.train, precision="bf16")),
        lambda s: replace(s, train=replace(s.train, part_atoms=100)),
        lambda s: replace(s, encoder=replace(s.encoder, channels=998)),
        lambda s: replace(s, evaluation_batch=7),
        lambda s: replace(s, recipe=replace(s.recipe, head="dipole")),
        lambda s: replace(s, recipe=replace(s.recipe, force_weight=0.5)),
        lambda s: replace(s, recipe=replace(s.recipe, noise_sigma=0.0)),
    ],
)
def test_what_a_step_costs_more_for_is_another_kind(tiny: Experiments, change: Change) -> None:
    run = tuned(tiny)[0]
    assert replace(run, settings=change(run.settings)).kind() != run.kind()


@pytest.mark.parametrize(
    "change",
    [
        lambda s: replace(s, train=replace(s.train, steps=10_000, lr=1.0, evaluations=7)),
        lambda s: replace(s, seed=9, method="mine", target="gap", label="gap", code="x"),
        lambda s: replace(s, recipe=replace(s.recipe, noise_sigma=0.5, noise_weight=2.0)),
    ],
)
def test_what_changes_no_cost_does_not_change_the_kind(tiny: Experiments, change: Change) -> None:
    run = tuned(tiny)[0]
    assert replace(run, settings=change(run.settings)).kind() == run.kind()


def test_a_scale_of_zero_is_another_kind(tiny: Experiments) -> None:
    run = next(r for r in trainings(tiny, "decoder_depth") if r.stage == "pretrain")
    settings = run.settings
    weights = {**settings.params["weights"], "clean": 0.0}  # type: ignore[union-attr, dict-item]
    without = replace(settings, params={**settings.params, "weights": weights})  # type: ignore[union-attr]
    larger = replace(settings, params={**settings.params, "sigma_rec": 0.9})  # type: ignore[union-attr]
    assert replace(run, settings=without).kind() != run.kind()
    assert replace(run, settings=larger).kind() == run.kind()


def test_an_estimate_is_steps_and_molecules_times_their_rates(tiny: Experiments) -> None:
    run = tuned(tiny)[-1]
    train, sizes = run.settings.train, run.sizes
    assert (sizes.validation, sizes.test) == (32, 64)
    predicted = train.evaluations * 32 + 64
    found = run.estimate({run.kind(): RATE})
    assert found is not None
    assert found.hours == pytest.approx((12 + train.steps * 0.5 + predicted * 0.002) / 3600)
    assert found.error == pytest.approx((train.steps * 0.01 + predicted * 0.0001) / 3600)
    assert found.host_gb == pytest.approx(2 + (32 + 64) * 1e-6)
    assert (found.device_gb, found.state_gb) == (4, 0.005)
    assert found.disk_gb == pytest.approx(0.001 + 64 * 5e-7)
    assert run.estimate({"another": RATE}) is None


def test_sizes_are_those_of_cards_and_configuration(paper: Experiments) -> None:
    run = next(r for r in trainings(paper, "md17") if r.target == "aspirin")
    assert run.sizes == (21, 50, 211762 - 1000)
    assert tuned(paper)[0].sizes == (18.03, 10000, 10831)
    run = next(r for r in trainings(paper, "md22") if r.target == "DHA")
    assert run.sizes == (56, 800, 69753 - 8000)
    assert molecules(paper.data.card("md17"), "malonaldehyde") == 993237
    (run,) = {r.target: r for r in tuned(paper, "3bpa")}.values()
    assert run.sizes.test == molecules(paper.data.card("3bpa"), "3bpa")  # of its test files alone


def test_every_run_of_all_tables_once(tiny: Experiments) -> None:
    folders = [run.folder for run in all_trainings(tiny)]
    assert len(folders) == len({*folders}) == 62
