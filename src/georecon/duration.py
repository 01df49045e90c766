"""Durations as a person says them.

Own text: ``humanize`` says "3 hours and 10 minutes"; a terminal line and a table's column need the
short form, which it does not have.
"""

from __future__ import annotations

import math


def readable_time(seconds: float) -> str:
    """A duration [s] as ``42 s``, ``6 min``, ``3 h 10 min`` or ``2 d 4 h``; ``?`` if not finite."""
    if not math.isfinite(seconds):
        return "?"
    if seconds < 100:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    if minutes < 60:
        return f"{minutes} min"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours < 48 else f"{hours // 24} d {hours % 24} h"
