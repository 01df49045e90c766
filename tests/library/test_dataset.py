"""A store as a data set of PyTorch Geometric; QM9's values are those of PyG's own QM9."""

from __future__ import annotations

import gzip
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from torch_geometric.datasets import QM9
from torch_geometric.loader import DataLoader

from georecon.data.manifest import Source
from georecon.data.molecules import Molecules
from georecon.data.readers.qm9_official import read_gdb9, read_uncharacterized
from georecon.data.store import StoreWriter
from georecon.errors import ConfigError, DataError
from georecon.library.convert import from_pyg
from georecon.library.dataset import QM9_TARGETS, StoreDataset
from tests.data.test_pyg import assert_equal, molecules

FIRST = 57  # so far the subset has every record of QM9
LIST = "=====\n" * 9 + "      21   x   x\n      44   x   x\n" + "=====\n"
"""A list of uncharacterized molecules in the form of QM9's."""


def stored(folder: Path, given: Molecules) -> Path:
    source = Source(source="toy")
    with StoreWriter(folder / "store", dataset="toy", source=source, units={}) as writer:
        writer.append(given)
    return folder / "store"


def test_a_molecule_is_that_of_the_store(tmp_path: Path) -> None:
    given = molecules()
    dataset = StoreDataset(stored(tmp_path, given), targets=("mu", "homo"))
    assert len(dataset) == 3
    assert_equal(given, from_pyg(dataset, ["homo", "mu"]))
    assert dataset[1].y.tolist() == [
        [np.float32(given.labels["mu"][1]), np.float32(given.labels["homo"][1])]
    ]
    assert dataset[1].y.dtype == torch.float32
    assert "y" not in StoreDataset(tmp_path / "store")[0]


def test_it_is_indexed_shuffled_and_loaded_as_pygs_own(tmp_path: Path) -> None:
    given = molecules()
    path = stored(tmp_path, given)
    dataset = StoreDataset(path, ("mu",), transform=lambda data: data.update({"seen": 1}))
    rows = dataset.store.rows([given.ids[2], given.ids[0]])
    chosen = dataset[rows]
    assert [data.idx for data in chosen] == [given.ids[2], given.ids[0]]
    assert [data.idx for data in dataset[torch.tensor([False, True, False])]] == [given.ids[1]]
    assert len(dataset[:2]) == 2
    assert sorted(data.idx for data in dataset.shuffle()) == sorted(given.ids.tolist())
    (batch,) = DataLoader(chosen, batch_size=8)
    assert batch.num_graphs == 2
    assert batch.y.shape == (2, 1)
    assert batch.seen.tolist() == [1, 1]


def test_what_is_not_there_is_named(tmp_path: Path) -> None:
    path = stored(tmp_path, molecules())
    with pytest.raises(ConfigError, match="store: has no label gap; labels: homo, mu"):
        StoreDataset(path, ("mu", "gap"))
    with pytest.raises(DataError, match="nowhere"):
        StoreDataset(tmp_path / "nowhere")


@pytest.fixture(scope="module")
def raw(mirror: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The first molecules of QM9's own files, as PyG lays them down."""
    folder = tmp_path_factory.mktemp("qm9")
    (folder / "raw").mkdir()
    packed = mirror / "qm9/raw/gdb9_subset12000.sdf.gz"
    records = gzip.decompress(packed.read_bytes()).decode().split("$$$$\n")[:FIRST]
    (folder / "raw/gdb9.sdf").write_text("".join(f"{record}$$$$\n" for record in records))
    lines = (mirror / "qm9/raw/gdb9_subset12000.sdf.csv").read_text().splitlines(keepends=True)
    (folder / "raw/gdb9.sdf.csv").write_text("".join(lines[: FIRST + 1]))
    (folder / "raw/uncharacterized.txt").write_text(LIST)
    return folder


def test_qm9_has_the_values_units_and_order_of_pygs(raw: Path, tmp_path: Path) -> None:
    """With float32's rounding: PyG converts in float32, the store in float64."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # PyG's
        theirs = QM9(str(raw))
    skip = read_uncharacterized(raw / "raw/uncharacterized.txt")
    (chunk, *_) = read_gdb9(raw / "raw/gdb9.sdf", raw / "raw/gdb9.sdf.csv", skip, ranges={})
    assert isinstance(chunk, Molecules)
    ours = StoreDataset(stored(tmp_path, chunk), QM9_TARGETS)
    assert len(ours) == len(theirs) == FIRST - 2
    for mine, other in zip(ours, theirs, strict=True):
        assert mine.idx == other.idx + 1  # a gdb index; PyG counts records
        assert mine.y.dtype == other.y.dtype
        assert torch.equal(mine.z, other.z)
        assert torch.equal(mine.pos, other.pos)
        torch.testing.assert_close(mine.y, other.y[:, :12], rtol=3e-7, atol=1e-9)


def test_another_order_or_unit_is_noticed(raw: Path, tmp_path: Path) -> None:
    """The twin of the test above."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        theirs = QM9(str(raw))[0].y[:, :12]
    assert not torch.allclose(theirs.roll(1), theirs, rtol=1e-3)
    assert not torch.allclose(theirs / 27.211386, theirs, rtol=1e-3)
