"""A map of the chip: each core where it lies on the mesh, coloured by how full it is and by what it receives."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING

from hw_targets.app.report.canvas import GRID, MUTED, TRACK, Panel
from hw_targets.app.report.occupancy import RESOURCES
from hw_targets.app.report.read import Record, Run, number
from hw_targets.app.report.words import count, short

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure, SubFigure

#: Chips that are drawn; a network on more shows the first.
MOST_CHIPS = 4
#: Colours of the scale: so few that it is drawn as shapes, not as an image.
LEVELS = 24


def mesh(run: Run, chip: str, version: str) -> Panel:
    """Cores of a version on a chip's mesh; nothing where their places were not recorded."""
    cores = [core for core in run.core_usage(chip, version) if all(number(core, key) is not None for key in "xy")]
    used = sorted({int(number(core, "chip") or 0) for core in cores})
    limits = {key: number(run.core_limits(chip), key) for key in RESOURCES}
    caption = (
        "Left: the fullest resource of each core, 100 % is the chip's limit. Right: messages it receives per sample."
    )
    if len(used) > MOST_CHIPS:
        caption += f" The first {MOST_CHIPS} of {len(used)} chips."
    used = used[:MOST_CHIPS]
    title = f"Mesh of {chip}, {run.versions.get(version, version)}: {count(len(cores))} cores"
    # One scale for all versions, so that their colours can be compared.
    every = (core for each in run.versions for core in run.core_usage(chip, each))
    most = max((number(core, "received") or 0.0 for core in every), default=0.0)
    draw = partial(_draw, [[c for c in cores if (number(c, "chip") or 0) == which] for which in used], limits, most)
    return Panel(title, caption, 0.4 + 2.2 * max(1, len(used)), draw if cores else None)


def fullest(core: Record, limits: Mapping[str, float | None]) -> float | None:
    """The largest part of a limit that a core uses; None where no limit is known."""
    pairs = ((number(core, key), limit) for key, limit in limits.items())
    return max((used / limit for used, limit in pairs if used is not None and limit), default=None)


def _draw(
    chips: Sequence[Sequence[Record]], limits: Mapping[str, float | None], most: float, figure: Figure | SubFigure
) -> None:
    grid = figure.subplots(len(chips), 2, squeeze=False)
    for row, cores in zip(grid, chips, strict=True):
        full = [fullest(core, limits) for core in cores]
        _map(row[0], cores, full, 1.0, "occupancy", lambda v: f"{v * 100:.0f} %")
        _map(row[1], cores, [number(core, "received") for core in cores], most, "messages received", short)


def _map(
    axes: Axes,
    cores: Sequence[Record],
    values: Sequence[float | None],
    top: float,
    title: str,
    words: Callable[[float], str],
) -> None:
    from matplotlib import colormaps
    from matplotlib.cm import ScalarMappable
    from matplotlib.collections import PolyCollection
    from matplotlib.colors import Normalize, to_hex

    squares = _squares(cores)
    colour_of = colormaps["viridis"].resampled(LEVELS)
    scale = ScalarMappable(Normalize(0, top or 1.0), colour_of)
    colours = [TRACK if v is None else to_hex(colour_of(v / (top or 1.0))) for v in values]
    axes.add_collection(PolyCollection(squares, facecolors=colours, edgecolors=GRID, linewidths=0.3))
    for side in axes.spines.values():
        side.set_visible(False)
    axes.set_xticks([])
    axes.set_yticks([])
    axes.set_aspect("equal")
    axes.autoscale_view()
    axes.invert_yaxis()
    axes.set_title(title, color=MUTED)
    bar = axes.figure.colorbar(scale, ax=axes, shrink=0.8, pad=0.02)
    bar.outline.set_visible(False)
    bar.ax.yaxis.set_major_formatter(lambda v, _: words(v))


def _squares(cores: Sequence[Record]) -> list[list[tuple[float, float]]]:
    """A square per core; those that share a router lie beside each other in its tile."""
    places = [(number(core, "x") or 0.0, number(core, "y") or 0.0) for core in cores]
    most = max(places.count(place) for place in set(places))
    side = math.ceil(math.sqrt(most))
    seen: dict[tuple[float, float], int] = {}
    found = []
    for x, y in places:
        slot = seen.get((x, y), 0)
        seen[x, y] = slot + 1
        left, top, size = x + (slot % side) * 0.92 / side, y + (slot // side) * 0.92 / side, 0.86 / side
        found.append([(left, top), (left + size, top), (left + size, top + size), (left, top + size)])
    return found
