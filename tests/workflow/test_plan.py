"""Dry runs: every target of every edition, without data and without a network."""

from __future__ import annotations

import re
import subprocess
import sys
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import pytest

from georecon.experiments.config import load_config
from georecon.experiments.experiments import Experiments
from tests.projects import Project, jobs_of

pytestmark = pytest.mark.workflow

EDITIONS = ("laptop", "workstation", "paper")


# One dry run each; the tables share one, and so do figures and report.
ALONE = ("table_qm9", "table_noise_scale", "tables", "figures report", "all")
Plans = dict[tuple[str, str], subprocess.CompletedProcess[str]]


@pytest.fixture(scope="session")
def plans(bare: Project) -> Plans:
    """Dry runs of all targets of these editions."""
    tables = load_config(bare.folder / "config", {"edition": "laptop"}).tables
    every = " ".join(f"table_{name}" for name in tables)
    wanted = [(edition, target) for edition in EDITIONS for target in ALONE]

    def plan(job: tuple[str, str]) -> subprocess.CompletedProcess[str]:
        targets = f"tables {every}" if job[1] == "tables" else job[1]
        return bare.snakemake("-n", "--nolock", "--", *targets.split(), edition=job[0], check=False)

    with ThreadPoolExecutor(2) as pool:
        return dict(zip(wanted, pool.map(plan, wanted), strict=True))


def test_the_network_is_really_off(bare: Project) -> None:
    code = "import urllib.request; urllib.request.urlopen('http://127.0.0.1:9')"
    result = subprocess.run(
        [sys.executable, "-c", code],
        env=bare.environment(), capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert "network is off in this test" in result.stderr


@pytest.mark.parametrize("target", ["table_md22", "table_md23"])
def test_a_dry_run_is_that_of_a_process_of_its_own(target: str, bare: Project) -> None:
    """Those of the tests are children of a process that has imported Snakemake.

    That process's folder is what the header calls the run directory, and nothing else does.
    """
    words = ("-n", "--nolock", "--", target)
    forked = bare.snakemake(*words, check=False)
    own = subprocess.run(
        bare.command(*words), cwd=bare.folder, env=bare.environment(), text=True, check=False,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip
    header = r"(?m)^  (Date|Workflow ID|Run directory): .*|^\[.*\]$"
    said = [  # files of a list are in the order of a set
        sorted(re.split(r"[\s,;]+", re.sub(header, "", result.stdout))) for result in (forked, own)
    ]
    assert said[0] == said[1]
    assert forked.returncode == own.returncode == (0 if target == "table_md22" else 2)


@pytest.mark.parametrize("edition", EDITIONS)
def test_every_target_plans_without_data_or_network(edition: str, plans: Plans) -> None:
    for (of_edition, target), result in plans.items():
        if of_edition != edition:
            continue
        assert result.returncode == 0, f"{target}: {result.stdout[-2000:]}"
        assert jobs_of(result.stdout), target


@pytest.mark.parametrize("edition", EDITIONS)
def test_all_is_tables_and_figures_and_report(
    edition: str,
    plans: Plans,
) -> None:
    parts = [set(jobs_of(plans[edition, target].stdout)) for target in ("tables", "figures report")]
    assert parts[0] | parts[1] == set(jobs_of(plans[edition, "all"].stdout))


@pytest.mark.parametrize("edition", EDITIONS)
def test_table_qm9_plans_nothing_that_it_does_not_need(
    edition: str,
    bare: Project,
    plans: Plans,
) -> None:
    jobs = jobs_of(plans[edition, "table_qm9"].stdout)
    words = " ".join(f"{rule} {wildcards}" for rule, wildcards in jobs)
    for foreign in ("xmd17", "md17", "md22", "3bpa", "georecon__", "smoothness", "noise_scale"):
        assert foreign not in words, foreign
    counts = Counter(rule for rule, _ in jobs)
    config = load_config(bare.folder / "config", {"edition": edition})
    methods, targets, from_files = {
        "laptop": (4, 12, 0), "workstation": (5, 4, 0), "paper": (6, 12, 1)
    }[edition]  # fmt: skip
    seeds = len(config.finetune.seeds)
    assert counts["finetune"] == counts["evaluate"] == targets * methods * seeds
    assert counts["pretrain"] == (methods - 1 - from_files) * seeds
    assert counts["import_encoder"] == from_files
    assert counts["table"] == 1
    assert set(counts) - {"import_encoder"} == {
        "fetch", "preprocess", "split", "leak", "pretrain", "finetune", "evaluate", "table",
    }  # fmt: skip


def test_plan_of_the_paper_shows_bytes_and_source_of_each_fetch(
    bare: Project, plans: Plans
) -> None:
    pattern = r"rule fetch:\n(?:    .*\n)*?    wildcards: dataset=(\S+), file=(\S+)\n(    .*\n)*"
    runs = Experiments.load(bare.folder / "config", {"edition": "paper"})
    seen = set()
    for match in re.finditer(pattern, plans["paper", "all"].stdout):
        dataset, name, resources = match.groups()
        entry = runs.data.raw_file(dataset, name)
        size = f"{entry.bytes} bytes" if entry.bytes else "size unknown"
        assert f"download={size} from {entry.urls[0]}" in resources
        disk = re.search(r"disk_mb=(\d+)", resources)
        assert disk is not None
        assert int(disk[1]) * 10**6 >= (entry.bytes or 10**9)
        seen.add((dataset, name))
    assert ("pcqm4mv2", "pcqm4m-v2-train.sdf.tar.gz") in seen
    counts = Counter(rule for rule, _ in jobs_of(plans["paper", "all"].stdout))
    assert len(seen) == counts["fetch"] >= 1 + 2 + 8 + 7  # PCQM4Mv2, QM9, MD17, MD22


@pytest.mark.parametrize("edition", EDITIONS)
def test_table_noise_scale_pretrains_its_sweep_and_nothing_else(
    edition: str,
    plans: Plans,
) -> None:
    jobs = jobs_of(plans[edition, "table_noise_scale"].stdout)
    pretrained = {wildcards for rule, wildcards in jobs if rule == "pretrain"}
    assert len(pretrained) == {"laptop": 2, "workstation": 3, "paper": 5 * 3}[edition]
    assert not [w for w in pretrained if "depth" in w or "coord" in w]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--config", "edition=laptpo"],
         ["edition is 'laptpo'", "evidence, laptop, paper, readings, tiny, workstation"]),
        (["--config", "edition=tiny", "encoder={chanels: 3}"],
         ["encoder.chanels: unknown key", "did you mean 'channels'?"]),
        (["--config", "edition=tiny", "pretrain={train: {lr: 1e-3}}"],
         ["pretrain.train.lr", "1.0e-3"]),
        (["--config", "edition=tiny", "encoder={cutoff: -1}"], ["encoder.cutoff"]),
    ],
)  # fmt: skip
def test_bad_configuration_is_refused_before_any_job(
    arguments: list[str], words: list[str], bare: Project
) -> None:
    result = bare.snakemake(*arguments, "--nolock", "--", "tables", edition=None, check=False)
    assert result.returncode != 0
    for word in words:
        assert word in result.stdout, result.stdout
    assert "Traceback" not in result.stdout
    assert "Job stats" not in result.stdout
    assert not (bare.folder / "results").exists()
    assert len(result.stdout.splitlines()) < 12, result.stdout
