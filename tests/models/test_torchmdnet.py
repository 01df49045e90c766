"""The encoder against TorchMD-NET 3.1: same weights, same numbers.

``tests/golden/torchmdnet_et.json`` holds what torchmd-net 3.1.0 (float64) gave for the weights and
the molecule that the formulas below give; ``torchmdnet_molecules.json`` the same for molecules of
QM9 and MD17. It also runs against an installed torchmd-net, where there is one.
"""

import argparse
import json
import re
import sys
import types
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch

from georecon.errors import CheckpointError
from georecon.graph import make_graph
from georecon.models.encoder_file import load_encoder, save_encoder
from georecon.models.torchmdnet import from_lightning, from_torchmdnet, to_torchmdnet
from tests import torchmdnet_peer as peer
from tests.torchmdnet_peer import formula_state, make_encoder

GOLDEN = json.loads((Path(__file__).parents[1] / "golden" / "torchmdnet_et.json").read_text())
MOLECULES = json.loads((Path(__file__).parents[1] / "golden/torchmdnet_molecules.json").read_text())
LIMITS = {
    torch.float64: {"x": 1e-10, "vec": 1e-10, "forces": 1e-9},
    torch.float32: {"x": 1e-5, "vec": 1e-5, "forces": 1e-5},
}


def MOLECULE():
    """Methanol, roughly, stretched so that some pairs lie beyond the cutoff of 5 Å."""
    z = torch.tensor([6, 8, 1, 1, 1, 1])
    pos = torch.tensor(
        [[0.0, 0.0, 0.0], [1.4, 0.1, 0.0], [-0.4, 1.0, 0.1], [-0.4, -0.5, 0.9], [-0.4, -0.6, -0.8],
         [4.9, 1.1, 0.3]], dtype=torch.float64,
    )  # fmt: skip
    return z, pos


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


def test_there_and_back_with_the_whitened_norm_of_pvd():
    encoder, copy = (make_encoder(vector_norm="whitened") for _ in range(2))
    with torch.no_grad():
        encoder.vec_norm.weight.mul_(torch.linspace(1, 2, 8))
    state = to_torchmdnet(encoder)
    assert torch.equal(state["out_norm_vec.weight"], encoder.vec_norm.weight)
    from_torchmdnet(state, copy)
    for name, tensor in encoder.state_dict().items():
        assert torch.equal(tensor, copy.state_dict()[name]), name


def test_a_whitened_encoder_takes_plain_weights_and_keeps_its_norm():
    encoder = make_encoder(vector_norm="whitened")
    before = encoder.vec_norm.weight.clone()
    from_torchmdnet(to_torchmdnet(make_encoder()), encoder)
    assert torch.equal(encoder.vec_norm.weight, before)
    with pytest.raises(CheckpointError, match=r"'vec_norm.weight' of the state dict is unknown"):
        from_torchmdnet(to_torchmdnet(encoder), make_encoder())


@pytest.mark.parametrize("tensor", ["distance_expansion.means", "distance_expansion.betas"])
def test_another_radial_basis_is_refused(tensor):
    encoder = make_encoder()
    basis = dict(encoder.named_buffers())[tensor]
    state = to_torchmdnet(encoder) | {tensor: basis.clone()}
    from_torchmdnet(state, encoder)
    with pytest.raises(CheckpointError, match=rf"{tensor}.* cutoff 5.0"):
        from_torchmdnet(state | {tensor: basis * 1.01}, encoder)
    with pytest.raises(CheckpointError, match=rf"{tensor}.*\(5,\).*\(6,\)"):
        from_torchmdnet(state | {tensor: basis[:5]}, encoder)


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


# ---- real molecules --------------------------------------------------------------------------


@pytest.fixture(scope="module", params=["qm9", "md17"])
def molecules(request):
    if request.param == "qm9":
        return peer.qm9_molecules()
    return peer.md17_frames(request.getfixturevalue("mirror"))


def assert_equal_outputs(found, expected, dtype):
    for name, tensor in zip(("x", "vec", "forces"), found, strict=True):
        theirs = torch.as_tensor(expected[name], dtype=torch.float64)
        error = (tensor.double() - theirs).abs().max() / theirs.abs().max()
        assert error <= LIMITS[dtype][name], f"{name}: {error:.1e}"


