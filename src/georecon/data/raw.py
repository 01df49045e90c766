"""Raw files of a store by role; those inside an archive are taken out of it first."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from georecon.data.archives import extract
from georecon.errors import DataError


@contextmanager
def unpacked(files: Mapping[str, Mapping[str, Any]], raw_dir: Path) -> Iterator[dict[str, Path]]:
    """Path of each role; a file that names a ``member`` is taken out of its archive first."""
    with tempfile.TemporaryDirectory() as folder:
        paths = {}
        for role, entry in files.items():
            path = raw_dir / entry["name"]
            if not path.is_file():
                raise DataError(path, None, f"raw file of role {role!r} is missing; fetch it first")
            if "member" in entry:
                path = extract(path, entry["member"], Path(folder) / role)
            paths[role] = path
        yield paths
