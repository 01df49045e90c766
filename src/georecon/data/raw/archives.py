"""Archives as streams: the one place that opens ``.gz``, ``.bz2``, ``.tar`` and ``.zip``.

An archive comes from the network, so it is an enemy until looked through. ``inspect`` reads its
headers only and refuses, before a byte is parsed or written: names that leave the folder, links,
devices and other special members, names given twice, encrypted members, and archives that unpack
to more than ``MAX_RATIO`` times their size. A tar archive also needs its end mark: tarfile takes
one that breaks off between two members, or a damaged header, for the end.

What macOS and Windows leave in archives (``._name``, ``.DS_Store``, ``__MACOSX/``) is checked like
the rest, and passed over by readers. Memory does not grow with the archive. Nothing is written but
by ``extract``, which writes one file into the folder it is given, under the last part of the
member's name.
"""

from __future__ import annotations

import bz2
import gzip
import io
import re
import shutil
import stat
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO, Any, BinaryIO, Protocol, cast

from georecon.data.raw.content import not_compressed
from georecon.errors import DataError
from georecon.files import atomic_path

MAX_RATIO = 100
"""Unpacked size over archive size that is refused; official sets have 3 to 15."""
_SLACK = 16 << 20  # bytes that any archive may unpack to
_LONGEST_META = 64 << 10  # long names and pax records; tarfile reads them whole
_BLOCK = 1 << 16  # larger buffers leave the cache, and the C library maps each anew
_META = (
    *(tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK),
    *(tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.SOLARIS_XHDTYPE),
)
_LITTER = re.compile(r"(^|/)(__MACOSX(/|$)|\._|\.DS_Store$|Thumbs\.db$|desktop\.ini$)")
_UNUSABLE_NAME = re.compile(r"^$|^[/~]|^[A-Za-z]:|\\|[\x00-\x1f\x7f]|(^|/)\.\.(/|$)")
_BROKEN = (OSError, EOFError, ValueError, RuntimeError, NotImplementedError, struct.error)
_UNREADABLE = (*_BROKEN, tarfile.TarError, zipfile.BadZipFile, zlib.error)


@dataclass(frozen=True, slots=True)
class Member:
    """A regular file in an archive.

    Args:
        name: path inside the archive, relative, with slashes.
        size: bytes when unpacked; None for ``.gz``, which does not say it reliably.
    """

    name: str
    size: int | None


_SINGLE = ("plain", "gz", "bz2")  # kinds without members of their own names
_COMPRESSION = {"gz": "gzip", "bz2": "bzip2", "zip": "zip"}
Opened = Iterator[tuple[Member, Callable[[], IO[bytes]]]]


def is_archive(name: str) -> bool:
    """Whether a file of this name is opened as an archive; others are streamed as they are."""
    return _kind(name) != "plain"


def inspect(path: str | Path, *, name: str | None = None) -> Iterator[Member]:
    """Look through a whole archive and check every member, reading headers only.

    Args:
        path: the archive.
        name: file name whose ending tells the kind, where that of ``path`` does not.

    Yields:
        Its regular files, in order. Only a walk to the end has checked all.

    Raises:
        DataError: damaged, cut short or hostile; names the archive and the member.
    """
    file = Path(path)
    with _errors_named(file, None):
        for member, _ in _opened(file, name or file.name):
            yield member


def members(
    path: str | Path, *, inspected: bool = False, litter: bool = True
) -> Iterator[tuple[str, BinaryIO]]:
    """Stream the regular files of an archive, of a ``.gz`` or ``.bz2``, or a plain file as it is.

    Args:
        path: the file; its ending tells the kind.
        inspected: this very content (same sha256) has passed ``inspect`` before, as fetched files
            have; saves the walk before the first member. Members are checked as they come anyhow.
        litter: also what operating systems leave in archives, such as ``._name``.

    Yields:
        Name and binary stream of each member; a stream serves until the next member is asked for.

    Raises:
        DataError: as ``inspect``, before the first member; also from a stream's ``read``.
    """
    file = Path(path)
    if not inspected:
        for _ in inspect(file):
            pass
    with _errors_named(file, None):
        for member, opener in _opened(file, file.name):
            if not litter and _is_litter(file, member.name):
                continue
            with opener() as raw:
                stream = io.BufferedReader(_Named(raw, file, member.name), _BLOCK)
                yield member.name, cast(BinaryIO, stream)


