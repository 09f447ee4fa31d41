"""The page itself: sections in the order a reader asks for them; one whose part was not run is not there."""

from __future__ import annotations

from html import escape

from hw_targets.app.report import bars, headline, mesh, plots, spikes, tables
from hw_targets.app.report.canvas import Panel, svg
from hw_targets.app.report.occupancy import colours, occupancy
from hw_targets.app.report.read import Run, number
from hw_targets.app.report.script import SCRIPT
from hw_targets.app.report.style import style_sheet

MOST_CORES = 600
"""Rows of the table of cores; of more, the plots say enough."""


def html_page(run: Run) -> str:
    """A whole HTML document that refers to nothing outside itself."""
    lead = headline.lead(run)
    scope = headline.energy_scope(run)
    note = f'<p class="note">{escape(scope)}</p>' if scope else ""
    sections = [
        f"<h1>{escape(run.name)}</h1>" + (f'\n<p class="lead">{escape(lead)}</p>' if lead else ""),
        headline.tiles(run),
        _section("What was checked", headline.checks(run)),
        _section("What could not be done", headline.not_done(run)),
        _section("Accuracy along the chain", headline.chain(run)),
        _section("Training", grid(plots.pruning(run), plots.learning(run))),
        _section("Layers", grid(plots.sparsity(run), plots.synops(run), bars.fan_in(run)) + _layers(run)),
        _section("Spikes", grid(spikes.raster(run))),
        _section("Cores", _cores(run)),
        _section(
            "Where the energy comes from",
            grid(bars.energy(run)) + tables.energy(run) + (note if _has_energy(run) else ""),
        ),
        _section("Notes", _notes(run)),
        _section("How this was made", _made(run)),
    ]
    return document(run.name, sections)


def document(title: str, sections: list[str]) -> str:
    """The HTML around some sections."""
    body = "\n".join(section for section in sections if section)
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width,initial-scale=1">\n'
        f"<title>{escape(title)}</title>\n<style>\n{style_sheet()}</style>\n</head>\n<body>\n<main>\n{body}\n</main>\n"
        f"<script>{SCRIPT}</script>\n</body>\n</html>\n"
    )


def _section(title: str, content: str) -> str:
    return f"<section><h2>{escape(title)}</h2>\n{content}</section>" if content.strip() else ""


def _layers(run: Run) -> str:
    found = tables.layers(run)
    if not found:
        return ""
    sorting = "A click on a column's title sorts."
    if not any(number(layer, f"synops_{version}") is not None for layer in run.layers for version in run.versions):
        return f'{found}<p class="note">{sorting}</p>'
    said = "SynOps and MACs (multiply-accumulates, where a layer reads real numbers) are per sample."
    return f'{found}<p class="note">{said} {sorting}</p>'


def _cores(run: Run) -> str:
    shown = [occupancy(run, chip, "pruned") for chip in run.chips]
    if not any(panel.draw for panel in shown):
        return ""
    swatch = '<svg viewBox="0 0 8 8" aria-hidden="true"><rect width="8" height="8" fill="{}"/></svg>'
    legend = "".join(f"<li>{swatch.format(colour)}{escape(name)}</li>" for name, colour in colours(run).items())
    maps = grid(*(mesh.mesh(run, chip, version) for chip in run.chips for version in run.versions))
    dense = grid(*(occupancy(run, chip, "dense") for chip in run.chips))
    more = f"<details><summary>The dense network on the same chips</summary>{dense}</details>" if dense else ""
    for chip in run.chips:
        listed = tables.cores(run, chip, "pruned")
        if listed and len(run.core_usage(chip, "pruned")) <= MOST_CORES:
            more += f"<details><summary>Every core of {escape(chip)}</summary>{listed}</details>"
    return f'{maps}\n<ul class="legend">{legend}</ul>\n{grid(*shown)}\n{more}'


def _has_energy(run: Run) -> bool:
    return bool(tables.energy(run))


def _notes(run: Run) -> str:
    listed = run.summary.get("notes")
    found = "".join(f"<li>{escape(n)}</li>" for n in listed if isinstance(n, str)) if isinstance(listed, list) else ""
    return f'<ul class="left">{found}</ul>' if found else ""


def _made(run: Run) -> str:
    found = tables.seconds(run) + tables.versions(run)
    return f'<div class="plots">{found}</div>' if found else ""


def grid(*panels: Panel) -> str:
    """Plots beside each other; "" where there is nothing to draw."""
    found = "".join(_figure(panel) for panel in panels if panel.draw)
    return f'<div class="plots">{found}</div>' if found else ""


def _figure(panel: Panel) -> str:
    # The title is unique on the page, so its letters make a prefix for ids.
    prefix = "p" + "".join(f"{ord(c):x}" for c in panel.title)
    return (
        f"<figure><figcaption><h3>{escape(panel.title)}</h3><p>{escape(panel.caption)}</p></figcaption>"
        f"{svg(panel, prefix)}</figure>"
    )
