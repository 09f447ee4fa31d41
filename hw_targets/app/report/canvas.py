"""Matplotlib without pyplot: figures, the colours they share with the page, and SVG that follows its theme."""

from __future__ import annotations

import colorsys
import io
import re
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING

from neuroprune._require import require

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure, SubFigure

THEME = {  # name: (light, dark)
    "ink": ("#1f2933", "#e4e8ec"),
    "muted": ("#5c6975", "#9aa7b3"),
    "grid": ("#dbe1e7", "#38434d"),
    "track": ("#eaeef2", "#27313a"),
    "dense": ("#93a1b0", "#74859a"),
    "pruned": ("#0b7a8c", "#35bccf"),
    "warn": ("#c2410c", "#fb923c"),
}
INK, MUTED, GRID, TRACK, DENSE, PRUNED, WARN = (light for light, _ in THEME.values())
# Mid tones, to be told apart on white and on near-black.
PALETTE = ("#4c78a8", "#f58518", "#54a24b", "#e45756", "#72b7b2", "#b279a2", "#d9b12f", "#9d755d", "#ff9da6", "#8a8683")
WIDTH = 4.6
"""Inches of a plot on the page: narrow enough that its letters stay legible on a phone."""


@dataclass(frozen=True)
class Panel:
    """A plot with its words; `draw` is None where the run does not hold its numbers."""

    title: str
    caption: str
    height: float
    draw: Callable[[Figure | SubFigure], None] | None


def require_matplotlib() -> None:
    """Raises:
    ImportError: matplotlib is not installed.
    """
    require("matplotlib", "report")


def population_colours(names: Sequence[str]) -> dict[str, str]:
    """One colour per name, distinct while a palette can be."""
    names = list(dict.fromkeys(names))
    if len(names) <= len(PALETTE):
        return dict(zip(names, PALETTE, strict=False))
    golden = [colorsys.hls_to_rgb(i * 0.618 % 1, 0.55, 0.5) for i in range(len(names))]
    return {name: "#" + "".join(f"{round(c * 255):02x}" for c in rgb) for name, rgb in zip(names, golden, strict=True)}


@contextmanager
def figure(width: float, height: float, font_size: float, margin: float = 0.0) -> Iterator[Figure]:
    """A figure in inches, to be filled and saved inside the block; `margin` is a part of its size."""
    require_matplotlib()
    from matplotlib import rc_context
    from matplotlib.figure import Figure
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    settings = {
        "text.parse_math": False,  # a layer may be called "$x"
        "svg.fonttype": "none",
        "svg.hashsalt": "neuroprune",
        "font.family": "DejaVu Sans",
        "font.size": font_size,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.axisbelow": True,
        "axes.titlesize": font_size,
        "axes.titlelocation": "left",
        "grid.color": GRID,
        "legend.frameon": False,
        **dict.fromkeys(("text.color", "axes.labelcolor", "xtick.labelcolor", "ytick.labelcolor"), INK),
        **dict.fromkeys(("axes.edgecolor", "xtick.color", "ytick.color"), MUTED),
    }
    with rc_context(settings), warnings.catch_warnings():  # type: ignore[arg-type]
        warnings.filterwarnings("ignore", message="Glyph")  # a browser has the letters that this font lacks
        layout = ConstrainedLayoutEngine(rect=(margin, margin, 1 - 2 * margin, 1 - 2 * margin))
        yield Figure(figsize=(width, height), layout=layout)


def svg(panel: Panel, prefix: str) -> str:
    """The panel as an inline `<svg>`; `prefix` keeps its ids apart from those of other plots on the page."""
    if panel.draw is None:
        return ""
    buffer = io.StringIO()
    with figure(WIDTH, panel.height, font_size=8.5) as canvas:
        panel.draw(canvas)
        canvas.savefig(buffer, format="svg", transparent=True, metadata={"Date": None})
    return _inline(buffer.getvalue(), prefix, panel.title)


def save_png(path: Path, canvas: Figure) -> None:
    """Save on white, at 100 pixels per inch."""
    canvas.savefig(path, format="png", dpi=100, facecolor="white")


def plain_axes(axes: Axes, grid: str = "y") -> Axes:
    """Quiet lines: a grid along one direction, no tick marks, only the baseline drawn."""
    axes.grid(True, axis=grid, linewidth=0.7)  # type: ignore[arg-type]
    axes.tick_params(length=0)
    axes.spines["left"].set_visible(False)
    axes.spines["bottom"].set_color(GRID)
    return axes


def _inline(document: str, prefix: str, title: str) -> str:
    start = document.index("<svg")
    body = re.sub(r"<metadata>.*?</metadata>", "", document[start:], count=1, flags=re.DOTALL)
    head, rest = body.split(">", 1)
    box = re.search(r'viewBox="([^"]*)"', head)
    rest = re.sub(r'\bid="([^"]*)"', rf'id="{prefix}-\1"', rest)
    rest = re.sub(r'(url\(#|href="#)', rf"\g<1>{prefix}-", rest)
    for name, (light, _) in THEME.items():
        rest = rest.replace(light, f"var(--{name})")
    return f'<svg viewBox="{box[1] if box else ""}" role="img" aria-label="{escape(title)}">{rest.strip()}'
