"""What is known of a tensor while a model runs: where it comes from, and how many spikes it stands for."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn


class Arrivals:
    """How many spikes arrive at each position of a tensor, where each adds a constant of its own to it.

    They are found out only where somebody asks.

    Attributes:
        pooled: whether a mean lies on their way.
        alike: whether the constants are one positive number, so that the largest value is that of the most spikes.
    """

    def __init__(self, find: Callable[[], Tensor | None], *, pooled: bool = False, alike: bool = True) -> None:
        """`find` gives the numbers, in the tensor's shape; None if it turns out that they are no numbers of spikes."""
        self._find: Callable[[], Tensor | None] | None = find
        self._found: Tensor | None = None
        self.pooled, self.alike = pooled, alike

    def counts(self) -> Tensor | None:
        """The numbers, in the tensor's shape; None if there are none."""
        if self._find is not None:
            self._found, self._find = self._find(), None
        return self._found

    def then(
        self, change: Callable[[Tensor], Tensor | None], *, pooled: bool | None = None, alike: bool | None = None
    ) -> Arrivals:
        """Those of what comes after."""

        def find() -> Tensor | None:
            counts = self.counts()
            return None if counts is None else change(counts)

        return Arrivals(
            find, pooled=self.pooled if pooled is None else pooled, alike=self.alike if alike is None else alike
        )

    @classmethod
    def valued(cls, x: Tensor, condition: Callable[[Tensor], bool] = lambda _: True) -> Arrivals:
        """Those of a tensor whose values are numbers of spikes, if a `condition` holds and nobody writes to it."""
        version = version_of(x)
        return cls(lambda: x if version_of(x) == version and condition(x) else None)


@dataclass(frozen=True, eq=False)
class Data:
    """Computed from what the model was given, or sent by neurons.

    Attributes:
        arrivals: the spikes that it is a sum of, each times a constant; None: its own values tell.
        is_spikes: its values are numbers of spikes by definition, which need no check.
        most: of such numbers the largest there can be; 0: nobody knows.
        analog: it is real-valued, whatever its values happen to be.
    """

    arrivals: Arrivals | None = None
    is_spikes: bool = False
    analog: bool = False
    most: int = 0


@dataclass(frozen=True, eq=False)
class Weight:
    """Computed from parameters of two axes or more, and from constants."""

    parameters: tuple[Tensor, ...]


Mark = Data | Weight


class _Entry(NamedTuple):
    tensor: weakref.ref[Tensor]
    version: int
    mark: Mark


class Known:
    """The marks of tensors, by identity and version. A tensor without one is a constant."""

    def __init__(self) -> None:
        self._entries: dict[int, _Entry] = {}

    def forget(self) -> None:
        """Forget all marks."""
        self._entries.clear()

    def of(self, x: Tensor) -> Mark | None:
        """What is known of a tensor; of data that somebody has written to, no more than that."""
        entry = self._entries.get(id(x))
        if entry is not None and entry.tensor() is x:
            if isinstance(entry.mark, Weight) or entry.version == version_of(x):
                return entry.mark
            return Data(analog=entry.mark.analog)
        return Weight((x,)) if is_parameter(x) and x.dim() >= 2 else None

    def has(self, x: Tensor) -> bool:
        """Whether anything is known of a tensor, however old."""
        entry = self._entries.get(id(x))
        return entry is not None and entry.tensor() is x

    def data(self, x: object) -> Data | None:
        """What is known of a tensor of data; None for anything else."""
        mark = self.of(x) if isinstance(x, Tensor) else None
        return mark if isinstance(mark, Data) else None

    def set(self, x: Tensor, mark: Mark) -> None:
        key = id(x)

        def forget(of: weakref.ref[Tensor]) -> None:
            entry = self._entries.get(key)
            if entry is not None and entry.tensor is of:
                del self._entries[key]

        self._entries[key] = _Entry(weakref.ref(x, forget), version_of(x), mark)

    def written(self, x: Tensor) -> None:
        """A tensor was written to, or handed to whoever may.

        Data that is the same memory in the same shape is what it is; of other data in that memory no more is known.
        """
        memory, mine = x.untyped_storage().data_ptr(), self.of(x)
        for key, (of, _, mark) in list(self._entries.items()):
            other = of()
            if other is None or other is x or not isinstance(mark, Data):
                continue
            if other.untyped_storage().data_ptr() == memory:
                same = isinstance(mine, Data) and _lies_as(other) == _lies_as(x)
                held = mine if same and isinstance(mine, Data) else Data(analog=mark.analog)
                self._entries[key] = _Entry(of, version_of(other), held)


def _lies_as(x: Tensor) -> tuple[object, ...]:
    return x.shape, x.stride(), x.storage_offset(), x.dtype


def version_of(x: Tensor) -> int:
    """PyTorch's count of in-place changes, shared by views; tensors made in inference mode have none."""
    return 0 if x.is_inference() else x._version


def is_parameter(x: Tensor) -> bool:
    """Whether it is a parameter itself, which stays until somebody replaces it."""
    return type(x) is not Tensor and isinstance(x, nn.Parameter)


def is_zero(x: object) -> bool:
    """Whether a number or tensor is nothing but zeros."""
    if isinstance(x, Tensor):
        return not bool(x.any())
    return isinstance(x, (int, float)) and x == 0


def is_binary(x: Tensor) -> bool:
    """Whether all values are 0 or 1."""
    return x.dtype == torch.bool or bool(((x == 0) | (x == 1)).all())


def is_whole(x: Tensor) -> bool:
    """Whether all values are integers of at least 0."""
    if not x.is_floating_point():
        return x.numel() == 0 or bool((x >= 0).all())
    return x.numel() == 0 or bool(((x >= 0) & (x == x.floor()) & x.isfinite()).all())
