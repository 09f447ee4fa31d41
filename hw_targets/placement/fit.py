"""Whether a network can be laid out on a chip at all, told from its shapes, before it is trained."""

from __future__ import annotations

from collections.abc import Iterator, Sequence, Set
from dataclasses import dataclass
from typing import overload

import numpy as np

from hw_targets.chips.chip import Chip
from hw_targets.chips.facts import LIMITS
from hw_targets.ir.connectivity import Ints, fan_in, fan_out
from hw_targets.ir.network import ChipNetwork, Graph, Network
from hw_targets.placement.channels import channels_that_save, grid_of, kernel_words, log2_up
from hw_targets.placement.limits import hidden_synapses, projecting

UNITS = {
    "input_axons_per_core": "source neurons per core",
    "inputs_per_neuron": "input synapses per neuron",
    "synapses_out_per_neuron": "output synapses per neuron",
    "synaptic_bits_per_core": "bits of weights for one neuron",
    "kernel_words_per_core": "kernel words per layer",
    "neuron_words_per_core": "neuron words per layer",
    "input_neurons": "input neurons",
    "output_neurons": "output neurons",
    "hidden_neurons": "hidden neurons in all",
    "average_fan_out": "synapses for each hidden neuron of the chip",
    "input_projection_neurons": "hidden neurons that hear inputs",
    "output_projection_neurons": "hidden neurons that outputs hear",
    "destinations_per_neuron": "cores that one neuron sends to",
    "output_axons_per_core": "output axons of one neuron",
    "core_memory_bits": "bits of weights for one neuron",
}
"""What each limit that can make a layer too large counts."""
INPUTS = ("input_axons_per_core", "inputs_per_neuron", "synaptic_bits_per_core", "core_memory_bits")
"""Limits that a neuron's inputs fill."""
PRUNABLE = (*INPUTS, "synapses_out_per_neuron", "average_fan_out", "destinations_per_neuron", "output_axons_per_core")


@dataclass(frozen=True)
class LayerFit:
    """One population, all weights non-zero, against the limits of a chip that no cutting into cores can mend.

    `fan_in` and `fan_out` are the most synapses that end in, or start from, one of its neurons. `key` is the limit that
    is exceeded most, or comes nearest; `used` and `limit` its numbers, None if the chip publishes no such limit.
    """

    name: str
    neurons: int
    fan_in: int
    fan_out: int
    key: str | None
    used: int | None
    limit: int | None

    @property
    def excess(self) -> int:
        """How much is used above the limit; 0 if it fits or no limit is known."""
        return 0 if self.used is None or self.limit is None else max(0, self.used - self.limit)

    @property
    def sparsity(self) -> float:
        """Fraction of each neuron's weights that must be zero for it to fit; 0 if it fits dense."""
        return 1 - self.limit / self.used if self.excess and self.limit is not None and self.used else 0.0

    @property
    def fan_in_cap(self) -> int | None:
        """Most non-zero inputs a neuron may keep; None where the limit is not one of inputs, or is kept dense."""
        if not self.excess or self.key not in INPUTS:
            return None
        return int(self.fan_in * (1 - self.sparsity) + 1e-9)

    def cells(self) -> list[str]:
        """A row of the table: name, neurons, largest fan-in, the limit that decides, verdict."""
        limit = "unknown" if self.limit is None else f"{self.limit} {UNITS[self.key or '']}"
        verdict = "unknown" if self.limit is None else f"over by {self.excess}" if self.excess else "fits"
        if self.excess and self.key in PRUNABLE:
            verdict += f", fits from {100 * self.sparsity:.1f} % zeros"
        return [self.name, str(self.neurons), str(self.fan_in), limit, verdict]

    def advice(self, chip: Chip) -> str:
        """What would make it fit."""
        assert self.limit is not None
        assert self.key is not None
        if self.key not in PRUNABLE:
            return (
                f"{self.name}: needs {self.used} {UNITS[self.key]}, {chip.name} has {self.limit} ({self.key}),"
                f" {self.excess} too many, and zeros do not lower it; narrow the layer"
            )
        cap = "" if self.fan_in_cap is None else f" (a fan-in cap of {self.fan_in_cap})"
        if self.key == "input_axons_per_core":
            what = (
                f"a neuron has up to {self.fan_in} inputs, {chip.name} allows {self.limit} input axons per core,"
                f" {self.excess} too many"
            )
        else:
            what = (
                f"it needs up to {self.used} {UNITS[self.key]}, {chip.name} allows {self.limit} ({self.key}),"
                f" {self.excess} too many"
            )
        percent = np.ceil(1000 * self.sparsity) / 10
        remedy = f"prune each of its neurons to at least {percent:.1f} % zeros{cap}, or narrow the layer"
        return f"{self.name}: {what}; {remedy}"


