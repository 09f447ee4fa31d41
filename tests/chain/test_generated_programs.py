"""Programs made up at random: every one is read exactly, in every spike of fresh inputs, or refused; none wrong.

The text of a program that fails, and the tape from which it is drawn again, are in the message.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from examples.benchmarks.common import Report
from examples.benchmarks.truth.finding import Finding, Tally, checked
from examples.benchmarks.truth.reporting import add_tally
from examples.benchmarks.truth.tape import Tape
from hw_targets.frontends.torch import builder, from_torch, marks
from hw_targets.frontends.torch.read_check import Recording
from hw_targets.ir.network import LIF, Network
from neuroprune.synops import fan_out, tallies
from neuroprune.synops.rules import RULES
from neuroprune.synops.spikes import integer_sum
from tests.builders.program_check import check_program
from tests.builders.program_text import STYLES

PROGRAMS, SLOW = 300, 5000

#: What at least three of the programs have.
WANTED = (
    *STYLES,
    *("conv", "linear", "batch-norm", "layer by einsum", "layer by linear", "layer by @", "layer by conv2d"),
    *("IF", "LIF", "PLIF", "CUBA", "two states", "reset subtract", "reset zero", "reset none", "other reset"),
    *("own recurrence", "parameter of each step", "batch-norm of each step", "threshold of each step"),
    *("layer used twice", "neurons used twice", "in-place write", "depends on values", "hidden from torch"),
    *("spikes times a constant", "join by h + {s}", "join by h * {s}", "join by torch.cat", "currents after currents"),
    *("returns odd", "returns last step", "returns steps", "returns mean", "returns sum", "steps in another order"),
)


def tally_of(seeds: range) -> Tally:
    tally = Tally()
    for seed in seeds:
        tally.add(seed, checked(check_program, Tape(seed)), check_program)
    return tally


def write_results(tally: Tally, seeds: range) -> None:
    """Beside the results of the benchmarks, where `make programs` says so."""
    if folder := os.environ.get("PROGRAMS_RESULTS"):
        method = (
            "Programs made up at random (loops over time, containers, recurrences, reused modules, functions, writes in"
            " place, parameters of each step, odd returns; SpikingJelly and snnTorch): each is read by from_torch and"
            " compared in every spike of every neuron on two inputs that it never saw, or refused; its operations are"
            " counted twice, by count_synops and by torch's dispatcher."
        )
        report = Report("programs", False, {"seeds": [seeds.start, seeds.stop - 1]}, method)
        add_tally(report, "programs read", tally)
        report.write(Path(folder))


def in_full(tally: Tally) -> str:
    return "\n\n".join(f"seed {f['seed']}, tape {f['tape']}: {f['faults']}\n{f['network']}" for f in tally.failures)


def test_every_program_is_read_exactly_or_refused_and_counted_as_the_dispatcher_does() -> None:
    tally = tally_of(range(PROGRAMS))
    assert not tally.failures, in_full(tally)
    assert tally.networks >= 0.3 * PROGRAMS, tally.refusals
    assert tally.spikes > 3000
    seldom = {name: tally.features[name] for name in WANTED if tally.features[name] < 3}
    assert not seldom


@pytest.mark.slow
def test_thousands_of_programs() -> None:
    tally = tally_of(seeds := range(PROGRAMS, PROGRAMS + SLOW))
    write_results(tally, seeds)
    assert not tally.failures, in_full(tally)
    assert tally.networks >= 0.3 * SLOW, tally.refusals


# --- the suite can fail -----------------------------------------------------------------------------------------------


def unchecked(patch: pytest.MonkeyPatch) -> None:
    """Nothing that was read is compared with the model."""
    patch.setattr(Recording, "check", lambda *_: None)
    patch.setattr(Recording, "check_steps", lambda *_: None)


def without_biases(patch: pytest.MonkeyPatch) -> None:
    unchecked(patch)
    append = builder.Builder._append

    def dropped(self: Any, name: str, signal: Any, *rest: Any) -> None:
        append(self, name, replace(signal, bias=None), *rest)

    patch.setattr(builder.Builder, "_append", dropped)


def first_step_for_all(patch: pytest.MonkeyPatch) -> None:
    """What a loop computes in its later steps is taken for what it computed in the first."""
    unchecked(patch)
    for module in (builder, marks):
        patch.setattr(module, "same", lambda *_: True)


def other_reset(patch: pytest.MonkeyPatch) -> None:
    unchecked(patch)
    real = builder.as_lif

    def swapped(*args: Any) -> LIF:
        neuron = real(*args)
        return replace(neuron, reset="subtract" if neuron.reset == "zero" else "zero", withholds=False)

    patch.setattr(builder, "as_lif", swapped)


def lower_threshold(patch: pytest.MonkeyPatch) -> None:
    unchecked(patch)
    real = builder.as_lif
    patch.setattr(builder, "as_lif", lambda *args: replace(real(*args), v_threshold=real(*args).v_threshold * 0.9))


def steps_too_few(patch: pytest.MonkeyPatch) -> None:
    unchecked(patch)
    real = from_torch._network

    def shorter(*args: Any) -> tuple[Network, int]:
        network, calls = real(*args)
        return replace(network, time_steps=max(1, network.time_steps - 1)), calls

    patch.setattr(from_torch, "_network", shorter)


def without(*names: str) -> Callable[[pytest.MonkeyPatch], None]:
    """A counter that does not know what a function does to spikes."""

    def forget(patch: pytest.MonkeyPatch) -> None:
        for name in names:
            patch.delitem(RULES, name)

    return forget


def every_input_is_spikes(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(tallies, "is_whole", lambda _: True)
    patch.setattr(tallies, "integer_sum", lambda x, **_: integer_sum(x, known=True))


def padding_reaches_nothing(patch: pytest.MonkeyPatch) -> None:
    real = fan_out._reach
    patch.setattr(fan_out, "_reach", lambda *args: real(*args[:4], (0, 0)) if args[4] != (0, 0) else real(*args))


BROKEN: dict[str, Callable[[pytest.MonkeyPatch], None]] = {
    "biases are dropped": without_biases,
    "parameters of each step are the first one's": first_step_for_all,
    "resets are swapped": other_reset,
    "thresholds are lower": lower_threshold,
    "a step is missing": steps_too_few,
    "what changes from call to call is not watched": unchecked,
    "scaled spikes are not counted": without("mul", "__mul__", "__rmul__", "div", "__truediv__"),
    "pools are not counted": without("avg_pool2d", "adaptive_avg_pool2d"),
    "real values are spikes": every_input_is_spikes,
    "padding reaches nothing": padding_reaches_nothing,
}


def first_fault(most: int) -> Finding:
    """Of the programs; the last one if none has any."""
    for seed in range(most):
        finding = checked(check_program, Tape(seed))
        if finding.faults:
            break
    return finding


@pytest.mark.parametrize("fault", BROKEN)
def test_a_planted_fault_is_found(fault: str, monkeypatch: pytest.MonkeyPatch) -> None:
    BROKEN[fault](monkeypatch)
    assert first_fault(PROGRAMS).faults, f"{PROGRAMS} programs did not show it"
