"""Step-exact emulation in integers, batched over samples.

In aligned time step t of every layer answers step t of the input, and each sample starts from cleared states with
nothing on its way. In a target's own time (Loihi's is netx) the samples follow each other on one chip: biases charge a
layer before its input arrives, and currents still on their way reach into the next sample. For a network without
recurrence and delays the two give the same spikes. Layers are run one after the other over all steps.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import ceil
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from hw_targets.emulation.currents import Currents, exact_dtype, largest_current, recurrence
from hw_targets.emulation.inputs import as_spikes, with_steps
from hw_targets.emulation.losses import Losses
from hw_targets.emulation.products import Facts, facts_of
from hw_targets.emulation.reals import read_reals, run_reals
from hw_targets.errors import InvalidNetwork
from hw_targets.ir.activity import Activity, Overflow
from hw_targets.ir.dynamics import Clock, Engine, Whole
from hw_targets.ir.network import ChipNetwork, Network, Op, Population

#: Aligned, or the name of a target's own timing.
Timing = Literal["aligned", "netx"]


def emulate(
    network: ChipNetwork | Network,
    inputs: Tensor | npt.NDArray[Any],
    *,
    timing: Timing = "aligned",
    reset: bool = True,
    reset_offset: int | None = None,
    static: bool = False,
    device: str = "cpu",
    dtype: torch.dtype = torch.float64,
) -> Activity:
    """Run samples through a chip network in integers, or through a `Network` in real numbers.

    Args:
        network: what to run.
        inputs: what `from_torch` took, the same tensor: (T, N, C, H, W), or (N, C, H, W) or one image (C, H, W), shown
            in every one of the network's `time_steps`; (F,) or signals (C, L) in place of (C, H, W); for slayer's
            models (N, C, H, W, T), too. Graded inputs take integers 0 … 2^bits − 1 or real values 0 … 1, which are
            rounded to those; spike inputs take 0 and 1.
        timing: "aligned", every sample by itself, or "netx", one after the other as Lava runs them; `Activity.lead_in`
            then holds the steps before the first sample arrives.
        reset: in netx timing, whether states are cleared every `time_steps` steps (`reset_interval=T`) or never.
        reset_offset: in netx timing, netx's argument of that name; None clears each layer as its next sample arrives.
        static: show (N, *shape) in every step, where the network was read from frames that change from step to step;
            without it, what may be one frame of them is refused.
        device: torch device to compute on.
        dtype: precision of a `Network`; a chip network is exact in any case.

    Raises:
        InvalidNetwork: inputs of another shape or range, a network with several inputs or outputs, or, in netx timing,
            one whose synapses skip layers.
    """
    if not isinstance(network, (ChipNetwork, Network)):
        raise InvalidNetwork(
            f"emulate: got a {type(network).__name__}, expected a ChipNetwork, what quantize gives, or a Network"
        )
    if len(network.inputs) != 1 or len(network.outputs) != 1:
        raise InvalidNetwork(
            f"emulate: needs one input and one output population, got {[p.name for p in network.inputs]} and"
            f" {[p.name for p in network.outputs]}"
        )
    if dtype not in (torch.float32, torch.float64):
        raise InvalidNetwork(f"emulate: dtype is {dtype}, expected torch.float32 or torch.float64")
    if isinstance(network, Network) and network.in_integers:
        network = network.as_integers()
    dynamics = network.dynamics if isinstance(network, ChipNetwork) else None
    known = ("aligned", *(() if dynamics is None else dynamics.timings))
    if timing not in known:
        raise InvalidNetwork(f"emulate: timing is {timing!r}, this network knows {' and '.join(known)}")
    entry = network.inputs[0]
    network = with_steps(network, inputs)
    shown = as_spikes(network, inputs, static=static).to(device)
    if dynamics is None or timing == "aligned":
        return _run(network, entry, shown, dtype, None)
    assert isinstance(network, ChipNetwork)
    clock = dynamics.clock(timing, network, shown.shape[1], reset=reset, reset_offset=reset_offset)
    return _run(network, entry, _in_a_row(shown, clock), dtype, clock)


def respond(network: ChipNetwork, name: str, sent: Mapping[str, npt.NDArray[Any]]) -> npt.NDArray[np.uint8]:
    """Spikes (T, N, *shape) of one firing population, given what its sources sent, in aligned time.

    Args:
        network: holds the population and its sources.
        name: the population.
        sent: (T, N, *shape) integers of each source.
    """
    # torch has no tensors that step backwards through memory.
    spikes = {
        source: torch.from_numpy(values if min(values.strides, default=0) >= 0 else values.copy())
        for source, values in sent.items()
    }
    steps, samples = next(iter(sent.values())).shape[:2]
    layer = _Layer(network, network[name], torch.float64, torch.device("cpu"), None, steps * samples)
    return np.asarray(layer.fire(spikes).numpy())


class _Layer:
    """One population of a run; what depends on the network alone is made once, for all blocks of samples."""

    def __init__(
        self,
        network: ChipNetwork | Network,
        population: Population,
        dtype: torch.dtype,
        device: torch.device,
        clock: Clock | None,
        steps_and_samples: int,
    ) -> None:
        self.network, self.population, self.clock = network, population, clock
        self.losses = Losses()
        self._engine: Engine | None = None
        facts = dict[Op, Facts]()
        if isinstance(network, ChipNetwork):
            facts = {s.op: facts_of(s.op) for s in network.incoming(population.name)}
            largest = largest_current(network, population, facts)
            dtype = exact_dtype(largest, device)
            if network.dynamics is not None:
                self._engine = network.dynamics.engine(
                    network,
                    population,
                    largest=largest,
                    resets=frozenset[int]() if clock is None else clock.resets(population.name),
                    losses=self.losses,
                    device=device,
                    neuron_steps=steps_and_samples * population.size,
                )
        transport = 0 if clock is None else 1
        self._currents = Currents(network, population, dtype, device, facts, transport=transport)

    def fire(self, spikes: Mapping[str, Tensor]) -> Tensor:
        """Spikes (T, N, *shape) of neurons, given those of their sources."""
        current = self._currents.arriving(spikes)
        feedback = recurrence(self.network, self.population, current)
        if self._engine is not None:
            return self._engine.fire(current, feedback)
        return run_reals(self.population, current, feedback)

    def read(self, spikes: Mapping[str, Tensor]) -> Tensor:
        """Sums (N, F) of readouts, given the spikes of their sources."""
        current = self._currents.arriving(spikes)
        ends = (len(current) - 1,) if self.clock is None else self.clock.sample_ends(self.population.name)
        if self._engine is not None:
            return self._engine.read(current, ends).flatten(0, 1)
        sums = read_reals(self.population, current, ends).flatten(0, 1)
        return sums.long() if isinstance(self.network, ChipNetwork) else sums


def _run(
    network: ChipNetwork | Network, entry: Population, shown: Tensor, dtype: torch.dtype, clock: Clock | None
) -> Activity:
    """All layers, each over all steps, block of samples after block; without a clock in aligned time."""
    if isinstance(network, ChipNetwork) and network.dynamics is not None and clock is None:
        whole = network.dynamics.whole(network)
        if whole is not None:
            return _run_whole(network, entry, shown, whole)
    steps_and_samples = len(shown) * shown.shape[1]
    layers = [
        _Layer(network, network[name], dtype, shown.device, clock, steps_and_samples)
        for name in network.order
        if not network[name].is_input
    ]
    blocks: list[dict[str, Tensor]] = []
    outputs: list[Tensor] = []
    size = _samples_at_once(network, shown)
    size = ceil(shown.shape[1] / max(1, ceil(shown.shape[1] / size))) or 1
    for first in range(0, max(1, shown.shape[1]), size):
        sent = {entry.name: shown[:, first : first + size]}
        for layer in layers:
            if layer.population.neuron.fires:
                sent[layer.population.name] = layer.fire(sent)
            else:
                outputs.append(layer.read(sent))
        del sent[entry.name]
        blocks.append(sent)
    spikes = {entry.name: shown, **{name: _joined([block[name] for block in blocks]) for name in blocks[0]}}
    lost = {layer.population.name: layer.losses.overflow() for layer in layers}
    return _activity(network, spikes, torch.cat(outputs) if outputs else None, lost, clock)


def _run_whole(network: ChipNetwork, entry: Population, shown: Tensor, whole: Whole) -> Activity:
    """All populations together, block of samples after block."""
    losses = {p.name: Losses() for p in network.populations if not p.is_input}
    size = _samples_at_once(network, shown)
    blocks = [whole.run(shown[:, first : first + size], losses) for first in range(0, max(1, shown.shape[1]), size)]
    spikes = {entry.name: shown, **{name: _joined([block[name] for block in blocks]) for name in blocks[0]}}
    return _activity(network, spikes, None, {name: lost.overflow() for name, lost in losses.items()}, None)


def _samples_at_once(network: ChipNetwork | Network, shown: Tensor) -> int:
    """Samples to run together: their currents in the widest layer take 32 MiB on a CPU, 1 GiB on a GPU."""
    held = len(shown) * max(population.size for population in network.populations)
    return max(1, (1 << 23 if shown.device.type == "cpu" else 1 << 28) // max(1, held))


def _joined(blocks: list[Tensor]) -> Tensor:
    """Blocks (T, n, *shape) of samples as (T, N, *shape), in the first one's order of axes in memory."""
    if len(blocks) == 1:
        return blocks[0]
    strides = blocks[0].stride()
    last = sorted(range(len(strides)), key=lambda axis: -strides[axis])
    joined = torch.cat([block.permute(last) for block in blocks], last.index(1))
    return joined.permute([last.index(axis) for axis in range(joined.dim())])


def _activity(
    network: ChipNetwork | Network,
    spikes: dict[str, Tensor],
    output: Tensor | None,
    lost: dict[str, Overflow],
    clock: Clock | None,
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


def _in_a_row(shown: Tensor, clock: Clock) -> Tensor:
    """(T, N, *shape) as one sample of all chip steps, (S, 1, *shape); after the last sample nothing is shown."""
    row = shown.transpose(0, 1).reshape(-1, 1, *shown.shape[2:])
    rest = row.new_zeros(clock.total - len(row), *row.shape[1:])
    return torch.cat([row, rest])


def _by_sample(row: Tensor, clock: Clock, arrival: int) -> Tensor:
    """(S, 1, *shape) as (T, N, *shape), each sample from the step in which it arrives."""
    sent = row[arrival : arrival + clock.samples * clock.time_steps, 0]
    return sent.reshape(clock.samples, clock.time_steps, *sent.shape[1:]).transpose(0, 1)
