"""Step-exact emulation in integers, batched over samples.

In aligned time step t of every layer answers step t of the input, and each sample starts from cleared states with
nothing on its way. In netx time the samples follow each other on one chip as lava-dl's netx runs them (see `timing`):
biases charge a layer before its input arrives, and currents still on their way reach into the next sample. For a
network without recurrence and delays the two give the same spikes. Layers are run one after the other over all steps.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from hw_targets._emulate_currents import exact_dtype, incoming_current, recurrence
from hw_targets._emulate_neurons import is_readout, run_accumulator, run_neurons, word_bits
from hw_targets.activity import Activity, Overflow
from hw_targets.errors import InvalidNetwork
from hw_targets.network import ChipNetwork, GradedInput, Network, Population
from hw_targets.timing import NetxClock

Timing = Literal["aligned", "netx"]


def emulate(
    network: ChipNetwork | Network,
    inputs: Tensor | npt.NDArray[Any],
    *,
    timing: Timing = "aligned",
    reset: bool = True,
    reset_offset: int | None = None,
    device: str = "cpu",
    dtype: torch.dtype = torch.float64,
) -> Activity:
    """Run samples through a chip network in integers, or through a `Network` in real numbers.

    Args:
        network: what to run.
        inputs: (N, C, H, W), shown in every one of the network's `time_steps`, or (T, N, C, H, W). Graded inputs take
            integers 0 … 2^bits − 1 or real values 0 … 1, which are rounded to those; spike inputs take 0 and 1.
        timing: "aligned", every sample by itself, or "netx", one after the other as Lava runs them; `Activity.lead_in`
            then holds the steps before the first sample arrives.
        reset: in netx timing, whether states are cleared every `time_steps` steps (`reset_interval=T`) or never.
        reset_offset: in netx timing, netx's argument of that name; None clears each layer as its next sample arrives.
        device: torch device to compute on.
        dtype: precision of a `Network`; a chip network is exact in any case.

    Raises:
        InvalidNetwork: inputs of another shape or range, a network with several inputs or outputs, or, in netx timing,
            one whose synapses skip layers.
    """
    if len(network.inputs) != 1 or len(network.outputs) != 1:
        raise InvalidNetwork(
            f"emulate: needs one input and one output population, got {[p.name for p in network.inputs]} and"
            f" {[p.name for p in network.outputs]}"
        )
    if timing not in ("aligned", "netx"):
        raise InvalidNetwork(f"emulate: timing is 'aligned' or 'netx', got {timing!r}")
    entry = network.inputs[0]
    shown = _as_spikes(network, entry, inputs).to(device)
    if timing == "aligned":
        return _run(network, entry, shown, dtype, None)
    steps, samples = shown.shape[:2]
    clock = NetxClock.start(network, steps, samples, reset=reset, reset_offset=reset_offset)
    return _run(network, entry, _in_a_row(shown, clock), dtype, clock)


def respond(network: ChipNetwork, name: str, sent: Mapping[str, npt.NDArray[Any]]) -> npt.NDArray[np.uint8]:
    """Spikes (T, N, *shape) of one firing population, given what its sources sent, in aligned time.

    Args:
        network: holds the population and its sources.
        name: the population.
        sent: (T, N, *shape) integers of each source.
    """
    population = network[name]
    spikes = {source: torch.from_numpy(np.ascontiguousarray(values)) for source, values in sent.items()}
    width = exact_dtype(network, population, torch.device("cpu"))
    current = incoming_current(network, population, spikes, width)
    loop = recurrence(network, population, current)
    fired, _ = run_neurons(population, current, loop, word=word_bits(network, population))
    return np.asarray(fired.numpy())


def _run(
    network: ChipNetwork | Network, entry: Population, shown: Tensor, dtype: torch.dtype, clock: NetxClock | None
) -> Activity:
    """All layers, each over all steps; without a clock in aligned time."""
    exact = isinstance(network, ChipNetwork)
    spikes: dict[str, Tensor] = {entry.name: shown}
    lost: dict[str, Overflow] = {}
    output: Tensor | None = None
    for name in network.order:
        population = network[name]
        if population.is_input:
            continue
        width = exact_dtype(network, population, shown.device) if isinstance(network, ChipNetwork) else dtype
        current = incoming_current(network, population, spikes, width, transport=0 if clock is None else 1)
        word = word_bits(network, population)
        resets = frozenset[int]() if clock is None else clock.resets(name)
        if is_readout(population):
            ends = (len(current) - 1,) if clock is None else clock.sample_ends(name)
            sums, lost[name] = run_accumulator(population, current, ends, resets, exact=exact, word=word)
            output = sums.flatten(0, 1)
        else:
            loop = recurrence(network, population, current)
            spikes[name], lost[name] = run_neurons(population, current, loop, resets, word)
    return _activity(network, spikes, output, lost, clock)


def _activity(
    network: ChipNetwork | Network,
    spikes: dict[str, Tensor],
    output: Tensor | None,
    lost: dict[str, Overflow],
    clock: NetxClock | None,
) -> Activity:
    lead_in: dict[str, Tensor] = {}
    if clock is not None:
        lead_in = {name: s[: clock.arrivals[name], 0] for name, s in spikes.items()}
        spikes = {name: _by_sample(s, clock, clock.arrivals[name]) for name, s in spikes.items()}
    if output is None:
        output = spikes[network.outputs[0].name].sum(0, dtype=torch.int64).flatten(1)
    return Activity(
        {n: s.cpu().numpy() for n, s in spikes.items()},
        output.cpu().numpy(),
        {n: o.wraps + o.clips for n, o in lost.items()},
        {n: o for n, o in lost.items() if o.steps},
        {n: s.cpu().numpy() for n, s in lead_in.items()},
    )


def _in_a_row(shown: Tensor, clock: NetxClock) -> Tensor:
    """(T, N, *shape) as one sample of all chip steps, (S, 1, *shape); after the last sample nothing is shown."""
    row = shown.transpose(0, 1).reshape(-1, 1, *shown.shape[2:])
    rest = row.new_zeros(clock.total - len(row), *row.shape[1:])
    return torch.cat([row, rest])


def _by_sample(row: Tensor, clock: NetxClock, arrival: int) -> Tensor:
    """(S, 1, *shape) as (T, N, *shape), each sample from the step in which it arrives."""
    sent = row[arrival : arrival + clock.samples * clock.time_steps, 0]
    return sent.reshape(clock.samples, clock.time_steps, *sent.shape[1:]).transpose(0, 1)


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
