"""MD17-like archives: equality with NumPy, ids, units, refusals."""

from __future__ import annotations

import pickle
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from georecon.data.readers.md17 import read_md17
from georecon.errors import DataError
from georecon.units import EV_TO_KCAL_MOL


@pytest.fixture(scope="module")
def ethanol(mirror: Path) -> dict[str, Any]:
    with np.load(mirror / "md17/raw/md17_ethanol_first2000.npz") as data:
        return {name: data[name][:20] if data[name].ndim > 1 else data[name] for name in data}


def save(path: Path, data: dict[str, Any], **changes: Any) -> Path:
    np.savez(path, **{**data, **changes})
    return path


def test_equal_to_numpy(mirror: Path, cards: dict[str, Any]) -> None:
    file = mirror / "md17/raw/md17_ethanol_first2000.npz"
    got = read_md17(file, ranges=cards["md17"]["ranges"])
    with np.load(file) as data:
        assert np.array_equal(got.labels["energy"], data["E"][:, 0])
        assert np.array_equal(got.forces, data["F"].reshape(-1, 3))
        assert np.array_equal(got.pos, data["R"].reshape(-1, 3).astype(np.float32))
        assert np.array_equal(got.z.reshape(2000, 9)[7], data["z"])
    assert got.labels["energy"][0] == -97208.40600498248
    assert np.array_equal(got.ids, np.arange(2000))
    assert set(got.n_atoms()) == {9}


def test_md17_and_rmd17_share_ids_of_frames(mirror: Path, cards: dict[str, Any]) -> None:
    md17 = read_md17(mirror / "md17/raw/md17_uracil_subset2000.npz", ranges=cards["md17"]["ranges"])
    rmd17 = read_md17(
        mirror / "rmd17/rmd17-npz/rmd17_uracil_train_01.npz", ranges=cards["rmd17"]["ranges"]
    )
    assert len(rmd17) == 1000
    assert np.isin(rmd17.ids, md17.ids).all()
    row = int(np.flatnonzero(md17.ids == rmd17.ids[5])[0])
    assert np.array_equal(md17.pos[row * 12 : row * 12 + 12], rmd17.pos[60:72])
    assert rmd17.labels["energy"][5] != md17.labels["energy"][row]


def test_raw_units_are_converted(
    tmp_path: Path, ethanol: dict[str, Any], cards: dict[str, Any]
) -> None:
    ev = {"E": ethanol["E"] / EV_TO_KCAL_MOL, "F": ethanol["F"] / EV_TO_KCAL_MOL}
    file = save(tmp_path / "ev.npz", ethanol, **ev)
    ranges = cards["md17"]["ranges"]
    with pytest.raises(DataError, match=r"energy_per_atom = -468.*read as kcal/mol"):
        read_md17(file, ranges=ranges)
    got = read_md17(file, ranges=ranges, raw_units={"energy": "eV", "forces": "eV/Å"})
    np.testing.assert_allclose(got.labels["energy"], ethanol["E"][:, 0], rtol=1e-13)
    np.testing.assert_allclose(got.forces, ethanol["F"].reshape(-1, 3), rtol=1e-12, atol=1e-12)


def test_wrong_units_are_refused(
    tmp_path: Path, ethanol: dict[str, Any], cards: dict[str, Any]
) -> None:
    for change, message in (
        ({"F": ethanol["F"] / EV_TO_KCAL_MOL}, r"record 0: force_rms"),
        ({"R": ethanol["R"] / 0.529177}, r"record 0: nearest_neighbour = 1\.8"),
        ({"R": ethanol["R"] * 0.1}, r"record 0: nearest_neighbour = 0\.09"),
    ):
        with pytest.raises(DataError, match=message):
            read_md17(save(tmp_path / "a.npz", ethanol, **change), ranges=cards["md17"]["ranges"])


def test_unusable_arrays_are_refused(tmp_path: Path, ethanol: dict[str, Any]) -> None:
    nan = ethanol["R"].copy()
    nan[3, 2, 1] = np.nan
    infinite = ethanol["E"].copy()
    infinite[4] = np.inf
    for change, message in (
        ({"R": nan}, r"a\.npz, record 3: positions contain NaN"),
        ({"E": infinite}, r"a\.npz, record 4: label energy is inf"),
        ({"z": np.array([6, 6, 0, 1, 1, 1, 1, 1, 1])}, "unknown element"),
        ({"z": ethanol["z"] + 0.5}, r"record 0: z = .* holds no whole numbers"),
        ({"z": np.array([6, 6, 101, 1, 1, 1, 1, 1, 1])}, "unknown element in z"),
        ({"z": np.array([6, 6, np.nan, 1, 1, 1, 1, 1, 1])}, "holds no whole numbers"),
        (
            {"z": np.array(["C", "C", "Xx", "H", "H", "H", "H", "H", "H"])},
            "z: unknown element 'Xx'",
        ),
        ({"z": ethanol["z"] > 0}, "z holds bool"),
        ({"E": ethanol["E"].astype(str)}, "array E holds <U"),
        ({"F": ethanol["F"] + 0j}, "array F holds complex128"),
        ({"F": ethanol["F"][:10]}, "do not fit 9 atoms"),
        ({"E": ethanol["E"][:10]}, "do not fit 9 atoms"),
        ({"original_index": np.zeros(20)}, "frame index has 1 of 20"),
    ):
        with pytest.raises(DataError, match=message):
            read_md17(save(tmp_path / "a.npz", ethanol, **change), ranges={})


def test_missing_keys_are_listed(tmp_path: Path, ethanol: dict[str, Any]) -> None:
    np.savez(tmp_path / "a.npz", R=ethanol["R"], z=ethanol["z"])
    with pytest.raises(DataError, match="has no E, F; it has: R, z"):
        read_md17(tmp_path / "a.npz", ranges={})
    np.savez(tmp_path / "b.npz", x=ethanol["R"])
    with pytest.raises(DataError, match="has no R, z, E, F; it has: x"):
        read_md17(tmp_path / "b.npz", ranges={})


