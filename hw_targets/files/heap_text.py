"""Names of variable length, read from an HDF5 file's bytes.

HDF5 keeps them in "global heap collections", and releases up to 1.14 search a damaged one for ever. Layout: HDF5 File
Format Specification 3.0, III.E (global heap) and IV.A.2.d (variable-length data: length, address, index).
"""

from __future__ import annotations

import struct
from collections.abc import Iterator

#: Bytes of a collection that are looked at; the library makes them 4096 long unless an object needs more.
MAX_COLLECTION = 1 << 20
HEADER = 16


def heap_text(path: str, offset: int, base: int, limit: int) -> bytes:
    """The string a 16-byte reference at `offset` stands for.

    Args:
        path: the file.
        offset: position of the reference in the file.
        base: length of what precedes the HDF5 data (the user block), which addresses do not count.
        limit: bytes the string may have.

    Raises:
        ValueError: a reference that leads nowhere, or a longer string.
    """
    with open(path, "rb") as file:
        file.seek(offset)
        length, address, index = struct.unpack("<IQI", _exactly(file.read(16), 16))
        if length > limit:
            raise ValueError(f"a name of {length} characters, at most {limit} are read")
        if address > 1 << 62:
            raise ValueError("a name that is stored nowhere")
        file.seek(base + address)
        collection = file.read(MAX_COLLECTION)
    signature, version, size = struct.unpack("<4sB3xQ", _exactly(collection[:HEADER], HEADER))
    if signature != b"GCOL" or version != 1:
        raise ValueError("a name outside every global heap collection")
    for number, data in _objects(collection[: min(size, MAX_COLLECTION)]):
        if number == index:
            return _exactly(data[:length], length)
    raise ValueError(f"a name that its collection lacks (number {index})")


def _objects(collection: bytes) -> Iterator[tuple[int, bytes]]:
    """Numbers and bytes of a collection's objects; number 0 is the free space at its end."""
    position = HEADER
    while position + HEADER <= len(collection):
        number, size = struct.unpack_from("<H6xQ", collection, position)
        if number == 0:
            return
        position += HEADER
        yield number, collection[position : position + size]
        position += -(-size // 8) * 8


def _exactly(data: bytes, size: int) -> bytes:
    if len(data) != size:
        raise ValueError(f"a name cut off after {len(data)} of {size} bytes")
    return data
