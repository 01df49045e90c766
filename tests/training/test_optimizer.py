"""The flat AdamW against torch's over a list of parameters, and what smoothness must not import."""

import os
import subprocess
import sys

import pytest
import torch
from torch import nn

from georecon.training.optimizer import FlatAdamW


def train(optimizer_step, model, steps=range(1, 21)):
    for step in steps:
        model.zero_grad(set_to_none=True)
        x = torch.linspace(-1, 1, 12, dtype=torch.float64).reshape(4, 3) * step
        model(x).square().sum().backward()
        optimizer_step()


def models():
    torch.manual_seed(0)
    first = nn.Sequential(nn.Linear(3, 5), nn.SiLU(), nn.Linear(5, 1)).double()
    second = nn.Sequential(nn.Linear(3, 5), nn.SiLU(), nn.Linear(5, 1)).double()
    second.load_state_dict(first.state_dict())
    return first, second


def equal(first, second):
    pairs = zip(first.parameters(), second.parameters(), strict=True)
    return all(torch.allclose(a, b, rtol=1e-12, atol=1e-14) for a, b in pairs)


@pytest.mark.parametrize("weight_decay", [0.0, 0.1])
def test_equals_torch(weight_decay):
    ours, theirs = models()
    flat = FlatAdamW(list(ours.parameters()), weight_decay)
    listed = torch.optim.AdamW(theirs.parameters(), lr=0.01, weight_decay=weight_decay)
    train(lambda: flat.step(flat.gradient(), 0.01), ours)
    train(listed.step, theirs)
    assert equal(ours, theirs)


def test_another_step_size_is_noticed():
    """The twin: a step with another rate must not pass for the same."""
    ours, theirs = models()
    flat = FlatAdamW(list(ours.parameters()), 0.0)
    listed = torch.optim.AdamW(theirs.parameters(), lr=0.01, weight_decay=0.0)
    train(lambda: flat.step(flat.gradient(), 0.0101), ours)
    train(listed.step, theirs)
    assert not equal(ours, theirs)


@pytest.mark.parametrize(("forgotten", "same"), [(None, True), ("moments", False), ("step", False)])
def test_goes_on_after_a_restart(forgotten, same):
    """To the bit; the twins forget the moments or the number of steps."""
    whole, halved = models()
    flat = FlatAdamW(list(whole.parameters()), 0.1)
    train(lambda: flat.step(flat.gradient(), 0.01), whole)
    before = FlatAdamW(list(halved.parameters()), 0.1)
    train(lambda: before.step(before.gradient(), 0.01), halved, range(1, 11))
    state = {name: tensor.clone() for name, tensor in before.state().items()}
    if forgotten == "moments":
        state = {name: torch.zeros_like(tensor) for name, tensor in state.items()}
    after = FlatAdamW(list(halved.parameters()), 0.1)
    after.restore(state, 0 if forgotten == "step" else 10)
    train(lambda: after.step(after.gradient(), 0.01), halved, range(11, 21))
    pairs = zip(whole.parameters(), halved.parameters(), strict=True)
    assert all(torch.equal(a, b) for a, b in pairs) is same


def test_parameters_are_views_that_a_loaded_state_fills():
    ours, theirs = models()
    flat = FlatAdamW(list(ours.parameters()), 0.0)
    with torch.no_grad():
        for parameter in theirs.parameters():
            parameter.add_(1)
    ours.load_state_dict(theirs.state_dict())
    assert torch.equal(flat.flat, torch.cat([p.flatten() for p in theirs.parameters()]))


@pytest.mark.parametrize(("weight_decay", "left"), [(0.0, 1.0), (0.5, 0.95)])
def test_a_parameter_without_gradient_only_decays(weight_decay, left):
    used, unused = nn.Parameter(torch.ones(2)), nn.Parameter(torch.ones(2))
    flat = FlatAdamW([used, unused], weight_decay)
    used.sum().backward()
    flat.step(flat.gradient(), 0.1)
    assert torch.equal(unused, torch.full((2,), left))
    assert not torch.equal(used, torch.full((2,), left))


def test_smoothness_does_not_import_the_compiler():
    code = (
        "import sys, torch, georecon.stages.finetune\n"
        "from georecon.graph import MolGraph\n"
        "from georecon.stages.smoothness import spectral_norms\n"
        "n = torch.arange(3); g = MolGraph(n, torch.eye(3), n, torch.arange(4), n)\n"
        "found = spectral_norms(lambda g: 2 * g.pos, g, iterations=2, seed=1)\n"
        "assert torch.allclose(found.norm, torch.tensor(2.0)), found\n"
        "assert 'torch._dynamo' not in sys.modules and 'sympy' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_the_warm_process_pays_for_the_compiler_once_and_starts_no_thread():
    code = (
        "import os, sys\nfrom georecon.training.optimizer import preload\n"
        "before = dict(os.environ)\npreload()\nassert dict(os.environ) == before\n"
        "assert 'torch._dynamo' in sys.modules\n"
        "assert len(os.listdir('/proc/self/task')) == 1"
    )
    threads = {name: "1" for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")}
    subprocess.run([sys.executable, "-c", code], check=True, env={**os.environ, **threads})
