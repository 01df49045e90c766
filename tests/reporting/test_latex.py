"""LaTeX tables: compiled, inside the page, and every number in them."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from georecon.files import read_json
from georecon.reporting.latex import latex
from georecon.reporting.latex_text import latex_escape
from georecon.reporting.layout import PUBLISHED, shown_cells
from tests import toy_results as toy
from tests.reporting.hostile import HOSTILE, hostile_table

DOCUMENT = r"""\documentclass{article}
\usepackage{booktabs}
\begin{document}
%s
\end{document}
"""


def compile_latex(tex: str, folder: Path) -> str:
    """Log of pdflatex; the test is skipped where there is none."""
    if shutil.which("pdflatex") is None:
        pytest.skip("needs Debian's packages texlive-latex-base and texlive-latex-recommended")
    (folder / "t.tex").write_text(DOCUMENT % tex, encoding="utf-8")
    command = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "-no-shell-escape", "t"]
    done = subprocess.run(command, cwd=folder, capture_output=True, check=False, timeout=120)
    log = (folder / "t.log").read_text(encoding="latin-1")
    assert done.returncode == 0, log[-3000:]
    assert (folder / "t.pdf").is_file()
    return log


def too_wide(log: str) -> list[float]:
    """By how much lines stick out of the page [pt]; a point is not seen."""
    found = map(float, re.findall(r"Overfull \\hbox \(([\d.]+)pt too wide\)", log))
    return [width for width in found if width > 1.0]


def too_tall(log: str) -> list[str]:
    return re.findall(r"Float too large for page by [\d.]+pt", log)


def cell(row: str, column: str, value: float) -> dict[str, Any]:
    return {
        **{"row": row, "column": column, "value": value, "std": 0.01 * abs(value), "n": 4},
        **{"low": None, "high": None, "values": {}, "runs": [], "reason": None},
    }


def wide_table(rows: int, columns: int, label: str = "column") -> dict[str, Any]:
    down = [{"key": f"r{k}", "label": f"row {k}", "method": "m", "unit": ""} for k in range(rows)]
    across = [{"key": f"c{k}", "label": f"{label} {k}", "unit": "meV"} for k in range(columns)]
    cells = [
        cell(r["key"], c["key"], 1000.0 + 17 * i + j)
        for i, r in enumerate(down)
        for j, c in enumerate(across)
    ]
    return {"table": "wide", "title": "Wide", "caption": "C.", "rows": down, "columns": across,
            "cells": cells}  # fmt: skip


@pytest.fixture(scope="module")
def tables(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Any]]:
    """All tables of the laptop edition with made-up numbers."""
    import os

    root, before = tmp_path_factory.mktemp("edition"), Path.cwd()
    os.chdir(root)
    try:
        experiments = toy.many_methods(toy.experiments_of("laptop"))
        toy.write_results(experiments)
    finally:
        os.chdir(before)
    folder = root / f"results/{experiments.edition}/tables"
    return {path.stem: read_json(path) for path in sorted(folder.glob("*.json"))}


def test_every_table_of_an_edition_stays_on_its_page(
    tables: dict[str, dict[str, Any]], tmp_path: Path
) -> None:
    log = compile_latex("\\clearpage\n".join(map(latex, tables.values())), tmp_path)
    assert too_wide(log) == []
    assert too_tall(log) == []
    assert "Warning: Command" not in log


def test_every_number_is_in_its_text_once(tables: dict[str, dict[str, Any]]) -> None:
    for table in tables.values():
        text = latex(table)
        for shown in shown_cells(table).values():
            assert latex_escape(shown.text).replace(" ", "~") in text
        rows, columns = len(table["rows"]), len(table["columns"])
        main = text.split(r"\emph{Difference")[0].split(rf"\emph{{{PUBLISHED}}}")[0]
        assert main.count(r"\raggedleft") == rows * columns + _heads(main)


def _heads(text: str) -> int:
    """Number of heads over columns of numbers."""
    heads = re.findall(r"\\toprule\n(.*?) \\tabularnewline", text)
    return sum(head.count(r"\raggedleft") for head in heads)


@pytest.mark.parametrize(
    ("rows", "columns", "label"),
    [
        (2, 40, "column"),
        (40, 2, "column"),
        (5, 90, "column"),
        (30, 30, "column"),
        (3, 3, "a label of many words that has to wrap"),
        (3, 5, "averylongword" * 8),
        (1, 1, "x"),
    ],
)
def test_tables_of_any_shape_stay_on_the_page(
    rows: int, columns: int, label: str, tmp_path: Path
) -> None:
    log = compile_latex(latex(wide_table(rows, columns, label)), tmp_path)
    assert too_wide(log) == []
    assert too_tall(log) == []


def test_a_table_that_sticks_out_is_noticed(tmp_path: Path) -> None:
    wide = r"\begin{tabular}{" + "r" * 12 + "}" + " & ".join(["1049 $\\pm$ 227 (3)"] * 12)
    log = compile_latex(wide + r"\\\end{tabular}", tmp_path)
    assert too_wide(log)


def test_hostile_words_compile_and_stay_words(tmp_path: Path) -> None:
    for k, text in enumerate(HOSTILE):
        (tmp_path / str(k)).mkdir()
        tex = latex(hostile_table(text))
        log = compile_latex(tex, tmp_path / str(k))
        assert too_wide(log) == []
        assert not (tmp_path / str(k) / "written.txt").exists()


def test_all_characters_of_a_plane_compile(tmp_path: Path) -> None:
    characters = [chr(code) for code in range(0x20, 0x2C00) if chr(code).isprintable()]
    lines = [latex_escape(" ".join(characters[k : k + 30])) for k in range(0, len(characters), 30)]
    compile_latex("\n\n".join(f"{line}" for line in lines), tmp_path)
