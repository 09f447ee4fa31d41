"""Cores that `place` uses, beside a lower bound, nengo-loihi's split rule and plain sequential tiling."""

from __future__ import annotations

import multiprocessing
import resource
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from math import prod
from typing import Any

import numpy as np
import torch

from examples.benchmarks.common import Goal, Report, Result, one_thread, summarize
from hw_targets import Chip, ChipNetwork, HardwareTargetError, from_torch, load_chip, place, quantize
from hw_targets.ir.network import Accumulator, Conv2d, Dense, GradedInput, Population, SpikeInput, Synapses
from hw_targets.placement.cores.cost import core_order
from hw_targets.placement.placement import Placement, placed_populations
from hw_targets.placement.tiles.tiling import sequential
from hw_targets.targets.loihi.neuron import CubaLIF
from neuroprune.training.progress import progress_bar

SPARSITIES = (0.0, 0.9, 0.95, 0.99)
CHIPS = ("loihi1", "loihi2")
BOUND, SAVED = Goal(1.15), Goal(4.0, at_least=True)
LARGE, LARGE_SPARSITIES = "SEW ResNet-18, 224×224", (0.95,)
"""The network of three million neurons, and the sparsities it is placed at: building and cutting it takes minutes."""
SEQUENTIAL_LIMIT = 5_000_000
"""Synapses up to which sequential tiling is run for comparison."""
METHOD = (
    "Random weights in the chip's integers; of each output channel the largest stay, so that all neurons of a layer"
    " have equal fan-in before padding (max-pools are left alone). cores: place(). lower_bound: the scarcest resource's"
    " total over a core's limit, kernels in the copies that no placement avoids, at the fewest bits a synapse takes."
    " nengo: nengo-loihi's rule n_split = max over resources of ceil(total / limit) per"
    " population, zeros stored, blocks not checked again (many would exceed a limit). sequential: pixel by pixel, exact"
    " costs, no core shared. filled: cores that the neurons, axons and bits of the placement would fill to the last."
    " seconds: CPU seconds of one call of place, one thread. peak_mb: resident memory of the process, network included."
)


def run(*, quick: bool = False) -> Report:
    """Place each network at each sparsity on each chip."""
    report = Report("placement", quick, {"sparsities": list(SPARSITIES), "chips": list(CHIPS)}, METHOD)
    networks = builders(quick)
    with one_thread(), progress_bar(len(networks), "placement") as bar:
        for title, build in networks.items():
            measure_network(report, title, build())
            bar.update()
    return report


def builders(quick: bool) -> dict[str, Callable[[], ChipNetwork]]:
    """What is placed, by title."""
    if quick:
        return {"MLP 256-256-10": lambda: mlp((256, 256, 10))}
    return {
        "MLP 2048-2048-2048-10": mlp,
        "PilotNet": pilot_net,
        "SEW ResNet-18, 32×32": partial(sew_resnet18, 32),
        LARGE: partial(sew_resnet18, 224),
    }


def measure_network(report: Report, title: str, network: ChipNetwork) -> None:
    """All placements of one network, added to the report."""
    for chip in CHIPS:
        for sparsity in LARGE_SPARSITIES if title == LARGE else SPARSITIES:
            name = f"{title}/{chip}/{sparsity:g}"
            try:
                report.values[name] = _in_child(network, sparsity, load_chip(chip))
            except HardwareTargetError as error:
                report.skipped[name] = str(error)
        _add_results(report, title, chip)


def _add_results(report: Report, title: str, chip: str) -> None:
    for sparsity in SPARSITIES:
        found = report.values.get(f"{title}/{chip}/{sparsity:g}")
        if found:
            label = f"{title} on {chip}, {100 * sparsity:g} % zeros: cores / lower bound"
            ratio = summarize([found["cores"] / found["lower_bound"]])
            report.results.append(Result(f"{title}/{chip}/{sparsity:g}/bound", label, ratio, BOUND))
    dense, pruned = (report.values.get(f"{title}/{chip}/{s:g}") for s in (0.0, 0.95))
    if dense and pruned and {dense["scarcest"], pruned["scarcest"]} == {"synaptic_bits_per_core"}:
        label = f"{title} on {chip}: cores, dense / 95 % zeros (memory binds)"
        saved = summarize([dense["cores"] / pruned["cores"]])
        report.results.append(Result(f"{title}/{chip}/saved", label, saved, SAVED, headline=True))


