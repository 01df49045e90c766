"""Depth "rerun": cells that were trained again, beside the published ones.

``--config depth=rerun sample=K sample_seed=S -- audit`` lets Snakemake pre-train, fine-tune and
evaluate the drawn cells under ``results/<edition>/rerun/seed<S>``; this compares. The rule:

* made on a device, processor, kernel and packages as the published run: the same to the bit;
* elsewhere: the interval of the paired difference, over three seeds or more and over test
  molecules, includes zero. With fewer seeds nothing is decided, and that is said.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from georecon import paths
from georecon.audit.depth import PACKAGES, Depth
from georecon.audit.findings import Context, Finding
from georecon.audit.rerun import result_file
from georecon.errors import DataError
from georecon.experiments.experiments import Experiments
from georecon.experiments.specs import CellSpec
from georecon.files import sha256_file
from georecon.records.read import Record
from georecon.records.untrusted import read_strict_json
from georecon.reporting.comparison import read_predictions, single_errors, tested
from georecon.reporting.significance import Errors, Interval, over_seeds, paired
from georecon.reporting.tables import lookup

_CLOCKS = 2.0  # [s] that the start of a process may be off


@dataclass(frozen=True, kw_only=True, slots=True)
class Again:
    """A cell and its runs made again.

    Attributes:
        cell: ``<table>/<row>/<column>``.
        old: its specification, as published; ``new`` of its runs made again.
        alike: whether every run was made on the same kind of machine as the published one.
    """

    cell: str
    old: CellSpec
    new: CellSpec
    alike: bool


def check_again(context: Context, depth: Depth, since: float) -> Iterator[Finding]:
    """Compare the drawn cells with their runs made again.

    Args:
        context: what to check.
        depth: how many cells, and the reviewer's seed.
        since: when the command was started that asked for it [s since 1970].
    """
    config = replace(
        context.experiments.config,
        depth=depth.name,
        sample=depth.sample,
        sample_seed=depth.seed,
    )
    again = Experiments(config)
    made = list[str]()
    for cell in again.tables.again():
        old, new = (e.tables.named_cell(cell)[0] for e in (context.experiments, again))
        try:
            made += [result_file(file) for file in new.all_files()]
            found = Again(cell=cell, old=old, new=new, alike=_alike(context.root, old, new))
            text = _compare(context, found)
        except (DataError, FileNotFoundError) as error:
            context.cannot(f"{cell}: not compared with runs made again ({error})")
            continue
        if text is not None:
            yield Finding(kind="rerun differs", path=cell, text=text, touches=(cell,))
    _say_what_lay_there(context, made, since, again.runs.folder(paths.RESULTS))


def _say_what_lay_there(context: Context, made: Sequence[str], since: float, folder: str) -> None:
    """Runs that were not made by this command are taken as they are, whoever put them there.

    The time of a file's last change of any kind is asked: no program sets that.
    """
    there = [path for path in dict.fromkeys(made) if (context.root / path).is_file()]
    old = [p for p in there if (context.root / p).stat().st_ctime < since - _CLOCKS]
    if old:
        context.cannot(
            f"who made {len(old)} of {len(there)} files of runs made again: they lay in {folder} "
            "before this command; remove it, or draw by a seed that nobody could guess"
        )


def _compare(context: Context, found: Again) -> str | None:
    """Why a cell does not hold when its runs are made again; None if it does."""
    root = context.root
    pairs = list(zip(found.old.all_files(), found.new.all_files(), strict=True))
    files = [(result_file(first), result_file(second)) for first, second in pairs]
    same = sum(sha256_file(root / a) == sha256_file(root / b) for a, b in files)
    old, new = (_values(root, spec) for spec in (found.old, found.new))
    values = "; ".join(f"seed {seed}: {old[seed]:.6g}, now {new[seed]:.6g}" for seed in old)
    words = (
        f"{found.cell} trained again: {values}; {same} of {len(files)} files the same to the bit"
    )
    context.checked.append(words)
    if same == len(files):
        return None
    if found.alike:
        return f"{words}, on the same kind of machine, where all should be"
    interval = _interval(root, found)
    if interval is None:
        context.cannot(f"{found.cell}: made again on another machine, too few seeds to decide")
        return None
    if interval.excludes_zero:
        return (
            f"{words}; on this other machine the difference is {interval.mean:.4g}, "
            f"[{interval.low:.4g}, {interval.high:.4g}], which excludes zero"
        )
    return None


def _alike(root: Path, old: CellSpec, new: CellSpec) -> bool:
    """Whether trainings of both were made on the same kind of machine with the same packages."""
    for pair in zip(old.all_files(), new.all_files(), strict=True):
        first, second = (_record(root, file) for file in pair)
        packages = ((first.versions.get(name), second.versions.get(name)) for name in PACKAGES)
        if first.compute != second.compute or any(one != other for one, other in packages):
            return False
    return True


def _record(root: Path, file: str) -> Record:
    path = f"{file.rpartition('/')[0]}/run.json"
    return Record.from_json(read_strict_json(root / path, path), path)


def _interval(root: Path, found: Again) -> Interval | None:
    """Interval of new less old; None for too few seeds."""
    if tested(found.old):
        return paired(_errors(root, found.new), _errors(root, found.old))
    values = [_values(root, spec) for spec in (found.new, found.old)]
    return over_seeds([values[0][seed] - values[1][seed] for seed in values[0]])


def _errors(root: Path, spec: CellSpec) -> dict[int, Errors]:
    kind, metric = spec.key
    found = {}
    for seed, file in spec.files.items():
        path = result_file(file)
        found[seed] = single_errors(read_predictions(root / path, path), kind, metric, path)
    return found


def _values(root: Path, spec: CellSpec) -> Mapping[int, float]:
    found = {}
    for seed, file in spec.files.items():
        number = lookup(read_strict_json(root / file, file), spec.key, file)
        if spec.divide_by:
            other = spec.divide_by[seed]
            number /= lookup(read_strict_json(root / other, other), spec.key, other)
        found[seed] = number
    return found
