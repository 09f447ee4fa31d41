"""Runs a netx file in Lava, as a process of its own: `python -m hw_targets.lava_runner FILE.net JOB.npz RESULT.npz`."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from hw_targets.lava_shim import lava_importable

#: Exit status when Lava cannot be imported.
UNAVAILABLE = 3


def main(path: str, job_path: str, result_path: str) -> int:
    """Read the job, run it, write one trace per layer."""
    with np.load(job_path) as job:
        images, steps, readouts = job["images"], int(job["steps"]), [bool(r) for r in job["readouts"]]
    try:
        lava = _import_lava()
    except ImportError as error:
        print(error, file=sys.stderr)
        return UNAVAILABLE
    traces = _run(lava, path, images, steps, readouts)
    np.savez_compressed(result_path, **{str(i): trace for i, trace in enumerate(traces)})
    return 0


def _run(
    lava: _Lava, path: str, images: npt.NDArray[Any], steps: int, readouts: list[bool]
) -> list[npt.NDArray[np.int32]]:
    total = steps * len(images) + len(readouts) + 1
    # Lava's arrays are (W, H, C, time); the image of a sample stays for all its steps.
    data = np.zeros((*images.shape[1:][::-1], total), np.int32)
    shown = np.repeat(images.astype(np.int32), steps, axis=0)
    data[..., : len(shown)] = shown.transpose(*range(shown.ndim - 1, 0, -1), 0)
    net = lava.Network(path, input_message_bits=_message_bits(path), reset_interval=steps, reset_offset=1)
    source = lava.Source(data=data)
    source.s_out.connect(net.inp)
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
        # The monitor returns {process: {variable: (time, neurons)}}.
        return lambda: next(iter(next(iter(monitor.get_data().values())).values())).T
    sink = lava.Sink(shape=process.out.shape, buffer=total)
    process.out.connect(sink.a_in)
    return lambda: sink.data.get()


def _message_bits(path: str) -> int:
    import h5py

    with h5py.File(path, "r") as file:
        return int(file.attrs.get("input_message_bits", 8))


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
    with lava_importable():
        from lava.lib.dl.netx.hdf5 import Network
        from lava.magma.core.run_conditions import RunSteps
        from lava.magma.core.run_configs import Loihi2SimCfg
        from lava.proc.io.sink import RingBuffer as Sink
        from lava.proc.io.source import RingBuffer as Source
        from lava.proc.monitor.process import Monitor
    return _Lava(Network, Source, Sink, Monitor, RunSteps, Loihi2SimCfg)


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
