"""Plain text as Markdown and as a CSV field: nothing in it can become more than text.

LaTeX is :mod:`georecon.reporting.latex_text`; the pages are escaped by Jinja and ``html.escape``.
"""

from __future__ import annotations

import re

_MARKS = re.compile(
    r"""[\\`*\[\]<>|~]             # code, emphasis, links, HTML, cells, strike-through
    |(?<![^\W_])_|_(?![^\W_])      # _emphasis_; a_b is none
    |&(?=[#\w]+;)                  # &amp;
    """,
    re.VERBOSE,
)
_BLOCK = re.compile(r"^(?:[#+\-=>]|\d+(?=[.)]))")  # headings, lists, quotes, at the start
_LOST = "\N{REPLACEMENT CHARACTER}"
_FORMULA = ("=", "+", "-", "@", "\t", "\r")


def one_line(text: str) -> str:
    """A text without line breaks and control characters."""
    return " ".join("".join(c if c.isprintable() or c.isspace() else _LOST for c in text).split())


def markdown_escape(text: str) -> str:
    """Plain text as one line of Markdown that reads the same."""
    line = _MARKS.sub(lambda found: "\\" + found[0], one_line(text))
    if start := _BLOCK.match(line):
        end = start.end()
        return f"\\{line}" if end == 1 and not line[0].isdigit() else f"{line[:end]}\\{line[end:]}"
    return line


def csv_field(text: str) -> str:
    """Text for a CSV field; one that a spreadsheet would compute gets an apostrophe in front.

    For texts only: a number is written as it is.
    """
    whole = text.encode("utf-8", "replace").decode("utf-8")
    return f"'{whole}" if whole.lstrip(" ").startswith(_FORMULA) else whole
