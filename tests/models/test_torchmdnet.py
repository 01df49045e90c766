"""The encoder against TorchMD-NET 3.1: same weights, same numbers.

``tests/golden/torchmdnet_et.json`` holds what torchmd-net 3.1.0 (float64) gave for the weights and
the molecule that the formulas below give; ``torchmdnet_molecules.json`` the same for molecules of
QM9 and MD17. It also runs against an installed torchmd-net, where there is one.
"""

import argparse
import datetime
import json
import re
import sys
import types
from collections import defaultdict
from importlib.util import find_spec
from pathlib import Path, PurePosixPath

import numpy as np
import pytest
import torch

from georecon.errors import CheckpointError
from georecon.graph import make_graph
from georecon.models.encoder import EncoderSettings
from georecon.models.encoder_file import load_encoder, save_encoder
from georecon.models.stand_ins import read_checkpoint
from georecon.models.torchmdnet import from_lightning, from_torchmdnet, to_torchmdnet
from georecon.models.torchmdnet_options import FIXED, OTHER, READ
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
    norm = "whitened" if encoder.settings.vector_norm == "whitened" else None
    return {
        "epoch": 8,
        "global_step": 400000,
        "pytorch-lightning_version": "1.3.8",
        "state_dict": state | others,
        "callbacks": {ModelCheckpoint: {"best_model_score": torch.tensor(0.1), "dirpath": "x"}},
        "optimizer_states": [{"state": {0: {"step": 3}}, "param_groups": [{"lr": 1e-4}]}],
        "lr_schedulers": [{"last_epoch": 3}],
        "hparams_name": "hparams",
        "hyper_parameters": OPTIONS | {"layernorm_on_vec": norm} | options,
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
            sys.modules[names[-1]].AttributeDict = AttributeDict
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
        ({"hyper": argparse.Namespace(a=1)}, "hyper-parameter 'hyper' .* is unknown"),
        ({"distance_influence": "none"}, "distance_influence is 'none'; needed: 'both'"),
        ({"attn_activation": "tanh"}, "attn_activation is 'tanh'; needed: 'silu'"),
        ({"neighbor_embedding": 1}, "neighbor_embedding is 1; needed: True"),
        ({"atom_filter": 1}, "atom_filter is 1; needed: -1 or None"),
        ({"aggr": "mean"}, "aggr is 'mean'; needed: 'add'"),
        ({"box_vecs": [1.0]}, r"box_vecs is \[1.0\]; needed: None"),
        ({"cutoff_lower": 0.5}, "cutoff_lower is 0.5; needed: 0"),
        ({"layernorm_on_vec": "max_min"}, "layernorm_on_vec is 'max_min'"),
        ({"layernorm_on_vec": "whitened"}, "layernorm_on_vec is 'whitened', but the file lacks"),
        ({"vector_cutoff": "yes"}, "vector_cutoff is 'yes'; needed: True or False"),
        ({"vector_cutoff": 1}, "vector_cutoff is 1; needed: True or False"),
        ({"num_heads": 2.5}, "num_heads is 2.5; needed: a whole number"),
        ({"max_num_neighbors": None}, "max_num_neighbors is None"),
        ({"num_layers": 3}, "num_layers is 3, the tensors have 2"),
        ({"embedding_dimension": 16}, "embedding_dimension is 16, the tensors have 8"),
        ({"smoothing": 0.1}, "'smoothing' .* is unknown"),
    ],
)
def test_lightning_options_our_encoder_does_not_have_are_refused(lightning, change, message):
    content, _ = lightning_content(make_encoder(), **change)
    with pytest.raises(CheckpointError, match=message):
        from_lightning(lightning(content))


@pytest.mark.parametrize("name", ["num_heads", "cutoff_upper", "max_num_neighbors", "max_z"])
def test_an_option_that_is_not_there_is_not_guessed(lightning, name):
    content, _ = lightning_content(make_encoder())
    del content["hyper_parameters"][name]
    with pytest.raises(CheckpointError, match=f"hyper-parameter {name} is missing"):
        from_lightning(lightning(content))


def test_vector_cutoff_of_the_file_is_the_encoders(lightning):
    """It changes the vectors and stands in no tensor."""
    z, pos = MOLECULE()
    graph = make_graph(z, pos.float(), torch.tensor([len(z)]), torch.tensor([0]))
    vectors = {}
    for smooth in (True, False):
        encoder = make_encoder(vector_cutoff=smooth)
        from_torchmdnet(formula_state(torchmdnet_shapes(encoder)), encoder)
        content, _ = lightning_content(encoder, vector_cutoff=smooth)
        found = from_lightning(lightning(content)).encoder
        assert found.settings.vector_cutoff is smooth
        vectors[smooth] = found(graph)[1]
        assert torch.equal(vectors[smooth], encoder.float()(graph)[1])
    assert (vectors[True] - vectors[False]).abs().max() > 0.01 * vectors[True].abs().max()


