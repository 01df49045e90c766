"""The plan: each run once, hours from measured rates alone, downloads from the cards."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import pytest
from snakemake.cli import parse_config

from georecon.experiments.experiments import Experiments
from georecon.experiments.option_texts import read_texts
from georecon.experiments.plan import plan
from georecon.experiments.rates import Rate, Rates
from georecon.experiments.trainings import all_trainings, trainings
from georecon.experiments.trial import trial_jobs
from georecon.files import write_json
from georecon.jobs.planned_jobs import PlannedJob, job_lines, limit_lines
from tests.experiments.toy_rates import RATE

ROOT = Path(__file__).resolve().parents[2]
NOTHING = Rates({}, frozenset(), {}, [])


def rates_of(
    by_device: dict[str, dict[str, Rate]],
    synthetic: Iterable[str] = (),
    faults: Iterable[str] = (),
    code: str | None = None,
) -> Rates:
    """Rates that were measured with the tiny edition's sources of now, or with others."""
    kinds = {kind for rates in by_device.values() for kind in rates}
    jobs = trial_jobs(Experiments.load(ROOT / "config", {"edition": "tiny"}))
    codes = {kind: code or (jobs[kind].code if kind in jobs else "") for kind in kinds}
    return Rates(by_device, frozenset(synthetic), codes, [*faults])


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


def test_no_rate_means_no_number(tiny: Experiments, tmp_path: Path) -> None:
    lines = plan(tiny, tmp_path, NOTHING)
    text = "\n".join(lines)
    assert "No rate of any device is known" in text
    assert "--config edition=tiny -- trial" in text
    assert " h" not in text.replace(" how", "").split("No rate")[0]
    assert "all: 13 pre-trainings, 49 fine-tunings" in text


def test_sums_by_table_and_for_all(tiny: Experiments, tmp_path: Path) -> None:
    runs = all_trainings(tiny)
    one = {run.kind(): RATE for run in runs}
    two = {kind: RATE for kind in list(one)[:3]}
    rates = rates_of({"one": one, "two": two}, list(one)[:2])
    lines = plan(tiny, tmp_path, rates)
    (line,) = (line for line in lines if line.startswith("  all:"))
    known = [cost for run in runs if (cost := run.estimate(one)) is not None]
    assert len(known) == len(runs)
    hours, error = sum(cost.hours for cost in known), sum(cost.error for cost in known)
    assert f"one: {hours:.3g} ± {error:.1g} h, " in line
    disk = sum(cost.disk_gb for cost in known)
    assert f" GB of memory and 4 GB of the GPU's, {disk:.2g} GB of disk" in line
    assert "not measured" not in line.split("; ")[1]
    assert "not measured" in line.split("; ")[2]
    text = "\n".join(lines)
    assert f"Measured: {len(one)} of {len(one)} kinds of training, 2 of them on made-up" in text


def test_what_is_not_measured_is_said(tiny: Experiments, tmp_path: Path) -> None:
    kinds = {run.kind() for run in all_trainings(tiny)}
    rates = rates_of({"one": dict.fromkeys(sorted(kinds)[:-1], RATE)}, faults=["a fault"])
    text = "\n".join(plan(tiny, tmp_path, rates))
    assert f"Measured: {len(kinds) - 1} of {len(kinds)} kinds" in text
    assert "What was not measured has no hours above. To measure: " in text
    assert "\na fault\n" in text
    assert " not measured" in text.split("  all:")[1].splitlines()[0]


def test_rates_of_other_sources_are_counted(tiny: Experiments, tmp_path: Path) -> None:
    kinds = {run.kind() for run in all_trainings(tiny)}
    now, old = (
        "\n".join(plan(tiny, tmp_path, rates_of({"one": dict.fromkeys(kinds, RATE)}, code=code)))
        for code in (None, "0123")
    )
    assert "other sources" not in now
    assert f"kinds of training, {len(kinds)} with other sources than there are now" in old


def test_rates_of_other_editions_say_nothing(tiny: Experiments, tmp_path: Path) -> None:
    text = "\n".join(plan(tiny, tmp_path, rates_of({"one": {"pretrain-0": RATE}})))
    assert "No rate of any device is known" in text
    assert "one: " not in text
    assert not re.search(r"[0-9] h\b", text)


def subset() -> Experiments:
    """As `--config edition=paper 'finetune={seeds: [1]}' 'tables={qm9: {columns: ...}}'`."""
    given = [
        "edition=paper",
        "finetune={seeds: [1]}",
        "tables={qm9: {columns: [{source: finetune, set: property, targets: [homo, lumo]}]}}",
    ]
    return Experiments.load(ROOT / "config", read_texts(parse_config(given)))


def test_a_part_of_an_edition_is_priced_from_the_command_line(tmp_path: Path) -> None:
    few, paper = subset(), Experiments.load(ROOT / "config", {"edition": "paper"})
    assert {(r.target, r.settings.seed) for r in trainings(few, "qm9")} == {
        ("", 1), ("homo", 1), ("lumo", 1)
    }  # fmt: skip
    rates = rates_of({"a card": {run.kind(): RATE for run in trainings(paper, "qm9")}})
    texts = ["\n".join(plan(e, tmp_path, rates)) for e in (few, paper)]
    hours = [float(re.search(r"  qm9: .*a card: (\S+) ±", text)[1]) for text in texts]  # type: ignore[index]
    expected = sum(
        cost.hours
        for run in trainings(few, "qm9")
        if (cost := run.estimate(rates.by_device["a card"])) is not None
    )
    assert hours[0] == pytest.approx(expected, rel=0.01)
    assert hours[0] < hours[1] / 3


def test_finished_runs_are_not_counted(tiny: Experiments, tmp_path: Path) -> None:
    run = trainings(tiny, "md17")[-1]
    write_json(tmp_path / run.folder / "run.json", {})
    text = "\n".join(plan(tiny, tmp_path, NOTHING))
    assert "md17: 6 pre-trainings, 7 fine-tunings" in text
    assert "all: 13 pre-trainings, 48 fine-tunings" in text


def test_downloads_of_the_paper_edition(tmp_path: Path) -> None:
    paper = Experiments.load(ROOT / "config", {"edition": "paper"})
    name = "resources/raw/qm9/dsgdb9nsd.xyz.tar.bz2"
    before = "\n".join(plan(paper, tmp_path, NOTHING))
    assert "pcqm4mv2/pcqm4m-v2-train.sdf.tar.gz: 1,559,712,928 bytes" in before
    assert "md17/md17_ethanol.npz: " in before
    assert Path(name).name in before
    (tmp_path / name).parent.mkdir(parents=True)
    (tmp_path / name).touch()
    assert Path(name).name not in "\n".join(plan(paper, tmp_path, NOTHING))


def test_laptop_downloads_nothing(tmp_path: Path) -> None:
    laptop = Experiments.load(ROOT / "config", {"edition": "laptop"})
    assert "To download (and to keep on disk): 0 bytes" in plan(laptop, tmp_path, NOTHING)


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
        rate = replace(
            RATE,
            seconds_per_step=hours * 3600 / steps,
            seconds_per_molecule=0.0,
            startup_seconds=0.0,
        )
        return limit_lines(jobs, [run], {"a GPU": {run.kind(): rate}}, 4)

    assert warnings(0.9) == []
    (slow,) = warnings(3.0)
    assert "at most 3 h of 1 h): each goes on from its save" in slow
    (hopeless,) = warnings(5.0)
    assert "more than the 4 attempts together: raise runtime or retries" in hopeless