class Trap:
    """Creates a file when unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return (Path.touch, (self.path,))


def test_pickles_are_refused_unread(tmp_path: Path, ethanol: dict[str, Any]) -> None:
    sprung = tmp_path / "sprung"
    objects = np.array([Trap(sprung)], dtype=object)
    np.savez(tmp_path / "object.npz", allow_pickle=True, **{**ethanol, "E": objects})
    (tmp_path / "plain.npz").write_bytes(pickle.dumps(Trap(sprung)))
    for name in ("object.npz", "plain.npz"):
        with pytest.raises(DataError, match=rf"{name}: not a usable .npz archive"):
            read_md17(tmp_path / name, ranges={})
    assert not sprung.exists()


@pytest.mark.parametrize("name", ["R", "E", "F", "z", "original_index"])
def test_an_array_of_objects_that_is_needed_is_named(
    name: str, tmp_path: Path, ethanol: dict[str, Any]
) -> None:
    array = np.empty(3, dtype=object)
    file = save(tmp_path / "a.npz", ethanol, **{name: array})
    with pytest.raises(DataError, match=rf"a\.npz: .*array {name} holds Python objects"):
        read_md17(file, ranges={})


def test_arrays_that_nothing_needs_are_not_read(tmp_path: Path, ethanol: dict[str, Any]) -> None:
    sprung = tmp_path / "sprung"
    more = {
        "notes": np.array([Trap(sprung)], dtype=object),
        "metadata": np.array({"a": 1}, dtype=object),
        "cell": np.array(None),
        "old_energies": ethanol["E"].astype(str),
    }
    file = save(tmp_path / "a.npz", ethanol, **more)
    with zipfile.ZipFile(file, "a") as archive:
        archive.writestr("__MACOSX/._R.npy", b"\0\5\x16\7")
        archive.writestr("README.txt", "about these frames")
    plain = read_md17(save(tmp_path / "b.npz", ethanol), ranges={})
    assert np.array_equal(read_md17(file, ranges={}).pos, plain.pos)
    assert not sprung.exists()
    energies = save(tmp_path / "c.npz", ethanol, F=np.array([None]))
    assert len(read_md17(energies, ranges={}, forces=False)) == 20


@pytest.mark.parametrize(
    "z", [np.float32, np.float64, np.int64, np.uint64, lambda z: np.array(list("CCOHHHHHH")),
          lambda z: np.array(list("CCODTHHHH"), dtype="S2"),
          lambda z: np.array(["6", "6", "8", "1", "1", "1", "1", "1", "1"])],
)  # fmt: skip
def test_elements_of_any_type(z: Any, tmp_path: Path, ethanol: dict[str, Any]) -> None:
    ethanol = ethanol | {"z": np.array([6, 6, 8, 1, 1, 1, 1, 1, 1])}
    file = save(tmp_path / "a.npz", ethanol, z=z(ethanol["z"]))
    assert np.array_equal(read_md17(file, ranges={}).z[:9], ethanol["z"])


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"pbc": np.array([True, True, True])}, "pbc = .*a periodic set"),
        ({"pbc": np.array([0, 0, 1])}, "pbc = .*a periodic set"),
        ({"lattice": 7 * np.eye(3)}, "array lattice is a box"),
        ({"cell": np.tile(7 * np.eye(3), (20, 1, 1))}, "array cell is a box"),
        ({"Box": np.array([7.0, 7.0, 7.0])}, "array Box is a box"),
    ],
)
def test_a_periodic_set_is_refused(
    more: dict[str, Any], message: str, tmp_path: Path, ethanol: dict[str, Any]
) -> None:
    with pytest.raises(DataError, match=rf"a\.npz: {message}"):
        read_md17(save(tmp_path / "a.npz", ethanol, **more), ranges={})
    whole = {"pbc": np.zeros(3, bool), "cell": 50 * np.eye(3), "lattice": np.zeros((3, 3))}
    assert len(read_md17(save(tmp_path / "b.npz", ethanol, **whole), ranges={})) == 20


def test_a_unit_that_the_file_names_is_the_cards(tmp_path: Path, ethanol: dict[str, Any]) -> None:
    for more in ({"r_unit": "Angstrom"}, {"e_unit": np.array(b"kcal/mol")}, {"r_unit": "furlong"}):
        assert len(read_md17(save(tmp_path / "a.npz", ethanol, **more), ranges={})) == 20
    for more, message in (
        ({"r_unit": "bohr"}, "r_unit says a0, the card Å"),
        ({"e_unit": np.array(b"eV")}, "e_unit says eV, the card kcal/mol"),
    ):
        with pytest.raises(DataError, match=message):
            read_md17(save(tmp_path / "a.npz", ethanol, **more), ranges={})


def test_truncated_or_absent_file_is_refused(tmp_path: Path, mirror: Path) -> None:
    whole = (mirror / "md17/raw/md17_ethanol_first2000.npz").read_bytes()
    file = tmp_path / "cut.npz"
    for size in (0, 10, 5000, len(whole) - 30):
        file.write_bytes(whole[:size])
        with pytest.raises(DataError, match=r"cut\.npz"):
            read_md17(file, ranges={})
    damaged = bytearray(whole)
    damaged[len(whole) // 2] ^= 255
    file.write_bytes(damaged)
    with pytest.raises(DataError, match=r"cut\.npz"):
        read_md17(file, ranges={})
    with pytest.raises(DataError, match=r"gone\.npz"):
        read_md17(tmp_path / "gone.npz", ranges={})
