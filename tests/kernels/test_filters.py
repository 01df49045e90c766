"""The table of filters: bits that do not depend on threads or on the other nodes."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from georecon.kernels import native
from georecon.kernels.filters import Filters, Places, _grid_rows, grid_rows
from georecon.models import radial

pytestmark = pytest.mark.skipif(
    native.library() is None, reason="no C++ compiler, or GEORECON_KERNEL=reference"
)
ANYWHERE = Places(torch.zeros(1, dtype=torch.int64), torch.zeros(1))


def filters(rbf: Tensor) -> Filters:
    generator = torch.Generator().manual_seed(5)
    weight, bias = (torch.randn(shape, generator=generator) for shape in ((72, 32), (72,)))
    return Filters(rbf, weight.requires_grad_(True), bias.requires_grad_(True), ANYWHERE)


def test_rows_of_a_table_are_the_same_beside_any_others() -> None:
    """To the last bit. Steps over a gap, which no pair reads, are others."""
    rbf, *_ = radial._nodes(5.0, 32)
    kept = torch.cat([torch.arange(31, 100), torch.arange(105, 384)])
    rows, steps = filters(rbf).table()
    found, found_steps = filters(rbf[kept]).table()
    assert steps is not None
    assert found_steps is not None
    assert torch.equal(found, rows[kept])
    inside = kept.diff(prepend=kept[:1] - 2) == 1  # the row before is there
    assert torch.equal(found_steps[inside], steps[kept][inside])
    assert not torch.equal(found_steps, steps[kept])


def test_the_same_bits_with_any_number_of_threads() -> None:
    rbf, *_ = radial._nodes(5.0, 32)
    before, found = torch.get_num_threads(), []
    for threads in (1, 2, 3):
        torch.set_num_threads(threads)
        of = filters(rbf)
        rows, steps = of.table()
        gradients = torch.autograd.grad(rows.sin().sum(), (of.weight, of.bias))
        found.append((rows, steps, *gradients))
    torch.set_num_threads(before)
    for other in found[1:]:
        assert all(map(torch.equal, other, found[0]))


@pytest.mark.parametrize("pairs", [1, 3, 40, 2000])
def test_rows_that_pairs_read_are_those_of_torch_operations(pairs: int) -> None:
    generator = torch.Generator().manual_seed(2)
    node = 383 * torch.rand(pairs, generator=generator, dtype=torch.float64)
    node[0] = 383.0  # a self loop's
    found, expected = grid_rows(node, 384), _grid_rows(node, 384)
    assert all(map(torch.equal, found, expected))
    assert torch.equal(expected.kept[expected.row], expected.before.long())
    assert not torch.equal(grid_rows(node - 9, 384).before, expected.before), "a shifted twin"
