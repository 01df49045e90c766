"""Where two JSON values part, in words."""

from __future__ import annotations

import json
from typing import Any


def difference(found: Any, wanted: Any, key: str = "") -> str | None:
    """First place where two JSON values differ, in words; None if they are equal."""
    if isinstance(found, dict) and isinstance(wanted, dict):
        for name in sorted({*found, *wanted}):
            place = f"{key}.{name}" if key else name
            if name not in found:
                return f"{place} is not recorded, the configuration says {_short(wanted[name])}"
            if name not in wanted:
                return f"{place} is {_short(found[name])}, unknown to the configuration"
            if (text := difference(found[name], wanted[name], place)) is not None:
                return text
        return None
    if type(found) is type(wanted) and found == wanted:
        return None
    if isinstance(found, int | float) and isinstance(wanted, int | float) and found == wanted:
        return None
    return f"{key} is {_short(found)}, the configuration says {_short(wanted)}"


def _short(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) < 80 else f"{text[:77]}…"
