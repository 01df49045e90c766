"""How much an encoder's code of a molecule moves when its atoms move: local Lipschitz estimates.

The paper says: spectral norm of the encoder's map after small displacements (v2, section 1 and
appendix B). Open in its public text, and chosen here: the maps, the sizes of the displacements and
the molecules (docs/method.md). Jacobians are ∂f/∂r in 1/Å at ``r + δ``, ``δ ~ N(0, σ_δ²)``.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from georecon.data.split import read_split
from georecon.data.store import Store
from georecon.experiments.settings import SmoothnessSettings
from georecon.graph import MolGraph, composition_keys, pool_mean, pool_sum, scatter_sum
from georecon.keys import Json, from_json
from georecon.models.encoder_file import load_encoder
from georecon.models.encoders import Encoder, build_encoder
from georecon.noise import NoiseSource
from georecon.training.batches import in_order

Map = Callable[[MolGraph], Tensor]

CONVERGED = 0.01
"""A power iteration has converged when its estimate would grow by less than this part."""


ISOMERS_AMONG = 1000
"""Test molecules among which isomers are looked for, to know how far their codes lie apart."""


def code_maps(encoder: Encoder) -> dict[str, Map]:
    """Maps whose smoothness is measured: molecule → code, (B, F), or node features, (N, F)."""

    def normalised(graph: MolGraph) -> Tensor:
        pooled = pool_mean(encoder(graph)[0], graph)
        return functional.layer_norm(pooled, pooled.shape[-1:])

    return {
        "mean": lambda graph: pool_mean(encoder(graph)[0], graph),
        "mean_normalised": normalised,
        "sum": lambda graph: pool_sum(encoder(graph)[0], graph),
        "node": lambda graph: encoder(graph)[0],
    }


def _owner(output: Tensor, graph: MolGraph) -> Tensor:
    """Molecule of each row of a map's output."""
    per_molecule = output.shape[0] == graph.num_graphs
    return torch.arange(graph.num_graphs, device=output.device) if per_molecule else graph.batch


def _norms(values: Tensor, owner: Tensor, size: int) -> Tensor:
    """Euclidean norm over all entries of each molecule, (B,)."""
    return scatter_sum(values.square().sum(-1), owner, size).sqrt()


class Spectral(NamedTuple):
    """Largest singular values, estimated from below.

    Attributes:
        norm: of each molecule, (B,) [1/Å].
        growth: by what part of itself the estimate would still grow with more iterations, (B,),
            extrapolated from its last two steps; infinite where these do not tell.
    """

    norm: Tensor
    growth: Tensor


def spectral_norms(f: Map, graph: MolGraph, *, iterations: int, seed: int) -> Spectral:
    """Largest singular value of ∂f/∂r of each molecule.

    Power iteration on JᵀJ with vector-Jacobian products and Jacobian-vector products; the latter by
    differentiating the former, which is linear in its vector. Molecules do not interact, so one
    batch iterates all of them at once.

    Args:
        f: map to differentiate.
        graph: molecules, already displaced.
        iterations: power iterations; the estimate grows towards the true value.
        seed: seed of the starting vectors.
    """
    pos = graph.pos.detach().requires_grad_(True)
    output = f(graph._replace(pos=pos))
    owner, size = _owner(output, graph), graph.num_graphs
    dual = torch.zeros_like(output, requires_grad=True)
    # sums of products: for gradients of outputs given by hand torch would import its compiler
    (pulled,) = torch.autograd.grad((output * dual).sum(), pos, create_graph=True)
    vector = NoiseSource(seed, 0).normal(graph, "power_iteration")
    history = [torch.zeros(size, dtype=output.dtype, device=output.device)] * 3
    tiny = torch.finfo(output.dtype).tiny ** 0.5
    for _ in range(iterations):
        vector = vector / _norms(vector, graph.batch, size).clamp(min=tiny)[graph.batch, None]
        (pushed,) = torch.autograd.grad((pulled * vector).sum(), dual, retain_graph=True)
        history = [*history[1:], _norms(pushed, owner, size).detach()]
        (vector,) = torch.autograd.grad((output * pushed).sum(), pos, retain_graph=True)
    return Spectral(history[-1], _growth(*history))


def _growth(before: Tensor, last: Tensor, now: Tensor) -> Tensor:
    """What is left of a geometric sequence after three of its terms, relative to the last."""
    step, rounding = now - last, 8.0 * torch.finfo(now.dtype).eps * now
    left = torch.where(last - before > step, step**2 / (last - before - step), torch.inf)
    settled = step <= rounding  # and a map that does not see positions: all zero
    return torch.where(settled, 0.0, left / now)


def difference_ratios(f: Map, clean: MolGraph, moved: MolGraph) -> Tensor:
    """‖f(r + δ) − f(r)‖ / ‖δ‖ of each molecule, (B,) [1/Å]."""
    with torch.no_grad():
        change = f(moved) - f(clean)
    size = clean.num_graphs
    step = _norms(moved.pos - clean.pos, clean.batch, size)
    return _norms(change, _owner(change, clean), size) / step


