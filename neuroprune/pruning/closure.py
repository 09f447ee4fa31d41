"""`optimizer.step(closure)`, as some training frameworks always call it, under a pruner."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

import torch

Arguments: TypeAlias = tuple[tuple[Any, ...], dict[str, Any]]


class Evaluated:
    """Stands for a closure that was evaluated: gives its loss, once."""

    def __init__(self, loss: Any) -> None:
        self._loss, self._asked = loss, False

    def __call__(self) -> Any:
        """The loss.

        Raises:
            RuntimeError: it is asked for again, and so meant for other weights.
        """
        if self._asked:
            raise RuntimeError(
                "SoftThresholdPruner: this optimizer evaluates the model more than once per step, the later times at"
                " the latent parameters instead of the weights; use one that evaluates it once"
            )
        self._asked = True
        return self._loss


def evaluated(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Arguments | None:
    """The arguments of `step` with the closure, if there is one, evaluated at the parameters' present values.

    Args:
        args: positional arguments, the optimizer first, as a pre-hook gets them.
        kwargs: the others.
    """
    closure: Callable[[], Any] | None = args[1] if len(args) > 1 else kwargs.get("closure")
    if closure is None:
        return None
    with torch.enable_grad():
        result = Evaluated(closure())
    return ((args[0], result, *args[2:]), kwargs) if len(args) > 1 else (args, {**kwargs, "closure": result})
