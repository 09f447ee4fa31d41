"""Optimizers that exchange the weights for others, by themselves or wrapped around another one."""

from __future__ import annotations

import gc
import sys

from torch import nn
from torch.optim import Optimizer


def check_exchange(optimizer: object) -> None:
    """Refuse an optimizer that exchanges the weights for their average in `eval()`, as schedule-free ones do.

    Raises:
        TypeError: it does.
    """
    if callable(getattr(optimizer, "train", None)) and callable(getattr(optimizer, "eval", None)):
        raise TypeError(
            f"SoftThresholdPruner: {type(optimizer).__name__} exchanges the weights for others in eval(), as"
            " schedule-free optimizers do: averages of sparse weights, which are dense; use its ordinary kin with an LR"
            " scheduler, such as AdamW with CosineAnnealingLR"
        )


def check_wrappers(optimizer: Optimizer) -> None:
    """Refuse an optimizer inside one that exchanges the weights, such as schedulefree's wrapper.

    It is looked for among all that refer to the optimizer, about 50 ms, where that package was imported.

    Raises:
        TypeError: it is inside one.
    """
    if "schedulefree" not in sys.modules:
        return
    for holder in gc.get_referrers(optimizer):
        # Before Python 3.11 what refers to it is the dict of the wrapper, not the wrapper.
        for thing in [holder, *(gc.get_referrers(holder) if type(holder) is dict else [])]:
            if is_wrapper(thing) and any(value is optimizer for value in vars(thing).values()):
                check_exchange(thing)


def is_wrapper(thing: object) -> bool:
    """Whether something looks like an optimizer, and is neither torch's nor a module."""
    kind = type(thing)
    return (
        not issubclass(kind, (Optimizer, nn.Module, type))
        and hasattr(kind, "param_groups")
        and callable(getattr(kind, "step", None))
        and hasattr(thing, "__dict__")
    )
