"""A run's state as plain JSON and a flat dict of tensors, and back: what it was, type by type and bit by bit."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from torch import Tensor


class Unsaveable(TypeError):
    """A state that holds something else than numbers, text, tensors, and dicts, lists and tuples of them."""


def packed(state: Any) -> tuple[Any, dict[str, Tensor]]:
    """What JSON holds of a nested state, and its tensors by name: copies on the CPU that share no memory.

    A dict is {"dict": [[key, value], …]}, since its keys may be numbers; so are lists and tuples named; a tensor is
    {"tensor": name}.

    Raises:
        Unsaveable: the message says where and what.
    """
    tensors: dict[str, Tensor] = {}
    return _packed(state, "", tensors), tensors


def unpacked(tree: Any, tensors: Mapping[str, Tensor]) -> Any:
    """The state that `packed` took apart.

    Raises:
        ValueError, KeyError, TypeError: `tree` is nothing that `packed` gave.
    """
    if not isinstance(tree, dict):
        return tree
    ((kind, content),) = tree.items()
    if kind == "tensor":
        return tensors[content]
    if kind == "dict":
        return {key: unpacked(value, tensors) for key, value in content}
    if kind not in ("list", "tuple"):
        raise ValueError(f"{kind!r} is no part of a state")
    items = [unpacked(value, tensors) for value in content]
    return tuple(items) if kind == "tuple" else items


def _packed(value: Any, where: str, tensors: dict[str, Tensor]) -> Any:
    if isinstance(value, Tensor):
        name = where
        while name in tensors:
            name += "'"
        tensors[name] = value.detach().to("cpu", copy=True).contiguous()
        return {"tensor": name}
    if isinstance(value, np.generic):
        value = value.item()
    if value is None or type(value) in (bool, int, float, str):
        return value
    if isinstance(value, Mapping) and all(type(key) in (str, int) for key in value):
        return {"dict": [[key, _packed(v, f"{where}.{key}".lstrip("."), tensors)] for key, v in value.items()]}
    if isinstance(value, (list, tuple)):
        kind = "tuple" if isinstance(value, tuple) else "list"
        return {kind: [_packed(v, f"{where}.{index}", tensors) for index, v in enumerate(value)]}
    raise Unsaveable(f"the run's state cannot be saved: {where or 'it'} is a {type(value).__name__}")
