"""The rule for the default `georecon`, applied to a finished edition `readings`.

The rule was written down before that edition ran (docs/method.md, "Readings"). DECODER is the
reading with a decoder of its own, then the default; FP has an exact clean side and a conditioned
encoder of its own; JP, since then the default, conditions the one encoder. DECODER stays unless FP
is better with an interval that excludes zero in at least two of HOMO, U₀ and the mean over force
sets; JP takes the winner's place only if it is better in the same sense in all three. A difference
is relative to Coord's mean error, by seed, so that force sets can be averaged; the interval is that
of Student's t over paired seeds. Reads validation errors alone:
``python benchmarks/readings_decision.py [--results results/readings] [--json FILE]``.
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from publish import publish

from georecon.files import read_json
from georecon.reporting.significance import Interval, over_seeds
from georecon.reporting.tables import values_by_seed

QUANTITIES = {
    "HOMO": ("readings", ("homo_validation",)),
    "U0": ("readings", ("u0_validation",)),
    "forces": (
        "readings_forces",
        tuple(f"{m}_force_validation" for m in ("ethanol", "malonaldehyde", "toluene")),
    ),
}
"""Name → table and the columns whose mean it is."""
UNIT = "coord"
DECODER, FP, JP = "georecon__decoder", "fp", "georecon"
SHUFFLED, NO_CODE = "georecon__shuffled", "georecon__nocode"
PAIRS = (
    (DECODER, UNIT),
    (FP, UNIT),
    (JP, UNIT),
    (FP, DECODER),
    (JP, DECODER),
    (JP, FP),
    (JP, NO_CODE),
    (JP, SHUFFLED),
    (SHUFFLED, NO_CODE),
)


class Difference(NamedTuple):
    """Error of one arm less another's, in percent of Coord's mean error."""

    arm: str
    other: str
    quantity: str
    by_seed: list[float]
    interval: Interval | None

    @property
    def surely_better(self) -> bool:
        """Whether the whole interval lies below zero."""
        return self.interval is not None and self.interval.high < 0.0


def differences(
    tables: Mapping[str, Mapping[tuple[str, str], Mapping[int, float]]],
) -> list[Difference]:
    """All pairs in all quantities.

    Args:
        tables: number by seed, by row and column, of each table.
    """
    found = []
    for quantity, (table, columns) in QUANTITIES.items():
        cells = tables[table]
        scale = {c: statistics.fmean(cells[UNIT, c].values()) for c in columns}
        for arm, other in PAIRS:
            seeds = sorted(cells[arm, columns[0]])
            by_seed = [
                100.0
                * statistics.fmean(
                    (cells[arm, c][s] - cells[other, c][s]) / scale[c] for c in columns
                )
                for s in seeds
            ]
            found.append(Difference(arm, other, quantity, by_seed, over_seeds(by_seed)))
    return found


def default(found: Sequence[Difference]) -> str:
    """The arm that the rule makes the default."""

    def wins(arm: str, other: str) -> int:
        return sum(d.surely_better for d in found if (d.arm, d.other) == (arm, other))

    winner = FP if wins(FP, DECODER) >= 2 else DECODER
    return JP if wins(JP, winner) == len(QUANTITIES) else winner


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--results", type=Path, default=Path("results/readings"))
    parser.add_argument("--json", metavar="FILE")
    options = parser.parse_args()
    names = {table for table, _ in QUANTITIES.values()}
    found = differences(
        {
            name: values_by_seed(read_json(options.results / "tables" / f"{name}.json")["cells"])
            for name in names
        }
    )
    report = {"differences": [d._asdict() for d in found], "default": default(found)}
    if not publish(report, options.json):
        return
    print("| arm less other, % of Coord's error | " + " | ".join(QUANTITIES) + " |")
    print("|---|" + "---:|" * len(QUANTITIES))
    for arm, other in PAIRS:
        cells = [d.interval for d in found if (d.arm, d.other) == (arm, other)]
        texts = [f"{i.mean:+.1f} [{i.low:+.1f}, {i.high:+.1f}]" if i else "–" for i in cells]
        print(f"| {arm} − {other} | " + " | ".join(texts) + " |")
    print(f"\ndefault by the rule: {report['default']}")


if __name__ == "__main__":
    main()
