"""Encoders behind one interface: built by kind, saved, read out, and strangers to each other."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from georecon.errors import CheckpointError, ConfigError, DataError
from georecon.experiments.experiments import Experiments
from georecon.experiments.settings import (
    AnyEncoder,
    EncoderSettings,
    FinetuneSettings,
    PretrainSettings,
    encoder_modules,
)
from georecon.graph import MolGraph
from georecon.keys import from_json
from georecon.models.encoder import EquivariantTransformer
from georecon.models.encoder_file import load_encoder, save_encoder
from georecon.models.encoders import Encoder, build_encoder, noise_head, property_head
from georecon.models.potential import PropertyModel
from georecon.models.unimol import Encoder as Unimol
from georecon.records.code import closure, code_digest
from georecon.stages.smoothness import code_maps, spectral_norms
from tests.models.subjects import sizes as et_sizes
from tests.models.unimol.subjects import sizes as unimol_sizes
from tests.toy_graphs import batch, random_batch, random_molecule

CONFIG = Path(__file__).resolve().parents[2] / "config"
SIZES: dict[str, AnyEncoder] = {"et": et_sizes(), "unimol": unimol_sizes()}
every_kind = pytest.mark.parametrize("kind", list(SIZES))


@every_kind
def test_the_kind_decides_what_is_built(kind: str) -> None:
    torch.manual_seed(0)
    encoder = build_encoder(SIZES[kind])
    assert isinstance(encoder, EquivariantTransformer if kind == "et" else Unimol)
    assert encoder.settings == SIZES[kind]
    graph = random_batch(1, torch.float32)
    x, vec = encoder(graph)
    assert x.shape == (len(graph.z), 16)
    assert (vec is None) == (kind == "unimol")
    assert (noise_head(SIZES[kind]) is None) == (kind == "unimol")


@every_kind
@pytest.mark.parametrize("head", ["scalar", "dipole", "spatial_extent"])
def test_every_property_has_a_head(kind: str, head: str) -> None:
    graph = random_batch(1, torch.float32)
    model = PropertyModel(SIZES[kind], head, scale=1.0, shift=0.0, atomref=torch.zeros(20))
    assert model(graph).shape == (3,)
    with pytest.raises(ValueError, match="head is 'sclar'; allowed: scalar"):
        property_head(SIZES[kind], "sclar")


@every_kind
def test_a_property_of_shape_is_learned(kind: str) -> None:
    """The mean square distance to the centre, of molecules of the same atoms."""
    torch.manual_seed(0)
    model = PropertyModel(SIZES[kind], "scalar", scale=1.0, shift=0.0, atomref=torch.zeros(20))
    z, _ = random_molecule(6, 0)
    graph = batch([(z, random_molecule(6, k)[1]) for k in range(12)], torch.float32)
    centre = graph.pos.view(12, 6, 3).mean(1, keepdim=True)
    label = (graph.pos.view(12, 6, 3) - centre).square().sum(-1).mean(1)
    label = (label - label.mean()) / label.std()
    optimizer = torch.optim.AdamW(model.parameters(), lr=5e-3)
    for _ in range(80):
        optimizer.zero_grad()
        loss = (model(graph) - label).square().mean()
        loss.backward()
        optimizer.step()
    assert float(loss.detach()) < 0.2


@every_kind
@pytest.mark.parametrize("fault", ["not finite", "unknown element"])
def test_molecules_that_cannot_be_read_are_named(kind: str, fault: str) -> None:
    graph = random_batch(1, torch.float32)
    if fault == "not finite":
        graph.pos[10, 1] = torch.nan
    else:
        graph.z[10] = 20
    with pytest.raises(DataError, match=r"record 1: atom 1 "):
        build_encoder(SIZES[kind])(graph)


# ---- files -------------------------------------------------------------------------------------


@every_kind
def test_a_file_of_an_encoder_is_exact_and_its_bytes_are_the_same(
    kind: str, tmp_path: Path
) -> None:
    first, second = build_encoder(SIZES[kind]), build_encoder(SIZES[kind])
    paths = [tmp_path / name for name in ("a", "b")]
    save_encoder(paths[0], first, method="x")
    load_encoder(paths[0], second)
    save_encoder(paths[1], second, method="x")
    assert paths[0].read_bytes() == paths[1].read_bytes()


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"channels": 32}, r"tensor 'embedding.weight' is \(20, 32\), the model needs \(20, 16\)"),
        ({"kernels": 9}, r"'kernels.means' is \(9,\), the model needs \(8,\)"),
        ({"layers": 3}, r"'layers.2.\S*' is unknown to the model"),
        ({"layers": 1}, r"'layers.1.\S*' is missing from the file"),
        ({"heads": 2}, r"'kernels.second.weight' is \(2, 8\), the model needs \(4, 8\)"),
    ],
)
def test_a_uni_mol_of_another_size_is_refused(
    changes: dict[str, int], words: str, tmp_path: Path
) -> None:
    save_encoder(tmp_path / "e", build_encoder(unimol_sizes(**changes)), method="x")
    with pytest.raises(CheckpointError, match=words):
        load_encoder(tmp_path / "e", build_encoder(unimol_sizes()))


@every_kind
def test_an_encoder_of_another_architecture_is_refused(kind: str, tmp_path: Path) -> None:
    (other,) = SIZES.keys() - {kind}
    save_encoder(tmp_path / "e", build_encoder(SIZES[kind]), method="x")
    with pytest.raises(CheckpointError, match=f"of kind {kind}, the model is of kind {other}"):
        load_encoder(tmp_path / "e", build_encoder(SIZES[other]))


# ---- smoothness --------------------------------------------------------------------------------


def exact(encoder: Encoder, graph: MolGraph, name: str) -> float:
    """Largest singular value of a map's Jacobian, of one molecule."""
    f = code_maps(encoder)[name]

    def of(pos: torch.Tensor) -> torch.Tensor:
        return f(graph._replace(pos=pos)).flatten()

    jacobian = torch.autograd.functional.jacobian(of, graph.pos)
    return float(torch.linalg.svdvals(jacobian.flatten(1)).max())


