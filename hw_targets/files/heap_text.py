"""Names of variable length, read from an HDF5 file's bytes.

HDF5 keeps them in "global heap collections", and releases up to 1.14 search a damaged one for ever. Layout: HDF5 File
Format Specification 3.0, III.E (global heap) and IV.A.2.d (variable-length data: length, address, index).
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass, field

#: Bytes of a collection that are looked at; the library makes them 4096 long unless an object needs more.
MAX_COLLECTION = 1 << 20
#: Objects of all collections of a file that are looked at, and collections that are remembered.
MAX_OBJECTS, MAX_REMEMBERED = 1 << 18, 64
HEADER = 16


@dataclass
class HeapTexts:
    """The names of one file; a collection is searched once, however many names it holds.

    Args:
        path: the file.
        base: length of what precedes the HDF5 data (the user block), which addresses do not count.
    """

    path: str
    base: int
    objects: int = 0
    known: dict[int, dict[int, bytes]] = field(default_factory=dict)

    def text(self, offset: int, limit: int) -> bytes:
        """The string a 16-byte reference at `offset` of the file stands for.

        Args:
            offset: position of the reference in the file.
            limit: bytes the string may have.

        Raises:
            ValueError: a reference that leads nowhere, a longer string, or more names than are searched.
        """
        with open(self.path, "rb") as file:
            file.seek(offset)
            length, address, index = struct.unpack("<IQI", _exactly(file.read(16), 16))
        if length > limit:
            raise ValueError(f"a name of {length} characters, at most {limit} are read")
        if address > 1 << 62:
            raise ValueError("a name that is stored nowhere")
        if address not in self.known:
            if len(self.known) >= MAX_REMEMBERED:
                self.known.clear()
            self.known[address] = self._collection(address, limit)
        if index not in self.known[address]:
            raise ValueError(f"a name that its collection lacks (number {index})")
        return _exactly(self.known[address][index][:length], length)

    def _collection(self, address: int, limit: int) -> dict[int, bytes]:
        """The first bytes of a collection's objects, by number; of two of one number, the first."""
        with open(self.path, "rb") as file:
            file.seek(self.base + address)
            collection = file.read(MAX_COLLECTION)
        signature, version, size = struct.unpack("<4sB3xQ", _exactly(collection[:HEADER], HEADER))
        if signature != b"GCOL" or version != 1:
            raise ValueError("a name outside every global heap collection")
        found: dict[int, bytes] = {}
        for number, data in _objects(collection[: min(size, MAX_COLLECTION)], limit):
            found.setdefault(number, data)
            self.objects += 1
            if self.objects > MAX_OBJECTS:
                raise ValueError(f"more than {MAX_OBJECTS} names")
        return found


def _objects(collection: bytes, limit: int) -> Iterator[tuple[int, bytes]]:
    """Numbers and first bytes of a collection's objects; number 0 is the free space at its end."""
    position = HEADER
    while position + HEADER <= len(collection):
        number, size = struct.unpack_from("<H6xQ", collection, position)
        if number == 0:
            return
        position += HEADER
        yield number, collection[position : position + min(size, limit)]
        position += -(-size // 8) * 8


def _exactly(data: bytes, size: int) -> bytes:
    if len(data) != size:
        raise ValueError(f"a name cut off after {len(data)} of {size} bytes")
    return data