def spread(f: Map, graphs: list[MolGraph]) -> float:
    """Standard deviation of f over molecules (root of the summed variance of its channels)."""
    with torch.no_grad():
        values = torch.cat([f(graph) for graph in graphs])
    return float(values.var(dim=0, correction=0).sum().sqrt())


def spread_within_isomers(f: Map, graphs: list[MolGraph]) -> float:
    """Standard deviation of f over isomers: about the mean of the molecules of the same atoms.

    Args:
        f: map with one row a molecule.
        graphs: molecules in batches; those without an isomer among them do not count.

    Returns:
        The root of the variance summed over channels, with one degree of freedom less for each
        group of isomers; NaN where there are none.
    """
    with torch.no_grad():
        values = torch.cat([f(graph) for graph in graphs]).double()
    keys = torch.cat([composition_keys(graph) for graph in graphs])
    _, group, count = keys.unique(return_inverse=True, return_counts=True)
    mean = torch.zeros(len(count), values.shape[1], dtype=values.dtype, device=values.device)
    mean.index_add_(0, group, values).div_(count[:, None])
    squares = (values - mean[group]).square().sum()
    return float((squares / (count - 1).sum()).sqrt())


class Measured(NamedTuple):
    """Estimates, and norms of single molecules [1/Å]; both by ``"<map>/<σ_δ>"``."""

    estimates: dict[str, dict[str, float | None]]
    norms: dict[str, list[float]]


def measure(
    encoder: Encoder,
    graphs: list[MolGraph],
    settings: SmoothnessSettings,
    wide: list[MolGraph],
) -> Measured:
    """All estimates of one encoder.

    Args:
        encoder: encoder, on the device of ``graphs``.
        graphs: held-out molecules in batches.
        settings: maps, displacements, iterations and seed are used.
        wide: more molecules, for the spread within isomers.

    Returns:
        All by ``"<map>/<σ_δ>"``: mean and max of the spectral norm, the number of molecules
        whose power iteration has not converged, mean of the difference ratio, the
        spread of the map over molecules and within isomers, and the mean spectral norm divided by
        each; within isomers null where there are none, or for the map to all nodes. Beside
        these the spectral norm of each molecule.
    """
    maps = code_maps(encoder)
    found = Measured({}, {})
    for name in settings.maps:
        f = maps[name]
        width = spread(f, graphs)
        within = math.nan if name == "node" else spread_within_isomers(f, wide)
        for sigma in settings.displacements:
            norms, growths, ratios = [], [], []
            for graph in graphs:
                noise = NoiseSource(settings.seed, 0)
                moved, _ = noise.displace(graph, "displacement", sigma)
                found_norms = spectral_norms(
                    f, moved, iterations=settings.iterations, seed=settings.seed
                )
                norms.append(found_norms.norm)
                growths.append(found_norms.growth)
                ratios.append(difference_ratios(f, graph, moved))
            norm = torch.cat(norms).cpu().numpy().astype(np.float64)
            found.norms[f"{name}/{sigma}"] = [float(f"{x:.6g}") for x in norm]
            found.estimates[f"{name}/{sigma}"] = {
                "spectral_mean": float(norm.mean()),
                "spectral_max": float(norm.max()),
                "unconverged": int((torch.cat(growths) > CONVERGED).sum()),
                "difference_mean": float(torch.cat(ratios).double().mean()),
                "spread": width,
                "scale_free": float(norm.mean()) / width,
                "spread_isomers": within if within > 0.0 else None,
                "scale_free_isomers": float(norm.mean()) / within if within > 0.0 else None,
            }
    return found


def smoothness(
    settings: Json,
    store_path: Path,
    split_path: Path,
    encoder_path: Path | None,
    *,
    device: str,
) -> Json:
    """Estimates for an encoder file, or for an untrained encoder when there is none.

    Args:
        settings: of ``SmoothnessSettings``, as JSON.
        store_path: store to take molecules from.
        split_path: the first ``molecules`` ids of its test part are used.
        encoder_path: pre-trained encoder or None.
        device: "cpu" or "cuda".
    """
    store, split = Store.open(store_path), read_split(split_path)
    run = from_json(SmoothnessSettings, settings)
    torch.manual_seed(run.seed)
    encoder = build_encoder(run.encoder)
    if encoder_path is not None:
        load_encoder(encoder_path, encoder)
    encoder = encoder.to(device).eval().requires_grad_(False)
    ids = split.test[: run.molecules]
    graphs = [batch.graph.to(device) for batch in in_order(store, ids, 32, None)]
    more = in_order(store, split.test[:ISOMERS_AMONG], 100, None)
    wide = [batch.graph.to(device) for batch in more]
    found = measure(encoder, graphs, run, wide)
    return {"molecules": len(ids), "estimates": found.estimates, "norms": found.norms}
