"""The chip neuron by neuron: plain loops, written from facts-hardware.md (section 3), not from the package.

Only the data classes that describe a network are shared with the package; every computation here is its own.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hw_targets.ir.network import LIF, Accumulator, ChipNetwork, Dense, GradedInput, Network, Op, Population
from hw_targets.targets.loihi.neuron import CubaLIF

Array = NDArray[Any]


def conv_loop(
    image: Array,
    weight: Array,
    stride: tuple[int, int] = (1, 1),
    padding: tuple[int, int] = (0, 0),
    dilation: tuple[int, int] = (1, 1),
    groups: int = 1,
) -> Array:
    """Cross-correlation of (C, H, W) with (O, C/groups, kH, kW), one product at a time."""
    _, height, width = image.shape
    outputs, per_group, kernel_h, kernel_w = weight.shape
    out_h = (height + 2 * padding[0] - dilation[0] * (kernel_h - 1) - 1) // stride[0] + 1
    out_w = (width + 2 * padding[1] - dilation[1] * (kernel_w - 1) - 1) // stride[1] + 1
    result = np.zeros((outputs, out_h, out_w), np.result_type(image, weight))
    for o in range(outputs):
        first = (o // (outputs // groups)) * per_group
        for y in range(out_h):
            for x in range(out_w):
                for i in range(per_group):
                    for a in range(kernel_h):
                        for b in range(kernel_w):
                            row = y * stride[0] - padding[0] + a * dilation[0]
                            column = x * stride[1] - padding[1] + b * dilation[1]
                            if 0 <= row < height and 0 <= column < width:
                                result[o, y, x] += weight[o, i, a, b] * image[first + i, row, column]
    return result


def matrix(op: Op, source: tuple[int, ...]) -> Array:
    """Weight of every synapse: (target neurons, source neurons), 0 where there is none."""
    if isinstance(op, Dense):
        return np.asarray(op.weight)
    channels, height, width = source
    outputs, per_group, kernel_h, kernel_w = op.weight.shape
    (sy, sx), (py, px), (dy, dx) = op.stride, op.padding, op.dilation
    out_h = (height + 2 * py - dy * (kernel_h - 1) - 1) // sy + 1
    out_w = (width + 2 * px - dx * (kernel_w - 1) - 1) // sx + 1
    result = np.zeros((outputs, out_h, out_w, channels, height, width), op.weight.dtype)
    for o in range(outputs):
        first = (o // (outputs // op.groups)) * per_group
        for y in range(out_h):
            for x in range(out_w):
                for a in range(kernel_h):
                    for b in range(kernel_w):
                        row, column = y * sy - py + a * dy, x * sx - px + b * dx
                        if 0 <= row < height and 0 <= column < width:
                            for i in range(per_group):
                                result[o, y, x, first + i, row, column] = op.weight[o, i, a, b]
    return result.reshape(outputs * out_h * out_w, channels * height * width)


def rz(x: int) -> int:
    """x / 4096 rounded toward zero."""
    return x >> 12 if x >= 0 else -((-x) >> 12)


def int32(x: int) -> int:
    """What numpy's int32, in which Lava keeps its states, makes of a sum."""
    return (x + (1 << 31)) % (1 << 32) - (1 << 31)


def loihi_step(u: int, v: int, a: int, bias: int, neuron: CubaLIF) -> tuple[int, int, int, int]:
    """(u, v, spike, how often u wrapped or v was clipped) of one neuron after one step."""
    lost = 0
    u = int32(rz(u * (4096 - neuron.i_decay)) + int32(a << 6))
    if u > 1 << 23:
        u, lost = u - (1 << 24), 1
    elif u <= -(1 << 23):
        u, lost = u + (1 << 24), 1
    v = int32(rz(v * (4096 - neuron.v_decay)) + u + (bias << 6))
    top = (1 << 23) - 1
    if not -top <= v <= top:
        v, lost = max(-top, min(top, v)), lost + 1
    spike = int(v > neuron.v_threshold << 6)
    return u, 0 if spike else v, spike, lost


def real_neuron(neuron: LIF, bias: float, currents: list[float]) -> list[tuple[float, int]]:
    """(v, spikes) of one real-valued neuron after each of the steps in which these currents arrive."""
    theta, u, v, w, sent = neuron.v_threshold, 0.0, 0.0, 0.0, 0
    into_current, into_potential = (bias, 0.0) if neuron.bias_lasts or neuron.difference else (0.0, bias)
    found = []
    for x in currents:
        late = sent if neuron.reset_delay else 0
        level = 2 * theta if neuron.withholds and v > theta else theta
        u = (1.0 - neuron.i_decay) * u + x + into_current
        if neuron.difference:
            w = (1.0 - neuron.v_decay) * w + x + into_current
            if late and neuron.reset == "zero":
                u = w = 0.0
            sent = int(u - w > theta if neuron.strict else u - w >= theta)
            found.append((u - w, sent))
            if sent and neuron.reset == "zero" and not neuron.reset_delay:
                u = w = 0.0
            continue
        v = (1.0 - neuron.v_decay) * v + u + into_potential
        if late and neuron.reset != "none":
            v = 0.0 if neuron.reset == "zero" else v - theta * late
        sent = 0
        while sent < neuron.max_spikes and (v - sent * theta > level if neuron.strict else v - sent * theta >= level):
            sent += 1
        if sent and not neuron.reset_delay and neuron.reset != "none":
            v = 0.0 if neuron.reset == "zero" else v - theta * sent
        found.append((v, sent))
    return found


