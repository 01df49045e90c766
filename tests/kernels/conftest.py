"""What tests of the Triton kernels share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch

from georecon.kernels import native


@pytest.fixture
def interpreter(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Triton's interpreter, where there is no GPU."""
    if not torch.cuda.is_available():
        monkeypatch.setenv("TRITON_INTERPRET", "1")
    native.kernel.cache_clear()
    yield
    native.kernel.cache_clear()


@pytest.fixture
def plain(monkeypatch: pytest.MonkeyPatch) -> None:
    """In the interpreter, where a step takes many seconds, another function of what is attended."""
    from tests.kernels.recorded import without_kernels
    from tests.kernels.triton_kernels import DEVICE, attention_triton

    if DEVICE == "cpu":
        monkeypatch.setattr(attention_triton, "edge_attention", without_kernels)
