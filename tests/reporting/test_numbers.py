"""Digits: no more than the seeds allow, zeros kept, ± only where there is an interval."""

from __future__ import annotations

import math
import re

import pytest

from georecon.reporting.numbers import difference_text, number_text, plain_text
from georecon.reporting.significance import half_width


def spread(half: float, n: int = 3) -> float:
    """Standard deviation whose interval has this half."""
    return half / half_width(1.0, n)


@pytest.mark.parametrize(
    ("value", "half", "text"),
    [
        (1.23456, 0.0123, "1.235 ± 0.012"),
        (12.3456, 1.9, "12.3 ± 1.9"),
        (123.456, 12.3, "123 ± 12"),
        (0.000123456, 0.0000021, "0.0001235 ± 0.0000021"),
        (1234567.0, 12.0, "1.235e+06 ± 1.2e+01"),
        (-1.5, 0.25, "-1.50 ± 0.25"),
        (265.503, 0.036, "265.50 ± 0.04"),  # no more than five digits of a number
        (265.503, 0.00002, "265.50 ± 0.01"),
        (0.0, 0.25, "0.00 ± 0.25"),
        (1049.2, 227.4, "1049 ± 227"),
    ],
)
def test_three_seeds_have_an_interval(value: float, half: float, text: str) -> None:
    assert number_text(value, spread(half), 3) == text


@pytest.mark.parametrize("half", [0.0996, 0.00999, 9.97, 0.95, 0.0949])
def test_rounding_up_keeps_value_and_interval_at_the_same_digits(half: float) -> None:
    mean, shown = number_text(1.23456789, spread(half), 3).split(" ± ")
    assert len(mean.partition(".")[2]) == len(shown.partition(".")[2])
    assert float(shown) == pytest.approx(half, rel=0.05)


@pytest.mark.parametrize(
    ("low", "high", "text"),
    [
        (265.4775, 265.5285, "265.5"),  # 265.503 ± 0.036 once
        (253.04, 264.12, "253.0–264.1"),
        (98.12, 101.3, "98.1–101.3"),
        (-1.5, 0.25, "-1.500 to 0.250"),
        (0.00001234, 0.00002, "1.234e-05–2.000e-05"),
        (1.0, 3.0, "1.000–3.000"),
    ],
)
def test_two_seeds_show_both_values_and_no_deviation(low: float, high: float, text: str) -> None:
    mean, std = (low + high) / 2, (high - low) / math.sqrt(2)
    assert number_text(mean, std, 2) == text


@pytest.mark.parametrize("n", [1, 2])
@pytest.mark.parametrize("std", [None, 0.0, 0.03, 12.0])
def test_fewer_than_three_seeds_never_show_a_deviation(n: int, std: float | None) -> None:
    assert "±" not in number_text(3.14159, std, n)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (3.14159, "3.142"),
        (0.21, "0.2100"),
        (10.0, "10.00"),
        (9.99996, "10.00"),
        (0.00012345, "0.0001234"),
        (12345.6, "12346"),
        (7746.2, "7746"),
        (0.0, "0.000"),
        (2.0, "2.000"),
        (-0.5, "-0.5000"),
        (1.5e7, "1.500e+07"),
        (2e-7, "2.000e-07"),
    ],
)
def test_a_number_alone_has_four_digits_zeros_kept(value: float, text: str) -> None:
    assert plain_text(value) == number_text(value, None, 1) == number_text(value, 0.0, 4) == text
    if "e" not in text and abs(value) < 1000 and value:
        assert len(re.sub(r"^-?0?\.?0*|\.", "", text)) == 4


def test_what_counts_has_no_decimals() -> None:
    assert number_text(3.0, None, 1, whole=True) == "3"
    assert number_text(0.0, None, 1, whole=True) == "0"
    assert number_text(2.0, math.sqrt(2.0), 2, whole=True) == "1–3"
    assert number_text(2.5, None, 1, whole=True) == "2.500"


@pytest.mark.parametrize(
    ("numbers", "text"),
    [
        ((-10.23, -15.1, -5.31), "-10.2 [-15.1, -5.3]"),
        ((0.0123, -0.001, 0.0256), "+0.012 [-0.001, 0.026]"),
        ((-1.0, -2.0, -0.0004), "-1.0 [-2.0, -0.0]"),  # the sign stays where digits end
        ((-1.5, None, None), "-1.50"),
        ((0.0, 0.0, 0.0), "+0.0 [0.0, 0.0]"),
    ],
)
def test_differences_have_a_sign(
    numbers: tuple[float, float | None, float | None], text: str
) -> None:
    assert difference_text(*numbers) == text
