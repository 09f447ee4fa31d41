"""Tables of the page. Every cell is plain text and escaped in one place."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from typing import NamedTuple, TypeAlias

from hw_targets.app.report import words
from hw_targets.app.report.read import Record, Run, number, table, text
from hw_targets.app.report.words import UNKNOWN, count, fewer, joules, percent


class Noted(NamedTuple):
    """A cell with a small line under it."""

    text: str
    note: str


Cell: TypeAlias = str | Noted


def html_table(
    head: Sequence[str], rows: Sequence[Sequence[Cell]], *, numbers: int, kind: str = "", total: bool = False
) -> str:
    """A table whose first column names the rows and whose next `numbers` columns are aligned right."""
    columns = ["", *[' class="n"'] * numbers, *[""] * len(head)]
    titles = "".join(f'<th scope="col"{c}>{escape(h)}</th>' for c, h in zip(columns, head, strict=False))
    body = []
    for i, row in enumerate(rows):
        cells = "".join(f"<td{c}>{_cell(v)}</td>" for c, v in zip(columns[1:], row[1:], strict=False))
        last = ' class="total"' if total and i == len(rows) - 1 else ""
        body.append(f'<tr{last}><th scope="row">{_cell(row[0])}</th>{cells}</tr>')
    lines = "\n".join(body)
    # A table that scrolls must be reachable by keyboard.
    return (
        f'<div class="scroll" tabindex="0"><table class="{kind}"><thead><tr>{titles}</tr></thead>'
        f"<tbody>\n{lines}\n</tbody></table></div>"
    )


def headline(run: Run) -> str:
    """Dense against pruned, in the five numbers people ask for."""
    summary = run.summary
    synops = number(summary, "synops_dense"), number(summary, "synops_pruned")
    before, after = (number(summary, f"{v}_accuracy") for v in ("dense", "pruned"))
    weights = number(summary, "weights"), run.weights_left
    energy = number(summary, "energy_dense_j"), number(summary, "energy_pruned_j")
    chip_of_energy = text(summary, "energy_chip") or UNKNOWN
    zeros = Noted("Weights that are not zero", f"{percent(number(summary, 'sparsity'))} of the weights are pruned")
    rows: list[list[Cell]] = [
        ["Accuracy", percent(before), percent(after), words.points(before, after)],
        [zeros, *map(count, weights), fewer(*weights)],
        ["Synaptic operations per image", *map(count, synops), fewer(*synops)],
        [
            Noted("Energy per image", f"estimated for {chip_of_energy}"),
            *map(joules, energy),
            fewer(*energy),
        ],
    ]
    times = number(summary, "time_dense_s"), number(summary, "time_pruned_s")
    if times != (None, None):
        title = Noted("Time per image", f"estimated for {chip_of_energy}: steps of its slowest core")
        rows.append([title, *map(words.duration, times), fewer(*times)])
    for chip in run.chips:
        cores = table(table(summary, "cores"), chip)
        used = number(cores, "dense"), number(cores, "pruned")
        rows.append([f"Cores on {chip}", *map(count, used), fewer(*used)])
    if not run.chips:
        rows.append(["Cores", UNKNOWN, UNKNOWN, UNKNOWN])
    return html_table(["", "dense", "pruned", "change"], rows, numbers=3, kind="headline")


def energy_scope(summary: Record) -> str:
    """For which chip the energy was computed, and what it leaves out."""
    listed = summary.get("energy_not_modelled")
    names = [i if isinstance(i, str) else UNKNOWN for i in listed] if isinstance(listed, list) else [UNKNOWN]
    chip = text(summary, "energy_chip") or UNKNOWN
    return (
        f"Energy is an estimate for {chip} from published coefficients. Not counted: {'; '.join(names) or 'nothing'}."
    )


LAYER_COLUMNS = ("weights", "zeros", "synops_dense", "synops_pruned", "macs_dense", "macs_pruned")


def layers(run: Run) -> str:
    """Numbers of each layer, and their sums where all are known."""
    head = ["layer", "weights", "zeros", "sparsity", "SynOps dense", "SynOps pruned", "SynOps change"]
    rows = [_layer_row(text(layer, "name") or UNKNOWN, layer) for layer in run.layers]
    columns = {key: [number(layer, key) for layer in run.layers] for key in LAYER_COLUMNS}
    sums = {key: sum(v or 0 for v in values) for key, values in columns.items() if None not in values}
    rows.append(_layer_row("sum", sums))
    head += ["MACs dense", "MACs pruned"]
    return html_table(head, rows, numbers=8, kind="layers", total=True)


def _layer_row(name: str, record: Record) -> list[Cell]:
    value = {key: number(record, key) for key in LAYER_COLUMNS}
    weights, zeros = value["weights"], value["zeros"]
    sparsity = None if not weights or zeros is None else zeros / weights
    synops = value["synops_dense"], value["synops_pruned"]
    macs = value["macs_dense"], value["macs_pruned"]
    return [
        name,
        count(weights),
        count(zeros),
        percent(sparsity),
        *map(count, synops),
        fewer(*synops),
        *map(count, macs),
    ]


def energy(run: Run) -> str:
    """Each part of the energy with its coefficient and where that was published."""
    parts, prices = table(run.summary, "energy_parts"), table(run.summary, "energy_coefficients")
    dense, pruned = table(parts, "dense"), table(parts, "pruned")
    rows: list[list[Cell]] = []
    for name in dict.fromkeys([*dense, *pruned, *prices]):
        price = table(prices, name)
        value = number(price, "value")
        cost = UNKNOWN if value is None else f"{value:g} {text(price, 'unit') or '(unit unknown)'}"
        spent = joules(number(dense, name)), joules(number(pruned, name))
        rows.append([name.replace("_", " "), *spent, cost, text(price, "source") or UNKNOWN])
    if not rows:
        rows.append([UNKNOWN] * 5)
    return html_table(
        ["part", "dense, per image", "pruned, per image", "each", "source"], rows, numbers=3, kind="energy"
    )


def seconds(run: Run) -> str:
    """Time of each stage."""
    stages = table(run.summary, "seconds")
    rows = [[stage, words.seconds(number(stages, stage))] for stage in stages] or [[UNKNOWN, UNKNOWN]]
    return html_table(["stage", "time"], rows, numbers=1)


def versions(run: Run) -> str:
    """What made the run: versions of packages and the commit."""
    known = table(run.summary, "versions")
    rows = [[name, text(known, name) or UNKNOWN] for name in known] or [["versions", UNKNOWN]]
    rows.append(["commit", text(run.summary, "commit") or UNKNOWN])
    return html_table(["package", "version"], rows, numbers=0)


def _cell(cell: Cell) -> str:
    if isinstance(cell, Noted):
        return f"{escape(cell.text)}<small>{escape(cell.note)}</small>"
    return escape(cell)
