"""Tables as LaTeX that stays on the page: packages booktabs alone, the article class's own width.

A wide table is turned if that needs fewer pieces, and cut into pieces of columns that fit; pieces
that would be too tall together become several ``table`` environments.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from georecon.reporting.latex_text import (
    latex_escape,
    latex_label,
    latex_unit,
    latex_words,
    width,
)
from georecon.reporting.layout import Block, Head, Layout, Shown, layout
from georecon.units import UNIT_LATEX

_WIDTH = 345.0  # \textwidth of the article class [pt]; other classes are wider
_CHARACTER = 4.6  # width of a letter in \footnotesize [pt]; digits are a little narrower
_GAP = 8.0  # between two columns [pt]
_MOST_LABEL = 110.0  # of the first column [pt]; longer labels wrap
_LEAST = 26.0
_HEIGHT, _LINE = 500.0, 9.6  # of a page, and of a line of \footnotesize [pt]
_END = r" \tabularnewline"  # \\ ends a line of a ragged cell instead
_LONGEST = 12.0  # a wider word of a label may be broken [letters]
_LONGEST_IN_CAPTION = 30.0


@dataclass(frozen=True, slots=True)
class _Piece:
    """Part of a block that fits on the page's width; texts are LaTeX, widths in points."""

    title: str
    widths: list[float]
    rows: list[list[str]]
    lines: int

    @property
    def height(self) -> float:
        """With its rules and the space after it [pt]."""
        return self.lines * _LINE


def latex(table: Mapping[str, Any]) -> str:
    """A table's JSON as ``table`` environments with booktabs rules."""
    found = layout(table)
    blocks = (found.main, *filter(None, [found.published]), *found.differences)
    pieces = [piece for block in blocks for piece in _pieces(block)]
    words = f"{found.title}. {' '.join(found.sentences)}"
    floats: list[list[_Piece]] = [[]]
    room = _HEIGHT - _LINE * width(words) * _CHARACTER / _WIDTH
    for piece in pieces:
        # a caption too long for its table stands on a page alone
        if room < piece.height and (floats[-1] or len(floats) == 1):
            floats.append([])
            room = _HEIGHT - 4 * _LINE
        floats[-1].append(piece)
        room -= piece.height
    texts = [_float(found, own, number) for number, own in enumerate(floats)]
    return "\n".join([*texts, *_sources(found)])


def _sources(found: Layout) -> Iterator[str]:
    """Where others' values are from: text that may break over pages, which no caption can."""
    if found.sources:
        words = latex_words(" ".join(found.sources), _LONGEST_IN_CAPTION)
        label = f"tab:{latex_label(found.name)}"
        yield f"{{\\footnotesize\\sloppy\\noindent Table~\\ref{{{label}}}. {words}\\par}}\n"


def _float(found: Layout, pieces: Sequence[_Piece], number: int) -> str:
    title = latex_words(found.title, _LONGEST_IN_CAPTION)
    caption = f"{title}. {latex_words(' '.join(found.sentences), _LONGEST_IN_CAPTION)}"
    label = f"tab:{latex_label(found.name)}"
    if number:
        caption = rf"{title}, continued from table~\ref{{{label}}}."
        label += f":{number + 1}"
    body = "\n\\par\\medskip\n".join(map(_tabular, pieces))
    return (
        "\\begin{table}\n\\centering\\footnotesize\\sloppy\\setlength{\\tabcolsep}{4pt}\n"
        f"{body}\n"
        f"\\caption{{\\footnotesize {caption}}}\n"
        f"\\label{{{label}}}\n"
        "\\end{table}\n"
    )


def _tabular(piece: _Piece) -> str:
    first, *others = piece.widths
    form = rf"p{{{first:.0f}pt}}" + "".join(rf"p{{{width:.0f}pt}}" for width in others)
    head, *rows = piece.rows
    title = rf"\emph{{{piece.title}}}\par\smallskip" + "\n" if piece.title else ""
    lines = [
        rf"\begin{{tabular}}{{@{{}}{form}@{{}}}}",
        r"\toprule",
        " & ".join(head) + _END,
        r"\midrule",
        *(" & ".join(row) + _END for row in rows),
        r"\bottomrule",
        r"\end{tabular}",
    ]
    return title + "\n".join(lines)