@contextmanager
def open_member(
    path: str | Path, name: str | None = None, *, suffix: str = "", inspected: bool = False
) -> Iterator[BinaryIO]:
    """Open one member by its name, or the only one with a suffix, as a binary stream.

    Args:
        path: archive, ``.gz`` or plain file (whose only member has the file's own name).
        name: member; a leading ``./`` in the archive does not matter.
        suffix: without ``name``: ending of the member wanted, upper or lower case.
        inspected: see ``members``.

    Raises:
        DataError: no such member, or several with the suffix; lists some that are there.
    """
    file = Path(path)
    if inspected and name is not None:
        wanted = name
    else:
        names = [member.name for member in inspect(file)]
        wanted = _choose(file, [one for one in names if not _is_litter(file, one)], name, suffix)
    for found, stream in members(file, inspected=True):
        if _plain_name(found) == _plain_name(wanted):
            yield stream
            return
    raise DataError(file, wanted, "is not in the archive")


def extract(path: str | Path, name: str, folder: str | Path, *, inspected: bool = False) -> Path:
    """Copy one member into a folder, under the last part of its name; returns its path.

    Raises:
        DataError: as ``open_member``; then nothing is left in the folder.
    """
    target = Path(folder) / PurePosixPath(name).name
    with (
        open_member(path, name, inspected=inspected) as stream,
        atomic_path(target) as temporary,
        open(temporary, "wb") as out,
    ):
        shutil.copyfileobj(stream, out, _BLOCK)
    return target


def _choose(file: Path, names: list[str], name: str | None, suffix: str) -> str:
    if name is not None:
        fitting = [one for one in names if _plain_name(one) == _plain_name(name)]
        asked = "is not in the archive"
    else:
        fitting = [one for one in names if one.lower().endswith(suffix.lower())]
        asked = f"expected one member *{suffix}, found {len(fitting)} in the archive"
    if len(fitting) != 1:
        there = ", ".join(names[:5]) + (", …" if len(names) > 5 else "")
        raise DataError(file, name, f"{asked}, which holds {there or 'nothing'}")
    return fitting[0]


def _is_litter(file: Path, name: str) -> bool:
    """Whether a member is what an operating system put beside the files of an archive."""
    return _kind(file.name) not in _SINGLE and _LITTER.search(_plain_name(name)) is not None


def _plain_name(name: str) -> str:
    return str(PurePosixPath(name))


def _kind(name: str) -> str:
    name = name.lower()
    for kind, endings in (
        ("tar", (".tar",)),
        ("tar.gz", (".tar.gz", ".tgz")),
        ("tar.bz2", (".tar.bz2", ".tbz2")),
        ("zip", (".zip", ".npz")),
        ("gz", (".gz",)),
        ("bz2", (".bz2",)),
    ):
        if name.endswith(endings):
            return kind
    return "plain"


def _opened(file: Path, name: str) -> Opened:
    """Checked members and how each is opened, in order."""
    kind = _kind(name)
    if kind == "plain":
        return iter([(Member(name, file.stat().st_size), lambda: open(file, "rb"))])
    compression = next((word for end, word in _COMPRESSION.items() if kind.endswith(end)), None)
    wrong = not_compressed(file, compression) if compression else None
    if wrong is not None:
        raise DataError(file, None, wrong)
    if kind in _SINGLE:
        return _single_member(file, name, kind)
    return _checked(file, _zip_members(file) if kind == "zip" else _tar_members(file, kind))


def _checked(file: Path, found: Opened) -> Opened:
    """Refuse names that leave the folder or come twice."""
    seen: set[str] = set()
    for member, opener in found:
        if _UNUSABLE_NAME.search(member.name):
            raise DataError(file, repr(member.name), "unsafe name, expected a relative path")
        if _plain_name(member.name) in seen:
            raise DataError(file, member.name, "comes twice in the archive, expected once")
        seen.add(_plain_name(member.name))
        yield member, opener


def _limit(file: Path) -> int:
    return MAX_RATIO * file.stat().st_size + _SLACK


def _bomb(file: Path, record: str | None, size: int) -> DataError:
    whole = file.stat().st_size
    reason = f"unpacks to {size} bytes or more from {whole}, allowed {_limit(file)}"
    return DataError(file, record, reason)


def _single_member(file: Path, name: str, kind: str) -> Opened:
    """The content of a ``.gz`` or ``.bz2``."""

    def opener() -> IO[bytes]:
        return cast(IO[bytes], _Counted(_decompressed(file, kind), file))

    if kind == "gz":
        with open(file, "rb") as handle:
            size = handle.seek(0, io.SEEK_END)
            if size < 18:
                raise DataError(file, None, f"{size} bytes are no whole gzip file")
            handle.seek(-4, io.SEEK_END)
            (announced,) = struct.unpack("<I", handle.read(4))
        if announced > _limit(file):
            # may lie, or be of other bytes after the end: reading tells which, within the limit
            with opener() as stream:
                while stream.read(_BLOCK):
                    pass
    yield Member(name[: -len(kind) - 1], None), opener


def _decompressed(file: Path, kind: str) -> _Readable:
    return _Gzip(file) if kind.endswith("gz") else bz2.BZ2File(file, "rb")


