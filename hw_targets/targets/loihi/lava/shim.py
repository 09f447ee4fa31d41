"""Importing Lava, frozen upstream at Python 3.10, on later versions."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from unittest import mock


@contextmanager
def lava_importable() -> Iterator[None]:
    """Let lava-nc 0.10.0 import on Python ≥ 3.11: a dataclass default must be hashable, its `ByteEncoder` is not.

    Import Lava inside the block: `with lava_importable(): from lava.lib.dl.netx.hdf5 import Network`.
    """
    original: Any = dataclasses.dataclass

    def patched(cls: Any = None, /, **options: Any) -> Any:
        made = original(cls, **options)
        if cls is not None and cls.__name__ == "ByteEncoder":
            made.__hash__ = object.__hash__
        return made

    with mock.patch.object(dataclasses, "dataclass", patched):
        yield
