"""What the Snakefile needs before it can name a rule: configuration and import path."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Mapping, MutableMapping
from pathlib import Path
from typing import Any

from georecon.commands import remember, same_command
from georecon.errors import ConfigError, GeoreconError
from georecon.experiments.config import load_config, merge
from georecon.experiments.encoder_files import with_absent_files
from georecon.experiments.experiments import Experiments
from georecon.experiments.option_texts import read_texts
from georecon.experiments.yaml_files import read_mapping
from georecon.jobs.surroundings import settle
from georecon.keys import nearest
from georecon.records.start import VARIABLE as START


def prepare(
    root: Path,
    given: MutableMapping[str, Any],
    option: Mapping[str, Any] | None = None,
    files: Iterable[Path] = (),
    *,
    main: bool = True,
) -> Experiments:
    """Resolve the configuration and make ``src`` importable in every job.

    Args:
        root: folder of the Snakefile.
        given: Snakemake's config: config.yaml with the command line's values. Texts of these that
            stand for other values become those values in it, so that scripts find them there.
        option: the values of ``--config`` alone.
        files: that the user gave as ``--configfile``.
        main: this is the process that a user started. Its jobs' processes are given what it has
            found to be sound, and check each section by itself only.

    Raises:
        SystemExit: the configuration is refused; the message alone is printed.
    """
    if main:
        remember(sys.argv)
        os.environ.pop(START, None)  # set again by this run, if it starts from something
        settle(Path.cwd(), lambda line: print(line, file=sys.stderr))
    source = str(root / "src")
    paths = [source, *filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))]
    os.environ["PYTHONPATH"] = os.pathsep.join(dict.fromkeys(paths))
    try:
        for file in files if main else ():
            read_mapping(file)  # Snakemake keeps the last of two keys and says nothing
        given.update(merge(given, read_texts(option or {})))
        config = load_config(root / "config", given, sound=not main)
        config = with_absent_files(
            config,
            Path.cwd(),
            mirror=config.mirror or os.environ.get("GEORECON_MIRROR") or None,
            offline=_offline(config.offline),
        )
        experiments = Experiments(config)
        if main and config.start_from and not Path(config.start_from).is_file():
            raise ConfigError(
                f"start_from is {config.start_from!r}, no such file; expected a bundle (.zip)"
            )
        if config.cell:
            experiments.tables.named_cell(config.cell)
    except GeoreconError as error:
        print(f"georecon: {error}", file=sys.stderr)
        raise SystemExit(2) from None
    # Where raw files come from is no part of what they are: kept out of the rules' params, it
    # reruns nothing.
    if config.mirror:
        os.environ["GEORECON_MIRROR"] = config.mirror
    if config.offline is not None:
        os.environ["GEORECON_OFFLINE"] = "1" if config.offline else ""
    return experiments


def _offline(configured: bool | None) -> bool:
    return bool(os.environ.get("GEORECON_OFFLINE")) if configured is None else configured


def refuse_unknown_targets(unknown: Iterable[tuple[str, list[str]]]) -> None:
    """Say which target may have been meant; Snakemake refuses what is like none.

    Args:
        unknown: targets that there are not, each with those that there are.

    Raises:
        SystemExit: one of them is close to another name.
    """
    for target, names in unknown:
        if hint := nearest(target, names):
            how = same_command(["--list-target-rules"])
            print(f"georecon: no target {target!r}{hint}; `{how}` lists them", file=sys.stderr)
            raise SystemExit(2)
