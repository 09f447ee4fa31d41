"""Images in memory: one kind of data set."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from torch import Tensor

from neuroprune.training.data.base import DatasetNotFound, Images, Split, shuffled

__all__ = ["DatasetNotFound", "ImageSet", "Images", "Split", "as_input"]


@dataclass(frozen=True)
class ImageSet:
    """Images (N, C, H, W) as uint8 and labels (N,) as int64, in memory."""

    images: Tensor
    labels: Tensor

    has_steps = False

    def __len__(self) -> int:
        return len(self.labels)

    def subset(self, start: int, stop: int) -> ImageSet:
        """Images start … stop − 1."""
        return ImageSet(self.images[start:stop], self.labels[start:stop])

    @property
    def sample_shape(self) -> tuple[int, int, int]:
        """(C, H, W)."""
        channels, height, width = self.images.shape[1:]
        return channels, height, width

    @property
    def classes(self) -> int:
        """One more than the largest label."""
        return int(self.labels.max()) + 1 if len(self) else 0

    @property
    def in_unit_range(self) -> bool:
        """Yes: bytes divided by 255."""
        return True

    def as_input(self, images: Tensor) -> Tensor:
        """Values 0 … 1."""
        return as_input(images)

    def pixels(self, count: int) -> Tensor:
        """The first `count` images."""
        return self.images[:count]

    def batches(self, batch_size: int) -> Iterator[tuple[Tensor, Tensor]]:
        """Slices, not copies."""
        for start in range(0, len(self), batch_size):
            yield self.images[start : start + batch_size], self.labels[start : start + batch_size]

    def training_batches(self, batch_size: int, epochs: int, seed: int) -> Iterator[tuple[Tensor, Tensor]]:
        """A fresh permutation each epoch, all from one generator."""
        for chosen in shuffled(len(self), batch_size, epochs, seed):
            yield self.images[chosen], self.labels[chosen]


def as_input(images: Tensor) -> Tensor:
    """Grey values 0…255 (uint8) to 0…1 (float32)."""
    return images.float().div_(255.0)
