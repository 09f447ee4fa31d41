"""Decisions as a list of whole numbers, so that a network that fails can be repeated, and made smaller."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

Option = TypeVar("Option")


class Tape:
    """Draws whole numbers from a seed and keeps them in `values`; or plays `given` ones, and zeros after their end."""

    def __init__(self, seed: int, given: Sequence[int] | None = None) -> None:
        self._fresh, self._given = np.random.default_rng(seed), given
        self.values: list[int] = []

    def integer(self, low: int, high: int) -> int:
        """One of low … high; zero on the tape is `low`."""
        if self._given is None:
            offset = int(self._fresh.integers(high - low + 1))
        else:
            index = len(self.values)
            offset = min(self._given[index], high - low) if index < len(self._given) else 0
        self.values.append(offset)
        return low + offset

    def choice(self, *options: Option) -> Option:
        """One of the options, the simplest of which comes first."""
        return options[self.integer(0, len(options) - 1)]

    def chance(self, percent: int) -> bool:
        """True in `percent` of 100 cases; zero on the tape is False."""
        return self.integer(0, 99) >= 100 - percent

    def numbers(self) -> np.random.Generator:
        """Numbers that nobody needs to look at one by one, such as weights: they hang on one value of the tape."""
        return np.random.default_rng(self.integer(0, 9999))


def shrink(values: Sequence[int], fails: Callable[[list[int]], bool], *, attempts: int = 300) -> list[int]:
    """A tape no longer and with no larger numbers that still fails: its end cut off, its values zeroed or halved.

    Args:
        values: a tape that fails.
        fails: whether another one does.
        attempts: how often `fails` may be called.
    """
    best, left = list(values), attempts
    while left > 0:
        before = list(best)
        for candidate in _smaller(best):
            if left <= 0 or candidate == best:
                continue
            left -= 1
            if fails(candidate):
                best = candidate
                break
        if best == before:
            break
    return best


def _smaller(values: list[int]) -> list[list[int]]:
    """Candidates, the most different first."""
    cut = [values[: len(values) * part // 4] for part in (1, 2, 3)]
    holes = [i for i, value in enumerate(values) if value]
    blocks = [
        [*values[:i], *[0] * size, *values[i + size :]]
        for size in (8, 1)
        for i in range(0, len(values), size)
        if any(values[i : i + size])
    ]
    halves = [[*values[:i], values[i] // 2, *values[i + 1 :]] for i in holes if values[i] > 1]
    return [c for c in (*cut, *blocks, *halves) if len(c) <= len(values)]


def sparse(numbers: np.random.Generator, weights: npt.NDArray[Any], percent: int) -> npt.NDArray[Any]:
    """The weights with `percent` of 100 of them zero, each with the same chance; 100 leaves none."""
    kept: npt.NDArray[Any] = weights * (numbers.random(weights.shape) >= percent / 100)
    return kept


def sparsity_kind(weight: npt.NDArray[Any]) -> str:
    """A range of the share of zeros."""
    zeros = float((weight == 0).mean())
    for limit, name in ((0.0, "no zeros"), (0.5, "up to 50 % zeros"), (0.9, "up to 90 % zeros")):
        if zeros <= limit:
            return name
    return "all zeros" if zeros == 1.0 else "above 90 % zeros"
