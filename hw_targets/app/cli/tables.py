"""Plain-text tables and numbers for the terminal."""

from __future__ import annotations

from collections.abc import Sequence


def table(rows: Sequence[Sequence[str]], header: Sequence[str], left: Sequence[int] = (0,)) -> str:
    """Columns padded to their widest cell, right-aligned but for those in `left`."""
    cells = [list(header), *[list(row) for row in rows]]
    widths = [max(len(row[i]) for row in cells) for i in range(len(header))]
    lines = [
        "  ".join(
            cell.ljust(w) if i in left else cell.rjust(w) for i, (cell, w) in enumerate(zip(row, widths, strict=True))
        )
        for row in cells
    ]
    ruler = "  ".join("─" * w for w in widths)
    return "\n".join(line.rstrip() for line in (lines[0], ruler, *lines[1:]))


def percent(fraction: float | None) -> str:
    """0.9312 → '93.12 %'."""
    return "unknown" if fraction is None else f"{100 * fraction:.2f} %"


def quantity(value: float | None, unit: str = "") -> str:
    """A number with an SI prefix and three significant digits: 1234567 → '1.23 M'; None → 'unknown'."""
    if value is None:
        return "unknown"
    for factor, prefix in ((1e9, "G"), (1e6, "M"), (1e3, "k"), (1.0, ""), (1e-3, "m"), (1e-6, "µ"), (1e-9, "n")):
        if abs(value) >= factor:
            return f"{value / factor:.3g} {prefix}{unit}".rstrip()
    return f"{value:.3g} {unit}".rstrip()


def ratio(before: float | None, after: float | None) -> str:
    """How many times less: '12.3×'."""
    return f"{before / after:.1f}×" if before and after else "–"
