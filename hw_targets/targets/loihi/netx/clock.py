"""When things happen on the chip: netx's delay of one step per layer, and its resets.

lava-dl 0.6.0 `netx/hdf5.py`: every synapse holds its current for one step, so that a layer i (from 0) sees the input's
step t at t + 1 + i; the neurons of an `input` layer have no synapse and no delay. With `Network(reset_interval=T,
reset_offset=o)` the states of layer i are cleared before the dynamics of time step t, counted from 1, whenever
t mod T = (o + 1 + i) mod T; currents on their way are kept. Before its first input arrives a layer runs on its bias.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from hw_targets.errors import InvalidNetwork
from hw_targets.ir.network import Graph


def arrival_steps(graph: Graph) -> dict[str, int]:
    """Chip steps until the input's first step has reached each population: one per layer on the way.

    Raises:
        InvalidNetwork: a population that ways of different length lead to, which a chip without relays cannot align.
    """
    arrivals: dict[str, int] = {}
    for name in graph.order:
        ways = {arrivals[s.source] + (not s.immediate): s for s in graph.incoming(name) if not s.is_recurrent}
        if len(ways) > 1:
            raise InvalidNetwork(
                f"netx timing: the input reaches {name} after {sorted(ways)} steps at once, through"
                f" {[s.name for s in ways.values()]}; pass the network through insert_relays first"
            )
        arrivals[name] = next(iter(ways), 0)
    return arrivals


@dataclass(frozen=True)
class NetxClock:
    """One run of `samples` samples of `time_steps` steps, one after the other.

    `arrivals` as `arrival_steps`. `reset_offset` as netx's argument; None never resets.
    """

    arrivals: Mapping[str, int]
    time_steps: int
    samples: int
    reset_offset: int | None

    @classmethod
    def start(cls, graph: Graph, time_steps: int, samples: int, *, reset: bool, reset_offset: int | None) -> NetxClock:
        """A clock for a network; without a `reset_offset`, the one that clears each layer as its next sample arrives.

        That is 1, or 0 where the input layer has neurons.
        """
        offset = _aligning_offset(graph) if reset_offset is None else reset_offset
        return cls(arrival_steps(graph), time_steps, samples, offset + _entry_shift(graph) if reset else None)

    @property
    def total(self) -> int:
        """Chip steps until the last layer has answered the last sample."""
        return self.time_steps * self.samples + max(self.arrivals.values())

    def resets(self, name: str) -> frozenset[int]:
        """Chip steps, counted from 0, that begin with cleared states."""
        if self.reset_offset is None:
            return frozenset()
        phase = (self.reset_offset - 1 + self.arrivals[name]) % self.time_steps
        return frozenset(range(phase, self.total, self.time_steps))

    def sample_ends(self, name: str) -> tuple[int, ...]:
        """Chip step, from 0, in which a population answers each sample's last step."""
        return tuple(self.arrivals[name] + (n + 1) * self.time_steps - 1 for n in range(self.samples))


def has_entry_neurons(graph: Graph) -> bool:
    """Whether the input layer has neurons of its own."""
    return any(s.immediate for s in graph.synapses)


def _aligning_offset(graph: Graph) -> int:
    return 0 if has_entry_neurons(graph) else 1


def _entry_shift(graph: Graph) -> int:
    """Layer numbers start at the input layer where that has neurons, one arrival step earlier than elsewhere."""
    return 1 if has_entry_neurons(graph) else 0
