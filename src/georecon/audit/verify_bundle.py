"""Verify a bundle on any machine: ``python -m georecon.verify_bundle PATH``.

Needs this package and no training data. The bundle is an enemy until looked through: it is
unpacked into a temporary folder after its whole list has been checked, nothing in it is executed
or imported, and nothing is written elsewhere. Then every file is compared with the crate's list,
and the audit recomputes every cell from the predictions (:mod:`georecon.audit`).

What it proves is that the bundle agrees with itself and with this code; who made it is another
question: compare the zip's sha256 with the one its makers published.
"""

from __future__ import annotations

import re
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from georecon import paths
from georecon.audit import BROKEN, Audit, audit
from georecon.audit.bundle import CONFIG, METADATA
from georecon.audit.files import hash_files
from georecon.audit.findings import Finding
from georecon.data.raw.archives import inspect, members
from georecon.errors import ConfigError, DataError, GeoreconError
from georecon.experiments.experiments import Experiments
from georecon.files import full_disk
from georecon.records.untrusted import MISFORMED, check_names, read_strict_json, relative_path

_MOST_FILES, _MOST_CELLS = 200_000, 1_000_000
_CONFIG_BYTES, _MOST_VALUES = 1 << 20, 10_000
"""Of the configuration; those of the editions hold a third of that at most."""
_BRACES = re.compile(r"\{(?!(value|title|number)\})|(?<!\{value)(?<!\{title)(?<!\{number)\}")
"""Braces that are no placeholder of the configuration's own: ``str.format`` must not meet them."""


def verify_bundle(path: Path) -> Audit:
    """Verify a bundle.

    Args:
        path: zip file.

    Returns:
        The audit of its content, with findings on the list of files.

    Raises:
        DataError: not a bundle, damaged, or hostile: it cannot be unpacked safely or its
            configuration cannot be used.
    """
    names = _look_through(path)
    with tempfile.TemporaryDirectory(prefix="georecon-verify-") as folder:
        root = Path(folder).resolve()
        _unpack(path, root)
        listed = list(_compare_list(root, names))
        for name in names:
            if name.endswith(".npz"):
                for _ in inspect(root / name):
                    pass
        experiments = _experiments(root)
        try:
            found = audit(root, experiments, {}, bundle=True)
        except MISFORMED as error:
            raise DataError(path, None, f"cannot be audited: {error!r:.200}") from None
    status = BROKEN if listed else found.status
    return replace(found, findings=[*listed, *found.findings], status=status)


def _look_through(path: Path) -> list[str]:
    """Names of all files, after every header of the archive has been checked.

    Raises:
        DataError: hostile or no zip; or names that a file system cannot hold.
    """
    if not path.is_file():
        raise DataError(path, None, "no such file; expected a bundle (.zip)")
    names: list[str] = []
    for member in inspect(path, name="bundle.zip"):
        names.append(relative_path(member.name, path))
        if len(names) > _MOST_FILES:
            raise DataError(path, None, f"holds more than {_MOST_FILES} files")
    check_names(names, path)
    for needed in (METADATA, CONFIG):
        if needed not in names:
            raise DataError(path, needed, "is not in the archive: not a bundle of this project")
    return names


def _unpack(path: Path, root: Path) -> None:
    with tempfile.TemporaryDirectory(prefix="georecon-verify-") as folder:
        named = Path(folder) / "bundle.zip"  # the ending tells the kind
        named.symlink_to(path.resolve())
        for name, stream in members(named):
            target = root / relative_path(name, path)
            if not target.resolve().is_relative_to(root):
                raise DataError(path, name, "leads out of the folder")
            target.parent.mkdir(parents=True, exist_ok=True)
            with open(target, "xb") as out:
                shutil.copyfileobj(stream, out, 1 << 20)


def _compare_list(root: Path, names: list[str]) -> Iterator[Finding]:
    """Every file is in the crate's list with its hash and size, and every listed one is there."""
    crate = read_strict_json(root / METADATA, METADATA)
    graph = crate.get("@graph")
    if not isinstance(graph, list):
        raise DataError(METADATA, "@graph", "is not a list of entities")
    listed = {}
    for entity in graph:
        kinds = entity.get("@type") if isinstance(entity, dict) else None
        if kinds == "File" or (isinstance(kinds, list) and "File" in kinds):
            listed[relative_path(entity.get("@id"), METADATA)] = entity
    hashed = hash_files(root, [name for name in names if name != METADATA])
    for name, now in hashed.items():
        entity = listed.get(name)
        if entity is None:
            text = f"is not in the list of {METADATA}"
            yield Finding(kind="file changed", path=name, text=text)
        elif now is None or (entity.get("sha256"), entity.get("contentSize")) != (
            now.sha256,
            str(now.bytes),
        ):
            text = f"is not the file that {METADATA} lists"
            yield Finding(kind="file changed", path=name, text=text)
    for name in [name for name in listed if name not in hashed]:
        text = f"is in the list of {METADATA} and not in the bundle"
        yield Finding(kind="file missing", path=name, text=text)


