"""Words from a configuration that would be more than words where they are not escaped."""

from __future__ import annotations

from typing import Any

HOSTILE = (
    # one string for all: Markdown cells, emphasis, links; HTML; LaTeX; a spreadsheet's formula
    "=cmd|' /C calc'!A1 |Frad| **b** `c` [l](http://x.invalid/y) ![i](../../../x.png) "
    "<script>window.broken=1</script><img src=x onerror=window.broken=2> &lt; {{7*7}} "
    "\\label{x} \\input{/x} \\end{tabular} $x$ %c\n\n\\par # h \u202e λ≥分😀 a_b _e_ ~~s~~",
    "|Frad|",
    "@SUM(A1:A9)",
    "\t=1+1",
    "-1+1|x",
    "[1pt] after a line's end",
    "*",
    "\\",
    "# heading",
    "1. list",
    "> quote",
    "%",
    "\\write18{touch written.txt}\\immediate\\openout1=written.txt",
    "^^5cinput",
    "--- | ---",
    "</title><script>window.broken=3</script>",
    "x" * 300,
)


def hostile_table(text: str) -> dict[str, Any]:
    """A table all of whose words are ``text``, with a comparison."""
    numbers = {("r1", "c1"): 1.5, ("r1", "c2"): 2.5, ("r2", "c1"): 3.5, ("r2", "c2"): None}
    cells = [
        {
            **{"row": row, "column": column, "value": value, "std": None},
            **{"n": 0 if value is None else 1, "reason": text if value is None else None},
            **{"low": None, "high": None, "runs": []},
            "values": {} if value is None else {"1": value},
        }
        for (row, column), value in numbers.items()
    ]
    difference = {"row": "r2", "reference": "r1", "column": "c1", "value": 2.0, "low": 1.0,
                  "high": 3.0, "n": 3}  # fmt: skip
    wins = {"row": "r2", "reference": "r1", "columns": 1, "better": 0, "worse": 1,
            "surely_better": 0, "surely_worse": 1}  # fmt: skip
    return {
        "table": "hostile",
        "edition": "tiny",
        "title": text,
        "caption": text,
        "rows": [
            {"key": key, "label": text, "method": "m", "unit": "", "kind": "method"}
            for key in ("r1", "r2")
        ],
        "columns": [{"key": key, "label": text, "unit": text} for key in ("c1", "c2")],
        "cells": cells,
        "comparison": {"differences": [difference], "wins": [wins],
                       "ranks": {"r1": 1.0, "r2": 2.0}, "best": []},
    }  # fmt: skip
