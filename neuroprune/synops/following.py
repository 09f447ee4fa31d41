"""What is known of the results of a function, once its arguments are known."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from torch import Tensor

from neuroprune.synops.call import Call, is_spikes
from neuroprune.synops.known import Data, Mark, Weight
from neuroprune.synops.names import COMPARISONS, CONSTANTS, HARMLESS, MULTIPLICATIONS, OTHER_PRODUCTS
from neuroprune.synops.rules import RULES


def together(weights: Iterable[Weight]) -> Weight:
    """What is computed from weights."""
    return Weight(tuple({id(p): p for w in weights for p in w.parameters}.values()))


def follow(call: Call, marks: Sequence[Mark]) -> None:
    """Note what the results of a call are, given the marks among its arguments."""
    data = [m for m in marks if isinstance(m, Data)]
    if not data or call.name in CONSTANTS:
        if call.name not in CONSTANTS:
            made = together(m for m in marks if isinstance(m, Weight))
            for x in call.results:
                call.known.set(x, made)
        return
    analog = any(m.analog for m in data) and call.name not in COMPARISONS
    rule = None if analog else RULES.get(call.name)
    found = () if rule is None else rule(call)
    for x, mark in zip(call.results, found or [Data(analog=analog)] * len(call.results), strict=True):
        call.known.set(x, mark)


def is_missed(call: Call, marks: Sequence[Mark]) -> bool:
    """Whether a function, which is no product of two factors that is counted, multiplies."""
    if call.name in OTHER_PRODUCTS:
        return any(isinstance(m, Data) for m in marks)
    if call.name in HARMLESS:
        return _multiplies_by_element(call)
    return any(isinstance(m, Weight) for m in marks) and any(isinstance(m, Data) for m in marks)


def _multiplies_by_element(call: Call) -> bool:
    """Whether it multiplies spikes with spikes, or data with a parameter of two axes or more, element by element."""
    if call.name not in MULTIPLICATIONS or len(call.args) < 2:
        return False
    known = call.known
    marks = [known.of(a) if isinstance(a, Tensor) else None for a in call.args[:2]]
    if all(isinstance(m, Data) for m in marks):
        return all(is_spikes(m) for m in marks if isinstance(m, Data))
    weights = [a for a, m in zip(call.args, marks, strict=False) if isinstance(m, Weight)]
    wide = any(sum(n > 1 for n in w.shape) >= 2 for w in weights)
    return wide and any(isinstance(m, Data) for m in marks)
