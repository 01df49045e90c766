"""The plan: each run once, hours from measured rates alone, downloads from the cards."""

from __future__ import annotations

import re
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from georecon.experiments.experiments import Experiments
from georecon.experiments.plan import plan, trainings
from georecon.experiments.rates import Rate, read_rates, write_rates
from georecon.files import write_json
from georecon.jobs.planned_jobs import PlannedJob, job_lines, limit_lines

ROOT = Path(__file__).resolve().parents[2]
RATE = Rate(seconds_per_step=0.5, step_error=0.01, seconds_per_validation=2.0, validation_error=0.1)


@pytest.fixture(scope="module")
def tiny() -> Experiments:
    return Experiments.load(ROOT / "config", {"edition": "tiny"})


def test_runs_of_a_table(tiny: Experiments) -> None:
    runs = trainings(tiny, "qm9")
    stages = [run.stage for run in runs]
    assert (stages.count("pretrain"), stages.count("finetune")) == (6, 2 * 4 * 2)
    assert len({run.folder for run in runs}) == len(runs)
    names = ("metrics.json", "predictions.parquet")
    files = {f"{run.folder}/{n}" for run in runs if run.stage == "finetune" for n in names}
    assert files == set(tiny.tables.files("qm9"))


def test_seed_and_method_share_a_workload_and_sizes_do_not(tiny: Experiments) -> None:
    tuned = [run for run in trainings(tiny, "qm9") if run.stage == "finetune"]
    assert len({run.workload() for run in tuned}) == 2  # one a target
    run = tuned[0]
    settings = run.settings
    longer = replace(settings, train=replace(settings.train, steps=10_000))
    larger = replace(settings, train=replace(settings.train, batch_size=99))
    mixed = replace(settings, train=replace(settings.train, precision="bf16"))
    wide = replace(settings, encoder=replace(settings.encoder, channels=998))
    assert replace(run, settings=longer).workload() == run.workload()
    for change in (larger, mixed, wide):
        assert replace(run, settings=change).workload() != run.workload()
    depths = {r.workload() for r in trainings(tiny, "decoder_depth") if r.stage == "pretrain"}
    assert len(depths) == 2


def test_hours_are_steps_and_validations_times_their_rates(tiny: Experiments) -> None:
    run = trainings(tiny, "qm9")[-1]
    train = run.settings.train
    expected = (train.steps * 0.5 + train.evaluations * 2.0) / 3600
    error = (train.steps * 0.01 + train.evaluations * 0.1) / 3600
    assert run.hours({run.workload(): RATE}) == pytest.approx((expected, error))
    assert run.hours({"another": RATE}) is None


def test_no_rate_means_no_number(tiny: Experiments, tmp_path: Path) -> None:
    lines = plan(tiny, tmp_path, tmp_path)
    text = "\n".join(lines)
    assert "No rate of any device is known" in text
    assert "benchmarks/calibrate.py --edition tiny" in text
    assert " h" not in text.replace(" how", "").split("No rate")[0]
    assert "all: 13 pre-trainings, 49 fine-tunings" in text


def test_sums_by_table_and_for_all(tiny: Experiments, tmp_path: Path) -> None:
    runs = {run.workload(): RATE for table in tiny.config.tables
            for run in trainings(tiny, table)}  # fmt: skip
    write_rates(tmp_path / "rates-a.json", "one", runs)
    some = {k: RATE for k in list(runs)[:3]}
    write_rates(tmp_path / "rates-b.json", "two", some)
    assert list(read_rates(tmp_path)[0]) == ["one", "two"]
    lines = plan(tiny, tmp_path, tmp_path)
    (line,) = (line for line in lines if line.startswith("  all:"))
    train = [r.settings.train for r in _all(tiny)]
    hours = sum(t.steps * 0.5 + t.evaluations * 2.0 for t in train) / 3600
    error = sum(t.steps * 0.01 + t.evaluations * 0.1 for t in train) / 3600
    assert f"one: {hours:.3g} ± {error:.1g} h" in line
    assert "not measured" not in line.split("; ")[1]
    assert "not measured" in line.split("; ")[2]
    assert any("Not measured means no estimate" in line for line in lines)


def test_a_rate_of_nothing_is_said_and_not_counted(tiny: Experiments, tmp_path: Path) -> None:
    run = trainings(tiny, "qm9")[0]
    path = tmp_path / "rates-a.json"
    write_json(
        path, {"device": "x", "rates": {run.workload(): {**asdict(RATE), "seconds_per_step": 0}}}
    )
    text = "\n".join(plan(tiny, tmp_path, tmp_path))
    assert f"rates-a.json: {run.workload()}: seconds_per_step is 0; must be" in text
    assert not re.search(r"[0-9] h\b", text)


def _all(experiments: Experiments) -> list:
    tables = experiments.config.tables
    return list({r.folder: r for t in tables for r in trainings(experiments, t)}.values())


def test_finished_runs_are_not_counted(tiny: Experiments, tmp_path: Path) -> None:
    run = trainings(tiny, "md17")[-1]
    write_json(tmp_path / run.folder / "run.json", {})
    text = "\n".join(plan(tiny, tmp_path, tmp_path))
    assert "md17: 6 pre-trainings, 7 fine-tunings" in text
    assert "all: 13 pre-trainings, 48 fine-tunings" in text


def test_downloads_of_the_paper_edition(tmp_path: Path) -> None:
    paper = Experiments.load(ROOT / "config", {"edition": "paper"})
    name = "resources/raw/qm9/dsgdb9nsd.xyz.tar.bz2"
    before = "\n".join(plan(paper, tmp_path, tmp_path))
    assert "pcqm4mv2/pcqm4m-v2-train.sdf.tar.gz: 1,559,712,928 bytes" in before
    assert "md17/md17_ethanol.npz: " in before
    assert Path(name).name in before
    (tmp_path / name).parent.mkdir(parents=True)
    (tmp_path / name).touch()
    assert Path(name).name not in "\n".join(plan(paper, tmp_path, tmp_path))


def test_laptop_downloads_nothing(tmp_path: Path) -> None:
    laptop = Experiments.load(ROOT / "config", {"edition": "laptop"})
    assert "To download (and to keep on disk): 0 bytes" in plan(laptop, tmp_path, tmp_path)


def test_jobs_by_rule_and_their_time_limits(tiny: Experiments) -> None:
    run = trainings(tiny, "qm9")[-1]
    tuned = (f"{run.folder}/model.safetensors", f"{run.folder}/run.json")
    jobs = [
        PlannedJob("finetune", tuned, 60),
        PlannedJob("evaluate", ("b",), 15),
        PlannedJob("fetch", ("c",), None),
    ]
    assert job_lines(jobs) == [
        "Jobs of target all, by rule: finetune 1, evaluate 1, fetch 1; 3 in all"
    ]

    def warnings(hours: float) -> list[str]:
        steps = run.settings.train.steps
        rate = replace(RATE, seconds_per_step=hours * 3600 / steps, seconds_per_validation=1e-9)
        return limit_lines(jobs, [run], {"a GPU": {run.workload(): rate}}, 4)

    assert warnings(0.9) == []
    (slow,) = warnings(3.0)
    assert "at most 3 h of 1 h): each goes on from its save" in slow
    (hopeless,) = warnings(5.0)
    assert "more than the 4 attempts together: raise runtime or retries" in hopeless
