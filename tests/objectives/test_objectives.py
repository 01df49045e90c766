"""Pre-training objectives: they learn, the code is used, and their parameters are checked."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from georecon import objectives
from georecon.errors import ConfigError
from georecon.experiments.settings import EncoderSettings
from georecon.graph import MolGraph
from georecon.kernels import native
from georecon.models.encoder import EquivariantTransformer
from georecon.noise import NoiseSource
from tests.toy_graphs import batch, random_batch, random_molecule

RECONSTRUCT: dict[str, Any] = {
    "sigma": 0.04,
    "sigma_rec": 0.4,
    "hide_types": True,
    "depth": 2,
    "pooling": "mean",
    "fusion": "film",
    "code": "own",
    "clean_target": "zero",
    "passes": 3,
    "detach": False,
    "weights": {"reconstruct": 1.0, "denoise": 1.0, "clean": 0.1},
}
CONDITIONED: dict[str, Any] = {
    "sigma": 0.04,
    "clean_noise": True,
    "sigma_rec": 0.04,
    "own_encoder": False,
    "dropout": 0.2,
    "every": 4,
    "weight": 2.0,
    "code": "own",
}
PARAMS: dict[str, dict[str, Any]] = {
    "conditioned": CONDITIONED,
    "denoise": {"sigma": 0.04},
    "frad": {"sigma": 0.04, "sigma_torsion": 2.0},
    "reconstruct": RECONSTRUCT,
}
NAMES = list(PARAMS)
VARIANTS = [
    {},
    {"fusion": "concat"},
    {"fusion": "add"},
    {"pooling": "sum"},
    {"depth": 0},
    {"depth": 1, "pooling": "sum", "fusion": "concat"},
    {"depth": 0, "fusion": "concat"},
    {"hide_types": False},
    {"clean_target": "types"},
    {"clean_target": "shared"},
    {"passes": 2},
    {"detach": True},
]


def make(name: str, channels: int = 16, **changes: Any) -> torch.nn.Module:
    torch.manual_seed(0)
    settings = EncoderSettings(channels=channels, layers=2, heads=2, rbf=8, max_z=20)
    return objectives.build(name, EquivariantTransformer(settings), {**PARAMS[name], **changes})


def eight() -> MolGraph:
    return batch([random_molecule(4 + k % 4, k) for k in range(8)], torch.float32)


def overfit(objective: torch.nn.Module, steps: int) -> float:
    """Loss after ``steps`` steps, over the first, on one batch with one draw of noise.

    The noise of step 0 is given at every step: a finite set of inputs and targets, which a model
    can learn by heart. The rate falls to zero, so that the last loss is not a step's accident.
    """
    graph, noise = eight(), NoiseSource(1, 0)
    optimizer = torch.optim.AdamW(objective.parameters(), lr=4e-3, weight_decay=0.0)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    with torch.no_grad():
        first = float(objective(graph, noise)["loss"])
    for _ in range(steps):
        optimizer.zero_grad()
        loss = objective(graph, noise)["loss"]
        loss.backward()
        torch.nn.utils.clip_grad_norm_(objective.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        if float(loss.detach()) < 0.009 * first:
            break
    return float(loss.detach()) / first


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_overfits_eight_molecules(name: str) -> None:
    assert overfit(make(name, channels=32), 1000) < 0.01


def test_overfitting_needs_the_encoder() -> None:
    """The same test must fail where the encoder cannot learn: its features alone do not do it."""
    objective = make("denoise", channels=32)
    for parameter in objective.parameters():
        parameter.requires_grad_(False)
    objective.head.output.second.update_net[-1].bias.requires_grad_(True)
    assert overfit(objective, 100) > 0.5


@pytest.mark.parametrize("name", NAMES)
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


def code_gradient(**changes: Any) -> bool:
    """Whether the encoder gets a gradient through the code: every other way carries none, since
    the noisy features are cut off before the decoder."""
    objective = make("reconstruct", **changes)
    passes = objective._passes(objective.inputs(eight(), NoiseSource(1, 0)))
    cut = passes._replace(x=passes.x.detach(), vec=passes.vec.detach())
    loss = objective._reconstruct(cut, passes.code)
    loss.backward()
    assert any(p.grad is not None and p.grad.any() for p in objective.decoder.parameters())
    gradients = [p.grad for p in objective.encoder.attention_layers.parameters()]
    return any(g is not None and bool(g.any()) for g in gradients)


@pytest.mark.parametrize("fusion", ["film", "add", "concat"])
def test_gradient_reaches_the_encoder_through_the_code_alone(fusion: str) -> None:
    assert code_gradient(fusion=fusion)


def test_no_gradient_through_the_code_where_it_is_detached() -> None:
    assert not code_gradient(detach=True)


def test_hidden_types_are_hidden_in_the_reconstruction_pass_alone() -> None:
    """Elements exchanged within a molecule: with types hidden, pass (c) does not see it."""
    graph, noise = eight(), NoiseSource(1, 0)
    other = graph._replace(z=torch.where(graph.z == 1, 6, 1))
    for hidden in (True, False):
        objective = make("reconstruct", hide_types=hidden)
        with torch.no_grad():
            one, two = (objective._passes(objective.inputs(g, noise)) for g in (graph, other))
        assert torch.equal(one.x, two.x) == hidden
        assert not torch.equal(one.code, two.code)


def test_two_passes_are_two() -> None:
    """Passes of a step: the clean one, the strongly noised one, and the lightly noised one. They
    are one batch."""
    for passes in (2, 3):
        objective, calls = make("reconstruct", passes=passes), []
        objective.encoder.register_forward_hook(lambda *given, seen=calls: seen.append(given[1]))
        objective(eight(), NoiseSource(1, 0))
        (arguments,) = calls
        assert arguments[0].num_graphs == passes * 8


@pytest.mark.parametrize("kernel", [None, "reference"])
@pytest.mark.parametrize(("dtype", "near"), [(torch.float32, 1e-4), (torch.float64, 1e-10)])
def test_passes_of_one_batch_are_those_of_three(
    dtype: torch.dtype, near: float, kernel: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each pass by itself has the same features, and the decoder the edges of its own."""
    if kernel:
        monkeypatch.setattr(native, "kernel", lambda _: kernel)
    objective, graph, noise = make("reconstruct"), random_batch(1, dtype), NoiseSource(1, 0)
    objective.to(dtype)
    with torch.no_grad():
        passes = objective._passes(objective.inputs(graph, noise))
        noisy = passes.inputs.noisy
        edges = objective.encoder.edges(noisy)
        x, vec = objective.encoder(noisy, edges)
        own = passes.inputs._replace(noisy_edges=edges)
        alone = passes._replace(x=x, vec=vec, inputs=own)
        clean = objective.encoder(graph)[0]
        noisy, epsilon = noise.displace(graph, "denoise", RECONSTRUCT["sigma"])
        denoised = objective.denoise_head(*objective.encoder(noisy), noisy)
        found = (passes.x, passes.vec, passes.code, passes.denoise)
        expected = (
            x,
            vec,
            objective.graph_code(clean, graph),
            (denoised - epsilon).square().mean(),
        )
        for one, other in zip(found, expected, strict=True):
            assert torch.allclose(one, other, rtol=near, atol=near)
        assert torch.allclose(
            objective._reconstruct(passes, passes.code), objective._reconstruct(alone, passes.code)
        )
        others = passes.inputs._replace(noisy_edges=objective.encoder.edges(graph))
        wrong = passes._replace(inputs=others)
        assert not torch.allclose(
            objective._reconstruct(wrong, passes.code), objective._reconstruct(alone, passes.code)
        ), "a twin with the edges of another pass"


