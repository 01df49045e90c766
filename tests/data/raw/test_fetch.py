"""Fetching without a network: mirror, package, own file, kept file. Downloads: tests/faults."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import pytest

from georecon.data.raw.fetch import fetch
from georecon.errors import FetchError

DATA = b"forty-two molecules" * 1000


def entry(**changes: Any) -> dict[str, Any]:
    known = {"bytes": len(DATA), "sha256": hashlib.sha256(DATA).hexdigest()}
    return {"name": "a.bin", "urls": [], **known, **changes}


def test_from_mirror_at_any_depth(tmp_path: Path) -> None:
    (tmp_path / "mirror/deep").mkdir(parents=True)
    (tmp_path / "mirror/deep/a.bin").write_bytes(DATA)
    dest = tmp_path / "raw/set/a.bin"
    assert fetch(entry(), dest, mirror=tmp_path / "mirror", offline=True) == dest
    assert dest.read_bytes() == DATA


def test_corrupted_mirror_is_refused_and_nothing_left(tmp_path: Path) -> None:
    (tmp_path / "mirror").mkdir()
    (tmp_path / "mirror/a.bin").write_bytes(b"!" + DATA[1:])
    with pytest.raises(FetchError, match=r"mirror/a\.bin: sha256 is .*, expected") as caught:
        fetch(entry(), tmp_path / "raw/set/a.bin", mirror=tmp_path / "mirror")
    assert "put it at" in str(caught.value)
    assert list((tmp_path / "raw/set").iterdir()) == []
    (tmp_path / "mirror/a.bin").write_bytes(DATA[:-1])
    with pytest.raises(FetchError, match="holds 18999 bytes, expected 19000"):
        fetch(entry(), tmp_path / "raw/set/a.bin", mirror=tmp_path / "mirror")


def test_second_copy_in_mirror_is_tried(tmp_path: Path) -> None:
    for folder, data in (("a", b"bad"), ("b", DATA)):
        (tmp_path / "mirror" / folder).mkdir(parents=True)
        (tmp_path / "mirror" / folder / "a.bin").write_bytes(data)
    assert (
        fetch(entry(), tmp_path / "raw/set/a.bin", mirror=tmp_path / "mirror").read_bytes() == DATA
    )


def test_own_file_and_md5(tmp_path: Path) -> None:
    own = tmp_path / "mine.dat"
    own.write_bytes(DATA)
    md5 = hashlib.md5(DATA).hexdigest()
    fetch(entry(local=str(own), sha256=None, md5=md5), tmp_path / "raw/set/a.bin", offline=True)
    with pytest.raises(FetchError, match="md5 is"):
        fetch(entry(local=str(own), sha256=None, md5="0" * 32), tmp_path / "raw/set/b.bin")


@pytest.mark.parametrize("name", ["a.bin", "train_300K.xyz", "rows.csv"])
def test_own_file_is_taken_before_one_of_its_name_in_the_mirror(name: str, tmp_path: Path) -> None:
    (tmp_path / "mirror").mkdir()
    (tmp_path / "mirror" / name).write_bytes(b"another set's")
    (tmp_path / name).write_bytes(DATA)
    own = {"name": name, "local": str(tmp_path / name)}
    dest = fetch(own, tmp_path / "raw/set" / name, mirror=tmp_path / "mirror", offline=True)
    assert dest.read_bytes() == DATA


def test_existing_file_is_checked_not_trusted(tmp_path: Path) -> None:
    dest = tmp_path / "raw/set/a.bin"
    dest.parent.mkdir(parents=True)
    dest.write_bytes(b"stale")
    with pytest.raises(FetchError, match=r"a\.bin: holds 5 bytes"):
        fetch(entry(), dest, offline=True)
    dest.write_bytes(DATA)
    assert fetch(entry(), dest, offline=True) == dest


def test_offline_says_what_was_wanted_and_how_to_give_it(tmp_path: Path) -> None:
    card_file = entry(urls=["https://example.org/a.bin"])
    with pytest.raises(FetchError) as caught:
        fetch(card_file, tmp_path / "raw/set/a.bin", mirror=tmp_path, offline=True)
    text = str(caught.value)
    for part in ("a.bin (19000 bytes, sha256", "holds no a.bin", "example.org", "mirror:"):
        assert part in text
    with pytest.raises(FetchError, match="no source is known"):
        fetch(entry(), tmp_path / "raw/set/a.bin")


def test_from_package(tmp_path: Path, cards: dict[str, Any]) -> None:
    pytest.importorskip("pandas")
    files = cards["qm9"]["sources"]["qm9pack"]["files"]
    try:
        dest = fetch(files["part1"], tmp_path / "raw/qm9" / files["part1"]["name"], offline=True)
    except FetchError as error:
        pytest.skip(str(error))
    assert dest.stat().st_size == files["part1"]["bytes"]
    with pytest.raises(FetchError, match="Python package no_such: not installed"):
        fetch({**files["part1"], "package": "no_such"}, tmp_path / "other/qm9/b.csv", offline=True)


NAMES = ("*.bin", "a?.bin", "[ab].bin", "a#b.bin", "50%25.bin", "~a.bin", "-a.bin", "a b.bin", "**",
         "ü.bin", "a@3.bin", "a&b=c.bin", "a;b.bin")  # fmt: skip


@pytest.mark.parametrize("name", NAMES)
def test_names_are_taken_as_they_are(name: str, tmp_path: Path) -> None:
    """No pattern: with only other files there, nothing is found."""
    mirror = tmp_path / "mirror/deep"
    mirror.mkdir(parents=True)
    for other in ("x.bin", "ab.bin", "a.bin", "50%.bin"):
        (mirror / other).write_bytes(DATA)
    dest = tmp_path / "raw/set" / name
    with pytest.raises(FetchError, match="holds no "):
        fetch(entry(name=name), dest, mirror=tmp_path / "mirror")
    (mirror / name).write_bytes(DATA)
    assert fetch(entry(name=name), dest, mirror=tmp_path / "mirror") == dest
    # the file of another dataset, by the same name
    (mirror / name).unlink()
    again = tmp_path / "raw/other" / name
    assert fetch(entry(name=name), again, mirror=tmp_path / "mirror").read_bytes() == DATA


@pytest.mark.parametrize("name", [*NAMES, "~", "~nobody"])
def test_own_paths_are_taken_as_they_are(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path(name).write_bytes(DATA)
    assert fetch(entry(local=name), tmp_path / "raw/set/a.bin").read_bytes() == DATA


def test_the_home_folder_is_meant_by_a_tilde_and_a_slash_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "own.bin").write_bytes(DATA)
    assert fetch(entry(local="~/own.bin"), tmp_path / "raw/set/a.bin").read_bytes() == DATA


@pytest.mark.parametrize("kind", ["file", "folder", "chain"])
def test_links_that_leave_the_mirror_are_not_followed(kind: str, tmp_path: Path) -> None:
    outside, mirror = tmp_path / "outside", tmp_path / "mirror"
    outside.mkdir()
    mirror.mkdir()
    (outside / "a.bin").write_bytes(DATA)
    if kind == "folder":
        (mirror / "deep").symlink_to(outside)
    else:
        (mirror / "a.bin").symlink_to(mirror / "b" if kind == "chain" else outside / "a.bin")
        (mirror / "b").symlink_to(outside / "a.bin")
    said = r"mirror/a\.bin: a link out of the mirror" if kind != "folder" else "holds no a.bin"
    with pytest.raises(FetchError, match=said):
        fetch(entry(), tmp_path / "raw/set/a.bin", mirror=mirror)


def test_links_within_the_mirror_and_to_it_are_followed(tmp_path: Path) -> None:
    (tmp_path / "real/deep").mkdir(parents=True)
    (tmp_path / "real/data").write_bytes(DATA)
    (tmp_path / "real/deep/a.bin").symlink_to("../data")
    (tmp_path / "mirror").symlink_to("real")
    dest = tmp_path / "raw/set/a.bin"
    assert fetch(entry(), dest, mirror=tmp_path / "mirror").read_bytes() == DATA
    assert not dest.is_symlink()
