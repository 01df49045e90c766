"""Molecules to PyTorch Geometric and back, and what the encoder makes of PyG's."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch_geometric.data import Batch, Data

from georecon.data.molecules import Molecules
from georecon.data.pyg import from_pyg, graph_of_pyg, to_pyg
from georecon.errors import DataError
from georecon.models.encoder import EncoderSettings, EquivariantTransformer
from tests.toy_graphs import batch, random_molecule

SIZES = (9, 1, 12)


def molecules() -> Molecules:
    parts = [random_molecule(size, seed) for seed, size in enumerate(SIZES)]
    rng = np.random.default_rng(0)
    return Molecules.from_list(
        [21, 4, 133885],
        [z for z, _ in parts],
        [pos for _, pos in parts],
        {"homo": rng.normal(size=3), "mu": rng.normal(size=3)},
        [rng.normal(size=(size, 3)) for size in SIZES],
    )


def assert_equal(first: Molecules, second: Molecules) -> None:
    for name in ("ids", "z", "pos", "offsets", "forces"):
        a, b = getattr(first, name), getattr(second, name)
        np.testing.assert_array_equal(a, b)
        assert a.dtype == b.dtype
    assert first.labels.keys() == second.labels.keys()
    for name, values in first.labels.items():
        np.testing.assert_array_equal(values, second.labels[name])


def test_round_trip_keeps_every_bit() -> None:
    given = molecules()
    assert_equal(given, from_pyg(to_pyg(given), ["homo", "mu"]))
    joined = Batch.from_data_list(to_pyg(given))
    assert_equal(given, from_pyg(joined.to_data_list(), ["homo", "mu"]))


def test_a_lost_digit_is_noticed() -> None:
    """The twin: a round trip through other units must not pass for the same."""
    given = molecules()
    other = replace(given, pos=(given.pos / np.float32(0.529177) * np.float32(0.529177)))
    with pytest.raises(AssertionError):
        assert_equal(given, from_pyg(to_pyg(other), ["homo", "mu"]))


def encoder() -> EquivariantTransformer:
    torch.manual_seed(0)
    settings = EncoderSettings(channels=16, layers=2, heads=4, rbf=8)
    return EquivariantTransformer(settings).double()


def as_in_pygs_qm9(size: int, seed: int) -> Data:
    """A molecule with everything that PyG's QM9 gives one, of which only z, pos, idx count."""
    z, pos = random_molecule(size, seed)
    return Data(
        x=torch.ones(size, 11),
        z=torch.as_tensor(z),
        pos=torch.as_tensor(pos),
        edge_index=torch.zeros(2, 4, dtype=torch.int64),
        edge_attr=torch.zeros(4, 4),
        y=torch.zeros(1, 19),
        smiles="C",
        name=f"gdb_{seed}",
        idx=seed,
    )


def test_encoder_gives_the_same_for_pygs_molecules() -> None:
    ours = batch([random_molecule(size, seed) for seed, size in enumerate(SIZES)])
    theirs = Batch.from_data_list([as_in_pygs_qm9(n, seed) for seed, n in enumerate(SIZES)])
    graph = graph_of_pyg(theirs)
    assert all(torch.equal(a, b) for a, b in zip(graph.tensors, ours.tensors, strict=True))
    model = encoder()
    for wanted, found in zip(model(ours), model(graph), strict=True):
        assert torch.equal(wanted, found)
    alone = graph_of_pyg(as_in_pygs_qm9(SIZES[0], 0))
    torch.testing.assert_close(model(alone)[0], model(ours)[0][: SIZES[0]])


def test_forces_flow_to_pygs_positions() -> None:
    data = as_in_pygs_qm9(9, 0)
    data.pos.requires_grad_()
    encoder()(graph_of_pyg(data))[0].square().sum().backward()
    assert data.pos.grad is not None
    assert data.pos.grad.abs().max() > 0


def test_without_idx_molecules_are_counted() -> None:
    data = [Data(z=torch.tensor([1]), pos=torch.zeros(1, 3)) for _ in range(2)]
    assert from_pyg(data).ids.tolist() == [0, 1]
    assert graph_of_pyg(Batch.from_data_list(data)).ids.tolist() == [0, 1]


ONE = torch.zeros(1, 3)


@pytest.mark.parametrize(
    ("data", "what"),
    [
        (Data(pos=ONE), "0.*z is missing"),
        (Data(z=torch.tensor([6]), idx=7), "7.*pos is missing"),
        (Data(z=torch.tensor([6, 1]), pos=ONE), r"pos has shape \(1, 3\), expected \(2, 3\)"),
        (Data(z=torch.tensor([257]), pos=ONE), "Z = 257"),
        (Data(z=torch.tensor([6]), pos=ONE * torch.nan), "NaN"),
        (Data(z=torch.tensor([6]), pos=ONE, mu=torch.zeros(2)), r"label mu has shape \(2,\)"),
        (Data(z=torch.tensor([6]), pos=ONE), "mu is missing"),
    ],
)
def test_what_no_store_could_hold_is_refused(data: Data, what: str) -> None:
    with pytest.raises(DataError, match=what):
        from_pyg([data], ["mu"] if "mu" in what else [])


def test_forces_of_some_molecules_are_refused() -> None:
    some = to_pyg(molecules())
    del some[1].force
    with pytest.raises(DataError, match="2 of 3 molecules have force"):
        from_pyg(some)


@pytest.mark.parametrize("name", ["pos", "num_nodes", "to"])
def test_a_label_may_not_hide_an_attribute(name: str) -> None:
    given = replace(molecules(), labels={name: np.zeros(3)})
    with pytest.raises(DataError, match=f"'{name}' has the name of an attribute"):
        to_pyg(given)
