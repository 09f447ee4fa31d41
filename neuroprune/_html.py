"""A small table in HTML, as notebooks show a result."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape


def html_table(title: str, head: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """A table with a title; the first column names the rows, all others are aligned right. All text is escaped."""

    def line(tag: str, cells: Sequence[object]) -> str:
        first, *rest = [escape(_written(cell)) for cell in cells]
        aligned = "".join(f'<{tag} style="text-align:right">{cell}</{tag}>' for cell in rest)
        return f'<tr><{tag} style="text-align:left">{first}</{tag}>{aligned}</tr>'

    body = "".join(line("td", row) for row in rows)
    return f"<table><caption>{escape(title)}</caption><thead>{line('th', head)}</thead><tbody>{body}</tbody></table>"


def _written(value: object) -> str:
    """Whole numbers with separators, others with three digits, None as "unknown"."""
    if value is None:
        return "unknown"
    if isinstance(value, int):
        return f"{value:,}"
    return f"{value:.3g}" if isinstance(value, float) else str(value)