def formula_encoder(dtype, vector_cutoff):
    encoder = make_encoder(vector_cutoff=vector_cutoff)
    from_torchmdnet(formula_state(torchmdnet_shapes(encoder)), encoder)
    return encoder.to(dtype)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=["f32", "f64"])
@pytest.mark.parametrize("smooth", [False, True])
def test_real_molecules_have_torchmdnets_features_and_forces(molecules, smooth, dtype):
    encoder = formula_encoder(dtype, smooth)
    for name, (z, pos) in molecules.items():
        golden = MOLECULES[f"{name} vector_cutoff={smooth}"]
        found = peer.our_outputs(encoder, z, pos.to(dtype))
        assert_equal_outputs(found, golden, dtype)
        with pytest.raises(AssertionError):  # the twin: the other setting of the cutoff
            assert_equal_outputs(found, MOLECULES[f"{name} vector_cutoff={not smooth}"], dtype)


@pytest.mark.skipif(find_spec("torchmdnet") is None, reason="torchmd-net is not installed")
@pytest.mark.filterwarnings("ignore")  # of the peer and its libraries
@pytest.mark.parametrize("smooth", [False, True])
def test_stored_numbers_are_those_of_the_installed_torchmdnet(molecules, smooth):
    for name, (z, pos) in molecules.items():
        theirs = peer.peer_outputs(z, pos, vector_cutoff=smooth)
        assert_equal_outputs(theirs, MOLECULES[f"{name} vector_cutoff={smooth}"], torch.float64)


# ---- PVD's Lightning checkpoints -------------------------------------------------------------


class ModelCheckpoint:
    """Stands for Lightning's class, which old checkpoints name as a key."""


ModelCheckpoint.__module__ = "pytorch_lightning.callbacks.model_checkpoint"

OPTIONS = {
    "model": "equivariant-transformer", "rbf_type": "expnorm", "activation": "silu",
    "attn_activation": "silu", "neighbor_embedding": True, "distance_influence": "both",
    "embedding_dimension": 8, "num_layers": 2, "num_heads": 2, "num_rbf": 6, "cutoff_lower": 0.0,
    "cutoff_upper": 5.0, "max_z": 100, "max_num_neighbors": 32, "layernorm_on_vec": "whitened",
    "output_model": "Scalar", "output_model_noise": "VectorOutput", "derivative": False,
    "position_noise_scale": 0.04, "denoising_only": True, "prior_model": None, "lr": 4e-4,
}  # fmt: skip


def lightning_content(encoder, **options):
    """What pytorch-lightning 1.3 saves of PVD's model."""
    basis = {n: b for n, b in encoder.named_buffers() if n.startswith("distance_expansion")}
    state = {
        f"model.representation_model.{name}": tensor.float()
        for name, tensor in (to_torchmdnet(encoder) | basis).items()
    }
    others = {
        "model.mean": torch.tensor(0.0),
        "model.std": torch.tensor(1.0),
        "model.output_model.output_network.0.vec1_proj.weight": torch.zeros(8, 8),
        "model.output_model_noise.output_network.1.vec2_proj.weight": torch.zeros(1, 4),
        "model.pos_normalizer.acc_sum": torch.zeros(3),
        "model.pos_normalizer.acc_count": torch.zeros(1),
    }
    return {
        "epoch": 8,
        "global_step": 400000,
        "pytorch-lightning_version": "1.3.8",
        "state_dict": state | others,
        "callbacks": {ModelCheckpoint: {"best_model_score": torch.tensor(0.1), "dirpath": "x"}},
        "optimizer_states": [{"state": {0: {"step": 3}}, "param_groups": [{"lr": 1e-4}]}],
        "lr_schedulers": [{"last_epoch": 3}],
        "hparams_name": "hparams",
        "hyper_parameters": OPTIONS | options,
    }, list(others)


@pytest.fixture
def lightning(tmp_path, monkeypatch):
    """Writes a checkpoint whose callbacks are keyed by a class of a module that is not there."""

    def write(content):
        names = ["pytorch_lightning", "pytorch_lightning.callbacks", ModelCheckpoint.__module__]
        with monkeypatch.context() as patch:
            for name in names:
                patch.setitem(sys.modules, name, types.ModuleType(name))
            sys.modules[names[-1]].ModelCheckpoint = ModelCheckpoint
            torch.save(content, tmp_path / "denoised.ckpt")
        return tmp_path / "denoised.ckpt"

    return write


