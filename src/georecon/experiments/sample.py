"""Some of many, as a seed decides: cells that an audit computes or trains again."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence


def draw(names: Sequence[str], count: int, seed: int) -> list[str]:
    """Some of the names, in their order: those with the smallest digests.

    Whoever made the results cannot know what a seed that is chosen later will draw; the same seed
    draws the same of the same names on any machine.
    """

    def digest(name: str) -> str:
        return hashlib.sha256(f"{seed} {name}".encode()).hexdigest()

    chosen = set(sorted(names, key=digest)[:count])
    return [name for name in names if name in chosen]
