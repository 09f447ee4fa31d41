"""Numbers that somebody gives: what is none is refused with one sentence, whatever it is."""

from __future__ import annotations

import math
import operator
from typing import Any

#: Of a whole number that is printed digit by digit.
_MOST_BITS = 4096


def number_of(value: object) -> float | None:
    """A number, or what holds one (a tensor or array of one element), as a float; None of anything else.

    Text is no number, nor is a truth value or a complex number, whatever holds it.
    """
    if isinstance(value, (bool, str, bytes, bytearray)) or not hasattr(type(value), "__float__"):
        return None
    if any(kind in str(getattr(value, "dtype", "")) for kind in ("bool", "complex")):
        return None
    try:
        return float(value)  # type: ignore[arg-type]  # it has __float__
    except (TypeError, ValueError, RuntimeError, OverflowError):  # several elements, or complex, or too large
        return None


def plain(value: Any) -> Any:
    """A number as Python's own, whatever holds it (a tensor, a Decimal); what is none stays, to be refused by name."""
    if type(value) in (int, float) or (found := number_of(value)) is None:
        return value
    return _whole(value, found) if found.is_integer() else found


def check_number(who: object, name: str, value: object, low: float = 0.0) -> float:
    """A finite number of at least `low`.

    Args:
        who: whose argument it is: a name, or an object of the class.
        name: the argument's.
        value: what was given.
        low: the least it may be.

    Raises:
        ValueError: it is something else; the message names the argument and the value.
    """
    found = number_of(value)
    if found is None or not (math.isfinite(found) and found >= low):
        least = "" if low == -math.inf else f" >= {low:g}"
        raise ValueError(f"{_named(who)}: {name} must be a finite number{least}, got {shown(value)}")
    return found


def check_whole(who: object, name: str, value: object, low: int = 1) -> int:
    """A whole number of at least `low`, such as 20 or 20.0; arguments and errors as those of `check_number`."""
    found = number_of(value)
    if found is None or not (math.isfinite(found) and found.is_integer() and found >= low):
        raise ValueError(f"{_named(who)}: {name} must be a whole number >= {low}, got {shown(value)}")
    return _whole(value, found)


def _whole(value: Any, found: float) -> int:
    """A whole number with all of its digits, where what holds it has whole ones; else the float that was `found`."""
    try:
        return operator.index(value)
    except TypeError:
        return int(found)


def check_share(who: object, name: str, value: object) -> float:
    """A number in (0, 1]; arguments and errors as those of `check_number`."""
    found = number_of(value)
    if found is None or not 0.0 < found <= 1.0:
        raise ValueError(f"{_named(who)}: {name} must lie in 0 … 1, 0 excluded, got {shown(value)}")
    return found


def _named(who: object) -> str:
    return who if isinstance(who, str) else type(who).__name__


def shown(value: object) -> str:
    """In one line, and not longer than one reads; numbers as they are printed."""
    if isinstance(value, int) and value.bit_length() > _MOST_BITS:  # Python prints no number of any length
        return f"a whole number of {value.bit_length():,} bits"
    words = " ".join((str(value) if number_of(value) is not None else repr(value)).split())
    return words if len(words) <= 60 else f"{words[:57]}..."
