"""Step-exact emulation in integers, batched over samples.

Time is aligned: step t of every layer answers step t of the input, as it does on the chip when each layer's reset is
phased by its depth (netx: `reset_interval=T, reset_offset=1`). Layers are therefore run one after the other over all
steps.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional as F

from hw_targets.activity import Activity
from hw_targets.errors import InvalidNetwork
from hw_targets.network import (
    LIF,
    Accumulator,
    ChipNetwork,
    Conv2d,
    CubaLIF,
    GradedInput,
    Network,
    Op,
    Population,
    Shape,
)

#: u and v have 24 bits; the sum of weights enters them shifted by 6.
LIMIT = 1 << 23
SHIFT = 6
UNITY = 4096


def emulate(
    network: ChipNetwork | Network,
    inputs: Tensor | npt.NDArray[Any],
    *,
    device: str = "cpu",
    dtype: torch.dtype = torch.float64,
) -> Activity:
    """Run samples through a chip network in integers, or through a `Network` in real numbers.

    Args:
        network: what to run.
        inputs: (N, C, H, W), shown in every one of the network's `time_steps`, or (T, N, C, H, W). Graded inputs take
            integers 0 … 2^bits − 1 or real values 0 … 1, which are rounded to those; spike inputs take 0 and 1.
        device: torch device to compute on.
        dtype: precision of a `Network`; a chip network is exact in any case.

    Raises:
        InvalidNetwork: inputs of another shape or range, or a network with several inputs or outputs.
    """
    if len(network.inputs) != 1 or len(network.outputs) != 1:
        raise InvalidNetwork(
            f"emulate: needs one input and one output population, got {[p.name for p in network.inputs]} and"
            f" {[p.name for p in network.outputs]}"
        )
    entry = network.inputs[0]
    spikes: dict[str, Tensor] = {entry.name: _as_spikes(network, entry, inputs).to(device)}
    overflows: dict[str, int] = {}
    output: Tensor | None = None
    for name in network.order:
        population = network[name]
        if population.is_input:
            continue
        current = _current(network, population, spikes, dtype)
        if isinstance(population.neuron, Accumulator):
            output, overflows[name] = _accumulate(population, current, exact=isinstance(network, ChipNetwork))
        else:
            spikes[name], overflows[name] = _run_neurons(population, current)
    if output is None:
        output = spikes[network.outputs[0].name].sum(0, dtype=torch.int64).flatten(1)
    return Activity({n: s.cpu().numpy() for n, s in spikes.items()}, output.cpu().numpy(), overflows)


def _as_spikes(network: ChipNetwork | Network, entry: Population, inputs: Tensor | npt.NDArray[Any]) -> Tensor:
    values = torch.as_tensor(inputs)
    static = tuple(values.shape[1:]) == entry.shape and values.dim() == len(entry.shape) + 1
    if not static and (values.dim() < 2 or (len(values), *values.shape[2:]) != (network.time_steps, *entry.shape)):
        raise InvalidNetwork(
            f"emulate: inputs of shape {tuple(values.shape)} do not fit {entry.name} {entry.shape}; expected (N,"
            f" *shape), shown in every step, or (T, N, *shape) with T = {network.time_steps}"
        )
    top = (1 << entry.neuron.bits) - 1 if isinstance(entry.neuron, GradedInput) else 1
    if values.is_floating_point() and isinstance(entry.neuron, GradedInput):
        values = values.double().mul(entry.neuron.scale).round()
    low, high = (float(values.min()), float(values.max())) if values.numel() else (0.0, 0.0)
    if not (low >= 0 and high <= top) or (values.is_floating_point() and bool((values != values.round()).any())):
        raise InvalidNetwork(
            f"emulate: {entry.name} takes integers 0 … {top} (or, for images, reals 0 … 1); got values in {low:g} …"
            f" {high:g}"
        )
    spikes = values.to(torch.uint8 if top <= 255 else torch.int32)
    return spikes.expand(network.time_steps, *spikes.shape) if static else spikes


def _current(
    network: ChipNetwork | Network, population: Population, spikes: dict[str, Tensor], dtype: torch.dtype
) -> Tensor:
    """Σ over incoming groups of op(spikes): (T, N, *shape), integers in float32 or float64 for a chip network."""
    exact = isinstance(network, ChipNetwork)
    total: Tensor | None = None
    for op, sources in network.shared_ops(population.name):
        source = network[sources[0]]
        x = sum((spikes[name] for name in sources[1:]), spikes[sources[0]])
        largest = ((1 << source.neuron.bits) - 1) if isinstance(source.neuron, GradedInput) else len(sources)
        part = _apply(op, x, source.shape, _exact_dtype(op, largest) if exact else dtype)
        if isinstance(source.neuron, GradedInput) and not exact:
            part = part / source.neuron.scale
        total = part if total is None else total + part
    if total is None:
        lead = next(iter(spikes.values())).shape[:2]
        total = torch.zeros(*lead, *population.shape, dtype=dtype)
    return total.reshape(*total.shape[:2], *population.shape)


def _exact_dtype(op: Op, largest: int) -> torch.dtype:
    """Sums of integers below 2^24 are exact in float32, whatever their order; inputs are at most `largest`."""
    row_sums = np.abs(op.weight).astype(np.float64).reshape(len(op.weight), -1).sum(1)
    return torch.float32 if float(row_sums.max(initial=0.0)) * largest < 1 << 24 else torch.float64


def _apply(op: Op, spikes: Tensor, source: Shape, dtype: torch.dtype) -> Tensor:
    """op(spikes) for every step and sample."""
    weight = torch.from_numpy(np.ascontiguousarray(op.weight)).to(spikes.device, dtype)
    lead = spikes.shape[:2]
    # What a static image drives is the same in every step.
    static = len(spikes) > 1 and spikes.stride(0) == 0
    x = (spikes[:1] if static else spikes).reshape(-1, *source).to(dtype)
    if isinstance(op, Conv2d):
        y = F.conv2d(x, weight, None, op.stride, op.padding, op.dilation, op.groups)
    else:
        y = F.linear(x.flatten(1), weight)
    return y.reshape(-1, lead[1], *y.shape[1:]).expand(*lead, *y.shape[1:])


def _accumulate(population: Population, current: Tensor, *, exact: bool) -> tuple[Tensor, int]:
    """v ← clip(v + a + bias) over all steps; (N, F) in the weights' unit."""
    bias = _bias(population, current)
    if not exact or _stays_inside(current, bias):
        total = (current + bias).sum(0).flatten(1)
        return total.long() if exact else total, 0
    integrator = _Integer(CubaLIF((LIMIT >> SHIFT) - 1), bias)
    for a in current:
        integrator.step(a)
    return (integrator.v >> SHIFT).flatten(1).long(), int(integrator.lost)


