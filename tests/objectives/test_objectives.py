"""Pre-training objectives: they learn, the code is used, and their parameters are checked."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from toy_graphs import batch, random_batch, random_molecule

from georecon import objectives
from georecon.errors import ConfigError
from georecon.graph import MolGraph
from georecon.models.encoder import EncoderSettings, EquivariantTransformer
from georecon.noise import NoiseSource

RECONSTRUCT: dict[str, Any] = {
    "sigma": 0.04,
    "sigma_rec": 0.2,
    "depth": 2,
    "pooling": "mean",
    "fusion": "add",
    "weights": {"reconstruct": 1.0, "denoise": 1.0, "clean": 0.1},
}
PARAMS: dict[str, dict[str, Any]] = {"denoise": {"sigma": 0.04}, "reconstruct": RECONSTRUCT}
VARIANTS = [
    {},
    {"fusion": "concat"},
    {"pooling": "sum"},
    {"depth": 0},
    {"depth": 1, "pooling": "sum", "fusion": "concat"},
    {"depth": 0, "fusion": "concat"},
]


def make(name: str, channels: int = 16, **changes: Any) -> torch.nn.Module:
    torch.manual_seed(0)
    settings = EncoderSettings(channels=channels, layers=2, heads=2, rbf=8, max_z=20)
    return objectives.build(name, EquivariantTransformer(settings), {**PARAMS[name], **changes})


def eight() -> MolGraph:
    return batch([random_molecule(4 + k % 4, k) for k in range(8)], torch.float32)


def overfit(objective: torch.nn.Module, steps: int, limit: float) -> tuple[float, float]:
    """First loss and the loss after up to ``steps`` steps on one batch with one draw of noise."""
    graph, noise = eight(), NoiseSource(1, 0)
    optimizer = torch.optim.AdamW(objective.parameters(), lr=4e-3, weight_decay=0.0)
    first = value = float(objective(graph, noise)["loss"].detach())
    for _ in range(steps):
        optimizer.zero_grad()
        loss = objective(graph, noise)["loss"]
        loss.backward()
        torch.nn.utils.clip_grad_norm_(objective.parameters(), 5.0)
        optimizer.step()
        value = float(loss.detach())
        if value < limit * first:
            break
    return first, value


@pytest.mark.parametrize("name", ["denoise", "reconstruct"])
def test_overfits_eight_molecules(name: str) -> None:
    first, last = overfit(make(name, channels=32), 1500, 0.05)
    assert last < 0.05 * first, (first, last)


def test_overfitting_needs_the_encoder() -> None:
    """The same test must fail where the encoder cannot learn: its features alone do not do it."""
    objective = make("denoise", channels=32)
    for parameter in objective.parameters():
        parameter.requires_grad_(False)
    objective.head.output.second.update_net[-1].bias.requires_grad_(True)
    first, last = overfit(objective, 100, 0.05)
    assert last > 0.5 * first


@pytest.mark.parametrize("name", ["denoise", "reconstruct"])
def test_a_few_steps_with_fresh_noise_lower_the_loss(name: str) -> None:
    objective, graph = make(name), eight()
    optimizer = torch.optim.AdamW(objective.parameters(), lr=3e-3)
    held_out = [NoiseSource(9, -1 - k) for k in range(4)]

    def score() -> float:
        with torch.no_grad():
            return sum(float(objective(graph, noise)["loss"]) for noise in held_out)

    before = score()
    for step in range(60):
        optimizer.zero_grad()
        objective(graph, NoiseSource(1, step))["loss"].backward()
        optimizer.step()
    assert score() < before


@pytest.mark.parametrize(
    "changes", VARIANTS, ids=lambda c: "-".join(f"{k}{v}" for k, v in c.items())
)
def test_every_variant_reaches_every_parameter(changes: dict[str, Any]) -> None:
    objective = make("reconstruct", **changes)
    with torch.no_grad():
        for parameter in objective.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    objective(eight(), NoiseSource(1, 0))["loss"].backward()
    blind = {n for n, p in objective.named_parameters() if p.grad is None or not p.grad.any()}
    # Vectors are zero before the first layer, so their projection there has nothing to project.
    assert blind == {"encoder.attention_layers.0.vec_proj.weight"}
    assert all(p.grad is None or torch.isfinite(p.grad).all() for p in objective.parameters())


@pytest.mark.parametrize("depth", [0, 1, 2, 4])
def test_depth_is_the_number_of_decoder_layers(depth: int) -> None:
    objective = make("reconstruct", depth=depth)
    assert len(objective.decoder.layers) == depth


def test_gradient_reaches_the_encoder_through_the_code_alone() -> None:
    """Cut every other way: only the code of the clean pass carries a gradient."""
    objective = make("reconstruct")
    graph, noise = eight(), NoiseSource(1, 0)
    x, _ = objective.encoder(graph)
    code = objective.graph_code(x, graph)
    with torch.no_grad():
        noisy = graph._replace(pos=graph.pos + 0.2 * noise.normal(graph, "reconstruct"))
        edges = objective.encoder.edges(noisy)
        features = objective.encoder(noisy)
    predicted = objective.decoder(code, *features, noisy, edges)
    predicted.square().sum().backward()
    gradients = [p.grad for p in objective.encoder.attention_layers.parameters()]
    assert any(g is not None and g.any() for g in gradients)


def test_clean_and_noisy_losses_can_be_switched_off_by_weight() -> None:
    full = make("reconstruct")
    parts = full(eight(), NoiseSource(1, 0))
    weights = RECONSTRUCT["weights"]
    expected = sum(weights[name] * parts[name] for name in weights)
    assert torch.allclose(parts["loss"], expected)
    weights = {"reconstruct": 0.0, "denoise": 1.0, "clean": 0.0}
    only = make("reconstruct", weights=weights)(eight(), NoiseSource(1, 0))
    assert torch.allclose(only["loss"], only["denoise"])


def test_validation_reports_code_usage() -> None:
    objective = make("reconstruct")
    graph, noise = eight(), NoiseSource(1, 0)
    with torch.no_grad():
        measures = objective.validate(graph, noise)
        training = objective(graph, noise)
    names = {"loss", "reconstruct", "denoise", "clean", "reconstruct_shuffled", "reconstruct_zero"}
    assert set(measures) == names
    for name, value in training.items():
        assert torch.equal(measures[name], value), name
    assert measures["reconstruct_shuffled"] != measures["reconstruct"]
    assert measures["reconstruct_zero"] != measures["reconstruct"]


def test_a_decoder_that_ignores_the_code_has_no_code_usage() -> None:
    objective = make("reconstruct")
    torch.nn.init.zeros_(objective.decoder.code_mlp[-1].weight)
    with torch.no_grad():
        measures = objective.validate(eight(), NoiseSource(1, 0))
    assert torch.allclose(measures["reconstruct_shuffled"], measures["reconstruct"])
    assert torch.allclose(measures["reconstruct_zero"], measures["reconstruct"])


def test_the_code_does_not_leak_between_molecules() -> None:
    objective = make("reconstruct").double()
    graph = random_batch(1)
    pos = graph.pos.clone().requires_grad_(True)
    clean = graph._replace(pos=pos)
    code = objective.graph_code(objective.encoder(clean)[0], clean)
    (gradient,) = torch.autograd.grad(code[0].square().sum() + code[0, 0], pos)
    assert gradient[graph.batch == 0].any()
    assert not gradient[graph.batch != 0].any()


@pytest.mark.parametrize("pooling", ["mean", "sum"])
def test_codes_are_normalised(pooling: str) -> None:
    objective = make("reconstruct", pooling=pooling)
    graph = eight()
    with torch.no_grad():
        code = objective.graph_code(objective.encoder(graph)[0], graph)
    assert code.shape == (8, 16)
    assert code.mean(1).abs().max() < 1e-5
    assert (code.var(1, correction=0) - 1).abs().max() < 0.05


@pytest.mark.parametrize("name", ["denoise", "reconstruct"])
def test_loss_is_a_pure_function_of_seed_step_and_molecules(name: str) -> None:
    objective = make(name)
    graph = eight()
    with torch.no_grad():
        first = objective(graph, NoiseSource(1, 3))
        again = objective(graph, NoiseSource(1, 3))
        other = objective(graph, NoiseSource(1, 4))
    assert all(torch.equal(first[key], again[key]) for key in first)
    assert first["loss"] != other["loss"]


def test_denoising_an_untrained_head_of_zeros_costs_one() -> None:
    """The target is noise in units of σ: predicting nothing has a loss of its variance, one."""
    objective = make("denoise")
    for parameter in objective.head.parameters():
        torch.nn.init.zeros_(parameter)
    graph = batch([random_molecule(12, k) for k in range(40)], torch.float32)
    loss = objective(graph, NoiseSource(1, 0))["loss"]
    assert float(loss.detach()) == pytest.approx(1.0, abs=0.15)


@pytest.mark.parametrize(
    ("name", "params", "words"),
    [
        ("denoise", {}, "sigma"),
        ("denoise", {"sigma": 0.04, "sigme": 1}, "sigme"),
        ("reconstruct", {**RECONSTRUCT, "pooling": "max"}, "mean, sum"),
        ("reconstruct", {**RECONSTRUCT, "fusion": "film"}, "add, concat"),
        ("reconstruct", {**RECONSTRUCT, "weights": {"reconstruct": 1.0}}, "clean"),
        ("reconstruct", {"sigma": 0.04}, "sigma_rec"),
        ("recon", {}, "denoise, reconstruct"),
    ],
)
def test_wrong_parameters_are_refused(name: str, params: dict[str, Any], words: str) -> None:
    settings = EncoderSettings(channels=8, layers=1, heads=2, rbf=4)
    with pytest.raises(ConfigError, match=words):
        objectives.build(name, EquivariantTransformer(settings), params)


def test_files_of_the_folder_are_the_objectives() -> None:
    assert objectives.available() == ["denoise", "reconstruct"]
