"""How numbers are written. None, of a number that a part was to give, is "unknown"."""

from __future__ import annotations

UNKNOWN = "unknown"


def percent(value: float | None, digits: int = 2) -> str:
    """0.9123 as '91.23 %'; never rounded to 0 or 100 % when it is not."""
    if value is None:
        return UNKNOWN
    least = 10.0**-digits
    if 0 < value * 100 < least / 2:
        return f"< {least:g} %"
    if 100 - least / 2 <= value * 100 < 100:
        return f"> {100 - least:.{digits}f} %"
    return f"{value * 100:.{digits}f} %"


def count(value: float | None) -> str:
    """1234567.0 as '1,234,567'."""
    if value is None:
        return UNKNOWN
    return f"{value:,.0f}" if abs(value) >= 100 or float(value).is_integer() else f"{value:,.2f}"


def short(value: float | None) -> str:
    """1234567 as '1.23 M', for plots."""
    if value is None:
        return UNKNOWN
    rounded = float(f"{value:.3g}")  # first, so that 999999 becomes 1 M and not 1000 k
    for factor, prefix in ((1e9, " G"), (1e6, " M"), (1e3, " k")):
        if abs(rounded) >= factor:
            return f"{rounded / factor:g}{prefix}"
    return f"{rounded:g}"


def joules(value: float | None) -> str:
    """1.5e-6 as '1.50 µJ'."""
    return _si(value, "J")


def duration(value: float | None) -> str:
    """4.1e-4 as '410.00 µs'."""
    return _si(value, "s")


def seconds(value: float | None) -> str:
    """125.0 as '2 min 5 s'."""
    if value is None:
        return UNKNOWN
    if value < 60:
        return f"{value:.1f} s"
    minutes, rest = divmod(round(value), 60)
    return f"{minutes} min {rest} s"


def fewer(before: float | None, after: float | None) -> str:
    """How many times less is left: '4.62× less'."""
    if before is None or after is None:
        return UNKNOWN
    if before == after:
        return "the same"
    if after <= 0 or before <= 0:
        return "none left" if after == 0 < before else "no ratio"
    ratio = before / after
    return f"{_factor(ratio)} less" if ratio >= 1 else f"{_factor(1 / ratio)} more"


def points(before: float | None, after: float | None) -> str:
    """Difference of two accuracies in percentage points."""
    if before is None or after is None:
        return UNKNOWN
    difference = (after - before) * 100
    if before == after:
        return "the same"
    return f"{difference:+.2f} points".replace("-", "−")


def clip(name: str, most: int = 24) -> str:
    """One line of at most `most` characters; the ends of a layer's name tell more than its middle."""
    line = " ".join("".join(c if c.isprintable() else " " for c in name).split())
    head = (most - 1) // 2
    return line if len(line) <= most else f"{line[:head]}…{line[head + 1 - most :]}"


def _si(value: float | None, unit: str) -> str:
    if value is None:
        return UNKNOWN
    if value == 0:
        return f"0 {unit}"
    for factor, prefix in ((1, ""), (1e-3, "m"), (1e-6, "µ"), (1e-9, "n")):
        if abs(value) >= factor:
            return f"{value / factor:.2f} {prefix}{unit}"
    return f"{value / 1e-12:.2f} p{unit}"


def _factor(ratio: float) -> str:
    return f"{ratio:.2f}×" if ratio < 10 else f"{ratio:.1f}×" if ratio < 100 else f"{ratio:,.0f}×"
