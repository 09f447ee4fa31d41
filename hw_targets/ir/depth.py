"""How many steps after the input each population answers, on a chip that takes one step per layer."""

from __future__ import annotations

from hw_targets.ir.network import Graph, Synapses


def depths(network: Graph) -> dict[str, int]:
    """Steps by which each population lags behind the inputs: its longest chain of synapses from one of them."""
    depth: dict[str, int] = {}
    for name in network.order:
        forward = [s for s in network.incoming(name) if not s.is_recurrent]
        depth[name] = max((depth[s.source] + (not s.immediate) for s in forward), default=0)
    return depth


def skipped_steps(network: Graph) -> list[tuple[Synapses, int]]:
    """Every group of synapses, and how many steps early its spikes arrive, since it passes over layers; mostly 0.

    A spike is on its way for one step. What passes over k layers must wait for k more, to meet what went through them.
    """
    depth = depths(network)
    found = []
    for s in network.synapses:
        early = 0 if s.is_recurrent else depth[s.target] - depth[s.source] - (not s.immediate)
        found.append((s, early))
    return found
