"""Lava's own simulator as the judge: load an exported file, run samples, compare every spike.

Lava is no dependency of this package; install lava-nc 0.10.0 and lava-dl 0.6.0 beside it (README, "Install"). Lava computes
one sample at a time, tens of milliseconds a step, so a handful of samples is what one checks.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import numpy.typing as npt

from hw_targets.emulate import emulate
from hw_targets.errors import InvalidFile
from hw_targets.export.netx import NetxLayer, netx_layers
from hw_targets.network import Accumulator, ChipNetwork
from hw_targets.relays import insert_relays


class LavaUnavailable(ImportError):
    """Lava or lava-dl cannot be imported here."""


@dataclass(frozen=True)
class SpikeComparison:
    """Spikes of all layers (and accumulated sums of the readout), ours against Lava's.

    `compared` counts the spikes either side sent, `differences` the neuron-steps in which they disagree, `positions` the
    neuron-steps looked at; `readout_differences` the accumulator values that disagree.
    """

    samples: int
    positions: int
    compared: int
    differences: int
    readout_differences: int


def compare_with_lava(network: ChipNetwork, path: str | os.PathLike[str], images: npt.NDArray[Any]) -> SpikeComparison:
    """Run integer inputs (N, *shape), one sample after the other, through the netx file `path` and through `emulate`.

    Raises:
        LavaUnavailable: Lava is not installed; the message says how.
        InvalidFile: `path` does not exist.
    """
    sequential = insert_relays(network)
    layers = netx_layers(sequential)
    steps = network.time_steps
    trace = _run_lava(path, layers, steps, images)
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


def _run_lava(
    path: str | os.PathLike[str], layers: tuple[NetxLayer, ...], steps: int, images: npt.NDArray[Any]
) -> list[npt.NDArray[Any]]:
    """Traces of every layer, (neurons in (C, H, W) order, all steps): spikes, or the potential of an accumulator."""
    if not Path(path).is_file():
        raise InvalidFile(f"{path} does not exist; write it with export_netx first")
    lava = _import_lava()
    total = steps * len(images) + len(layers) + 1
    # Lava's arrays are (W, H, C, time); the image of a sample stays for all its steps.
    data = np.zeros((*images.shape[1:][::-1], total), np.int32)
    shown = np.repeat(images.astype(np.int32), steps, axis=0)
    data[..., : len(shown)] = shown.transpose(*range(shown.ndim - 1, 0, -1), 0)
    with h5_attributes(path) as attributes:
        bits = int(attributes.get("input_message_bits", 8))
    net = lava.Network(str(path), input_message_bits=bits, reset_interval=steps, reset_offset=1)
    source = lava.Source(data=data)
    source.s_out.connect(net.inp)
    probes = [_probe(lava, layer, process, total) for layer, process in zip(layers, net.layers, strict=True)]
    net.run(condition=lava.RunSteps(num_steps=total), run_cfg=lava.Loihi2SimCfg(select_tag="fixed_pt"))
    traces = [np.asarray(probe()) for probe in probes]
    net.stop()
    # (W, H, C, time) to (C·H·W, time)
    return [
        t.transpose(*range(t.ndim - 2, -1, -1), t.ndim - 1).reshape(-1, t.shape[-1]).astype(np.int64) for t in traces
    ]


def _probe(lava: Any, layer: NetxLayer, process: Any, total: int) -> Any:
    if isinstance(layer.populations[0].neuron, Accumulator):
        monitor = lava.Monitor()
        monitor.probe(process.neuron.v, total)
        # The monitor returns {process: {variable: (time, neurons)}}.
        return lambda: next(iter(next(iter(monitor.get_data().values())).values())).T
    sink = lava.Sink(shape=process.out.shape, buffer=total)
    process.out.connect(sink.a_in)
    return lambda: sink.data.get()


@contextmanager
def h5_attributes(path: str | os.PathLike[str]) -> Iterator[Any]:
    """Attributes of an HDF5 file."""
    import h5py

    with h5py.File(path, "r") as file:
        yield file.attrs


@dataclass(frozen=True)
class _Lava:
    """What is used of Lava."""

    Network: Any
    Source: Any
    Sink: Any
    Monitor: Any
    RunSteps: Any
    Loihi2SimCfg: Any


def _import_lava() -> _Lava:
    try:
        with _hashable_byte_encoder():
            from lava.lib.dl.netx.hdf5 import Network
            from lava.magma.core.run_conditions import RunSteps
            from lava.magma.core.run_configs import Loihi2SimCfg
            from lava.proc.io.sink import RingBuffer as Sink
            from lava.proc.io.source import RingBuffer as Source
            from lava.proc.monitor.process import Monitor
    except ImportError as error:
        raise LavaUnavailable(
            f"Lava cannot be imported ({error}); install it with: pip install --no-deps --ignore-requires-python"
            " lava-nc==0.10.0 lava-dl==0.6.0"
        ) from error
    return _Lava(Network, Source, Sink, Monitor, RunSteps, Loihi2SimCfg)


@contextmanager
def _hashable_byte_encoder() -> Iterator[None]:
    """Let lava-nc 0.10.0 import on Python ≥ 3.11, where a dataclass default must be hashable and its `ByteEncoder` is not."""
    original: Any = dataclasses.dataclass

    def patched(cls: Any = None, /, **options: Any) -> Any:
        made = original(cls, **options)
        if cls is not None and cls.__name__ == "ByteEncoder":
            made.__hash__ = object.__hash__
        return made

    with mock.patch.object(dataclasses, "dataclass", patched):
        yield
