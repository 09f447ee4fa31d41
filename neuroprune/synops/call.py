"""A call of a function, with what is known of its arguments."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from neuroprune.synops.known import Arrivals, Data, Known, is_binary, is_whole, is_zero


@dataclass(slots=True)
class Call:
    """A call of a function: results are all tensors that it returned, or the one that it wrote to.

    `before` holds the numbers of spikes of a tensor that the function wrote to, as they were.
    """

    name: str
    func: Callable[..., Any]
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    results: tuple[Tensor, ...]
    known: Known
    before: Arrivals | None = None

    @property
    def first(self) -> Any:
        """Its first argument, a tensor or a list of them."""
        return self.args[0] if self.args else next(iter(self.kwargs.values()))

    def on(self, first: Any) -> Any:
        """What it returns for another first argument."""
        if self.args:
            return self.func(first, *self.args[1:], **self.kwargs)
        name = next(iter(self.kwargs))
        return self.func(**{**self.kwargs, name: first})

    def argument(self, index: int, name: str, default: Any = None) -> Any:
        """By position or name."""
        return self.args[index] if len(self.args) > index else self.kwargs.get(name, default)

    def arrivals(self, x: Any, *, binary: bool = False) -> Arrivals | None:
        """The spikes that a tensor stands for, where that may be; `binary`: other data must be 0 and 1."""
        if self.before is not None and x is self.first:
            return self.before
        return arrivals_of(x, self.known, binary=binary)


def arrivals_of(x: Any, known: Known, *, binary: bool = False) -> Arrivals | None:
    """The spikes that a tensor stands for, where that may be: of constants, if they are zero."""
    mark = known.of(x) if isinstance(x, Tensor) else None
    if isinstance(mark, Data):
        if mark.analog:
            return None
        if mark.is_spikes:
            return Arrivals.valued(x)
        return mark.arrivals or Arrivals.valued(x, is_binary if binary else is_whole)
    if isinstance(x, Tensor):
        return Arrivals.valued(x) if mark is None and is_zero(x) else None
    return None


def is_spikes(mark: Data | None) -> bool:
    """Whether a tensor is known to stand for spikes, its values unseen."""
    return mark is not None and (mark.is_spikes or mark.arrivals is not None)
