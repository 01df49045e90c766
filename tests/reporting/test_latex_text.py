"""Any character as LaTeX: a command where there is one, its number where there is none."""

from __future__ import annotations

import pytest

from georecon.reporting.latex_text import latex_escape, latex_label, latex_unit
from georecon.units import allowed_units
from tests import toy_results as toy


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("50% & a_b #1 {x} $", r"50\% \& a\_b \#1 \{x\} \$"),
        ("a\\b~c^d", r"a\textbackslash{}b\textasciitilde{}c\textasciicircum{}d"),
        ("1 ± 2 Å", r"1 $\pm$ 2 \AA{}"),
        ("λ β Σ Ω ς Α", r"$\lambda$ $\beta$ $\Sigma$ $\Omega$ $\varsigma$ $\mathrm{A}$"),
        ("≥ ≤ → ∞", r"$\ge$ $\le$ $\rightarrow$ $\infty$"),
        ("a₀² Cᵥ 10⁻¹", r"a$_{0}$$^{2}$ C$_{v}$ 10$^{-}$$^{1}$"),
        ("Müller, Łódź, naïve, Erdős", r"M\"{u}ller, \L{}\'{o}d\'{z}, na\"{\i}ve, Erd\H{o}s"),
        ("分子 😀", r"\texttt{U+5206}\texttt{U+5B50} \texttt{U+1F600}"),
        ("½ ﬁ 𝜎 ™", r"1/2 fi $\sigma$ $^{TM}$"),
        ("two\n\n\\lines\ttab", r"two \textbackslash{}lines tab"),
        ("\x00\u202e", r"\texttt{U+FFFD}\texttt{U+FFFD}"),
    ],
)
def test_text(text: str, wanted: str) -> None:
    assert latex_escape(text) == wanted


def test_no_character_is_left_that_pdflatex_may_not_know() -> None:
    for code in [*range(0x3000), *range(0x1D400, 0x1D7FF), 0x1F600, 0xE000, 0xFFFD]:
        assert latex_escape(f"a{chr(code)}b").isascii(), hex(code)


@pytest.mark.parametrize("unit", allowed_units())
def test_every_unit_has_latex(unit: str) -> None:
    text = latex_unit(unit)
    assert text.startswith("$")
    assert text.isascii()


def test_a_unit_of_another_project_is_text() -> None:
    assert latex_unit("µE_h/Å{}") == r"$\mu$E\_h/\AA{}\{\}"


def test_labels_hold_no_command() -> None:
    assert latex_label("3bpa_1") == "3bpa_1"
    assert latex_label("a}\\input{x}\n") == "a--input-x--"


@pytest.mark.parametrize("edition", ["laptop", "paper", "tiny"])
def test_every_configured_word_has_latex(edition: str) -> None:
    found = toy.experiments_of(edition)
    for table in found.config.tables:
        spec = found.tables.spec(table)
        words = [spec.title, spec.caption]
        words += [entry.label for entry in (*spec.rows, *spec.columns)]
        words += [cell.reason for cell in spec.cells if cell.reason]
        for word in words:
            assert latex_escape(word).isascii(), word
            assert "U+" not in latex_escape(word), word
