"""The Triton kernels for tests: on a GPU if there is one, else in the interpreter.

A test module that imports this is skipped where triton is missing.
"""

from __future__ import annotations

import importlib.util
from typing import Any

import pytest
import torch

from georecon.kernels.fixed_edges import DEAD

if importlib.util.find_spec("triton") is None:
    pytest.skip(
        "needs triton, which torch's CUDA builds bring: pip install triton==3.7.1",
        allow_module_level=True,
    )
DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
INTERPRET = "TRITON_INTERPRET"
with pytest.MonkeyPatch.context() as patch:
    if DEVICE == "cpu":
        patch.setenv(INTERPRET, "1")  # when triton is imported (tests/conftest.py), kernels defined
    import triton
    import triton.language as tl

    from georecon.kernels import attention_triton, triton_numbers
    from georecon.kernels import attention_triton_kernels as kernel_code

__all__ = [
    "DEVICE",
    "INTERPRET",
    "attention_triton",
    "held_edges",
    "kernel_code",
    "tl",
    "triton",
    "triton_numbers",
]

Triples = list[tuple[int, int, int]]


def held_edges(links: Any) -> tuple[Triples, Triples, Triples]:
    """Edges as source, target and pair, sorted: by link, by where they end, by where they begin."""
    table, rows, ends = links
    by_link: Triples = []
    for low, high, pair, role in table.mT.tolist():
        roles = 0 if role == DEAD else role
        assert roles == 0 or low <= high
        by_link += [(high, low, pair)] * (roles & 1) + [(low, high, pair)] * (roles >> 1)
    into: Triples = []
    out: Triples = []
    for atom, (first, last) in enumerate(zip(rows.tolist(), rows.tolist()[1:], strict=False)):
        for other, pair, roles in ends[:, first:last].mT.tolist():
            into += [(other, atom, pair)] * (roles & 1)
            out += [(atom, other, pair)] * (roles >> 1)
    return sorted(by_link), sorted(into), sorted(out)
