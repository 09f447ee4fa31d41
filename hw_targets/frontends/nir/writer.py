"""The Neuromorphic Intermediate Representation (Pedersen et al., Nat. Commun. 2024), the interchange with other tools.

NIR speaks of continuous time, so the discrete-time meaning must be stated: one simulation step is dt = 1, and a leaky
neuron v ← (1 − d)·v + x is the forward-Euler step of τ·v̇ = −v + R·I with τ = R = 1/d. NIR compares v > threshold, this
package mostly v ≥ threshold; the two differ only where they are equal. What NIR has no place for (dt, the number of
steps, the comparison, the kind of input, names that HDF5 does not allow) goes into metadata, where `from_nir` finds it.
"""

from __future__ import annotations

import io
import os
from dataclasses import replace
from typing import Any

import numpy as np

from hw_targets.errors import UnsupportedModel, check_type
from hw_targets.files.atomic import write_new
from hw_targets.frontends.nir.lists import listed
from hw_targets.ir.network import LIF, Accumulator, Array, Conv2d, GradedInput, Network, Op, Population, Shape
from hw_targets.ir.units import ungrouped
from neuroprune._require import require


def to_nir(network: Network) -> Any:
    """A `nir.NIRGraph` of a real-valued network: one node per distinct op, edges that end in one node add.

    Raises:
        UnsupportedModel: several inputs or outputs, recurrence on a grid, delays, a bias for each neuron of a grid, a
            kernel with an even and an odd side.
        ImportError: nir is not installed.
    """
    check_type("to_nir", network, Network, "the network that from_torch gives, before quantize")
    nir = require("nir", "nir")
    if len(network.inputs) != 1 or len(network.outputs) != 1:
        raise UnsupportedModel("to_nir: the network must have one input and one output population")
    network = listed(network)
    _refuse_extras(network)
    entry, end = network.inputs[0], network.outputs[0]
    nodes: dict[str, Any] = {"input": nir.Input({"input": np.array(entry.shape)}, metadata=_metadata(entry, "input"))}
    edges: list[tuple[str, str]] = []
    taken = {"input", "output"}
    node_of = {p.name: "input" if p is entry else _free(_node_name(p.name), taken) for p in network.populations}
    for name in network.order:
        population = network[name]
        if population.is_input:
            continue
        nodes[node_of[name]] = _neurons(nir, population, _metadata(population, node_of[name]))
        for index, (op, sources) in enumerate(network.shared_ops(name)):
            key = _free(f"{node_of[name]}_in{index}", taken)
            # The bias enters once per step, however many groups of synapses there are, or through the leak.
            biased = population if index == 0 and not _biases_potential(population) else None
            nodes[key] = _synapses(nir, op, network[sources[0]], biased)
            edges.append((key, node_of[name]))
            starts = [node_of[s] for s in sources]
            if not op.is_spatial and len(network[sources[0]].shape) > 1:
                flatten = _free(f"{key}_flatten", taken)
                nodes[flatten] = nir.Flatten({"input": np.array(network[sources[0]].shape)}, 0, -1)
                edges += [(start, flatten) for start in starts]
                starts = [flatten]
            edges += [(start, key) for start in starts]
    nodes["output"] = nir.Output({"output": np.array(end.shape)})
    edges.append((node_of[end.name], "output"))
    return nir.NIRGraph(nodes, edges, metadata={"dt": 1.0, "time_steps": network.time_steps})


def _refuse_extras(network: Network) -> None:
    """NIR's discrete meaning is stated here for feed-forward steps and one bias per channel only."""
    for s in network.synapses:
        on_grid = s.is_recurrent and len(network[s.target].shape) > 1
        if on_grid or s.delay is not None or s.immediate:
            what = "recurrent on a grid" if on_grid else "delayed" if s.delay is not None else "those of an input layer"
            raise UnsupportedModel(f"to_nir: synapses {s.name} are {what}, which is not written to NIR; export netx")
    for p in network.populations:
        if not p.is_input and not isinstance(p.neuron, (LIF, Accumulator)):
            raise UnsupportedModel(
                f"to_nir: {p.name} was trained in a chip's integers, which no node of NIR computes; quantize it, and"
                " export it for that chip"
            )
        if p.has_neuron_biases:
            raise UnsupportedModel(f"to_nir: {p.name} has a bias per neuron, NIR's layers one per channel; export netx")


