"""Numbers of tables as text: as many digits as the spread over seeds allows, and zeros kept."""

from __future__ import annotations

import math

from georecon.reporting.significance import FEWEST_SEEDS, half_width

_DIGITS = 4  # of a number alone
_MOST_DIGITS = 5  # of a number with an interval, however narrow that is


def number_text(value: float, std: float | None, n: int | None, *, whole: bool = False) -> str:
    """A cell's number.

    Mean ± half of the 95 % interval from three seeds on; both values of two seeds; one value of
    one, or where all seeds gave the same.

    Args:
        value: mean over seeds.
        std: sample standard deviation over seeds; None for one seed.
        n: number of seeds.
        whole: the number counts something: no decimals for one that has none.
    """
    if not std or not n or n < 2:
        return plain_text(value, whole=whole)
    if n < FEWEST_SEEDS:  # two values lie at the mean ± their standard deviation / √2
        return _range_text(value - std / math.sqrt(2), value + std / math.sqrt(2), whole=whole)
    half = half_width(std, n)
    if abs(value) >= 1e6 or max(abs(value), half) < 1e-4:
        return f"{value:.3e} ± {half:.1e}"
    decimals = min(_decimals(half, 2), _decimals(value, _MOST_DIGITS) if value else 99)
    return f"{value:.{decimals}f} ± {max(half, 10.0**-decimals):.{decimals}f}"


def plain_text(value: float, *, whole: bool = False) -> str:
    """A number of four significant digits, zeros kept; one that counts something as it is."""
    if whole and float(value).is_integer():
        return f"{value:.0f}"
    if value and not 1e-4 <= abs(value) < 1e6:
        return f"{value:.3e}"
    return f"{value:.{_decimals(value, _DIGITS)}f}"


def difference_text(value: float, low: float | None, high: float | None) -> str:
    """A difference with its sign and, where it has one, its interval."""
    if low is None or high is None:
        return f"{value:+.{_decimals(value, 3)}f}"
    widest = max(abs(low), abs(high))
    half = (high - low) / 2 or value  # the same runs twice have no spread
    decimals = min(_decimals(half, 2), _decimals(widest, _MOST_DIGITS))
    return f"{value:+.{decimals}f} [{low:.{decimals}f}, {high:.{decimals}f}]"


def _range_text(low: float, high: float, *, whole: bool) -> str:
    if whole:
        texts = [plain_text(round(end, 9), whole=True) for end in (low, high)]
    elif max(abs(low), abs(high)) >= 1e6 or max(abs(low), abs(high)) < 1e-4:
        texts = [f"{end:.3e}" for end in (low, high)]
    else:
        decimals = _decimals(max(abs(low), abs(high)), _DIGITS)
        texts = [f"{end:.{decimals}f}" for end in (low, high)]
    if texts[0] == texts[1]:
        return texts[0]
    return (" to " if low < 0.0 else "–").join(texts)


def _decimals(size: float, digits: int) -> int:
    """Decimals that show ``digits`` significant digits of a number, after rounding it."""
    exponent = int(f"{size:.{digits - 1}e}".partition("e")[2])
    return max(0, digits - 1 - exponent)