def _pieces(block: Block) -> Iterator[_Piece]:
    """A block cut into pieces, as it is or turned, whichever needs fewer lines."""
    labels = [line.label for line in block.lines]
    cells = [line.cells for line in block.lines]
    heads = [_head(head) for head in block.heads]
    plain = list(_cut(block.title, heads, [(label, "") for label in labels], cells))
    turned_cells = [list(column) for column in zip(*cells, strict=True)]
    turned = list(_cut(block.title, [(label, "") for label in labels], heads, turned_cells))
    height = [sum(piece.lines for piece in pieces) for pieces in (plain, turned)]
    fits = all(piece.height < _HEIGHT - 8 * _LINE for piece in turned)
    yield from turned if block.lines and fits and height[1] < height[0] else plain


_Label = tuple[str, str]
"""Text, and a unit's name."""


def _head(head: Head) -> _Label:
    return head.label, head.unit


def _cut(
    title: str, heads: Sequence[_Label], labels: Sequence[_Label], cells: Sequence[Sequence[Shown]]
) -> Iterator[_Piece]:
    """Columns in as many pieces as the page's width asks for."""
    longest = max((_size(label) for label in labels), default=0)
    first = min(max(_LEAST, _CHARACTER * longest), _MOST_LABEL)
    room, start = _WIDTH - first, 0
    widths = [_column_width(head, [row[k] for row in cells]) for k, head in enumerate(heads)]
    while start < len(heads) or start == 0:
        end, used = start, 0.0
        while end < len(heads) and (end == start or used + widths[end] + _GAP <= room):
            used += widths[end] + _GAP
            end += 1
        yield _piece(title, [first, *widths[start:end]], heads[start:end],
                     labels, [row[start:end] for row in cells])  # fmt: skip
        if end >= len(heads):
            return
        start, title = end, ""


def _size(label: _Label) -> float:
    text, unit = label
    return width(text) + (1.0 + _unit_size(unit) if unit else 0.0)


def _unit_size(unit: str) -> float:
    """Width of a unit in brackets [letters], which is not broken; bars become exponents."""
    return 1.0 + width(unit) + unit.count("/") if unit in UNIT_LATEX else 0.0


def _column_width(head: _Label, cells: Sequence[Shown]) -> float:
    words = [width(word) for word in f"{head[0]} {head[1]}".split()]
    longest = max(
        *(min(word, _LONGEST) + 1.0 for word in words),  # a bracket
        _unit_size(head[1]),
        *(width(cell.text) for cell in cells),
        0.0,
    )
    marks = any(cell.bold for cell in cells) + any(cell.worse for cell in cells)
    return min(max(_LEAST, _CHARACTER * (longest + marks)), _WIDTH - _MOST_LABEL - _GAP)


def _piece(
    title: str,
    widths: list[float],
    heads: Sequence[_Label],
    labels: Sequence[_Label],
    cells: Sequence[Sequence[Shown]],
) -> _Piece:
    rows = [["", *(rf"\raggedleft {_label(head)}" for head in heads)]]
    rows += [
        [
            rf"\raggedright {_label(label)}",
            *(rf"\raggedleft {_cell(cell)}" for cell in own),
        ]
        for label, own in zip(labels, cells, strict=True)
    ]
    tall = [_lines(head, width) for head, width in zip(heads, widths[1:], strict=True)]
    lines = 3 + max(tall, default=1) + sum(_lines(label, widths[0]) for label in labels)
    return _Piece(latex_words(title, _LONGEST_IN_CAPTION), widths, rows, lines + bool(title))


def _lines(label: _Label, width: float) -> int:
    return 1 + int(_CHARACTER * _size(label) / width)


def _label(label: _Label) -> str:
    """A label whose words may be broken, with its unit."""
    text, unit = label
    words = latex_words(text, _LONGEST)
    if not unit:
        return words
    known = unit in UNIT_LATEX
    return f"{words} [{latex_unit(unit) if known else latex_words(unit, _LONGEST)}]"


def _cell(cell: Shown) -> str:
    text = latex_escape(cell.text).replace(" ", "~")
    shown = rf"\textbf{{{text}}}" if cell.bold else text
    return shown + (r"$^{\dagger}$" if cell.worse else "")
