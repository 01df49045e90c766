"""What a Snakemake command line says: its configuration files, and the edition it makes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from georecon.commands import option_values


def _read_mapping(path: Path) -> Mapping[str, Any]:
    """A YAML mapping, or an empty one where the file is missing or is not one (a run says why)."""
    try:
        value = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, yaml.YAMLError):
        return {}
    return value if isinstance(value, dict) else {}


def edition_of(arguments: Sequence[str], folder: Path) -> str:
    """The edition a Snakemake call makes, by Snakemake's order of precedence.

    Args:
        arguments: Snakemake's command-line arguments.
        folder: working folder, with ``config/config.yaml``.
    """
    pairs = option_values(arguments, "--config", "-C")
    for pair in reversed(pairs):
        if pair.startswith("edition="):
            return pair.removeprefix("edition=")
    for path in (*reversed(config_files(arguments, folder)), folder / "config/config.yaml"):
        if value := _read_mapping(path).get("edition"):
            return str(value)
    return "laptop"


def config_files(arguments: Sequence[str], folder: Path) -> list[Path]:
    """Configuration files that a Snakemake call is given, by its options or its profile.

    Args:
        arguments: Snakemake's command-line arguments.
        folder: working folder.
    """
    names = option_values(arguments, "--configfile", "--configfiles")
    profile = (option_values(arguments, "--profile") or [""])[0]
    if profile and not names:
        given = _read_mapping(folder / profile / "profile.yaml")
        found = given.get("configfile", given.get("configfiles", []))
        names = [found] if isinstance(found, str) else [*map(str, found or [])]
    return [folder / name for name in names]
