"""200 random molecules of 1 to 30 atoms, none closer than 0.5 Å (style.md, fault test F15)."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from tests.models import checks
from tests.models.subjects import subject
from tests.toy_graphs import batch, random_positions

MODELS = [("whitened", torch.float64), ("none", torch.float64), ("none", torch.float32)]


@pytest.mark.parametrize(("norm", "dtype"), MODELS, ids=["whitened-f64", "none-f64", "none-f32"])
@settings(max_examples=200, deadline=None, derandomize=True, database=None,
          suppress_health_check=list(HealthCheck))  # fmt: skip
@given(atoms=st.integers(1, 30), seed=st.integers(0, 2**32 - 1), z=st.integers(1, 19))
@example(atoms=1, seed=0, z=1)
@example(atoms=2, seed=0, z=19)
@example(atoms=30, seed=0, z=6)
def test_random_molecules(atoms: int, seed: int, z: int, norm: str, dtype: torch.dtype) -> None:
    rng = np.random.default_rng(seed)
    elements = np.concatenate([[z], rng.integers(1, 20, atoms - 1)])
    graph = batch([(elements, random_positions(atoms, rng, spacing=0.5))], dtype)
    model = subject("encoder", vector_norm=norm, dtype=dtype)
    with torch.no_grad():
        outputs = model(graph)
        assert torch.isfinite(outputs.invariant).all()
        assert torch.isfinite(outputs.vectors).all()
        if atoms == 1:
            assert outputs.vectors.abs().max() == 0
            return
        checks.turn(model, graph, seed % 1000, reflect=False)
        checks.turn(model, graph, seed % 1000, reflect=True)
        checks.permute(model, graph, seed % 1000)
        checks.translate(model, graph)