def test_a_state_dict_with_its_options_is_compared_with_the_encoder():
    encoder = make_encoder(vector_cutoff=True)
    state = to_torchmdnet(encoder)
    options = OPTIONS | {"layernorm_on_vec": None, "vector_cutoff": True}
    from_torchmdnet(state, make_encoder(vector_cutoff=True), options)
    for change, message in (
        ({"vector_cutoff": False}, "vector_cutoff is False, the encoder has True"),
        ({"cutoff_upper": 6.0}, "cutoff_upper is 6.0, the encoder has 5.0"),
        ({"num_heads": 4}, "num_heads is 4, the encoder has 2"),
        ({"max_num_neighbors": 64}, "max_num_neighbors is 64, the encoder has 32"),
        ({"activation": "ssp"}, "activation is 'ssp'"),
        ({"who_knows": 1}, "'who_knows' .* is unknown"),
    ):
        with pytest.raises(CheckpointError, match=message):
            from_torchmdnet(state, make_encoder(vector_cutoff=True), options | change)
    del options["vector_cutoff"]  # as older programs do
    with pytest.raises(CheckpointError, match="vector_cutoff is False"):
        from_torchmdnet(state, make_encoder(vector_cutoff=True), options)


def test_every_option_is_in_one_table():
    tables = [set(READ), set(FIXED), set(OTHER), {"layernorm_on_vec"}]
    assert sum(map(len, tables)) == len(set().union(*tables))
    assert set(OPTIONS) <= set().union(*tables)
    assert {option.setting for option in READ.values()} | {"vector_norm"} == set(
        EncoderSettings.__slots__
    )


class AttributeDict(dict):
    """Stands for Lightning's class of hyper-parameters."""


AttributeDict.__module__ = ModelCheckpoint.__module__


def harmless():
    return {
        "numpy float": np.float64(5.0),
        "numpy ints": [np.int32(3), np.uint8(7), np.bool_(True), np.float32(0.1)],
        "array": np.arange(3),
        "paths": {Path("/tmp/x"): PurePosixPath("a/b")},
        "namespaces": [argparse.Namespace(a=1, b=[2]), types.SimpleNamespace(c=3)],
        "defaultdicts": [defaultdict(list, a=[1]), defaultdict(int)],
        "time": datetime.timedelta(hours=1),
    }


@pytest.mark.parametrize("name", [*harmless(), "lightning dict"])
def test_harmless_objects_become_stand_ins(lightning, name):
    content, _ = lightning_content(make_encoder())
    content["extra"] = harmless().get(name)
    if name == "lightning dict":
        content["hyper_parameters"] = AttributeDict(content["hyper_parameters"])
    assert from_lightning(lightning(content)).encoder.settings == make_encoder().settings


def test_what_other_packages_allow_is_not_built(lightning):
    """PyTorch Geometric tells torch to build these; beside stand-ins they would not be whole."""
    content, _ = lightning_content(make_encoder())
    content["extra"] = harmless()["defaultdicts"]
    path, before = lightning(content), torch.serialization.get_safe_globals()
    try:
        torch.serialization.add_safe_globals([defaultdict, list, dict])
        allowed = torch.serialization.get_safe_globals()
        assert from_lightning(path).encoder.settings == make_encoder().settings
        assert set(torch.serialization.get_safe_globals()) == set(allowed)
    finally:  # as it was: another test may have imported PyTorch Geometric
        torch.serialization.clear_safe_globals()
        torch.serialization.add_safe_globals(before)


def test_options_may_be_a_namespace_of_numpy_scalars(lightning):
    content, _ = lightning_content(make_encoder(), cutoff_upper=np.float64(5.0))
    options = {**content["hyper_parameters"], "num_heads": np.int64(2)}
    options["vector_cutoff"] = np.bool_(True)
    content["hyper_parameters"] = argparse.Namespace(**options)
    settings = from_lightning(lightning(content)).encoder.settings
    assert settings == make_encoder(vector_cutoff=True).settings


@pytest.mark.parametrize(
    "value", [np.float64(0.1), np.float32(0.1), np.int8(-3), np.uint16(60000), np.bool_(False),
              np.dtype(">f8").type(2.5)],
)  # fmt: skip
def test_numpy_scalars_keep_their_value(tmp_path, value):
    torch.save({"value": value}, tmp_path / "a.ckpt")
    found = read_checkpoint(tmp_path / "a.ckpt")["value"]
    assert type(found) in (int, float, bool)
    assert found == value.item()


def test_the_old_format_of_torch_is_refused_with_advice(lightning, tmp_path):
    content, _ = lightning_content(make_encoder())
    path = lightning(content)
    content["callbacks"] = {}
    torch.save(content, path, _use_new_zipfile_serialization=False)
    with pytest.raises(CheckpointError, match=r"denoised\.ckpt: .*before 1\.6.*torch\.save"):
        from_lightning(path)


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
