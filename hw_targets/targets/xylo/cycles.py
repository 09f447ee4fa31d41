"""Clock cycles that a Xylo core takes for a step, by SynSense's own model of Xylo Audio 2 and Xylo IMU."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from hw_targets.chips.chip import Chip
from hw_targets.ir.activity import Activity
from hw_targets.ir.network import ChipNetwork
from hw_targets.targets.xylo.layout import laid_out, specification
from hw_targets.targets.xylo.specification import Specification


class Activities(NamedTuple):
    """Parts of neuron-steps in which inputs, and hidden neurons, send any spikes: 0 … 1."""

    inputs: float
    hidden: float


class Cycles(NamedTuple):
    """Cycles of one step, spent on what."""

    inputs: float
    recurrent: float
    output: float
    neurons: float

    @property
    def total(self) -> float:
        """All together."""
        return sum(self)


def cycles_per_step(spec: Specification, active: Activities, *, projections_alone: bool = False) -> Cycles:
    """Master clock cycles of one step, on average.

    inputs: Nin·(3.5·p_in·Nien + 1);  recurrent: Nhid·(7·p_hid·F + 3);  output: Noen·p_hid·(1 + 8·Nout);
    neurons: Nhid·(19 + 3·p_hid) + 12·Nout, with F the mean non-zeros of a hidden neuron's recurrent weights, in its
    first synaptic state (the second is worked off at the same time), and Nien and Noen the hidden neurons that inputs
    lead to and that lead to outputs: all of them, on Audio 2. Without aliases.

    Source: rockpool's `cycles_model` of Xylo Audio 2 and Xylo IMU, devices/xylo/syns61201 and syns63300.

    Args:
        spec: the core.
        active: how often inputs and hidden neurons send.
        projections_alone: only neurons with input or output weights cost cycles there, as on Xylo IMU.
    """
    hear, heard = spec.weights_in.any(axis=(0, 2)), spec.weights_out.any(axis=1)
    entering = int(hear.sum()) if projections_alone else spec.hidden
    leaving = int(heard.sum()) if projections_alone else spec.hidden
    fan_out = np.count_nonzero(spec.weights_rec[:, :, 0]) / spec.hidden
    return Cycles(
        inputs=spec.inputs * (3.5 * active.inputs * entering + 1),
        recurrent=spec.hidden * (7 * fan_out * active.hidden + 3),
        output=leaving * active.hidden * (1 + 8 * spec.outputs),
        neurons=spec.hidden * (19 + 3 * active.hidden) + 12 * spec.outputs,
    )


def activities(network: ChipNetwork, activity: Activity) -> Activities:
    """How often a network's inputs and hidden neurons sent any spikes."""
    names = list(laid_out(network).first)
    hidden = sum(int(np.count_nonzero(activity.spikes[name])) for name in names)
    size = sum(activity.spikes[name].size for name in names)
    return Activities(float(np.mean(activity.spikes[network.inputs[0].name] != 0)), hidden / max(1, size))


def remarks(network: ChipNetwork, activity: Activity, chip: Chip) -> tuple[str, ...]:
    """Cycles a step, and how many of them zeros can save."""
    spec, active = specification(network), activities(network, activity)
    alone = chip.input_projection_neurons is not None and chip.input_projection_neurons < (chip.hidden_neurons or 0)
    found = cycles_per_step(spec, active, projections_alone=alone)
    events = 7 * active.hidden * np.count_nonzero(spec.weights_rec[:, :, 0])
    saves = "zeros among input and output weights save none, fewer neurons do"
    where = (
        f"{events:,.0f} of them for synapses between hidden neurons, the only ones that zeros save; {saves}"
        if events
        else f"none of them for synapses between hidden neurons, so that zeros save none here; {saves}"
    )
    held = sum(activity.overflows.values())
    states = f"{held} sums were held at the end of 16 bits" if held else "no sum left its 16 bits"
    return (f"{found.total:,.0f} clock cycles a step (SynSense's model): {where}", states)
