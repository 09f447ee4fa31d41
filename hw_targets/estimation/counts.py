"""What is counted: operations per population and per core, exact integers over all steps and samples."""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np

from hw_targets.ir.connectivity import Ints


@dataclass(frozen=True)
class Counts:
    """Exact operations over all steps and samples of an activity.

    `synaptic_events`: events (spikes, non-zero graded values) times the non-zero synapses they reach.
    `dense_events`: the same with zero weights billed, as hardware does that stores dense layers.
    `active_updates`: neuron steps that sent a spike; `inactive_updates`: all others.
    `messages`: events times the distinct cores they go to, counted where they are sent.
    `east_west_hops`, `north_south_hops`: routers passed by messages that stay on their chip (see `mesh`).
    `off_chip_messages`: messages to a core of another chip; their hops are not counted.
    """

    synaptic_events: int = 0
    dense_events: int = 0
    active_updates: int = 0
    inactive_updates: int = 0
    messages: int = 0
    east_west_hops: int = 0
    north_south_hops: int = 0
    off_chip_messages: int = 0

    def __add__(self, other: Counts) -> Counts:
        return Counts(*(getattr(self, f.name) + getattr(other, f.name) for f in fields(self)))

    def per_sample(self, samples: int) -> dict[str, float]:
        """Averages over `samples`, by name."""
        return {f.name: getattr(self, f.name) / samples for f in fields(self)}


@dataclass(frozen=True, eq=False)
class CoreCounts:
    """The same operations by core: int64 arrays (cores,), exact over all steps and samples.

    Synaptic events and `received` are counted at the core that receives them; updates at the core that holds the
    neurons; `sent` messages and their hops at the core that sends them (what inputs send belongs to no core).
    """

    synaptic_events: Ints
    active_updates: Ints
    inactive_updates: Ints
    sent: Ints
    received: Ints
    east_west_hops: Ints
    north_south_hops: Ints
    off_chip_messages: Ints

    @classmethod
    def zeros(cls, cores: int) -> CoreCounts:
        """Nothing counted yet."""
        return cls(*(np.zeros(cores, np.int64) for _ in fields(cls)))