@dataclass(frozen=True)
class SlowRun:
    """`spikes[name]` (T, N, *shape); `output` (N, F); `lost[name]` wraps and clips; `sums` (T, N, F) of accumulators.

    `sums` holds v of the accumulators in the unit of v: 64 times the weights' unit on a chip.
    """

    spikes: dict[str, Array]
    output: Array
    lost: dict[str, int]
    sums: dict[str, Array]


def run_slowly(network: ChipNetwork | Network, inputs: Array) -> SlowRun:
    """Every neuron of every sample on its own. `inputs`: integers (N, *shape) or (T, N, *shape)."""
    entry = next(p for p in network.populations if p.is_input)
    steps = network.time_steps
    shown = np.stack([inputs] * steps) if inputs.ndim == len(entry.shape) + 1 else inputs
    samples = shown.shape[1]
    spikes: dict[str, Array] = {entry.name: shown.astype(np.int64)}
    sums: dict[str, Array] = {}
    lost: dict[str, int] = {}
    waiting = [p for p in network.populations if not p.is_input]
    while waiting:
        ready = [p for p in waiting if all(s.source in spikes for s in network.synapses if s.target == p.name)]
        assert ready, "the network has a cycle"
        for population in ready:
            waiting.remove(population)
            current = _currents(network, population, spikes)
            trace, fired, lost[population.name] = _neurons(population, current, network)
            if isinstance(population.neuron, Accumulator):
                sums[population.name] = trace
            else:
                spikes[population.name] = fired.reshape(len(current), samples, *population.shape)
    end = next(p for p in network.populations if not any(s.source == p.name for s in network.synapses))
    if isinstance(end.neuron, Accumulator):
        output = sums[end.name][-1]
        output = output >> 6 if isinstance(network, ChipNetwork) else output
    else:
        output = spikes[end.name].sum(0).reshape(samples, -1)
    return SlowRun(spikes, output, lost, sums)


def _currents(network: ChipNetwork | Network, population: Population, spikes: dict[str, Array]) -> Array:
    """(T, N, neurons): what arrives in every step, without bias."""
    total: Any = 0
    for synapses in network.synapses:
        if synapses.target != population.name:
            continue
        source = next(p for p in network.populations if p.name == synapses.source)
        weights = matrix(synapses.op, source.shape)
        sent = spikes[source.name].reshape(*spikes[source.name].shape[:2], -1)
        if isinstance(network, ChipNetwork):
            total = total + sent @ weights.astype(np.int64).T
        else:
            unit = source.neuron.scale if isinstance(source.neuron, GradedInput) else 1.0
            total = total + (sent / unit) @ weights.astype(np.float64).T
    result: Array = np.asarray(total)
    return result


def neuron_of(neuron: Any, index: int, size: int) -> LIF:
    """The index-th of `size` neurons, or of readouts as neurons that never fire, with its own decays."""
    decays = {}
    for single, several in (("v_decay", "v_decays"), ("i_decay", "i_decays")):
        values = getattr(neuron, several, ())
        decays[single] = values[index * len(values) // size] if values else getattr(neuron, single)
    if isinstance(neuron, LIF):
        return replace(neuron, **decays, v_decays=(), i_decays=())
    return LIF(float("inf"), **decays, reset="none", bias_lasts=neuron.bias_lasts)


def _neurons(population: Population, current: Array, network: ChipNetwork | Network) -> tuple[Array, Array, int]:
    """(v after every step, spikes, losses) of a population, one neuron after the other."""
    steps, samples, size = current.shape
    per_channel = population.bias if population.bias is not None else np.zeros(population.shape[0], np.int64)
    bias = np.repeat(np.asarray(per_channel), size // len(per_channel))
    trace = np.zeros(current.shape, current.dtype)
    fired = np.zeros(current.shape, np.int64)
    lost, neuron = 0, population.neuron
    for n in range(samples):
        for i in range(size):
            if not isinstance(network, ChipNetwork):
                kind_real = neuron_of(neuron, i, size)
                for t, (v, sent) in enumerate(real_neuron(kind_real, float(bias[i]), current[:, n, i].tolist())):
                    trace[t, n, i], fired[t, n, i] = v, sent
                continue
            u, level = 0, 0
            for t in range(steps):
                # An accumulator's threshold lies beyond every potential.
                kind = neuron if isinstance(neuron, CubaLIF) else CubaLIF(1 << 17)
                u, level, fired[t, n, i], one = loihi_step(u, level, int(current[t, n, i]), int(bias[i]), kind)
                trace[t, n, i] = level
                lost += one
    return trace, fired, lost


def current_bounds(network: ChipNetwork, population: Population) -> tuple[int, int]:
    """Smallest and largest current, bias included, that any input can cause in any neuron in one step."""
    low = high = np.zeros(population.size, np.int64)
    for synapses in network.synapses:
        if synapses.target != population.name:
            continue
        source = next(p for p in network.populations if p.name == synapses.source)
        weights = matrix(synapses.op, source.shape).astype(np.int64)
        most = (1 << source.neuron.bits) - 1 if isinstance(source.neuron, GradedInput) else 1
        low = low + most * np.minimum(weights, 0).sum(1)
        high = high + most * np.maximum(weights, 0).sum(1)
    if population.bias is not None:
        bias = np.repeat(population.bias.astype(np.int64), population.size // len(population.bias))
        low, high = low + bias, high + bias
    return int(low.min()), int(high.max())
