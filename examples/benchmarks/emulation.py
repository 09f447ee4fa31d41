"""`emulate` against Lava's own simulator, per sample, on the CPU."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np

from examples.benchmarks.common import (
    Action,
    Report,
    Result,
    Samples,
    interleave,
    one_thread,
    paired_ratios,
    summarize,
)
from examples.benchmarks.emulation_cases import TIME_STEPS, Case, Images, cases, spike_rates
from hw_targets import emulate, export_netx
from hw_targets.targets.loihi.lava.runner import UNAVAILABLE

METHOD = (
    "Each round times emulate on a batch and on one sample, and Lava over a short and a long run, in random order;"
    " ratios are paired by round. Lava's time per sample is T times the slope between its two runs, so that import,"
    " compilation and the cost of starting a run do not count. emulate has one thread; Lava runs each layer in a"
    " process of its own, one thread each, on all cores of the machine, and no layer is probed, both to its advantage."
    " emulate returns the spikes of all layers; a round before the first one leaves numba's compilation out, too."
)


class LavaFailed(RuntimeError):
    """Lava cannot be imported, or died."""


def run(*, quick: bool = False) -> Report:
    """Measure a dense network and two convolutional ones."""
    rounds = 2 if quick else 12
    parameters = {"time_steps": TIME_STEPS, "rounds": rounds}
    report = Report("emulation", quick, parameters, METHOD)
    with one_thread(), tempfile.TemporaryDirectory() as folder:
        for case in cases(quick=quick):
            turn = {"batch": len(case.images), "lava_steps": list(case.lava_steps), "emulate_calls": case.calls}
            report.parameters[case.title] = turn
            _measure(report, case, rounds, Path(folder))
    return report


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
    lost = sum(activity.overflows.values())
    report.values[case.title] = {"spikes_per_neuron_and_step": spike_rates(activity.spikes), "overflows": lost}
    try:
        with _lava(path, sample) as stepping:
            for name, steps in zip(("Lava, short", "Lava, long"), case.lava_steps, strict=True):
                variants[name] = stepping(steps)
            report.samples[case.title] = interleave(variants, rounds, title=f"emulation, {case.title}", warmup=1)
    except LavaFailed as error:
        report.skipped[f"{case.title}/Lava"] = str(error)
        return
    _add_results(report, case, report.samples[case.title])


def _run(case: Case, images: Images) -> None:
    for _ in range(_calls(case, len(images))):
        emulate(case.network, images)


def _calls(case: Case, size: int) -> int:
    """One sample takes so little that a turn has at least ten calls of it."""
    return case.calls if size > 1 else max(10, case.calls)


def _add_results(report: Report, case: Case, samples: Samples) -> None:
    short, long = case.lava_steps
    pairs = zip(samples.wall_s["Lava, short"], samples.wall_s["Lava, long"], strict=True)
    lava = [TIME_STEPS * (b - a) / (long - short) for a, b in pairs]
    report.values[case.title]["seconds_per_sample"] = {"Lava": summarize(lava).median}
    for size in (len(case.images), 1):
        name = f"emulate, batch {size}"
        ours = [seconds / (size * _calls(case, size)) for seconds in samples.wall_s[name]]
        report.values[case.title]["seconds_per_sample"][name] = summarize(ours).median
        label = f"{case.title}: Lava / {name}, time per sample"
        goal = case.batched if size > 1 else case.single
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
