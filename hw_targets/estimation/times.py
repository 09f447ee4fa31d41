"""How long a time step takes: the slowest core, the longest route, and the barrier that ends the step.

    step = max over cores of max(neurons, messages) + longest route + barrier
    neurons(core) = inactive · neurons + (active − inactive) · spikes
    messages(core) = message · messages received + synaptic · synaptic events

All cores work at once, a core's neurons and its incoming messages too: the "simple" model of SANA-FE 2.2.9 (Boyle et
al., IEEE TCAD 2025), here with the way through the mesh added. Messages that wait for each other are not modelled, so
this is a lower bound where the mesh is crowded.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from hw_targets.chips.chip import Chip
from hw_targets.chips.facts import TIMES

Seconds = npt.NDArray[np.float64]

NOT_TIMED = ("waiting in a crowded mesh", "steps between the chips of a board", "the host")


@dataclass(frozen=True)
class Times:
    """Nanoseconds per operation, and where they were published.

    `barrier` is what synchronising a mesh of `tiles` takes, as ((tiles, ns), (tiles, ns)); linear in between.
    """

    synaptic_event: float
    active_update: float
    inactive_update: float
    message: float
    east_west_hop: float
    north_south_hop: float
    barrier: tuple[tuple[int, float], tuple[int, float]]
    source: str

    def barrier_ns(self, tiles: int) -> float:
        """Time of the barrier over `tiles` tiles."""
        (low, first), (high, last) = self.barrier
        return first + (last - first) * (min(max(tiles, low), high) - low) / max(1, high - low)


def published_times(chip: Chip) -> Times | None:
    """The times of a chip, None where nobody published them. The barrier is linear between one router and all."""
    known = {key: getattr(chip, key) for key in TIMES}
    if chip.mesh_columns is None or chip.mesh_rows is None or None in known.values():
        return None
    return Times(
        synaptic_event=known["synop_ns"],
        active_update=known["active_update_ns"],
        inactive_update=known["inactive_update_ns"],
        message=known["spike_in_tile_ns"],
        east_west_hop=known["hop_east_west_ns"],
        north_south_hop=known["hop_north_south_ns"],
        barrier=(
            (1, known["barrier_one_router_ns"]),
            (chip.mesh_columns * chip.mesh_rows, known["barrier_all_routers_ns"]),
        ),
        source=chip.sources.get("synop_ns", ""),
    )


@dataclass(frozen=True, eq=False)
class StepTimes:
    """Seconds of every time step, float64 (steps,), samples one after the other and layers one step apart.

    `neurons` and `messages` are those of the slowest core, `route` the longest way of a message, `barrier` the end of
    the step.
    """

    neurons: Seconds
    messages: Seconds
    route: Seconds
    barrier: float
    source: str

    @property
    def total(self) -> Seconds:
        """Length of each step."""
        return np.maximum(self.neurons, self.messages) + self.route + self.barrier


@dataclass(frozen=True, eq=False)
class StepLoad:
    """What every step asks of every core: `fired`, `received`, `events` (steps, cores); `route` (steps,) in ns."""

    neurons: npt.NDArray[np.int64]
    fired: Seconds
    received: Seconds
    events: Seconds
    route: Seconds

    @classmethod
    def zeros(cls, steps: int, neurons: npt.NDArray[np.int64]) -> StepLoad:
        """Nothing yet; `neurons` is how many each core holds."""
        shape = (steps, len(neurons))
        return cls(neurons, np.zeros(shape), np.zeros(shape), np.zeros(shape), np.zeros(steps))


def step_times(load: StepLoad, times: Times, tiles: int) -> StepTimes:
    """The formula above, for every step."""
    neurons = times.inactive_update * load.neurons + (times.active_update - times.inactive_update) * load.fired
    messages = times.message * load.received + times.synaptic_event * load.events
    barrier = times.barrier_ns(tiles) * 1e-9
    return StepTimes(_slowest(neurons), _slowest(messages), load.route * 1e-9, barrier, times.source)


def _slowest(nanoseconds: Seconds) -> Seconds:
    longest: Seconds = nanoseconds.max(axis=1, initial=0.0) * 1e-9
    return longest