def _run_neurons(population: Population, current: Tensor) -> tuple[Tensor, int]:
    """Spikes (T, N, *shape) as uint8, and how often a state left its 24 bits."""
    neuron, bias = population.neuron, _bias(population, current)
    state: _Real | _Integer
    if isinstance(neuron, LIF):
        state = _Real(neuron.v_threshold, neuron.v_decay, bias)
    else:
        assert isinstance(neuron, CubaLIF)
        if neuron.v_decay == 0 and neuron.i_decay == UNITY and _stays_inside(current, bias):
            # Without decay and overflow all states are whole multiples of 64, so that sums of weights do.
            state = _Real(neuron.v_threshold + 1, 0.0, bias)
        else:
            state = _Integer(neuron, bias)
    spikes = torch.empty(current.shape, dtype=torch.uint8, device=current.device)
    for step, a in enumerate(current):
        spikes[step] = state.step(a)
    return spikes, int(state.lost)


def _stays_inside(current: Tensor, bias: Tensor) -> bool:
    """Whether no sum over all steps can leave the 24 bits of a state."""
    if not current.numel():
        return True
    low, high = torch.aminmax(current)
    largest = max(-float(low), float(high)) + (float(bias.abs().max()) if bias.numel() else 0.0)
    return largest * len(current) < (LIMIT >> SHIFT) - 1


class _Real:
    """v ← (1 − decay)·v + a + bias; s = [v ≥ threshold]; v ← 0 where s."""

    def __init__(self, threshold: float, decay: float, bias: Tensor) -> None:
        self.threshold, self.keep, self.bias = threshold, 1.0 - decay, bias
        self.v: Tensor | None = None
        self.lost = 0

    def step(self, a: Tensor) -> Tensor:
        """Spikes of one step."""
        a = a + self.bias
        v = a if self.v is None else a.add_(self.v, alpha=self.keep)
        fired = v >= self.threshold
        self.v = v.masked_fill_(fired, 0.0)
        return fired


class _Integer:
    """Loihi's neuron as Lava computes it (see `CubaLIF`), states in 64-bit integers."""

    def __init__(self, neuron: CubaLIF, bias: Tensor) -> None:
        self.neuron, self.bias = neuron, bias.long() << SHIFT
        self.u = self.v = self.lost = torch.zeros((), dtype=torch.int64, device=bias.device)

    def step(self, a: Tensor) -> Tensor:
        """Spikes of one step."""
        u = _decay(self.u, self.neuron.i_decay) + (a.long() << SHIFT)
        over, under = u > LIMIT, u <= -LIMIT
        self.u = u - 2 * LIMIT * over + 2 * LIMIT * under  # currents beyond 24 bits wrap around
        v = _decay(self.v, self.neuron.v_decay) + self.u + self.bias
        clipped = v.clamp(-(LIMIT - 1), LIMIT - 1)  # potentials saturate
        self.lost = self.lost + (over | under).sum() + (clipped != v).sum()
        fired = clipped > (self.neuron.v_threshold << SHIFT)
        self.v = clipped.masked_fill(fired, 0)
        return fired


def _decay(state: Tensor, decay: int) -> Tensor:
    """sign(x)·(|x|·(4096 − decay) >> 12), rounding toward zero."""
    if decay == 0:
        return state
    product = state * (UNITY - decay)
    return product.sign() * (product.abs() >> 12)


def _bias(population: Population, current: Tensor) -> Tensor:
    """Bias in the shape of one neuron step, broadcast over the batch."""
    if population.bias is None:
        return torch.zeros((), dtype=current.dtype, device=current.device)
    bias = torch.from_numpy(np.ascontiguousarray(population.bias)).to(current)
    return bias.reshape(-1, *[1] * (len(population.shape) - 1))
