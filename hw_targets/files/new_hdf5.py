"""Writing HDF5 whole or not at all.

The HDF5 library keeps a file open that it could not flush, tries again when the process ends, and crashes there. So it
writes into memory, and Python writes that to the disk.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from hw_targets.files.atomic import AnyPath, new_file

#: Bytes by which the file grows in memory.
GROWTH = 1 << 20


@contextmanager
def new_hdf5(path: AnyPath, *, overwrite: bool = False) -> Iterator[Any]:
    """An empty `h5py.File` that becomes the file at `path` when the block ends without an error.

    Raises:
        InvalidFile: as `new_file`.
    """
    import h5py

    with new_file(path, overwrite=overwrite) as temporary:
        with h5py.File(temporary.name, "w", driver="core", block_size=GROWTH, backing_store=False) as file:
            yield file
            file.flush()
            content = file.id.get_file_image()
        temporary.write_bytes(content)
