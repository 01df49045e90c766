"""The noise: standard normal, independent in every coordinate, and a pure function of them."""

from __future__ import annotations

import zlib

import numpy as np
import pytest
import torch

from georecon.graph import MolGraph, make_graph
from georecon.noise import NoiseSource, mix
from tests.toy_graphs import batch, random_batch, random_molecule, singles

COUNT = 40_000


def atoms(count: int, dtype: torch.dtype = torch.float64, first_id: int = 0) -> MolGraph:
    """Molecules of 10 atoms at the origin, ``count`` atoms in all."""
    molecules = count // 10
    return make_graph(
        torch.ones(count, dtype=torch.int64),
        torch.zeros(count, 3, dtype=dtype),
        torch.full((molecules,), 10),
        torch.arange(first_id, first_id + molecules),
    )


def slow_mix(x: np.ndarray) -> np.ndarray:
    """SplitMix64's finaliser in NumPy's unsigned integers, written from its paper."""
    with np.errstate(over="ignore"):
        x = x + np.uint64(0x9E3779B97F4A7C15)
        x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        return x ^ (x >> np.uint64(31))


def as_unsigned(number: int) -> np.ndarray:
    return np.array([number]).astype(np.int64).view(np.uint64)


def slow_normal(source: NoiseSource, graph: MolGraph, stream: str) -> np.ndarray:
    """The same noise, one number at a time."""
    key = slow_mix(as_unsigned(source.seed))
    for part in (source.step, zlib.crc32(stream.encode())):
        key = slow_mix(key ^ as_unsigned(part))
    found = []
    for k, molecule in enumerate(graph.ids.tolist()):
        per_molecule = slow_mix(key ^ as_unsigned(molecule))
        for atom in range(int(graph.ptr[k + 1] - graph.ptr[k])):
            per_atom = slow_mix(per_molecule ^ as_unsigned(atom))
            for axis in range(3):
                first = slow_mix(per_atom ^ as_unsigned(axis))
                second = slow_mix(first)
                u, v = (
                    ((x >> np.uint64(11)).astype(float) + 0.5) * 2.0**-53 for x in (first, second)
                )
                found.append(float(np.sqrt(-2 * np.log(u[0])) * np.cos(2 * np.pi * v[0])))
    return np.array(found).reshape(-1, 3)


def correlation(a: torch.Tensor, b: torch.Tensor) -> float:
    return float(np.corrcoef(a.flatten().numpy(), b.flatten().numpy())[0, 1])


@pytest.mark.parametrize(("seed", "step"), [(1, 0), (7, 123), (2**31, -1), (0, 10**6)])
def test_equals_a_slow_implementation(seed: int, step: int) -> None:
    graph = batch([random_molecule(5, 1), random_molecule(9, 2)], ids=[133_885, 2**40])
    source = NoiseSource(seed, step)
    found = source.normal(graph, "denoise").numpy()
    assert np.abs(found - slow_normal(source, graph, "denoise")).max() < 1e-14


def test_mix_is_splitmix64() -> None:
    """First outputs of the reference generator with state 1234567, published with its code."""
    state, golden = 1234567, 0x9E3779B97F4A7C15
    states = [(state + k * golden) % 2**64 for k in range(5)]
    signed = torch.from_numpy(np.array(states, dtype=np.uint64).view(np.int64))
    expected = [6457827717110365317, 3203168211198807973, 9817491932198370423,
                4593380528125082431, 16408922859458223821]  # fmt: skip
    assert mix(signed).numpy().view(np.uint64).tolist() == expected


def test_is_standard_normal() -> None:
    x = NoiseSource(1, 0).normal(atoms(COUNT), "denoise").flatten().numpy()
    n = len(x)
    assert abs(x.mean()) < 4 / np.sqrt(n)
    assert abs(x.var() - 1) < 4 * np.sqrt(2 / n)
    assert abs((x**3).mean()) < 4 * np.sqrt(15 / n)
    assert abs((x**4).mean() - 3) < 4 * np.sqrt(96 / n)
    ordered = np.sort(x)
    normal = torch.distributions.Normal(0.0, 1.0).cdf(torch.from_numpy(ordered)).numpy()
    distance = np.abs(normal - (np.arange(n) + 0.5) / n).max()
    assert distance < 1.95 / np.sqrt(n)  # Kolmogorov-Smirnov, 0.1 % level
    assert np.abs(x).max() > 4.0
    assert len(np.unique(x)) == n


def test_each_axis_and_each_atom_is_standard_normal() -> None:
    x = NoiseSource(2, 5).normal(atoms(COUNT), "denoise")
    for axis in range(3):
        assert abs(float(x[:, axis].mean())) < 4 / np.sqrt(COUNT)
        assert abs(float(x[:, axis].var()) - 1) < 4 * np.sqrt(2 / COUNT)
    by_atom = x.view(-1, 10, 3)
    limit = 4.5 / np.sqrt(COUNT / 10)
    assert float(by_atom.mean(0).abs().max()) < limit
    assert float((by_atom.var(0) - 1).abs().max()) < limit * np.sqrt(2)


