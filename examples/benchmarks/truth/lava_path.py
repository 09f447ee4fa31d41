"""Chip networks made up at random, exported, run by Lava itself, and read back: step by step what we say."""

from __future__ import annotations

from collections.abc import Sequence
from copy import deepcopy
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np
import numpy.typing as npt

from examples.benchmarks.truth.chips import ChipCase, draw_chip_case
from examples.benchmarks.truth.finding import Finding
from examples.benchmarks.truth.tape import Tape
from hw_targets import emulate, export_netx, insert_relays, read_netx
from hw_targets.errors import HardwareTargetError
from hw_targets.ir.network import Accumulator, ChipNetwork
from hw_targets.targets.loihi.lava.check import LavaJob, run_lava_jobs
from hw_targets.targets.loihi.netx.clock import arrival_steps
from hw_targets.targets.loihi.netx.writer import NetxLayer, netx_layers

Integers = npt.NDArray[np.int64]


@dataclass
class Exported:
    """A case whose file is written, and what is known of it so far."""

    case: ChipCase
    network: ChipNetwork
    layers: tuple[NetxLayer, ...]
    path: Path
    finding: Finding

    def job(self) -> LavaJob:
        """What Lava is to run."""
        readouts = tuple(isinstance(layer.populations[0].neuron, Accumulator) for layer in self.layers)
        steps, offset = self.network.time_steps, self.case.reset_offset
        return LavaJob(self.path, self.case.frames, steps, readouts, per_step=True, reset_offset=offset)


def export_case(tape: Tape, path: Path) -> Exported | Finding:
    """A network and its file, read back; or, where the chip or the format cannot hold it, why."""
    try:
        return exported(draw_chip_case(tape), path, tape.values)
    except HardwareTargetError as error:
        return Finding("", refused=str(error), tape=tape.values)


def exported(case: ChipCase, path: Path, tape: list[int]) -> Exported:
    """A case's file, read back.

    Raises:
        HardwareTargetError: the format cannot hold it.
    """
    export_netx(case.network, path, overwrite=True)
    finding = Finding(case.description, case.features.copy(), tape=tape)
    network = insert_relays(case.network)
    layers = netx_layers(network)
    finding.features["relays"] += len(network.populations) > len(case.network.populations)
    finding.neurons = sum(p.size for p in network.populations if not p.is_input)
    _compare_read(finding, network, layers, path)
    return Exported(case, network, layers, path, finding)


def check_lava(exported: Sequence[Exported]) -> list[Finding]:
    """Run all files in one process of Lava, and compare every layer in every chip step.

    Raises:
        LavaUnavailable: Lava is not installed.
    """
    traces = run_lava_jobs([e.job() for e in exported])
    return [compare_trace(one, trace) for one, trace in zip(exported, traces, strict=True)]


def compare_trace(exported: Exported, trace: Sequence[Integers]) -> Finding:
    """What was found before, and every layer of Lava's trace against the emulator."""
    case, network, finding = exported.case, exported.network, deepcopy(exported.finding)
    ours = emulate(network, case.frames, timing="netx", reset_offset=case.reset_offset)
    finding.features["states out of range"] += bool(ours.out_of_range)
    arrivals = arrival_steps(network)
    steps, samples = case.frames.shape[:2]
    for index, (layer, lava) in enumerate(zip(exported.layers, trace, strict=True)):
        names = [p.name for p in layer.populations]
        if isinstance(layer.populations[0].neuron, Accumulator):
            first = arrivals[names[0]] + steps - 1
            theirs = lava[:, first : first + samples * steps : steps].T >> 6
            finding.note(f"Lava's readout {names[0]}", int((theirs != ours.output).sum()))
            continue
        mine = np.concatenate([ours.chip_steps(n).reshape(-1, network[n].size) for n in names], axis=1)
        finding.compare(f"Lava's layer {index} ({', '.join(names)})", mine, lava[:, : len(mine)].T)
    return finding


def _compare_read(finding: Finding, network: ChipNetwork, layers: tuple[NetxLayer, ...], path: Path) -> None:
    """What the file says: T, the input, and every field of every layer."""
    try:
        read = read_netx(path)
    except HardwareTargetError as error:
        finding.differing += 1
        finding.faults.append(f"read_netx refuses what export_netx wrote: {error}")
        return
    again = netx_layers(read)
    same = read.time_steps == network.time_steps and read.inputs[0].neuron == network.inputs[0].neuron
    same = same and read.inputs[0].shape == network.inputs[0].shape and len(again) == len(layers)
    finding.note("read_netx: steps, input or layers", int(not same))
    for index, (ours, theirs) in enumerate(zip(layers, again, strict=False)):
        for field in fields(NetxLayer):
            pair = [getattr(layer, field.name) for layer in (ours, theirs)]
            if field.name == "delay" and all(delay is not None for delay in pair):
                # Delays per input of a square layer are written in full.
                pair = [np.broadcast_to(delay, ours.weight.shape) for delay in pair]
            if field.name == "bias":
                # A bias of zero is none: an input layer's is read so.
                pair = [None if bias is None or not bias.any() else bias for bias in pair]
            if field.name != "populations" and not _alike(*pair):
                finding.note(f"read_netx: layer {index} {field.name}", 1)


def _alike(ours: object, theirs: object) -> bool:
    if isinstance(ours, np.ndarray) and isinstance(theirs, np.ndarray):
        return ours.size == theirs.size and np.array_equal(ours.squeeze(), theirs.squeeze())
    return bool(ours == theirs)
