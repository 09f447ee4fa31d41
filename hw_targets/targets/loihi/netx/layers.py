"""A feed-forward graph as a sequence of layers, which is all that netx can load.

Every population gets a layer number greater than its sources'; the inputs are layer 0. What must pass a layer on its
way to a later one needs relay neurons there (`relays`). Populations of one netx layer share one grid of positions, one
threshold and one decay, so `quantize` needs the same numbering as `export_netx`.
"""

from __future__ import annotations

from hw_targets.ir.network import Graph, Shape, Synapses


def assign_layers(graph: Graph) -> dict[str, int]:
    """Layer number by population: as early as possible, unless a later layer has the population's own grid.

    A stride-2 shortcut beside a stride-1 convolution, for example, waits for the layer where its grid occurs. Where no
    layer within reach fits, the earliest is taken (and `export_netx` will say that it cannot be written).
    """
    earliest: dict[str, int] = {}
    for name in graph.order:
        earliest[name] = max((earliest[s.source] + 1 for s in _forward(graph.incoming(name))), default=0)
    depth = max(earliest.values())
    latest: dict[str, int] = {}
    for name in reversed(graph.order):
        latest[name] = min((latest[s.target] - 1 for s in _forward(graph.outgoing(name))), default=depth)
    grids = {earliest[n]: grid(graph, n) for n in graph.order if earliest[n] == latest[n]}
    layers: dict[str, int] = {}
    for name in graph.order:
        first = max((layers[s.source] + 1 for s in _forward(graph.incoming(name))), default=0)
        if graph[name].is_input:
            layers[name] = 0
            continue
        fitting = [i for i in range(first, latest[name] + 1) if grids.get(i, grid(graph, name)) == grid(graph, name)]
        layers[name] = fitting[0] if fitting else first
        grids.setdefault(layers[name], grid(graph, name))
    return layers


def _forward(synapses: tuple[Synapses, ...]) -> tuple[Synapses, ...]:
    """Without those that lead back to their own population, and so to their own layer."""
    return tuple(s for s in synapses if not s.is_recurrent)


def grid(graph: Graph, name: str) -> Shape:
    """Positions (H, W) of a population's neurons in netx; () of a vector.

    What a dense layer feeds is a vector there, whatever its shape, and so is what a convolution makes of one.
    """
    incoming = _forward(graph.incoming(name))
    if not incoming:
        return graph[name].shape[1:]
    if not incoming[0].op.is_spatial or grid(graph, incoming[0].source) == ():
        return ()
    return incoming[0].op.output_shape(graph[incoming[0].source].shape)[1:]


def crossings(graph: Graph, layers: dict[str, int]) -> dict[int, tuple[str, ...]]:
    """Populations whose spikes must be relayed through each layer, because a target lies beyond it."""
    result: dict[int, list[str]] = {}
    for name in graph.order:
        reach = max((layers[s.target] for s in graph.outgoing(name)), default=0)
        for layer in range(layers[name] + 1, reach):
            result.setdefault(layer, []).append(name)
    return {layer: tuple(names) for layer, names in result.items()}
