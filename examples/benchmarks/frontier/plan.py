"""Which runs a sweep consists of, and which of them may start now. Pure functions of the lines already there."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import replace

from examples.benchmarks.frontier.calibrate import Trial, decide
from examples.benchmarks.frontier.methods import METHODS
from examples.benchmarks.frontier.run import Unit
from examples.benchmarks.frontier.store import Record, cells


def wanted_cells(
    size: str, models: Sequence[str], methods: Sequence[str], targets: Sequence[float], seeds: Sequence[int]
) -> list[Unit]:
    """Every cell of a sweep, seed by seed; dense cells have target 0 and come once per seed."""
    return [
        Unit("cell", size, model, method, target, seed)
        for seed in seeds
        for model in models
        for method in methods
        for target in ([0.0] if method == "dense" else targets)
    ]


def missing(wanted: Iterable[Unit], records: Iterable[Record]) -> list[Unit]:
    """Cells without a line."""
    done = cells(records)
    return [unit for unit in wanted if unit.key not in done]


def ready(wanted: Sequence[Unit], records: Sequence[Record], in_flight: Collection[Unit]) -> list[Unit]:
    """Units that may start: missing cells, those of a method with a knob once it is known, else one calibration run.

    Calibration runs of a model and method follow one another, since each decides the next.
    """
    units: list[Unit] = []
    busy = {(u.model, u.method) for u in in_flight if u.kind == "calibration"}
    running = {replace(u, knob=None) for u in in_flight if u.kind == "cell"}
    for unit in missing(wanted, records):
        if unit in running:
            continue
        knob = METHODS[unit.method].knob
        if knob is None:
            units.append(unit)
            continue
        decision = decide(trials_of(unit, records), unit.target, knob.start)
        if decision.accepted:
            units.append(replace(unit, knob=decision.knob))
        elif (unit.model, unit.method) not in busy:
            busy.add((unit.model, unit.method))
            units.append(replace(unit, kind="calibration", seed=0, knob=decision.knob))
    # Calibration first: other cells wait for it, and it waits for itself.
    return sorted(units, key=lambda u: u.kind != "calibration")


def trials_of(unit: Unit, records: Iterable[Record]) -> list[Trial]:
    """Calibration runs of a unit's model, method and budget."""
    budget = unit.key.budget
    return [
        Trial(r["knob"], r.get("sparsity", 1.0), r["target"])
        for r in records
        if r["kind"] == "calibration" and (r["model"], r["method"], r["budget"]) == (unit.model, unit.method, budget)
    ]
