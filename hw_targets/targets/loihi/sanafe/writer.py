"""Files for SANA-FE 2.2.9, an architecture simulator, so that it can judge counts, energies and times.

SANA-FE (Boyle et al., IEEE TCAD 2025; GPL-3) is a program of its own that reads these files; nothing of it is used
here. Three files hold one placed network and one sample: `architecture.yaml` the mesh with the chip's costs,
`network.yaml` groups of neurons, non-zero synapses and cores, `run.json` how many steps to run, which group is which
population, and when each group's bias acts.

Its `leaky_integrate_fire` is `CubaLIF` with i_decay = 4096, exactly: v ← trunc(v·leak) + bias + current, spike where
v > threshold, reset to 0, a message acting one step after it was sent. Two things differ and are bridged. Spikes carry
no value, so a graded input's value is folded into its neurons' weights. Biases act from the first step, also in layers
whose input arrives later; `run.json` gives the steps in which `emulate` applies them.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from math import prod
from pathlib import Path
from typing import Any, TextIO

import numpy as np

from hw_targets.errors import InvalidFile, InvalidNetwork, UnsupportedModel, check_type
from hw_targets.estimation.times import published_times
from hw_targets.files.atomic import make_folder, new_files
from hw_targets.ir.connectivity import Ints, edges
from hw_targets.ir.network import Array, ChipNetwork, Population, Synapses
from hw_targets.placement import Placement
from hw_targets.placement.placement import placed_populations
from hw_targets.targets.loihi.arithmetic import UNITY, cuba_of
from hw_targets.targets.loihi.sanafe.architecture import Mesh, architecture, mesh_of

FILES = ("architecture.yaml", "network.yaml", "run.json")
NEVER = 1e12
"""A threshold no potential of 24 bits reaches: accumulators only add up."""
EDGES_AT_ONCE = 1 << 18


def export_sanafe(
    placement: Placement, inputs: Array, folder: str | os.PathLike[str], *, overwrite: bool = False
) -> None:
    """Write a placed network and one sample as files for SANA-FE.

    Args:
        placement: where the neurons live; its network must be a chain of layers (`insert_relays` makes it one).
        inputs: integers (T, *shape), what the input population sends in each step: `activity.spikes[name][:, sample]`.
        folder: created if it does not exist.
        overwrite: replace files of an earlier export.

    Raises:
        UnsupportedModel: synapses that skip layers, lead back or have delays, currents that last longer than a step,
            inputs whose value changes between steps, more than one chip.
        InvalidNetwork: inputs of another shape, or not whole numbers of 0 or more.
        InvalidChip: a chip whose energies are not published.
        InvalidFile: a file exists and `overwrite` is False, the folder cannot be made, or the disk takes no more.
    """
    check_type("export_sanafe", placement, Placement, "what place(network, chip) gives")
    network = placement.network
    depth = _depths(network)
    values = _input_values(network, np.asarray(inputs))
    mesh = mesh_of(placement)
    times = published_times(placement.chip)
    structure = architecture(placement.chip, mesh, network.inputs[0].size, times)
    path = Path(folder)
    _check_folder(path, overwrite)
    # What says how to run comes last: without it there is nothing to run.
    with new_files([path / name for name in FILES], overwrite=overwrite) as (machine, layout, start):
        machine.write_text(structure, encoding="utf-8")
        with layout.open("w", encoding="utf-8") as file:
            _write_network(file, placement, mesh, np.asarray(inputs), values)
        start.write_text(json.dumps(_run(network, depth, len(inputs)), indent=1) + "\n", encoding="utf-8")


def group_names(network: ChipNetwork) -> dict[str, str]:
    """SANA-FE's group by population: plain letters and digits, since dots and arrows mean something in its files."""
    return {p.name: f"g{index}" for index, p in enumerate(network.populations)}


def _check_folder(path: Path, overwrite: bool) -> None:
    """Refuse before anything is written."""
    make_folder(path)
    taken = [name for name in FILES if (path / name).exists()]
    if taken and not overwrite:
        raise InvalidFile(f"{path} holds {taken} already; choose another folder or pass overwrite=True (--overwrite)")


def _depths(network: ChipNetwork) -> dict[str, int]:
    """Layer of every population; all its sources must be in the layer before."""
    depth: dict[str, int] = {}
    for name in network.order:
        for synapses in network.incoming(name):
            _check_synapses(synapses)
        behind = {depth[s.source] for s in network.incoming(name)}
        if len(behind) > 1:
            raise UnsupportedModel(
                f"population {name!r} hears sources {sorted(behind)} layers deep, whose spikes would arrive in"
                " different steps; place and export insert_relays(network)"
            )
        depth[name] = max(behind, default=-1) + 1
        _check_neuron(network[name])
    return depth


def _check_synapses(synapses: Synapses) -> None:
    if synapses.is_recurrent:
        raise UnsupportedModel(
            f"synapses {synapses.name}: recurrent neurons would go on after the sample's last step, as nothing in"
            " SANA-FE's files stops them; export a network without them"
        )
    if synapses.delay is not None or synapses.immediate:
        raise UnsupportedModel(
            f"synapses {synapses.name}: delays are not exported to SANA-FE; export a net without them"
        )
    if not np.issubdtype(synapses.op.weight.dtype, np.integer):
        raise InvalidNetwork(f"synapses {synapses.name} have {synapses.op.weight.dtype} weights; quantize the network")


def _check_neuron(population: Population) -> None:
    neuron = cuba_of(population)
    if neuron is not None and neuron.i_decay != UNITY:
        raise UnsupportedModel(
            f"population {population.name!r}: i_decay is {neuron.i_decay}, but SANA-FE does not round a lasting current"
            f" as the chip does; only i_decay = {UNITY} (a current of one step) is exact"
        )
    if neuron is None and not population.is_input and not population.is_readout:
        raise UnsupportedModel(
            f"population {population.name!r}: {type(population.neuron).__name__} has no integers; quantize first"
        )


