"""NIR graphs as plain nodes and edges, whether from a file or from the `nir` package, subgraphs flattened."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import numpy as np

from hw_targets.errors import InvalidNetwork, UnsupportedModel
from hw_targets.frontends.nir.metadata import checked
from hw_targets.frontends.signals import Floats
from hw_targets.ir.network import Array

Edge: TypeAlias = tuple[str, str]

#: What each kind of node holds (nir 1.0.8, `nir/ir`); "?" marks what may be missing.
FIELDS: Mapping[str, tuple[str, ...]] = {
    "Input": ("shape?",),
    "Output": ("shape?",),
    "Affine": ("weight", "bias"),
    "Linear": ("weight",),
    "Scale": ("scale",),
    "Conv1d": ("weight", "bias", "stride", "padding", "dilation", "groups", "input_shape?"),
    "Conv2d": ("weight", "bias", "stride", "padding", "dilation", "groups", "input_shape?"),
    "SumPool2d": ("kernel_size", "stride", "padding"),
    "AvgPool2d": ("kernel_size", "stride", "padding"),
    "Flatten": ("start_dim", "end_dim"),
    "Threshold": ("threshold",),
    "Delay": ("delay",),
    "I": ("r",),
    "IF": ("r", "v_threshold", "v_reset?"),
    "LI": ("tau", "r", "v_leak"),
    "LIF": ("tau", "r", "v_leak", "v_threshold", "v_reset?"),
    "CubaLI": ("tau_mem", "tau_syn", "r", "v_leak", "w_in?"),
    "CubaLIF": ("tau_mem", "tau_syn", "r", "v_leak", "v_threshold", "v_reset?", "w_in?"),
}
MAX_NESTING = 8


@dataclass(frozen=True, eq=False)
class Node:
    """A NIR node; `fields` are arrays, or text for a padding. A "Through" passes on what it gets."""

    kind: str
    fields: Mapping[str, Array | str] = field(default_factory=dict)
    metadata: Mapping[str, Any] = field(default_factory=dict)

    def floats(self, key: str, missing: float = 0.0) -> Floats:
        """A field as float64; `missing` where it is absent."""
        return np.asarray(self.fields.get(key, missing), dtype=np.float64)

    def integers(self, key: str) -> tuple[int, ...]:
        """A field as whole numbers.

        Raises:
            InvalidNetwork: text or fractions.
        """
        value = self.fields[key]
        if isinstance(value, str) or not np.array_equal(value, np.asarray(value, dtype=np.int64)):
            raise InvalidNetwork(f"has {key} {value!r}, expected whole numbers")
        return tuple(int(n) for n in np.asarray(value).reshape(-1))


@dataclass(frozen=True, eq=False)
class Tree:
    """A graph whose nodes may be graphs."""

    nodes: Mapping[str, Node | Tree]
    edges: Sequence[Edge]
    metadata: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class FlatGraph:
    """A graph without subgraphs; its Input and Output are the outermost ones."""

    nodes: Mapping[str, Node]
    edges: Sequence[Edge]

    def sources(self, name: str) -> list[str]:
        """Nodes with an edge to this one."""
        return [a for a, b in self.edges if b == name]

    def targets(self, name: str) -> list[str]:
        """Nodes that this one has an edge to."""
        return [b for a, b in self.edges if a == name]

    def only(self, kind: str) -> str:
        """The one node of a kind.

        Raises:
            UnsupportedModel: there is none, or more than one.
        """
        found = [name for name, node in self.nodes.items() if node.kind == kind]
        if len(found) != 1:
            raise UnsupportedModel(f"from_nir: the graph has {len(found)} {kind} nodes {found}, expected one")
        return found[0]


def from_object(graph: Any, path: str = "", depth: int = 0) -> Tree:
    """The tree of a `nir.NIRGraph`.

    Raises:
        InvalidNetwork: no graph, or values that are no finite numbers.
        UnsupportedModel: a kind of node that is not known.
    """
    if not hasattr(graph, "nodes") or not hasattr(graph, "edges"):
        raise InvalidNetwork(f"from_nir: got a {type(graph).__name__}, expected a nir.NIRGraph or the path of a file")
    check_depth(path, depth)
    nodes: dict[str, Node | Tree] = {}
    for name, node in graph.nodes.items():
        where, kind = f"{path}{name}", type(node).__name__
        if kind == "NIRGraph":
            nodes[name] = from_object(node, f"{where}.", depth + 1)
            continue
        fields = {}
        for key in FIELDS[check_kind(where, kind)]:
            plain = key.rstrip("?")
            value = _shape(node, kind) if plain == "shape" else getattr(node, plain, None)
            if value is not None:
                fields[plain] = _value(where, plain, value)
            elif plain == key:
                raise InvalidNetwork(f"from_nir: node {where} ({kind}) has no {plain}")
        nodes[name] = Node(kind, fields, _known(f"node {where}", node.metadata))
    return Tree(nodes, [(str(a), str(b)) for a, b in graph.edges], _known(f"graph {path}".rstrip(), graph.metadata))


def _known(where: str, metadata: Any) -> dict[str, Any]:
    return checked(f"from_nir: {where}", metadata) if isinstance(metadata, Mapping) else {}


def check_kind(where: str, kind: str) -> str:
    """The kind itself.

    Raises:
        UnsupportedModel: it is none of NIR's.
    """
    if kind not in FIELDS:
        raise UnsupportedModel(f"from_nir: node {where} is a {kind!r}; known are {', '.join(FIELDS)}")
    return kind


def check_depth(where: str, depth: int) -> None:
    """Refuse graphs inside graphs without end.

    Raises:
        InvalidNetwork: more than `MAX_NESTING`.
    """
    if depth > MAX_NESTING:
        raise InvalidNetwork(f"from_nir: {where} nests more than {MAX_NESTING} graphs; flatten them")


def _shape(node: Any, kind: str) -> Any:
    types = node.input_type if kind == "Input" else node.output_type
    return None if types is None else next(iter(types.values()), None)


def _value(where: str, key: str, value: Any) -> Array | str:
    if isinstance(value, str):
        return value
    try:
        array: Array = np.asarray(value)
        finite = bool(np.isfinite(array).all())
    except (TypeError, ValueError, RuntimeError) as error:
        raise InvalidNetwork(f"from_nir: node {where} has a {key} that is no array of numbers: {error}") from error
    if not finite:
        lost = int((~np.isfinite(array)).sum())
        raise InvalidNetwork(f"from_nir: node {where}: {lost} of {array.size} values of {key} are NaN or infinite")
    return array


def flattened(tree: Tree) -> FlatGraph:
    """Subgraphs put in the place of their nodes, which are then called `subgraph.node`.

    Raises:
        InvalidNetwork: edges that name no node, or the same twice.
        UnsupportedModel: a subgraph without exactly one Input and one Output.
    """
    nodes: dict[str, Node] = {}
    edges: list[Edge] = []
    _flatten(tree, "", nodes, edges)
    return FlatGraph(nodes, edges)


def _flatten(tree: Tree, prefix: str, nodes: dict[str, Node], edges: list[Edge]) -> tuple[list[str], list[str]]:
    """Adds a tree's nodes and edges; returns the names of its Inputs and Outputs."""
    enter: dict[str, str] = {}
    leave: dict[str, str] = {}
    for name, node in tree.nodes.items():
        full = prefix + name
        enter[name] = leave[name] = full
        if isinstance(node, Node):
            nodes[full] = Node("Through") if prefix and node.kind in ("Input", "Output") else node
            continue
        inputs, outputs = _flatten(node, f"{full}.", nodes, edges)
        if len(inputs) != 1 or len(outputs) != 1:
            raise UnsupportedModel(
                f"from_nir: subgraph {full} has {len(inputs)} Input and {len(outputs)} Output nodes, expected one each"
            )
        enter[name], leave[name] = inputs[0], outputs[0]
    for a, b in tree.edges:
        for end in (a, b):
            if end not in tree.nodes:
                raise InvalidNetwork(f"from_nir: the edge {prefix}{a} → {b} names {end!r}, which is no node")
        if (edge := (leave[a], enter[b])) in edges:
            raise InvalidNetwork(f"from_nir: the edge {edge[0]} → {edge[1]} occurs twice")
        edges.append(edge)
    kinds = {name: node.kind for name, node in tree.nodes.items() if isinstance(node, Node)}
    return [prefix + n for n, k in kinds.items() if k == "Input"], [
        prefix + n for n, k in kinds.items() if k == "Output"
    ]