@pytest.mark.parametrize("norm", ["whitened", "none"])
def test_a_lightning_checkpoint_of_pvd_becomes_an_encoder(lightning, norm, tmp_path):
    encoder = make_encoder(vector_norm=norm)
    content, others = lightning_content(encoder)
    found, dropped = from_lightning(lightning(content))
    assert found.settings == encoder.settings, "sizes come from the file"
    assert dropped == others
    for name, tensor in encoder.float().state_dict().items():
        assert torch.equal(tensor, found.state_dict()[name]), name
    save_encoder(tmp_path / "encoder.safetensors", found, method="coord")
    load_encoder(tmp_path / "encoder.safetensors", make_encoder(vector_norm=norm).float())


class Payload:
    def __init__(self, call, *arguments):
        self.call, self.arguments = call, arguments

    def __reduce__(self):
        return self.call, self.arguments


@pytest.mark.parametrize("place", ["state_dict", "callbacks", "hyper_parameters"])
def test_a_checkpoint_that_runs_code_is_refused_and_does_not_run(lightning, place, tmp_path):
    marker = tmp_path / "marker"
    for payload in (
        Payload(Path.touch, marker),
        Payload(eval, f"open({str(marker)!r}, 'w')"),
        Payload(getattr, Payload(__import__, "os"), "getcwd"),
    ):
        content, _ = lightning_content(make_encoder())
        content[place]["extra"] = payload
        path = lightning(content)
        with pytest.raises(CheckpointError, match=r"denoised\.ckpt: refers to code"):
            from_lightning(path)
        assert not marker.exists()


def test_the_payload_is_live(tmp_path):
    """The twin: what the refusal keeps from running."""
    torch.save(Payload(Path.touch, tmp_path / "marker"), tmp_path / "file.ckpt")
    torch.load(tmp_path / "file.ckpt", weights_only=False)
    assert (tmp_path / "marker").exists()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"cutoff_upper": 6.0}, "'distance_expansion.means' is not that of .* cutoff 6.0"),
        ({"num_heads": 3}, "multiple of heads"),
        ({"rbf_type": "gauss"}, "hyper-parameter rbf_type is 'gauss'; needed: 'expnorm'"),
        ({"distance_influence": "keys"}, "distance_influence is 'keys'"),
        ({"hyper": argparse.Namespace(a=1)}, "refers to code.*argparse.Namespace"),
    ],
)
def test_lightning_options_our_encoder_does_not_have_are_refused(lightning, change, message):
    content, _ = lightning_content(make_encoder(), **change)
    with pytest.raises(CheckpointError, match=message):
        from_lightning(lightning(content))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda c: c.pop("state_dict"), "not the layout of a PVD checkpoint.*state_dict"),
        (lambda c: c.update(hyper_parameters=None), "not the layout"),
        (lambda c: c["state_dict"].pop("model.representation_model.out_norm.bias"),
         "'out_norm.bias' is missing"),
        (lambda c: c["state_dict"].update(
            {"model.representation_model.attention_layers.1.dk_proj.weight": torch.zeros(8, 7)}),
         r"'attention_layers.1.dk_proj.weight' is \(8, 7\), the encoder needs \(8, 6\)"),
    ],
)  # fmt: skip
def test_another_lightning_layout_is_refused_by_its_first_tensor(lightning, change, message):
    content, _ = lightning_content(make_encoder())
    change(content)
    with pytest.raises(CheckpointError, match=message):
        from_lightning(lightning(content))


@pytest.mark.parametrize("damage", ["missing", "empty", "text", "cut"])
def test_a_damaged_lightning_file_is_refused(lightning, damage):
    path = lightning(lightning_content(make_encoder())[0])
    whole = path.read_bytes()
    path.unlink()
    if damage != "missing":
        content = {"empty": b"", "text": b"hello\n" * 40, "cut": whole[: len(whole) // 2]}[damage]
        path.write_bytes(content)
    with pytest.raises(CheckpointError, match=re.escape(str(path))):
        from_lightning(path)
