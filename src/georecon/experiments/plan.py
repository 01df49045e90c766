"""What an edition would cost: trainings by table, hours by device, memory, disk, bytes to download.

Hours are steps and predicted molecules times what one of each took in the trial
(:mod:`georecon.experiments.rates`). A training whose kind was not measured has no estimate here:
nothing is extrapolated from another.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

from georecon.commands import command
from georecon.data.cards import File, card_source
from georecon.experiments.experiments import Experiments
from georecon.experiments.rates import Rate, Rates
from georecon.experiments.sections import Config
from georecon.experiments.trainings import Training, all_trainings, trainings
from georecon.experiments.trial import trial_jobs
from georecon.paths import ENCODER_FILES


def _cost(runs: list[Training], rates: Mapping[str, Rate]) -> str:
    """Sums over the measured ones; errors of a kind are shared, so they add up."""
    known = [cost for run in runs if (cost := run.estimate(rates)) is not None]
    missing = f"{len(runs) - len(known)} not measured" if len(known) < len(runs) else ""
    if not known:
        return missing
    hours, error = sum(cost.hours for cost in known), sum(cost.error for cost in known)
    most, device = max(cost.host_gb for cost in known), max(cost.device_gb for cost in known)
    memory = f"{most:.2g} GB of memory" + (f" and {device:.2g} GB of the GPU's" if device else "")
    disk = f"{sum(cost.disk_gb for cost in known):.2g} GB of disk"
    return ", ".join(filter(None, (f"{hours:.3g} ± {error:.1g} h", memory, disk, missing)))


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


def plan(experiments: Experiments, root: Path, rates: Rates) -> list[str]:
    """The plan as lines of text.

    Args:
        experiments: the resolved configuration.
        root: working folder; runs whose ``run.json`` is there are done.
        rates: what the trial has measured.
    """
    tables = {name: trainings(experiments, name) for name in experiments.tables.names()}
    everything = all_trainings(experiments)
    own = {run.kind() for run in everything}
    devices = {name: known for name, known in rates.by_device.items() if own & known.keys()}
    lines = [f"Trainings of the {experiments.edition} edition, those left to do:"]
    for name, runs in {**tables, "all": everything}.items():
        left = [run for run in runs if not run.done(root)]
        pretrain = sum(run.stage == "pretrain" for run in left)
        counts = f"{pretrain} pre-trainings, {len(left) - pretrain} fine-tunings"
        costs = [f"{device}: {_cost(left, known)}" for device, known in devices.items() if left]
        lines.append("; ".join([f"  {name}: {counts}", *costs]))
    lines += rates.faults
    lines += _conditions(experiments, [run for run in everything if not run.done(root)], rates)
    files, total, unknown = _downloads(experiments, root)
    more = f" and {unknown} files of unknown size" if unknown else ""
    return [*lines, f"To download (and to keep on disk): {total:,} bytes{more}", *files]


def _conditions(experiments: Experiments, left: list[Training], rates: Rates) -> Iterable[str]:
    """What the numbers are of, what is measured, and how the rest would be."""
    how = command("trial", edition=experiments.edition)
    kinds, known = {run.kind() for run in left}, rates.kinds()
    if not known & kinds:
        if left:
            yield f"No rate of any device is known. Measure where trainings will run: {how}"
        return
    yield (
        "Hours are of one process: start, training to the last step, validation and predictions, ± "
        "one standard error of the measured rates; data, evaluation and tables come on top. Memory "
        "is that of the largest training; disk is for outputs."
    )
    state = max(
        cost.state_gb
        for device in rates.by_device.values()
        for run in left
        if (cost := run.estimate(device)) is not None
    )
    yield f"Saves take up to {state:.2g} GB of disk for each training that is under way."
    made_up = len(kinds & rates.synthetic)
    jobs = trial_jobs(experiments)
    old = sum(rates.codes[kind] != jobs[kind].code for kind in kinds & known)
    yield (
        f"Measured: {len(kinds & known)} of {len(kinds)} kinds of training"
        + (f", {made_up} of them on made-up molecules of the cards' sizes" if made_up else "")
        + (f", {old} with other sources than there are now" if old else "")
        + (
            f". What was not measured has no hours above. To measure: {how}"
            if kinds - known
            else ""
        )
    )
