"""One call of a torch function that was seen while a model ran."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from hw_targets.frontends.torch.layout import Layout
from hw_targets.frontends.torch.marks import Traced


@dataclass(frozen=True)
class Call:
    """A function, what it was given and what it returned.

    Attributes:
        name: short name of the function.
        args: its arguments.
        kwargs: likewise, those that are None left out.
        result: what it returned.
        layout: where time and batch lie.
        carried: the tensors among its arguments that carry signals, and their marks, in their order.
    """

    name: str
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    result: Tensor
    layout: Layout
    carried: Sequence[tuple[Tensor, Traced]]

    @property
    def marks(self) -> list[Traced]:
        """Of the tensors that carry signals."""
        return [mark for _, mark in self.carried]

    @property
    def tensors(self) -> list[Tensor]:
        """Those that carry signals."""
        return [tensor for tensor, _ in self.carried]

    def carries(self, value: Any) -> bool:
        """Whether a value is a tensor that carries a signal."""
        return any(value is tensor for tensor in self.tensors)

    def mark_of(self, value: Any) -> Traced:
        """The mark of a tensor that carries a signal."""
        return next(mark for tensor, mark in self.carried if tensor is value)

    def argument(self, position: int, name: str, default: Any = None) -> Any:
        """An argument by its place (the first tensor counted) or its name."""
        return self.args[position] if len(self.args) > position else self.kwargs.get(name, default)

    def dims(self, position: int, name: str = "dim") -> list[int] | None:
        """Axes named by an argument, counted from 0; None where it is not there."""
        given = self.args[position:] if len(self.args) > position + 1 else self.argument(position, name)
        if given is None:
            return None
        several = given if isinstance(given, (tuple, list)) else (given,)
        return [int(d) % self.tensors[0].dim() for d in several]
