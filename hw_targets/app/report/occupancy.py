"""Plots of how full each core of a chip is."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING

from hw_targets.app.report.canvas import MUTED, Panel, plain_axes, population_colours
from hw_targets.app.report.read import Record, Run, number, text
from hw_targets.app.report.words import UNKNOWN, clip, count, short

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure, SubFigure

RESOURCES = {"neurons": "neurons", "input_axons": "input axons", "synaptic_bits": "synaptic bits"}
MOST_NAMES = 12


def occupancy(run: Run, chip: str, version: str, *, names: bool = False) -> Panel:
    """Use of each core's resources; `names` adds a legend of the populations to the plot itself."""
    cores = run.core_usage(chip, version)
    limits = {key: number(run.core_limits(chip), key) for key in RESOURCES}
    draw = partial(_draw, cores, limits, colours(run), names) if cores else None
    caption = "Each bar is one core; its colour is the population it holds. 100 % is the chip's limit."
    return Panel(f"Cores of {chip}, {version}: {count(len(cores))}", caption, 3.6, draw)


def colours(run: Run) -> dict[str, str]:
    """A colour for each population, the same on every chip."""
    usage = (core for chip in run.chips for version in ("pruned", "dense") for core in run.core_usage(chip, version))
    return population_colours([_name(core) for core in usage])


def _name(core: Record) -> str:
    return text(core, "population") or UNKNOWN


def _draw(
    cores: Sequence[Record],
    limits: dict[str, float | None],
    palette: dict[str, str],
    names: bool,
    figure: Figure | SubFigure,
) -> None:
    grid = figure.subplots(len(RESOURCES), 1, sharex=True)
    for axes, (key, label) in zip(grid, RESOURCES.items(), strict=True):
        _draw_resource(plain_axes(axes), cores, key, label, limits[key], palette)
    grid[-1].set_xlabel("core")
    grid[-1].set_xlim(-0.7, len(cores) - 0.3)
    present = [name for name in palette if any(_name(core) == name for core in cores)]
    if names and len(present) <= MOST_NAMES:
        from matplotlib.patches import Patch

        handles = [Patch(color=palette[name], label=clip(name, 14)) for name in present]
        figure.legend(handles=handles, loc="outside lower center", ncols=4, fontsize=10, handlelength=1)


def _draw_resource(
    axes: Axes, cores: Sequence[Record], key: str, label: str, limit: float | None, palette: dict[str, str]
) -> None:
    scale = limit or 1.0  # without a limit the axis shows numbers
    values = [number(core, key) for core in cores]
    for name, colour in palette.items():
        mine = [(i, v / scale) for i, v in enumerate(values) if v is not None and _name(cores[i]) == name]
        _bars(axes, mine, colour)
    most = max((v / scale for v in values if v is not None), default=0.0)
    missing = values.count(None)
    title = f"{label} (limit {count(limit)})" + (f", {missing} cores unknown" if missing else "")
    axes.set_title(title, color=MUTED)
    if limit:
        axes.set_ylim(0, max(1.0, most * 1.03))
        axes.set_yticks([0, 0.5, 1], ["0 %", "50 %", "100 %"])
        axes.axhline(1, color=MUTED, linewidth=0.8, linestyle=(0, (4, 3)))
    else:
        axes.set_ylim(0, max(1.0, most * 1.1))
        axes.yaxis.set_major_formatter(lambda y, _: short(y))
    step = max(1, 10 ** math.floor(math.log10(max(len(cores), 1))) // 2)
    axes.set_xticks(range(0, len(cores), step))


def _bars(axes: Axes, bars: Sequence[tuple[int, float]], colour: str) -> None:
    """All bars of a population as one shape: a chip of thousand cores would otherwise make a page of megabytes."""
    from matplotlib.patches import PathPatch
    from matplotlib.path import Path

    corners = [(i + dx, v * up) for i, v in bars for dx, up in ((-0.42, 0), (-0.42, 1), (0.42, 1), (0.42, 0), (0, 0))]
    codes = [Path.MOVETO, Path.LINETO, Path.LINETO, Path.LINETO, Path.CLOSEPOLY] * len(bars)
    if bars:
        axes.add_patch(PathPatch(Path(corners, codes), facecolor=colour, linewidth=0))
