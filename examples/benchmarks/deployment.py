"""SpikingJelly's own SEW ResNets from the torch model to a .net file: seconds and memory of every stage."""

from __future__ import annotations

import multiprocessing
import resource
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from torch import nn

from examples.benchmarks.common import Goal, Report, Result, one_thread, summarize
from hw_targets import (
    Chip,
    ChipNetwork,
    HardwareTargetError,
    export_netx,
    from_torch,
    insert_relays,
    load_chip,
    place,
    quantize,
)
from hw_targets.targets.loihi.netx.layering import each_netx_layer
from neuroprune.training.progress import progress_bar

CHIP, TIME_STEPS, CLASSES = "loihi1", 4, 1000
#: (depth, image size); the last one has goals.
NETWORKS = ((18, 32), (34, 32), (50, 32), (18, 224))
LARGE = (18, 224)
#: Stages from the torch model to the file, which the goals are about.
TO_FILE = ("from_torch", "quantize", "export_netx")
SECONDS, GIBIBYTES, CALIBRATED_GIBIBYTES = Goal(60), Goal(1), Goal(4)
#: Images that `quantize` calibrates on, by network, and in how many seconds it is to be done; none in a quick run.
CALIBRATED = {(18, 32): (100, Goal(20)), (18, 224): (8, Goal(60))}
#: Image size up to which neurons are laid on cores here; `placement` measures larger ones.
PLACED_SIZE = 32
METHOD = (
    "Each network in a fresh process, one thread, every stage once. Initial weights, ADD, IF neurons, multi-step. wall"
    " and CPU seconds by stage; peak_mb is the most memory the process had held when the stage ended, of which"
    " imports took what `imports` says. Cores are without relays, nothing pruned. layers, weights (dense, relays"
    " included) and file_mb are of the .net file. calibrate: quantize again, on as many random images as"
    " calibration_images says."
)
Value = TypeVar("Value")


def run(*, quick: bool = False) -> Report:
    """Deploy each network once."""
    networks = NETWORKS[:1] if quick else NETWORKS
    parameters = {"chip": CHIP, "time_steps": TIME_STEPS, "classes": CLASSES}
    report = Report("deployment", quick, parameters, METHOD)
    context = multiprocessing.get_context("spawn")
    with progress_bar(len(networks), "deployment") as bar:
        for network in networks:
            title = f"SEW ResNet-{network[0]}, {network[1]}×{network[1]}"
            images, seconds = (0, None) if quick else CALIBRATED.get(network, (0, None))
            with ProcessPoolExecutor(max_workers=1, mp_context=context) as pool:
                found = pool.submit(deploy, *network, images).result()
            report.values[title] = found
            if "not_placed" in found:
                report.skipped[f"{title}/place"] = found["not_placed"]
            _add_results(report, title, found, with_goals=network == LARGE)
            _add_calibrated(report, title, found, seconds)
            bar.update()
    return report


def _add_results(report: Report, title: str, found: dict[str, Any], *, with_goals: bool) -> None:
    stages = [found["stages"][name] for name in TO_FILE]
    seconds = sum(stage["wall_s"] for stage in stages)
    memory = max(stage["peak_mb"] for stage in stages) / 1024
    for name, label, value, goal in (
        ("seconds", "torch model to .net file, seconds", seconds, SECONDS),
        ("memory", "torch model to .net file, peak GiB", memory, GIBIBYTES),
    ):
        summary = summarize([value])
        report.results.append(Result(f"{title}/{name}", f"{title}: {label}", summary, goal if with_goals else None))


def _add_calibrated(report: Report, title: str, found: dict[str, Any], seconds: Goal | None) -> None:
    """Seconds and memory of a calibrated `quantize`, where there was one."""
    if (stage := found["stages"].get("calibrate")) is None:
        return
    label = f"{title}: quantize on {found['calibration_images']} images"
    for name, what, value, goal in (
        ("calibrated_seconds", "seconds", stage["wall_s"], seconds),
        ("calibrated_memory", "peak GiB", stage["peak_mb"] / 1024, CALIBRATED_GIBIBYTES),
    ):
        report.results.append(Result(f"{title}/{name}", f"{label}, {what}", summarize([value]), goal))


