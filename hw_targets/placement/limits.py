"""What no cutting into cores can mend: uncountable cores, single neurons above a limit, too large a network."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from hw_targets.chips.chip import Chip
from hw_targets.errors import DoesNotFit, InvalidChip, InvalidNetwork
from hw_targets.ir.connectivity import Ints, fan_in, fan_out
from hw_targets.ir.network import ChipNetwork, Graph, Population


def check_chip(network: ChipNetwork, chip: Chip) -> None:
    """Refuse a chip whose cores cannot be counted neuron by neuron, and integers made for another chip.

    Raises:
        InvalidChip, InvalidNetwork
    """
    if chip.neurons_per_core is None and chip.kernel_words_per_core is None:
        raise InvalidChip(
            f"place: {chip.name} does not say how many neurons a core holds (neurons_per_core); copy its file, add the"
            " number that your program for its cores reaches, with its source, and pass that file"
        )
    if network.chip not in ("", chip.name):
        raise InvalidNetwork(
            f"place: the network holds integers for {network.chip!r}, but the chip is {chip.name!r}; quantize the"
            f" network for {chip.name} (or pass the chip it was quantized for)"
        )


def check_neurons(network: ChipNetwork, chip: Chip) -> None:
    """Refuse a neuron with more synapses, in or out, than the chip allows it, and inputs or outputs it cannot take.

    Raises:
        DoesNotFit: names the population, the neuron, the number and the limit.
    """
    for population in network.populations:
        name, heard, sent = population.name, 0, 0
        for group in network.incoming(name):
            heard = heard + fan_in(group, network).reshape(-1)  # type: ignore[assignment]  # becomes an array
        for group in network.outgoing(name):
            sent = sent + fan_out(group, network).reshape(-1)  # type: ignore[assignment]  # becomes an array
        _check(chip, name, "inputs_per_neuron", heard, "prune it to a fan-in cap of {limit}")
        if not population.is_input:
            _check(chip, name, "synapses_out_per_neuron", sent, "prune the synapses it sends to {limit}")
    hidden = _hidden(network)
    for key, populations in (
        ("input_neurons", network.inputs),
        ("output_neurons", network.outputs),
        ("hidden_neurons", hidden),
    ):
        limit, count = getattr(chip, key), sum(p.size for p in populations)
        if limit is not None and count > limit:
            raise DoesNotFit(
                f"the network has {count} {key.replace('_', ' ')}, {count - limit} more than the {limit} of {chip.name}"
                f" ({key}); make them fewer"
            )
    _check_hidden(network, chip)


def _check_hidden(network: ChipNetwork, chip: Chip) -> None:
    """Refuse hidden neurons that send too much together, or too many that hear inputs or are heard by outputs.

    Raises:
        DoesNotFit: as `check_neurons`.
    """
    synapses, room = hidden_synapses(network), (chip.average_fan_out or 0) * (chip.hidden_neurons or 0)
    if chip.average_fan_out is not None and chip.hidden_neurons is not None and synapses > room:
        raise DoesNotFit(
            f"the hidden neurons send to {synapses} others, {synapses - room} more than the {room} of {chip.name},"
            f" which has {chip.average_fan_out} for each of its {chip.hidden_neurons} (average_fan_out); prune them"
        )
    for key, at_input in (("input_projection_neurons", True), ("output_projection_neurons", False)):
        limit, count = getattr(chip, key), projecting(network, at_input=at_input)
        if limit is not None and count > limit:
            what = "hear inputs" if at_input else "are heard by outputs"
            raise DoesNotFit(
                f"{count} hidden neurons {what}, {count - limit} more than the {limit} of {chip.name} ({key}); narrow"
                " that layer, or prune all such synapses of some of its neurons"
            )


def hidden_synapses(network: Graph, *, count_zeros: bool = False) -> int:
    """Synapses that leave neurons which are neither inputs nor outputs; `count_zeros` as in `fan_out`."""
    hidden = {p.name for p in _hidden(network)}
    groups = [group for group in network.synapses if group.source in hidden]
    return sum(int(fan_out(group, network, count_zeros=count_zeros).sum()) for group in groups)


def projecting(network: Graph, *, at_input: bool, count_zeros: bool = False) -> int:
    """Hidden neurons with a synapse from an input, or else with one to an output."""
    ends, counts = network.inputs if at_input else network.outputs, 0
    names = {p.name for p in ends}
    for population in _hidden(network):
        each = np.zeros(population.size, np.int64)
        for group in network.incoming(population.name) if at_input else network.outgoing(population.name):
            if (group.source if at_input else group.target) in names:
                side = fan_in if at_input else fan_out
                each += side(group, network, count_zeros=count_zeros).reshape(-1)
        counts += int(np.count_nonzero(each))
    return counts


def _hidden(network: Graph) -> list[Population]:
    return [p for p in network.populations if not p.is_input and p not in network.outputs]


def check_destinations(destinations: Mapping[str, Ints], network: ChipNetwork, chip: Chip) -> None:
    """Refuse a neuron on the chip that sends to more cores than it may.

    Raises:
        DoesNotFit
    """
    for name, counts in destinations.items():
        if not network[name].is_input:
            _check(chip, name, "destinations_per_neuron", counts, "prune or narrow the layers it feeds")


def check_system(cores: int, chip: Chip) -> None:
    """Refuse a network that needs more chips than the largest system built of them has.

    Raises:
        DoesNotFit: says how many chips it would take.
    """
    chips, largest = -(-cores // chip.cores_per_chip), chip.largest_system_chips
    if largest is not None and chips > largest:
        raise DoesNotFit(
            f"the network takes {cores} cores, which is {chips} {chip.name} chips of {chip.cores_per_chip}"
            f" (cores_per_chip), {chips - largest} more than the {largest} of its largest system"
            " (largest_system_chips); prune it further, or narrow its layers"
        )


def _check(chip: Chip, name: str, key: str, counts: Ints | int, remedy: str) -> None:
    limit = getattr(chip, key)
    if limit is None or isinstance(counts, int) or counts.size == 0 or int(counts.max()) <= limit:
        return
    neuron = int(np.argmax(counts))
    used = int(counts[neuron])
    unit = "destination cores" if key == "destinations_per_neuron" else "synapses"
    raise DoesNotFit(
        f"population {name!r}: neuron {neuron} has {used} {unit}, {used - limit} more than the {limit} that a"
        f" {chip.name} neuron may have ({key}); {remedy.format(limit=limit)}"
    )
