"""Durations as people read them."""

from __future__ import annotations

import math

import pytest

from georecon.duration import readable_time


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.4, "0 s"),
        (99, "99 s"),
        (100, "2 min"),
        (3599, "1 h 0 min"),
        (11400, "3 h 10 min"),
        (48 * 3600 - 60, "47 h 59 min"),
        (190800, "2 d 5 h"),
    ],
)
def test_short_form(seconds: float, text: str) -> None:
    assert readable_time(seconds) == text


@pytest.mark.parametrize("seconds", [math.nan, math.inf])
def test_an_unknown_duration_is_said_to_be_unknown(seconds: float) -> None:
    assert readable_time(seconds) == "?"
