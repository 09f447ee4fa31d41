"""Spike rasters: who fires when for one sample, in each version of the network."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from hw_targets.app.report.canvas import MUTED, Panel, plain_axes
from hw_targets.app.report.plots import RUN_COLOURS
from hw_targets.app.report.read import Record, Run, number, records, table, text
from hw_targets.app.report.words import clip, count

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure, SubFigure


def raster(run: Run) -> Panel:
    """Spikes of a few populations for the first sample."""
    found = table(run.summary, "raster")
    populations = [p for p in records(found, "populations") if any(isinstance(p.get(v), list) for v in run.versions)]
    steps = number(found, "steps")
    draw = partial(_draw, populations, run.versions, steps) if populations and steps else None
    caption = (
        "Each mark is a spike in the chip's integers, the first test sample; rows are the same neurons in each column."
    )
    return Panel("Spikes", caption, 0.6 + 0.95 * max(1, len(populations)), draw)


def _draw(populations: Sequence[Record], versions: dict[str, str], steps: float, figure: Figure | SubFigure) -> None:
    grid = figure.subplots(len(populations), len(versions), sharex=True, squeeze=False)
    for row, population in zip(grid, populations, strict=True):
        shown = number(population, "shown") or 1
        for axes, (version, label) in zip(row, versions.items(), strict=True):
            marks = _pairs(population.get(version))
            _marks(plain_axes(axes, grid="x"), marks, RUN_COLOURS.get(version, MUTED))
            axes.set_xlim(-0.6, steps - 0.4)
            axes.set_ylim(shown - 0.4, -0.6)
            axes.set_yticks([])
            name = clip(text(population, "name") or "", 16 if len(versions) > 1 else 40)
            axes.set_title(f"{name}, {label}: {count(len(marks))}", color=MUTED)
    for axes in grid[-1]:
        axes.set_xlabel("time step")
        axes.xaxis.get_major_locator().set_params(integer=True)


def _pairs(value: Any) -> list[tuple[int, int]]:
    pairs = value if isinstance(value, list) else []
    return [(p[0], p[1]) for p in pairs if isinstance(p, list) and len(p) == 2 and all(isinstance(n, int) for n in p)]


def _marks(axes: Axes, marks: Sequence[tuple[int, int]], colour: str) -> None:
    """All spikes as one shape, which keeps a page small."""
    from matplotlib.patches import PathPatch
    from matplotlib.path import Path

    corners = [
        (t + dx, n + dy) for t, n in marks for dx, dy in ((-0.4, -0.4), (0.4, -0.4), (0.4, 0.4), (-0.4, 0.4), (0, 0))
    ]
    codes = [Path.MOVETO, Path.LINETO, Path.LINETO, Path.LINETO, Path.CLOSEPOLY] * len(marks)
    if marks:
        axes.add_patch(PathPatch(Path(corners, codes), facecolor=colour, linewidth=0))
