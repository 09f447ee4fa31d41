"""One step of Loihi's neuron, the reference that every faster engine is held to.

u ← wrap(rz(u·(4096 − i_decay)) + (a << 6));  v ← clip(rz(v·(4096 − v_decay)) + u + (bias << 6));
s = [v > (v_threshold << 6)];  v ← 0 where s;  rz(x) = sign(x)·(|x| >> 12).

lava-nc 0.10.0 `proc/lif/models.py`, `AbstractPyLifModelFixed.subthr_dynamics`: a current beyond 2^23 has 2^24
subtracted (added at or below −2^23), once; potentials are clipped to ±(2^23 − 1); everything is int32. Currents are
summed in 24 bits by Conv (`proc/conv/models.py`), in int32 by Dense.

All of it is plain arithmetic on whole numbers, so that NumPy's int64 arrays and torch's int64 tensors both do.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from hw_targets.targets.loihi.arithmetic import DECAY_BITS, FRACTION_BITS, LIMIT, UNITY, Cuba

#: An int64 array or tensor.
Whole = Any


class State(NamedTuple):
    """Current and potential before a step, in 1/64 of the weights' unit."""

    u: Whole
    v: Whole


class Stepped(NamedTuple):
    """The state after a step, its spikes, and where u wrapped around and v was held at its limit."""

    state: State
    spikes: Whole
    wrapped: Whole
    clipped: Whole


def step(neuron: Cuba, state: State, current: Whole, bias: Whole, *, word: int | None = None) -> Stepped:
    """The module's equations.

    Args:
        neuron: all alike.
        state: int64, as all others.
        current: in the weights' unit, of any shape that the state broadcasts to.
        bias: likewise.
        word: bits in which currents are summed on the way; None where no sum can leave int32 nor those bits.
    """
    summed = wrapped_to(current, word)
    u = _int32(kept(state.u, neuron.i_decay) + _int32(summed << FRACTION_BITS, word), word)
    over, under = u > LIMIT, u <= -LIMIT
    u = u - 2 * LIMIT * over + 2 * LIMIT * under
    total = _int32(kept(state.v, neuron.v_decay) + u + (bias << FRACTION_BITS), word)
    v = total.clip(1 - LIMIT, LIMIT - 1)
    spikes = v > (neuron.v_threshold << FRACTION_BITS)
    return Stepped(State(u, v * ~spikes), spikes, over | under | (summed != current), v != total)


def kept(state: Whole, decay: int) -> Whole:
    """sign(x)·(|x|·(4096 − decay) >> 12), rounding toward zero."""
    if decay == 0:
        return state
    product = state * (UNITY - decay)
    # A shift rounds down; what is negative is first raised by one less than the divisor.
    return (product + ((product >> 63) & (UNITY - 1))) >> DECAY_BITS


def wrapped_to(value: Whole, bits: int | None) -> Whole:
    """The value as a two's complement integer of `bits` bits: ((x + 2^(b−1)) mod 2^b) − 2^(b−1)."""
    if bits is None:
        return value
    half = 1 << (bits - 1)
    return ((value + half) & (2 * half - 1)) - half


def _int32(value: Whole, word: int | None) -> Whole:
    return value if word is None else wrapped_to(value, 32)
