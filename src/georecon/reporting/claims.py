"""The paper's claims against our own cells: effect, interval and verdict, by one rule for all.

A claim in ``reports/expected`` says which rows of its table decide it. Its effect is a relative
difference of errors (or of another number that is better when smaller), averaged over columns for
each seed; what would come out with other seeds is the t interval of these averages. Fewer than
three seeds decide nothing.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from georecon.keys import Json
from georecon.reporting.escape import markdown_escape
from georecon.reporting.expected import ClaimTest, Expected, PublicClaim
from georecon.reporting.significance import FEWEST_SEEDS, over_seeds

SUPPORTED, CONTRARY, UNDECIDED = "supported", "not supported", "undecided"
RULE = (
    "Effect: relative difference, averaged over the columns of a table for each seed; negative is "
    "better. Supported: its 95 % interval over seeds lies below zero; not supported: above; else, "
    "or with fewer than three seeds, undecided at this scale."
)
Values = dict[str, dict[str, dict[str, float]]]
"""Numbers by row, column and seed."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Verdict:
    """What our cells say of a claim.

    Attributes:
        claim, source: of the paper.
        table: that decides it.
        compared: rows, in words.
        effect: relative difference, mean over seeds; None without numbers.
        low, high: its interval; None for fewer than three seeds.
        columns, seeds: how many went into it.
        verdict: of the rule.
        reason: why it is undecided, or empty.
    """

    claim: str
    source: str
    table: str
    compared: str
    effect: float | None
    low: float | None
    high: float | None
    columns: int
    seeds: int
    verdict: str
    reason: str

    def interval(self) -> str:
        """Effect and interval in percent."""
        if self.effect is None:
            return "–"
        if self.low is None or self.high is None:
            return f"{100 * self.effect:+.1f} %"
        return f"{100 * self.effect:+.1f} % [{100 * self.low:+.1f}, {100 * self.high:+.1f}]"


def verdicts(
    expected: Mapping[str, Expected], tables: Sequence[Mapping[str, Any]]
) -> list[Verdict]:
    """One verdict for each test of each claim, in the order of the tables; absent ones last.

    Args:
        expected: the paper's claims by table.
        tables: content of the edition's tables.
    """
    return [_verdict(*one) for one in _tests(expected, tables)]


def claim_cells(
    expected: Mapping[str, Expected], tables: Sequence[Mapping[str, Any]]
) -> list[tuple[Verdict, list[str]]]:
    """Each verdict of :func:`verdicts`, with the cells (``<table>/<row>/<column>``) behind it."""
    return [
        (_verdict(claim, test, name, table), [] if table is None else _cells(test, table))
        for claim, test, name, table in _tests(expected, tables)
    ]


def _tests(
    expected: Mapping[str, Expected], tables: Sequence[Mapping[str, Any]]
) -> Iterator[tuple[PublicClaim, ClaimTest, str, Mapping[str, Any] | None]]:
    """Every test of every claim, and its table: in the order of the tables, absent ones last."""
    content = {table["table"]: table for table in tables}
    names = [*(name for name in content if name in expected), *sorted(set(expected) - set(content))]
    for name in names:
        for claim in expected[name].claims:
            for test in claim.tests:
                yield claim, test, name, content.get(name)


def _cells(test: ClaimTest, table: Mapping[str, Any]) -> list[str]:
    values, _ = _values(table, test)
    rows = (
        values if test.varies else {r: values[r] for r in (test.better, test.than) if r in values}
    )
    prefix = f"{test.quantity}_" if test.quantity else ""
    return [
        f"{table['table']}/{prefix}{row}/{column}"
        for row, columns in rows.items()
        for column in columns
    ]


