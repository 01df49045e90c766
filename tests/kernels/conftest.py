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