def _input_values(network: ChipNetwork, inputs: Array) -> Ints:
    """The one non-zero value each input neuron sends, 0 for one that sends none: int64 (neurons,)."""
    if len(network.inputs) != 1:
        raise UnsupportedModel(f"SANA-FE export takes one input, the network has {[p.name for p in network.inputs]}")
    entry = network.inputs[0]
    if inputs.shape[1:] != entry.shape or not len(inputs) or not np.issubdtype(inputs.dtype, np.integer):
        raise InvalidNetwork(
            f"export_sanafe: inputs are {inputs.dtype} {inputs.shape}, expected integers (T, {str(entry.shape)[1:-1]});"
            f" pass activity.spikes[{entry.name!r}][:, sample]"
        )
    flat = inputs.reshape(len(inputs), -1).astype(np.int64)
    if flat.min(initial=0) < 0:
        raise InvalidNetwork(f"export_sanafe: inputs hold {int(flat.min())}, expected 0 or more")
    largest: Ints = flat.max(axis=0)
    if changing := int(((flat != 0) & (flat != largest)).any(axis=0).sum()):
        raise UnsupportedModel(
            f"export_sanafe: {changing} input neurons change their value between steps, but SANA-FE's spikes carry none"
            " and its weights are constant; show one image in all steps, or send binary spikes"
        )
    return largest


def _run(network: ChipNetwork, depth: Mapping[str, int], steps: int) -> dict[str, Any]:
    names = group_names(network)
    groups = {
        names[p.name]: {
            "population": p.name,
            "neurons": p.size,
            "bias": [] if p.bias is None else _biases(p).tolist(),
            "first_step": depth[p.name] + 1,
            "last_step": depth[p.name] + steps,
        }
        for p in network.populations
    }
    return {"steps": steps + max(depth.values()), "groups": groups}


def _biases(population: Population) -> Ints:
    """Bias of every neuron, int64 (neurons,)."""
    bias = np.zeros(1, np.int64) if population.bias is None else population.bias.astype(np.int64)
    repeats: Ints = np.repeat(bias, population.size // bias.size)
    return repeats


def _write_network(file: TextIO, placement: Placement, mesh: Mesh, inputs: Array, values: Ints) -> None:
    network = placement.network
    names = group_names(network)
    file.write("network:\n  name: neuroprune\n  groups:\n")
    for population in network.populations:
        file.write(f"    - name: {names[population.name]}\n")
        file.writelines(_neurons(population, inputs))
    file.write("  edges:\n")
    for synapses in network.synapses:
        file.writelines(_edges(synapses, network, values, names))
    file.write("mappings:\n")
    entry = network.inputs[0]
    for index in range(entry.size):
        file.write(f'  - {names[entry.name]}.{index}: {{core: {mesh.input_core}, soma: "input[{index}]"}}\n')
    for population in placed_populations(network):
        for first, last, core in _runs(placement.cores[population.name].astype(np.int64)):
            file.write(f"  - {names[population.name]}.{first}..{last}: {{core: {mesh.cores[core]}, soma: lif}}\n")


def _neurons(population: Population, inputs: Array) -> Iterator[str]:
    """A group's attributes and neurons, one line for neighbours that are alike."""
    if population.is_input:
        yield "      attributes: [log_spikes: true]\n      neurons:\n"
        spikes = (inputs.reshape(len(inputs), -1) != 0).astype(int)
        for index in range(population.size):
            yield f"        - {index}: {{spikes: {spikes[:, index].tolist()}}}\n"
        return
    neuron = cuba_of(population)
    threshold = NEVER if neuron is None else float(neuron.v_threshold)
    leak = 1.0 if neuron is None else (UNITY - neuron.v_decay) / UNITY
    soma = f"threshold: {threshold}, leak_decay: {leak!r}, input_decay: 0.0, reset: 0.0, reset_mode: hard"
    yield f"      attributes: [log_spikes: true, soma: {{{soma}}}]\n      neurons:\n"
    for first, last, bias in _runs(_biases(population)):
        yield f"        - {first}..{last}: [soma: {{bias: {bias}}}]\n"


def _edges(synapses: Synapses, network: ChipNetwork, values: Ints, names: Mapping[str, str]) -> Iterator[str]:
    """Non-zero synapses, a line for some targets at a time; an input neuron's value multiplies its weights."""
    op, size = synapses.op, network[synapses.target].size
    at_once = max(1, EDGES_AT_ONCE // max(1, prod(op.weight.shape[1:])))
    for start in range(0, size, at_once):
        found = edges(synapses, network, np.arange(start, min(size, start + at_once)))
        weight = found.weight.astype(np.int64)
        if network[synapses.source].is_input:
            weight = weight * values[found.source]
        kept = weight != 0
        if not kept.any():
            continue
        pairs = np.stack((found.source[kept], found.target[kept]), axis=1).tolist()
        yield (
            f"    - {names[synapses.source]} -> {names[synapses.target]}: {{type: sparse, "
            f"source_target_pairs: {json.dumps(pairs)}, weight: {json.dumps(weight[kept].tolist())}}}\n"
        )


def _runs(values: Ints) -> Iterator[tuple[int, int, int]]:
    """(first, last, value) of each stretch of equal values."""
    starts = np.flatnonzero(np.diff(values, prepend=values[:1] - 1))
    ends = np.append(starts[1:], len(values)) - 1
    yield from zip(starts.tolist(), ends.tolist(), values[starts].tolist(), strict=True)
