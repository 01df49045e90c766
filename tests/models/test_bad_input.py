"""Molecules that should not be: a finite result, or an error that names the molecule."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

from georecon import graph as graph_module
from georecon import objectives
from georecon.data.store import Store
from georecon.errors import CheckpointError, DataError
from georecon.experiments.settings import Recipe
from georecon.graph import MolGraph, check_graph, radius_edges
from georecon.models.encoder import EquivariantTransformer
from georecon.models.encoder_file import load_encoder, save_encoder
from georecon.models.potential import PropertyModel
from georecon.stages.finetune import FinetuneModel, FinetuneTask
from georecon.stages.pretrain import PretrainTask
from georecon.training.batches import ShuffledBatches, in_order
from tests.models.subjects import HEADS, sizes, subject
from tests.toy_graphs import batch, random_batch, random_molecule, singles, write_store

ROOT = Path(__file__).resolve().parents[2]
DTYPES = (torch.float32, torch.float64)
every_dtype = pytest.mark.parametrize("dtype", DTYPES, ids=["f32", "f64"])
FAULTS = {
    "NaN": (lambda g: g.pos.__setitem__((10, 1), torch.nan), r"atom 1 .*: a position is NaN"),
    "infinity": (lambda g: g.pos.__setitem__((10, 2), -torch.inf), r"atom 1 .*infinite"),
    "Z = 0": (lambda g: g.z.__setitem__(10, 0), r"\(Z = 0\): unknown element, expected Z in 1..19"),
    "Z = 20": (lambda g: g.z.__setitem__(10, 20), r"\(Z = 20\): unknown element"),
    "Z = -1": (lambda g: g.z.__setitem__(10, -1), r"\(Z = -1\): unknown element"),
}


def faulty(fault: str, dtype: torch.dtype) -> MolGraph:
    """Three molecules with ids 7, 42, 9; the second atom of id 42 is at fault."""
    graph = random_batch(1, dtype)._replace(ids=torch.tensor([7, 42, 9]))
    graph = graph._replace(pos=graph.pos.clone(), z=graph.z.clone())
    FAULTS[fault][0](graph)
    return graph


@every_dtype
@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("head", HEADS)
def test_every_head_names_the_molecule(head: str, fault: str, dtype: torch.dtype) -> None:
    with pytest.raises(DataError, match=r"record 42: .*" + FAULTS[fault][1]):
        subject(head, dtype=dtype)(faulty(fault, dtype))


@pytest.mark.parametrize("fault", FAULTS)
def test_forces_name_the_molecule(fault: str) -> None:
    model = PropertyModel(sizes(), "scalar", scale=1.0, shift=0.0, atomref=torch.zeros(20))
    with pytest.raises(DataError, match="record 42"):
        model.energy_and_forces(faulty(fault, torch.float32), training=True)


def test_sound_molecules_pass_the_check() -> None:
    check_graph(random_batch(1), 20)
    check_graph(batch([(np.array([19]), np.zeros((1, 3)))]), 20)


# ---- batches of training runs ----------------------------------------------------------------


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """Toy store whose molecule 103 has been damaged on disk after it was written."""
    made = write_store(tmp_path / "store")
    start = int(made.offsets[3])
    del made
    positions = np.load(tmp_path / "store" / "pos.npy", mmap_mode="r+")
    positions[start + 1, 0] = np.nan
    positions.flush()
    return Store.open(tmp_path / "store")


@pytest.mark.parametrize("name", ["denoise", "reconstruct"])
def test_pretraining_names_the_molecule(store: Store, name: str) -> None:
    method = "georecon__decoder" if name == "reconstruct" else "coord"
    methods = yaml.safe_load((ROOT / "config/methods.yaml").read_text(encoding="utf-8"))
    objective = objectives.build(name, EquivariantTransformer(sizes()), methods[method]["params"])
    batches = ShuffledBatches(store, store.ids, batch_size=24, seed=1)
    task = PretrainTask(objective, batches, in_order(store, store.ids, 8, None), seed=1)
    for run in (lambda: task.loss(0), task.validate):
        with pytest.raises(DataError, match="record 103"):
            run()


@pytest.mark.parametrize("force_weight", [0.0, 0.8])
def test_finetuning_names_the_molecule(store: Store, force_weight: float) -> None:
    model = PropertyModel(sizes(), "scalar", scale=1.0, shift=0.0, atomref=torch.zeros(20))
    recipe = Recipe(head="scalar", loss="mse", standardize=True, atomref={}, fitted=False,
                    noise_sigma=0.005, noise_weight=0.1, energy_weight=0.2,
                    force_weight=force_weight)  # fmt: skip
    batches = ShuffledBatches(store, store.ids, batch_size=24, seed=1, label="energy")
    validation = in_order(store, store.ids, 24, "energy")
    task = FinetuneTask(FinetuneModel(model), recipe, batches, validation, seed=1)
    for run in (lambda: task.loss(0), task.validate):
        with pytest.raises(DataError, match="record 103"):
            run()


# ---- large molecules -------------------------------------------------------------------------


@pytest.fixture(scope="module")
def large() -> tuple[np.ndarray, np.ndarray]:
    grid = np.stack(np.meshgrid(*[np.arange(10)] * 3), axis=-1).reshape(-1, 3) * 1.6
    noise = np.random.default_rng(0).normal(0, 0.1, grid.shape)
    return np.resize([6, 1, 7, 8, 9], 1000), grid + noise


@every_dtype
@pytest.mark.parametrize("head", HEADS)
def test_a_molecule_of_a_thousand_atoms_is_finite(
    head: str, dtype: torch.dtype, large: tuple[np.ndarray, np.ndarray]
) -> None:
    graph = batch([large], dtype)
    pos = graph.pos.requires_grad_(True)
    outputs = subject(head, dtype=dtype)(graph._replace(pos=pos))
    number = outputs.invariant.sum() + outputs.vectors.square().sum()
    (gradient,) = torch.autograd.grad(number, pos)
    assert torch.isfinite(number)
    assert torch.isfinite(gradient).all()


def test_one_large_molecule_in_a_batch_changes_no_edges(
    large: tuple[np.ndarray, np.ndarray], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Memory is bounded by blocks of molecules; the edges are those of each molecule alone."""
    small = [random_molecule(9, k) for k in range(5)]
    graph = batch([*small[:2], large, *small[2:]])
    alone = [radius_edges(one, 5.0, 32) for one in singles(graph)]
    for pairs in (2**24, 2 * 1000**2, 1):
        monkeypatch.setattr(graph_module, "_PAIRS_PER_BLOCK", pairs)
        edges = radius_edges(graph, 5.0, 32)
        sources = torch.cat([e.source + graph.ptr[k] for k, e in enumerate(alone)])
        targets = torch.cat([e.target + graph.ptr[k] for k, e in enumerate(alone)])
        assert torch.equal(edges.source, sources)
        assert torch.equal(edges.target, targets)
        assert torch.equal(edges.length, torch.cat([e.length for e in alone]))
        lengths = torch.cat([e.length[e.pair] for e in alone])
        assert torch.equal(edges.length[edges.pair], lengths)