@dataclass(frozen=True)
class Fit(Sequence[LayerFit]):
    """A network against a chip: a row for each population, in network order.

    `not_enforced` says which limits of the chip were not looked at, and why; `savings` which layers have a few channels
    more than a power of two where those are what memory is paid for in.
    """

    rows: tuple[LayerFit, ...]
    not_enforced: tuple[str, ...]
    savings: tuple[str, ...] = ()

    @overload
    def __getitem__(self, index: int) -> LayerFit: ...

    @overload
    def __getitem__(self, index: slice) -> Sequence[LayerFit]: ...

    def __getitem__(self, index: int | slice) -> LayerFit | Sequence[LayerFit]:
        return self.rows[index]

    def __len__(self) -> int:
        return len(self.rows)


def check_fit(network: Network, chip: Chip) -> Fit:
    """Each population with all weights non-zero against the limits of one neuron (or layer, or of all there are).

    One neuron's inputs must share one core, and no split of the layer changes that: a neuron with more distinct inputs
    than a core has input axons cannot be placed. Inputs of the network are listed only where the chip limits them.
    """
    rows, looked_at = [], set[str]()
    for name in network.order:
        population = network[name]
        into = _most([fan_in(s, network, count_zeros=True) for s in network.incoming(name)])
        out = _most([fan_out(s, network, count_zeros=True) for s in network.outgoing(name)])
        found = _demands(network, name, into, out, chip)
        looked_at |= {key for key, _, limit in found if limit is not None}
        if population.is_input and chip.input_neurons is None:
            continue
        key, used, limit = _tightest(found)
        rows.append(LayerFit(name, population.size, into, out, key, used, limit))
    return Fit(tuple(rows), tuple(_not_enforced(chip, looked_at)), tuple(channels_that_save(network, chip)))


def _demands(
    network: Network | ChipNetwork, name: str, into: int, out: int, chip: Chip
) -> list[tuple[str, int, int | None]]:
    """(limit, what a population uses of it, how much there is), all weights non-zero."""
    population = network[name]
    if population.is_input:
        return [("input_neurons", sum(p.size for p in network.inputs), chip.input_neurons)]
    is_output = not network.outgoing(name)
    found = [
        ("input_axons_per_core", into, chip.input_axons_per_core),
        ("inputs_per_neuron", into, chip.inputs_per_neuron),
        ("synapses_out_per_neuron", out, chip.synapses_out_per_neuron),
        *layer_memory(network, name, chip),
    ]
    if chip.weight_bits is not None:
        memory = chip.core_memory_bits if chip.synaptic_bits_per_core is None else chip.synaptic_bits_per_core
        key = "core_memory_bits" if chip.synaptic_bits_per_core is None else "synaptic_bits_per_core"
        found.append((key, into * chip.weight_bits, memory))
    if is_output:
        found.append(("output_neurons", sum(p.size for p in network.outputs), chip.output_neurons))
    else:
        hidden = [p for p in network.populations if not p.is_input and network.outgoing(p.name)]
        found.append(("hidden_neurons", sum(p.size for p in hidden), chip.hidden_neurons))
        found += _shared_among_hidden(network, name, chip)
        cores = _destinations(network, name, out, chip)
        found.append(("destinations_per_neuron", cores, chip.destinations_per_neuron))
        found.append(("output_axons_per_core", cores, chip.output_axons_per_core))
    return found