def test_is_independent_across_seed_step_and_stream() -> None:
    graph = atoms(COUNT)
    base = NoiseSource(1, 10).normal(graph, "denoise")
    others = {
        "seed": NoiseSource(2, 10).normal(graph, "denoise"),
        "next step": NoiseSource(1, 11).normal(graph, "denoise"),
        "validation": NoiseSource(1, -1).normal(graph, "denoise"),
        "stream": NoiseSource(1, 10).normal(graph, "reconstruct"),
        "seed and step exchanged": NoiseSource(10, 1).normal(graph, "denoise"),
        "next id": NoiseSource(1, 10).normal(atoms(COUNT, first_id=1), "denoise"),
    }
    limit = 4.5 / np.sqrt(3 * COUNT)
    for name, other in others.items():
        assert abs(correlation(base, other)) < limit, name
        assert abs(correlation(base**2, other**2)) < limit, name


def test_is_independent_across_axis_atom_and_molecule() -> None:
    x = NoiseSource(3, 4).normal(atoms(COUNT), "denoise")
    limit = 4.5 / np.sqrt(COUNT)
    for a, b in ((0, 1), (0, 2), (1, 2)):
        assert abs(correlation(x[:, a], x[:, b])) < limit
    assert abs(correlation(x[:-1], x[1:])) < limit
    molecules = x.view(-1, 10, 3)
    assert abs(correlation(molecules[:-1], molecules[1:])) < limit


def test_uniform_numbers_of_atoms_are_uniform_and_of_the_atom_alone() -> None:
    graph = atoms(COUNT)
    x = NoiseSource(1, 0).uniform_of_atoms(graph, "mask", 2)
    assert x.shape == (COUNT, 2)
    for column in x.T:
        ordered = column.sort().values.numpy()
        distance = np.abs(ordered - (np.arange(COUNT) + 0.5) / COUNT).max()
        assert distance < 1.95 / np.sqrt(COUNT)  # Kolmogorov-Smirnov, 0.1 % level
    assert abs(correlation(x[:, 0], x[:, 1])) < 4.5 / np.sqrt(COUNT)
    assert abs(correlation(x[:-1, 0], x[1:, 0])) < 4.5 / np.sqrt(COUNT)
    more = NoiseSource(1, 0).uniform_of_atoms(graph, "mask", 3)
    assert torch.equal(more[:, :2], x)
    parts = [NoiseSource(1, 0).uniform_of_atoms(one, "mask", 2) for one in singles(atoms(50))]
    assert torch.equal(torch.cat(parts), x[:50])
    for other in (NoiseSource(2, 0), NoiseSource(1, 1)):
        assert abs(correlation(x, other.uniform_of_atoms(graph, "mask", 2))) < 0.02
    assert abs(correlation(x, NoiseSource(1, 0).uniform_of_atoms(graph, "move", 2))) < 0.02


def test_does_not_depend_on_the_batch() -> None:
    graph = random_batch(1, sizes=(7, 3, 11, 1))
    source = NoiseSource(5, 17)
    together = source.normal(graph, "denoise")
    alone = torch.cat([source.normal(one, "denoise") for one in singles(graph)])
    assert torch.equal(together, alone)


def test_follows_molecules_when_the_batch_is_reordered() -> None:
    molecules = [random_molecule(n, n) for n in (4, 6, 5)]
    source = NoiseSource(5, 17)
    plain = source.normal(batch(molecules, ids=[30, 10, 20]), "denoise")
    turned = source.normal(batch(molecules[::-1], ids=[20, 10, 30]), "denoise")
    parts = plain.split([4, 6, 5])
    assert torch.equal(turned, torch.cat(parts[::-1]))


def test_depends_on_no_position_and_no_global_generator() -> None:
    graph = random_batch(2)
    source = NoiseSource(1, 1)
    torch.manual_seed(0)
    first = source.normal(graph, "denoise")
    torch.manual_seed(99)
    torch.rand(3)
    again = source.normal(graph._replace(pos=graph.pos + 1.0, z=graph.z + 1), "denoise")
    assert torch.equal(first, again)


def test_has_the_dtype_of_positions() -> None:
    double = NoiseSource(1, 1).normal(atoms(100), "denoise")
    single = NoiseSource(1, 1).normal(atoms(100, torch.float32), "denoise")
    assert single.dtype == torch.float32
    assert torch.equal(single, double.float())


def test_uniform_numbers_are_of_molecules_and_independent_of_the_batch() -> None:
    graph = atoms(COUNT)
    source = NoiseSource(3, 7)
    found = source.uniform(graph, "dropout")
    assert found.shape == (graph.num_graphs,)
    assert float(found.mean()) == pytest.approx(0.5, abs=0.02)
    assert float((found < 0.2).double().mean()) == pytest.approx(0.2, abs=0.02)
    later = atoms(1000, first_id=50)
    assert torch.equal(source.uniform(later, "dropout"), found[50:150])
    for other in (NoiseSource(4, 7), NoiseSource(3, 8)):
        assert (
            abs(float(torch.corrcoef(torch.stack([found, other.uniform(graph, "dropout")]))[0, 1]))
            < 0.06
        )
    assert not torch.equal(source.uniform(graph, "another"), found)