def deploy(depth: int, size: int, calibration_images: int) -> dict[str, Any]:
    """Take one network through all stages, in this process."""
    clock = _Clock()
    clock.note("imports", 0.0, 0.0)
    with one_thread(), tempfile.TemporaryDirectory() as folder:
        model = clock.time("build", lambda: sew_resnet(depth))
        images = torch.rand(1, 3, size, size).expand(TIME_STEPS, -1, -1, -1, -1)
        network = clock.time("from_torch", lambda: from_torch(model, images))
        chip = load_chip(CHIP)
        integers = clock.time("quantize", lambda: quantize(network, chip, for_format="netx"))
        path = Path(folder) / "model.net"
        clock.time("export_netx", lambda: export_netx(integers, path))
        found: dict[str, Any] = {"file_mb": round(path.stat().st_size / 1e6, 1), **_sizes(integers)}
        if size <= PLACED_SIZE:
            found |= clock.time("place", lambda: _placed(integers, chip))
        if calibration_images:
            shown = torch.rand(calibration_images, 3, size, size)
            notes = clock.time("calibrate", lambda: quantize(network, chip, shown)).notes
            found |= {"calibration_images": calibration_images, "calibration_notes": list(notes)}
    return {"stages": clock.stages, **found}


def _placed(network: ChipNetwork, chip: Chip) -> dict[str, Any]:
    """Cores without relays, or why the network has no place on the chip."""
    try:
        placement = place(network, chip)
    except HardwareTargetError as error:
        return {"not_placed": str(error)}
    return {"cores": placement.core_count, "cores_lower_bound": placement.lower_bound}


def sew_resnet(depth: int) -> nn.Module:
    """SpikingJelly's SEW ResNet, nothing changed."""
    from spikingjelly.activation_based import functional, neuron
    from spikingjelly.activation_based.model import sew_resnet as models

    build = getattr(models, f"sew_resnet{depth}")
    model: nn.Module = build(cnf="ADD", spiking_neuron=neuron.IFNode, num_classes=CLASSES).eval()
    functional.set_step_mode(model, "m")
    return model


def _sizes(network: ChipNetwork) -> dict[str, int]:
    """What is in the network, and what becomes of it in netx."""
    sequential, layers, weights = insert_relays(network), 0, 0
    for layer in each_netx_layer(sequential):
        layers, weights = layers + 1, weights + layer.weight.size
    distinct = {(s.target, s.op.weight.shape): np.count_nonzero(s.op.weight) for s in network.synapses}
    return {
        "populations": len(network.populations),
        "relays": len(sequential.populations) - len(network.populations),
        "neurons": sum(p.size for p in network.populations if not p.is_input),
        "neurons_with_relays": sum(p.size for p in sequential.populations if not p.is_input),
        "non_zero_weights": int(sum(distinct.values())),
        "layers": layers,
        "weights": weights,
    }


class _Clock:
    """Seconds and peak memory by stage."""

    def __init__(self) -> None:
        self.stages: dict[str, dict[str, float]] = {}

    def time(self, stage: str, action: Callable[[], Value]) -> Value:
        """Run a stage."""
        wall, cpu = time.perf_counter(), time.process_time()
        value = action()
        self.note(stage, time.perf_counter() - wall, time.process_time() - cpu)
        return value

    def note(self, stage: str, wall: float, cpu: float) -> None:
        """Keep a stage's figures, with the peak so far."""
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        self.stages[stage] = {"wall_s": round(wall, 2), "cpu_s": round(cpu, 2), "peak_mb": round(peak)}
