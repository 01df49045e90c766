"""The encoder against TorchMD-NET 3.1: same weights, same numbers.

``tests/golden/torchmdnet_et.json`` holds what torchmd-net 3.1.0 (float64) gave for the weights and
the molecule that the formulas below give. It also runs against an installed torchmd-net, where
there is one.
"""

import json
from pathlib import Path

import pytest
import torch

from georecon.errors import CheckpointError
from georecon.graph import make_graph
from georecon.interop import from_torchmdnet, to_torchmdnet
from georecon.models.encoder import EncoderSettings, EquivariantTransformer

SIZES = {"channels": 8, "layers": 2, "rbf": 6, "heads": 2}
GOLDEN = json.loads((Path(__file__).parent / "golden" / "torchmdnet_et.json").read_text())


def formula_state(shapes):
    """Weights that anybody can write down again: sin(0.7 + 0.37 k) / 2 along each tensor."""
    state = {}
    for name, shape in shapes.items():
        k = torch.arange(torch.Size(shape).numel(), dtype=torch.float64)
        values = torch.sin(0.7 + 0.37 * k) * 0.5
        state[name] = (values + (name.endswith("norm.weight"))).reshape(shape)
    return state


def MOLECULE():
    """Methanol, roughly, stretched so that some pairs lie beyond the cutoff of 5 Å."""
    z = torch.tensor([6, 8, 1, 1, 1, 1])
    pos = torch.tensor(
        [[0.0, 0.0, 0.0], [1.4, 0.1, 0.0], [-0.4, 1.0, 0.1], [-0.4, -0.5, 0.9], [-0.4, -0.6, -0.8],
         [4.9, 1.1, 0.3]], dtype=torch.float64,
    )  # fmt: skip
    return z, pos


def make_encoder(**options):
    settings = EncoderSettings(**SIZES, **{"vector_norm": "none", **options})
    return EquivariantTransformer(settings).double()


def torchmdnet_shapes(encoder):
    return {name: tensor.shape for name, tensor in encoder.state_dict().items()}


@pytest.mark.parametrize("vector_cutoff", [False, True])
def test_features_and_gradients_equal_torchmdnet(vector_cutoff):
    encoder = make_encoder(vector_cutoff=vector_cutoff)
    from_torchmdnet(formula_state(torchmdnet_shapes(encoder)), encoder)
    z, pos = MOLECULE()
    graph = make_graph(z, pos, torch.tensor([len(z)]), torch.tensor([0]))
    pos = graph.pos.requires_grad_(True)
    x, vec = encoder(graph._replace(pos=pos))
    (gradient,) = torch.autograd.grad(x.square().sum() + vec.sum(1).square().sum(), pos)
    golden = GOLDEN[f"vector_cutoff={vector_cutoff}"]
    for name, ours in (("x", x), ("vec", vec), ("gradient", gradient)):
        theirs = torch.tensor(golden[name], dtype=torch.float64)
        assert (ours - theirs).abs().max() <= 1e-10 * theirs.abs().max(), name


def test_unswapped_weights_are_noticed():
    """The twin: loading without the row order of TorchMD-NET gives other numbers."""
    encoder = make_encoder()
    encoder.load_state_dict(formula_state(torchmdnet_shapes(encoder)))
    z, pos = MOLECULE()
    x, _ = encoder(make_graph(z, pos, torch.tensor([len(z)]), torch.tensor([0])))
    theirs = torch.tensor(GOLDEN["vector_cutoff=False"]["x"], dtype=torch.float64)
    assert (x - theirs).abs().max() > 1e-3


def test_there_and_back_is_the_same_bits():
    encoder = make_encoder()
    copy = make_encoder()
    from_torchmdnet(to_torchmdnet(encoder), copy)
    for name, tensor in encoder.state_dict().items():
        assert torch.equal(tensor, copy.state_dict()[name]), name


def test_a_whitened_encoder_takes_weights_and_keeps_its_norm():
    encoder = make_encoder(vector_norm="whitened")
    before = encoder.vec_norm.weight.clone()
    from_torchmdnet(to_torchmdnet(make_encoder()), encoder)
    assert torch.equal(encoder.vec_norm.weight, before)
    with pytest.raises(CheckpointError, match="whitened"):
        to_torchmdnet(encoder)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda s: s.pop("out_norm.weight"), "'out_norm.weight' is missing"),
        (lambda s: s.update(surplus=torch.zeros(1)), "'surplus' of the state dict is unknown"),
        (lambda s: s.update({"embedding.weight": torch.zeros(3, 8)}), r"\(3, 8\).*\(100, 8\)"),
    ],
)
def test_another_layout_is_refused_by_its_first_tensor(change, message):
    state = to_torchmdnet(make_encoder())
    change(state)
    with pytest.raises(CheckpointError, match=message):
        from_torchmdnet(state, make_encoder())
