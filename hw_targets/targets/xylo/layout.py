"""Populations on a Xylo core: which hidden neurons they are, when they answer, and how they run.

On the chip spikes of hidden neurons arrive one step later, at hidden neurons and at outputs alike. In aligned time,
where step t of every population answers step t of the input, a population k such hops away is k chip steps late.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from hw_targets.errors import InvalidNetwork
from hw_targets.ir.connectivity import edges
from hw_targets.ir.network import ChipNetwork, Graph, Population, Synapses
from hw_targets.targets.xylo.arithmetic import WEIGHT_HIGH, WEIGHT_LOW
from hw_targets.targets.xylo.shifting import Shifting
from hw_targets.targets.xylo.specification import Ints, Specification


@dataclass(frozen=True)
class Layout:
    """Where a network's populations are.

    Attributes:
        first: by hidden population, the number of its first neuron; they follow each other in network order.
        late: by population that is no input, chip steps until the input's first step has reached it.
        output: name of the outputs.
        hidden: neurons of all hidden populations.
    """

    first: Mapping[str, int]
    late: Mapping[str, int]
    output: str
    hidden: int

    @property
    def steps_more(self) -> int:
        """Chip steps that a run takes beyond a sample's."""
        return max(self.late.values())


def laid_out(network: Graph) -> Layout:
    """Where populations go.

    Raises:
        InvalidNetwork: another shape than inputs → hidden neurons → outputs, delays, or sources of one population that
            are a different number of steps away.
    """
    if len(network.inputs) != 1 or len(network.outputs) != 1:
        raise InvalidNetwork(
            f"Xylo: needs one input and one output population, got {[p.name for p in network.inputs]} and"
            f" {[p.name for p in network.outputs]}"
        )
    entry, output = network.inputs[0].name, network.outputs[0].name
    first, late, hidden = dict[str, int](), {entry: 0}, 0
    for name in network.order:
        if name == entry:
            continue
        late[name] = _late(network, name, late, entry)
        if name != output:
            first[name], hidden = hidden, hidden + network[name].size
    _check_output(network, entry, output)
    return Layout(first, {name: late[name] for name in late if name != entry}, output, hidden)


def _late(network: Graph, name: str, late: Mapping[str, int], entry: str) -> int:
    found = {s.source: late[s.source] + (s.source != entry) for s in network.incoming(name) if not s.is_recurrent}
    if delayed := [s.name for s in network.incoming(name) if s.delay is not None and s.delay.any()]:
        raise InvalidNetwork(f"Xylo: synapses {delayed[0]} have delays, which the chip does not; leave them out")
    if len(set(found.values())) > 1:
        raise InvalidNetwork(
            f"Xylo: {name} hears {found} steps late, but what belongs to one step must arrive in one; each hop between"
            " hidden neurons takes a step, so that connections that skip a layer cannot be held: leave them out"
        )
    return next(iter(found.values()), 0)


def _check_output(network: Graph, entry: str, output: str) -> None:
    sources = [s.source for s in network.incoming(output)]
    if entry in sources or output in sources:
        what = "inputs" if entry in sources else "themselves"
        raise InvalidNetwork(
            f"Xylo: the outputs ({output}) hear {what}, but the chip's outputs hear hidden neurons alone; add a hidden"
            " layer, without recurrence at the outputs"
        )


def specification(network: ChipNetwork) -> Specification:
    """A network in rockpool's names.

    Raises:
        InvalidNetwork: as `laid_out`, neurons that are not Xylo's, outputs that send more than one spike, or hidden
            populations whose weights no common shift holds in 8 bits.
    """
    layout = laid_out(network)
    entry, outputs = network.inputs[0], network[layout.output]
    hidden = [network[name] for name in layout.first]
    neurons = {p.name: _neuron(p, is_output=p is outputs) for p in (*hidden, outputs)}
    from_input = [s for s in network.synapses if s.source == entry.name]
    between = [s for s in network.synapses if s.source in layout.first and s.target in layout.first]
    outgoing = [s for s in network.synapses if s.target == outputs.name]
    shift_in, weights_in = _matrix(
        network, from_input, neurons, {entry.name: 0}, layout.first, entry.size, layout.hidden
    )
    shift_rec, weights_rec = _matrix(
        network, between, neurons, layout.first, layout.first, layout.hidden, layout.hidden
    )
    shift_out, weights_out = _matrix(
        network, outgoing, neurons, layout.first, {outputs.name: 0}, layout.hidden, outputs.size
    )

    def each(name: str) -> Ints:
        return np.concatenate([np.full(p.size, getattr(neurons[p.name], name), np.int64) for p in hidden])

    def all_of(name: str) -> Ints:
        return np.full(outputs.size, getattr(neurons[outputs.name], name), np.int64)

    return Specification(
        weights_in=weights_in[:, :, None],
        weights_rec=weights_rec[:, :, None],
        weights_out=weights_out,
        dash_mem=each("dash_mem"),
        dash_mem_out=all_of("dash_mem"),
        dash_syn=each("dash_syn"),
        dash_syn_2=np.zeros(layout.hidden, np.int64),
        dash_syn_out=all_of("dash_syn"),
        threshold=each("v_threshold"),
        threshold_out=all_of("v_threshold"),
        bias_hidden=np.concatenate([_biases(p) for p in hidden]),
        bias_out=_biases(outputs),
        weight_shift_in=shift_in,
        weight_shift_rec=shift_rec,
        weight_shift_out=shift_out,
    )


def _neuron(population: Population, *, is_output: bool) -> Shifting:
    neuron = population.neuron
    if not isinstance(neuron, Shifting):
        raise InvalidNetwork(f"Xylo: {population.name} has {type(neuron).__name__} neurons; quantize for a Xylo chip")
    if (neuron.most == 1) != is_output:
        raise InvalidNetwork(
            f"Xylo: {population.name} sends up to {neuron.most} spikes a step, but the chip's"
            f" {'outputs send 1' if is_output else 'hidden neurons 31'}; train it with XyloLayer(...,"
            f" output={is_output})"
        )
    return neuron


def _biases(population: Population) -> Ints:
    if population.bias is None:
        return np.zeros(population.size, np.int64)
    bias: Ints = np.repeat(population.bias.astype(np.int64), population.size // population.bias.size)
    return bias


def _matrix(
    network: ChipNetwork,
    groups: list[Synapses],
    neurons: Mapping[str, Shifting],
    rows: Mapping[str, int],
    columns: Mapping[str, int],
    sources: int,
    targets: int,
) -> tuple[int, Ints]:
    """The smallest shift among groups of synapses, and their 8-bit weights (sources, targets) on it."""
    shift = min((neurons[group.target].shift for group in groups), default=0)
    matrix = np.zeros((sources, targets), np.int64)
    for group in groups:
        found = edges(group, network)
        places = (rows[group.source] + found.source, columns[group.target] + found.target)
        np.add.at(matrix, places, found.weight.astype(np.int64) << (neurons[group.target].shift - shift))
    if matrix.size and not WEIGHT_LOW <= matrix.min() <= matrix.max() <= WEIGHT_HIGH:
        raise InvalidNetwork(
            f"Xylo: the synapses {', '.join(g.name for g in groups)} share one weight shift, and on {shift} bits"
            f" their weights span {matrix.min()} … {matrix.max()}, beyond {WEIGHT_LOW} … {WEIGHT_HIGH}; give all hidden"
            " layers one weight_shift, and join synapses of one source and target"
        )
    return shift, matrix
