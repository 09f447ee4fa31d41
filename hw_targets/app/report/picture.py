"""The four plots that say most, as one picture."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from hw_targets.app.report import plots
from hw_targets.app.report.canvas import MUTED, Panel, figure, save_png
from hw_targets.app.report.occupancy import occupancy
from hw_targets.app.report.read import Run, text
from hw_targets.app.report.words import UNKNOWN, clip


def save_picture(run: Run, path: Path) -> None:
    """Accuracy, sparsity, SynOps, and the cores of the first chip (the threshold where no cores are known)."""
    panels = [plots.accuracy(run), plots.sparsity(run), plots.synops(run), _last(run)]
    with figure(16, 9, font_size=12, margin=0.012) as canvas:
        halves: Any = canvas.subfigures(2, 1, height_ratios=[1, 17])  # an array, or one figure where there is but one
        top, body = halves
        top.text(0.5, 0.45, clip(text(run.summary, "name") or UNKNOWN, 100), fontsize=18, weight="bold", ha="center")
        grid = body.subfigures(2, 2, wspace=0.04, hspace=0.05).flat
        for part, panel in zip(grid, panels, strict=True):
            part.suptitle(panel.title, x=0.02, ha="left", fontsize=14, weight="bold")
            if panel.draw is None:
                part.text(0.5, 0.5, UNKNOWN, ha="center", color=MUTED)
            else:
                panel.draw(part)
        save_png(path, canvas)


def _last(run: Run) -> Panel:
    used = [chip for chip in run.chips if run.core_usage(chip, "pruned")]
    return occupancy(run, used[0], "pruned", names=True) if used else plots.pruning(run)
