"""What an activity sends: checked spike counts, and the messages they become on a placed network."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from hw_targets.errors import HardwareTargetError
from hw_targets.ir.activity import Activity
from hw_targets.ir.connectivity import Ints
from hw_targets.ir.network import Array, Graph, Population
from hw_targets.placement.cores.cost import Part, by_source, values_of
from hw_targets.placement.mesh.mesh import Links


def events_sent(activity: Activity, network: Graph) -> dict[str, Ints]:
    """Non-zero values each neuron sent, summed over steps and samples: flat int64 per population.

    A spike and a non-zero graded value are one event each. Accumulators send nothing and are absent.

    Raises:
        HardwareTargetError: populations, shapes, steps or samples that are not this network's; values that are NaN,
            negative, fractional, or above what the population can send.
    """
    senders = {p.name: p for p in network.populations if not p.is_readout}
    if extra := sorted(set(activity.spikes) - set(senders)):
        raise HardwareTargetError(
            f"the activity holds {extra}, which the network does not send from (it has {list(senders)});"
            " emulate this network and pass that activity"
        )
    if missing := [name for name in senders if name not in activity.spikes]:
        raise HardwareTargetError(
            f"the activity lacks the spikes of {missing}; emulate this network and pass that activity"
        )
    batch = next(iter(activity.spikes.values())).shape[:2] if senders else ()
    return {name: _count(activity.spikes[name], population, batch) for name, population in senders.items()}


def messages_sent(events: Mapping[str, Ints], destinations: Mapping[str, Ints]) -> dict[str, int]:
    """Messages per sending population: each event goes once to every core that holds a target of the neuron."""
    return {name: int(count @ destinations[name]) for name, count in events.items()}


def core_links(
    cores: Sequence[Sequence[Part]], core_of: Mapping[str, npt.NDArray[np.int32]], events: Mapping[str, Ints] | None
) -> Links:
    """Messages between cores: the events of each neuron (one, without an activity) to each core that listens to it.

    Inputs live off chip and are left out.
    """
    found: list[tuple[Ints, Ints, npt.NDArray[np.float64]]] = []
    for receiver, parts in enumerate(cores):
        heard = {name: reaches for name, reaches in by_source(parts).items() if name in core_of}
        senders = [np.zeros(0, np.int32), *(values_of(reaches, core_of[name]) for name, reaches in heard.items())]
        weights = None
        if events is not None:
            weights = np.concatenate([np.zeros(0), *(values_of(r, events[name]) for name, r in heard.items())])
        count = np.bincount(np.concatenate(senders), weights, len(cores)).astype(np.float64)
        count[receiver] = 0.0
        sender = np.flatnonzero(count)
        found.append((sender, np.full(sender.size, receiver, np.int64), count[sender]))
    if not found:
        return Links(np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0))
    senders, receivers, messages = (np.concatenate(part) for part in zip(*found, strict=True))
    return Links(senders, receivers, messages)


def _count(spikes: Array, population: Population, batch: tuple[int, ...]) -> Ints:
    """Non-zero values per neuron of one population, after checking them; `batch` is (T, N)."""
    expected = (*batch, *population.shape)
    if spikes.shape != expected or len(batch) != 2 or spikes.size == 0:
        raise HardwareTargetError(
            f"activity of {population.name!r} has shape {spikes.shape}, expected {expected} (T, N, neurons) with at"
            " least one step and one sample; emulate this network and pass that activity"
        )
    values: npt.NDArray[np.number[Any]] = np.asarray(spikes)
    if not (np.issubdtype(values.dtype, np.integer) or np.issubdtype(values.dtype, np.bool_)):
        whole = np.isfinite(values) & (values == np.floor(values))
        _refuse(population, values, ~whole, "NaN, infinite or fractional")
    _refuse(population, values, values < 0, "negative")
    highest = population.neuron.most_sent
    _refuse(population, values, values > highest, f"above {highest}")
    counts: Ints = np.count_nonzero(values, axis=(0, 1)).reshape(-1).astype(np.int64)
    return counts


def _refuse(
    population: Population, values: npt.NDArray[np.number[Any]], wrong: npt.NDArray[np.bool_], what: str
) -> None:
    if wrong.any():
        example = values[wrong].flat[0]
        raise HardwareTargetError(
            f"activity of {population.name!r} holds {int(wrong.sum())} values of {wrong.size} that are {what}, such as"
            f" {example}; it must hold what each neuron sent in each step, as whole numbers"
        )
