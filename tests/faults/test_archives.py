"""F11: hostile and damaged archives are refused before a byte is parsed; nothing gets out."""

from __future__ import annotations

import gzip
import io
import re
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest

from georecon.data.raw.archives import extract, inspect, is_archive, members, open_member
from georecon.errors import DataError
from tests.faults.hostile_archives import HOSTILE, INNOCENT, member, tar, zipped

# In a process of its own, whose peak memory is its own: what a reader does with a file.
READ = """
import sys
from pathlib import Path
from georecon.data.raw.archives import members
from georecon.errors import DataError
parsed, said = [], ""
try:
    for name, stream in members(sys.argv[1]):
        while block := stream.read(1 << 16):
            parsed.append(name)
except DataError as error:
    said = str(error)
# not ru_maxrss, which a child starts with from its parent
peak = Path("/proc/self/status").read_text().split("VmHWM:")[1].split()[0]
print(len(set(parsed)), int(peak) // 1024, said)
"""


@pytest.fixture(scope="session")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Each hostile archive, made once."""
    folder, made = tmp_path_factory.mktemp("hostile"), {}

    def make(case: str) -> Path:
        if case not in made:
            name, maker = HOSTILE[case]
            (folder / case).mkdir()
            made[case] = maker(folder / case / name)
        return made[case]

    return make


def files_below(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


def reason(case: str) -> str:
    """What the refusal must say."""
    words = {"bomb": r"unpacks to \d+ bytes", "duplicate": "twice", "same_name": "twice"}
    words |= {"name_bomb": "announces 1073741824 bytes", "device": "not a regular file"}
    words |= {"link": "not a regular file", "fifo": "not a regular file"}
    return next((text for word, text in reversed(words.items()) if word in case), "unsafe name")


@pytest.mark.parametrize("case", HOSTILE)
def test_refused_before_a_byte_is_parsed(case: str, hostile: Callable[[str], Path]) -> None:
    archive = hostile(case)
    result = subprocess.run(
        [sys.executable, "-c", READ, str(archive)], capture_output=True, text=True, check=True
    )
    parsed, megabytes, said = result.stdout.split(" ", 2)
    assert re.search(f"{re.escape(str(archive))}.*{reason(case)}", said), said
    # only a gzip file that lies about its size is read before it is found out
    assert int(parsed) == (case == "gz_bomb_that_lies")
    assert int(megabytes) < 200


def naive_extract(archive: Path, folder: Path) -> None:
    """The broken twin: what a script without checks does."""
    with tarfile.open(archive) as handle:
        handle.extractall(folder, filter="fully_trusted")


def safe_extract(archive: Path, folder: Path) -> None:
    extract(archive, INNOCENT[0], folder)


def escapes(unpack: Callable[[Path, Path], None], archive: Path, base: Path) -> list[str]:
    """Whatever unpacking into ``base/a/target`` leaves under ``base``."""
    target = base / "a/target"
    target.mkdir(parents=True)
    with suppress(DataError):
        unpack(archive, target)
    return files_below(base)


def test_nothing_is_written_and_the_check_sees_what_would_be(
    tmp_path: Path, hostile: Callable[[str], Path]
) -> None:
    archive = hostile("path_escape")
    assert escapes(safe_extract, archive, tmp_path / "safe") == ["a", "a/target"]
    assert "a/escaped.xyz" in escapes(naive_extract, archive, tmp_path / "naive")


@pytest.mark.parametrize("case", ["path_escape", "symlink_out", "duplicate_names", "zip_bomb"])
def test_the_innocent_member_of_a_hostile_archive_is_not_extracted(
    case: str, tmp_path: Path, hostile: Callable[[str], Path]
) -> None:
    with pytest.raises(DataError, match=r"unsafe|regular|twice|unpacks"):
        extract(hostile(case), INNOCENT[0], tmp_path)
    assert files_below(tmp_path) == []


def test_members_are_checked_as_they_come_when_inspected_before(
    hostile: Callable[[str], Path],
) -> None:
    for case in ("path_escape", "symlink_out", "bomb", "duplicate_names", "zip_path_escape"):
        with pytest.raises(DataError):
            list(members(hostile(case), inspected=True))


# ---- good archives -----------------------------------------------------------------------------

NAMES = ("t.tar", "t.tar.gz", "t.tgz", "t.tar.bz2", "t.zip")
DATA = {INNOCENT[0]: INNOCENT[1], "b.sdf": b"second" * 5000, "empty.txt": b""}


def good(path: Path) -> Path:
    """The same three files and a folder in any kind of archive."""
    rest = [name for name in DATA if name != INNOCENT[0]]
    if path.suffix == ".zip":
        zipped(path, [])
        with zipfile.ZipFile(path, "a") as archive:
            archive.mkdir("folder")
            for name in rest:
                archive.writestr(name, DATA[name], zipfile.ZIP_DEFLATED)
        return path
    entries = [
        member("folder", kind=tarfile.DIRTYPE),
        *(member(name, DATA[name]) for name in rest),
    ]
    modes = {".tar": "w", ".bz2": "w:bz2"}
    return tar(path, entries, modes.get(path.suffix, "w:gz"))


@pytest.mark.parametrize("name", NAMES)
def test_good_archive_gives_its_bytes(name: str, tmp_path: Path) -> None:
    archive = good(tmp_path / name)
    assert is_archive(name)
    assert {found: stream.read() for found, stream in members(archive)} == DATA
    assert {found: stream.read(7) for found, stream in members(archive, inspected=True)} == {
        found: data[:7] for found, data in DATA.items()
    }
    assert [(one.name, one.size) for one in inspect(archive)] == [
        (found, len(data)) for found, data in DATA.items()
    ]
    with open_member(archive, suffix=".SDF") as stream:
        assert stream.read() == DATA["b.sdf"]
    path = extract(archive, INNOCENT[0], tmp_path / "out")
    assert path == tmp_path / "out/good.xyz"
    assert path.read_bytes() == INNOCENT[1]
    with pytest.raises(DataError, match=r"c\.sdf: is not in the archive, which holds data/good"):
        extract(archive, "c.sdf", tmp_path / "out")
    with pytest.raises(DataError, match="expected one member"), open_member(archive, suffix="d"):
        pass


def test_gz_and_plain_file_are_one_member(tmp_path: Path) -> None:
    (tmp_path / "a.sdf").write_bytes(b"plain")
    (tmp_path / "a.sdf.gz").write_bytes(gzip.compress(b"first") + gzip.compress(b"second"))
    assert [(n, s.read()) for n, s in members(tmp_path / "a.sdf")] == [("a.sdf", b"plain")]
    assert [(n, s.read()) for n, s in members(tmp_path / "a.sdf.gz")] == [("a.sdf", b"firstsecond")]
    with open_member(tmp_path / "a.sdf.gz", suffix=".sdf") as stream:
        assert io.TextIOWrapper(stream).read() == "firstsecond"


# ---- damaged archives --------------------------------------------------------------------------


def read(archive: Path) -> list[bytes]:
    """Bytes of each member."""
    return [stream.read() for _, stream in members(archive)]


@pytest.mark.parametrize("name", [*NAMES, "t.sdf.gz"])
def test_cut_archive_is_never_taken_for_a_whole_one(name: str, tmp_path: Path) -> None:
    if name == "t.sdf.gz":
        (tmp_path / name).write_bytes(gzip.compress(bytes(range(256)) * 100))
        source = tmp_path / name
    else:
        source = good(tmp_path / name)
    data = source.read_bytes()
    cuts = {0, 1, len(data) // 2, len(data) * 99 // 100, len(data) - 1}
    if name == "t.tar":  # between members too; the end mark is 1,024 zeros, then padding
        cuts = {*range(0, len(data.rstrip(b"\0")), 512)}
    for cut in sorted(cuts):
        source.write_bytes(data[:cut])
        with pytest.raises(DataError, match=name):
            read(source)


def test_damaged_header_is_not_the_end_of_a_tar(tmp_path: Path) -> None:
    archive = good(tmp_path / "t.tar")
    data = bytearray(archive.read_bytes())
    place = data.index(b"b.sdf")
    data[place] ^= 1
    archive.write_bytes(data)
    with tarfile.open(archive, "r|") as twin:  # tarfile alone goes on as if all were well
        assert len(list(twin)) < len(DATA)
    with pytest.raises(DataError, match="damaged"):
        list(inspect(archive))


@pytest.mark.parametrize("name", ["t.tar.gz", "t.tar.bz2", "t.zip", "t.sdf.gz"])
def test_flipped_bits_in_members_are_noticed(name: str, tmp_path: Path) -> None:
    source, expected = tmp_path / name, list(DATA.values())
    if name == "t.sdf.gz":
        source.write_bytes(gzip.compress(DATA["b.sdf"]))
        expected = [DATA["b.sdf"]]
    else:
        good(source)
    data = source.read_bytes()
    # the directory at a zip's end has no checksum of its own; the file's sha256 covers it
    end = zipfile.ZipFile(source).start_dir if name == "t.zip" else len(data)
    missed = []
    for k in range(300):
        place = (k * 8 * end // 300 + k % 8) % (8 * end)
        flipped = bytearray(data)
        flipped[place // 8] ^= 1 << place % 8
        source.write_bytes(flipped)
        if content(source) not in (None, expected):
            missed.append(place)
    assert missed == []


def content(archive: Path) -> list[bytes] | None:
    """Bytes of each member, None where the archive is refused."""
    try:
        return read(archive)
    except DataError:
        return None


# ---- what operating systems and servers leave ----------------------------------------------------

LITTER = ("._good.xyz", "data/._b.sdf", ".DS_Store", "data/.DS_Store", "__MACOSX/data/._b.sdf",
          "__MACOSX/b.sdf", "Thumbs.db", "data/desktop.ini")  # fmt: skip


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("dot", ["", "./"])
def test_litter_is_passed_over_in_every_kind(name: str, dot: str, tmp_path: Path) -> None:
    source = tmp_path / name
    if name == "t.zip":
        zipped(source, [])
        with zipfile.ZipFile(source, "a") as archive:
            for litter in LITTER:
                archive.writestr(dot + litter, b"\0\5\x16\7")
            archive.writestr("data/b.sdf", DATA["b.sdf"])
    else:
        entries = [member(dot + litter, b"\0\5\x16\7") for litter in LITTER]
        modes = {".tar": "w", ".bz2": "w:bz2"}
        tar(source, [*entries, member("data/b.sdf", DATA["b.sdf"])],
            modes.get(source.suffix, "w:gz"))  # fmt: skip
    assert {found: stream.read() for found, stream in members(source, litter=False)} == {
        INNOCENT[0]: INNOCENT[1],
        "data/b.sdf": DATA["b.sdf"],
    }
    with open_member(source, suffix=".sdf") as stream:
        assert stream.read() == DATA["b.sdf"]
    # it is checked and listed all the same
    assert len(list(inspect(source))) == len(list(members(source))) == 2 + len(LITTER)


def test_names_that_only_look_like_litter_stay(tmp_path: Path) -> None:
    names = ["a._b.xyz", "x__MACOSX/a.xyz", "DS_Store", ".hidden.xyz"]
    source = tar(tmp_path / "t.tar", [member(name) for name in names], "w")
    assert [name for name, _ in members(source, litter=False)] == [INNOCENT[0], *names]
    hostile = tar(tmp_path / "u.tar", [member("../._a.xyz")], "w")
    with pytest.raises(DataError, match="unsafe name"):
        list(members(hostile))


PLAIN = b"a title\n\n\n  1  0\n" * 30


@pytest.mark.parametrize("name", ["a.sdf.gz", "a.tar.gz", "a.tgz", "a.tar.bz2", "a.zip", "a.bz2"])
@pytest.mark.parametrize(
    ("content", "what"),
    [
        (PLAIN, r"it starts with b'a title"),
        (b"<!DOCTYPE html>\n<html>" + PLAIN, "an HTML page"),
        (
            b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n",
            "a Git LFS pointer",
        ),
        (b"", "an empty file"),
    ],
)
def test_what_is_not_compressed_is_called_so(
    name: str, content: bytes, what: str, tmp_path: Path
) -> None:
    source = tmp_path / name
    source.write_bytes(content)
    kind = {"gz": "gzip", "tgz": "gzip", "bz2": "bzip2", "zip": "zip"}[name.rsplit(".", 1)[1]]
    with pytest.raises(DataError, match=rf"{name}: is not {kind}, though its name says so: {what}"):
        read(source)


@pytest.mark.parametrize("garbage", [b"some trailing text\n", b"\xff" * 10, b"\0\0\0\0text", b"PK"])
def test_what_follows_gzip_data_is_called_so(garbage: bytes, tmp_path: Path) -> None:
    source = tmp_path / "a.sdf.gz"
    source.write_bytes(gzip.compress(PLAIN) + garbage)
    with pytest.raises(DataError, match=rf"{len(PLAIN)} bytes unpacked, then other bytes follow"):
        read(source)
    packed = tmp_path / "a.tar.gz"
    packed.write_bytes(good(tmp_path / "t.tgz").read_bytes() + garbage)
    with pytest.raises(DataError, match="then other bytes follow"):
        read(packed)
    source.write_bytes(gzip.compress(PLAIN) + b"\0" * 512)  # padding of tapes is allowed
    assert read(source) == [PLAIN]
