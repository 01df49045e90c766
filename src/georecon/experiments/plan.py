"""What an edition would cost: trainings by table, hours by device, bytes to download.

Hours are steps and validations times what one of each took on a device, measured by
``benchmarks/calibrate.py`` on the edition's own molecules and kept in ``benchmarks/results``
(:mod:`georecon.experiments.rates`). A training that was not measured has no estimate: nothing is
extrapolated from another.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from georecon.commands import python_command, relative
from georecon.data.cards import File, card_source
from georecon.experiments.experiments import Experiments
from georecon.experiments.rates import Rate, read_rates
from georecon.experiments.references import PRETRAIN
from georecon.experiments.sections import Config
from georecon.experiments.settings import FinetuneSettings, PretrainSettings
from georecon.files import sha256_json
from georecon.keys import as_json
from georecon.paths import ENCODER_FILES


@dataclass(frozen=True, slots=True)
class Training:
    """One pre-training or fine-tuning run.

    Attributes:
        folder: where its outputs go.
        stage: "pretrain" or "finetune".
        settings: as its rule gets them.
        part, target: what it reads; the pre-training set has no target.
    """

    folder: str
    stage: str
    settings: PretrainSettings | FinetuneSettings
    part: str
    target: str

    def workload(self) -> str:
        """Digest of all that the cost of a step depends on: equal for runs that differ in seed,
        in the encoder they start from or in their number of steps.
        """
        names = ("objective", "params", "encoder", "recipe", "label", "evaluation_batch")
        given, settings = self.settings.as_json(), as_json(self.settings.train)
        train = {name: settings.get(name) for name in ("batch_size", "precision")}
        kept = {name: given[name] for name in names if name in given}
        place = {"stage": self.stage, "part": self.part, "target": self.target}
        return sha256_json({**kept, **train, **place})[:16]

    def done(self, root: Path) -> bool:
        """Whether its record is in the working folder."""
        return (root / self.folder / "run.json").exists()

    def hours(self, rates: Mapping[str, Rate]) -> tuple[float, float] | None:
        """Time with the rates of one device and its uncertainty [h]; None if this workload was not
        measured.
        """
        rate = rates.get(self.workload())
        if rate is None:
            return None
        steps = self.settings.train.steps
        validations = min(steps, self.settings.train.evaluations)
        seconds = steps * rate.seconds_per_step + validations * rate.seconds_per_validation
        error = steps * rate.step_error + validations * rate.validation_error
        return seconds / 3600.0, error / 3600.0


def trainings(experiments: Experiments, table: str) -> list[Training]:
    """Runs that a table is made of, each once."""
    found: dict[str, Training] = {}
    runs, tables = experiments.runs, experiments.tables
    columns = tables.columns(table)
    for row, column in itertools.product(tables.rows(table), columns):
        cell = tables.cell(table, row, column)
        if cell.reason is not None:
            continue
        for seed in tables.seeds(table):
            if experiments.methods.is_pretrained(row.method):
                folder = runs.pretrain_folder(row.method, seed)
                settings = runs.pretrain_settings(row.method, seed)
                found[folder] = Training(folder, "pretrain", settings, PRETRAIN, "")
            if column.source == "finetune":
                folder = runs.finetune_folder(column.part, column.target, row.method, seed)
                tuned = runs.finetune_settings(column.part, column.target, row.method, seed)
                found[folder] = Training(folder, "finetune", tuned, column.part, column.target)
    return list(found.values())


def trainings_left(experiments: Experiments, root: Path) -> list[Training]:
    """Runs of all tables whose ``run.json`` is not in the working folder yet, each once."""
    found = {
        run.folder: run
        for name in experiments.tables.names()
        for run in trainings(experiments, name)
    }
    return [run for run in found.values() if not run.done(root)]


def _hours(runs: list[Training], rates: Mapping[str, Rate]) -> str:
    """Sum over the measured ones; errors of a workload are shared, so they add up."""
    known = [hours for hours in (run.hours(rates) for run in runs) if hours is not None]
    missing = len(runs) - len(known)
    total, error = (sum(values) for values in zip(*known, strict=True)) if known else (0.0, 0.0)
    text = f"{total:.3g} ± {error:.1g} h" if known else ""
    return ", ".join(filter(None, (text, f"{missing} not measured" if missing else "")))


def downloads(config: Config, root: Path) -> tuple[int, int]:
    """Bytes of the files still to download, and how many files of unknown size.

    Args:
        config: the resolved configuration.
        root: working folder.
    """
    _, total, unknown = _downloads(Experiments(config), root)
    return total, unknown


def _downloads(experiments: Experiments, root: Path) -> tuple[list[str], int, int]:
    lines, total, unknown = [], 0, 0
    for dataset, files in _raw_files(experiments).items():
        # an archive that holds several files of a card is fetched once
        for file in {file.name: file for file in files}.values():
            place = root / "resources/raw" / dataset / str(file.name)
            if not file.urls or place.exists():
                continue
            total += file.bytes or 0
            unknown += file.bytes is None
            size = "size unknown" if file.bytes is None else f"{file.bytes:,} bytes"
            lines.append(f"  {dataset}/{file.name}: {size}")
    return lines, total, unknown


def _raw_files(experiments: Experiments) -> dict[str, list[File]]:
    """Raw files that an edition may fetch, by their folder."""
    sets = {role.dataset for role in experiments.config.sets.values() if role.missing is None}
    cards = {name: experiments.data.card(name) for name in sorted(sets)}
    found = {name: [*card_source(card)[1].files.values()] for name, card in cards.items()}
    methods = experiments.methods
    encoders = (methods.encoder_file(name) for name in methods.names())
    return found | {ENCODER_FILES: [file for file in encoders if file and not file.missing]}


def plan(experiments: Experiments, root: Path, results: Path) -> list[str]:
    """The plan as lines of text.

    Args:
        experiments: the resolved configuration.
        root: working folder; runs whose ``run.json`` is there are done.
        results: folder with the measured rates.

    Raises:
        DataError: a file of rates has another form than the measurement writes.
    """
    devices, faults = read_rates(results)
    tables = {name: trainings(experiments, name) for name in experiments.tables.names()}
    everything = list({run.folder: run for runs in tables.values() for run in runs}.values())
    lines = [f"Trainings of the {experiments.edition} edition, those left to do:"]
    for name, runs in {**tables, "all": everything}.items():
        left = [run for run in runs if not run.done(root)]
        pretrain = sum(run.stage == "pretrain" for run in left)
        counts = f"{pretrain} pre-trainings, {len(left) - pretrain} fine-tunings"
        costs = [f"{device}: {_hours(left, rates)}" for device, rates in devices.items() if left]
        lines.append("; ".join([f"  {name}: {counts}", *costs]))
    lines += faults
    script = relative(Path(__file__).parents[3] / "benchmarks/calibrate.py")
    how = python_command(script, "--edition", experiments.edition)
    lines.append(
        "Hours are of one process, training and validation, ± one standard error of the measured "
        "rates; data, testing and tables come on top."
        if devices
        else f"No rate of any device is known. Measure on the device, once its data is made: {how}"
    )
    if any(run.hours(rates) is None for rates in devices.values() for run in everything):
        lines.append(f"Not measured means no estimate. To measure, on the device: {how}")
    files, total, unknown = _downloads(experiments, root)
    more = f" and {unknown} files of unknown size" if unknown else ""
    return [*lines, f"To download (and to keep on disk): {total:,} bytes{more}", *files]
