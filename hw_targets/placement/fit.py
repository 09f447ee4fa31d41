"""Whether a network can be laid out on a chip at all, told from its shapes, before it is trained."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from hw_targets.chips.chip import Chip
from hw_targets.ir.connectivity import Ints, fan_in, fan_out
from hw_targets.ir.network import Conv2d, Network

UNITS = {
    "input_axons_per_core": "source neurons per core",
    "inputs_per_neuron": "input synapses per neuron",
    "synapses_out_per_neuron": "output synapses per neuron",
    "synaptic_bits_per_core": "bits of weights for one neuron",
    "kernel_words_per_core": "kernel words per layer",
    "neuron_words_per_core": "neuron words per layer",
    "input_neurons": "input neurons",
    "output_neurons": "output neurons",
}
"""What each limit that can make a layer too large counts."""
PRUNABLE = ("input_axons_per_core", "inputs_per_neuron", "synapses_out_per_neuron", "synaptic_bits_per_core")


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
        if not self.excess or self.key not in ("input_axons_per_core", "inputs_per_neuron", "synaptic_bits_per_core"):
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


def check_fit(network: Network, chip: Chip) -> list[LayerFit]:
    """Each population with all weights non-zero against the limits of one neuron (or layer), in network order.

    One neuron's inputs must share one core, and no split of the layer changes that: a neuron with more distinct inputs
    than a core has input axons cannot be placed. Inputs of the network are listed only where the chip limits them.
    """
    rows = []
    for name in network.order:
        population = network[name]
        into = _most([fan_in(s, network, count_zeros=True) for s in network.incoming(name)])
        out = _most([fan_out(s, network, count_zeros=True) for s in network.outgoing(name)])
        if population.is_input:
            found = [("input_neurons", population.size, chip.input_neurons)]
            if chip.input_neurons is None:
                continue
        else:
            found = [
                ("input_axons_per_core", into, chip.input_axons_per_core),
                ("inputs_per_neuron", into, chip.inputs_per_neuron),
                ("synapses_out_per_neuron", out, chip.synapses_out_per_neuron),
                *_layer_memory(network, name, chip),
            ]
            if chip.weight_bits is not None:
                found.append(("synaptic_bits_per_core", into * chip.weight_bits, chip.synaptic_bits_per_core))
            if not network.outgoing(name):
                found.append(("output_neurons", population.size, chip.output_neurons))
        key, used, limit = _tightest(found)
        rows.append(LayerFit(name, population.size, into, out, key, used, limit))
    return rows


def cores_needed(network: Network, chip: Chip) -> int | None:
    """Cores that the neurons alone fill; None where the chip does not say how many a core holds."""
    if chip.neurons_per_core is None:
        return None
    neurons = sum(p.size for p in network.populations if not p.is_input)
    return -(-neurons // chip.neurons_per_core)


def _most(counts: list[Ints]) -> int:
    return int(np.sum(counts, axis=0).max()) if counts else 0


def _tightest(found: list[tuple[str, int, int | None]]) -> tuple[str | None, int | None, int | None]:
    """The known limit of which the largest part is used."""
    known = [(used / limit, key, used, limit) for key, used, limit in found if limit is not None]
    return max(known)[1:] if known else (None, None, None)


def _layer_memory(network: Network, name: str, chip: Chip) -> list[tuple[str, int, int | None]]:
    """Words of a chip that keeps one layer per core, against its largest core.

    Kernel c·2^(⌈log2 k²⌉ + ⌈log2 f⌉), neurons f·2^(⌈log2 h⌉ + ⌈log2 w⌉) for c input and f output channels, kernels of
    k×k and an output of h×w (sinabs 904eb89, documentation of DYNAP-CNN). A dense layer is a convolution over all of
    its source.
    """
    if chip.kernel_words_per_core is None or chip.neuron_words_per_core is None:
        return []
    shape = network[name].shape
    features, height, width = (shape[0], *shape[1:]) if len(shape) == 3 else (network[name].size, 1, 1)
    neurons = features * 2 ** (_log2(height) + _log2(width))
    kernels = 0
    for group in network.incoming(name):
        source = network[group.source].shape
        if isinstance(group.op, Conv2d):
            channels, taps = group.op.weight.shape[1], int(np.prod(group.op.weight.shape[2:]))
        else:
            channels, taps = source[0], int(np.prod(source[1:], dtype=np.int64))
        kernels += channels * 2 ** (_log2(taps) + _log2(features))
    return [
        ("kernel_words_per_core", kernels, max(chip.kernel_words_per_core)),
        ("neuron_words_per_core", neurons, max(chip.neuron_words_per_core)),
    ]


def _log2(value: int) -> int:
    """⌈log2 value⌉."""
    return (value - 1).bit_length()
