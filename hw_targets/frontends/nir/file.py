"""Reading .nir files without the `nir` package, and as warily as netx files (see `files/hdf5.py`).

Layout: nir 1.0.8, `serialization.py`: `/node` is the outermost graph; a graph holds a group `nodes`, an array `edges`
of pairs of names and, like every node, its `type` and perhaps a group `metadata`.
"""

from __future__ import annotations

import os
from typing import Any

import numpy as np

from hw_targets.errors import InvalidFile
from hw_targets.files.hdf5 import SafeGroup, open_safely
from hw_targets.frontends.nir.metadata import METADATA, TEXTS, checked
from hw_targets.frontends.nir.tree import FIELDS, Edge, Node, Tree, check_depth, check_kind
from hw_targets.ir.network import Array

MAX_EDGES, MAX_NAME = 1 << 14, 256


def read_tree(path: str | os.PathLike[str]) -> Tree:
    """The graph of a .nir file.

    Raises:
        InvalidFile: no such file, no HDF5, or damaged, incomplete or unsafe content; the message names the entry.
        UnsupportedModel: a kind of node that is not known.
    """
    if not os.path.isfile(path):
        raise InvalidFile(f"from_nir: {os.fspath(path)} is no file; give the path of a .nir file")
    with open_safely(path, computes_in_reals=True) as root:
        if not root.holds_group("node"):
            raise InvalidFile(f"{root.where()} has no group 'node', so it is no NIR file; write it with nir.write")
        group = root.subgroup("node")
        if _kind(group) != "NIRGraph":
            raise InvalidFile(f"{group.where()} is a {_kind(group)}, expected a NIRGraph")
        return _graph(group, 0)


def _graph(group: SafeGroup, depth: int) -> Tree:
    check_depth(group.where(), depth)
    for key in ("nodes", "edges"):
        _require(group, key)
    nodes: dict[str, Node | Tree] = {}
    members = group.subgroup("nodes")
    for name in members.keys():  # noqa: SIM118 - no mapping
        member = members.subgroup(name)
        kind = _kind(member)
        nodes[name] = _graph(member, depth + 1) if kind == "NIRGraph" else _node(member, kind)
    return Tree(nodes, _edges(group), _metadata(group))


def _node(group: SafeGroup, kind: str) -> Node:
    fields: dict[str, Array | str] = {}
    for key in FIELDS[check_kind(group.where(), kind)]:
        plain = key.rstrip("?")
        if plain == key:
            _require(group, plain)
        if group.holds(plain):
            fields[plain] = _padding(group) if plain == "padding" else group.numbers(plain)
    return Node(kind, fields, _metadata(group))


def _kind(group: SafeGroup) -> str:
    _require(group, "type")
    return group.text("type")


def _require(group: SafeGroup, key: str) -> None:
    if not group.holds(key):
        raise InvalidFile(f"{group.where(key)} is missing; NIR needs it, write the file again with nir.write")


def _padding(group: SafeGroup) -> Array | str:
    """Numbers, or "same" or "valid"."""
    try:
        return group.numbers("padding")
    except InvalidFile:
        return group.text("padding")


def _metadata(group: SafeGroup) -> dict[str, Any]:
    """What this package's own writer leaves; anything else stays unread."""
    if not group.holds_group("metadata"):
        return {}
    found = group.subgroup("metadata")
    known = {k: found.numbers(k).reshape(-1) for k in METADATA if k not in TEXTS and found.holds(k)}
    if any(value.size != 1 for value in known.values()):
        raise InvalidFile(f"{found.where()} holds arrays where single numbers belong: {sorted(known)}")
    named = {key: found.text(key) for key in TEXTS if found.holds(key)}
    return checked(found.where(), {k: v[0].item() for k, v in known.items()} | named)


def _edges(group: SafeGroup) -> list[Edge]:
    """Pairs of names, stored as references into a heap that HDF5 itself does not read safely."""
    dataset = group._dataset("edges")
    shape = tuple(dataset.shape)
    if shape in ((0,), (0, 2)):
        return []
    if len(shape) != 2 or shape[1] != 2 or shape[0] > MAX_EDGES or np.dtype(dataset.dtype).kind != "O":
        raise InvalidFile(
            f"{group.where('edges')} holds {dataset.dtype} {shape}, expected up to {MAX_EDGES} pairs of names"
        )
    group._check_storage("edges", dataset, np.dtype(dataset.dtype).itemsize)
    try:
        offset = dataset.id.get_offset()
        if offset is None or dataset.file.id.get_create_plist().get_sizes() != (8, 8):
            raise ValueError("names stored in an unusual way")
        names = group.names(offset, 2 * shape[0], MAX_NAME)
    except Exception as error:  # h5py raises whatever the damage makes it stumble over
        raise InvalidFile(f"{group.where('edges')} cannot be read: {error}; write the file again") from error
    return list(zip(names[::2], names[1::2], strict=True))
