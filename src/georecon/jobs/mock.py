"""Run the script of one rule alone, without Snakemake around it: to debug it, or to try an idea.

``python -m georecon.mock RULE wildcard=value ... [--config key=value ...]`` runs it in the current
folder, whose inputs must be there; ``--show`` prints what the script would get and runs nothing.
In an editor or a notebook, :func:`mock_snakemake` gives the ``snakemake`` object that a script has.

Nothing is remembered of such a run: Snakemake does not know that outputs are newer, and no
benchmark file is written.
"""

from __future__ import annotations

import argparse
import os
import runpy
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml

from georecon.errors import GeoreconError
from georecon.jobs.snakemake_private import script_job

SNAKEFILE = Path(__file__).resolve().parents[3] / "Snakefile"


def mock_snakemake(
    rule: str,
    *,
    folder: Path | None = None,
    config: Mapping[str, Any] | None = None,
    **wildcards: str,
) -> Any:
    """The object ``snakemake`` that a rule's script would have.

    Args:
        rule: name of a rule with a script.
        folder: working folder; the current one if None.
        config: as with ``--config``, such as ``{"edition": "tiny"}``.
        **wildcards: of the job, all of them.

    Raises:
        ConfigError: no such rule, or other wildcards than it has.
    """
    found, _ = script_job(SNAKEFILE, rule, wildcards, folder=folder or Path(), config=config or {})
    return found


@contextmanager
def _inside(folder: Path) -> Iterator[None]:
    before = Path.cwd()
    os.chdir(folder)
    try:
        yield
    finally:
        os.chdir(before)


def run_script(
    rule: str,
    wildcards: Mapping[str, str],
    *,
    folder: Path | None = None,
    config: Mapping[str, Any] | None = None,
) -> None:
    """Run a rule's script in this process, in the given folder; arguments as above.

    Raises:
        ConfigError: no such rule, or other wildcards than it has.
        SystemExit: the script ends so; its log says why.
    """
    folder = folder or Path()
    given, script = script_job(SNAKEFILE, rule, wildcards, folder=folder, config=config or {})
    with _inside(folder):
        for path in (*given.output, *given.log):
            Path(path).parent.mkdir(parents=True, exist_ok=True)
        runpy.run_path(str(script), {"snakemake": given}, run_name="__main__")


def describe(given: Any) -> str:
    """What a script gets, as YAML."""
    groups = ("input", "output", "log", "params", "wildcards", "resources")
    values: dict[str, Any] = {name: _plain(getattr(given, name)) for name in groups}
    document = {"rule": given.rule, "threads": given.threads, **values}
    return yaml.safe_dump(document, allow_unicode=True, sort_keys=False)


def _plain(group: Any) -> Any:
    """A list of files or values by name, in types that YAML has."""
    named = dict(group.items())
    if len(named) < len(list(group)):  # some have no name
        return [str(value) for value in group]
    return {name: _value(value) for name, value in named.items()}


def _value(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(name): _value(each) for name, each in value.items()}
    if isinstance(value, list | tuple) or type(value).__name__ == "Namedlist":
        return [_value(each) for each in value]
    return value if isinstance(value, bool | int | float | None) else str(value)


def _pairs(texts: list[str], what: str) -> dict[str, str]:
    pairs = [text.partition("=") for text in texts]
    if wrong := [name for name, equals, _ in pairs if not equals]:
        raise GeoreconError(f"{what} are name=value; given: {', '.join(wrong)}")
    return {name: value for name, _, value in pairs}


def main() -> int:
    """Command line."""
    parser = argparse.ArgumentParser(prog="georecon.mock", description=__doc__)
    parser.add_argument("rule", help="name of a rule with a script")
    parser.add_argument("wildcards", nargs="*", metavar="wildcard=value")
    parser.add_argument("--config", nargs="+", default=[], metavar="key=value")
    parser.add_argument("--show", action="store_true", help="print what the script gets")
    options = parser.parse_args()
    try:
        wildcards = _pairs(options.wildcards, "wildcards")
        given = _pairs(options.config, "values of --config")
        config = {name: yaml.safe_load(value) for name, value in given.items()}
        if options.show:
            job, _ = script_job(SNAKEFILE, options.rule, wildcards, folder=Path(), config=config)
            print(describe(job), end="")
        else:
            run_script(options.rule, wildcards, config=config)
    except GeoreconError as error:
        print(f"georecon.mock: {error}", file=sys.stderr)
        return 2
    return 0
