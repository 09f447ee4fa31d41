"""In which order a NIR graph is read: stateless nodes between populations, and populations after what feeds them."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping

from hw_targets.errors import InvalidNetwork, UnsupportedModel
from hw_targets.frontends.nir.tree import FlatGraph


def stateless_order(graph: FlatGraph, kinds: Collection[str]) -> list[str]:
    """Nodes of these kinds, each after those of them that feed it.

    Raises:
        UnsupportedModel: a loop of such nodes alone, which has no meaning step by step.
    """
    waiting = {
        name: {s for s in graph.sources(name) if graph.nodes[s].kind in kinds}
        for name, node in graph.nodes.items()
        if node.kind in kinds
    }
    order = list(_kahn(waiting, set()))
    if left := sorted(set(waiting) - set(order)):
        raise UnsupportedModel(f"from_nir: nodes {left} are in a loop without neurons; remove it")
    return order


def feeding_populations(graph: FlatGraph, order: list[str]) -> dict[str, set[str]]:
    """For every node the populations whose spikes reach it through stateless nodes (`order`).

    Raises:
        InvalidNetwork: a node that nothing feeds.
    """
    feeds: dict[str, set[str]] = {}
    for name in (*order, *(n for n in graph.nodes if n not in set(order))):
        if graph.nodes[name].kind == "Input":
            continue
        sources = graph.sources(name)
        if not sources:
            raise InvalidNetwork(f"from_nir: nothing feeds node {name} ({graph.nodes[name].kind}); remove it")
        feeds[name] = set().union(*(feeds[s] if s in order else {s} for s in sources))
    return feeds


def population_order(feeds: Mapping[str, set[str]], entry: str) -> list[str]:
    """Populations, each after those that feed it, but itself.

    Raises:
        UnsupportedModel: a cycle through several of them.
    """
    order = list(_kahn({name: sources - {name} for name, sources in feeds.items()}, {entry}))
    if left := sorted(set(feeds) - set(order)):
        raise UnsupportedModel(
            f"from_nir: a cycle leads through several populations, among {left}; only a population's synapses to itself"
            " are supported: join them into one population"
        )
    return order


def check_reach(graph: FlatGraph, output: str) -> None:
    """Refuse branches beside the one that ends in the output.

    Raises:
        UnsupportedModel: it names the node.
    """
    for name, node in graph.nodes.items():
        if name != output and not graph.targets(name):
            raise UnsupportedModel(
                f"from_nir: node {name} ({node.kind}) leads nowhere, and a network has one output; remove it"
            )


def _kahn(waiting: Mapping[str, set[str]], done: set[str]) -> Iterator[str]:
    left, done = dict(waiting), set(done)
    while ready := [name for name, needed in left.items() if needed <= done]:
        for name in ready:
            del left[name]
        done.update(ready)
        yield from ready
