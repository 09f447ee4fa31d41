"""The results as a table: test accuracy, mean ± standard deviation over seeds."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from examples.benchmarks.frontier.methods import METHODS
from examples.benchmarks.frontier.store import Record, ResultsError, cells
from examples.benchmarks.frontier.tasks import TASKS, digest

#: A measured sparsity further from the target than this (0.1 points) is shown.
SHOWN_DEVIATION = 0.001


@dataclass(frozen=True)
class Cell:
    """Test accuracies of one method at one target, one per seed; `diverged` runs have none."""

    accuracies: tuple[float, ...]
    sparsities: tuple[float, ...]
    diverged: int = 0

    @property
    def mean(self) -> float:
        """Mean accuracy, NaN without any."""
        return statistics.fmean(self.accuracies) if self.accuracies else float("nan")

    @property
    def sd(self) -> float:
        """Sample standard deviation (n − 1); 0 for one seed."""
        return statistics.stdev(self.accuracies) if len(self.accuracies) > 1 else 0.0

    @property
    def error(self) -> float:
        """Standard error of the mean; 0 for one seed."""
        return self.sd / math.sqrt(len(self.accuracies)) if self.accuracies else 0.0

    @property
    def sparsity(self) -> float:
        """Mean measured sparsity."""
        return statistics.fmean(self.sparsities) if self.sparsities else float("nan")


@dataclass(frozen=True)
class Frontier:
    """All cells of one model on one budget, by (method, target)."""

    model: str
    cells: Mapping[tuple[str, float], Cell]
    left_out: int

    @property
    def targets(self) -> list[float]:
        """Target sparsities, rising; without dense."""
        return sorted({target for method, target in self.cells if method != "dense"})

    @property
    def methods(self) -> list[str]:
        """Methods in the order of `METHODS`, unknown ones last."""
        order = [*METHODS, *sorted({method for method, _ in self.cells} - METHODS.keys())]
        return [name for name in order if any(method == name for method, _ in self.cells)]

    @property
    def dense(self) -> Cell | None:
        """The unpruned network."""
        return self.cells.get(("dense", 0.0))


def frontiers(records: Sequence[Record]) -> list[Frontier]:
    """One per model. Budgets are never mixed: the one of a model's last line counts, for each method its last settings.

    Raises:
        ResultsError: no cells.
    """
    found = list(cells(records).values())
    if not found:
        raise ResultsError("no finished cells to show; run: make frontier")
    order = [*TASKS["quick"], *sorted({r["model"] for r in found} - TASKS["quick"].keys())]
    return [_frontier(model, own) for model in order if (own := [r for r in found if r["model"] == model])]


def _frontier(model: str, records: list[Record]) -> Frontier:
    task = digest(records[-1]["task"])
    latest = {r["method"]: r["budget"] for r in records if digest(r["task"]) == task}
    chosen = [r for r in records if latest.get(r["method"]) == r["budget"]]
    grouped: dict[tuple[str, float], list[Record]] = {}
    for record in chosen:
        grouped.setdefault((record["method"], record["target"]), []).append(record)
    return Frontier(model, {key: _cell(rows) for key, rows in grouped.items()}, len(records) - len(chosen))


def _cell(rows: Iterable[Record]) -> Cell:
    good = sorted((r for r in rows if "error" not in r), key=lambda r: int(r["seed"]))
    diverged = sum("error" in r for r in rows)
    return Cell(tuple(r["test_accuracy"] for r in good), tuple(r["sparsity"] for r in good), diverged)


def markdown(records: Sequence[Record]) -> str:
    """One table per model, the best of a column bold, those within a standard deviation of it italic; then all."""
    return "\n\n".join([*(_table(frontier) for frontier in frontiers(records)), overview(records)])


def overview(records: Sequence[Record]) -> str:
    """Every method against the best of each model and sparsity: how far behind it is, and how often it is level."""
    found = frontiers(records)
    gaps: dict[str, list[float]] = {}
    level: dict[str, list[int]] = {}
    for frontier in found:
        for column in filter(None, (_column(frontier, target) for target in frontier.targets)):
            best = max(column.values(), key=lambda cell: cell.mean)
            for method, cell in column.items():
                gap = best.mean - cell.mean
                error = math.hypot(best.error, cell.error)
                gaps.setdefault(method, []).append(gap)
                counts = level.setdefault(method, [0, 0])
                counts[0] += gap <= best.sd
                counts[1] += gap <= 2.0 * error
    cells_in_all = sum(len(frontier.targets) for frontier in found)
    head = ["", "points behind the best, mean", "most", "within the best's sd", "within 2 standard errors"]
    rows = [
        [m, f"{100 * statistics.fmean(g):.2f}", f"{100 * max(g):.2f}", f"{level[m][0]}", f"{level[m][1]}"]
        for m, g in sorted(gaps.items(), key=lambda item: statistics.fmean(item[1]))
        if len(g) == cells_in_all
    ]
    lines = ["| " + " | ".join(row) + " |" for row in (head, [":--", *["--:"] * (len(head) - 1)], *rows)]
    return "\n".join([f"All {cells_in_all} cells (model and sparsity) together:", "", *lines])


def _table(frontier: Frontier) -> str:
    head = ["", "dense", *(f"{target:.4g} %" for target in (100 * t for t in frontier.targets))]
    rows = [_row(frontier, method) for method in frontier.methods]
    lines = ["| " + " | ".join(row) + " |" for row in (head, [":--", *["--:"] * (len(head) - 1)], *rows)]
    first = next(iter(frontier.cells.values()))
    seeds = max((len(cell.accuracies) for cell in frontier.cells.values()), default=len(first.accuracies))
    title = (
        f"{frontier.model}: test accuracy in per cent by target sparsity, mean ± standard deviation of {seeds} seeds"
    )
    if frontier.left_out:
        title += f" ({frontier.left_out} runs of other budgets left out)"
    return "\n".join([title, "", *lines])


def _row(frontier: Frontier, method: str) -> list[str]:
    dense = cell_text(frontier.dense, 0.0) if method == "dense" else ""
    columns = []
    for target in frontier.targets:
        text = cell_text(frontier.cells.get((method, target)), target)
        columns.append(f"{_mark(frontier, method, target)}{text}{_mark(frontier, method, target)}" if text else "")
    return [method, dense, *columns]


def cell_text(cell: Cell | None, target: float) -> str:
    """Mean ± standard deviation, and the measured sparsity where it is off the target."""
    if cell is None:
        return ""
    if not cell.accuracies:
        return "diverged"
    text = f"{100 * cell.mean:.2f}"
    if len(cell.accuracies) > 1:
        text += f" ± {100 * cell.sd:.2f}"
    if abs(cell.sparsity - target) > SHOWN_DEVIATION and target > 0:
        text += f" at {100 * cell.sparsity:.2f} %"
    return text + (f" ({cell.diverged} diverged)" if cell.diverged else "")


def _column(frontier: Frontier, target: float) -> dict[str, Cell]:
    """Every pruned cell of one sparsity, by method."""
    return {m: c for (m, t), c in frontier.cells.items() if t == target and m != "dense" and c.accuracies}


def _mark(frontier: Frontier, method: str, target: float) -> str:
    column = _column(frontier, target)
    if method not in column:
        return ""
    best = max(column, key=lambda name: column[name].mean)
    if column[method].mean == column[best].mean:
        return "**"
    return "_" if column[method].mean >= column[best].mean - column[best].sd else ""