def _shared_among_hidden(network: Network | ChipNetwork, name: str, chip: Chip) -> list[tuple[str, int, int | None]]:
    """What all hidden neurons share, all weights non-zero."""
    found: list[tuple[str, int, int | None]] = []
    if chip.hidden_neurons is not None:
        average = -(-hidden_synapses(network, count_zeros=True) // chip.hidden_neurons)
        found.append(("average_fan_out", average, chip.average_fan_out))
    if any(network[s.source].is_input for s in network.incoming(name)):
        count = projecting(network, at_input=True, count_zeros=True)
        found.append(("input_projection_neurons", count, chip.input_projection_neurons))
    if any(network[s.target] in network.outputs for s in network.outgoing(name)):
        count = projecting(network, at_input=False, count_zeros=True)
        found.append(("output_projection_neurons", count, chip.output_projection_neurons))
    return found


def _destinations(network: Network | ChipNetwork, name: str, out: int, chip: Chip) -> int:
    """Cores that a neuron sends to at least: one per layer where a core holds one, else as many as its targets fill."""
    if chip.kernel_words_per_core is not None:
        return len({s.target for s in network.outgoing(name)})
    return -(-out // chip.neurons_per_core) if chip.neurons_per_core is not None else min(out, 1)


def _not_enforced(chip: Chip, looked_at: Set[str]) -> Iterator[str]:
    """Limits that the chip states and `check_fit` did not look at."""
    counted: set[str] = set()
    if chip.neurons_per_core is not None or chip.kernel_words_per_core is not None:
        counted = {"cores_per_chip", "neurons_per_core", "largest_system_chips"}  # by `cores_needed` and `check_system`
    for key in LIMITS:
        if getattr(chip, key) is None or key in looked_at | counted:
            continue
        if chip.target is not None:
            yield f"{key}: checked by `place`, which sees the weights that are left"
        elif key == "core_memory_bits":
            yield f"{key}: not checked, since the chip does not state how wide a weight is"
        elif key in ("cores_per_chip", "largest_system_chips"):
            yield f"{key}: not checked, since the chip does not state how many neurons a core holds"
        else:
            yield f"{key}: not checked from shapes"


def cores_needed(network: Network, chip: Chip) -> int | None:
    """Cores that the neurons alone fill, or the layers where a core holds one; None where the chip does not say."""
    layers = [p for p in network.populations if not p.is_input]
    if chip.kernel_words_per_core is not None:
        return len(layers)
    if chip.neurons_per_core is None:
        return None
    return -(-sum(p.size for p in layers) // chip.neurons_per_core)


def _most(counts: list[Ints]) -> int:
    return int(np.sum(counts, axis=0).max()) if counts else 0


def _tightest(found: list[tuple[str, int, int | None]]) -> tuple[str | None, int | None, int | None]:
    """The known limit of which the largest part is used."""
    known = [(used / limit, key, used, limit) for key, used, limit in found if limit is not None]
    return max(known)[1:] if known else (None, None, None)


def layer_memory(network: Graph, name: str, chip: Chip) -> list[tuple[str, int, int | None]]:
    """Words of a chip that keeps one layer per core, against its largest core; see `channels`."""
    if chip.kernel_words_per_core is None or chip.neuron_words_per_core is None:
        return []
    features, height, width = grid_of(network, name)
    kernels, neurons = kernel_words(network, name, features), features << (log2_up(height) + log2_up(width))
    return [
        ("kernel_words_per_core", kernels, max(chip.kernel_words_per_core)),
        ("neuron_words_per_core", neurons, max(chip.neuron_words_per_core)),
    ]
