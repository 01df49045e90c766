"""Raw files of a store by role; those inside an archive are taken out of it first."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from georecon.data.raw.archives import extract
from georecon.data.raw.lock import Checked, check_raw


@contextmanager
def unpacked(
    files: Mapping[str, Mapping[str, Any]], raw_dir: Path
) -> Iterator[tuple[dict[str, Path], dict[str, Checked]]]:
    """Path and facts of each role's file, after all files are found to be as expected.

    A file that names a ``member`` is taken out of its archive first.
    """
    checked = {role: check_raw(raw_dir / entry["name"], entry) for role, entry in files.items()}
    with tempfile.TemporaryDirectory() as folder:
        paths = {role: raw_dir / entry["name"] for role, entry in files.items()}
        for role, entry in files.items():
            if "member" in entry:
                inspected = checked[role].inspected
                place = Path(folder) / role
                paths[role] = extract(paths[role], entry["member"], place, inspected=inspected)
        yield paths, checked
