"""Connections that pass over layers, as a chip holds them: in synapses that delay."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from hw_targets.chips.chip import Chip
from hw_targets.errors import DoesNotFit
from hw_targets.ir.depth import skipped_steps
from hw_targets.ir.network import ChipNetwork

#: What else can carry spikes past layers.
RELAY = ', or relay the spikes through the layers between (insert_relays, for a network quantized for_format="netx")'


def as_held(network: ChipNetwork, chip: Chip) -> ChipNetwork:
    """The network with the delays that its synapses have on the chip, their own and those of `skipped_steps`.

    Only what synapses take of a core's memory differs; the network that is emulated, in aligned time, knows no depth.

    Raises:
        DoesNotFit: a delay longer than the chip holds; the message names the synapses.
    """
    synapses = []
    for s, early in skipped_steps(network):
        own = np.zeros((1, 1), np.int64) if s.delay is None else s.delay
        longest = early + int(own.max(initial=0))
        if chip.max_delay is not None and longest > chip.max_delay:
            passing = f"passes over {early} layers; with that it " if early else ""
            raise DoesNotFit(
                f"synapses {s.name}: {passing}needs delays of up to {longest} steps,"
                f" {longest - chip.max_delay} more than the {chip.max_delay} of {chip.name} (max_delay);"
                f" shorten them{RELAY if early else ''}"
            )
        synapses.append(replace(s, delay=own + early) if early or s.delay is not None else s)
    return replace(network, synapses=tuple(synapses))


def has_delays(network: ChipNetwork) -> bool:
    """Whether any synapse needs a delay, its own or for passing over layers."""
    return any(early or s.delay is not None for s, early in skipped_steps(network))


def assumptions(network: ChipNetwork, chip: Chip) -> Iterator[str]:
    """A sentence for each group of synapses that is held with a delay because it passes over layers."""
    for s, early in skipped_steps(network):
        if early:
            bits = "" if chip.delay_bits is None else f", {chip.delay_bits} bits each"
            steps = "1 step" if early == 1 else f"{early} steps"
            yield f"{s.name} passes over layers: its synapses are counted with a delay of {steps}{bits}"
