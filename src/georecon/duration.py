"""Durations as a person says them."""

from __future__ import annotations

import math


def readable_time(seconds: float) -> str:
    """A duration [s] as a person says it: ``42 s``, ``6 min``, ``3 h 10 min``, ``2 d 4 h``."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    if minutes < 60:
        return f"{minutes} min"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours < 48 else f"{hours // 24} d {hours % 24} h"


def readable_seconds(seconds: float) -> str:
    """A duration [s] as ``40 s``, ``6 min``, ``3 h 10 min``; ``?`` if it is not known."""
    if not math.isfinite(seconds):
        return "?"
    if seconds < 100:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"