def write_nir(network: Network, path: str | os.PathLike[str], *, overwrite: bool = False) -> None:
    """Write `to_nir(network)` to a .nir file.

    Raises:
        InvalidFile: `path` exists and `overwrite` is False, is no place for a file, or the disk takes no more.
    """
    content = io.BytesIO()  # HDF5 crashes at the end of a process whose disk was full
    require("nir", "nir").write(content, to_nir(network))
    write_new(path, content.getvalue(), overwrite=overwrite)


def _node_name(population: str) -> str:
    # NIR files are HDF5, and many readers turn node names into attributes.
    return population.replace(".", "_").replace("/", "_")


def _free(name: str, taken: set[str]) -> str:
    """The name, lengthened until no other node has it, and from now on taken."""
    while name in taken:
        name += "_"
    taken.add(name)
    return name


def _square(op: Conv2d, source: Shape) -> Conv2d:
    """The same convolution with a square kernel, which is all that nir's check of shapes knows: zeros around it.

    Raises:
        UnsupportedModel: one side is even and the other odd, so that no equal padding gives the same output.
    """
    rows, columns = op.weight.shape[2:]
    if rows == columns:
        return op
    before = [-(-(max(rows, columns) - side) // 2) for side in (rows, columns)]
    after = [max(rows, columns) - side - b for side, b in zip((rows, columns), before, strict=True)]
    padding = [p + d * b for p, d, b in zip(op.padding, op.dilation, before, strict=True)]
    weight = np.pad(op.weight, ((0, 0), (0, 0), (before[0], after[0]), (before[1], after[1])))
    wanted = op.output_shape(source)
    # Where there is one output only, a longer stride steps over what the padding would add.
    stride = [max(s, source[1:][i] + 2 * padding[i]) if wanted[1 + i] == 1 else s for i, s in enumerate(op.stride)]
    found = replace(op, weight=weight, padding=(padding[0], padding[1]), stride=(stride[0], stride[1]))
    if found.output_shape(source) != wanted:
        raise UnsupportedModel(
            f"to_nir: nir 1.0.8 takes every kernel for square, and one of {rows}×{columns} cannot be padded to be;"
            " use sides that are both odd or both even, or export netx"
        )
    return found


def _metadata(population: Population, node: str) -> dict[str, Any]:
    """What `from_nir` needs to know of a population beyond its NIR node."""
    neuron, known = population.neuron, dict[str, Any]()
    if population.name != node:
        known["name"] = population.name
    if isinstance(neuron, GradedInput):
        known |= {"bits": neuron.bits, "scale": neuron.scale}
    if isinstance(neuron, LIF):
        known |= {"strict": neuron.strict, "reset": neuron.reset}
        extras = {"reset_delay": neuron.reset_delay, "max_spikes": neuron.max_spikes, "withholds": neuron.withholds}
        plain = LIF(neuron.v_threshold)
        known |= {key: value for key, value in extras.items() if value != getattr(plain, key)}
        known |= {} if neuron.unit is None else {"unit": neuron.unit}
        known |= {} if neuron.v_min is None else {"v_min": neuron.v_min}
    return known


def _is_lasting(population: Population) -> bool:
    """Whether its synaptic current lasts over steps."""
    return isinstance(population.neuron, (LIF, Accumulator)) and population.neuron.i_decay != 1.0


def _biases_potential(population: Population) -> bool:
    """Whether its bias does not come with the synapses, whose current lasts."""
    neuron = population.neuron
    return _is_lasting(population) and not (isinstance(neuron, (LIF, Accumulator)) and neuron.bias_lasts)


def _decays(population: Population, neuron: LIF | Accumulator) -> tuple[Array, Array]:
    """(v_decay, i_decay) of each neuron, of the population's shape."""
    found = []
    for single, several in ((neuron.v_decay, neuron.v_decays), (neuron.i_decay, neuron.i_decays)):
        values = np.asarray(several or (single,))
        found.append(np.repeat(values, population.size // len(values)).reshape(population.shape))
    return found[0], found[1]


def _leak(population: Population, v_decay: Array) -> Array:
    """A bias that goes to the potential, which in NIR only the leak reaches."""
    if population.bias is None or not _biases_potential(population):
        return np.zeros(population.shape)
    leak: Array = population.bias.reshape(-1, *[1] * (len(population.shape) - 1)) / v_decay
    return leak


def _neurons(nir: Any, population: Population, metadata: dict[str, Any]) -> Any:
    shape, neuron = population.shape, population.neuron
    if isinstance(neuron, Accumulator):
        return _readout(nir, population, neuron, metadata)
    assert isinstance(neuron, LIF)
    if neuron.difference:
        raise UnsupportedModel(f"to_nir: {population.name} {neuron.beyond_one_leak}, which NIR has no node for")
    threshold, zero = np.full(shape, neuron.v_threshold), np.zeros(shape)
    v_decay, i_decay = _decays(population, neuron)
    common = {"v_threshold": threshold, "v_reset": zero, "metadata": metadata}
    if _is_lasting(population):
        _refuse_endless(population, v_decay, i_decay, "has", "CubaLIF")
        tau_syn, tau_mem, leak = 1.0 / i_decay, 1.0 / v_decay, _leak(population, v_decay)
        return nir.CubaLIF(tau_syn=tau_syn, tau_mem=tau_mem, r=tau_mem, v_leak=leak, w_in=tau_syn, **common)
    if not v_decay.any():
        return nir.IF(r=np.ones(shape), **common)
    _refuse_endless(population, v_decay, i_decay, "has", "LIF")
    return nir.LIF(tau=1.0 / v_decay, r=1.0 / v_decay, v_leak=zero, **common)


def _refuse_endless(population: Population, v_decay: Array, i_decay: Array, verb: str, node: str) -> None:
    if not (v_decay.all() and i_decay.all()):
        raise UnsupportedModel(
            f"to_nir: {population.name} {verb} a current (i_decay {i_decay.min():g}) or a potential (v_decay"
            f" {v_decay.min():g}) that never decays; NIR's {node} has time constants for both: export netx"
        )


def _readout(nir: Any, population: Population, neuron: Accumulator, metadata: dict[str, Any]) -> Any:
    shape, zero = population.shape, np.zeros(population.shape)
    if not neuron.leaks:
        return nir.I(r=np.ones(shape), metadata=metadata)
    v_decay, i_decay = _decays(population, neuron)
    _refuse_endless(population, v_decay, i_decay, "reads out", "CubaLI")
    tau = 1.0 / v_decay
    if not _is_lasting(population):
        return nir.LI(tau=tau, r=tau, v_leak=zero, metadata=metadata)
    tau_syn, leak = 1.0 / i_decay, _leak(population, v_decay)
    return nir.CubaLI(tau_syn=tau_syn, tau_mem=tau, r=tau, v_leak=leak, w_in=tau_syn, metadata=metadata)


def _synapses(nir: Any, op: Op, source: Population, biased: Population | None) -> Any:
    if isinstance(op, Conv2d):
        op = _square(op, source.shape)
    weight = op.weight.astype(np.float64)
    bias = np.zeros(len(weight)) if biased is None or biased.bias is None else biased.bias.astype(np.float64)
    if isinstance(op, Conv2d):
        # nir checks a convolution's channels as if there were no groups, so these are written out.
        return nir.Conv2d(
            source.shape[1:], ungrouped(op).astype(np.float64), op.stride, op.padding, op.dilation, 1, bias
        )
    return nir.Affine(weight, bias)
