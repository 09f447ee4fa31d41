"""What netx asks of integers: one threshold per layer, low enough for relays, and one synapse from source to target."""

from __future__ import annotations

from hw_targets.chips.target import Together
from hw_targets.ir.network import Graph
from hw_targets.targets.loihi.netx.layers import assign_layers, crossings


class NetxConstraints:
    """Populations of a netx layer share an integer threshold; where spikes are relayed, it is below a weight."""

    joins_weights = True

    def together(self, network: Graph, largest_weight: int) -> tuple[Together, ...]:
        """Layer by layer. A relay fires from one spike, so that its threshold is below the largest weight."""
        layers = assign_layers(network)
        relayed = crossings(network, layers)
        found = []
        for layer in sorted(set(layers.values())):
            members = tuple(n for n in network.order if layers[n] == layer and not network[n].is_input)
            found.append(Together(members, largest_weight - 1 if layer in relayed else None))
        return tuple(found)
