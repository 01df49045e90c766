"""The commands of docs/audit.md, as a user types them, on a finished tiny run."""

from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path

import pytest

from georecon.errors import ConfigError
from georecon.experiments.experiments import Experiments
from georecon.experiments.sample import draw
from tests.audit.tamper import FINETUNE, flip_bit
from tests.projects import ROOT, Project, jobs_of

pytestmark = [pytest.mark.workflow, pytest.mark.slow, pytest.mark.timeout(600)]

CELL = "qm9/scratch/homo"


def tree(folder: Path) -> dict[str, str]:
    """Hash of every published file."""
    paths = [p for p in sorted((folder / "results/tiny").rglob("*")) if p.is_file()]
    names = [p for p in paths if not {"rerun", "audit", "state"} & set(p.parts)]
    names += sorted(p for p in (folder / "logs").rglob("*.log") if "rerun" not in p.parts)
    return {str(p): hashlib.sha256(p.read_bytes()).hexdigest() for p in names}


def test_audit_checks_anew_each_time_and_fails_on_a_flipped_bit(working: Project) -> None:
    page = working.folder / "results/tiny/audit/index.html"
    for _ in range(2):
        result = working.snakemake("--", "audit")
        assert "audit of tiny: intact" in result.stdout
        page.unlink()
    model = working.folder / FINETUNE / "coord/seed1/model.safetensors"
    flip_bit(model)
    result = working.snakemake("--", "audit", check=False)
    assert result.returncode != 0
    assert "audit of tiny: broken" in result.stdout
    assert f"file changed: {FINETUNE}/coord/seed1/model.safetensors" in result.stdout
    assert "Traceback" not in result.stdout
    assert f"{FINETUNE}/coord/seed1/model.safetensors" in page.read_text()
    verdicts = json.loads(page.with_name("audit.json").read_text())["cells"]
    assert verdicts["qm9/coord/homo"]["verdict"] == "differs"
    assert verdicts["qm9/georecon/homo"]["verdict"] == "reproduced"


@pytest.mark.long
def test_one_cell_made_again_is_the_same_and_touches_nothing(working: Project) -> None:
    before = tree(working.folder)
    given = ("--config", "edition=tiny", f"cell={CELL}", "--", "rerun")
    result = working.snakemake(*given, edition=None)
    numbers = re.findall(r"old (\S+), new (\S+), difference (\S+) meV", result.stdout)
    assert len(numbers) == 3
    assert all(old == new and float(difference) == 0 for old, new, difference in numbers)
    assert "2 of 2 result files are the same byte for byte" in result.stdout
    assert tree(working.folder) == before
    folder = working.folder / "results/tiny/rerun" / CELL
    again = folder / "finetune/property/homo/scratch/seed2/predictions.parquet"
    assert again.is_file()
    assert "audit of tiny: intact" in working.snakemake("--", "audit").stdout


def rerun_of(cell: str) -> list[str]:
    """Options of an audit that trains this cell again and no other."""
    cells = Experiments.load(ROOT / "config", {"edition": "tiny"}).tables.filled()
    seed = next(k for k in range(9999) if draw(cells, 1, k) == [cell])
    return ["--config", "edition=tiny", "depth=rerun", "sample=1", f"sample_seed={seed}"]


@pytest.mark.parametrize("profile", [[], ["--profile", "slurm"]])
def test_an_audit_by_training_again_plans_the_drawn_cell(profile: list[str], bare: Project) -> None:
    given = ["-n", "--nolock", *profile, *rerun_of("qm9/coord/homo"), "--", "audit"]
    text = bare.snakemake(*given, edition=None).stdout
    jobs = dict(re.findall(r"^(\w+) +(\d+)$", text, re.MULTILINE))
    wanted = {"pretrain": "2", "finetune": "2", "evaluate": "2", "audit": "1"}
    assert {rule: jobs.get(rule) for rule in wanted} == wanted, text[-2000:]
    assert not {"table", "smoothness", "site"} & set(jobs)


@pytest.mark.long
def test_an_audit_by_training_again_compares_to_the_bit(working: Project) -> None:
    given = [*rerun_of(CELL), "--", "audit"]
    result = working.snakemake(*given, edition=None)
    assert "audit of tiny: intact at depth rerun" in result.stdout
    page = (working.folder / "results/tiny/audit/index.html").read_text()
    assert f"{CELL} trained again: " in page
    assert "2 of 2 files the same to the bit" in page
    before = tree(working.folder)
    again = working.snakemake(*given, edition=None)  # nothing is trained a second time
    assert not {"pretrain", "finetune"} & {rule for rule, _ in jobs_of(again.stdout)}
    assert tree(working.folder) == before
    predictions = next((working.folder / "results/tiny/rerun").rglob("predictions.parquet"))
    flip_bit(predictions)
    result = working.snakemake(*given, edition=None, check=False)
    assert result.returncode != 0
    assert "rerun differs" in result.stdout


def test_a_cell_that_is_none_is_refused_before_any_job(bare: Project) -> None:
    given = ("--nolock", "--config", "edition=tiny", "cell=qm9/cord/homo", "--", "rerun")
    result = bare.snakemake(*given, edition=None, check=False)
    assert result.returncode != 0
    assert "no row 'cord'; allowed: baseline, naive, scratch, coord" in result.stdout
    assert "Job stats" not in result.stdout
    assert "Traceback" not in result.stdout


@pytest.mark.parametrize(
    ("cell", "words"),
    [
        ("qm9", "cell: is 'qm9'; must be <table>/<row>/<column>"),
        ("qm8/coord/homo", "no table 'qm8'; allowed: qm9"),
        ("qm9/coord/homos", "no column 'homos'; allowed: homo, alpha"),
        ("md22/scratch/DHA", "no row 'scratch'; allowed: energy_baseline"),
        ("md22/energy_scratch/DHA", "is empty: computed in the evidence edition"),
    ],
)
def test_a_refused_cell_is_told_what_there_is(cell: str, words: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(words)):
        Experiments.load(ROOT / "config", {"edition": "tiny", "cell": cell}).tables.named_cell(cell)


def test_a_bundle_is_written_and_verified_by_command(working: Project) -> None:
    result = working.snakemake("--", "bundle")
    path = working.folder / "results/tiny/bundle/georecon-tiny.zip"
    assert hashlib.sha256(path.read_bytes()).hexdigest() in result.stdout
    given = ("--config", "edition=tiny", f"bundle={path}", "--", "verify_bundle")
    assert "audit of tiny: intact" in working.snakemake(*given, edition=None).stdout
    flip_bit(path)
    result = working.snakemake(*given, edition=None, check=False)
    assert result.returncode != 0
    assert "refused" in result.stdout or "broken" in result.stdout