def measure(network: ChipNetwork, sparsity: float, chip: Chip) -> dict[str, Any]:
    """Place one network, and count what other rules would take."""
    network = replace(pruned(network, sparsity), chip=chip.name)
    start = time.process_time()
    placement = place(network, chip)
    seconds = time.process_time() - start
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    mesh = placement.mesh
    return {
        "cores": placement.core_count,
        "chips": placement.chips,
        "lower_bound": placement.lower_bound,
        "bounds": dict(placement.bounds),
        "filled": filled(placement),
        "scarcest": max(placement.bounds, key=lambda key: placement.bounds[key]),
        "nengo": nengo_cores(network, chip),
        "sequential": sequential_cores(network, chip, sum(core.synapses for core in placement.usage)),
        "shared_cores": sum(len(core.neurons_of) > 1 for core in placement.usage),
        "hops": mesh and mesh.hops,
        "hops_lower_bound": mesh and mesh.hops_lower_bound,
        "messages_between_chips": mesh and mesh.between_chips,
        "messages": mesh and mesh.messages,
        "seconds": round(seconds, 2),
        "peak_mb": round(peak),
    }


def filled(placement: Placement) -> dict[str, float]:
    """Whole cores' worth of each resource that a placement uses, by the chip's fact: no packing of its parts is below.

    Parts of different populations that share sources or lists on a core use fewer than they would apart.
    """
    uses = {
        "neurons_per_core": [core.neurons for core in placement.usage],
        "input_axons_per_core": [core.input_axons for core in placement.usage],
        "output_axons_per_core": [core.output_axons for core in placement.usage],
        "synaptic_bits_per_core": [core.synaptic_bits or 0 for core in placement.usage],
    }
    limits = {key: getattr(placement.chip, key) for key in uses}
    return {key: round(sum(used) / limits[key], 1) for key, used in uses.items() if limits[key] is not None}


def _in_child(network: ChipNetwork, sparsity: float, chip: Chip) -> dict[str, Any]:
    """`measure` in a process of its own, whose peak of memory is this placement's."""
    context = multiprocessing.get_context("fork")
    receiver, sender = context.Pipe(duplex=False)

    def work() -> None:
        try:
            sender.send(measure(network, sparsity, chip))
        except HardwareTargetError as error:
            sender.send(error)

    process = context.Process(target=work)
    process.start()
    sender.close()
    try:
        found: dict[str, Any] | HardwareTargetError = receiver.recv()
    except EOFError:
        raise RuntimeError(f"the placement process ended with status {process.exitcode}") from None
    finally:
        process.join()
    if isinstance(found, HardwareTargetError):
        raise found
    return found


