"""What the Snakefile needs before it can name a rule: configuration and import path."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

from georecon.errors import GeoreconError
from georecon.experiments.cells import Experiments, cell_files
from georecon.experiments.config import load_config


def prepare(root: Path, given: dict[str, Any]) -> Experiments:
    """Resolve the configuration and make ``src`` importable in every job.

    Args:
        root: folder of the Snakefile.
        given: Snakemake's config: config.yaml with the command line's values.

    Raises:
        SystemExit: the configuration is refused; the message alone is printed.
    """
    source = str(root / "src")
    paths = [source, *filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))]
    os.environ["PYTHONPATH"] = os.pathsep.join(dict.fromkeys(paths))
    try:
        config = load_config(root / "config", dict(given))
        experiments = Experiments(config)
        if config.get("cell"):
            cell_files(experiments, config["cell"])
    except GeoreconError as error:
        print(f"georecon: {error}", file=sys.stderr)
        raise SystemExit(2) from None
    # Where raw files come from is no part of what they are: kept out of the rules' params, it
    # reruns nothing.
    if config.get("mirror"):
        os.environ["GEORECON_MIRROR"] = config["mirror"]
    if "offline" in config:
        os.environ["GEORECON_OFFLINE"] = "1" if config["offline"] else ""
    return experiments
