"""Runs SANA-FE, in the Python that has it: `python -m examples.benchmarks.sanafe_run (files FOLDER | dvs STEPS) OUT`.

A program of its own: SANA-FE is GPL-3, is imported only here, and answers with a file. `FOLDER` is what `export_sanafe`
wrote; `dvs` is the DVS gesture network that ships with SANA-FE, on its own Loihi, mapped as in its tutorial.
"""

from __future__ import annotations

import json
import os
import sys
import time
from importlib import import_module
from importlib.resources import files
from pathlib import Path
from typing import Any

DVS_CORES = (1, 4, 16, 16, 4, 1)


def main(kind: str, what: str, out: str) -> int:
    """Simulate, write what was found."""
    silence = os.open(os.devnull, os.O_WRONLY)
    os.dup2(silence, sys.stdout.fileno())  # it prints every synapse it reads
    sanafe = import_module("sanafe")
    found = _dvs(sanafe, int(what)) if kind == "dvs" else _files(sanafe, Path(what))
    found["peak_mib"] = peak_mib()
    Path(out).write_text(json.dumps(found))
    return 0


def peak_mib() -> float | None:
    """The most memory this process ever held; None where the system does not say.

    `getrusage` would count what the parent held when it started this process.
    """
    try:
        status = Path("/proc/self/status").read_text()
    except OSError:
        return None
    return next((int(line.split()[1]) / 1024 for line in status.splitlines() if line.startswith("VmHWM:")), None)


def _files(sanafe: Any, folder: Path) -> dict[str, Any]:
    """Step by step, each group's bias set for the steps in which it acts."""
    start = time.perf_counter()
    architecture = sanafe.load_arch(str(folder / "architecture.yaml"))
    network = sanafe.load_net(str(folder / "network.yaml"), architecture)
    read = time.perf_counter()
    chip = sanafe.SpikingChip(architecture)
    chip.load(network)
    loaded = time.perf_counter()
    run = json.loads((folder / "run.json").read_text())
    results = []
    for step in range(1, run["steps"] + 1):
        for name, group in run["groups"].items():
            if group["bias"] and step in (1, group["first_step"], group["last_step"] + 1):
                acts = group["first_step"] <= step <= group["last_step"]
                for neuron, bias in zip(chip.mapped_neuron_groups[name], group["bias"], strict=True):
                    neuron.set_attributes(model_attributes={"bias": float(bias) if acts else 0.0})
        results.append(chip.sim(1, timing_model="simple", spike_trace=True, perf_trace=True))
    seconds = {"read": read - start, "load": loaded - read, "simulate": time.perf_counter() - loaded}
    return {**_sums(results), "seconds": seconds}


def _dvs(sanafe: Any, steps: int) -> dict[str, Any]:
    """Tutorial 5 of SANA-FE: one gesture, shown in every step."""
    layers, numpy = import_module("sanafe.layers"), import_module("numpy")
    start = time.perf_counter()
    architecture, network = sanafe.load_loihi(), sanafe.Network()
    data = numpy.load(str(files("sanafe.examples") / "dvs_challenge.npz"))
    thresholds = [float(t) for t in data["thresholds"]]
    built = [layers.Input2D(network, 32, 32, threshold=thresholds[0])]
    for index, stride in enumerate((2, 1, 1, 1), 1):
        options = {"stride_width": stride, "stride_height": stride, "threshold": thresholds[index]}
        built.append(layers.Conv2D(network, built[-1], data[f"conv{index}"], **options))
    built.append(layers.Dense(network, built[-1], 11, data["dense1"], threshold=thresholds[5]))
    for neuron, bias in zip(built[0], data["inputs"], strict=True):
        neuron.set_attributes(model_attributes={"bias": float(bias)})
    cores, first = architecture.cores(), 0
    for layer, count in zip(built, DVS_CORES, strict=True):
        share = len(layer) // count
        for index, neuron in enumerate(layer):
            neuron.map_to_core(cores[first + min(index // share, count - 1)])
        first += count
    chip = sanafe.SpikingChip(architecture)
    chip.load(network)
    loaded = time.perf_counter()
    result = chip.sim(steps, timing_model="simple", perf_trace=True)
    seconds = {"build": loaded - start, "simulate": time.perf_counter() - loaded}
    return {**_sums([result]), "seconds": seconds}


def _sums(results: list[dict[str, Any]]) -> dict[str, Any]:
    """Counts and joules over all steps, per-step times, and every spike as (step, neuron) by group."""
    energy = {part: sum(r["energy"][part] for r in results) for part in results[0]["energy"]}
    names = ("spikes", "packets_sent", "neurons_updated", "neurons_fired")
    traces = [r["perf_trace"] for r in results]
    spikes: dict[str, list[tuple[int, int]]] = {}
    for step, fired in enumerate(s for r in results for s in r["spike_trace"] or []):
        for neuron in fired:
            spikes.setdefault(neuron.group_name, []).append((step, neuron.neuron_offset))
    return {
        "energy": energy,
        "counts": {**{n: sum(r[n] for r in results) for n in names}, "hops": sum(sum(t["hops"]) for t in traces)},
        "step_seconds": [t for trace in traces for t in trace["sim_time"]],
        "spikes": spikes,
    }


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
