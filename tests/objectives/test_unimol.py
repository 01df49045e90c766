"""Uni-Mol's objective: masking, losses on cases reckoned by hand, and GeoRecon's guided pass."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from georecon import objectives
from georecon.errors import ConfigError
from georecon.experiments.settings import EncoderSettings
from georecon.graph import MolGraph
from georecon.models.encoders import build_encoder
from georecon.models.unimol.dense import Dense
from georecon.models.unimol.encoder import Passed
from georecon.noise import NoiseSource
from georecon.objectives._unimol import ELEMENTS, Masked, Masking, Restoration, mask, norm_loss
from tests.models.unimol.subjects import sizes
from tests.toy_graphs import batch, random_batch, random_molecule, singles
from tests.training.toy_world import METHODS

UNIMOL: dict[str, Any] = METHODS["unimol"]["params"]
GEORECON: dict[str, Any] = METHODS["unimol_georecon"]["params"]
PLAIN = Masking(0.15, 1.0, 0.05, 0.05, "unimol_noise")
MASK = 99


def make(params: dict[str, Any], **changes: Any) -> torch.nn.Module:
    torch.manual_seed(0)
    return objectives.build("unimol", build_encoder(sizes()), {**params, **changes})


def many(molecules: int = 300, atoms: int = 18) -> MolGraph:
    """Molecules whose positions do not matter."""
    z = np.resize([6, 1, 1, 7, 1, 8], atoms)
    return batch([(z, np.zeros((atoms, 3))) for _ in range(molecules)])


# ---- masking -----------------------------------------------------------------------------------


def test_shares_of_hidden_kept_and_random_atoms_are_those_asked_for() -> None:
    graph = many(2000)
    masked = mask(graph, NoiseSource(1, 0), PLAIN, 100)
    count, chosen = len(masked.atoms), masked.atoms
    assert count / len(graph.z) == pytest.approx(0.15, rel=0.02)
    z, moved = masked.graph.z[chosen], (masked.graph.pos != graph.pos).all(1)[chosen]
    hidden = z == MASK
    assert float(hidden.double().mean()) == pytest.approx(0.9, abs=0.01)
    assert float((~moved).double().mean()) == pytest.approx(0.05, abs=0.008)
    assert moved[hidden].all()
    assert torch.equal(z[~moved], graph.z[chosen][~moved]), "kept: token and place"
    others = z[moved & ~hidden]
    assert set(others.tolist()) == set(ELEMENTS)
    shift = (masked.graph.pos - graph.pos)[chosen][moved]
    assert shift.abs().max() < 1.0
    assert float(shift.std()) == pytest.approx(1.0 / math.sqrt(3.0), rel=0.03)  # uniform
    rest = torch.ones(len(graph.z), dtype=torch.bool)
    rest[chosen] = False
    assert torch.equal(masked.graph.z[rest], graph.z[rest])
    assert torch.equal(masked.graph.pos[rest], graph.pos[rest])


def test_a_molecule_has_its_share_rounded_down_or_up() -> None:
    graph = many(atoms=18)  # 2.7 atoms
    counts = graph.batch[mask(graph, NoiseSource(1, 0), PLAIN, 100).atoms].bincount(minlength=300)
    assert set(counts.tolist()) == {2, 3}
    assert float((counts == 3).double().mean()) == pytest.approx(0.7, abs=0.08)


def test_more_difficult_masks_contain_the_others_and_have_noise_of_their_own() -> None:
    graph = many()
    twice = Masking(0.3, 2.0, 0.05, 0.05, "unimol_guided")
    one, two = (mask(graph, NoiseSource(1, 4), m, 100) for m in (PLAIN, twice))
    assert set(one.atoms.tolist()) < set(two.atoms.tolist())
    both = one.atoms
    shifts = [(m.graph.pos - graph.pos)[both] for m in (one, two)]
    assert not torch.allclose(2.0 * shifts[0], shifts[1])
    assert float(shifts[1].abs().max()) > 1.5


def test_masking_is_of_seed_step_and_molecule_alone() -> None:
    graph = random_batch(3, sizes=(9, 14, 5, 30))
    whole = mask(graph, NoiseSource(1, 2), PLAIN, 100)
    parts = [mask(one, NoiseSource(1, 2), PLAIN, 100) for one in singles(graph)]
    assert torch.equal(whole.graph.pos, torch.cat([p.graph.pos for p in parts]))
    assert torch.equal(whole.graph.z, torch.cat([p.graph.z for p in parts]))
    first = graph.ptr.tolist()
    atoms = torch.cat([p.atoms + n for p, n in zip(parts, first[:-1], strict=True)])
    assert torch.equal(whole.atoms, atoms)
    for other in (NoiseSource(1, 3), NoiseSource(2, 2)):
        assert not torch.equal(mask(graph, other, PLAIN, 100).graph.pos, whole.graph.pos)


def test_no_mask_leaves_everything() -> None:
    graph = many()
    masked = mask(graph, NoiseSource(1, 0), Masking(0.0, 1.0, 0.0, 0.0, "x"), 100)
    assert len(masked.atoms) == 0
    assert torch.equal(masked.graph.z, graph.z)


# ---- losses by hand ----------------------------------------------------------------------------


def by_hand() -> tuple[Restoration, Passed, Masked, MolGraph]:
    """Two molecules, H–C–O in a row 1 Å apart and H–H 2 Å apart; hidden: C, displaced, and an H."""
    row = np.array([[0.0, 0, 0], [1, 0, 0], [2, 0, 0]])
    pair = np.array([[0.0, 0, 0], [0, 2, 0]])
    clean = batch([(np.array([1, 6, 8]), row), (np.array([1, 1]), pair)])
    pos = clean.pos.clone()
    pos[1] += torch.tensor([0.0, 0.5, 0.0])
    pos[3] += torch.tensor([0.0, 0.0, 3.0])
    masked = Masked(clean._replace(pos=pos), torch.tensor([1, 3]))
    restoration = Restoration(sizes(), mean=1.0, deviation=2.0).double()
    channels = heads = 4
    shape = (2, 3, 3, heads)
    last = torch.tensor([[2.0, 0, 0, 0], [4.0, 0, 0, 0], [0.0, 0, 0, 0], [1.0, 1, 1, 1],
                         [3.5, 0, 0, 0]]).double()  # fmt: skip
    change = torch.full(shape, 1.0).double()  # norm 2, as it should be
    change[0, 0, 1] = torch.tensor([5.0, 0, 0, 0])  # 3 too long, less 1
    change[1, 1, 0] = torch.tensor([4.5, 0, 0, 0])  # 2.5 too long, less 1
    change[1, 2] = 100.0  # no atom
    passed = Passed(torch.zeros(5, channels), last, torch.zeros(shape), change, Dense.of(clean))
    return restoration, passed, masked, clean


def constant(value: Tensor | float) -> Any:
    return lambda *given: torch.as_tensor(value, dtype=torch.float64)


def losses(**heads: Any) -> dict[str, float]:
    restoration, passed, masked, clean = by_hand()
    stand_ins = {
        "tokens": constant(torch.zeros(2, 20)),
        "coordinates": constant(masked.graph.pos[masked.atoms]),
        "distances": constant(torch.zeros(2, 3)),
        **heads,
    }
    for name, value in stand_ins.items():
        object.__setattr__(restoration, name, value)
        del restoration._modules[name]
    found = restoration(passed, masked, clean, share=0.2)  # of 5 atoms: one on average
    return {name: float(value) for name, value in found.items()}


def test_token_loss_of_no_opinion_is_the_logarithm_of_the_elements() -> None:
    assert losses()["token"] == pytest.approx(2 * math.log(20))
    sure = torch.full((2, 20), -50.0)
    sure[0, 6] = sure[1, 1] = 50.0
    assert losses(tokens=constant(sure))["token"] == pytest.approx(0.0, abs=1e-9)


def test_coordinate_loss_is_smooth_l1_of_the_displacement() -> None:
    # C: 0.5 Å off in one of three axes: 0.5²/2; H: 3 Å off: 3 - 1/2
    assert losses()["coordinate"] == pytest.approx((0.125 + 2.5) / 3)


def test_distance_loss_is_over_the_atoms_of_the_own_molecule_alone() -> None:
    # C: distances 1, 0, 1 → 0, -1/2, 0; H: 0, 2 → -1/2, 1/2; the third place is empty
    assert losses()["distance"] == pytest.approx(0.125 / 3 + 0.25 / 2)
    right = torch.tensor([[0.0, -0.5, 0.0], [-0.5, 0.5, 7.0]])
    assert losses(distances=constant(right))["distance"] == pytest.approx(0.0, abs=1e-12)


def test_norm_losses_begin_one_beyond_the_root_of_the_width() -> None:
    # tokens: norms 2, 4, 0, 2, 3.5 about 2, less 1: 0, 1, 1, 0, 0.5
    assert losses()["atom_norm"] == pytest.approx(2.5 / 5, abs=1e-4)
    # pairs: 2 of the first's nine (an atom: a third), 1.5 of the second's four (a half)
    assert losses()["pair_norm"] == pytest.approx((2 / 3 + 1.5 / 2) / 5, abs=1e-6)
    assert float(norm_loss(torch.full((4,), 0.1))) == pytest.approx(0.8)


def test_the_loss_is_the_weighted_sum_of_both_passes() -> None:
    graph, noise = random_batch(1, torch.float32, sizes=(12, 9)), NoiseSource(1, 0)
    weights = UNIMOL["weights"]
    found = make(UNIMOL)(graph, noise)
    assert set(found) == {"loss", *weights}
    assert torch.allclose(found["loss"], sum(w * found[name] for name, w in weights.items()))
    found = make(GEORECON)(graph, noise)
    assert set(found) == {"loss", *weights, *(f"guided_{name}" for name in weights)}
    total = sum(w * (found[name] + found[f"guided_{name}"]) for name, w in weights.items())
    assert torch.allclose(found["loss"], total)


def test_a_batch_without_a_hidden_atom_has_a_loss() -> None:
    graph = random_batch(1, torch.float32, sizes=(1, 2))
    for step in range(20):
        found = make(GEORECON)(graph, NoiseSource(1, step))
        assert all(torch.isfinite(value) for value in found.values())


# ---- training ----------------------------------------------------------------------------------


@pytest.mark.parametrize("params", [UNIMOL, GEORECON], ids=["unimol", "georecon"])
def test_every_parameter_gets_a_gradient(params: dict[str, Any]) -> None:
    objective = make(params)
    with torch.no_grad():
        for parameter in objective.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    graph = random_batch(1, torch.float32, sizes=(18, 25, 20))
    objective(graph, NoiseSource(1, 0))["loss"].backward()
    blind = {n for n, p in objective.named_parameters() if p.grad is None or not p.grad.any()}
    assert not blind
    assert all(torch.isfinite(p.grad).all() for p in objective.parameters())


@pytest.mark.parametrize("params", [UNIMOL, GEORECON], ids=["unimol", "georecon"])
def test_training_lowers_each_loss(params: dict[str, Any]) -> None:
    """On noise that was not trained on, but for the norms, which begin small."""
    objective = make(params)
    graph = batch([random_molecule(10, k) for k in range(8)], torch.float32)
    optimizer = torch.optim.AdamW(objective.parameters(), lr=3e-3)

    def score() -> dict[str, float]:
        with torch.no_grad():
            found = [objective(graph, NoiseSource(9, -1 - k)) for k in range(8)]
        return {name: sum(float(one[name]) for one in found) for name in found[0]}

    before = score()
    for step in range(60):
        optimizer.zero_grad()
        objective(graph, NoiseSource(1, step))["loss"].backward()
        optimizer.step()
    after = score()
    assert all(after[name] < before[name] for name in after if "norm" not in name), (before, after)


def gradient(objective: torch.nn.Module, *, cut: bool) -> Tensor:
    """Of the encoder's first layer; ``cut``: without what flows through the code."""
    graph, noise = random_batch(1, torch.float32, sizes=(14, 9)), NoiseSource(1, 0)
    own = objective.code
    if cut:
        objective.code = lambda graph: own(graph).detach()
    objective(graph, noise)["loss"].backward()
    found: Tensor = objective.encoder.layers[0].qkv.weight.grad
    return found


