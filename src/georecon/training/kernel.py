"""What a training says of the kernels that it has to do without."""

from __future__ import annotations

from collections.abc import Callable

from georecon.kernels.native import why_reference


def say_kernel(device: str, say: Callable[[str], None]) -> None:
    """Say why a training is slow, where the kernels that it would use are not to be had."""
    if (reason := why_reference(device)) is not None:
        say(
            "no compiled kernels here: several times slower, and other last digits than with them "
            f"({reason:.200})"
        )
