"""Lava's own simulator as the judge: load an exported file, run samples, compare every spike.

Lava is no dependency of this package; install lava-nc 0.10.0 and lava-dl 0.6.0 beside it (README, "Install"). It
computes one sample at a time, tens of milliseconds a step, so a handful of samples is what one checks. It forks and
insists on setting the start method of `multiprocessing`, so it runs in a process of its own (`lava_runner`).
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from hw_targets._emulate import emulate
from hw_targets.errors import HardwareTargetError, InvalidFile
from hw_targets.export.netx import NetxLayer, netx_layers
from hw_targets.lava_runner import UNAVAILABLE
from hw_targets.network import Accumulator, ChipNetwork
from hw_targets.relays import insert_relays


class LavaUnavailable(ImportError):
    """Lava or lava-dl cannot be imported here."""


@dataclass(frozen=True)
class SpikeComparison:
    """Spikes of all layers (and accumulated sums of the readout), ours against Lava's.

    `compared` counts the spikes either side sent, `differences` the neuron-steps in which they disagree, `positions`
    the neuron-steps looked at; `readout_differences` the accumulator values that disagree.
    """

    samples: int
    positions: int
    compared: int
    differences: int
    readout_differences: int


def compare_with_lava(
    network: ChipNetwork,
    path: str | os.PathLike[str],
    images: npt.NDArray[Any],
    *,
    waiting: Callable[[], object] = lambda: None,
) -> SpikeComparison:
    """Run integer inputs (N, *shape), one sample after the other, through the netx file `path` and through `emulate`.

    `waiting` is called twice a second while Lava runs.

    Raises:
        LavaUnavailable: Lava is not installed; the message says how.
        InvalidFile: `path` does not exist.
    """
    sequential = insert_relays(network)
    layers = netx_layers(sequential)
    steps = network.time_steps
    readouts = [isinstance(layer.populations[0].neuron, Accumulator) for layer in layers]
    trace = run_lava(path, images, steps, readouts, waiting=waiting)
    ours = emulate(sequential, images)
    positions = compared = differences = readout = 0
    for depth, (layer, lava) in enumerate(zip(layers, trace, strict=True)):
        for population, theirs in zip(layer.populations, _unstack(layer, lava, depth, steps, len(images)), strict=True):
            if isinstance(population.neuron, Accumulator):
                readout += int((theirs[-1].reshape(len(images), -1) >> 6 != ours.output).sum())
                continue
            mine = ours.spikes[population.name].astype(bool)
            theirs = theirs.astype(bool)
            positions += mine.size
            compared += int((mine | theirs).sum())
            differences += int((mine != theirs).sum())
    return SpikeComparison(len(images), positions, compared, differences, readout)


def _unstack(
    layer: NetxLayer, lava: npt.NDArray[Any], depth: int, steps: int, samples: int
) -> Iterator[npt.NDArray[Any]]:
    """Split a layer's trace (neurons, all steps) into its populations' (T, N, *shape), time aligned.

    The input of step t reaches layer `depth` (from 0) in step t + 1 + depth.
    """
    aligned = lava[:, 1 + depth : 1 + depth + steps * samples]
    by_sample = aligned.reshape(len(lava), samples, steps).transpose(2, 1, 0)
    start = 0
    for population in layer.populations:
        yield by_sample[:, :, start : start + population.size].reshape(steps, samples, *population.shape)
        start += population.size


def run_lava(
    path: str | os.PathLike[str],
    images: npt.NDArray[Any],
    steps: int,
    readouts: Sequence[bool],
    *,
    waiting: Callable[[], object] = lambda: None,
) -> list[npt.NDArray[np.int64]]:
    """Traces of every netx layer, (neurons in (C, H, W) order, steps·N + layers + 1): spikes, or a readout's potential.

    Args:
        path: netx file.
        images: integer inputs (N, *shape), each shown for `steps` steps, one after the other, states reset between.
        steps: T.
        readouts: for each layer, whether to record its potential instead of its spikes.
        waiting: called twice a second while Lava runs.

    Raises:
        LavaUnavailable: Lava is not installed; the message says how.
        InvalidFile: `path` does not exist.
        HardwareTargetError: Lava failed; the message ends with its last words.
    """
    if not Path(path).is_file():
        raise InvalidFile(f"{path} does not exist; write it with export_netx first")
    with tempfile.TemporaryDirectory() as folder:
        job, result = Path(folder, "job.npz"), Path(folder, "result.npz")
        np.savez(job, images=images, steps=steps, readouts=np.array(readouts))
        command = [sys.executable, "-m", "hw_targets.lava_runner", str(path), str(job), str(result)]
        status, last_words = _run(command, Path(folder, "errors.txt"), waiting)
        if status == UNAVAILABLE:
            raise LavaUnavailable(
                f"Lava cannot be imported ({last_words}); install it with: pip install --no-deps"
                " --ignore-requires-python lava-nc==0.10.0 lava-dl==0.6.0"
            )
        if status or not result.is_file():
            raise HardwareTargetError(f"Lava could not run {path}: {last_words}")
        with np.load(result) as traces:
            return [traces[str(i)].astype(np.int64) for i in range(len(readouts))]


def _run(command: list[str], errors: Path, waiting: Callable[[], object]) -> tuple[int, str]:
    """Exit status of a command, and the last line it wrote to standard error."""
    with errors.open("w+") as stream:
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=stream)
        try:
            while True:
                try:
                    status = process.wait(timeout=0.5)
                    break
                except subprocess.TimeoutExpired:
                    waiting()
        finally:
            process.kill()
        stream.seek(0)
        return status, stream.read().strip().rpartition("\n")[2]
