"""Xylo's integers against xylosim: how many differ, and how much faster a batch of samples is."""

from __future__ import annotations

from collections import Counter

import numpy as np

from examples.benchmarks.common import Goal, Report, interleave, one_thread
from examples.benchmarks.xylo_cores import random_core, random_spikes, wide_core
from hw_targets.targets.xylo.dynamics.engine import run as run_core
from hw_targets.targets.xylo.xylosim.runner import Layer, XylosimUnavailable, run_xylosim

METHOD = (
    "Equality: every current, potential and spike of every step of random cores (1 … 24 hidden neurons, one or two"
    " currents each, half of them with weights that saturate). Time: one sample in xylosim against a batch in our"
    " engine, both in one thread, in random order and paired by round; xylosim's layer is built beforehand and its"
    " traces are not read, both to its advantage. Ratios are per sample."
)
BATCH, STEPS = 256, 100


def run(*, quick: bool = False) -> Report:
    """Count what differs, and time two sizes of cores."""
    cores, rounds = (20, 2) if quick else (1000, 10)
    report = Report("xylo", quick, {"cores": cores, "steps": STEPS, "batch": BATCH, "rounds": rounds}, METHOD)
    try:
        report.values["equality"] = equality(cores)
        with one_thread():
            for hidden, fan_out in ((64, 24), (500, 24)):
                _time(report, hidden, fan_out, rounds, 32 if quick else BATCH)
    except XylosimUnavailable as error:
        report.skipped["xylosim"] = str(error)
    return report


def equality(cores: int) -> dict[str, int]:
    """Integers compared and differing on random cores, and what these are."""
    rng, total = np.random.default_rng(1), Counter[str]()
    for _ in range(cores):
        spec = random_core(rng)
        inputs = random_spikes(rng, spec, STEPS, 1)
        theirs, ours = run_xylosim(spec, inputs), run_core(spec, inputs, record=True)
        assert ours.states is not None
        total += Counter(
            cores=1,
            recurrent=int(spec.weights_rec.any()),
            aliased=int(any(spec.aliases)),
            saturating=int(ours.held.any()),
            integers=sum(part.size for part in theirs),
            spikes=int(theirs.spikes.sum() + theirs.spikes_out.sum()),
        )
        pairs = zip((*ours.states, ours.spikes_out), theirs, strict=True)
        total["differing"] += sum(int((a != b).sum()) for a, b in pairs)
    return dict(total)


def _time(report: Report, hidden: int, fan_out: int, rounds: int, batch: int) -> None:
    rng = np.random.default_rng(2)
    spec = wide_core(rng, hidden, fan_out)
    inputs = rng.integers(0, 2, (STEPS, batch, spec.inputs)) * (rng.random((STEPS, batch, spec.inputs)) < 0.3)
    inputs = inputs.astype(np.uint8)  # as a core gets them
    layer, one = Layer(spec), inputs[:, 0].tolist()

    def simulate() -> None:
        layer.evolve(one)

    def engine() -> None:
        run_core(spec, inputs)

    case = f"{hidden} hidden neurons, fan-out {fan_out}"
    report.values[case] = {"neurons_that_spike_in_a_step": float((run_core(spec, inputs).spikes > 0).mean())}
    samples = interleave({"xylosim": simulate, "engine": engine}, rounds, title=case)
    for times in (samples.wall_s, samples.cpu_s):
        times["engine, per sample"] = [seconds / batch for seconds in times["engine"]]
    report.samples[case] = samples
    label = f"xylosim / engine, per sample, batch {batch}: {case}"
    report.add_ratio(case, "xylosim", "engine, per sample", label, goal=Goal(100, at_least=True))
