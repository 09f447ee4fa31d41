"""`emulate` against Lava's own simulator, per sample, on the CPU."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from examples.benchmarks.common import (
    Action,
    Goal,
    Report,
    Result,
    Samples,
    interleave,
    one_thread,
    paired_ratios,
    summarize,
)
from hw_targets import ChipNetwork, emulate, export_netx, from_torch, load_chip, quantize
from hw_targets.lava_runner import UNAVAILABLE
from hw_targets.network import Accumulator, CubaLIF, Dense, GradedInput, Population, Synapses
from neuroprune.models.sew_resnet import SmallSEWResNet, functional

TIME_STEPS, BATCH = 4, 64
GOAL = Goal(50, at_least=True)
METHOD = (
    "Each round times emulate on a batch and on one sample, and Lava over a short and a long run, in random order;"
    " ratios are paired by round. Lava's time per sample is T times the slope between its two runs, so that import,"
    " compilation and the cost of starting a run do not count. emulate has one thread; Lava runs each layer in a"
    " process of its own, one thread each, on all cores of the machine, and no layer is probed, both to its advantage."
    " emulate returns the spikes of all layers."
)


@dataclass(frozen=True)
class Case:
    """A chip network, samples for it, and how much one turn of a round takes: Lava's steps, calls of emulate."""

    title: str
    network: ChipNetwork
    images: np.ndarray[Any, np.dtype[np.uint8]]
    lava_steps: tuple[int, int]
    calls: int = 1


class LavaFailed(RuntimeError):
    """Lava cannot be imported, or died."""


def run(*, quick: bool = False) -> Report:
    """Measure a convolutional and a dense network."""
    rounds, batch = (2, 8) if quick else (12, BATCH)
    parameters = {"time_steps": TIME_STEPS, "batch": batch, "rounds": rounds}
    report = Report("emulation", quick, parameters, METHOD)
    with one_thread(), tempfile.TemporaryDirectory() as folder:
        for case in (_mlp(batch, quick), _sew(batch, quick)):
            report.parameters[case.title] = {"lava_steps": list(case.lava_steps), "emulate_calls": case.calls}
            _measure(report, case, rounds, Path(folder))
    return report


def _images(batch: int, *shape: int) -> np.ndarray[Any, np.dtype[np.uint8]]:
    return np.random.default_rng(0).integers(0, 256, (batch, *shape)).astype(np.uint8)


def _sew(batch: int, quick: bool) -> Case:
    """The demo's network, untrained, with batch-norm statistics that make it fire."""
    images = _images(batch, 1, 28, 28)
    model = SmallSEWResNet()
    example = torch.from_numpy(images).float().div(255).expand(TIME_STEPS, *images.shape)
    with torch.no_grad():
        for _ in range(20):
            functional.reset_net(model)
            model(example)
    network = quantize(from_torch(model.eval(), example[:, :2]), load_chip("loihi1"))
    return Case("small SEW ResNet (28×28)", network, images, (1, 3) if quick else (2, 10), calls=2)


def _mlp(batch: int, quick: bool) -> Case:
    """784-128-10 leaky neurons, weights even integers as Loihi has them."""
    random = np.random.default_rng(0)
    hidden, out = (2 * random.integers(-2, 3, size).astype(np.int32) for size in ((128, 784), (10, 128)))
    populations = (
        Population("input", (784,), GradedInput()),
        Population("hidden", (128,), CubaLIF(15_000, v_decay=512)),
        Population("output", (10,), Accumulator()),
    )
    synapses = (Synapses("input", "hidden", Dense(hidden)), Synapses("hidden", "output", Dense(out)))
    network = ChipNetwork(populations, synapses, chip="loihi1", time_steps=TIME_STEPS)
    return Case("MLP 784-128-10", network, _images(batch, 784), (10, 50) if quick else (50, 450), calls=20)


def _measure(report: Report, case: Case, rounds: int, folder: Path) -> None:
    batch = len(case.images)
    path, sample = folder / f"{len(case.network.populations)}.net", folder / "sample.npy"
    export_netx(case.network, path, overwrite=True)
    np.save(sample, case.images[0])
    variants: dict[str, Action] = {
        f"emulate, batch {batch}": lambda: _run(case, case.images),
        "emulate, batch 1": lambda: _run(case, case.images[:1]),
    }
    activity = emulate(case.network, case.images)
    rates = {name: float((spikes > 0).mean()) for name, spikes in activity.spikes.items()}
    report.values[case.title] = {"spikes_per_neuron_and_step": rates}
    try:
        with _lava(path, sample) as stepping:
            for name, steps in zip(("Lava, short", "Lava, long"), case.lava_steps, strict=True):
                variants[name] = stepping(steps)
            report.samples[case.title] = interleave(variants, rounds, title=f"emulation, {case.title}", warmup=1)
    except LavaFailed as error:
        report.skipped[f"{case.title}/Lava"] = str(error)
        return
    _add_results(report, case, report.samples[case.title])


def _run(case: Case, images: np.ndarray[Any, np.dtype[np.uint8]]) -> None:
    for _ in range(case.calls):
        emulate(case.network, images)


def _add_results(report: Report, case: Case, samples: Samples) -> None:
    short, long = case.lava_steps
    pairs = zip(samples.wall_s["Lava, short"], samples.wall_s["Lava, long"], strict=True)
    lava = [TIME_STEPS * (b - a) / (long - short) for a, b in pairs]
    report.values[case.title]["seconds_per_sample"] = {"Lava": summarize(lava).median}
    for size in (len(case.images), 1):
        name = f"emulate, batch {size}"
        ours = [seconds / (size * case.calls) for seconds in samples.wall_s[name]]
        report.values[case.title]["seconds_per_sample"][name] = summarize(ours).median
        label = f"{case.title}: Lava / {name}, time per sample"
        goal = GOAL if size > 1 else None
        summary = summarize(paired_ratios(lava, ours))
        report.results.append(Result(f"{case.title}/{name}", label, summary, goal, headline=True))


@contextmanager
def _lava(path: Path, sample: Path) -> Iterator[Any]:
    """A Lava process with a compiled network; yields `steps → action`, the action giving the seconds Lava took."""
    command = [sys.executable, "-m", "examples.benchmarks.lava_steps", str(path), str(sample), str(TIME_STEPS)]
    one_thread_each = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
    with tempfile.TemporaryFile("w+") as errors:
        process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            cwd=Path(__file__).parents[2],
            text=True,
            env={**os.environ, **one_thread_each},
        )
        assert process.stdin is not None
        assert process.stdout is not None
        requests, answers = process.stdin, process.stdout

        def answer() -> str:
            line = answers.readline()
            if line:
                return line
            status = process.wait()
            errors.seek(0)
            reason = errors.read().strip().rpartition("\n")[2]
            what = "cannot be imported" if status == UNAVAILABLE else "failed"
            raise LavaFailed(f"Lava {what}: {reason}")

        def step(steps: int) -> float:
            with suppress(BrokenPipeError):  # it died; answer() says why
                print(steps, file=requests, flush=True)
            return float(answer())

        try:
            answer()
            yield lambda steps: lambda: step(steps)
        finally:
            with suppress(BrokenPipeError):
                requests.close()
            process.wait()
            answers.close()
