"""Which configuration files a Snakemake call is given."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from georecon.jobs.command_line import config_files
from georecon.jobs.snakefile import prepare

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize(
    ("arguments", "names"),
    [
        (["--cores", "all"], []),
        (["--configfile", "a.yaml", "--cores", "all"], ["a.yaml"]),
        (["--configfile", "a.yaml", "b.yaml", "-n"], ["a.yaml", "b.yaml"]),
        (["--configfiles=a.yaml"], ["a.yaml"]),
        (["--profile", "mine", "all"], ["site.yaml"]),
        (["--profile", "mine", "--configfile", "a.yaml"], ["a.yaml"]),
    ],
)
def test_files_come_from_options_or_else_the_profile(
    arguments: list[str], names: list[str], tmp_path: Path
) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/profile.yaml").write_text("configfile: site.yaml\n")
    assert config_files(arguments, tmp_path) == [tmp_path / name for name in names]


def test_a_key_given_twice_stops_the_run_that_a_user_starts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "my.yaml"
    path.write_text("gpus: 0\ngpus: 1\n")
    monkeypatch.setenv("PYTHONPATH", os.environ.get("PYTHONPATH", ""))  # prepare changes it
    monkeypatch.setenv("GEORECON_COMMAND", "")  # and this
    monkeypatch.setattr("sys.argv", ["snakemake", "--configfile", str(path)])
    given = {"edition": "tiny", "gpus": 1}
    with pytest.raises(SystemExit):
        prepare(ROOT, given, files=[path])
    assert "my.yaml, line 2: key 'gpus' is given twice" in capsys.readouterr().err
    assert prepare(ROOT, given, files=[path], main=False).config.gpus == 1
