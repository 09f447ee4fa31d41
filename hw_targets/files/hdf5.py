"""Reading HDF5 that somebody else wrote: sizes first, one file only, plain numbers and names only.

HDF5 lets a file point out of itself (external links, external storage, virtual datasets), declare arrays far larger
than itself, and name decompressors to be loaded as plug-ins. Nothing of that is needed for a network, and all of it
is refused before any data are read.
"""

from __future__ import annotations

import os
import stat
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from math import ceil, prod
from typing import Any

import numpy as np
import numpy.typing as npt

from hw_targets.errors import InvalidFile, check_path
from hw_targets.files.heap_text import HeapTexts

Integers = npt.NDArray[np.int64]

#: Numbers that any file may hold in all, so that the smallest takes no more than half a GiB while it is read.
MAX_NUMBERS = 1 << 25
#: A file that is long itself may hold more, so many for each of its bytes: the layers of a deep residual network are
#: nearly all zeros, since relays pass through them, and gzip leaves 15 to 41 numbers a byte of SEW ResNets' files. And
#: the most that are read unasked, 2 GiB of memory.
NUMBERS_PER_BYTE, MOST_NUMBERS = 64, 1 << 29
#: What a number of four or eight bytes counts, which is read, checked and converted, each time into memory of its own.
WIDE = 4
MAX_KEYS = 1024
MAX_DIMENSIONS = 5
MAX_NAME = 64
MAX_CHUNK_BYTES = 1 << 24
MAX_CHUNKS = 1 << 14
#: h5z filter numbers of gzip and of the byte shuffle before it.
DEFLATE, SHUFFLE = 1, 2


@dataclass
class _Budget:
    """Numbers that a file may hold, those that may still be read, and its names of variable length."""

    total: int
    left: int
    names: HeapTexts
    computes_in_reals: bool = False


@contextmanager
def open_safely(
    path: str | os.PathLike[str], max_numbers: int | None = None, *, computes_in_reals: bool = False
) -> Iterator[SafeGroup]:
    """The root group of an HDF5 file, for reading.

    Args:
        path: the file.
        max_numbers: that it may hold in all, 4 bytes of memory each; by default `MAX_NUMBERS`, or of a longer file
            `NUMBERS_PER_BYTE` for each byte, up to `MOST_NUMBERS`. Numbers of more than two bytes count `WIDE` times,
            since they are converted.
        computes_in_reals: what is read is turned into real numbers, whatever it is: it all counts `WIDE` times, and by
            default twice as much may be held.

    Raises:
        InvalidFile: no such file, no HDF5, or anything in it that this module refuses.
    """
    import h5py

    where = str(check_path(path))
    try:
        about = os.stat(path)
    except (OSError, ValueError) as error:
        raise InvalidFile(f"{where} cannot be opened: {error}; check the path") from error
    if not stat.S_ISREG(about.st_mode):
        raise InvalidFile(f"{where} is no regular file; give a netx (.net) file")
    if max_numbers is None:
        max_numbers = max(MAX_NUMBERS, min(NUMBERS_PER_BYTE * about.st_size, MOST_NUMBERS))
        max_numbers <<= computes_in_reals
    try:
        file = h5py.File(path, "r")
    except Exception as error:  # h5py raises whatever the damage makes it stumble over
        raise InvalidFile(f"{where} is no HDF5 file, or a truncated one: {error}; write it again") from error
    with file:
        try:
            names = HeapTexts(where, file.userblock_size)
        except Exception as error:  # as above
            raise InvalidFile(f"{where} is damaged: {error}; write it again") from error
        yield SafeGroup(where, "", file, _Budget(max_numbers, max_numbers, names, computes_in_reals))