def _zip_members(file: Path) -> Opened:
    with zipfile.ZipFile(file) as archive:
        total = 0
        entries = archive.infolist()
        for entry in entries:
            total += entry.file_size  # no more than this is ever read of an entry
            if total > _limit(file):
                raise _bomb(file, entry.filename, total)
            kind = stat.S_IFMT(entry.external_attr >> 16)
            if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
                raise DataError(file, entry.filename, "is not a regular file")
            if entry.flag_bits & 0x1:
                raise DataError(file, entry.filename, "is encrypted")
        for entry in entries:
            opener = _zip_opener(archive, entry)
            if not entry.is_dir():
                yield Member(entry.filename, entry.file_size), opener
            elif _UNUSABLE_NAME.search(entry.filename):
                raise DataError(file, repr(entry.filename), "unsafe name of a folder")


def _zip_opener(archive: zipfile.ZipFile, entry: zipfile.ZipInfo) -> Callable[[], IO[bytes]]:
    return lambda: archive.open(entry)


class _Header(tarfile.TarInfo):
    """A member header that must be whole: tarfile takes damaged ones for the archive's end."""

    @classmethod
    def frombuf(cls, buf: bytes | bytearray, encoding: str, errors: str) -> _Header:
        """As tarfile's, but only the end mark ends an archive."""
        try:
            header = super().frombuf(buf, encoding, errors)
        except tarfile.EOFHeaderError:  # type: ignore[attr-defined]
            raise
        except tarfile.HeaderError as error:
            raise ValueError(f"damaged, or cut short before its end mark: {error}") from None
        if header.size < 0 or (header.type in _META and header.size > _LONGEST_META):
            raise ValueError(f"header {header.name[:80]!r} announces {header.size} bytes")
        return header


def _tar_members(file: Path, kind: str) -> Opened:
    with (
        closing(open(file, "rb") if kind == "tar" else _decompressed(file, kind)) as plain,
        tarfile.open(
            fileobj=_Counted(plain, file), mode="r|", bufsize=_BLOCK, tarinfo=_Header
        ) as archive,
    ):
        while (header := archive.next()) is not None:
            if header.offset_data + header.size > _limit(file):
                raise _bomb(file, header.name, header.offset_data + header.size)
            if not (header.isdir() or header.type in tarfile.REGULAR_TYPES) or header.issparse():
                raise DataError(file, header.name, "is not a regular file")
            if header.isdir():
                if _UNUSABLE_NAME.search(header.name):
                    raise DataError(file, repr(header.name), "unsafe name of a folder")
            else:
                yield Member(header.name, header.size), _tar_opener(archive, header)
            cast(Any, archive).members.clear()  # tarfile keeps every header
        while plain.read(_BLOCK):  # the checksum of the compressed stream comes last
            pass


def _tar_opener(archive: tarfile.TarFile, header: tarfile.TarInfo) -> Callable[[], IO[bytes]]:
    return lambda: cast(IO[bytes], archive.extractfile(header))


class _Readable(Protocol):
    def read(self, size: int = -1, /) -> bytes: ...
    def close(self) -> object: ...


class _Gzip(gzip.GzipFile):
    """Gzip data to the file's end; says so if something else follows them."""

    def read(self, size: int | None = -1) -> bytes:
        """As ``GzipFile.read``.

        Raises:
            ValueError: the file goes on after its gzip data.
        """
        try:
            return super().read(size)
        except gzip.BadGzipFile as error:
            if not str(error).startswith("Not a gzipped file"):
                raise  # a checksum
            reason = f"{self.tell()} bytes unpacked, then other bytes follow the gzip data"
            raise ValueError(reason) from error


class _Counted(io.RawIOBase):
    """A decompressed stream that ends in an error when it grows out of proportion."""

    def __init__(self, raw: _Readable, file: Path) -> None:
        self._raw, self._file, self._limit, self._count = raw, file, _limit(file), 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        block = self._raw.read(len(buffer))
        self._count += len(block)
        if self._count > self._limit:
            raise _bomb(self._file, None, self._count)
        buffer[: len(block)] = block
        return len(block)

    def close(self) -> None:
        self._raw.close()
        super().close()


class _Named(io.RawIOBase):
    """A member's bytes; what goes wrong in reading names archive and member."""

    def __init__(self, raw: _Readable, file: Path, member: str) -> None:
        self._raw, self._file, self._member = raw, file, member

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        with _errors_named(self._file, self._member):
            block = self._raw.read(len(buffer))
            buffer[: len(block)] = block
            return len(block)


@contextmanager
def _errors_named(file: Path, member: str | None) -> Iterator[None]:
    try:
        yield
    except _UNREADABLE as error:
        raise DataError(file, member, f"not a whole {_kind(file.name)} file ({error})") from error
