"""Both sides of the axons: parts that fill a core's input axons leave room for parts that fill its output axons.

Where a layer of large fan-in is cut into very many parts, each neuron before it sends to many of them, and its own
cores are full of output axons while their input axons are free. Two such parts fit on one core if neither fills it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from hw_targets.chips.chip import Chip
from hw_targets.ir.connectivity import Ints, fan_in
from hw_targets.ir.network import ChipNetwork

MANY_PARTS = 500
"""Parts of a population from which on this is tried; smaller networks are packed well without."""
FULL, LOW_INPUT, LOW_OUTPUT = 0.9, 0.25, 0.4
"""Mean use of a limit from which on it binds, and up to which inputs and outputs leave room for others."""
KEPT_INPUT, KEPT_OUTPUT = 0.88, 0.78
"""Part of a limit that is used where the other side is to have room; of twenty pairs one of the two best on a 95 %
sparse SEW ResNet-18 at 224×224 (Loihi 1)."""


def leaving_room(
    network: ChipNetwork, name: str, parts: int, axons: Mapping[str, float], sends: Mapping[str, Ints], chip: Chip
) -> Chip | None:
    """The chip with the limit that a population should be cut by again, so that others fit beside it; None if as it is.

    `parts` is how many it was cut into, `axons` what these take from each source together, and `sends` counts the cores
    that each neuron sends to, those parts not included.
    """
    inputs, outputs = chip.input_axons_per_core, chip.output_axons_per_core
    if inputs is None or outputs is None or parts < MANY_PARTS:
        return None
    heard = sum(axons.values()) / parts / inputs
    sent = int(sends[name].sum()) / parts / outputs
    if sent > FULL and heard < LOW_INPUT:
        return replace(chip, output_axons_per_core=int(KEPT_OUTPUT * outputs))
    if heard > FULL and sent < LOW_OUTPUT and _has_partner(network, axons, sends, inputs, outputs):
        return replace(chip, input_axons_per_core=int(KEPT_INPUT * inputs))
    return None


def _has_partner(
    network: ChipNetwork, axons: Mapping[str, float], sends: Mapping[str, Ints], inputs: int, outputs: int
) -> bool:
    """Whether some source of the parts will fill its cores' output axons with less than `LOW_INPUT` of the others."""
    for source, taken in axons.items():
        population = network[source]
        if population.is_input:
            continue
        to_a_core = outputs / max(1.0, (float(sends[source].sum()) + taken) / population.size)
        listened = sum(float(np.mean(fan_in(group, network))) for group in network.incoming(source))
        if to_a_core * listened < LOW_INPUT * inputs and population.size / to_a_core > MANY_PARTS:
            return True
    return False
