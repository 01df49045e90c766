"""Archives made to do harm, as real files."""

from __future__ import annotations

import gzip
import io
import stat
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterable
from pathlib import Path

INNOCENT = ("data/good.xyz", b"1\nmethane\nC 0 0 0\n" * 50)
BOMB = 1 << 30
Entry = tuple[tarfile.TarInfo, bytes | None]


def member(
    name: str, data: bytes = b"x", *, kind: bytes = tarfile.REGTYPE, link: str = ""
) -> Entry:
    """One tar member; data count only for regular files."""
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, link
    info.size = len(data) if kind == tarfile.REGTYPE else 0
    if kind == tarfile.CHRTYPE:
        info.devmajor, info.devminor = 1, 3
    return info, data if kind == tarfile.REGTYPE else None


def tar(path: Path, entries: Iterable[Entry], mode: str = "w:gz") -> Path:
    """A tar archive: an innocent member, then the given ones."""
    with tarfile.open(path, mode) as archive:
        for info, data in (member(*INNOCENT), *entries):
            archive.addfile(info, io.BytesIO(data) if data is not None else None)
    return path


def tar_bomb(path: Path) -> Path:
    """A gigabyte of zeros as one member, in about a megabyte."""
    info = tarfile.TarInfo("data/zeros.xyz")
    info.size = BOMB
    return gz_bomb(path, info.tobuf())


def meta_bomb(path: Path) -> Path:
    """A gigabyte-long file name, which tarfile alone would read into memory at once."""
    info = tarfile.TarInfo("././@LongLink")
    info.type, info.size = tarfile.GNUTYPE_LONGNAME, BOMB
    return gz_bomb(path, info.tobuf(format=tarfile.GNU_FORMAT))


def gz_bomb(path: Path, head: bytes = b"", announced: int | None = None) -> Path:
    """``head`` and a gigabyte of zeros in a megabyte; ``announced`` is a lie about its size."""
    block = bytes(1 << 20)
    packer = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
    start = packer.compress(head) + packer.flush(zlib.Z_FULL_FLUSH)
    one = packer.compress(block) + packer.flush(zlib.Z_FULL_FLUSH)
    checksum = zlib.crc32(head)
    for _ in range(BOMB >> 20):
        checksum = zlib.crc32(block, checksum)
    end = struct.pack("<II", checksum, len(head) + BOMB if announced is None else announced)
    gzip_header = gzip.compress(b"")[:10]
    path.write_bytes(gzip_header + start + one * (BOMB >> 20) + packer.flush() + end)
    return path


def zipped(path: Path, names: Iterable[str], *, mode: int = stat.S_IFREG | 0o644) -> Path:
    """A zip archive: an innocent member, then one for each name, of the given file type."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(*INNOCENT)
        for name in names:
            info = zipfile.ZipInfo(name)
            info.external_attr = mode << 16
            archive.writestr(info, "/etc/passwd" if stat.S_ISLNK(mode) else "x")
    return path


def zip_bomb(path: Path) -> Path:
    """A gigabyte of zeros as one member, in five megabytes."""
    block = bytes(1 << 20)
    with (
        zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive,
        archive.open("data/zeros.xyz", "w", force_zip64=True) as out,
    ):
        for _ in range(BOMB >> 20):
            out.write(block)
    return path


Make = Callable[[Path], Path]
HOSTILE: dict[str, tuple[str, Make]] = {
    # the six of style.md F11
    "path_escape": ("t.tar.gz", lambda p: tar(p, [member("../escaped.xyz")])),
    "absolute_path": ("t.tar.bz2", lambda p: tar(p, [member("/tmp/escaped.xyz")], "w:bz2")),
    "symlink_out": ("t.tar.gz", lambda p: tar(p, [
        member("out", kind=tarfile.SYMTYPE, link="/tmp"), member("out/escaped.xyz")])),
    "device": ("t.tar", lambda p: tar(p, [member("null.xyz", kind=tarfile.CHRTYPE)], "w")),
    "bomb": ("t.tar.gz", tar_bomb),
    "duplicate_names": ("t.tar.gz", lambda p: tar(p, [member(INNOCENT[0], b"other")])),
    # their kin
    "path_escape_inside": ("t.tar", lambda p: tar(p, [member("a/../../escaped.xyz")], "w")),
    "folder_escape": ("t.tar", lambda p: tar(p, [member("../out", kind=tarfile.DIRTYPE)], "w")),
    "hard_link": ("t.tar.gz", lambda p: tar(p, [
        member("h.xyz", kind=tarfile.LNKTYPE, link="/etc/passwd")])),
    "fifo": ("t.tar.gz", lambda p: tar(p, [member("f.xyz", kind=tarfile.FIFOTYPE)])),
    "same_name_written_otherwise": ("t.tar", lambda p: tar(p, [
        member("./" + INNOCENT[0], b"other")], "w")),
    "name_bomb": ("t.tar.gz", meta_bomb),
    "zip_path_escape": ("t.zip", lambda p: zipped(p, ["../escaped.xyz"])),
    "zip_absolute_path": ("t.zip", lambda p: zipped(p, ["/tmp/escaped.xyz"])),
    "zip_drive": ("t.zip", lambda p: zipped(p, ["C:/escaped.xyz"])),
    "zip_backslash": ("t.zip", lambda p: zipped(p, ["..\\escaped.xyz"])),
    "zip_symlink_out": ("t.zip", lambda p: zipped(p, ["out"], mode=stat.S_IFLNK | 0o777)),
    "zip_device": ("t.zip", lambda p: zipped(p, ["null.xyz"], mode=stat.S_IFCHR | 0o666)),
    "zip_bomb": ("t.zip", zip_bomb),
    "gz_bomb": ("t.sdf.gz", gz_bomb),
    "gz_bomb_that_lies": ("t.sdf.gz", lambda p: gz_bomb(p, announced=1000)),
}  # fmt: skip
"""File name and maker of each; the name tells the kind."""
