"""The parts of Snakemake that are not public: a new version must be looked at before it is used."""

from __future__ import annotations

import ast
import importlib.metadata
from pathlib import Path

import pytest

from georecon.errors import ConfigError
from georecon.jobs.snakemake_private import TESTED, read_partitions, script_job
from tests.projects import ROOT

PUBLIC = {
    "snakemake.utils",
    "snakemake.script",
    "snakemake_interface_logger_plugins.base",
    "snakemake_interface_logger_plugins.common",
    "snakemake_interface_logger_plugins.settings",
}
"""Modules that Snakemake documents for users and plugins."""


@pytest.mark.parametrize("name", TESTED)
def test_the_installed_version_is_one_that_was_examined(name: str) -> None:
    """Fails on purpose: read georecon.jobs.snakemake_private, then name the new version there."""
    assert importlib.metadata.version(name) in TESTED[name]


def test_what_is_set_and_asked_for_is_there() -> None:
    import snakemake.api  # first: the others import each other in a circle
    from snakemake.scheduling.job_scheduler import JobScheduler
    from snakemake.workflow import Workflow

    assert snakemake.api.Workflow is Workflow
    assert "job_rate_limiter" in JobScheduler.__init__.__code__.co_names
    for name in ("is_main_process", "local_exec", "non_local_exec", "current_basedir"):
        assert isinstance(getattr(Workflow, name), property), name


def imported(path: Path) -> set[str]:
    """Modules of Snakemake and its plugins that a file imports."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and not node.level:
            names.add(str(node.module))
        elif isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
    return {name for name in names if name.startswith("snakemake")}


def test_no_other_module_imports_what_is_not_public() -> None:
    files = [*(ROOT / "src").rglob("*.py"), *(ROOT / "workflow").rglob("*.py")]
    private = {path.name: imported(path) - PUBLIC for path in files}
    found = {name: names for name, names in private.items() if names}
    assert set(found) == {"snakemake_private.py"}, found
    for path in (ROOT / "Snakefile", *(ROOT / "rules").glob("*.smk")):
        text = path.read_text(encoding="utf-8").replace("workflow.current_basedir", "")
        text = text.replace("workflow.source_path(", "(")  # documented
        assert " workflow." not in text, path
        assert ".scheduler" not in text, path


def test_files_of_snakemakes_folder_are_not_read() -> None:
    for path in (ROOT / "src").rglob("*.py"):
        text = path.read_text(encoding="utf-8")
        assert ".snakemake/locks" not in text, path


def test_a_rule_without_a_script_and_a_wrong_wildcard_are_refused(tmp_path: Path) -> None:
    (tmp_path / "Snakefile").write_text(
        "rule one:\n    output: '{name}'\n    script: 'one.py'\nrule all:\n    input: 'a'\n"
    )

    def ask(rule: str, **wildcards: str) -> object:
        found, script = script_job(
            tmp_path / "Snakefile", rule, wildcards, folder=tmp_path, config={}
        )
        assert script == tmp_path / "one.py"
        return found

    assert list(ask("one", name="a").output) == ["a"]  # type: ignore[attr-defined]
    with pytest.raises(ConfigError, match="no rule 'all' with a script; there are: one"):
        ask("all")
    with pytest.raises(ConfigError, match=r"rule one has name=\.\.\.; given: other=a"):
        ask("one", other="a")


def test_partitions_are_read_by_the_plugin(tmp_path: Path) -> None:
    pytest.importorskip("snakemake_executor_plugin_slurm")
    (tmp_path / "site.yaml").write_text(
        "partitions:\n  cpu: {max_runtime: 2h}\n  gpu: {max_gpu: 4}\n"
    )
    found = read_partitions(tmp_path / "site.yaml")
    assert found == [(120.0, False), (float("inf"), True)]
    (tmp_path / "site.yaml").write_text("partitions: 3\n")
    with pytest.raises(ConfigError, match="not a partition file"):
        read_partitions(tmp_path / "site.yaml")
