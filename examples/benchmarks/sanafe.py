"""`estimate` against SANA-FE, an architecture simulator: counts, energies, step times, and what they cost to get."""

from __future__ import annotations

import multiprocessing
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import torch

from examples.benchmarks import sanafe_dvs, sanafe_program
from examples.benchmarks.common import Action, Goal, Report, Result, interleave, one_thread, summarize
from examples.benchmarks.sanafe_run import peak_mib
from hw_targets import ChipNetwork, emulate, estimate, from_torch, insert_relays, load_chip, place, quantize
from hw_targets.estimation import Estimate, in_chip_time
from hw_targets.ir.activity import Activity
from hw_targets.ir.network import Accumulator, Dense, GradedInput, Population, Synapses
from hw_targets.placement import Placement
from hw_targets.targets.loihi.neuron import CubaLIF
from hw_targets.targets.loihi.sanafe.writer import export_sanafe, group_names
from neuroprune.models.sew_resnet import SmallSEWResNet, functional

TIME_STEPS, DVS_STEPS, ZEROS = 4, 1000, 0.9
FASTER, DIGITS, MEMORY = Goal(4, at_least=True), Goal(1e-4), Goal(1.0)
METHOD = (
    "The same network, cores, positions and costs per operation on both sides. Two networks are exported with"
    " export_sanafe and run as one sample; the DVS gesture network is SANA-FE's own, read from its weights, with the"
    " costs of its loihi.yaml. Energies are compared term by term as SANA-FE reports them (synapses, neurons, network),"
    " step times with its 'simple' model, without the way through the mesh, which that model leaves out. The estimate's"
    " activity is aligned to the chip's steps, so that steps in which the pipeline fills count on both sides. Times:"
    " each round is a fresh process on one thread; SANA-FE builds or loads the network and simulates (reading files"
    " does not count), neuroprune emulates and estimates; imports count on neither side. Memory is the process's peak,"
    " torch included. SANA-FE has a"
    " third kind of neuron update (a potential, bias or event to take in); the DVS row counts it from the same spikes."
)
Found: TypeAlias = dict[str, Any]


@dataclass(frozen=True)
class Case:
    """A network and what to ask SANA-FE for: a folder of exported files, or steps of its own network."""

    title: str
    ours: Callable[[], Found]
    theirs: Path | int


def run(*, quick: bool = False) -> Report:
    """Compare three networks."""
    rounds = 2 if quick else 3
    steps = 20 if quick else DVS_STEPS
    parameters = {"time_steps": TIME_STEPS, "dvs_steps": steps, "zeros": ZEROS, "sanafe": sanafe_program.VERSION}
    report = Report("sanafe", quick, parameters, METHOD)
    if reason := sanafe_program.missing():
        report.skipped["SANA-FE"] = reason
        return report
    with one_thread(), tempfile.TemporaryDirectory() as folder:
        cases = [
            _exported("MLP 784-128-10", _mlp(), Path(folder, "mlp")),
            _exported("small SEW ResNet (28×28)", _sew(), Path(folder, "sew")),
            Case("DVS gesture network of SANA-FE", partial(_dvs, sanafe_program.dvs_file(), steps), steps),
        ]
        for case in cases:
            try:
                _measure(report, case, rounds)
            except sanafe_program.SanafeFailed as error:
                report.skipped[case.title] = str(error)
    return report


def _mlp() -> tuple[ChipNetwork, np.ndarray[Any, Any]]:
    """Leaky neurons, a tenth of the weights left."""
    random = np.random.default_rng(1)
    weights = [2 * random.integers(-6, 8, size) * (random.random(size) > ZEROS) for size in ((128, 784), (10, 128))]
    hidden, out = (w.astype(np.int32) for w in weights)
    populations = (
        Population("input", (784,), GradedInput()),
        Population("hidden", (128,), CubaLIF(15_000, v_decay=512), random.integers(-200, 200, 128)),
        Population("output", (10,), Accumulator()),
    )
    synapses = (Synapses("input", "hidden", Dense(hidden)), Synapses("hidden", "output", Dense(out)))
    network = ChipNetwork(populations, synapses, chip="loihi1", time_steps=TIME_STEPS)
    return network, random.integers(0, 256, (1, 784)).astype(np.uint8)