@pytest.mark.parametrize("name", ["mean", "mean_normalised", "sum", "node"])
def test_smoothness_of_uni_mol_is_the_largest_singular_value(name: str) -> None:
    torch.manual_seed(2)
    encoder = build_encoder(unimol_sizes()).to(torch.float64)  # type: ignore[arg-type]
    graph = random_batch(1, sizes=(7,))
    found = spectral_norms(code_maps(encoder)[name], graph, iterations=60, seed=1).norm
    assert float(found) == pytest.approx(exact(encoder, graph, name), rel=0.01)


# ---- settings ----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def laptop() -> Experiments:
    return Experiments.load(CONFIG, {"edition": "laptop"})


def test_settings_know_their_architecture_after_json(laptop: Experiments) -> None:
    for method, kind in (("coord", EncoderSettings), ("unimol", type(unimol_sizes()))):
        settings = laptop.runs.pretrain_settings(method, 1)
        assert isinstance(settings.encoder, kind)
        assert from_json(PretrainSettings, settings.as_json()) == settings
    tuned = laptop.runs.finetune_settings("property", "homo", "unimol", 1)
    assert from_json(FinetuneSettings, tuned.as_json()) == tuned
    document = tuned.as_json()
    document["encoder"] = {**document["encoder"], "kind": "schnet"}  # type: ignore[dict-item]
    with pytest.raises(ConfigError, match=r"encoder.kind: unknown key"):
        from_json(FinetuneSettings, document)


def test_the_transformers_settings_have_no_key_of_the_other(laptop: Experiments) -> None:
    """So digests of its settings are those of a house with one encoder."""
    document = laptop.runs.finetune_settings("property", "homo", "coord", 1).as_json()
    assert list(document["encoder"]) == list(EncoderSettings.__slots__)  # type: ignore[call-overload]


