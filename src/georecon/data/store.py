"""Molecules as memory-mapped arrays keyed by molecule id, with a hashed manifest.

A store is a folder of plain ``.npy`` files: ``ids`` (M,), ``z`` (N,), ``pos`` (N, 3) [Å],
``offsets`` (M+1,), one ``labels_<name>`` (M,) per label, ``forces`` (N, 3) where the set has them,
``order`` (M,), the rows by increasing id, where ids do not increase anyway, and ``manifest.json``.
Atoms of row ``i`` are ``offsets[i]:offsets[i+1]``.

Opening reads the manifest and the headers, nothing else, so it costs the same for a thousand
molecules as for millions; any number of processes may do so at once and share the pages they read.
Opening compares sizes and shapes. Hashes are written with the store and compared with
``verify=True`` and by ``snakemake audit``, which read every byte.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import ArrayLike, NDArray

from georecon.data.manifest import MANIFEST, ArrayFile, Counts, Manifest, Source
from georecon.data.molecules import (
    Float,
    Int,
    IsolatedAtom,
    Molecules,
    Rejected,
    check_molecules,
)
from georecon.errors import DataError
from georecon.files import remove_leftovers, sha256_file, temporary_path, write_json

__all__ = ["Molecules", "Rejected", "Store", "StoreWriter"]


class _Column:
    """One ``.npy`` file that grows by appending rows; the header is completed on close."""

    def __init__(self, path: Path, dtype: str, tail: tuple[int, ...]) -> None:
        self.path, self.dtype, self.tail, self.rows = path, np.dtype(dtype), tail, 0
        self._handle: BinaryIO = open(path, "wb")  # noqa: SIM115 - closed by close()
        self._header = self._write_header()

    def _write_header(self) -> int:
        self._handle.seek(0)
        shape = (self.rows, *self.tail)
        header = {"descr": self.dtype.str, "fortran_order": False, "shape": shape}
        np.lib.format.write_array_header_1_0(self._handle, header)
        return self._handle.tell()

    def append(self, values: NDArray[Any]) -> None:
        self._handle.write(np.ascontiguousarray(values, dtype=self.dtype).tobytes())
        self.rows += len(values)

    def close(self) -> None:
        if self._handle.closed:
            return
        # NumPy pads the header so that the first dimension can grow in place.
        if self._write_header() != self._header:
            raise RuntimeError(f"{self.path}: NumPy header changed its length")
        self._handle.flush()
        os.fsync(self._handle.fileno())
        self._handle.close()

    def discard(self) -> None:
        self._handle.close()

    def described(self) -> ArrayFile:
        """The closed file as the manifest lists it."""
        return ArrayFile(
            sha256=sha256_file(self.path),
            bytes=self.path.stat().st_size,
            dtype=self.dtype.str,
            shape=(self.rows, *self.tail),
        )


class StoreWriter:
    """Context manager that writes a store; nothing is left at ``path`` unless it succeeds.

    Chunks go straight to files, so memory does not grow with the set; only ids that do not
    increase are read back at the end, at 16 bytes a molecule, to sort them.

    Args:
        path: folder of the store.
        dataset: name of the dataset card.
        source: where the molecules came from.
        units: unit of each label, of ``pos`` and of ``forces``.
        forces: a chunk without forces has NaN in their place (a test file with energies only).

    Raises:
        DataError: an appended chunk is unusable, or the same id came twice.
    """

    def __init__(
        self,
        path: str | Path,
        *,
        dataset: str,
        source: Source,
        units: dict[str, str],
        forces: bool = False,
    ) -> None:
        self.path = Path(path)
        self._forces = forces
        self._dataset, self._source, self._units = dataset, source, units
        self._temporary = temporary_path(self.path)
        self._columns: dict[str, _Column] = {}
        self._rejected: list[Rejected] = []
        self._isolated: dict[str, dict[str, float]] = {}
        self._elements: set[int] = set()
        self._molecules = self._atoms = 0
        self._last_id: int | None = None
        self._increasing = True

    def __enter__(self) -> StoreWriter:
        self._temporary.mkdir(parents=True)
        remove_leftovers(self.path)  # of a process that was killed; it has no other end
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            if kind is None:
                self._finish()
        finally:
            for column in self._columns.values():
                column.discard()
            shutil.rmtree(self._temporary, ignore_errors=True)

    def append(self, molecules: Molecules) -> None:
        """Add a chunk of molecules; every chunk must carry the same labels, and forces or none."""
        if not len(molecules):
            return
        check_molecules(molecules, self.path)
        first = not self._columns
        arrays: dict[str, tuple[NDArray[Any], str, tuple[int, ...]]] = {
            "ids": (molecules.ids, "<i8", ()),
            "z": (molecules.z, "|u1", ()),
            "pos": (molecules.pos, "<f4", (3,)),
            "offsets": (molecules.offsets[1:] + self._atoms, "<i8", ()),
        }
        for name, values in molecules.labels.items():
            arrays[f"labels_{name}"] = (values, "<f8", ())
        forces = molecules.forces
        if forces is None and self._forces:
            forces = np.full(molecules.pos.shape, np.nan)
        if forces is not None:
            arrays["forces"] = (forces, "<f8", (3,))
        if first:
            for name, (_, dtype, tail) in arrays.items():
                self._columns[name] = _Column(self._temporary / f"{name}.npy", dtype, tail)
            self._columns["offsets"].append(np.zeros(1, dtype=np.int64))
        if set(arrays) != set(self._columns):
            raise DataError(
                self.path,
                int(molecules.ids[0]),
                f"columns {sorted(arrays)} differ from earlier ones {sorted(self._columns)}",
            )
        for name, (values, _, _) in arrays.items():
            self._columns[name].append(values)
        earlier = [] if self._last_id is None else [self._last_id]
        self._increasing &= bool(np.all(np.diff([*earlier, *molecules.ids[:1]]) > 0))
        self._increasing &= bool(np.all(np.diff(molecules.ids) > 0))
        self._last_id = int(molecules.ids[-1])
        self._elements.update(np.flatnonzero(np.bincount(molecules.z)).tolist())
        self._molecules += len(molecules)
        self._atoms += len(molecules.z)

    @property
    def records(self) -> int:
        """Records seen so far: molecules written and records left out."""
        return self._molecules + len(self._rejected)

    def reject(self, rejected: Rejected) -> None:
        """Note a record that was left out; it is listed in the manifest.

        Raises:
            DataError: an isolated atom of an element that another frame gave another energy.
        """
        self._rejected.append(Rejected(rejected.record, rejected.reason))
        if not isinstance(rejected, IsolatedAtom):
            return
        for label, value in rejected.labels.items():
            known = self._isolated.setdefault(label, {})
            if known.setdefault(rejected.symbol, value) != value:
                reason = (
                    f"isolated {rejected.symbol} has {label} {value!r}, in another frame "
                    f"{known[rejected.symbol]!r}"
                )
                raise DataError(self.path, int(rejected.record), reason)

    def _finish(self) -> None:
        if not self._columns:
            raise DataError(self.path, None, "no molecules were written, expected at least one")
        self._columns["ids"].close()
        if not self._increasing:
            self._columns["order"] = _Column(self._temporary / "order.npy", "<i8", ())
            self._columns["order"].append(self._order())
        files = {}
        for column in self._columns.values():
            column.close()
            files[column.path.name] = column.described()
        manifest = Manifest(
            dataset=self._dataset,
            source=self._source,
            units=self._units,
            counts=Counts(
                molecules=self._molecules, atoms=self._atoms, rejected=len(self._rejected)
            ),
            rejected=tuple(self._rejected),
            elements=tuple(sorted(self._elements)),
            files=files,
            isolated_atoms=self._isolated,
        )
        write_json(self._temporary / MANIFEST, manifest.as_json())
        _replace_folder(self._temporary, self.path)

    def _order(self) -> Int:
        """Rows by increasing id; refuses an id that came twice."""
        ids: Int = np.load(self._columns["ids"].path, allow_pickle=False)
        order = np.argsort(ids)
        ids = ids[order]
        twice = np.flatnonzero(ids[1:] == ids[:-1])
        if len(twice):
            reason = "id occurs more than once, expected unique ids"
            raise DataError(self.path, int(ids[twice[0]]), reason)
        return order


def _replace_folder(new: Path, path: Path) -> None:
    """Rename a finished folder into place; an older one is moved aside first, then removed."""
    old = new.with_suffix(".old")
    if path.exists():
        os.replace(path, old)
    os.replace(new, path)
    shutil.rmtree(old, ignore_errors=True)


class Store:
    """A finished store, memory-mapped read-only. Use ``Store.open``."""

    def __init__(self, path: Path, manifest: Manifest, arrays: Mapping[str, NDArray[Any]]) -> None:
        self.path, self.manifest = path, manifest
        self.ids: Int = arrays["ids"]
        self.z: NDArray[np.uint8] = arrays["z"]
        self.pos: NDArray[np.float32] = arrays["pos"]
        self.offsets: Int = arrays["offsets"]
        self._order: Int | None = arrays.get("order")  # None: ids increase
        self.forces: Float | None = arrays.get("forces")
        self.labels: dict[str, Float] = {
            name.removeprefix("labels_"): array
            for name, array in arrays.items()
            if name.startswith("labels_")
        }

    @classmethod
    def open(cls, path: str | Path, *, verify: bool = False) -> Store:
        """Open a store without reading its arrays.

        Args:
            path: folder of the store.
            verify: hash every file again and compare with the manifest.

        Raises:
            DataError: the manifest or an array is missing, of another format or size, or (with
                ``verify``) has other bytes; the error names the file.
        """
        path = Path(path)
        manifest = Manifest.read(path, verify=verify)
        arrays = {}
        for name, entry in manifest.files.items():
            file = path / name
            if verify:
                _verify(file, entry)
            try:
                array = np.load(file, mmap_mode="r", allow_pickle=False)
            except (OSError, ValueError, EOFError) as error:
                raise DataError(file, None, f"not a readable array ({error})") from error
            if (array.shape, array.dtype.str) != (entry.shape, entry.dtype):
                raise DataError(
                    file,
                    None,
                    f"holds {array.dtype.str} {list(array.shape)}, manifest says "
                    f"{entry.dtype} {list(entry.shape)}",
                )
            arrays[file.stem] = array
        return cls(path, manifest, arrays)

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def sha256(self) -> str:
        """Identity of the data: a digest over the hashes of all arrays."""
        return self.manifest.sha256

    def rows(self, ids: ArrayLike) -> Int:
        """Row numbers of molecule ids, (M,) → (M,), by binary search on disk.

        Raises:
            DataError: an id is not in the store; the error names it.
        """
        wanted = np.asarray(ids, dtype=np.int64)
        place = np.searchsorted(self.ids, wanted, sorter=self._order)
        np.minimum(place, len(self) - 1, out=place)
        rows = place if self._order is None else _take(self._order, place)
        missing = np.flatnonzero(_take(self.ids, rows) != wanted)
        if len(missing):
            raise DataError(
                self.path,
                int(wanted[missing[0]]),
                f"unknown molecule id ({len(missing)} of {len(wanted)} not among "
                f"{len(self)} stored molecules)",
            )
        return np.asarray(rows, dtype=np.int64)

    def n_atoms(self, rows: ArrayLike) -> Int:
        """Atoms of each row, (M,) → (M,)."""
        index = self._rows_in_range(rows)
        return np.asarray(self.offsets[index + 1] - self.offsets[index], dtype=np.int64)

    def gather(self, rows: ArrayLike, labels: Iterable[str] | None = None) -> Molecules:
        """Copy rows into memory, in the given order, (M,) rows → M molecules.

        Args:
            rows: row numbers, (M,).
            labels: names of the labels to take along; all if None.
        """
        index = self._rows_in_range(rows)
        starts = _take(self.offsets, index)
        counts = _take(self.offsets, index + 1) - starts
        offsets = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
        atoms = np.repeat(starts - offsets[:-1], counts) + np.arange(offsets[-1])  # (N,)
        wanted = self.labels if labels is None else labels
        return Molecules(
            ids=_take(self.ids, index),
            z=_take(self.z, atoms),
            pos=_take(self.pos, atoms),
            offsets=offsets,
            labels={name: _take(self.labels[name], index) for name in wanted},
            forces=None if self.forces is None else _take(self.forces, atoms),
        )

    def _rows_in_range(self, rows: ArrayLike) -> Int:
        index = np.asarray(rows, dtype=np.int64)
        bad = np.flatnonzero((index < 0) | (index >= len(self)))
        if len(bad):
            raise DataError(
                self.path, None, f"row {index[bad[0]]} outside the allowed 0..{len(self) - 1}"
            )
        return index


def _take(array: NDArray[Any], index: Int) -> NDArray[Any]:
    """Rows of a memory map as an ordinary array; indexing the map itself is far slower."""
    return np.asarray(array)[index]


def _verify(file: Path, entry: ArrayFile) -> None:
    if not file.is_file():
        raise DataError(file, None, "is missing from the store")
    size = file.stat().st_size
    if size != entry.bytes:
        raise DataError(file, None, f"holds {size} bytes, manifest says {entry.bytes}")
    digest = sha256_file(file)
    if digest != entry.sha256:
        raise DataError(file, None, f"sha256 is {digest}, manifest says {entry.sha256}")