@dataclass(frozen=True)
class SafeGroup:
    """A group, whose members are checked as they are read. `name` is its path inside the file."""

    file: str
    name: str
    group: Any
    budget: _Budget = field(repr=False)

    def where(self, key: str = "") -> str:
        """`file: layer/1/key`, for messages."""
        return f"{self.file}: {'/'.join(part for part in (self.name, key) if part) or '/'}"

    def keys(self) -> list[str]:
        """Names of the members."""
        return list(self._names)

    @cached_property
    def _names(self) -> dict[str, None]:
        """The same, in order, read once: the file is open for reading alone."""
        try:
            count = len(self.group)
            if count > MAX_KEYS:
                raise InvalidFile(f"{self.where()} holds {count} entries, at most {MAX_KEYS} are read")
            return dict.fromkeys(sorted(self.group))
        except InvalidFile:
            raise
        except Exception as error:
            raise InvalidFile(f"{self.where()} is damaged: {error}; write the file again") from error

    def holds(self, key: str) -> bool:
        """Whether there is a member of that name."""
        return key in self._names

    def subgroup(self, key: str) -> SafeGroup:
        """A group in this one."""
        import h5py

        member = self._member(key)
        if not isinstance(member, h5py.Group):
            raise InvalidFile(f"{self.where(key)} is a {type(member).__name__.lower()}, expected a group")
        return SafeGroup(self.file, "/".join(p for p in (self.name, key) if p), member, self.budget)

    def holds_group(self, key: str) -> bool:
        """Whether a member exists and is a group."""
        import h5py

        return self.holds(key) and isinstance(self._member(key), h5py.Group)

    def numbers(self, key: str) -> npt.NDArray[Any]:
        """A dataset of finite numbers, in its own type and shape."""
        dataset = self._dataset(key)
        kind = np.dtype(dataset.dtype)
        if kind.kind not in "iufb" or kind.itemsize > 8:
            raise InvalidFile(f"{self.where(key)} holds {_kind_name(kind)}, expected numbers")
        self._check_size(key, dataset.shape, kind.itemsize)
        self._check_storage(key, dataset, kind.itemsize)
        values: npt.NDArray[Any] = self._read(key, dataset)
        if kind.kind == "f" and not np.isfinite(values).all():
            lost = int((~np.isfinite(values)).sum())
            raise InvalidFile(f"{self.where(key)}: {lost} of {values.size} values are NaN or infinite")
        return values

    def text(self, key: str) -> str:
        """A short name: a string, or the first of an array of them."""
        import h5py

        dataset = self._dataset(key)
        string = h5py.check_string_dtype(dataset.dtype)
        if string is None or (string.length or 0) > MAX_NAME or prod(dataset.shape) != 1:
            raise InvalidFile(f"{self.where(key)} holds {_kind_name(dataset.dtype)} {dataset.shape}, expected one name")
        self._check_storage(key, dataset, np.dtype(dataset.dtype).itemsize)
        value = self._heap_text(key, dataset) if string.length is None else self._read(key, dataset).reshape(-1)[0]
        return bytes(value).rstrip(b"\0").decode("ascii", "replace")

    def _heap_text(self, key: str, dataset: Any) -> bytes:
        """A string of variable length, which HDF5 itself does not read safely."""
        try:
            sizes = dataset.file.id.get_create_plist().get_sizes()
            offset = dataset.id.get_offset()
            if offset is None or sizes != (8, 8):
                raise ValueError("a name stored in an unusual way")
            return self.budget.names.text(offset, MAX_NAME)
        except Exception as error:
            raise InvalidFile(
                f"{self.where(key)} cannot be read: {error}; store it as a string of fixed length"
            ) from error

    def attribute(self, key: str) -> int | None:
        """A whole number stored as an attribute; None if there is none."""
        try:
            if key not in self.group.attrs:
                return None
            handle = self.group.attrs.get_id(key)
            if np.dtype(handle.dtype).kind not in "iu" or handle.shape not in ((), (1,)):
                raise InvalidFile(f"{self.where()}: attribute {key} must be one whole number")
            return int(np.asarray(self.group.attrs[key]).reshape(-1)[0])
        except InvalidFile:
            raise
        except Exception as error:
            raise InvalidFile(f"{self.where()}: attribute {key} is damaged: {error}") from error

    def _member(self, key: str) -> Any:
        import h5py

        if not self.holds(key):
            raise InvalidFile(f"{self.where(key)} is missing; it is part of the netx format")
        try:
            # Looked at before it is followed.
            hard = self.group.id.links.get_info(key.encode()).type == h5py.h5l.TYPE_HARD
            if hard:
                return self.group[key]
        except Exception as error:
            raise InvalidFile(f"{self.where(key)} is damaged: {error}; write the file again") from error
        raise InvalidFile(
            f"{self.where(key)} is a link to another place or another file, which is not followed; store the data"
            " themselves"
        )

    def _dataset(self, key: str) -> Any:
        import h5py

        dataset = self._member(key)
        if not isinstance(dataset, h5py.Dataset):
            raise InvalidFile(f"{self.where(key)} is a {type(dataset).__name__.lower()}, expected a dataset")
        try:
            shape = dataset.shape
            np.dtype(dataset.dtype)
        except Exception as error:
            raise InvalidFile(f"{self.where(key)} has a type that is not read: {error}") from error
        if shape is None or len(shape) > MAX_DIMENSIONS:
            raise InvalidFile(f"{self.where(key)} has shape {shape}, expected up to {MAX_DIMENSIONS} dimensions")
        return dataset

    def names(self, offset: int, count: int, limit: int) -> list[str]:
        """Names of variable length, whose references stand one after the other in the file.

        Raises:
            ValueError: as `HeapTexts.text`.
        """
        # 16 bytes a reference.
        return [self.budget.names.text(offset + 16 * i, limit).decode() for i in range(count)]

    def _check_size(self, key: str, shape: tuple[int, ...], itemsize: int) -> None:
        size, budget = prod(shape), self.budget
        wide = itemsize > 2 or budget.computes_in_reals
        cost = WIDE * size if wide else size
        if cost > budget.left:
            counted = f", each of which counts as {WIDE}" if wide else ""
            asked = budget.total - budget.left + cost
            advice = (
                "write it without compression, if it is so large"
                if budget.computes_in_reals
                else f"if you trust it, read_netx(…, max_numbers={asked}) reads on, 4 bytes each"
            )
            raise InvalidFile(
                f"{self.where(key)} declares {size:,} numbers {shape}{counted}; {budget.left:,} of the"
                f" {budget.total:,} that this file may hold are left, for its own length; {advice}"
            )
        budget.left -= cost

    def _check_storage(self, key: str, dataset: Any, itemsize: int) -> None:
        """Data that lie in the file itself, are all there, and unpack to no more than they declare."""
        import h5py

        try:
            plan = dataset.id.get_create_plist()
            layout = plan.get_layout()
            outside = plan.get_external_count() if layout == h5py.h5d.CONTIGUOUS else 0
        except Exception as error:
            raise InvalidFile(f"{self.where(key)} is damaged: {error}; write the file again") from error
        if outside or layout not in (h5py.h5d.COMPACT, h5py.h5d.CONTIGUOUS, h5py.h5d.CHUNKED):
            raise InvalidFile(f"{self.where(key)} keeps its data in other files, which are not read; store them inside")
        try:
            if layout == h5py.h5d.CHUNKED:
                self._check_chunks(key, dataset, itemsize)
            elif dataset.size and dataset.id.get_storage_size() < dataset.size * itemsize:
                raise InvalidFile(f"{self.where(key)} declares {dataset.size:,} values, but none were ever written")
        except InvalidFile:
            raise
        except Exception as error:
            raise InvalidFile(f"{self.where(key)} is damaged: {error}; write the file again") from error

    def _check_chunks(self, key: str, dataset: Any, itemsize: int) -> None:
        plan = dataset.id.get_create_plist()
        filters = [plan.get_filter(i)[0] for i in range(plan.get_nfilters())]
        if filters not in ([], [DEFLATE], [SHUFFLE, DEFLATE]):
            raise InvalidFile(f"{self.where(key)} is stored through filters {filters}, only gzip is read")
        chunk_bytes = prod(dataset.chunks) * itemsize
        expected = prod(ceil(n / c) for n, c in zip(dataset.shape, dataset.chunks, strict=True))
        if chunk_bytes > MAX_CHUNK_BYTES or expected > MAX_CHUNKS:
            raise InvalidFile(
                f"{self.where(key)} is stored in {expected:,} chunks of {chunk_bytes:,} bytes, read are up to"
                f" {MAX_CHUNKS:,} of {MAX_CHUNK_BYTES:,}; store it contiguously"
            )
        if dataset.id.get_num_chunks() != expected:
            raise InvalidFile(
                f"{self.where(key)} declares {expected} chunks, {dataset.id.get_num_chunks()} were written"
            )
        for i in range(expected if filters else 0):
            info = dataset.id.get_chunk_info(i)
            if info.size > 2 * chunk_bytes + 1024:
                raise InvalidFile(f"{self.where(key)}: a chunk of {chunk_bytes} bytes takes {info.size} in the file")
            _, packed = dataset.id.read_direct_chunk(info.chunk_offset)
            if info.filter_mask or len(zlib.decompressobj().decompress(packed, chunk_bytes + 1)) != chunk_bytes:
                raise InvalidFile(f"{self.where(key)}: a chunk does not unpack to the {chunk_bytes} bytes it declares")

    def _read(self, key: str, dataset: Any) -> Any:
        try:
            return np.asarray(dataset[()])
        except Exception as error:
            raise InvalidFile(f"{self.where(key)} cannot be read: {error}; write the file again") from error


def _kind_name(dtype: Any) -> str:
    import h5py

    if h5py.check_ref_dtype(dtype) is not None:
        return "references"
    if h5py.check_string_dtype(dtype) is not None:
        return "text"
    return str(dtype)