# ---- encoder files of other models -----------------------------------------------------------

OTHERS = {
    "width": ({"channels": 32}, r"'embedding.weight' is \(20, 32\), the model needs \(20, 16\)"),
    "elements": ({"max_z": 30}, r"'embedding.weight' is \(30, 16\), the model needs \(20, 16\)"),
    "rbf": ({"rbf": 9}, r"distance_proj.weight' is \(16, 9\), the model needs \(16, 8\)"),
    "deeper": ({"layers": 3}, r"'attention_layers.2.dk_proj.bias' is unknown to the model"),
    "shallower": ({"layers": 1}, r"'attention_layers.1.layernorm.weight' is missing"),
    "norm": ({"vector_norm": "none"}, r"'vec_norm.weight' is missing from the file"),
}


@pytest.mark.parametrize("other", OTHERS)
def test_an_encoder_of_another_size_is_refused_by_its_first_tensor(
    other: str, tmp_path: Path
) -> None:
    changes, message = OTHERS[other]
    save_encoder(tmp_path / "e.safetensors", EquivariantTransformer(sizes(**changes)), method="x")
    with pytest.raises(CheckpointError, match=message):
        load_encoder(tmp_path / "e.safetensors", EquivariantTransformer(sizes()))


@pytest.mark.parametrize(
    ("name", "value"),
    [("heads", 4), ("cutoff", 4.0), ("max_neighbors", 8), ("vector_cutoff", True)],
)
def test_an_encoder_of_equal_tensors_but_other_settings_is_refused(
    name: str, value: object, tmp_path: Path
) -> None:
    other = EquivariantTransformer(sizes(**{name: value}))
    save_encoder(tmp_path / "e.safetensors", other, method="x")
    with pytest.raises(CheckpointError, match=rf"encoder.{name} is {value}, the model has"):
        load_encoder(tmp_path / "e.safetensors", EquivariantTransformer(sizes()))
