"""Fewest weights that the cores store for one kernel, over all ways to spread its targets: a linear program.

Say the targets S of a kernel are on one core. Source x reaches them through the taps P_x(S). Sources that reach the
core through different taps send it different lists, so that the core stores F(S) = Σ |P| weights of the kernel at
least, over the distinct sets P among the P_x(S): a list that holds P holds |P| weights of this kernel, and different P
are on different lists. Cores S_1, S_2, … that share out all targets store Σ F(S_i). Now give each target y a price p_y
such that no set of targets costs more than it stores, Σ_{y∈S} p_y ≤ F(S) for all S. Then Σ F(S_i) ≥ Σ_i Σ_{y∈S_i} p_y =
Σ_y p_y however the targets are spread: the sum of all prices is a lower bound. The best prices are the dual of the
fractional partition Σ_S w_S F(S) → min, Σ_{S∋y} w_S = 1, which is solved by column generation (Gilmore & Gomory,
Operations Research 1961). The bound does not trust the solver: prices are checked against every S, and scaled down by
the least ratio F(S)/p(S) if that is below 1.

All S can be listed for some sixteen targets only. Of a larger image, some sources are looked at that reach no more
targets than that: leaving out the lists of other sources makes F smaller, so that what the prices of those few targets
add up to is still stored.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import product

import numpy as np
import numpy.typing as npt

from hw_targets.ir.connectivity import Ints

Place = tuple[int, int]
Reached = Mapping[Place, int]
"""Targets that one source reaches, and through which tap."""
MOST_SETS = 1 << 21
"""Sources times sets of targets up to which all sources are looked at."""
STEPS = 400
"""Most columns that are generated; prices are valid after any number."""
TINY = 1e-9


def fewest_weights(sources: Sequence[Reached], most_targets: int) -> float:
    """Weights that the cores store at least; each of `sources` says through which tap it reaches which targets."""
    everywhere = {target for reached in sources for target in reached}
    is_small = len(everywhere) <= most_targets and len(sources) << len(everywhere) <= MOST_SETS
    chosen = sources if is_small else _worth_a_look(sources, most_targets)
    targets = sorted({target for reached in chosen for target in reached})
    if not targets:
        return 0.0
    prices, stored = _prices(_stored(chosen, targets), len(targets))
    cost = _sums(prices)
    costly = cost > TINY
    return float(prices.sum() * min(1.0, (stored[costly] / cost[costly]).min(initial=1.0)))


def reached_targets(
    source: Place, target: Place, taps: Sequence[Place], stride: Place, padding: Place, dilation: Place
) -> list[Reached]:
    """The targets of each source near the corners of an image, which in a small image are all sources.

    `source` and `target` are (rows, columns); taps are numbered as they come.
    """
    reach = [2 * (1 + dilation[k] * max((tap[k] for tap in taps), default=0)) for k in (0, 1)]
    near = [[x for x in range(size) if min(x, size - 1 - x) <= far] for size, far in zip(source, reach, strict=True)]
    found = []
    for x in product(*near):
        reached = {}
        for number, tap in enumerate(taps):
            place = [divmod(x[k] + padding[k] - dilation[k] * tap[k], stride[k]) for k in (0, 1)]
            if all(rest == 0 and 0 <= y < size for (y, rest), size in zip(place, target, strict=True)):
                reached[place[0][0], place[1][0]] = number
        found.append(reached)
    return [reached for reached in found if reached]


def _worth_a_look(sources: Sequence[Reached], most_targets: int) -> list[Reached]:
    """Sources that together have few targets: those first that add most taps, not seen together yet, per new target."""
    chosen: list[Reached] = []
    targets: set[Place] = set()
    seen: set[frozenset[int]] = set()
    left = list(sources)
    while left:
        new = [len(reached.keys() - targets) for reached in left]
        gain = [0 if frozenset(reached.values()) in seen else len(reached) for reached in left]
        fits = [k for k in range(len(left)) if len(targets) + new[k] <= most_targets and (gain[k] or not new[k])]
        if not fits:
            break
        best = max(fits, key=lambda k: (not new[k], gain[k] / max(1, new[k]), -new[k]))
        reached = left.pop(best)
        chosen.append(reached)
        targets |= reached.keys()
        seen.add(frozenset(reached.values()))
    return chosen


def _stored(sources: Sequence[Reached], targets: Sequence[Place]) -> Ints:
    """F(S) for every set of targets; bit k of its number says whether S holds targets[k]."""
    reached = np.zeros((len(sources), 1), np.int64)
    for target in targets:
        # A set of taps and, in the lowest six bits, how many they are.
        tap = np.array([(64 << r[target]) + 1 if target in r else 0 for r in sources], np.int64)
        reached = np.concatenate([reached, reached + tap[:, None]], axis=1)
    reached.sort(axis=0)
    is_new = np.ones(reached.shape, dtype=bool)
    is_new[1:] = reached[1:] != reached[:-1]
    stored: Ints = ((reached & 63) * is_new).sum(axis=0)
    return stored


def _sums(values: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Sum of the values of every subset, numbered as in `_stored`."""
    total = np.zeros(1)
    for value in values.tolist():
        total = np.concatenate([total, total + value])
    return total


def _prices(stored: Ints, targets: int) -> tuple[npt.NDArray[np.float64], Ints]:
    """Prices of the targets, about the best ones, and F again."""
    once = 1 + 1e-5 * np.arange(targets) / targets  # not quite 1, against steps that change nothing
    basis, cost = np.eye(targets), stored[1 << np.arange(targets)].astype(float)
    prices = cost.copy()
    for _ in range(STEPS):
        prices = np.linalg.solve(basis.T, cost)
        excess = _sums(prices) - stored
        worst = int(np.argmax(excess))
        if excess[worst] < TINY:
            break
        column = (worst >> np.arange(targets) & 1).astype(float)
        step, weight = np.linalg.solve(basis, column), np.linalg.solve(basis, once)
        room = np.where(step > TINY, weight / np.where(step > TINY, step, 1.0), np.inf)
        leaves = int(np.argmin(room))
        basis[:, leaves], cost[leaves] = column, float(stored[worst])
    return prices, stored
