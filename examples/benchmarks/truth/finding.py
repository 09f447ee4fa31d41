"""What comparing one generated network showed, and what many showed together."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import numpy.typing as npt

from examples.benchmarks.truth.tape import Tape, shrink

Array: TypeAlias = npt.NDArray[Any]


@dataclass
class Finding:
    """What one generated network showed; counts are over all layers, steps and samples.

    `rounded`: spikes of the framework's own neurons with decays that differ from the chip's, which rounds their states
    (no mistake: measured beside). `refused`: why the network was not compared.
    """

    description: str
    features: Counter[str] = field(default_factory=Counter)
    neurons: int = 0
    positions: int = 0
    spikes: int = 0
    differing: int = 0
    rounded: int = 0
    rounded_of: int = 0
    faults: list[str] = field(default_factory=list)
    refused: str = ""
    tape: list[int] = field(default_factory=list)

    def compare(self, where: str, ours: Array, theirs: Array) -> None:
        """Count spikes, and what differs."""
        theirs = theirs.reshape(ours.shape)
        self.positions += ours.size
        self.spikes += int((theirs != 0).sum())
        self.note(where, int((ours != theirs).sum()))

    def note(self, where: str, differing: int) -> None:
        """A number of differences, and where."""
        self.differing += differing
        if differing:
            self.faults.append(f"{where}: {differing} differ")


@dataclass
class Tally:
    """Sums over networks; `failures` holds, for each network that failed, a description from which to repeat it."""

    networks: int = 0
    neurons: int = 0
    positions: int = 0
    spikes: int = 0
    differing: int = 0
    rounded: int = 0
    rounded_of: int = 0
    features: Counter[str] = field(default_factory=Counter)
    refusals: Counter[str] = field(default_factory=Counter)
    failures: list[dict[str, Any]] = field(default_factory=list)

    def add(self, seed: int, finding: Finding, smaller: Callable[[Tape], Finding] | None = None) -> None:
        """Count one network; `smaller` checks another tape, to look for the smallest that fails."""
        if finding.refused:
            self.refusals[_kind(finding.refused)] += 1
        else:
            self.networks += 1
        for name in ("neurons", "positions", "spikes", "differing", "rounded", "rounded_of"):
            setattr(self, name, getattr(self, name) + getattr(finding, name))
        self.features.update({name: 1 for name, count in finding.features.items() if count})
        if finding.faults:
            self.failures.append(_failure(seed, finding, smaller))

    def as_json(self) -> dict[str, Any]:
        """Plain values, features from the most to the least frequent."""
        kept = {name: getattr(self, name) for name in ("networks", "neurons", "positions", "spikes", "differing")}
        if self.rounded_of:
            kept |= {"differing_without_rounding": self.rounded, "of_spikes": self.rounded_of}
        counts = {"networks_with": dict(self.features.most_common()), "refused": dict(self.refusals.most_common())}
        return {**kept, **counts, "failures": self.failures}


def checked(check: Callable[[Tape], Finding], tape: Tape) -> Finding:
    """A check's finding; an exception that is no refusal is a fault like any other."""
    try:
        return check(tape)
    except Exception as error:  # whatever a generated network brings to light, the others are still to be checked
        return Finding("", tape=tape.values, faults=[f"{type(error).__name__}: {error}"], differing=1)


def _failure(seed: int, finding: Finding, smaller: Callable[[Tape], Finding] | None) -> dict[str, Any]:
    least = finding
    if smaller is not None:
        values = shrink(finding.tape, lambda tape: bool(checked(smaller, Tape(0, tape)).faults))
        least = checked(smaller, Tape(0, values))
    return {"seed": seed, "tape": least.tape, "network": least.description, "faults": least.faults}


def _kind(refusal: str) -> str:
    """A refusal without its names and numbers, so that equal ones are counted together."""
    words = [w for w in refusal.split(";")[0].split() if not any(c.isdigit() for c in w)]
    return " ".join(words[:14])