@torch.no_grad()
def _sew() -> tuple[ChipNetwork, np.ndarray[Any, Any]]:
    """The demo's network, untrained, a tenth of its weights left, with batch-norm statistics that make it fire."""
    images = np.random.default_rng(0).integers(0, 256, (16, 1, 28, 28)).astype(np.uint8)
    model = SmallSEWResNet()
    for parameter in model.parameters():
        if parameter.dim() >= 2:
            parameter.mul_(torch.rand_like(parameter) >= ZEROS)
    example = torch.from_numpy(images).float().div(255).expand(TIME_STEPS, *images.shape)
    for _ in range(20):
        functional.reset_net(model)
        model(example)
    network = quantize(from_torch(model.eval(), example[:, :2]), load_chip("loihi1"), for_format="netx")
    return insert_relays(network), images[:1]


def _exported(title: str, case: tuple[ChipNetwork, np.ndarray[Any, Any]], folder: Path) -> Case:
    network, images = case
    placement = place(network, load_chip("loihi1"))
    export_sanafe(placement, emulate(network, images).spikes[network.inputs[0].name][:, 0], folder)
    return Case(title, partial(_estimated, placement, images), folder)


def _estimated(placement: Placement, images: np.ndarray[Any, Any]) -> Found:
    """Emulate and estimate one sample; what follows is not timed."""
    start = time.perf_counter()
    network = placement.network
    activity = emulate(network, images)
    aligned = in_chip_time(activity, network)
    found = estimate(placement, aligned, placement.chip)
    seconds = time.perf_counter() - start
    if any(activity.overflows.values()):
        raise ValueError("a state left its 24 bits, which SANA-FE does not model; choose smaller weights")
    alone = estimate(placement, activity, placement.chip).steps
    steps = [] if alone is None else (np.maximum(alone.neurons, alone.messages) + alone.barrier).tolist()
    fired = sum(int(np.count_nonzero(values)) for values in aligned.spikes.values())
    return {
        **_terms(found, zeros_billed=False), "seconds": seconds, "step_seconds": steps, "fired": fired,
        "spikes": _spikes(aligned, network), "peak_mib": peak_mib(),
    }  # fmt: skip


def _dvs(path: Path, steps: int) -> Found:
    """The same of SANA-FE's network: its neurons' third kind of update is added to their energy."""
    start = time.perf_counter()
    network = sanafe_dvs.dvs_network(path, steps)
    placement = sanafe_dvs.dvs_placement(network)
    activity = emulate(network, np.zeros((steps, 1, 1), np.uint8))
    aligned = _first_steps(in_chip_time(activity, network), steps)
    found = estimate(placement, aligned, sanafe_dvs.CHIP)
    seconds = time.perf_counter() - start
    terms = _terms(found, zeros_billed=True)
    # A layer's step t is the chip's step t + depth, and what lies beyond the last step never happens.
    updated = sanafe_dvs.neurons_updated(network, activity, steps)
    quiet = updated - found.total.active_updates
    terms["energy"]["soma"] += quiet * sanafe_dvs.UPDATE_PJ * 1e-12
    terms["counts"]["neurons_updated"] = updated
    return {
        **terms,
        "seconds": seconds,
        "step_seconds": [],
        "spikes": {},
        "fired": found.total.active_updates,
        "peak_mib": peak_mib(),
    }


def _first_steps(aligned: Activity, steps: int) -> Activity:
    """From the step in which the first layer fires on: the input without synapses came one step before."""
    return replace(aligned, spikes={name: values[1 : 1 + steps] for name, values in aligned.spikes.items()})


