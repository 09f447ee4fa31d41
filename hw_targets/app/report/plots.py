"""Plots of accuracy, layers and training."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from hw_targets.app.report.canvas import DENSE, INK, MUTED, PRUNED, TRACK, WARN, Panel, plain_axes
from hw_targets.app.report.read import Record, Run, number, text
from hw_targets.app.report.words import UNKNOWN, clip, fewer, percent, short

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure, SubFigure
    from matplotlib.ticker import MaxNLocator

STAGES = {"dense": "dense", "pruned": "pruned", "quantized": "quantized", "chip": "chip integers"}
"""Key of an accuracy in the summary, without its ending: name of the stage."""
RUN_COLOURS = {"dense": DENSE, "pruned": PRUNED}
MOST_POINTS = 2000


def accuracy(run: Run) -> Panel:
    """Accuracy along the chain."""
    values = [number(run.summary, f"{stage}_accuracy") for stage in STAGES]
    draw = partial(_draw_accuracy, values) if any(v is not None for v in values) else None
    return Panel(
        "Accuracy along the chain", "The dashed line is the dense accuracy. The axis does not start at zero.", 2.4, draw
    )


def sparsity(run: Run) -> Panel:
    """Zeros in each layer."""
    layers = run.layers
    draw = partial(_draw_sparsity, layers) if any(_sparsity(layer) is not None for layer in layers) else None
    return Panel(
        "Sparsity per layer", "Part of the weights that are zero, and their number.", panel_height(layers), draw
    )


def synops(run: Run) -> Panel:
    """Synaptic operations of each layer, dense and pruned."""
    layers = run.layers
    known = any(number(layer, f"synops_{v}") is not None for layer in layers for v in run.versions)
    caption = (
        "Synaptic operations per sample. A layer that reads real numbers has multiplications instead (table below)."
    )
    return Panel(
        "SynOps per layer",
        caption,
        panel_height(layers) + 0.3,
        partial(_draw_synops, layers, run.versions) if known else None,
    )


def pruning(run: Run) -> Panel:
    """Threshold and L1 coefficient over the steps."""
    caption = "A weight whose latent size is below d is zero; μ is the L1 coefficient that d's growth amounts to."
    return _training(run, "Threshold and L1 coefficient", caption, {"threshold": "threshold d", "l1": "coefficient μ"})


def learning(run: Run) -> Panel:
    """Loss and learning rate over the steps."""
    caption = "Loss of each step (faint) and its running mean."
    return _training(run, "Loss and learning rate", caption, {"loss": "loss", "lr": "learning rate"})


def _training(run: Run, title: str, caption: str, rows: dict[str, str]) -> Panel:
    lines = {key: {name: series(run, name, key) for name in _runs(run)} for key in rows}
    known = {rows[key]: {n: s for n, s in runs.items() if len(s[0])} for key, runs in lines.items()}
    known = {label: runs for label, runs in known.items() if runs}
    return Panel(title, caption, 3.2, partial(_draw_training, known) if known else None)


def _runs(run: Run) -> list[str]:
    return list(dict.fromkeys(text(step, "run") or UNKNOWN for step in run.steps))


def series(run: Run, name: str, key: str) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Steps and values of one recorded number of one training."""
    pairs = [(number(s, "step"), number(s, key)) for s in run.steps if (text(s, "run") or UNKNOWN) == name]
    known = np.array([(x, y) for x, y in pairs if x is not None and y is not None], dtype=float).reshape(-1, 2)
    return known[:, 0], known[:, 1]


def _draw_accuracy(values: Sequence[float | None], figure: Figure | SubFigure) -> None:
    axes = plain_axes(figure.subplots())
    axes.grid(False)  # it would cross the numbers
    known = [v for v in values if v is not None]
    middle, room = (max(known) + min(known)) / 2, max(0.01, max(known) - min(known))
    places = range(len(values))
    dense = values[0]
    if dense is not None:
        axes.axhline(dense, color=MUTED, linewidth=0.9, linestyle=(0, (4, 3)), zorder=1)
    for place, value in zip(places, values, strict=True):
        if value is None:
            axes.annotate(UNKNOWN, (place, middle), ha="center", va="center", color=MUTED)
            continue
        axes.scatter(place, value, s=60, color=DENSE if place == 0 else PRUNED, zorder=2)
        # Below the line of the dense accuracy the number goes under its point, where nothing crosses it.
        side = -1 if dense is not None and value < dense else 1
        where = {"xytext": (0, 9 * side), "textcoords": "offset points", "va": "bottom" if side > 0 else "top"}
        axes.annotate(percent(value), (place, value), ha="center", weight="bold", **where)  # type: ignore[arg-type]
    axes.set_ylim(middle - 1.1 * room, middle + 1.1 * room)
    axes.set_xlim(-0.5, len(values) - 0.5)
    axes.set_xticks(list(places), list(STAGES.values()))
    axes.yaxis.set_major_locator(locator(4))
    axes.yaxis.set_major_formatter(lambda y, _: f"{y * 100:.4g} %")


