"""A network in Xylo's own integers, under the names that rockpool gives them (its `config_from_specification`)."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from hw_targets.errors import InvalidNetwork
from hw_targets.targets.xylo.arithmetic import (
    HIGH,
    LARGEST_DASH,
    LARGEST_SHIFT,
    LARGEST_THRESHOLD,
    LOW,
    WEIGHT_HIGH,
    WEIGHT_LOW,
)

Ints = npt.NDArray[np.integer[Any]]
#: Of each hidden neuron those that its spikes are added to.
Aliases = tuple[tuple[int, ...], ...]

WEIGHTS = ("weights_in", "weights_rec", "weights_out")
HIDDEN = ("dash_mem", "dash_syn", "dash_syn_2", "threshold", "bias_hidden")
OUTPUT = ("dash_mem_out", "dash_syn_out", "threshold_out", "bias_out")
SHIFTS = ("weight_shift_in", "weight_shift_rec", "weight_shift_out")
RANGES = {
    **dict.fromkeys(WEIGHTS, (WEIGHT_LOW, WEIGHT_HIGH)),
    **dict.fromkeys(("dash_mem", "dash_mem_out", "dash_syn", "dash_syn_2", "dash_syn_out"), (0, LARGEST_DASH)),
    **dict.fromkeys(("threshold", "threshold_out"), (1, LARGEST_THRESHOLD)),
    **dict.fromkeys(("bias_hidden", "bias_out"), (LOW, HIGH)),
    **dict.fromkeys(SHIFTS, (0, LARGEST_SHIFT)),
}
"""Smallest and largest value of each part."""


@dataclass(frozen=True, eq=False)
class Specification:
    """What one Xylo core is told.

    Attributes:
        weights_in: (inputs, hidden, states), by source, target and synaptic state of the target; int8 values.
        weights_rec: (hidden, hidden, states), likewise.
        weights_out: (hidden, outputs).
        dash_mem: (hidden,), shifts of the potentials' decays; `dash_mem_out` (outputs,) of the outputs'.
        dash_syn: (hidden,), shifts of the first current's decays; `dash_syn_2` of the second's, `dash_syn_out`
            (outputs,) of the outputs' only one.
        threshold: (hidden,); `threshold_out` (outputs,).
        bias_hidden: (hidden,), added to the potential in every step; `bias_out` (outputs,).
        weight_shift_in: bits by which input weights are shifted to the left; `weight_shift_rec`, `weight_shift_out`
            likewise.
        aliases: for each hidden neuron those that its spikes are added to in the same step.

    Raises:
        InvalidNetwork: shapes that do not match, or values that the chip does not hold.
    """

    weights_in: Ints
    weights_rec: Ints
    weights_out: Ints
    dash_mem: Ints
    dash_mem_out: Ints
    dash_syn: Ints
    dash_syn_2: Ints
    dash_syn_out: Ints
    threshold: Ints
    threshold_out: Ints
    bias_hidden: Ints
    bias_out: Ints
    weight_shift_in: int = 0
    weight_shift_rec: int = 0
    weight_shift_out: int = 0
    aliases: Aliases = ()

    def __post_init__(self) -> None:
        if self.weights_in.ndim != 3 or self.weights_rec.ndim != 3 or self.weights_out.ndim != 2:
            raise InvalidNetwork(
                f"specification: weights_in, weights_rec and weights_out have {self.weights_in.ndim},"
                f" {self.weights_rec.ndim} and {self.weights_out.ndim} axes, expected 3, 3 and 2"
            )
        states = self.weights_in.shape[2]
        shapes = {
            "weights_in": (self.inputs, self.hidden, states),
            "weights_rec": (self.hidden, self.hidden, states),
            "weights_out": (self.hidden, self.outputs),
            **dict.fromkeys(HIDDEN, (self.hidden,)),
            **dict.fromkeys(OUTPUT, (self.outputs,)),
        }
        for name, (low, high) in RANGES.items():
            value = np.asarray(getattr(self, name))
            if value.shape != shapes.get(name, ()) or value.dtype.kind not in "iu":
                raise InvalidNetwork(
                    f"specification: {name} is {value.dtype} {value.shape}, expected integers {shapes.get(name, ())}"
                )
            if value.size and not (low <= value.min() and value.max() <= high):
                raise InvalidNetwork(
                    f"specification: {name} spans {value.min()} … {value.max()}, but Xylo holds {low} … {high}"
                )
        if states not in (1, 2):
            raise InvalidNetwork(f"specification: neurons have {states} synaptic states; Xylo's have 1 or 2")
        self._check_aliases()

    def _check_aliases(self) -> None:
        targets = [target for found in self.aliases for target in found]
        if self.aliases and len(self.aliases) != self.hidden:
            raise InvalidNetwork(f"specification: aliases of {len(self.aliases)} neurons, expected {self.hidden}")
        if any(not 0 <= target < self.hidden for target in targets):
            raise InvalidNetwork(f"specification: aliases lead to {sorted(targets)}, hidden are 0 … {self.hidden - 1}")

    @property
    def inputs(self) -> int:
        """Input channels."""
        return int(self.weights_in.shape[0])

    @property
    def hidden(self) -> int:
        """Hidden neurons."""
        return int(self.weights_rec.shape[1])

    @property
    def outputs(self) -> int:
        """Output neurons."""
        return int(self.weights_out.shape[1])

    @property
    def states(self) -> int:
        """Synaptic states of a hidden neuron."""
        return int(self.weights_in.shape[2])

    @cached_property
    def dashes(self) -> Ints:
        """(hidden, states): shifts of the currents' decays."""
        both: Ints = np.stack([self.dash_syn, self.dash_syn_2], axis=1)[:, : self.states]
        return both

    @cached_property
    def fan_out(self) -> Ints:
        """(hidden,): non-zero synapses that leave each hidden neuron, to hidden and to output neurons."""
        to_hidden = np.count_nonzero(self.weights_rec, axis=(1, 2))
        total: Ints = to_hidden + np.count_nonzero(self.weights_out, axis=1)
        return total

    def as_arguments(self) -> dict[str, Any]:
        """Its parts as rockpool's `config_from_specification` names them.

        Weights are int8 arrays, (source, target, 2) for two synaptic states and (source, target) for one, for which
        there is no `dash_syn_2` (Xylo IMU).
        """
        names = (*WEIGHTS, *HIDDEN, *OUTPUT, *SHIFTS)
        found: dict[str, Any] = {name: getattr(self, name) for name in names}
        for name in WEIGHTS:
            found[name] = found[name].astype(np.int8)
        if self.states == 1:
            del found["dash_syn_2"]
            for name in WEIGHTS[:2]:
                found[name] = found[name][:, :, 0]
        return {**found, "aliases": [list(targets) for targets in self.aliases or [()] * self.hidden]}

    def with_states(self, states: int) -> Specification:
        """The same with `states` synaptic states of a hidden neuron, no weights leading to those added.

        Raises:
            InvalidNetwork: fewer than it has.
        """
        if states < self.states:
            raise InvalidNetwork(f"specification: its neurons use {self.states} synaptic states, not {states}")
        more = [(0, 0), (0, 0), (0, states - self.states)]
        weights: dict[str, Any] = {name: np.pad(getattr(self, name), more) for name in WEIGHTS[:2]}
        return replace(self, **weights)
