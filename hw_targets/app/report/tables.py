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


class Value(NamedTuple):
    """A number as it is written, and as a column is sorted by it."""

    text: str
    value: float | None


Cell: TypeAlias = str | Noted | Value


def html_table(
    head: Sequence[str],
    rows: Sequence[Sequence[Cell]],
    *,
    numbers: int,
    kind: str = "",
    total: bool = False,
    sortable: bool = True,
) -> str:
    """A table whose first column names the rows and whose next `numbers` columns are aligned right.

    A click on a column's title sorts it; the last row of a table with a `total` stays where it is.
    """
    columns = ["", *[' class="n"'] * numbers, *[""] * len(head)]
    titles = "".join(f'<th scope="col"{c}>{escape(h)}</th>' for c, h in zip(columns, head, strict=False))
    body = []
    for i, row in enumerate(rows):
        cells = "".join(f"<td{c}{_sorted_by(v)}>{_cell(v)}</td>" for c, v in zip(columns[1:], row[1:], strict=False))
        last = ' class="total"' if total and i == len(rows) - 1 else ""
        body.append(f'<tr{last}><th scope="row">{_cell(row[0])}</th>{cells}</tr>')
    lines = "\n".join(body)
    kinds = " ".join([*([kind] if kind else []), *(["sortable"] if sortable else [])])
    # A table that scrolls must be reachable by keyboard.
    return (
        f'<div class="scroll" tabindex="0"><table class="{kinds}"><thead><tr>{titles}</tr></thead>'
        f"<tbody>\n{lines}\n</tbody></table></div>"
    )


LAYER_COLUMNS = {"weights": "weights", "zeros": "zeros"}
OPERATIONS = {"synops": "SynOps", "macs": "MACs"}


def layers(run: Run) -> str:
    """Numbers of each layer, and their sums where all are known; "" without layers."""
    if not run.layers:
        return ""
    columns = dict(LAYER_COLUMNS)
    for key, title in OPERATIONS.items():
        for version, label in run.versions.items():
            if any(number(layer, f"{key}_{version}") is not None for layer in run.layers):
                columns[f"{key}_{version}"] = title if len(run.versions) == 1 else f"{title} {label}"
    known = {key: [number(layer, key) for layer in run.layers] for key in columns}
    sums = {key: sum(v or 0 for v in values) for key, values in known.items() if None not in values}
    rows = [_layer_row(text(layer, "name") or UNKNOWN, layer, list(columns)) for layer in run.layers]
    rows.append(_layer_row("sum", sums, list(columns)))
    head = ["layer", *columns.values(), "sparsity"]
    if {"synops_dense", "synops_pruned"} <= set(columns):
        head.append("SynOps change")
    return html_table(head, rows, numbers=len(head) - 1, kind="layers", total=True)


def _layer_row(name: str, record: Record, columns: Sequence[str]) -> list[Cell]:
    value = {key: number(record, key) for key in columns}
    weights, zeros = value["weights"], value["zeros"]
    sparsity = None if not weights or zeros is None else zeros / weights
    row: list[Cell] = [name, *(Value(count(v), v) for v in value.values()), Value(percent(sparsity), sparsity)]
    if {"synops_dense", "synops_pruned"} <= set(columns):
        before, after = value["synops_dense"], value["synops_pruned"]
        row.append(Value(fewer(before, after), before / after if before and after else None))
    return row


def energy(run: Run) -> str:
    """Each part of the energy with its coefficient and where that was published; "" without any."""
    parts, prices = table(run.summary, "energy_parts"), table(run.summary, "energy_coefficients")
    spent = {version: table(parts, version) for version in run.versions}
    rows: list[list[Cell]] = []
    for name in dict.fromkeys([*(key for part in spent.values() for key in part), *prices]):
        price = table(prices, name)
        value = number(price, "value")
        cost = UNKNOWN if value is None else f"{value:g} {text(price, 'unit') or '(unit unknown)'}"
        used = [number(part, name) for part in spent.values()]
        source = text(price, "source") or UNKNOWN
        rows.append([name.replace("_", " "), *(Value(joules(v), v) for v in used), Value(cost, value), source])
    if not rows:
        return ""
    titles = [f"{label}, per sample" for label in run.versions.values()]
    return html_table(["part", *titles, "each", "source"], rows, numbers=len(titles) + 1, kind="energy")


def cores(run: Run, chip: str, version: str) -> str:
    """What each core holds, and its traffic where that was recorded; "" without cores."""
    found = run.core_usage(chip, version)
    titles = {
        "neurons": "neurons",
        "input_axons": "input axons",
        "output_axons": "output axons",
        "synaptic_bits": "synaptic bits",
        "received": "messages received per sample",
        "sent": "messages sent per sample",
    }
    titles = {key: title for key, title in titles.items() if any(number(core, key) is not None for core in found)}
    rows: list[list[Cell]] = []
    for index, core in enumerate(found):
        values = [number(core, key) for key in titles]
        numbers = [Value(str(index), index), *(Value(count(v), v) for v in values)]
        rows.append([text(core, "population") or UNKNOWN, *numbers])
    if not rows or not titles:
        return ""
    return html_table(["population", "core", *titles.values()], rows, numbers=len(titles) + 1, kind="layers")


def seconds(run: Run) -> str:
    """Time of each stage; "" where none was taken."""
    stages = table(run.summary, "seconds")
    rows: list[list[Cell]] = []
    for stage in stages:
        value = number(stages, stage)
        rows.append([stage, Value(words.seconds(value), value)])
    return html_table(["stage", "time"], rows, numbers=1) if rows else ""


def versions(run: Run) -> str:
    """What made the run: versions of packages and the commit; "" where nobody said."""
    known = table(run.summary, "versions")
    rows = [[name, text(known, name) or UNKNOWN] for name in known]
    if commit := text(run.summary, "commit"):
        rows.append(["commit", commit])
    return html_table(["package", "version"], rows, numbers=0) if rows else ""


def _sorted_by(cell: Cell) -> str:
    return f' data-v="{cell.value!r}"' if isinstance(cell, Value) and cell.value is not None else ""


def _cell(cell: Cell) -> str:
    if isinstance(cell, Noted):
        return f"{escape(cell.text)}<small>{escape(cell.note)}</small>"
    return escape(cell.text if isinstance(cell, Value) else cell)