def _draw_sparsity(layers: Sequence[Record], figure: Figure | SubFigure) -> None:
    axes = layer_axes(figure, layers)
    values = [_sparsity(layer) for layer in layers]
    rows = range(len(layers))
    axes.barh(rows, [1 if v is not None else 0 for v in values], color=TRACK, height=0.66)
    axes.barh(rows, [v or 0 for v in values], color=PRUNED, height=0.66)
    labels = [
        _no_sparsity(layer) if v is None else f"{percent(v, 1)} of {short(number(layer, 'weights'))}"
        for layer, v in zip(layers, values, strict=True)
    ]
    for row in axes.get_yticks():
        axes.annotate(
            labels[int(row)], (1.02, row), va="center", color=INK, annotation_clip=False, fontsize=_row_size(axes)
        )
    axes.set_xlim(0, 1)
    axes.set_xticks([0, 0.5, 1], ["0 %", "50 %", "100 %"])


def _draw_synops(layers: Sequence[Record], versions: dict[str, str], figure: Figure | SubFigure) -> None:
    axes = layer_axes(figure, layers)
    rows = np.arange(len(layers))
    values = {v: [number(layer, f"synops_{v}") for layer in layers] for v in versions}
    shifts = (-0.19, 0.19) if len(versions) == 2 else (0.0,)
    for (version, numbers), shift in zip(values.items(), shifts, strict=True):
        bars = [n or 0 for n in numbers]
        axes.barh(rows + shift, bars, color=RUN_COLOURS[version], height=0.38, label=versions[version])
    for row in axes.get_yticks():
        pair = [values[version][int(row)] for version in versions]
        if not any(pair):
            label = "no SynOps" if None not in pair else UNKNOWN
        else:
            label = fewer(pair[0], pair[1]) if len(pair) == 2 else short(pair[0])
        axes.annotate(
            label,
            (max(v or 0 for v in pair), row),
            (5, 0),
            textcoords="offset points",
            va="center",
            color=INK,
            fontsize=_row_size(axes),
        )
    axes.set_xlim(0, max(1.0, max(v or 0 for numbers in values.values() for v in numbers)) * 1.3)
    axes.xaxis.set_major_locator(locator(4))
    axes.xaxis.set_major_formatter(lambda x, _: short(x))
    if len(versions) == 2:
        figure.legend(loc="outside upper right", ncols=2, handlelength=1.2)


def _draw_training(
    rows: dict[str, dict[str, tuple[NDArray[np.float64], NDArray[np.float64]]]], figure: Figure | SubFigure
) -> None:
    grid = figure.subplots(len(rows), 1, sharex=True, squeeze=False)[:, 0]
    for axes, (label, runs) in zip(grid, rows.items(), strict=True):
        plain_axes(axes).set_title(label)
        for name, (steps, values) in runs.items():
            _line(axes, steps, values, RUN_COLOURS.get(name, WARN), clip(name), smooth=label == "loss")
        axes.margins(x=0.01)
        axes.set_ylim(min(0, axes.get_ylim()[0]) if label == "loss" else 0)
        axes.yaxis.set_major_locator(locator(4))
        axes.yaxis.set_major_formatter(lambda y, _: f"{y:.4g}")
    grid[-1].set_xlabel("optimizer step")
    grid[-1].xaxis.get_major_locator().set_params(integer=True)
    handles = {line.get_label(): line for axes in grid for line in axes.get_lines() if line.get_label()[0] != "_"}
    if len(handles) > 1:
        figure.legend(handles.values(), handles.keys(), loc="outside upper right", ncols=2, handlelength=1.2)


def _line(
    axes: Axes, steps: NDArray[np.float64], values: NDArray[np.float64], colour: str, label: str, *, smooth: bool
) -> None:
    window = max(1, len(steps) // 30) if smooth else 1
    every = math.ceil(len(steps) / MOST_POINTS)
    if window > 1:
        axes.plot(steps[::every], values[::every], color=colour, linewidth=0.6, alpha=0.35, label="_")
        values = np.convolve(values, np.full(window, 1 / window), mode="valid")
        steps = steps[(window - 1) // 2 :][: len(values)]
    axes.plot(steps[::every], values[::every], color=colour, linewidth=1.7, label=label)


def layer_axes(figure: Figure | SubFigure, layers: Sequence[Record]) -> Axes:
    """Axes with one named row per layer; thin rows get small letters, thinner ones a name on every second or third."""
    axes = plain_axes(figure.subplots(), grid="x")
    room = figure.bbox.height / figure.dpi * 72 - 50
    size = min(_font_size(), max(0.7 * _font_size(), room / len(layers) / 1.1))
    rows = range(0, len(layers), math.ceil(len(layers) * 1.1 * size / max(room, 1.0)))
    axes.set_yticks(list(rows), [clip(text(layers[row], "name") or UNKNOWN) for row in rows], fontsize=size)
    axes.set_ylim(len(layers) - 0.4, -0.6)
    return axes


def _row_size(axes: Axes) -> float:
    return float(axes.get_yticklabels()[0].get_fontsize())


def _no_sparsity(layer: Record) -> str:
    return "no weights" if number(layer, "weights") == 0 else UNKNOWN


def _sparsity(layer: Record) -> float | None:
    weights, zeros = number(layer, "weights"), number(layer, "zeros")
    return None if not weights or zeros is None else zeros / weights


def panel_height(layers: Sequence[Record]) -> float:
    """Inches of a plot with one row per layer."""
    return max(1.6, 0.5 + 0.23 * len(layers))


def _font_size() -> float:
    from matplotlib import rcParams

    return float(rcParams["font.size"])


def locator(bins: int) -> MaxNLocator:
    """At most so many ticks."""
    from matplotlib.ticker import MaxNLocator

    return MaxNLocator(bins)