def _terms(found: Estimate, *, zeros_billed: bool) -> Found:
    """Counts and joules as SANA-FE sums them up."""
    total, part, price = found.total, found.energy_parts, found.coefficients
    events = total.dense_events if zeros_billed else total.synaptic_events
    synop = price["synaptic_events"].value or 0.0
    network = sum(part[name] or 0.0 for name in ("messages", "east_west_hops", "north_south_hops"))
    return {
        "counts": {
            "spikes": events,
            "packets_sent": total.messages,
            "hops": total.east_west_hops + total.north_south_hops,
        },
        "energy": {
            "synapse": events * synop * 1e-12,
            "soma": (part["active_updates"] or 0.0) + (part["inactive_updates"] or 0.0),
            "network": network,
        },
    }


def _spikes(aligned: Activity, network: ChipNetwork) -> dict[str, list[tuple[int, int]]]:
    names = group_names(network)
    return {
        names[name]: np.argwhere(values.reshape(aligned.time_steps, -1)).tolist()
        for name, values in aligned.spikes.items()
    }


def _measure(report: Report, case: Case, rounds: int) -> None:
    ours, theirs = _Last({}), _Last({})
    context = multiprocessing.get_context("spawn")

    def neuroprune() -> float:
        with ProcessPoolExecutor(max_workers=1, mp_context=context) as pool:
            ours.found = pool.submit(_alone, case.ours).result()
        return float(ours.found["seconds"])

    def sanafe() -> float:
        theirs.found = sanafe_program.simulate(case.theirs)
        seconds: dict[str, float] = theirs.found["seconds"]
        return sum(value for name, value in seconds.items() if name != "read")

    variants: dict[str, Action] = {"neuroprune": neuroprune, "SANA-FE": sanafe}
    report.samples[case.title] = interleave(variants, rounds, title=f"sanafe, {case.title}", warmup=0)
    label = f"{case.title}: SANA-FE / emulate and estimate, time"
    report.add_ratio(case.title, "SANA-FE", "neuroprune", label, goal=FASTER, headline=True)
    _compare(report, case.title, ours.found, theirs.found)


@dataclass
class _Last:
    """What the last round found; every round finds the same."""

    found: Found


def _alone(ours: Callable[[], Found]) -> Found:
    """Run in a process of its own; what emulation imports when first asked is imported before the clock starts."""
    torch.set_num_threads(1)
    import_module("hw_targets.targets.loihi.dynamics.engine")
    return ours()


def _compare(report: Report, title: str, ours: Found, theirs: Found) -> None:
    """Differences of counts, energies, times and spikes, and the peak memory."""
    kept = ("counts", "energy", "seconds", "peak_mib")
    sides = (("neuroprune", ours), ("SANA-FE", theirs))
    report.values[title] = {name: {key: found[key] for key in kept} for name, found in sides}
    counts = sum(abs(value - theirs["counts"][name]) for name, value in ours["counts"].items())
    rows = [
        ("counts", "events, messages and hops that differ", counts, Goal(0)),
        ("energy", "energy terms, largest relative difference", _largest(ours["energy"], theirs["energy"]), DIGITS),
    ]
    if ours["step_seconds"]:
        pairs = (dict(enumerate(found["step_seconds"])) for found in (ours, theirs))
        rows.append(("times", "step times, largest relative difference", _largest(*pairs), DIGITS))
    if ours["spikes"]:
        rows.append(
            ("spikes", f"spikes that differ, of {ours['fired']}", _unlike(ours["spikes"], theirs["spikes"]), Goal(0))
        )
    if ours["peak_mib"] is not None:
        rows.append(("memory", "peak memory of emulate and estimate, GiB", ours["peak_mib"] / 1024, MEMORY))
    for name, label, value, goal in rows:
        report.results.append(Result(f"{title}/{name}", f"{title}: {label}", summarize([value]), goal))


def _largest(ours: dict[Any, float], theirs: dict[Any, float]) -> float:
    return max(abs(value - theirs[name]) / abs(theirs[name]) for name, value in ours.items())


def _unlike(ours: dict[str, list[Any]], theirs: dict[str, list[Any]]) -> float:
    pairs = ((_set(ours.get(g, [])), _set(theirs.get(g, []))) for g in {*ours, *theirs})
    return float(sum(len(mine ^ other) for mine, other in pairs))


def _set(spikes: list[Any]) -> set[tuple[int, int]]:
    return {(step, neuron) for step, neuron in spikes}
