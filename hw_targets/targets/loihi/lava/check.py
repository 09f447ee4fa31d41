"""Lava's own simulator as the judge: load an exported file, run samples, compare every spike.

Lava is no dependency of this package; install lava-nc 0.10.0 and lava-dl 0.6.0 beside it (README, "Install"). It
computes one sample at a time, tens of milliseconds a step, so a handful of samples is what one checks. It forks and
insists on setting the start method of `multiprocessing`, so it runs in a process of its own (`runner`).
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

from hw_targets.emulation.emulate import Timing, emulate
from hw_targets.errors import HardwareTargetError, InvalidFile
from hw_targets.files.hdf5 import open_safely
from hw_targets.ir.network import ChipNetwork
from hw_targets.targets.loihi.lava.runner import UNAVAILABLE
from hw_targets.targets.loihi.netx.clock import arrival_steps
from hw_targets.targets.loihi.netx.relays import insert_relays
from hw_targets.targets.loihi.netx.writer import NetxLayer, netx_layers


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
    images: npt.ArrayLike,
    *,
    timing: Timing = "aligned",
    reset_offset: int | None = None,
    static: bool = False,
    waiting: Callable[[], object] = lambda: None,
) -> SpikeComparison:
    """Run samples, one after the other, through the netx file `path` and through `emulate`.

    `images` is as for `emulate`: (N, *shape), or (T, N, *shape) with T the network's time steps; Lava gets the integers
    that the emulator made of them. With `timing="netx"` every chip step is
    compared, those before the first sample arrives included. `reset_offset` and `static` as in `emulate`. `waiting` is
    called twice a second while Lava runs.

    Raises:
        LavaUnavailable: Lava is not installed; the message says how.
        InvalidFile: `path` does not exist.
        InvalidNetwork: images of another shape or range.
    """
    sequential = insert_relays(network)
    offset = reset_offset if timing == "netx" else None
    ours = emulate(sequential, np.asarray(images), timing=timing, reset_offset=offset, static=static)
    layers, steps, shown = netx_layers(sequential), ours.time_steps, ours.spikes[sequential.inputs[0].name]
    readouts = [layer.populations[0].is_readout for layer in layers]
    trace = run_lava(path, shown, steps, readouts, per_step=True, reset_offset=reset_offset, waiting=waiting)
    arrivals = arrival_steps(sequential)
    samples, length = ours.samples, steps * ours.samples
    positions = compared = differences = readout = 0
    for layer, lava in zip(layers, trace, strict=True):
        for population, theirs in zip(layer.populations, _unstack(layer, lava), strict=True):
            first = arrivals[population.name]
            if population.is_readout:
                ends = theirs[first + steps - 1 : first + length : steps]
                readout += int((ends.reshape(samples, -1) >> 6 != ours.output).sum())
                continue
            mine = ours.chip_steps(population.name).astype(bool)
            theirs = theirs[first + length - len(mine) : first + length].astype(bool)
            positions += mine.size
            compared += int((mine | theirs).sum())
            differences += int((mine != theirs).sum())
    return SpikeComparison(samples, positions, compared, differences, readout)


def _unstack(layer: NetxLayer, lava: npt.NDArray[Any]) -> Iterator[npt.NDArray[Any]]:
    """Split a layer's trace (neurons, all steps) into its populations' (all steps, *shape)."""
    start = 0
    for population in layer.populations:
        yield lava[start : start + population.size].T.reshape(-1, *population.shape)
        start += population.size


def run_lava(
    path: str | os.PathLike[str],
    images: npt.NDArray[Any],
    steps: int,
    readouts: Sequence[bool],
    *,
    per_step: bool = False,
    reset: bool = True,
    reset_offset: int | None = None,
    waiting: Callable[[], object] = lambda: None,
) -> list[npt.NDArray[np.int64]]:
    """Traces of every netx layer, (neurons in (C, H, W) order, steps·N + layers + 1): spikes, or a readout's potential.

    Args:
        path: netx file.
        images: integer inputs (N, *shape), each shown for `steps` steps, one after the other, states reset between.
        steps: T.
        readouts: for each layer, whether to record its potential instead of its spikes.
        per_step: `images` is (T, N, *shape) instead.
        reset: whether states are cleared every T steps.
        reset_offset: netx's argument of that name; by default what clears each layer as its next sample arrives.
        waiting: called twice a second while Lava runs.

    Raises:
        LavaUnavailable: Lava is not installed; the message says how.
        InvalidFile: `path` does not exist.
        HardwareTargetError: Lava failed; the message ends with its last words.
    """
    return run_lava_jobs([LavaJob(path, images, steps, tuple(readouts), per_step, reset, reset_offset)], waiting)[0]


@dataclass(frozen=True, eq=False)
class LavaJob:
    """One run of `run_lava`: its arguments."""

    path: str | os.PathLike[str]
    images: npt.NDArray[Any]
    steps: int
    readouts: tuple[bool, ...]
    per_step: bool = False
    reset: bool = True
    reset_offset: int | None = None

    def save(self, file: Path) -> None:
        """Write what the runner needs: the input of every step, and when to reset."""
        shown = self.images if self.per_step else np.repeat(self.images[None], self.steps, axis=0)
        frames = shown.swapaxes(0, 1).reshape(-1, *shown.shape[2:]).astype(np.int32)
        offset = (0 if _has_entry_neurons(self.path) else 1) if self.reset_offset is None else self.reset_offset
        interval = self.steps if self.reset else 0
        np.savez(file, frames=frames, readouts=np.array(self.readouts), reset_interval=interval, reset_offset=offset)


def run_lava_jobs(
    jobs: Sequence[LavaJob], waiting: Callable[[], object] = lambda: None
) -> list[list[npt.NDArray[np.int64]]]:
    """Several runs in one process of Lava, which takes seconds to start; traces and errors as `run_lava`."""
    for job in jobs:
        _check_exists(job.path)
    with tempfile.TemporaryDirectory() as folder:
        arguments: list[str] = []
        for index, job in enumerate(jobs):
            description, result = Path(folder, f"job{index}.npz"), Path(folder, f"result{index}.npz")
            job.save(description)
            arguments += [str(job.path), str(description), str(result)]
        command = [sys.executable, "-m", "hw_targets.targets.loihi.lava.runner", *arguments]
        status, last_words = _run(command, Path(folder, "errors.txt"), waiting)
        if status == UNAVAILABLE:
            raise LavaUnavailable(
                f"Lava cannot be imported ({last_words}); install it with: pip install --no-deps"
                " --ignore-requires-python lava-nc==0.10.0 lava-dl==0.6.0"
            )
        results = [Path(result) for result in arguments[2::3]]
        for job, result in zip(jobs, results, strict=True):
            if not result.is_file():
                raise HardwareTargetError(f"Lava could not run {job.path}: {last_words}")
        return [_traces(result, len(job.readouts)) for job, result in zip(jobs, results, strict=True)]


def _traces(result: Path, layers: int) -> list[npt.NDArray[np.int64]]:
    with np.load(result) as traces:
        return [traces[str(i)].astype(np.int64) for i in range(layers)]


def _check_exists(path: str | os.PathLike[str]) -> None:
    if not Path(path).is_file():
        raise InvalidFile(f"{path} does not exist; write it with export_netx first")


def _has_entry_neurons(path: str | os.PathLike[str]) -> bool:
    """Whether the file's input layer has neurons: it is then the first of Lava's layers, one step before the others."""
    with open_safely(path) as root:
        first = root.subgroup("layer").subgroup("0")
        return first.text("type") == "input" and first.holds("neuron")


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