def nengo_cores(network: ChipNetwork, chip: Chip) -> int:
    """Cores by nengo-loihi's split rule (`split_blocks.py`): per population, resources of the whole over the limits.

    Memory as `SynapseConfig.bits_per_axon` counts it: groups of 64 weights, zeros included, 10 bits a group, words of
    64; a convolution's kernels once per source channel. Limits a chip does not publish are left out.
    """
    total = 0
    for population in placed_populations(network):
        groups = network.incoming(population.name)
        need = [
            (population.size, chip.neurons_per_core),
            (sum(network[name].size for name in {g.source for g in groups}), chip.input_axons_per_core),
            (population.size * len(network.outgoing(population.name)), chip.output_axons_per_core),
            (sum(_nengo_bits(g, network) for g in groups), chip.synaptic_bits_per_core),
        ]
        total += max(-(-used // limit) for used, limit in need if limit is not None)
    return total


def _nengo_bits(group: Synapses, network: ChipNetwork) -> int:
    op = group.op
    if isinstance(op, Conv2d):
        axons, weights = network[group.source].shape[0], prod(op.weight.shape[2:]) * len(op.weight) // op.groups
    else:
        axons, weights = network[group.source].size, len(op.weight)
    full, rest = divmod(weights, 64)
    words = full * -(-(64 * 8 + 10) // 64) + (-(-(rest * 8 + 10) // 64) if rest else 0)
    return axons * words * 64


def sequential_cores(network: ChipNetwork, chip: Chip, synapses: int) -> int | None:
    """Cores when each population is cut pixel by pixel; None above `SEQUENTIAL_LIMIT` synapses."""
    if synapses > SEQUENTIAL_LIMIT:
        return None
    sends = {p.name: np.zeros(p.size, dtype=np.int64) for p in network.populations}
    total = 0
    for population in reversed(placed_populations(network)):
        parts = sequential(network, population.name, core_order(population), sends[population.name], chip)
        for part in parts:
            for reach in part.reach:
                reach.add_to(sends[reach.source])
        total += len(parts)
    return total


def pruned(network: ChipNetwork, sparsity: float) -> ChipNetwork:
    """The network with this fraction of the weights of each output channel or neuron set to zero, smallest first."""
    return replace(network, synapses=tuple(_pruned(group, sparsity) for group in network.synapses))


def _pruned(group: Synapses, sparsity: float) -> Synapses:
    weight = group.op.weight
    if sparsity == 0 or (isinstance(group.op, Conv2d) and group.op.groups > 1):
        return group
    rows = weight.reshape(len(weight), -1)
    kept = max(1, round(rows.shape[1] * (1 - sparsity)))
    chosen = np.argpartition(-np.abs(rows), kept - 1, axis=1)[:, :kept]
    result = np.zeros_like(rows)
    np.put_along_axis(result, chosen, np.take_along_axis(rows, chosen, axis=1), axis=1)
    return replace(group, op=replace(group.op, weight=result.reshape(weight.shape)))


def _layers(entry: Population, ops: Sequence[Callable[[Population], Conv2d | Dense]]) -> ChipNetwork:
    """A chain of layers, the last one a readout."""
    populations, synapses = [entry], []
    for k, make in enumerate(ops):
        op = make(populations[-1])
        populations.append(Population(f"layer{k}", op.output_shape(populations[-1].shape), CubaLIF(100)))
        synapses.append(Synapses(populations[-2].name, populations[-1].name, op))
    populations[-1] = replace(populations[-1], neuron=Accumulator())
    return ChipNetwork(tuple(populations), tuple(synapses))


def _dense(rng: np.random.Generator, size: int, before: Population) -> Dense:
    return Dense(_weights(rng, size, before.size))


def _weights(rng: np.random.Generator, *shape: int) -> np.ndarray[Any, np.dtype[np.int32]]:
    """Normal weights on 8 bits, none of them zero."""
    values: np.ndarray[Any, np.dtype[np.int32]] = np.clip(np.rint(rng.normal(0, 40, shape)), -127, 127).astype(np.int32)
    values[values == 0] = 1
    return values


def mlp(sizes: tuple[int, ...] = (2048, 2048, 2048, 10)) -> ChipNetwork:
    """Dense layers."""
    rng = np.random.default_rng(0)
    entry = Population("input", (sizes[0],), SpikeInput())
    return _layers(entry, [partial(_dense, rng, n) for n in sizes[1:]])


def pilot_net() -> ChipNetwork:
    """The sizes of PilotNet (Bojarski et al. 2016): 66×200 images, five convolutions, dense layers of 100, 50, 10."""
    rng = np.random.default_rng(0)

    def conv(channels: int, kernel: int, stride: int) -> Callable[[Population], Conv2d]:
        return lambda b: Conv2d(_weights(rng, channels, b.shape[0], kernel, kernel), (stride, stride))

    ops: list[Callable[[Population], Conv2d | Dense]] = [
        *(conv(*values) for values in ((24, 5, 2), (36, 5, 2), (48, 5, 2), (64, 3, 1), (64, 3, 1))),
        *(partial(_dense, rng, size) for size in (100, 50, 10)),
    ]
    return _layers(Population("input", (3, 66, 200), GradedInput()), ops)


def sew_resnet18(size: int) -> ChipNetwork:
    """SpikingJelly's SEW ResNet-18 (ADD) with initial weights (seed 0), for 1000 classes, in Loihi 1's integers."""
    from spikingjelly.activation_based import functional, neuron
    from spikingjelly.activation_based.model import sew_resnet

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = sew_resnet.sew_resnet18(spiking_neuron=neuron.IFNode, cnf="ADD", num_classes=1000).eval()
    functional.set_step_mode(model, "m")
    with torch.no_grad():
        return quantize(from_torch(model, torch.zeros(4, 1, 3, size, size)), load_chip("loihi1"))
