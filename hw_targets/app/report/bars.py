"""Plots of a neuron's inputs against the chip's limit, and of what the energy is spent on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING

from hw_targets.app.report.canvas import INK, MUTED, PALETTE, PRUNED, TRACK, WARN, Panel, plain_axes
from hw_targets.app.report.plots import layer_axes, locator, panel_height
from hw_targets.app.report.read import Record, Run, number, records, table, text
from hw_targets.app.report.words import count, joules

if TYPE_CHECKING:
    from matplotlib.figure import Figure, SubFigure


def fan_in(run: Run) -> Panel:
    """Synapses that end in a neuron, by population, and the most that the chip lets one have."""
    found = table(run.summary, "fan_in")
    rows = [row for row in records(found, "populations") if number(row, "largest") is not None]
    limit = number(table(found, "limit"), "value")
    chip = text(found, "chip") or "the chip"
    caption = "Filled: the neuron with most synapses left; pale: with its zeros; dot: the median neuron."
    caption += f" The line is {chip}'s limit, {count(limit)}." if limit else f" {chip} states no such limit."
    draw = partial(_draw_fan_in, rows, limit) if rows else None
    return Panel("Inputs of a neuron", caption, panel_height(rows) + 0.3, draw)


def energy(run: Run) -> Panel:
    """Joules per sample by cause, one bar for each version."""
    parts = table(run.summary, "energy_parts")
    known = {
        label: {cause: number(table(parts, version), cause) or 0.0 for cause in table(parts, version)}
        for version, label in run.versions.items()
    }
    known = {label: causes for label, causes in known.items() if sum(causes.values()) > 0}
    chip = text(run.summary, "energy_chip") or "the chip"
    caption = f"Published cost of each operation on {chip}, times exact counts."
    return Panel(
        "Energy per sample by cause", caption, 1.5 + 0.35 * len(known), partial(_draw_energy, known) if known else None
    )


def _draw_fan_in(rows: Sequence[Record], limit: float | None, figure: Figure | SubFigure) -> None:
    axes = layer_axes(figure, rows)
    places = range(len(rows))
    every = [number(row, "all") or number(row, "largest") or 0 for row in rows]
    largest = [number(row, "largest") or 0 for row in rows]
    over = [limit is not None and value > limit for value in largest]
    axes.barh(places, every, color=TRACK, height=0.66)
    axes.barh(places, largest, color=[WARN if too_many else PRUNED for too_many in over], height=0.66)
    axes.scatter([number(row, "median") or 0 for row in rows], list(places), s=10, color=INK, zorder=3)
    top = max([*every, limit or 0, 1])
    if limit:
        axes.axvline(limit, color=WARN, linewidth=1.2, linestyle=(0, (4, 3)))
    axes.set_xscale("symlog", linthresh=1)
    axes.set_xlim(0, top * 1.6)
    axes.set_xticks([tick for tick in (1, 10, 100, 1000, 10_000, 100_000) if tick <= top * 1.6])
    axes.minorticks_off()
    axes.xaxis.set_major_formatter(lambda x, _: count(x))
    axes.set_xlabel("synapses of one neuron")


def _draw_energy(known: Mapping[str, Mapping[str, float]], figure: Figure | SubFigure) -> None:
    axes = plain_axes(figure.subplots(), grid="x")
    causes = list(dict.fromkeys(cause for parts in known.values() for cause in parts))
    start = dict.fromkeys(known, 0.0)
    rows = list(known)
    for cause, colour in zip(causes, PALETTE * len(causes), strict=False):
        widths = [known[label].get(cause, 0.0) for label in rows]
        axes.barh(range(len(rows)), widths, left=[start[label] for label in rows], color=colour, height=0.6)
        axes.scatter([], [], marker="s", s=30, color=colour, label=cause.replace("_", " "))
        for label, width in zip(rows, widths, strict=True):
            start[label] += width
    for place, label in enumerate(rows):
        axes.annotate(joules(start[label]), (start[label], place), (5, 0), textcoords="offset points", va="center")
    axes.set_xlim(0, max(start.values()) * 1.2)
    axes.set_ylim(len(rows) - 0.5, -0.5)
    axes.set_yticks(range(len(rows)), rows)
    axes.tick_params(axis="x", colors=MUTED)
    axes.xaxis.set_major_locator(locator(4))
    axes.xaxis.set_major_formatter(lambda x, _: joules(x))
    figure.legend(loc="outside lower center", ncols=3, handlelength=1, columnspacing=1.2)
