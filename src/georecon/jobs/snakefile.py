"""What the Snakefile needs before it can name a rule: configuration and import path."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from georecon.errors import GeoreconError
from georecon.experiments.config import load_config
from georecon.experiments.experiments import Experiments
from georecon.experiments.yaml_files import read_mapping
from georecon.jobs.command_line import config_files


def prepare(root: Path, given: Mapping[str, Any], *, main: bool = True) -> Experiments:
    """Resolve the configuration and make ``src`` importable in every job.

    Args:
        root: folder of the Snakefile.
        given: Snakemake's config: config.yaml with the command line's values.
        main: this is the process that a user started. Its jobs' processes are given what it has
            found to be sound, and check each section by itself only.

    Raises:
        SystemExit: the configuration is refused; the message alone is printed.
    """
    source = str(root / "src")
    paths = [source, *filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))]
    os.environ["PYTHONPATH"] = os.pathsep.join(dict.fromkeys(paths))
    try:
        for file in config_files(sys.argv, Path.cwd()) if main else ():
            read_mapping(file)  # Snakemake keeps the last of two keys and says nothing
        config = load_config(root / "config", given, sound=not main)
        experiments = Experiments(config)
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
