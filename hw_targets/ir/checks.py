"""What makes a network invalid."""

from __future__ import annotations

from collections.abc import Mapping
from math import prod

import numpy as np

from hw_targets.errors import InvalidNetwork
from hw_targets.ir.neurons import LIF, Accumulator
from hw_targets.ir.ops import Shape
from hw_targets.ir.populations import LONGEST_DELAY, Population, Synapses


def check_bias(population: Population) -> None:
    """A bias is finite, per channel or per neuron.

    Raises:
        InvalidNetwork: it is not.
    """
    bias = population.bias
    if bias is None:
        return
    if bias.shape not in ((population.shape[0],), (population.size,)):
        raise InvalidNetwork(
            f"population {population.name}: the bias has shape {bias.shape}, expected one value per channel,"
            f" ({population.shape[0]},)"
        )
    if not np.isfinite(bias).all():
        raise InvalidNetwork(
            f"population {population.name}: {int((~np.isfinite(bias)).sum())} of {bias.size} biases are NaN or"
            " infinite; check the training run before mapping it"
        )


def check_decays(population: Population) -> None:
    """Decays of each unit's own are per channel or per neuron.

    Raises:
        InvalidNetwork: they are not.
    """
    neuron = population.neuron
    if not isinstance(neuron, (LIF, Accumulator)):
        return
    for several in ("v_decays", "i_decays"):
        found = len(getattr(neuron, several))
        if found and found not in (population.shape[0], population.size):
            raise InvalidNetwork(
                f"population {population.name}: {found} {several} for {population.shape}, expected one for all"
                f" ({several[:-1]}), one per channel, {population.shape[0]}, or one per neuron, {population.size}"
            )


def check_synapses(synapses: Synapses, populations: Mapping[str, Population]) -> None:
    """Both ends exist, the weights lead from one to the other and are finite, delays and recurrence are possible.

    Raises:
        InvalidNetwork: one of these does not hold.
    """
    for end in (synapses.source, synapses.target):
        if end not in populations:
            raise InvalidNetwork(f"synapses {synapses.name} name a population {end!r} that does not exist")
    source, target, op = populations[synapses.source], populations[synapses.target], synapses.op
    weight = op.weight
    if not (op.takes(source.shape) and prod(op.output_shape(source.shape)) == target.size):
        raise InvalidNetwork(
            f"synapses {synapses.name}: weight {weight.shape} does not take {source.shape} to {target.shape}"
        )
    _check_delay(synapses, (target.size, source.size))
    if synapses.is_recurrent and not source.neuron.fires:
        raise InvalidNetwork(
            f"synapses {synapses.name}: only spiking neurons can feed themselves, {source.name} is"
            f" {type(source.neuron).__name__}"
        )
    with np.errstate(over="ignore", invalid="ignore"):
        total = weight.sum()
    # What is not finite makes a sum that is not; the sum is the cheaper to look at.
    if not np.isfinite(total) and not np.isfinite(weight).all():
        raise InvalidNetwork(
            f"synapses {synapses.name}: {int((~np.isfinite(weight)).sum())} of {weight.size} weights are NaN or"
            " infinite; check the training run before mapping it"
        )


def _check_delay(synapses: Synapses, shape: Shape) -> None:
    """Delays are whole steps, 0 … LONGEST_DELAY, that broadcast to `shape` (targets, sources)."""
    delay = synapses.delay
    if delay is None:
        return
    fits = delay.ndim == 2 and (not synapses.op.is_spatial or delay.size == 1)
    fits = fits and all(d in (1, n) for d, n in zip(delay.shape, shape, strict=False))
    if not fits or not np.issubdtype(delay.dtype, np.integer):
        raise InvalidNetwork(
            f"synapses {synapses.name}: delays must be integers that broadcast to {shape} (targets, sources) of a dense"
            f" layer, or one for all of a convolution, (1, 1); got {delay.dtype} {delay.shape}"
        )
    low, high = int(delay.min(initial=0)), int(delay.max(initial=0))
    if low < 0 or high > LONGEST_DELAY:
        raise InvalidNetwork(
            f"synapses {synapses.name}: delays span {low} … {high} steps, at most {LONGEST_DELAY} are run; shorten them"
        )