def test_a_shared_clean_head_has_the_weights_of_the_denoising_head() -> None:
    own, shared = (make("reconstruct", clean_target=target) for target in ("zero", "shared"))
    graph = eight()
    right = shared.denoise_head(*shared.encoder(graph), graph).square().mean()
    torch.testing.assert_close(shared(graph, NoiseSource(1, 0))["clean"], right)
    head = sum(p.numel() for p in shared.denoise_head.parameters())
    sizes = [sum(p.numel() for p in one.parameters()) for one in (own, shared)]
    assert sizes[0] - sizes[1] == head


def test_clean_head_with_types_as_target_starts_at_chance_and_learns() -> None:
    objective = make("reconstruct", clean_target="types", weights=dict(
        zip(("reconstruct", "denoise", "clean"), (0.0, 0.0, 1.0), strict=True)))  # fmt: skip
    optimizer = torch.optim.Adam(objective.parameters(), lr=5e-3)
    losses = []
    for step in range(60):
        optimizer.zero_grad()
        loss = objective(eight(), NoiseSource(1, step))["clean"]
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    assert losses[0] > 1.0
    assert losses[-1] < 0.05


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
    parts = {"loss", "reconstruct", "denoise", "clean"}
    assert set(training) == parts
    used = {"reconstruct_shuffled", "reconstruct_zero", "code_usage", "code_usage_isomers"}
    assert set(measures) == parts | used
    for name, value in training.items():
        assert torch.equal(measures[name], value), name
    assert measures["reconstruct_shuffled"] != measures["reconstruct"]
    assert measures["reconstruct_zero"] != measures["reconstruct"]
    used = measures["reconstruct_shuffled"] - measures["reconstruct"]
    assert torch.equal(measures["code_usage"], used)


class Deaf(torch.nn.Module):
    """A fusion that ignores the guide: the broken twin of all others."""

    def forward(self, place: int, x: Any, vec: Any, guide: Any, graph: Any) -> tuple[Any, Any]:
        return x, vec


def test_a_decoder_that_ignores_the_code_has_no_code_usage() -> None:
    objective = make("reconstruct")
    objective.decoder.code_mlp = torch.nn.Identity()
    objective.decoder.fusion = Deaf()
    with torch.no_grad():
        measures = objective.validate(eight(), NoiseSource(1, 0))
    assert torch.equal(measures["reconstruct_shuffled"], measures["reconstruct"])
    assert torch.equal(measures["reconstruct_zero"], measures["reconstruct"])
    assert measures["code_usage"] == 0.0


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


@pytest.mark.parametrize("name", NAMES)
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
        ("reconstruct", {**RECONSTRUCT, "fusion": "gate"}, "film"),
        ("reconstruct", {**RECONSTRUCT, "passes": 4}, "2, 3"),
        ("reconstruct", {**RECONSTRUCT, "clean_target": "charge"}, "zero, shared, types"),
        ("frad", {"sigma": 0.04}, "sigma_torsion"),
        ("reconstruct", {**RECONSTRUCT, "weights": {"reconstruct": 1.0}}, "clean"),
        ("reconstruct", {"sigma": 0.04}, "sigma_rec"),
        ("recon", {}, "denoise, frad, reconstruct"),
    ],
)
def test_wrong_parameters_are_refused(name: str, params: dict[str, Any], words: str) -> None:
    settings = EncoderSettings(channels=8, layers=1, heads=2, rbf=4)
    with pytest.raises(ConfigError, match=words):
        objectives.build(name, EquivariantTransformer(settings), params)


def test_files_of_the_folder_are_the_objectives() -> None:
    assert objectives.available() == ["conditioned", "denoise", "frad", "reconstruct", "unimol"]
