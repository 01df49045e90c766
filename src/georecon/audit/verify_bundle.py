"""Verify a bundle on any machine: ``python -m georecon.verify_bundle PATH``.

Needs this package and no training data. The bundle is an enemy until looked through: it is
unpacked into a temporary folder after its whole list has been checked, nothing in it is executed
or imported, and nothing is written elsewhere. Then every file is compared with the crate's list,
and the audit recomputes every cell from the predictions (:mod:`georecon.audit`).

What it proves is that the bundle agrees with itself and with this code; who made it is another
question: compare the zip's sha256 with the one its makers published.
"""

from __future__ import annotations

import argparse
import re
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from georecon import paths
from georecon.audit import BROKEN, Audit, audit
from georecon.audit.bundle import CONFIG, METADATA
from georecon.audit.depth import RECORDS, WEIGHTS, Depth
from georecon.audit.files import hash_files
from georecon.audit.findings import CODE, Finding
from georecon.data.raw.archives import inspect, members
from georecon.data.raw.fetch import fetch
from georecon.data.raw.lock import KINDS as HASHES
from georecon.errors import ConfigError, DataError, GeoreconError
from georecon.experiments.experiments import Experiments
from georecon.experiments.yaml_files import read_mapping
from georecon.files import full_disk
from georecon.records.chain import record_files
from georecon.records.untrusted import (
    MISFORMED,
    check_names,
    printable,
    read_strict_json,
    relative_path,
)
from georecon.reporting.expected import load_expected

_MOST_FILES, _MOST_CELLS = 200_000, 1_000_000
_CONFIG_BYTES, _MOST_VALUES = 1 << 20, 10_000
"""Of the configuration; those of the editions hold a third of that at most."""
_RECORDS = Depth()
_BRACES = re.compile(r"\{(?!(value|title|number)\})|(?<!\{value)(?<!\{title)(?<!\{number)\}")
"""Braces that are no placeholder of the configuration's own: ``str.format`` must not meet them."""


def verify_bundle(path: Path, *, depth: Depth = _RECORDS, raw: Path | None = None) -> Audit:
    """Verify a bundle.

    Args:
        path: zip file.
        depth: "weights" computes predictions again, of a bundle that has fine-tuned weights.
        raw: folder with copies of raw files, for stores; Python packages are tried too.

    Returns:
        The audit of its content, with findings on the list of files.

    Raises:
        DataError: not a bundle, damaged, or hostile: it cannot be unpacked safely or its
            configuration cannot be used.
    """
    with unpacked_bundle(path) as (root, names):
        return verify_unpacked(root, names, read_configuration(root), depth=depth, raw=raw)


def verify_unpacked(
    root: Path,
    names: list[str],
    experiments: Experiments,
    *,
    depth: Depth = _RECORDS,
    raw: Path | None = None,
) -> Audit:
    """Verify a bundle that lies unpacked in a folder of its own.

    Args:
        root: the folder.
        names: of all files.
        experiments: of its configuration.
        depth: as of :func:`verify_bundle`; ``raw``, result and errors likewise.
        raw: folder with copies of raw files.
    """
    listed = list(_compare_list(root, names))
    for name in names:
        if name.endswith(".npz"):
            for _ in inspect(root / name):
                pass
    listed += _compare_cards(root, experiments)
    if depth.name != RECORDS:
        _bring_raw_files(root, experiments, raw)
    expected = load_expected(CODE / "reports" / "expected")
    try:
        found = audit(root, experiments, expected, bundle=True, depth=depth)
    except MISFORMED as error:
        raise DataError(CONFIG, None, f"cannot be audited: {error!r:.200}") from None
    status = BROKEN if listed else found.status
    return replace(found, findings=[*listed, *found.findings], status=status)


