"""Symmetries of Uni-Mol's encoder and of each of its heads, and twins with one fault each.

The limits are those of the equivariant transformer (tests/models/checks.py).
"""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from georecon.models.unimol import pairs
from georecon.models.unimol.dense import Dense
from georecon.models.unimol.heads import CoordinateHead
from tests.models import checks
from tests.models.subjects import Subject
from tests.models.symmetries import GRAPH, Check, Symmetries, every_dtype, every_fault, rejects
from tests.models.unimol.subjects import HEADS, Model, subject
from tests.toy_graphs import batch, random_batch, random_molecule

every_model = pytest.mark.parametrize(
    ("head", "trained"), [(head, trained) for head in HEADS for trained in (False, True)]
)


@pytest.fixture
def model(head: str, trained: bool, dtype: torch.dtype) -> Model:
    return subject(head, dtype, trained=trained)


@every_dtype
@every_model
class TestSymmetries(Symmetries):
    uneven = (9, 15, 4)  # padded to the largest


@every_dtype
@pytest.mark.parametrize("head", HEADS)
@pytest.mark.parametrize("sizes", [(1,), (1, 3), (2, 1, 9)])
def test_single_atoms_have_finite_outputs_and_derivatives(
    head: str, sizes: tuple[int, ...], dtype: torch.dtype
) -> None:
    checks.finite_to_second_order(subject(head, dtype), random_batch(4, dtype, sizes=sizes))


def test_coincident_and_far_atoms_are_finite() -> None:
    z, pos = random_molecule(6, 1)
    pos[1] = pos[0]
    pos[5] += 200.0
    checks.finite_to_second_order(subject("encoder", torch.float32), batch([(z, pos)]).to(
        "cpu", torch.float32))  # fmt: skip


@pytest.mark.parametrize("head", HEADS)
@every_fault
def test_check_rejects_a_broken_model(
    head: str, fault: Callable[[Subject], Subject], check: Check, words: str
) -> None:
    rejects(subject(head), fault, check, words)


@pytest.fixture
def open_places(monkeypatch: pytest.MonkeyPatch) -> None:
    """A fault of its own: places without an atom are attended to."""
    monkeypatch.setattr(pairs, "_EMPTY", 0.0)


@pytest.mark.usefixtures("open_places")
@pytest.mark.parametrize("head", HEADS)
def test_open_padding_would_be_noticed(head: str) -> None:
    checks.batched(subject(head), random_batch(3, sizes=(9, 9)))  # nothing is padded
    with pytest.raises(AssertionError, match="batched"):
        checks.batched(subject(head), random_batch(3, sizes=(9, 15)))


def test_weights_on_positions_themselves_would_be_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    """A coordinate head that moves atoms along their positions, not along lines to partners."""
    plain = CoordinateHead.forward
    monkeypatch.setattr(
        CoordinateHead,
        "forward",
        lambda self, passed, graph, atoms: plain(self, passed, graph, atoms) + 1e-3 * graph.pos,
    )
    checks.turn(subject("coordinate"), GRAPH, 1, reflect=False)
    with pytest.raises(AssertionError, match="translation"):
        checks.translate(subject("coordinate"), GRAPH)


def test_ordered_pairs_of_elements_have_kernels_of_their_own() -> None:
    """C to H is another pair than H to C [U]; both directions meet in the distance head."""
    model = subject("distance")
    graph = random_batch(1, sizes=(8,))
    passed = model.encoder.pass_through(graph)
    assert not torch.allclose(passed.pairs, passed.pairs.transpose(1, 2))
    atoms = torch.arange(8)
    found = model.head(passed, atoms)
    assert torch.allclose(found, found.T)


def test_the_first_pairs_are_the_equation() -> None:
    """Kernels, one by one, in plain operations: height, exponent and both layers."""
    kernels, graph = subject("encoder").encoder.kernels, random_batch(2, sizes=(5, 7))
    dense = Dense.of(graph)
    found = kernels(graph, dense)
    width = kernels.widths.abs() + 1e-5
    for molecule, i, j in ((0, 1, 3), (1, 0, 6), (1, 2, 2)):
        a, b = (int(graph.ptr[molecule]) + k for k in (i, j))
        distance = (graph.pos[a] - graph.pos[b]).norm()
        factor, shift = kernels.affine.weight[graph.z[a] * 20 + graph.z[b]]
        exponent = -0.5 * ((factor * distance + shift - kernels.means) / width) ** 2
        values = exponent.exp() / ((2 * torch.pi) ** 0.5 * width)
        expected = kernels.second(torch.nn.functional.gelu(kernels.first(values)))
        assert torch.allclose(found[molecule, :, i, j], expected, rtol=1e-6, atol=1e-6)


def test_logits_of_a_layer_are_the_pairs_of_the_next() -> None:
    """The change over two layers is the sum of both layers' products, in plain operations."""
    encoder, graph = subject("encoder").encoder, random_batch(5, sizes=(7,))
    passed = encoder.pass_through(graph)
    x, sums = encoder.input_norm(encoder.embedding(graph.z)), torch.zeros(4, 7, 7).double()
    first = encoder.kernels(graph, Dense.of(graph))[0]
    for layer in encoder.layers:
        qkv = layer.qkv(layer.attention_norm(x)).view(7, 3, 4, 4)
        query, key, value = qkv.permute(1, 2, 0, 3)  # (heads, atoms, width)
        sums = sums + query @ key.mT / 2.0  # the root of the width
        mixed = (first + sums).softmax(-1) @ value
        x = x + layer.out(mixed.transpose(0, 1).reshape(7, 16))
        x = x + layer.narrow(torch.nn.functional.gelu(layer.widen(layer.norm(x))))
    assert torch.allclose(passed.change[0].permute(2, 0, 1), sums, atol=1e-10)
    assert torch.allclose(passed.x, encoder.out_norm(x), atol=1e-10)
