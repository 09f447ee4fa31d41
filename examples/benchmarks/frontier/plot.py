"""The results as one figure: accuracy against sparsity, a panel per model."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from examples.benchmarks.frontier.store import Record
from examples.benchmarks.frontier.table import Frontier, frontiers
from hw_targets.files.atomic import new_file
from neuroprune._require import require


class Look(NamedTuple):
    """Colour (Okabe & Ito's palette, safe for colour-blind readers), marker, line style."""

    color: str
    marker: str
    line: str


#: The library's schedules are drawn solid, frozen ones dash-dotted, other people's methods dashed.
LOOKS = {
    "prune_to": Look("#009E73", "*", "-"),
    "lats": Look("#D55E00", "o", "-"),
    "lats+freeze": Look("#D55E00", "^", "-."),
    "pgh": Look("#E69F00", "s", "-"),
    "pgh+freeze": Look("#E69F00", "v", "-."),
    "slats": Look("#CC79A7", "D", "-"),
    "stds-linear": Look("#CC79A7", "x", ":"),
    "stds-sine": Look("#CC79A7", "+", ":"),
    "str": Look("#000000", "p", "-"),
    "gmp": Look("#0072B2", "o", "--"),
    "rigl": Look("#56B4E9", "s", "--"),
    "st3": Look("#009E73", "D", "--"),
    "pat": Look("#000000", "P", "--"),
    "snip": Look("#999999", "<", "--"),
    "synflow": Look("#999999", ">", "--"),
    "pai": Look("#F0E442", "*", "-."),
}
_OTHER = Look("#000000", ".", ":")
#: Largest error shown, in terms of the best method's at the highest sparsity.
SHOWN = 1.6
#: Errors this far apart are worth a tick, in per cent.
_TICKS = (5, 7, 9, 10, 11, 12, 13, 14, 15, 16, 18, 20, 22, 25, 30, 35, 40, 50, 60, 70, 80, 90)


def plot(records: Sequence[Record], path: Path) -> None:
    """Write a PNG, replacing an older one.

    Both axes are logarithmic, in density and in error (falling upwards). A panel ends at `SHOWN` times the best
    method's error at the highest sparsity; what lies below is named at its lower edge.
    """
    require("matplotlib", "report")
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    panels = frontiers(records)
    figure = Figure(figsize=(4.6 * len(panels), 6.0), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(1, len(panels), squeeze=False)[0]
    drawn: dict[str, Any] = {}
    for axis, frontier in zip(axes, panels, strict=True):
        drawn |= _panel(axis, frontier)
    axes[0].set_ylabel("test accuracy, % (log scale of the error)")
    figure.legend(
        drawn.values(), drawn.keys(), loc="outside lower center", ncols=min(8, 3 * len(panels)), frameon=False
    )
    with new_file(path, overwrite=True) as temporary:
        figure.savefig(temporary, dpi=130, format="png")


def _panel(axis: Any, frontier: Frontier) -> dict[str, Any]:
    """One model; the drawn handles by label."""
    drawn = {}
    methods = [m for m in frontier.methods if m != "dense"]
    for index, method in enumerate(methods):
        # Points of one target side by side, so that error bars do not hide one another.
        shift = 1.0 + 0.012 * (index - len(methods) / 2)
        drawn[method] = _line(axis, frontier, method, shift)
    if frontier.dense is not None:
        error = 100 * (1 - frontier.dense.mean)
        drawn["dense"] = axis.axhline(error, color="0.55", linewidth=1, linestyle=(0, (1, 2)))
    axis.set_title(frontier.model)
    axis.set_xlabel("sparsity of the weights, % (log scale of what is left)")
    _scale(axis, frontier)
    return drawn


def _line(axis: Any, frontier: Frontier, method: str, shift: float) -> Any:
    cells = [(t, frontier.cells[method, t]) for t in frontier.targets if (method, t) in frontier.cells]
    cells = [(t, cell) for t, cell in cells if cell.accuracies]
    look = LOOKS.get(method, _OTHER)
    return axis.errorbar(
        [(1 - cell.sparsity) * shift for _, cell in cells],
        [100 * (1 - cell.mean) for _, cell in cells],
        yerr=[100 * cell.sd for _, cell in cells],
        color=look.color,
        marker=look.marker,
        linestyle=look.line,
        markersize=5,
        linewidth=1.3,
        elinewidth=0.8,
        capsize=2,
    )


def _below(frontier: Frontier) -> tuple[float, str]:
    """The largest error shown, in per cent, and a text that names the cells beyond it."""
    cells = [
        (m, t, 100 * (1 - cell.mean)) for (m, t), cell in frontier.cells.items() if m != "dense" and cell.accuracies
    ]
    hardest = max(t for _, t, _ in cells)
    worst = SHOWN * min(error for _, t, error in cells if t == hardest)
    beyond = sorted((m, t, error) for m, t, error in cells if error > worst)
    lines = [f"{m}: {100 - error:.0f} % at {100 * t:.4g} %" for m, t, error in beyond]
    return worst, "\n".join(["below:", *lines]) if lines else ""


def _scale(axis: Any, frontier: Frontier) -> None:
    axis.set_xscale("log")
    axis.set_yscale("log")
    axis.invert_xaxis()
    axis.invert_yaxis()
    axis.set_xticks([1 - t for t in frontier.targets], [f"{100 * t:.4g}" for t in frontier.targets])
    best = axis.get_ylim()[1]
    worst, below = _below(frontier)
    axis.set_ylim(worst, best)
    axis.text(0.02, 0.02, below, transform=axis.transAxes, fontsize=8, color="0.3", va="bottom")
    shown = [tick for tick in _TICKS if best <= tick <= worst]
    axis.set_yticks(shown, [str(100 - tick) for tick in shown])
    axis.minorticks_off()
    axis.grid(alpha=0.25)