def _experiments(root: Path) -> Experiments:
    """Runs and tables of the bundle's configuration, once it is known to be harmless.

    Raises:
        DataError: it is not a configuration of this project.
    """
    config = read_strict_json(root / CONFIG, CONFIG, limit=_CONFIG_BYTES)
    for number, value in enumerate(_values(config)):
        if number > _MOST_VALUES:
            raise DataError(CONFIG, None, f"holds more than {_MOST_VALUES} values")
        if isinstance(value, str) and _BRACES.search(value):
            raise DataError(CONFIG, None, f"holds a text with braces: {value[:60]!r}")
    _refuse_many_cells(config)
    try:
        experiments = Experiments.from_json(config)
        tables, seeds = experiments.tables, len(experiments.config.finetune.seeds)
        sizes = (len(tables.rows(t)) * len(tables.columns(t)) for t in tables.names())
        if sum(sizes) * seeds > _MOST_CELLS:
            raise ConfigError(f"asks for more than {_MOST_CELLS} runs")
        for table in tables.names():
            relative_path(experiments.runs.folder(paths.TABLE, table=table), CONFIG)
            experiments.tables.spec(table)
            for name in (*tables.files(table), *tables.leaks(table), *tables.trajectories(table)):
                relative_path(name, CONFIG)
    except GeoreconError as error:
        raise DataError(CONFIG, None, f"is no usable configuration: {str(error)[:300]}") from None
    except MISFORMED as error:
        raise DataError(CONFIG, None, f"is no usable configuration: {str(error)[:300]}") from None
    return experiments


def _refuse_many_cells(config: dict[str, Any]) -> None:
    """Refuse a configuration whose tables would take long to lay out, before any is.

    Counts more cells than there will be: every column with as many targets as any dataset has,
    every row of methods or of a sweep, all seeds.
    """
    cards = _entries(config.get("datasets"))
    targets = max((_size(card, "targets") for card in cards), default=1)
    seeds, methods = _size(config.get("finetune"), "seeds"), _size(config, "methods")
    cells = 0
    for table in _entries(config.get("tables")):
        rows = table.get("rows")
        sweep = rows.get("sweep") if isinstance(rows, dict) else None
        most = max(methods, _size(rows, "methods"), _size(sweep, "values"))
        cells += _size(table, "columns") * (targets + 1) * 2 * (most + 1)
    if cells * max(seeds, 1) > _MOST_CELLS:
        raise DataError(CONFIG, None, f"asks for more than {_MOST_CELLS} runs")


def _entries(value: Any) -> list[dict[str, Any]]:
    found = value.values() if isinstance(value, dict) else ()
    return [entry for entry in found if isinstance(entry, dict)]


def _size(value: Any, key: str) -> int:
    """Length of a list or mapping in a mapping; 0 where there is none."""
    found = value.get(key) if isinstance(value, dict) else None
    return len(found) if isinstance(found, list | dict) else 0


def _values(value: Any) -> Iterator[object]:
    """All keys and single values in a JSON value."""
    if isinstance(value, dict):
        for key, item in value.items():
            yield key
            yield from _values(item)
    elif isinstance(value, list):
        for item in value:
            yield from _values(item)
    else:
        yield value


def report(path: Path, say: Callable[[str], None]) -> int:
    """Verify a bundle and say what was found; 0 if nothing is broken, else 1."""
    try:
        found = verify_bundle(path)
    except GeoreconError as error:
        say(f"refused: {str(error)[:1000]}")
        return 1
    except OSError as error:
        if (text := full_disk(error)) is None:
            raise
        say(f"not verified, for it is unpacked in {tempfile.gettempdir()} (TMPDIR): {text}")
        return 1
    for line in found.lines():
        say(line)
    say("not verified here, for they are not in a bundle: raw files, stores, fine-tuned weights")
    return 1 if found.status == BROKEN else 0


def main() -> int:
    """Command line: one path."""
    arguments = sys.argv[1:]
    if len(arguments) != 1 or arguments[0].startswith("-"):
        print("usage: python -m georecon.verify_bundle BUNDLE.zip", file=sys.stderr)
        return 2
    return report(Path(arguments[0]), lambda line: print(_plain(line)))


def _plain(line: str) -> str:
    """Text that cannot steer a terminal."""
    return "".join(c if c.isprintable() else f"\\x{ord(c):02x}" for c in line)
