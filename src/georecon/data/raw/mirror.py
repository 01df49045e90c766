"""A folder with copies of raw files, which are found by name."""

from __future__ import annotations

import os
from pathlib import Path


def in_mirror(mirror: Path, name: str, problems: list[str]) -> list[Path]:
    """Files of a name anywhere below the mirror; a link that leads out of it is a problem."""
    root, found = mirror.resolve(), []
    for folder, _, names in os.walk(root):
        path = Path(folder) / name
        if path.name not in names or not path.is_file():
            continue
        if path.resolve().is_relative_to(root):
            found.append(path)
        else:
            problems.append(f"{path}: a link out of the mirror, to {path.resolve()}; not followed")
    return sorted(found)
