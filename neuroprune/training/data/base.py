"""What a data set must be to be trained on: labelled samples of one shape, in batches that a seed reproduces."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic, Protocol, runtime_checkable

from typing_extensions import Self, TypeVar  # which torch depends on

if TYPE_CHECKING:
    from torch import Tensor


class DatasetNotFound(FileNotFoundError):
    """A data set that is absent or broken; the message says where, and the way out."""


@runtime_checkable
class DataSet(Protocol):
    """A labelled set of samples of one shape. Batches are (N, *sample_shape) with labels int64 (N,), on the CPU.

    Images are uint8 (N, C, H, W). What else samples are (features, signals, events) `as_input` turns into what the
    model takes; where that has all time steps, they come first, (T, N, …).
    """

    def __len__(self) -> int:
        """Number of samples."""
        ...

    @property
    def sample_shape(self) -> tuple[int, ...]:
        """Shape of every sample in a batch: (C, H, W) of images."""
        ...

    @property
    def classes(self) -> int:
        """Number of classes; labels are 0 … classes − 1."""
        ...

    @property
    def in_unit_range(self) -> bool:
        """Whether `as_input` gives values of 0 … 1, as a chip takes them."""
        ...

    def as_input(self, samples: Tensor) -> Tensor:
        """A batch as the model takes it (float32), on the device it is on."""
        ...

    def subset(self, start: int, stop: int) -> Self:
        """Samples start … stop − 1."""
        ...

    def pixels(self, count: int) -> Tensor:
        """The first `count` samples (all, if there are fewer), as in `batches`."""
        ...

    def batches(self, batch_size: int) -> Iterator[tuple[Tensor, Tensor]]:
        """Every sample once, in order, without augmentation; the last batch may be smaller."""
        ...

    def training_batches(self, batch_size: int, epochs: int, seed: int) -> Iterator[tuple[Tensor, Tensor]]:
        """epochs · ⌊len / batch_size⌋ batches of exactly `batch_size`, each sample at most once in an epoch.

        Order and augmentation are random and follow from the seed alone.
        """
        ...


def training_batches_from(
    data: DataSet, batch_size: int, epochs: int, seed: int, start: int
) -> Iterator[tuple[Tensor, Tensor]]:
    """`data.training_batches` without the first `start` of them.

    A data set that reads its samples from files has a method `training_batches_from` of its own, which reads none of
    those that are passed over; of one without, they are made and dropped.
    """
    if start == 0:
        return data.training_batches(batch_size, epochs, seed)
    own = getattr(data, "training_batches_from", None)
    if own is not None:
        found: Iterator[tuple[Tensor, Tensor]] = own(batch_size, epochs, seed, start)
        return found
    return itertools.islice(data.training_batches(batch_size, epochs, seed), start, None)


def has_steps(data: DataSet) -> bool:
    """Whether a sample holds its own time steps, so that `as_input` gives (T, N, …) and not (N, …).

    A data set may say so in an attribute `has_steps`; of one that does not, two batches of different size tell.
    """
    import torch

    said: Any = getattr(data, "has_steps", None)
    if isinstance(said, bool):
        return said
    sample = data.pixels(1)
    one, two = (data.as_input(torch.cat([sample] * count)) for count in (1, 2))
    return one.dim() > 1 and one.shape[0] == two.shape[0]


def shuffled(samples: int, batch_size: int, epochs: int, seed: int) -> Iterator[Tensor]:
    """Indices (batch_size,) of epochs · ⌊samples / batch_size⌋ batches: a fresh permutation in each epoch."""
    import torch

    generator = torch.Generator().manual_seed(seed)
    for _ in range(epochs):
        order = torch.randperm(samples, generator=generator)
        for batch in range(samples // batch_size):
            yield order[batch * batch_size : (batch + 1) * batch_size]


#: What `DataSet` was called when images were all there was.
Images = DataSet

Set = TypeVar("Set", bound=DataSet, default=DataSet)


@dataclass(frozen=True)
class Split(Generic[Set]):
    """Training, validation and test samples. Touch the test set once, at the end.

    Of Fashion-MNIST, validation is the last 5 000 training images; an image folder has one set for both.
    """

    train: Set
    validation: Set
    test: Set
