"""Any text as LaTeX that pdflatex sets with its standard fonts, and that stays text."""

from __future__ import annotations

import functools
import re
import unicodedata

from georecon.reporting.escape import one_line
from georecon.units import UNIT_LATEX

_TEXT = dict(zip("&%$#_{}", (r"\&", r"\%", r"\$", r"\#", r"\_", r"\{", r"\}"), strict=True)) | {
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "\\": r"\textbackslash{}",
    '"': "''",
    "`": r"\textasciigrave{}",
    "Å": r"\AA{}",
    "å": r"\aa{}",
    "Ø": r"\O{}",
    "ø": r"\o{}",
    "Ł": r"\L{}",
    "ł": r"\l{}",
    "Æ": r"\AE{}",
    "æ": r"\ae{}",
    "Œ": r"\OE{}",
    "œ": r"\oe{}",
    "ß": r"\ss{}",
    "ı": r"\i{}",
    "–": "--",
    "—": "---",
    "‘": "`",
    "’": "'",
    "“": "``",
    "”": "''",
    "…": r"\ldots{}",
    "†": r"\dag{}",
    "‡": r"\ddag{}",
    "§": r"\S{}",
    "¶": r"\P{}",
    "©": r"\copyright{}",
    "£": r"\pounds{}",
    "¿": "?`",
    "¡": "!`",
    "⁄": "/",
}
_MATH = {
    "|": "|",
    "<": "<",
    ">": ">",
    "−": "-",
    "±": r"\pm",
    "∓": r"\mp",
    "×": r"\times",
    "÷": r"\div",
    "·": r"\cdot",
    "•": r"\bullet",
    "∘": r"\circ",
    "°": r"^{\circ}",
    "′": r"^{\prime}",
    "≤": r"\le",
    "≥": r"\ge",
    "≪": r"\ll",
    "≫": r"\gg",
    "≠": r"\ne",
    "≈": r"\approx",
    "≃": r"\simeq",
    "∼": r"\sim",
    "≡": r"\equiv",
    "∝": r"\propto",
    "∞": r"\infty",
    "→": r"\rightarrow",
    "←": r"\leftarrow",
    "↔": r"\leftrightarrow",
    "↑": r"\uparrow",
    "↓": r"\downarrow",
    "⇒": r"\Rightarrow",
    "⟨": r"\langle",
    "⟩": r"\rangle",
    "‖": r"\|",
    "∥": r"\|",
    "∈": r"\in",
    "∑": r"\sum",
    "∏": r"\prod",
    "∫": r"\int",
    "√": r"\surd",
    "∂": r"\partial",
    "∇": r"\nabla",
    "ℓ": r"\ell",
    "ℏ": r"\hbar",
    "ϕ": r"\phi",
    "ϵ": r"\epsilon",
    "⁻": "^{-}",
    "⁺": "^{+}",
    "₋": "_{-}",
    "₊": "_{+}",
    "¬": r"\neg",
}
_ACCENTS = {
    "\u0300": "`",
    "\u0301": "'",
    "\u0302": "^",
    "\u0303": "~",
    "\u0304": "=",
    "\u0306": "u",
    "\u0307": ".",
    "\u0308": '"',
    "\u030a": "r",
    "\u030b": "H",
    "\u030c": "v",
    "\u0327": "c",
    "\u0323": "d",
    "\u0331": "b",
}
# Greek letters that look like Latin ones have no command of their own
_LATIN_GREEK = dict(zip("ΑΒΕΖΗΙΚΜΝΟΡΤΥΧο", "ABEZHIKMNOPTYXo", strict=True))
_GREEK = re.compile(
    "GREEK (SMALL|CAPITAL) LETTER (ALPHA|BETA|GAMMA|DELTA|EPSILON|ZETA|ETA|THETA|IOTA|KAPPA|LAMDA|"
    "MU|NU|XI|PI|RHO|SIGMA|FINAL SIGMA|TAU|UPSILON|PHI|CHI|PSI|OMEGA)"
)
_SPELT = {"LAMDA": "lambda", "FINAL SIGMA": "varsigma"}