@pytest.mark.parametrize("stage", ["pretrain", "finetune", "smoothness"])
def test_no_run_of_the_transformer_depends_on_a_line_of_the_other(stage: str) -> None:
    objective = ("georecon.objectives.denoise",) if stage == "pretrain" else ()
    for sizes, theirs in ((SIZES["et"], False), (SIZES["unimol"], True)):
        files = closure(stage, *objective, *encoder_modules(sizes))
        assert any("models/unimol" in path.as_posix() for path in files) == theirs
    assert code_digest(stage) != code_digest(stage, *encoder_modules(SIZES["unimol"]))


def test_runs_are_made_anew_when_their_architecture_changes(laptop: Experiments) -> None:
    runs = laptop.runs
    one = {runs.finetune_settings("property", "homo", m, 1).code for m in ("scratch", "coord")}
    two = {runs.finetune_settings("property", "homo", m, 1).code for m in ("unimol", "unimol_long")}
    assert len(one) == len(two) == 1
    assert one != two
    assert runs.smoothness_settings("unimol", 1).code != runs.smoothness_settings("coord", 1).code


def test_forces_without_a_head_for_them_are_refused(laptop: Experiments) -> None:
    """A file that a user asks for by its path is in no table."""
    with pytest.raises(ConfigError, match=r"sets.force.dataset.*no head for forces.*unimol"):
        laptop.runs.finetune_settings("force", "ethanol", "unimol", 1)


def test_noise_without_a_head_for_it_is_off(laptop: Experiments) -> None:
    one, two = (
        laptop.runs.finetune_settings("property", "homo", m, 1) for m in ("coord", "unimol")
    )
    assert (one.recipe.noise_sigma, two.recipe.noise_sigma) == (0.005, 0.0)
    assert (one.train, two.train) == (laptop.config.finetune.sets["property"].train,
                                      laptop.config.encoders["unimol"].finetune)  # fmt: skip


def test_methods_of_another_encoder_are_rows_of_no_table_of_all(laptop: Experiments) -> None:
    assert "coord" in laptop.methods.names()
    assert not [name for name in laptop.methods.names() if "unimol" in name]
    rows = [row.method for row in laptop.tables.rows("unimol")]
    assert rows[2:] == ["unimol_scratch", "unimol", "unimol_long", "unimol_georecon"]


def test_captions_say_the_encoder_of_their_rows(laptop: Experiments) -> None:
    theirs, ours = (laptop.tables.spec(name).caption for name in ("unimol", "qm9"))
    assert "Uni-Mol, 64 channels, 4 layers, 8 heads, 32 Gaussian kernels" in theirs
    assert "RBF" not in theirs
    assert "Uni-Mol, equal compute:" in theirs
    assert "Coord, equal compute" not in theirs
    assert "Uni-Mol" not in ours
    both = {"tables": {"unimol": {"rows": {"methods": ["coord", "unimol"], "compare": []}}}}
    mixed = Experiments.load(CONFIG, {"edition": "laptop", **both}).tables.spec("unimol").caption
    assert "32 RBF and Uni-Mol, 64 channels" in mixed
    steps = laptop.config.finetune.sets["property"].train.steps
    assert f"{steps} steps of 16 and 240 steps of 8" in mixed


def test_the_paper_edition_has_uni_mols_sizes() -> None:
    paper = Experiments.load(CONFIG, {"edition": "paper"})
    settings = paper.runs.pretrain_settings("unimol", 1)
    encoder = build_encoder(settings.encoder)
    assert isinstance(encoder, nn.Module)
    count = sum(p.numel() for p in encoder.parameters())
    assert 47e6 < count < 48e6  # [U] has 47.6 million
    weights = settings.params["weights"]
    assert weights == {"token": 1, "coordinate": 5, "distance": 10, "atom_norm": 0.01,
                       "pair_norm": 0.01}  # fmt: skip
