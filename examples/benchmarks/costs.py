"""Accuracy against synaptic operations, energy, cores and latency: what costs and rates save at equal accuracy."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import as_completed
from pathlib import Path

from examples.benchmarks import cost_curves
from examples.benchmarks.common import RESULTS, Goal, Report, Result, summarize
from examples.benchmarks.cost_curves import COSTS, at_equal_accuracy, plot
from examples.benchmarks.cost_runs import (
    BASE,
    BATCH,
    CHIP,
    COUNTED,
    IMAGES,
    METHODS,
    ON_CHIP,
    RATE,
    TASKS,
    Unit,
    run_unit,
    settings,
)
from examples.benchmarks.frontier import store
from examples.benchmarks.frontier.store import Key, Record
from examples.benchmarks.frontier.sweep import processes
from examples.benchmarks.frontier.tasks import digest
from hw_targets.app.versions import commit
from neuroprune.training.progress import progress_bar

SPARSITIES, SEEDS = (0.5, 0.7, 0.85, 0.93, 0.97), 3
#: Points of validation accuracy within which two methods are taken for equal, and those that may be lost to dense.
WITHIN, LOST = 0.3, 0.5
FULL = "prune_to, all"
#: Sparsities of LATS at which the page compares.
SHOWN = (0.7, 0.85, 0.93)
METHOD = (
    f"Fashion-MNIST, {IMAGES} training images; conv: {TASKS['conv']!r}; sew: {TASKS['sew']!r}; batches of {BATCH},"
    f" {SEEDS} seeds, the same for all. costs: SynapticCosts with base={BASE}; neurons: NeuronCosts of all weights;"
    f" rate: {RATE}·log(1 + SynOps per image) added to the loss (SynOpsLoss); all: all three, costs multiplied."
    " Both numbers were chosen on validation images, one seed, on a convolutional SNN twice as wide as this one, and on"
    " no other. gmp: gradual magnitude pruning as in the frontier. SynOps per image by"
    f" count_synops on {COUNTED} validation images, layers that spikes reach; energy, latency and cores by to_chip,"
    f" place and estimate on {CHIP} with {ON_CHIP} of them. At equal accuracy: at each sparsity of LATS, of every"
    " method the cell (mean of the seeds) with the least energy whose validation accuracy is no more than"
    f" {WITHIN} points below; that of LATS over that of the method, seed by seed. 'points' is how their test accuracies"
    " then differ. Test images are looked at once per run, at its end, and nothing is chosen by them."
)


def run(*, quick: bool = False, jobs: int = 1) -> Report:
    """Every method at every sparsity with every seed, `jobs` runs at a time; it goes on from what is finished."""
    models, sparsities, seeds = (("conv",), (0.9,), 1) if quick else (tuple(TASKS), SPARSITIES, SEEDS)
    report = Report("costs", quick, {"models": models, "sparsities": sparsities, "seeds": seeds}, METHOD)
    path = Path("runs/bench/costs.jsonl") if quick else RESULTS / "costs.jsonl"
    units = wanted(models, sparsities, seeds)
    _finish(units, path, jobs)
    known = _finished(path)
    records = [known[key_of(unit)] for unit in units]
    report.values = {f"{r['model']}/{r['method']}/{100 * r['target']:g} %/{r['seed']}": r for r in records}
    compare(report, records, models, sparsities)
    plot(records, path.with_suffix(".png"))
    return report


def wanted(models: Sequence[str], sparsities: Sequence[float], seeds: int) -> list[Unit]:
    """Seed by seed, so that an interrupted study has whole ones; dense networks once per seed."""
    return [
        Unit(model, method, target, seed)
        for seed in range(seeds)
        for model in models
        for method in METHODS
        for target in ([0.0] if method == "dense" else sparsities)
    ]


def compare(report: Report, records: Sequence[Record], models: Sequence[str], sparsities: Sequence[float]) -> None:
    """Costs of all of it together at the accuracies of LATS, and of dense; `markdown` has every method's."""
    for model in models:
        for target in sparsities:
            _add(report, records, model, FULL, target, "LATS", WITHIN)
        _add(report, records, model, FULL, 0.0, "dense", LOST)


def markdown(values: Mapping[str, Record]) -> str:
    """Every method against LATS at `SHOWN` of its sparsities, of a report's values."""
    return cost_curves.markdown(list(values.values()), SHOWN, within=WITHIN)


def _add(
    report: Report, records: Sequence[Record], model: str, method: str, target: float, reference: str, within: float
) -> None:
    found = at_equal_accuracy(records, model, method, target, reference=reference, within=within)
    where = f"{model}, {method} against {reference}{f' at {100 * target:g} %' if target else ''}"
    if found is None:
        report.skipped[where] = f"no sparsity is within {within} points of it on validation images"
        return
    for cost in COSTS:
        goal = _goal(model, method, cost, reference)
        label = f"{where}: {cost} of {reference} / of the method, {100 * found.found.target:g} % zeros"
        report.results.append(Result(f"{where}/{cost}", label, summarize(found.ratios(cost)), goal))
    report.results.append(Result(f"{where}/points", f"{where}: test accuracy, points", summarize(found.points())))


def _goal(model: str, method: str, cost: str, reference: str) -> Goal | None:
    if model != "sew" or method != FULL:
        return None
    limits = {"energy": 10.0} if reference == "dense" else {"SynOps": 3.0, "energy": 2.0, "cores": 2.0}
    return Goal(limits[cost], at_least=True) if cost in limits else None


def key_of(unit: Unit) -> Key:
    """What a run is known by: a changed setting makes it another."""
    return Key(unit.model, unit.method, unit.target, unit.seed, digest(settings(unit)))


def _finished(path: Path) -> dict[Key, Record]:
    return store.cells(store.read(path))


def _finish(units: Sequence[Unit], path: Path, jobs: int) -> None:
    """Run what is missing; each finished run adds its line at once."""
    done = _finished(path)
    left = [unit for unit in units if key_of(unit) not in done]
    if not left:
        return
    with progress_bar(len(left), "costs") as bar, processes(min(jobs, len(left))) as pool:
        running = {pool.submit(run_unit, unit): unit for unit in left}
        for future in as_completed(running):
            unit = running[future]
            about = {"kind": "cell", "budget": key_of(unit).budget, "commit": commit()}
            store.append(path, {**about, **future.result()})
            bar.update()