def latex_escape(text: str) -> str:
    """Plain text as one line of LaTeX."""
    return "".join(map(_escape_character, one_line(text)))


def latex_words(text: str, longest: float) -> str:
    """The same with words that may be broken where they are wider than ``longest`` letters."""
    return " ".join(
        latex_escape(word)
        if width(word) <= longest
        else r"\allowbreak{}".join(map(latex_escape, _parts(word, longest / 3)))
        for word in one_line(text).split(" ")
    )


def width(text: str) -> float:
    """Rough width of a text [letters]; rather too much than too little."""
    return sum(map(_character_width, one_line(text)))


def _parts(word: str, longest: float) -> list[str]:
    """A word in parts no wider than ``longest`` letters, or than its widest letter."""
    parts, filled = [""], 0.0
    for character in word:
        own = _character_width(character)
        if parts[-1] and filled + own > longest:
            parts.append("")
            filled = 0.0
        parts[-1] += character
        filled += own
    return parts


def _character_width(character: str) -> float:
    if _escape_character(character).startswith(r"\texttt"):
        return 1.1 * len(f"U+{ord(character):04X}")
    if character in "MWmw@%&":
        return 1.75
    if character in ".,;:!|'()[]-ijl ":
        return 0.7
    return 1.5 if character.isupper() or character in "=<>+±−~→" else 1.0


def latex_unit(unit: str) -> str:
    """Unit as LaTeX."""
    if unit not in UNIT_LATEX:
        return latex_escape(unit)
    return f"${UNIT_LATEX[unit]}$".replace(r"\AA", r"\mathring{A}")  # \AA is for texts


def latex_label(name: str) -> str:
    """A name that a reference can use."""
    return re.sub(r"[^A-Za-z0-9:._-]", "-", name)


@functools.cache
def _escape_character(character: str) -> str:
    """One character: as itself, as a command, or spelt out where nothing else is left."""
    if character in _TEXT:
        return _TEXT[character]
    if character in _MATH:
        return f"${_MATH[character]}$"
    if character.isascii():
        return character
    found = _greek(character) or _accented(character) or _raised(character)
    if found is not None:
        return found
    plain = unicodedata.normalize("NFKC", character)
    if plain != character:
        return "".join(map(_escape_character, plain))
    return rf"\texttt{{U+{ord(character):04X}}}"


def _greek(character: str) -> str | None:
    if character in _LATIN_GREEK:
        return rf"$\mathrm{{{_LATIN_GREEK[character]}}}$"
    found = _GREEK.fullmatch(unicodedata.name(character, ""))
    if found is None:
        return None
    name = _SPELT.get(found[2], found[2].lower())
    return f"$\\{name if found[1] == 'SMALL' else name.capitalize()}$"


def _accented(character: str) -> str | None:
    """A letter with one accent, which may be decomposed further."""
    base, *marks = list(unicodedata.normalize("NFD", character))
    if len(marks) != 1 or marks[0] not in _ACCENTS or not base.isascii():
        return None
    letter = {"i": r"\i", "j": r"\j"}.get(base, base) if marks[0] not in "\u0327\u0323" else base
    return rf"\{_ACCENTS[marks[0]]}{{{letter}}}"


def _raised(character: str) -> str | None:
    """A character set above or below the line, such as ² or ₀."""
    kind, _, codes = unicodedata.decomposition(character).partition(" ")
    if kind not in ("<super>", "<sub>"):
        return None
    plain = "".join(chr(int(code, 16)) for code in codes.split())
    if not (plain.isascii() and plain.isalnum()):
        inner = _escape_character(plain) if len(plain) == 1 else latex_escape(plain)
        return inner
    return f"${'^' if kind == '<super>' else '_'}{{{plain}}}$"
