"""Our AdamW against torch's, and what it must not import."""

import subprocess
import sys

import pytest
import torch
from torch import nn

from georecon.training.optimizer import AdamW


def train(optimizer_step, model, steps=20):
    for step in range(1, steps + 1):
        model.zero_grad(set_to_none=True)
        x = torch.linspace(-1, 1, 12, dtype=torch.float64).reshape(4, 3) * step
        model(x).square().sum().backward()
        optimizer_step(step)


def models():
    torch.manual_seed(0)
    first = nn.Sequential(nn.Linear(3, 5), nn.SiLU(), nn.Linear(5, 1)).double()
    second = nn.Sequential(nn.Linear(3, 5), nn.SiLU(), nn.Linear(5, 1)).double()
    second.load_state_dict(first.state_dict())
    return first, second


@pytest.mark.parametrize("weight_decay", [0.0, 0.1])
def test_equals_torch(weight_decay):
    ours, theirs = models()
    adamw = AdamW(list(ours.parameters()), weight_decay)
    reference = torch.optim.AdamW(theirs.parameters(), lr=0.01, weight_decay=weight_decay)
    train(lambda step: adamw.step(adamw.gradient(), 0.01, step), ours)
    train(lambda step: reference.step(), theirs)
    for a, b in zip(ours.parameters(), theirs.parameters(), strict=True):
        assert torch.allclose(a, b, rtol=1e-12, atol=1e-14)


def test_another_step_size_is_noticed():
    """The twin: a step with another rate must not pass for the same."""
    ours, theirs = models()
    adamw = AdamW(list(ours.parameters()), 0.0)
    reference = torch.optim.AdamW(theirs.parameters(), lr=0.01, weight_decay=0.0)
    train(lambda step: adamw.step(adamw.gradient(), 0.0101, step), ours)
    train(lambda step: reference.step(), theirs)
    pairs = zip(ours.parameters(), theirs.parameters(), strict=True)
    assert not all(torch.allclose(a, b, rtol=1e-12, atol=1e-14) for a, b in pairs)


def test_a_parameter_without_gradient_stays():
    used, unused = nn.Parameter(torch.ones(2)), nn.Parameter(torch.ones(2))
    adamw = AdamW([used, unused], weight_decay=0.5)
    used.sum().backward()
    adamw.step(adamw.gradient(), 0.1, 1)
    assert torch.equal(unused, torch.ones(2))
    assert not torch.equal(used, torch.ones(2))


def test_neither_training_nor_smoothness_imports_the_compiler():
    code = (
        "import sys, torch, georecon.stages.finetune, georecon.training.loop\n"
        "from georecon.graph import MolGraph\n"
        "from georecon.stages.smoothness import spectral_norms\n"
        "from georecon.training.optimizer import AdamW\n"
        "p = torch.nn.Parameter(torch.ones(2)); o = AdamW([p], 0.0)\n"
        "p.sum().backward(); o.step(o.gradient(), 0.1, 1)\n"
        "n = torch.arange(3); g = MolGraph(n, torch.eye(3), n, torch.arange(4), n)\n"
        "found = spectral_norms(lambda g: 2 * g.pos, g, iterations=2, seed=1)\n"
        "assert torch.allclose(found.norm, torch.tensor(2.0)), found\n"
        "assert 'torch._dynamo' not in sys.modules and 'sympy' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