def test_the_gradient_flows_through_the_clean_pass() -> None:
    whole = gradient(make(GEORECON), cut=False)
    assert not torch.allclose(whole, gradient(make(GEORECON), cut=True), rtol=1e-3)


def test_the_guided_pass_sees_the_code_of_its_own_molecule() -> None:
    """The code changes the guided losses alone; another molecule's code changes them too."""
    objective, noise = make(GEORECON), NoiseSource(1, 0)
    graph = random_batch(2, torch.float32, sizes=(14, 9, 11))
    own = objective.code
    with torch.no_grad():
        plain = objective(graph, noise)
        objective.code = lambda graph: own(graph).roll(1, 0)
        other = objective(graph, noise)
    for name in UNIMOL["weights"]:
        assert torch.equal(plain[name], other[name])
    assert not torch.allclose(plain["guided_distance"], other["guided_distance"], rtol=1e-4)


def test_codes_are_normalised_and_of_one_molecule() -> None:
    objective = make(GEORECON).double()
    graph = random_batch(1)
    pos = graph.pos.clone().requires_grad_(True)
    code = objective.code(graph._replace(pos=pos))
    assert code.mean(1).abs().max() < 1e-5
    assert (code.var(1, correction=0) - 1).abs().max() < 0.05
    (slope,) = torch.autograd.grad(code[0].square().sum() + code[0, 0], pos)
    assert slope[graph.batch == 0].any()
    assert not slope[graph.batch != 0].any()


@pytest.mark.parametrize(
    ("params", "words"),
    [
        ({"mask": 0.0}, "mask: is 0.0; must be greater than 0"),
        ({"mask": 0.6}, "mask: is 0.6; must be at most 0.5"),
        ({"difficulty": 3.0}, "difficulty: is 3.0; must be at most 2"),
        ({"weights": {"token": 1.0}}, "weights.coordinate: missing"),
        ({"sigma": 0.04}, "sigma: unknown key"),
    ],
)
def test_wrong_parameters_are_refused(params: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        make(UNIMOL, **params)


def test_an_encoder_of_another_architecture_is_refused() -> None:
    transformer = build_encoder(EncoderSettings(channels=8, layers=1, heads=2, rbf=4))
    with pytest.raises(ConfigError, match="objective unimol: trains unimol, not et"):
        objectives.build("unimol", transformer, UNIMOL)
    with pytest.raises(ConfigError, match="objective denoise: trains et, not unimol"):
        objectives.build("denoise", build_encoder(sizes()), {"sigma": 0.04})
