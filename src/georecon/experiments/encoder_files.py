"""Whether the files that encoders come from can be had: a row without its file says so.

The configuration alone decides what a DAG is made of, so this is settled when it is read, before
any rule: an absent file is written into the configuration as the reason why its cells are empty.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from georecon.data.card_checks import named
from georecon.data.cards import File
from georecon.data.raw.lock import own_path
from georecon.data.raw.mirror import in_mirror
from georecon.experiments.sections import Config
from georecon.paths import ENCODER_FILES, RAW

_ADDRESS = ("https://", "http://")


def with_absent_files(config: Config, root: Path, *, mirror: str | None, offline: bool) -> Config:
    """The configuration with a reason in each method whose encoder's file is nowhere.

    Args:
        config: the resolved configuration.
        root: working folder.
        mirror: folder or address that is searched for raw files, or None.
        offline: addresses are not asked.
    """
    methods = dict(config.methods)
    for name, entry in methods.items():
        file = entry.encoder_file
        if file is None or file.missing is not None:
            continue
        reason = _absent(named(file), root, mirror, offline=offline)
        if reason is not None:
            methods[name] = replace(entry, encoder_file=replace(file, missing=reason))
    return replace(config, methods=methods)


def _absent(file: File, root: Path, mirror: str | None, *, offline: bool) -> str | None:
    """Why a file is not to be had; None if it is there or an address may have it."""
    name = str(file.name)
    if (root / RAW / ENCODER_FILES / name).is_file():
        return None
    if file.local:
        there = own_path(file.local).is_file()
        return None if there else f"its encoder's file {file.local} is not there"
    if mirror is not None:
        if mirror.startswith(_ADDRESS):
            return None if not offline else f"its encoder's file {name} is not here (offline)"
        links_out: list[str] = []  # they are there, and fetching says what is wrong with them
        if in_mirror(Path(mirror), name, links_out) or links_out:
            return None
    if file.urls and not offline:
        return None
    return f"its encoder's file {name} is not here: put it into the mirror or {RAW}/{ENCODER_FILES}"
