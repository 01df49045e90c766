"""``georecon predict MODEL FILE -o OUT``: predictions for a file of molecules, as a table."""

from __future__ import annotations

import argparse
import csv
import sys
import time
import warnings
from pathlib import Path
from typing import TextIO

import numpy as np

from georecon.errors import GeoreconError
from georecon.files import atomic_path
from georecon.library.inputs import CONFORMER_SEED
from georecon.library.models import Encoder, Model, Predictions, UnlikeTrainingWarning, load

ENDINGS = (".csv", ".parquet")


def main(arguments: list[str] | None = None) -> int:
    """Command line; 0 if all molecules were predicted, 1 if some or all could not be."""
    parser = argparse.ArgumentParser(prog="georecon predict", description=__doc__)
    parser.add_argument("model", help="model.safetensors of a run, or bundle.zip::member")
    parser.add_argument("file", help=".xyz, .extxyz, .sdf, .npz, .smi, or .csv with smiles")
    parser.add_argument("-o", "--output", type=Path, required=True, help=".csv or .parquet")
    parser.add_argument("--seed", type=int, default=CONFORMER_SEED, help="of SMILES' conformers")
    options = parser.parse_args(arguments)
    if options.output.suffix not in ENDINGS:
        parser.error(f"-o is {options.output}; allowed endings: {', '.join(ENDINGS)}")
    try:
        model = load(options.model)
        if isinstance(model, Encoder):
            raise GeoreconError(f"{options.model}: an encoder, expected a fine-tuned model")
        found = _predict(model, Path(options.file), options.seed)
        _write(model, found, options.output)
    except (GeoreconError, OSError) as error:
        print(error, file=sys.stderr)
        return 1
    return _say(options.output, found)


class Line:
    """How far it is, on one line of a terminal; nothing where the stream is none."""

    def __init__(self, stream: TextIO, interval: float = 0.2) -> None:
        self.stream, self.interval, self.next = stream, interval, 0.0

    def __call__(self, text: str) -> None:
        """Write it over the last one, a few times a second."""
        if self.stream.isatty() and time.monotonic() >= self.next:
            self.next = time.monotonic() + self.interval
            print(f"\r\x1b[K{text}", end="", file=self.stream, flush=True)

    def clear(self) -> None:
        """Take the last one away."""
        if self.stream.isatty():
            print("\r\x1b[K", end="", file=self.stream, flush=True)


def _predict(model: Model, file: Path, seed: int) -> Predictions:
    line = Line(sys.stderr)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UnlikeTrainingWarning)  # said at the end, once
            return model.predict(file, seed=seed, progress=line)
    finally:
        line.clear()


def _write(model: Model, found: Predictions, output: Path) -> None:
    name = f"{model.card.label} [{found.unit}]"
    columns: dict[str, list[object]] = {"row": found.rows.tolist(), name: found.values.tolist()}
    if found.forces is not None:
        sizes = [float(np.linalg.norm(force, axis=1).max()) for force in found.forces]
        columns[f"largest force [{found.unit}/Å]"] = list(sizes)
    with atomic_path(output) as temporary:
        if output.suffix == ".csv":
            with open(temporary, "w", newline="", encoding="utf-8") as handle:
                writer = csv.writer(handle)
                writer.writerow(columns)
                writer.writerows(zip(*columns.values(), strict=True))
            return
        import pyarrow
        import pyarrow.parquet

        table = pyarrow.table(columns)
        if found.forces is not None:
            column = [force.ravel().tolist() for force in found.forces]
            table = table.append_column(f"forces [{found.unit}/Å]", [column])
        pyarrow.parquet.write_table(table, temporary)


def _say(output: Path, found: Predictions) -> int:
    print(f"{len(found.rows)} molecule(s) predicted: {output}")
    for sentence in found.unlike:
        print(f"unlike the training set: {sentence}", file=sys.stderr)
    for refusal in found.refused:
        print(f"row {refusal.row}: {refusal.reason}", file=sys.stderr)
    return 1 if found.refused else 0
