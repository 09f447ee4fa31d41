"""What training takes as data, images in memory, and Fashion-MNIST as such.

Fashion-MNIST (Xiao et al., 2017, arXiv 1708.07747) has 60 000 + 10 000 grey images of 28×28 in 10 classes.
"""

from __future__ import annotations

import gzip
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, Protocol

import numpy as np
import torch
from torch import Tensor
from typing_extensions import Self, TypeVar  # which torch depends on

#: Where Debian's package `dataset-fashion-mnist` puts the files.
DEBIAN_FOLDER = Path("/usr/share/datasets/fashion-mnist")
CACHE_FOLDER = Path.home() / ".cache" / "neuroprune"
_FILES = {"train": "train", "test": "t10k"}


class DatasetNotFound(FileNotFoundError):
    """A data set that is absent or broken; the message says where, and the way out."""


class Images(Protocol):
    """A labelled set of images of one shape. Batches are uint8 (N, C, H, W) with labels int64 (N,), on the CPU."""

    def __len__(self) -> int:
        """Number of images."""
        ...

    @property
    def sample_shape(self) -> tuple[int, int, int]:
        """(C, H, W) of every image in a batch."""
        ...

    @property
    def classes(self) -> int:
        """Number of classes; labels are 0 … classes − 1."""
        ...

    @property
    def in_unit_range(self) -> bool:
        """Whether `as_input` gives values of 0 … 1, as a chip takes them."""
        ...

    def as_input(self, images: Tensor) -> Tensor:
        """A batch as the model takes it (float32), on the device it is on."""
        ...

    def subset(self, start: int, stop: int) -> Self:
        """Images start … stop − 1."""
        ...

    def pixels(self, count: int) -> Tensor:
        """The first `count` images (all, if there are fewer), as in `batches`."""
        ...

    def batches(self, batch_size: int) -> Iterator[tuple[Tensor, Tensor]]:
        """Every image once, in order, without augmentation; the last batch may be smaller."""
        ...

    def training_batches(self, batch_size: int, epochs: int, seed: int) -> Iterator[tuple[Tensor, Tensor]]:
        """epochs · ⌊len / batch_size⌋ batches of exactly `batch_size`, each image at most once in an epoch.

        Order and augmentation are random and follow from the seed alone.
        """
        ...


@dataclass(frozen=True)
class ImageSet:
    """Images (N, C, H, W) as uint8 and labels (N,) as int64, in memory."""

    images: Tensor
    labels: Tensor

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
        generator = torch.Generator().manual_seed(seed)
        for _ in range(epochs):
            order = torch.randperm(len(self), generator=generator)
            for batch in range(len(self) // batch_size):
                chosen = order[batch * batch_size : (batch + 1) * batch_size]
                yield self.images[chosen], self.labels[chosen]


Set = TypeVar("Set", bound=Images, default=ImageSet)


@dataclass(frozen=True)
class Split(Generic[Set]):
    """Training, validation and test images. Touch the test set once, at the end.

    Of Fashion-MNIST, validation is the last 5 000 training images; an image folder has one set for both.
    """

    train: Set
    validation: Set
    test: Set


def fashion_mnist(folder: Path | None = None, *, validation: int = 5000) -> Split:
    """Load Fashion-MNIST from `folder`, from Debian's package, or through torchvision's download.

    Raises:
        DatasetNotFound: none of these has it; the message names the ways to get it.
    """
    if folder is None:
        folder = DEBIAN_FOLDER if DEBIAN_FOLDER.is_dir() else _download()
    train, test = (_read(folder, name) for name in ("train", "test"))
    cut = len(train) - validation
    return Split(train.subset(0, cut), train.subset(cut, len(train)), test)


def as_input(images: Tensor) -> Tensor:
    """Grey values 0…255 (uint8) to 0…1 (float32)."""
    return images.float().div_(255.0)


def _read(folder: Path, name: str) -> ImageSet:
    prefix = _FILES[name]
    images = _read_idx(folder / f"{prefix}-images-idx3-ubyte.gz", dimensions=3)
    labels = _read_idx(folder / f"{prefix}-labels-idx1-ubyte.gz", dimensions=1)
    if len(images) != len(labels):
        raise DatasetNotFound(
            f"{folder}: {len(images)} {name} images but {len(labels)} labels; install the data set anew"
        )
    return ImageSet(torch.from_numpy(images)[:, None], torch.from_numpy(labels).long())


def _read_idx(path: Path, dimensions: int) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    """Read an IDX file of unsigned bytes: magic 0x000008NN, NN big-endian sizes, then the values in C order."""
    try:
        with gzip.open(path, "rb") as file:
            content = file.read()
    except (OSError, EOFError, zlib.error) as error:
        raise DatasetNotFound(f"{path} cannot be read ({error}); install the data set anew") from error
    header = 4 * (dimensions + 1)
    magic, *shape = struct.unpack_from(f">{dimensions + 1}I", content.ljust(header, b"\0"))
    values = np.frombuffer(content[header:], np.uint8)
    if magic != 0x0800 + dimensions or values.size != np.prod(shape):
        raise DatasetNotFound(f"{path} is not an IDX file of {dimensions} dimensions; install the data set anew")
    return values.reshape(shape).copy()


def _download() -> Path:
    try:
        from torchvision.datasets import FashionMNIST

        for train in (True, False):
            FashionMNIST(str(CACHE_FOLDER), train=train, download=True)
    except Exception as error:  # whatever the network or its absence raises, the user's two ways out are the same
        raise DatasetNotFound(
            f"Fashion-MNIST was found neither in {DEBIAN_FOLDER} nor by torchvision's download ({error}); on Debian or"
            " Ubuntu run `apt-get install dataset-fashion-mnist`, or connect to the internet and run again"
        ) from error
    return CACHE_FOLDER / "FashionMNIST" / "raw"
