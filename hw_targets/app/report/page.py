"""The page itself: sections in the order a reader asks for them."""

from __future__ import annotations

from html import escape

from hw_targets.app.report import plots, tables, words
from hw_targets.app.report.canvas import Panel, svg
from hw_targets.app.report.occupancy import colours, occupancy
from hw_targets.app.report.read import Record, Run, number, text
from hw_targets.app.report.style import style_sheet
from hw_targets.app.report.words import UNKNOWN, count, percent


def html_page(run: Run) -> str:
    """A whole HTML document that refers to nothing outside itself."""
    name = escape(text(run.summary, "name") or UNKNOWN)
    scope = f'<p class="note">{escape(tables.energy_scope(run.summary))}</p>'
    sections = [
        f'<h1>{name}</h1>\n<p class="lead">{escape(_lead(run))}</p>',
        tables.headline(run),
        scope,
        f"<h2>Accuracy along the chain</h2>\n{_chain(run.summary)}",
        f"<h2>Check against Lava</h2>\n{_lava(run.summary)}",
        "<h2>Layers</h2>\n" + _grid(plots.sparsity(run), plots.synops(run)),
        tables.layers(run),
        '<p class="note">SynOps and MACs (multiply-accumulates, where a layer reads real numbers) are per image.</p>',
        f"<h2>Cores</h2>\n{_cores(run)}",
        "<h2>Training</h2>\n" + _grid(plots.pruning(run), plots.learning(run)),
        f"<h2>Where the energy comes from</h2>\n{tables.energy(run)}",
        scope,
        f"<h2>How this was made</h2>\n<div class=plots>{tables.seconds(run)}{tables.versions(run)}</div>",
    ]
    body = "\n".join(sections)
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width,initial-scale=1">\n'
        f"<title>{name}</title>\n<style>\n{style_sheet()}</style>\n</head>\n<body>\n<main>\n{body}\n</main>\n"
        "</body>\n</html>\n"
    )


def _lead(run: Run) -> str:
    """The run in one sentence."""
    summary = run.summary
    dense, pruned = (percent(number(summary, f"{version}_accuracy")) for version in ("dense", "pruned"))
    synops = words.fewer(number(summary, "synops_dense"), number(summary, "synops_pruned"))
    return (
        f"Soft threshold pruning set {percent(number(summary, 'sparsity'))} of"
        f" {count(number(summary, 'weights'))} weights to zero: accuracy went from {dense} to {pruned},"
        f" synaptic operations per image: {synops}."
    )


def _chain(summary: Record) -> str:
    values = {name: number(summary, f"{key}_accuracy") for key, name in plots.STAGES.items()}
    items = []
    for (name, value), before in zip(values.items(), [None, *values.values()], strict=False):
        change = "" if before is None or value is None else words.points(before, value)
        items.append(f"<li><span>{escape(name)}</span><b>{percent(value)}</b><span>{escape(change)}</span></li>")
    return f'<ol class="chain">{"".join(items)}</ol>\n<p class="note">Each difference is to the stage before it.</p>'


def _lava(summary: Record) -> str:
    kind, sentence = _verdict(*(number(summary, f"lava_{key}") for key in ("spike_differences", "spikes_compared")))
    samples = number(summary, "lava_samples")
    over = f"Samples: {count(samples)}."
    note = text(summary, "lava_note")
    more = f'<p class="note">{escape(over)}{" " + escape(note) if note else ""}</p>'
    return f'<div class="verdict {kind}"><p><b>{escape(sentence)}</b></p>{more}</div>'


def _verdict(differences: float | None, compared: float | None) -> tuple[str, str]:
    if differences is None:
        return "", f"Not shown: differences unknown, spikes compared: {count(compared)}."
    if differences > 0:
        return "bad", f"{count(differences)} differences from Lava's simulator, spikes compared: {count(compared)}."
    if not compared:  # zero differences in nothing prove nothing
        return "", f"0 differences, but the number of spikes compared is {count(compared)}: this shows nothing."
    return "good", f"0 differences from Lava's simulator in {count(compared)} spikes compared."


def _cores(run: Run) -> str:
    shown = [occupancy(run, chip, "pruned") for chip in run.chips]
    if not any(panel.draw for panel in shown):
        return f"<p>Use of the cores: {UNKNOWN}.</p>"
    swatch = '<svg viewBox="0 0 8 8" aria-hidden="true"><rect width="8" height="8" fill="{}"/></svg>'
    legend = "".join(f"<li>{swatch.format(colour)}{escape(name)}</li>" for name, colour in colours(run).items())
    dense = [panel for panel in (occupancy(run, chip, "dense") for chip in run.chips) if panel.draw]
    more = f"<details><summary>The dense network on the same chips</summary>{_grid(*dense)}</details>" if dense else ""
    return f'<ul class="legend">{legend}</ul>\n{_grid(*shown)}\n{more}'


def _grid(*panels: Panel) -> str:
    return f'<div class="plots">{"".join(_figure(panel) for panel in panels)}</div>'


def _figure(panel: Panel) -> str:
    # The title is unique on the page, so its letters make a prefix for ids.
    prefix = "p" + "".join(f"{ord(c):x}" for c in panel.title)
    image = svg(panel, prefix) if panel.draw else f"<p>{UNKNOWN}</p>"
    return (
        f"<figure><figcaption><h3>{escape(panel.title)}</h3><p>{escape(panel.caption)}</p></figcaption>{image}</figure>"
    )