@contextmanager
def unpacked_bundle(path: Path) -> Iterator[tuple[Path, list[str]]]:
    """A bundle's files in a temporary folder, and their names, once its list has been checked.

    Raises:
        DataError: not a bundle, damaged, or hostile.
    """
    names = _look_through(path)
    with tempfile.TemporaryDirectory(prefix="georecon-verify-") as folder:
        root = Path(folder).resolve()
        _unpack(path, root)
        yield root, names


def _bring_raw_files(root: Path, experiments: Experiments, raw: Path | None) -> None:
    """Raw files behind the bundle's stores, as far as they can be had without a network.

    What one has to be, and which Python package has it, stands in a dataset card of this checkout,
    not of the bundle.
    """
    for name in record_files(root, experiments.edition):
        if name.startswith(f"{paths.RECORD.format(stage='fetch')}/"):
            dataset, file = name.removesuffix(".json").split("/")[-2:]
            entry = {"name": file, **_own_entry(dataset, file)}
            with suppress(GeoreconError):  # then the audit says what is not here
                fetch(entry, root / paths.RAW / dataset / file, mirror=raw, offline=True)


def _own_entry(dataset: str, file: str) -> dict[str, str | int]:
    """Size, hashes and package of a raw file by this checkout's card; empty without one."""
    path = CODE / "config" / "datasets.yaml"
    card = read_mapping(path).get(dataset) if path.is_file() else None
    sources = card["sources"].values() if card is not None else ()
    names = ("bytes", *HASHES, "package", "path")
    for entry in (entry for source in sources for entry in source["files"].values()):
        if entry.get("name") == file:
            return {name: entry[name] for name in names if name in entry}
    return {}


def _compare_cards(root: Path, experiments: Experiments) -> Iterator[Finding]:
    """The bundle's dataset cards give raw files the hashes that this checkout's give them."""
    for name in record_files(root, experiments.edition):
        if not name.startswith(f"{paths.RECORD.format(stage='fetch')}/"):
            continue
        dataset, file = name.removesuffix(".json").split("/")[-2:]
        own = _own_entry(dataset, file)
        try:
            said = experiments.data.card_file(dataset, file)
        except (GeoreconError, KeyError):
            continue  # said by the audit
        for kind in HASHES:
            if own.get(kind) is not None and said.get(kind) != own[kind]:
                text = f"{kind} is {said.get(kind)!r:.70} in the bundle, here {own[kind]!r:.70}"
                yield Finding(
                    kind="other raw file", path=f"{paths.RAW}/{dataset}/{file}", text=text
                )


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


def read_configuration(root: Path) -> Experiments:
    """Runs and tables of an unpacked bundle's configuration, once it is known to be harmless.

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


def report(
    path: Path,
    say: Callable[[str], None],
    *,
    depth: Depth = _RECORDS,
    raw: Path | None = None,
) -> int:
    """Verify a bundle and say what was found; 0 if nothing is broken, else 1.

    Args:
        path: zip file.
        say: takes a line.
        depth: as of :func:`verify_bundle`; ``raw`` likewise.
        raw: folder with copies of raw files.
    """
    try:
        found = verify_bundle(path, depth=depth, raw=raw)
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
    for sentence in found.checked:
        say(f"computed again: {sentence}")
    for sentence in found.unchecked:
        say(f"not verified: {sentence}")
    return 1 if found.status == BROKEN else 0


def main() -> int:
    """Command line."""
    parser = argparse.ArgumentParser(prog="python -m georecon.verify_bundle")
    parser.add_argument("bundle", type=Path, help="zip file")
    parser.add_argument(
        "--depth",
        choices=(RECORDS, WEIGHTS),
        default=RECORDS,
        help="weights: compute predictions again, of a bundle with fine-tuned weights",
    )
    parser.add_argument("--raw", type=Path, help="folder with copies of raw files, for weights")
    given = parser.parse_args()
    depth = Depth(name=given.depth)
    return report(given.bundle, lambda line: print(printable(line)), depth=depth, raw=given.raw)
