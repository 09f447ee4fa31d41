"""The arrays of a netx layer as the loader understands them: matrices, delays, biases."""

from __future__ import annotations

import numpy as np

from hw_targets.errors import InvalidFile
from hw_targets.ir.network import Shape
from hw_targets.targets.loihi.netx.delays import MAX_DELAY
from hw_targets.targets.loihi.netx.fields import INT16, Fields
from hw_targets.targets.loihi.netx.weights import Integers, StoredWeights, stored_by_netx


def matrix_of(fields: Fields, key: str, outputs: int) -> Integers:
    """A dense layer's weights (outputs, inputs)."""
    weight = fields.integers(key)
    if weight.ndim == 1 and weight.size and weight.size % outputs == 0:
        weight = weight.reshape(outputs, -1)
    if weight.ndim != 2 or weight.shape[0] != outputs or not weight.size:
        raise InvalidFile(f"{fields.group.where(key)} has shape {weight.shape}, expected ({outputs}, inputs)")
    return weight


def loaded_weights(fields: Fields, parts: list[Integers], *, keeps_shift: bool) -> list[Integers]:
    """The weights that act in Lava; in a recurrent layer with delays it forgets to shift the sums back."""
    if len(parts) == 1 and -128 <= int(parts[0].min()) < 0 < int(parts[0].max()) <= 127:
        # Both signs within 8 bits are shifted left within them, nothing is cut, and the sums are shifted back.
        return [parts[0].astype(np.int32, copy=False)]
    stored: tuple[StoredWeights, ...] = stored_by_netx(*parts)
    weights = [s.mantissa if keeps_shift else s.effective for s in stored]
    changed = sum(int((w != p).sum()) for w, p in zip(weights, parts, strict=True))
    example = next(((int(p), int(w)) for a, b in zip(parts, weights, strict=True) for p, w in _pairs(a, b)), (0, 0))
    fields.drops(
        changed > 0,
        f"{fields.group.where('weight')}: Lava would run {changed} weights with other values, such as {example[1]}"
        f" instead of {example[0]}; "
        + (
            f"it counts the weights of a recurrent layer with delays {1 << stored[0].shift} times: drop the delays"
            if keeps_shift and stored[0].shift
            else "keep mixed weights within -256 … 254, and weights of one sign within ±127"
        ),
    )
    return [w.astype(np.int32, copy=False) for w in weights]


def _pairs(before: Integers, after: Integers) -> list[tuple[int, int]]:
    rows, columns = np.nonzero(before != after)
    return [(int(before[r, c]), int(after[r, c])) for r, c in zip(rows[:1], columns[:1], strict=True)]


def delay_of(fields: Fields, shape: tuple[int, int]) -> Integers:
    """Delays as an array that broadcasts to (outputs, inputs): of all, per output, per input, or per synapse."""
    values, where = fields.integers("delay"), fields.group.where("delay")
    if values.size and int(values.min()) < 0:
        raise InvalidFile(f"{where} holds {int(values.min())}, expected 0 … {MAX_DELAY} steps")
    highest = int(values.max(initial=0))
    fields.drops(
        highest > MAX_DELAY, f"{where} holds {highest} steps, which the loader would clamp to {MAX_DELAY}; shorten them"
    )
    values = np.minimum(values, MAX_DELAY)
    if values.ndim == 0:
        return values.reshape(1, 1)
    if values.shape == (shape[0],):
        return values.reshape(-1, 1)
    if values.shape == (shape[1],):
        return values.reshape(1, -1)
    if values.shape == shape:
        return values
    raise InvalidFile(f"{where} has shape {values.shape}, expected one of (), {shape[:1]}, {shape[1:]}, {shape}")


def bias_of(fields: Fields, shape: Shape) -> Integers:
    """Biases per neuron of a vector; per channel, or per neuron as (width, height, channels), of a grid."""
    values, where = fields.integers("bias"), fields.group.where("bias")
    if values.size and int(np.abs(values).max()) > INT16:
        raise InvalidFile(f"{where} holds {int(np.abs(values).max())}, beyond the 16 bits Lava keeps")
    if len(shape) == 1 and values.size in (1, shape[0]) and values.ndim <= 1:
        return np.broadcast_to(values.reshape(-1), shape).astype(np.int32)
    if len(shape) == 3 and values.shape == shape[::-1]:
        return values.transpose(2, 1, 0).reshape(-1).astype(np.int32)
    if len(shape) == 3 and values.shape == shape[:1]:
        return values.astype(np.int32)
    raise InvalidFile(f"{where} has shape {values.shape}, expected one value per channel or neuron of {shape}")