def _verdict(
    claim: PublicClaim, test: ClaimTest, name: str, table: Mapping[str, Any] | None
) -> Verdict:
    values, labels = _values(table, test) if table else ({}, {})
    effects, columns, compared = _effects(test, values, labels)
    interval = over_seeds(effects)
    effect = statistics.fmean(effects) if effects else None
    verdict, reason = UNDECIDED, ""
    if table is None:
        reason = f"this edition has no table {name}"
    elif not effects:
        reason = "no column has all rows that decide it"
    elif interval is None:
        reason = f"seeds: {len(effects)}; from {FEWEST_SEEDS} on they decide"
    elif interval.excludes_zero:
        verdict = SUPPORTED if interval.high < 0.0 else CONTRARY
    else:
        reason = "the interval includes zero"
    return Verdict(
        claim=claim.text,
        source=claim.source,
        table=name,
        compared=compared,
        effect=effect,
        low=interval.low if interval else None,
        high=interval.high if interval else None,
        columns=columns,
        seeds=len(effects),
        verdict=verdict,
        reason=reason,
    )


def _values(table: Mapping[str, Any], test: ClaimTest) -> tuple[Values, dict[str, str]]:
    """Numbers of the claim's columns, and labels of rows by key; of one quantity if it says so."""
    wanted = f"{test.quantity}_" if test.quantity else ""
    rows = {row["key"]: row for row in table["rows"] if row["key"].startswith(wanted)}
    found: Values = {}
    for cell in table["cells"]:
        row, column = cell["row"], cell["column"]
        if row in rows and cell["values"] and (not test.columns or column in test.columns):
            found.setdefault(row.removeprefix(wanted), {})[column] = cell["values"]
    labels = {key: row["label"].rpartition("], ")[2] for key, row in rows.items()}
    quantity = f"{test.quantity}: " if test.quantity else ""
    return found, {key.removeprefix(wanted): quantity + label for key, label in labels.items()}


def _effects(
    test: ClaimTest, values: Values, labels: Mapping[str, str]
) -> tuple[list[float], int, str]:
    """Relative difference by seed, the number of columns, and what was compared, in words."""
    if not test.varies:
        first, second = test.better, test.than
        words = f"{labels.get(first, first)} against {labels.get(second, second)}"
        return *_relative(values.get(first, {}), values.get(second, {})), words
    words = f"best against worst of {len(labels)} rows"
    means = {
        row: statistics.fmean(x for by_seed in columns.values() for x in by_seed.values())
        for row, columns in values.items()
    }
    if len(means) < 2:
        return [], 0, words
    first, second = min(means, key=means.__getitem__), max(means, key=means.__getitem__)
    words = f"{labels[first]} (best) against {labels[second]} (worst)"
    return *_relative(values[first], values[second]), words


def _relative(
    first: Mapping[str, Mapping[str, float]], second: Mapping[str, Mapping[str, float]]
) -> tuple[list[float], int]:
    """Relative difference by seed, averaged over the columns that both have, and their number."""
    shared = [column for column in first if column in second]
    if not shared:
        return [], 0
    seeds = set.intersection(*(set(first[c]) & set(second[c]) for c in shared))
    base = {c: statistics.fmean(second[c].values()) for c in shared}
    by_seed = [
        statistics.fmean((first[c][seed] - second[c][seed]) / base[c] for c in shared)
        for seed in sorted(seeds, key=int)
    ]
    return by_seed, len(shared)


def claims_markdown(found: Iterable[Verdict]) -> str:
    """A table of verdicts in Markdown."""
    lines = [
        "| claim of the paper | compared | table | effect | seeds | verdict |",
        "|---|---|---|---:|---:|---|",
    ]
    for one in found:
        reason = f" ({markdown_escape(one.reason)})" if one.reason else ""
        texts = " | ".join(map(markdown_escape, (one.claim, one.compared, one.table)))
        lines.append(f"| {texts} | {one.interval()} | {one.seeds} | **{one.verdict}**{reason} |")
    return "\n".join([*lines, "", RULE])


def claims_json(found: Iterable[Verdict], edition: str) -> Json:
    """Verdicts of an edition, with their rule."""
    return {"edition": edition, "rule": RULE, "verdicts": [asdict(one) for one in found]}
