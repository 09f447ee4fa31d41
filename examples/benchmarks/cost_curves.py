"""What the study of costs found, read from its runs: means over seeds, costs at equal accuracy, and a figure."""

from __future__ import annotations

import statistics
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

from hw_targets.files.atomic import new_file
from neuroprune._require import require

#: One run: `model`, `method`, `target`, `seed`, `validation` and `test` accuracy in per cent, and every cost.
Record: TypeAlias = Mapping[str, Any]
#: Costs by name, with the factor and the unit they are drawn in.
COSTS = {"SynOps": (1e-3, "thousand"), "energy": (1e6, "µJ"), "cores": (1.0, ""), "latency": (1e6, "µs")}

#: Points of accuracy below the best that are drawn: what has collapsed lies below.
SHOWN = 8.0


@dataclass(frozen=True)
class Cell:
    """All seeds of a method at a target, by seed."""

    method: str
    target: float
    runs: Mapping[int, Record]

    def mean(self, key: str) -> float:
        """Of an accuracy or a cost."""
        return statistics.fmean(run[key] for run in self.runs.values())


@dataclass(frozen=True)
class Comparison:
    """A method's cheapest cell at an accuracy, beside the reference's cheapest there."""

    reference: Cell
    found: Cell

    def ratios(self, cost: str) -> list[float]:
        """Reference over method, seed by seed: above 1 where the method takes less."""
        return [self.reference.runs[seed][cost] / run[cost] for seed, run in sorted(self.found.runs.items())]

    def points(self) -> list[float]:
        """Test accuracy of the method less the reference's, seed by seed."""
        return [run["test"] - self.reference.runs[seed]["test"] for seed, run in sorted(self.found.runs.items())]


def cells(records: Iterable[Record], model: str) -> list[Cell]:
    """The cells of a model that have the same seeds as its largest."""
    found: dict[tuple[str, float], dict[int, Record]] = defaultdict(dict)
    for record in records:
        if record["model"] == model:
            found[record["method"], record["target"]][record["seed"]] = record
    most = max((len(runs) for runs in found.values()), default=0)
    return [Cell(*key, runs) for key, runs in found.items() if len(runs) == most]


def cheapest(cells: Sequence[Cell], method: str, accuracy: float, cost: str) -> Cell | None:
    """Of a method's cells whose mean validation accuracy is at least that, the one with the least mean cost."""
    able = [cell for cell in cells if cell.method == method and cell.mean("validation") >= accuracy]
    return min(able, key=lambda cell: cell.mean(cost), default=None)


def at_equal_accuracy(
    records: Iterable[Record], model: str, method: str, target: float, *, reference: str = "LATS", within: float = 0.3
) -> Comparison | None:
    """The cells with the least energy of a method and of a reference, neither more than `within` points below the
    reference at a target. Chosen on validation images alone; None where the method has no such cell.

    Args:
        records: of finished runs.
        model: whose.
        method: that is compared.
        target: sparsity at which the reference sets the accuracy.
        reference: the method it is compared with.
        within: points of mean validation accuracy.
    """
    all_cells = cells(records, model)
    anchor = next((cell for cell in all_cells if (cell.method, cell.target) == (reference, target)), None)
    if anchor is None:
        return None
    wanted = anchor.mean("validation") - within
    base = cheapest(all_cells, reference, wanted, "energy")
    found = cheapest(all_cells, method, wanted, "energy")
    return None if base is None or found is None else Comparison(base, found)


def markdown(records: Sequence[Record], targets: Sequence[float], *, within: float) -> str:
    """Every method against LATS at some of its sparsities: how many times less it takes, mean ± standard deviation.

    Args:
        records: of finished runs.
        targets: sparsities of LATS.
        within: see `at_equal_accuracy`.
    """
    head = ["", "LATS", "method", "zeros", *(f"{cost}, times less" for cost in COSTS), "test accuracy, points"]
    rows = [head, [":--", *["--:"] * (len(head) - 1)]]
    methods = [m for m in dict.fromkeys(r["method"] for r in records) if m not in ("dense", "LATS")]
    for model in dict.fromkeys(record["model"] for record in records):
        for target in targets:
            for method in methods:
                found = at_equal_accuracy(records, model, method, target, within=within)
                about = [model, f"{100 * target:g} %", method]
                if found is None:
                    rows.append([*about, "never so accurate", *[""] * (len(head) - 4)])
                    continue
                ratios = [_spread(found.ratios(cost)) for cost in COSTS]
                rows.append([*about, f"{100 * found.found.target:g} %", *ratios, _spread(found.points(), "+.1f")])
    return "\n".join("| " + " | ".join(row) + " |" for row in rows)


def _spread(values: Sequence[float], form: str = ".1f") -> str:
    deviation = statistics.stdev(values) if len(values) > 1 else 0.0
    return f"{statistics.fmean(values):{form}} ± {deviation:.1f}"


def plot(records: Sequence[Record], path: Path) -> None:
    """Test accuracy against every cost, a row per network, a line per method; replaces an older PNG."""
    require("matplotlib", "report")
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    models = list(dict.fromkeys(record["model"] for record in records))
    figure = Figure(figsize=(3.4 * len(COSTS), 3.4 * len(models)), layout="constrained")
    FigureCanvasAgg(figure)
    for row, model in zip(figure.subplots(len(models), len(COSTS), squeeze=False), models, strict=True):
        found = cells(records, model)
        best = max(cell.mean("test") for cell in found)
        row[0].set_ylabel(f"{model}: test accuracy, %")
        for axis, (cost, (factor, unit)) in zip(row, COSTS.items(), strict=True):
            for method in dict.fromkeys(cell.method for cell in found):
                line = sorted((c.mean(cost) * factor, c.mean("test")) for c in found if c.method == method)
                axis.plot(*zip(*line, strict=True), marker="o", markersize=3, label=method)
            axis.set_xscale("linear" if cost == "cores" else "log")
            axis.xaxis.set_minor_formatter("")
            axis.set_ylim(best - SHOWN, best + 0.5)
            axis.set_xlabel(f"{cost}{', ' * bool(unit)}{unit}")
    handles, labels = axis.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=4, frameon=False)
    with new_file(path, overwrite=True) as temporary:
        figure.savefig(temporary, dpi=130, format="png")
