"""Commands that are printed: with the configuration of the run, for a shell to read."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path

import pytest
from snakemake.cli import parse_args

from georecon import commands
from georecon.commands import (
    VARIABLE,
    command,
    last_values,
    remember,
    unlock_command,
)

ME = "/usr/bin/snakemake"


@pytest.fixture(autouse=True)
def plain(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, "")
    monkeypatch.delenv(VARIABLE)
    monkeypatch.setattr(commands, "_own", lambda name, moved=False: (name,))


@pytest.mark.parametrize(
    ("given", "printed"),
    [
        ([], "snakemake --cores all --config edition=tiny cell=a/b/c -- rerun"),
        (
            ["--cores", "4", "--configfile", "my file.yaml", "--", "all"],
            "snakemake --cores all --configfile 'my file.yaml' --config edition=tiny "
            "cell=a/b/c -- rerun",
        ),
        (
            [
                "--config",
                "edition=paper",
                "finetune={seeds: [1, 2]}",
                "mirror=/m",
                "--cores",
                "all",
            ],
            "snakemake --cores all --config edition=tiny 'finetune={seeds: [1, 2]}' mirror=/m "
            "cell=a/b/c -- rerun",
        ),
        (
            ["--profile", "slurm", "all"],
            "snakemake --profile slurm --config edition=tiny cell=a/b/c -- rerun",
        ),
        (
            ["--directory", "w", "-s", "S", "--configfile=a.yaml", "-C", "cell=x/y/z", "gpus=0"],
            "snakemake --cores all --snakefile S --directory w --configfile a.yaml "
            "--config edition=tiny gpus=0 cell=a/b/c -- rerun",
        ),
        (
            ["--configfile", "a.yaml", "--configfile", "b.yaml", "c.yaml", "-n"],
            "snakemake --cores all --configfile b.yaml c.yaml --config edition=tiny "
            "cell=a/b/c -- rerun",
        ),
    ],
)
def test_a_command_has_the_configuration_of_the_run(given: list[str], printed: str) -> None:
    remember([ME, *given])
    found = command("rerun", edition="tiny", pairs=["cell=a/b/c"])
    assert found == printed
    _, read = parse_args(shlex.split(found)[1:])  # as Snakemake reads it
    assert read.targets == ["rerun"]
    assert "cell=a/b/c" in read.config
    assert "edition=tiny" in read.config


def test_a_script_says_what_snakemake_would_be_given() -> None:
    remember(["snakemake", "--configfile", "--config"])
    assert (
        command("tables", edition="tiny") == "snakemake --cores all --config edition=tiny -- tables"
    )


def test_the_edition_of_the_run_is_kept_where_none_is_said() -> None:
    remember([ME, "--config", "edition=paper"])
    assert command("audit") == "snakemake --cores all --config edition=paper -- audit"
    remember([ME])
    assert command("audit") == "snakemake --cores all -- audit"


def test_a_lock_is_taken_where_it_lies() -> None:
    remember([ME, "--directory", "a b", "--configfile", "x.yaml", "--", "all"])
    assert unlock_command() == "snakemake --directory 'a b' --unlock"


@pytest.mark.parametrize("program", ["/x/pytest/__main__.py", "mock.py", "", "/a/snakemake.py"])
def test_another_programs_arguments_say_nothing(program: str) -> None:
    remember([program, "--config", "edition=paper"])
    assert command("audit") == "snakemake --cores all -- audit"


@pytest.mark.parametrize("text", ["", "{", "[]", '{"program": 1}', "null"])
def test_a_variable_of_another_form_says_nothing(
    text: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(VARIABLE, text)
    assert command("audit") == "snakemake --cores all -- audit"


def test_the_last_occurrence_counts_as_for_snakemake() -> None:
    assert last_values(["--config", "a=1", "-n", "--config", "b=2", "c=3"], "--config") == [
        "b=2",
        "c=3",
    ]
    assert last_values(["-n"], "--config") == []


def test_a_program_is_named_so_that_a_shell_finds_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.undo()
    own = tmp_path / ".venv/bin/snakemake"
    own.parent.mkdir(parents=True)
    own.touch(mode=0o755)
    monkeypatch.setattr(sys, "prefix", str(tmp_path / ".venv"))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PATH", "/usr/bin:/bin")
    assert commands._own("snakemake") == (".venv/bin/snakemake",)
    assert commands._own("snakemake", moved=True) == (str(own),)
    monkeypatch.setenv("PATH", f"{own.parent}:/usr/bin")
    assert commands._own("snakemake") == ("snakemake",)
    assert commands._own("nothing") == (sys.executable, "-m", "nothing")
