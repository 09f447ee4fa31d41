"""What a chip's file must state for its integers to be known."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from hw_targets.chips.chip import Chip
from hw_targets.errors import QuantizationError


def stated(chip: Chip, keys: Iterable[str]) -> dict[str, int]:
    """The widths that a chip's file states, by fact.

    Raises:
        QuantizationError: it does not state one of them; nothing is filled in from another chip.
    """
    found = {key: getattr(chip, key) for key in keys}
    if missing := [key for key, bits in found.items() if bits is None]:
        raise QuantizationError(
            f"quantize: {chip.name} does not state {', '.join(missing)}, without which its integers are not known; add"
            f" {'it' if len(missing) == 1 else 'them'} to its file, with the source"
        )
    return found


def check_widths(chip: Chip, known: Mapping[str, int], whose: str) -> None:
    """Refuse a chip whose integers are of other widths than a judge's neurons, or not stated.

    Raises:
        QuantizationError: as said; `whose` neurons these are, in words.
    """
    found = stated(chip, known)
    if found != known:
        raise QuantizationError(f"quantize: {chip.name} has {found}, but {whose} neurons are known with {known} alone")
