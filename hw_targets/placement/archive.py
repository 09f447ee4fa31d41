"""The arrays of a placement's .npz that somebody else wrote: sizes first, no more than the network has neurons."""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any

import numpy as np

from hw_targets.errors import InvalidFile
from hw_targets.placement.placement import Cores

#: Bytes that a .npy header may take (NumPy's own limit is as much), and names that a message lists.
HEADER, NAMED = 10_000, 8
#: How an archive's members may be packed; numpy.savez and savez_compressed use no other ways.
PACKED = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
#: A member is encrypted (APPNOTE 6.3.9, 4.4.4, bit 0).
ENCRYPTED = 1


def read_cores(path: Path, expected: Mapping[str, int]) -> tuple[dict[str, Cores], str]:
    """One int32 array for each population, of the size expected, and the archive's comment.

    Nothing is unpacked before its name and its size are those expected.

    Raises:
        InvalidFile: no such file, no .npz, other members than expected, or damaged ones.
    """
    try:
        if path.exists() and not zipfile.is_zipfile(path):
            raise InvalidFile(f"{path} is not an .npz file; pass one that Placement.save wrote")
        with zipfile.ZipFile(path) as archive:
            members = {info.filename.removesuffix(".npy"): info for info in archive.infolist()}
            _check_names(path, list(members), expected, len(archive.infolist()))
            cores = {name: _member(path, archive, members[name], name, size) for name, size in expected.items()}
            return cores, archive.comment.decode(errors="replace")
    except InvalidFile:
        raise
    except (OSError, ValueError, EOFError, KeyError, NotImplementedError, RuntimeError) as error:
        raise _unreadable(path, error) from error
    except (zipfile.BadZipFile, zlib.error) as error:
        raise _unreadable(path, error) from error


def _unreadable(path: Path, error: Exception) -> InvalidFile:
    return InvalidFile(f"{path} cannot be read as an .npz: {error}; write it again with Placement.save")


def _check_names(path: Path, found: list[str], expected: Mapping[str, int], members: int) -> None:
    if set(found) == set(expected) and members == len(found):
        return
    short = [[name[:64] for name in sorted(names)[:NAMED]] for names in (found, expected)]
    raise InvalidFile(
        f"{path} places {members} populations {short[0]}, but the network has {len(expected)}, {short[1]}, on chip; it"
        " belongs to another network, pass that one or place this one"
    )


def _member(path: Path, archive: zipfile.ZipFile, info: zipfile.ZipInfo, name: str, size: int) -> Cores:
    if info.flag_bits & ENCRYPTED or info.compress_type not in PACKED:
        raise InvalidFile(f"{path}: {name!r} is encrypted or packed in another way; write it with Placement.save")
    with archive.open(info) as stream:
        shape, dtype = _header(stream)
        if shape != (size,) or dtype != np.dtype("<i4"):
            raise InvalidFile(
                f"{path}: {name!r} is {dtype} {shape}, expected int32 ({size},); it belongs to another network, pass"
                " that one or place this one"
            )
        data = stream.read(4 * size + 1)
    if len(data) != 4 * size:
        raise InvalidFile(f"{path}: {name!r} holds {len(data)} bytes for {size} neurons; write it with Placement.save")
    return np.frombuffer(data, np.dtype("<i4")).astype(np.int32)


def _header(stream: IO[bytes]) -> tuple[tuple[int, ...], np.dtype[np.generic]]:
    """Shape and type that a .npy member declares.

    Raises:
        ValueError: it is no .npy of version 1 or 2.
    """
    # numpy's own annotations of these lack the types and the limit, which is theirs since 1.24.
    formats: Any = np.lib.format
    version = formats.read_magic(stream)
    read = {(1, 0): formats.read_array_header_1_0, (2, 0): formats.read_array_header_2_0}.get(version)
    if read is None:
        raise ValueError(f"a .npy of version {version}")
    try:
        shape, _, dtype = read(stream, max_header_size=HEADER)
    except Exception as error:  # NumPy evaluates the header as Python, and raises what that stumbles over
        raise ValueError(f"a broken .npy header ({error})") from error
    return shape, dtype
