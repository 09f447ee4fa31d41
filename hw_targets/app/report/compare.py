"""Several runs on one page: their numbers side by side, and their trainings and layers in one plot each."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from html import escape
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from hw_targets.app.report import words
from hw_targets.app.report.canvas import PALETTE, Panel, plain_axes
from hw_targets.app.report.page import document, grid
from hw_targets.app.report.plots import series
from hw_targets.app.report.read import Run, number, table, text
from hw_targets.app.report.tables import Cell, Value, html_table
from hw_targets.app.report.words import clip, count, joules, percent, short

if TYPE_CHECKING:
    from matplotlib.figure import Figure, SubFigure

Floats = NDArray[np.float64]
#: Numbers that are compared: key in the summary, title, how it is written.
COLUMNS = {
    "validation_accuracy": ("validation accuracy", percent),
    "dense_accuracy": ("dense accuracy", percent),
    "pruned_accuracy": ("accuracy", percent),
    "chip_accuracy": ("in chip integers", percent),
    "sparsity": ("zeros", percent),
    "synops_pruned": ("SynOps per sample", short),
    "energy_pruned_j": ("energy per sample", joules),
    "time_pruned_s": ("time per sample", words.duration),
}


def html_comparison(runs: Sequence[tuple[str, Run]]) -> str:
    """A whole HTML document about named runs."""
    names = ", ".join(name for name, _ in runs)
    layers = _sparsities(runs)
    training = [
        _curves(runs, key, title)
        for key, title in (("loss", "Loss"), ("threshold", "Threshold d"), ("l1", "Coefficient μ"))
    ]
    sections = [
        f'<h1>{len(runs)} runs</h1>\n<p class="lead">{escape(names)}</p>',
        f"<section><h2>Numbers</h2>\n{_numbers(runs)}</section>",
        f"<section><h2>Plots</h2>\n{plots}</section>" if (plots := grid(layers, *training)) else "",
    ]
    return document(f"{len(runs)} runs", sections)


def _numbers(runs: Sequence[tuple[str, Run]]) -> str:
    columns = {k: v for k, v in COLUMNS.items() if any(number(run.summary, k) is not None for _, run in runs)}
    chips = list(dict.fromkeys(chip for _, run in runs for chip in run.chips))
    rows: list[list[Cell]] = []
    for name, run in runs:
        row: list[Cell] = [name]
        for key, (_, write) in columns.items():
            value = number(run.summary, key)
            row.append(Value("–" if value is None else write(value), value))
        for chip in chips:
            used = number(table(table(run.summary, "cores"), chip), "pruned")
            row.append(Value("–" if used is None else count(used), used))
        rows.append([*row, text(run.summary, "name") or ""])
    head = ["run", *(title for title, _ in columns.values()), *(f"cores, {chip}" for chip in chips), "name"]
    return html_table(head, rows, numbers=len(head) - 2, kind="layers")


def _sparsities(runs: Sequence[tuple[str, Run]]) -> Panel:
    found = {}
    for name, run in runs:
        rows = {text(row, "name") or "": (number(row, "weights"), number(row, "zeros")) for row in run.layers}
        found[name] = {
            layer: zeros / weights for layer, (weights, zeros) in rows.items() if weights and zeros is not None
        }
    found = {name: layers for name, layers in found.items() if layers}
    layers = list(dict.fromkeys(layer for values in found.values() for layer in values))
    draw = partial(_draw_sparsities, found, layers) if found else None
    return Panel("Sparsity per layer", "Part of each layer's weights that are zero.", 0.9 + 0.24 * len(layers), draw)


def _draw_sparsities(found: dict[str, dict[str, float]], layers: Sequence[str], figure: Figure | SubFigure) -> None:
    axes = plain_axes(figure.subplots(), grid="x")
    for (name, values), colour in zip(found.items(), PALETTE * len(found), strict=False):
        rows = [row for row, layer in enumerate(layers) if layer in values]
        axes.plot([values[layers[row]] for row in rows], rows, "o-", color=colour, label=clip(name), linewidth=1)
    axes.set_xlim(0, 1.02)
    axes.set_xticks([0, 0.5, 1], ["0 %", "50 %", "100 %"])
    axes.set_ylim(len(layers) - 0.5, -0.5)
    axes.set_yticks(range(len(layers)), [clip(layer) for layer in layers])
    figure.legend(loc="outside lower center", ncols=2, handlelength=1.2)


def _curves(runs: Sequence[tuple[str, Run]], key: str, title: str) -> Panel:
    found = {}
    for name, run in runs:
        for training in dict.fromkeys(text(step, "run") or "" for step in run.steps):
            steps, values = series(run, training, key)
            if len(steps):
                found[f"{name}, {training}" if training not in ("", "pruned") else name] = (steps, values)
    draw = partial(_draw_curves, found, key == "loss") if found else None
    caption = "Running mean over the optimizer's steps." if key == "loss" else "Over the optimizer's steps."
    return Panel(title, caption, 2.8, draw)


def _draw_curves(found: dict[str, tuple[Floats, Floats]], smooth: bool, figure: Figure | SubFigure) -> None:
    axes = plain_axes(figure.subplots())
    for (name, (steps, values)), colour in zip(found.items(), PALETTE * len(found), strict=False):
        window = max(1, len(steps) // 30) if smooth else 1
        mean = np.convolve(values, np.full(window, 1 / window), mode="valid")
        axes.plot(steps[(window - 1) // 2 :][: len(mean)], mean, color=colour, label=clip(name), linewidth=1.5)
    axes.set_ylim(bottom=0)
    axes.set_xlabel("optimizer step")
    figure.legend(loc="outside lower center", ncols=2, handlelength=1.2)
