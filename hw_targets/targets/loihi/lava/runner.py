"""Netx files in Lava, in a process of its own: `python -m` this module, `FILE.net JOB.npz RESULT.npz …`."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt

from hw_targets.targets.loihi.lava.shim import lava_importable, once_per_class, without_training

#: Exit status when Lava cannot be imported.
UNAVAILABLE = 3


def main(*arguments: str) -> int:
    """For each (file, job, result) read the job, run it, write one trace per layer.

    A job's `frames` are (steps, *shape), what the input is in each step; nothing is shown afterwards. A
    `reset_interval` of 0 never resets.
    """
    try:
        lava = _import_lava()
    except ImportError as error:
        print(error, file=sys.stderr)
        return UNAVAILABLE
    for path, job_path, result_path in zip(arguments[::3], arguments[1::3], arguments[2::3], strict=True):
        traces = _traces(lava, path, job_path)
        np.savez_compressed(result_path, **{str(i): trace for i, trace in enumerate(traces)})
    return 0


def _traces(lava: _Lava, path: str, job_path: str) -> list[npt.NDArray[np.int32]]:
    with np.load(job_path) as job:
        frames, readouts = job["frames"], [bool(r) for r in job["readouts"]]
        interval, offset = int(job["reset_interval"]), int(job["reset_offset"])
    return _run(lava, path, frames, readouts, interval, offset)


def _run(
    lava: _Lava, path: str, frames: npt.NDArray[Any], readouts: list[bool], interval: int, offset: int
) -> list[npt.NDArray[np.int32]]:
    total = len(frames) + len(readouts) + 1
    shown = np.zeros((total, *frames.shape[1:]), np.int32)
    shown[: len(frames)] = frames
    resets = {"reset_interval": interval, "reset_offset": offset} if interval else {}
    # Of a file without an input block Lava must be told; a block's shape stands above it.
    grid = frames.shape[:0:-1] if frames.ndim == 4 else None
    net = lava.Network(path, input_message_bits=_message_bits(path), input_shape=grid, **resets)
    entry = net.inp
    if hasattr(net.in_layer, "transform"):
        # An input layer's neurons have no input port: the caller scales the input and writes it to their bias, which
        # is the same as a current that lasts one step.
        shown = shown * int(net.in_layer.transform["weight"]) + int(net.in_layer.transform["bias"])
        entry = net.in_layer.neuron.a_in
        net.in_layer.neuron.du.init = 4095
    if len(net.inp.shape) == 1:
        shown = shown.reshape(total, -1)
    # Lava's arrays are (W, H, C, time).
    source = lava.Source(data=shown.transpose(*range(shown.ndim - 1, 0, -1), 0))
    source.s_out.connect(entry)
    probes = [_probe(lava, process, readout, total) for process, readout in zip(net.layers, readouts, strict=True)]
    net.run(condition=lava.RunSteps(num_steps=total), run_cfg=lava.Loihi2SimCfg(select_tag="fixed_pt"))
    traces = [np.asarray(probe()) for probe in probes]
    net.stop()
    # (W, H, C, time) to (C·H·W, time)
    return [t.transpose(*range(t.ndim - 2, -1, -1), t.ndim - 1).reshape(-1, total).astype(np.int32) for t in traces]


def _probe(lava: _Lava, process: Any, readout: bool, total: int) -> Callable[[], Any]:
    if readout:
        monitor = lava.Monitor()
        monitor.probe(process.neuron.v, total)
        # The monitor returns {process: {variable: (time, W, H, C)}}, or (time, neurons).
        return lambda: np.moveaxis(next(iter(next(iter(monitor.get_data().values())).values())), 0, -1)
    sink = lava.Sink(shape=process.out.shape, buffer=total)
    process.out.connect(sink.a_in)
    return lambda: sink.data.get()


def _message_bits(path: str) -> int:
    import h5py

    with h5py.File(path, "r") as file:
        return int(file.attrs.get("input_message_bits", 0))


@dataclass(frozen=True)
class _Lava:
    """What is used of Lava."""

    Network: Any
    Source: Any
    Sink: Any
    Monitor: Any
    RunSteps: Any
    Loihi2SimCfg: Any


@cache
def _import_lava() -> _Lava:
    with lava_importable(), without_training():
        from lava.lib.dl.netx.hdf5 import Network, PyNetworkModel
        from lava.magma.compiler.compiler_graphs import ProcGroupDiGraphs
        from lava.magma.core.run_conditions import RunSteps
        from lava.magma.core.run_configs import Loihi2SimCfg
        from lava.proc.io.sink import RingBuffer as Sink
        from lava.proc.io.source import RingBuffer as Source
        from lava.proc.monitor.process import Monitor
    # A search for the network's own model would execute, and so import, what was left out.
    search = once_per_class(ProcGroupDiGraphs._find_proc_models, {Network: [PyNetworkModel]})
    ProcGroupDiGraphs._find_proc_models = staticmethod(search)
    return _Lava(Network, Source, Sink, Monitor, RunSteps, Loihi2SimCfg)


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
