"""What this package's own writer leaves in a NIR graph's metadata, checked: files come from anybody."""

from __future__ import annotations

from collections.abc import Mapping
from math import isfinite
from typing import Any

import numpy as np

from hw_targets.errors import InvalidNetwork

#: Those that are text.
TEXTS = ("name", "reset")
#: Whole numbers, and between what; 0 and 1 stand for false and true.
WHOLE: Mapping[str, tuple[int, int]] = {
    "time_steps": (1, 1 << 20),
    "strict": (0, 1),
    "unit": (1, 1 << 53),
    "bits": (1, 24),
    "reset_delay": (0, 1),
    "max_spikes": (1, 1 << 31),
    "withholds": (0, 1),
}
#: Real numbers, and whether they are above 0.
REAL: Mapping[str, bool] = {"dt": True, "scale": True, "v_min": False}
#: All; other metadata are not looked at.
METADATA = (*WHOLE, *REAL, *TEXTS)


def checked(where: str, found: Mapping[str, Any]) -> dict[str, Any]:
    """The known entries of a node's metadata, as Python's own numbers and texts.

    Raises:
        InvalidNetwork: one that is no such number or text; the message begins with `where`.
    """
    return {key: _checked(where, key, found[key]) for key in METADATA if key in found}


def _checked(where: str, key: str, value: Any) -> Any:
    if key in TEXTS:
        if not isinstance(value, str) or not value:
            raise InvalidNetwork(f"{where}: metadata {key} is a {type(value).__name__}, expected a text")
        return value
    number = _number(value)
    low, high = WHOLE.get(key, (0, 0))
    if key in WHOLE and number is not None and number == int(number) and low <= number <= high:
        return int(number)
    if key in REAL and number is not None and (number > 0 or not REAL[key]):
        return float(number)
    kind = f"a whole number, {low:,} … {high:,}" if key in WHOLE else f"a number{' above 0' if REAL[key] else ''}"
    raise InvalidNetwork(f"{where}: metadata {key} is {str(value)[:40]}, expected {kind}; leave it out, or write it so")


def _number(value: Any) -> float | int | None:
    """The one finite number a value holds, if it does."""
    try:
        array = np.asarray(value)
    except (ValueError, TypeError):
        return None
    if array.size != 1 or array.dtype.kind not in "biuf":
        return None
    number: float | int = array.reshape(-1)[0].item()
    return number if isfinite(number) else None
