"""Rules as a reader meets them: short, their files in sight, nothing looked up on the disk."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from georecon import paths
from georecon.jobs.rule_values import ENCODER, FIRST_ENCODER, FIRST_RUN, READING, SIMULATION
from tests.projects import ROOT

FILES = [ROOT / "Snakefile", *sorted((ROOT / "rules").glob("*.smk"))]
MEASURED = {"pretrain", "finetune", "evaluate", "smoothness", "nve", "figure"}
DISK = re.compile(r"\bos\.|\.exists\(|\.is_file\(|\.is_dir\(|\bglob\b|\bopen\(")


def rules() -> Iterator[tuple[str, str]]:
    """Name and text of every rule that is not one of a loop."""
    for path in FILES:
        for block in re.split(
            r"^(?=rule |use rule )", path.read_text(encoding="utf-8"), flags=re.M
        ):
            if match := re.match(r"rule (\w+):|use rule \w+ as (\w+) with:", block):
                yield match[1] or match[2], block


def test_every_training_evaluation_and_figure_is_measured() -> None:
    measured = {}
    for name, text in rules():
        if match := re.search(r'benchmark:\n +f"(.*)"\n', text):
            measured[name] = match[1]
    assert set(measured) == MEASURED
    assert paths.BENCHMARKS == "results/{edition}/benchmarks"
    for name, path in measured.items():
        assert path.startswith(f"{{BENCHMARKS}}/{name}/"), path
        assert path.endswith(".tsv")


def test_data_are_read_before_anything_is_trained() -> None:
    """A file that cannot be used is known before hours of pre-training; a trajectory takes long."""
    first = {name for name, text in rules() if "    priority: READING\n" in text}
    assert first == {"fetch", "preprocess", "split"}
    long = {name for name, text in rules() if "    priority: SIMULATION\n" in text}
    assert long == {"xtb"}  # after the first table, before what needs it is all that is left
    early = {name for name, text in rules() if "    priority: FIRST_RUN\n" in text}
    assert early == {"leak"}  # the first table waits for its own
    assert FIRST_RUN > SIMULATION > ENCODER
    assert max(FIRST_ENCODER, FIRST_RUN, ENCODER) < READING


def test_a_rule_with_outputs_has_no_message() -> None:
    """Snakemake would print it in place of the job's rule, files and resources."""
    told = {name for name, text in rules() if re.search(r"^    message:", text, re.M)}
    assert {"audit", "bundle", "web"} <= told
    assert not {name for name, text in rules() if name in told and "    output:" in text}


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_no_lambda_and_no_look_at_the_disk(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert "lambda" not in text
    assert DISK.findall(text) == []


def test_the_disk_is_seen_where_it_is_looked_at() -> None:
    assert DISK.search("[file for file in names if os.path.exists(file)]")


def test_the_snakefile_is_short() -> None:
    assert len((ROOT / "Snakefile").read_text(encoding="utf-8").splitlines()) <= 150
