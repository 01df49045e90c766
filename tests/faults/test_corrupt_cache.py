"""F10: a raw file that changed on disk is noticed on its next use and never parsed."""

from __future__ import annotations

import hashlib
import json
import random
import re
from pathlib import Path
from typing import Any

import pytest

from georecon.data.card_checks import complete
from georecon.data.cards import Card, reading_json
from georecon.data.raw.fetch import fetch
from georecon.data.store import Store
from georecon.errors import DataError, FetchError
from georecon.keys import from_json
from georecon.stages import preprocess as module
from georecon.stages.preprocess import preprocess

WATER = "3\nProperties=species:S:1:pos:R:3:forces:R:3 energy=-2076.{0:03d}\n"
WATER += (
    "O 0.0 0.0 0.12 0.{0} 0.2 0.1\nH 0.0 0.76 -0.48 0.1 0.1 0.1\nH 0.0 -0.76 -0.48 0.3 0.1 0.0\n"
)
FRAMES = "".join(WATER.format(number + 100) for number in range(20)).encode()


def card(**known: Any) -> dict[str, Any]:
    """A force set of one file, in units of the file."""
    units = {"pos": "Å", "energy": "eV", "forces": "eV/Å"}
    source = {
        "reader": "frames",
        "raw_units": units,
        "files": {"water": {"name": "water.xyz", **known}},
    }
    given = from_json(Card, {"kind": "forces", "sources": {"own": source}})
    return reading_json(complete("water", given))


@pytest.fixture
def raw(tmp_path: Path) -> Path:
    folder = tmp_path / "raw/water"
    folder.mkdir(parents=True)
    (folder / "water.xyz").write_bytes(FRAMES)
    return folder


def flip(path: Path, place: int) -> None:
    """Flip one bit; time stamp and size stay."""
    data = bytearray(FRAMES)
    data[place // 8] ^= 1 << place % 8
    path.write_bytes(data)


KNOWN = {
    kind: {kind: hashlib.new(kind, FRAMES).hexdigest()} for kind in ("sha256", "sha384", "md5")
}


@pytest.mark.parametrize("kind", [*KNOWN, "lock"])
def test_any_flipped_bit_is_noticed_before_parsing(
    kind: str, raw: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file, entry = raw / "water.xyz", KNOWN.get(kind, {})
    if kind == "lock":
        fetch({"name": "water.xyz"}, file, offline=True)  # records what is there
    store = preprocess(card(**entry), raw, tmp_path / "good", "water")
    assert store.counts.molecules == 20
    parsed: list[Path] = []
    monkeypatch.setitem(module.READERS, "frames", lambda job: parsed.append(job.only_path()))
    for place in random.Random(3).sample(range(8 * len(FRAMES)), 50):
        flip(file, place)
        digest = hashlib.new(kind if kind in KNOWN else "sha256", file.read_bytes()).hexdigest()
        with pytest.raises(DataError, match=f"{digest}, expected [0-9a-f]+"):
            preprocess(card(**entry), raw, tmp_path / "bad", "water")
    file.write_bytes(FRAMES[:-1])
    with pytest.raises(DataError, match="water"):
        preprocess(card(**entry), raw, tmp_path / "bad", "water")
    assert parsed == []
    assert not (tmp_path / "bad").exists()


def test_without_the_check_a_flipped_bit_becomes_a_label(raw: Path, tmp_path: Path) -> None:
    """The broken twin: a card that knows no hash, and no lock file."""
    place = 8 * FRAMES.index(b"-2076.105") + 8 * 8
    flip(raw / "water.xyz", place)
    preprocess(card(), raw, tmp_path / "twin", "water")
    energies = Store.open(tmp_path / "twin").labels["energy"]
    assert energies[5] == pytest.approx(-2076.104)
    with pytest.raises(DataError, match="sha256 is"):
        preprocess(card(**KNOWN["sha256"]), raw, tmp_path / "twin", "water")


def test_damaged_file_is_fetched_again(raw: Path, tmp_path: Path) -> None:
    entry = {"name": "water.xyz", **KNOWN["sha256"]}
    (tmp_path / "mirror").mkdir()
    (tmp_path / "mirror/water.xyz").write_bytes(FRAMES)
    flip(raw / "water.xyz", 1000)
    with pytest.raises(FetchError, match=r"sha256 is [0-9a-f]{64}, expected [0-9a-f]{64}"):
        fetch(entry, raw / "water.xyz", offline=True)
    fetch(entry, raw / "water.xyz", mirror=tmp_path / "mirror", offline=True)
    assert (raw / "water.xyz").read_bytes() == FRAMES


def test_store_does_not_depend_on_where_a_file_came_from(raw: Path, tmp_path: Path) -> None:
    preprocess(card(**KNOWN["sha256"]), raw, tmp_path / "one", "water")
    fetch({"name": "water.xyz"}, raw / "water.xyz", offline=True)
    lock = raw.parent / "lock.json"
    assert re.fullmatch("[0-9a-f]{64}", json.loads(lock.read_text())["water/water.xyz"]["sha256"])
    preprocess(card(**KNOWN["sha256"]), raw, tmp_path / "two", "water")
    one, two = (tmp_path / name / "manifest.json" for name in ("one", "two"))
    assert one.read_bytes() == two.read_bytes()
