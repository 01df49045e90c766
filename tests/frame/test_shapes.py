"""Shapes in annotations hold at the borders of modules, and no job imports what checks them."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
USE = """
from tests.shapes import install
install()
import torch
from jaxtyping import TypeCheckError
from georecon.graph import make_graph, pool_mean, pool_sum
from georecon.kernels import reference
from georecon.kernels.update import layer_update
from georecon.models import heads, norms
from georecon.models.encoder import EncoderSettings, EquivariantTransformer
from tests.toy_graphs import random_batch

for dtype in (torch.float32, torch.float64):
    graph = random_batch(0, dtype)
    model = EquivariantTransformer(EncoderSettings(channels=16, layers=2, heads=4, rbf=8)).to(dtype)
    x, vec = model(graph)
    assert pool_mean(x, graph).shape == pool_sum(x, graph).shape == (3, 16)
    every = (heads.ScalarHead, heads.VectorHead, heads.DipoleHead, heads.SpatialExtentHead)
    outputs = [kind(16).to(dtype)(x, vec, graph) for kind in every]
    sum(output.sum() for output in outputs).backward()

z, ids, one = torch.ones(4, dtype=torch.int64), torch.arange(2), torch.ones(4, 3, 8)
counts = torch.tensor([2, 2])
broken = {
    "positions of five atoms": lambda: make_graph(z, torch.ones(5, 3), counts, ids),
    "positions in a plane": lambda: make_graph(z, torch.ones(4, 2), counts, ids),
    "ids of three molecules": lambda: make_graph(z, torch.ones(4, 3), counts, torch.arange(3)),
    "whole numbers pooled": lambda: pool_sum(torch.ones(4, 8, dtype=torch.int64), graph),
    "axis after channels": lambda: norms.WhitenedVectorNorm(8)(one.mT),
    "scalars for vectors": lambda: norms.WhitenedVectorNorm(8)(one[:, 0]),
    "vectors for scalars": lambda: norms.LayerNorm(8)(one),
    "messages of fewer atoms": lambda: layer_update(one[:3, 0], one),
    "rectangular factor": lambda: reference.polar_factor(one),
}
for name, call in broken.items():
    try:
        call()
    except TypeCheckError:
        continue
    raise AssertionError(f"not noticed: {name}")
print("noticed", len(broken))
"""


def run(code: str) -> str:
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


def test_shapes_hold_and_wrong_ones_are_noticed() -> None:
    assert run(USE) == "noticed 9\n"


def test_training_imports_no_checker_of_shapes() -> None:
    modules = "georecon.stages.finetune, georecon.stages.pretrain, georecon.stages.smoothness"
    code = f"import sys, {modules}; print(sorted({{'jaxtyping', 'beartype'}} & set(sys.modules)))"
    assert run(code) == "[]\n"
