"""DYNAP-CNN's neuron as the rest of the package knows it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from hw_targets.errors import InvalidNetwork
from hw_targets.ir.dynamics import Clock, Engine, Ints, Losses, Mask, RowCounter
from hw_targets.ir.formats import NumberFormats
from hw_targets.ir.network import ChipNetwork, Population
from hw_targets.ir.neurons import LIF, ChipNeuron
from hw_targets.targets.dynapcnn.arithmetic import MOST_SENT

if TYPE_CHECKING:
    import torch


class DynapcnnDynamics:
    """`IAF`: no leak, as many spikes a step as the potential holds thresholds, a reset by subtraction or to zero."""

    name = "dynapcnn"
    max_spikes = MOST_SENT
    most_input = MOST_SENT
    timings: tuple[str, ...] = ()

    def __init__(self, neuron: type[Any]) -> None:
        """`neuron` is the class of the integer neurons."""
        self._neuron = neuron

    def refusal(self, neuron: LIF) -> str | None:
        """What leaks, sends one spike a step, or resets late or not at all."""
        instead = "use sinabs.layers.IAFSqueeze(num_timesteps=1), which computes what sinabs says the chip does"
        if neuron.v_decay != 0.0 or neuron.i_decay != 1.0:
            return (
                f"leaks (v_decay {neuron.v_decay:g}, i_decay {neuron.i_decay:g}), but DYNAP-CNN's neurons do not;"
                f" {instead}"
            )
        late = neuron.reset_delay or neuron.withholds or neuron.reset == "none"
        if late or neuron.strict or neuron.max_spikes < MOST_SENT:
            strictly = ", fires above its threshold alone" if neuron.strict else ""
            return (
                f"{neuron.reset_in_words}{strictly} and sends up to {neuron.max_spikes} a step, but DYNAP-CNN's neurons"
                f" send a spike for every multiple of the threshold that they reach; {instead}"
            )
        return None

    def lower(self, neuron: LIF, scale: float, formats: NumberFormats) -> ChipNeuron:  # noqa: ARG002 - the contract's
        """Threshold and lower bound, rounded on the scale as sinabs rounds them."""
        bound = {} if neuron.v_min is None else {"v_min": round(neuron.v_min * scale)}
        found: ChipNeuron = self._neuron(
            round(neuron.v_threshold * scale), subtracts=neuron.reset == "subtract", **bound
        )
        return found

    def lift(self, neuron: ChipNeuron, scale: float) -> LIF:
        """On its scale; a threshold a little lower, to be safe from rounding, would change what a spike takes off."""
        assert isinstance(neuron, self._neuron)
        return LIF(
            neuron.v_threshold / scale,
            reset="subtract" if neuron.subtracts else "zero",
            max_spikes=MOST_SENT,
            v_min=neuron.v_min / scale,
        )

    def whole(self, network: ChipNetwork) -> None:
        """None: one layer after the other."""

    def engine(
        self,
        network: ChipNetwork,  # noqa: ARG002 - the contract's
        population: Population,
        *,
        largest: float,  # noqa: ARG002
        resets: frozenset[int],  # noqa: ARG002 - there is no timing but the aligned one
        losses: Losses,
        device: torch.device,  # noqa: ARG002 - that of the current
        neuron_steps: int,  # noqa: ARG002
    ) -> Engine:
        """`engine.DynapcnnEngine`."""
        from hw_targets.targets.dynapcnn.dynamics.engine import DynapcnnEngine

        return DynapcnnEngine(population, losses)

    def clock(self, timing: str, network: ChipNetwork, samples: int, *, reset: bool, reset_offset: int | None) -> Clock:  # noqa: ARG002
        """Never asked: `timings` is empty.

        Raises:
            InvalidNetwork: always.
        """
        raise InvalidNetwork(f"emulate: DYNAP-CNN has no timing {timing!r}; every sample starts from cleared states")

    def may_fire(self, neuron: ChipNeuron, high: Ints, low: Ints, bias: Ints, steps: int) -> Mask:  # noqa: ARG002
        """The highest current in every step, of a neuron that never fires, stays below the threshold.

        The potential falls no lower than a bound of at most 0, from where it may rise: it starts at 0, and so the
        highest that it reaches is from there.
        """
        assert isinstance(neuron, self._neuron)
        rise = high.astype(np.int64) + bias.astype(np.int64)
        highest = np.maximum(rise, rise * steps)
        result: Mask = highest >= neuron.v_threshold
        return result

    def row_counter(self, neuron: ChipNeuron) -> RowCounter | None:  # noqa: ARG002 - whatever it is
        """None: spikes are counts here."""
        return None
