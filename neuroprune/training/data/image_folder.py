"""Images in folders, one folder per class, as ImageNet is commonly kept: read, cut and scaled while training.

Training images are cut and mirrored at random (Szegedy et al., CVPR 2015, section 6), test images resized and cut from
the centre, as is customary on ImageNet; torchvision's transforms do both.
"""

from __future__ import annotations

import functools
import itertools
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from neuroprune._require import require
from neuroprune.training.data.base import DatasetNotFound, Split

#: Mean and standard deviation of ImageNet's red, green and blue (0 … 1), as in torchvision's reference training.
MEAN = (0.485, 0.456, 0.406)
STD = (0.229, 0.224, 0.225)
#: Test images are resized to this many times the size that is then cut from their centre (256 for 224).
RESIZE_RATIO = 256 / 224

#: An image file and its label.
File: TypeAlias = tuple[str, int]
#: What a worker is asked for: an image's index, and the seed of its augmentation (None: no augmentation).
Key: TypeAlias = tuple[int, int | None]


@dataclass(frozen=True)
class FolderOptions:
    """Where the images are and how they become a batch.

    Attributes:
        folder: holds train/ and val/, each with one folder per class, of the same names.
        image_size: side of the square images in a batch, in pixels.
        normalize: subtract ImageNet's mean and divide by its standard deviation, instead of leaving values at 0 … 1.
        workers: processes that read images; 0 reads in the training process, None takes one per core, at most 8.

    Raises:
        ValueError: a value out of range; the message begins with its name.
    """

    folder: str
    image_size: int = 224
    normalize: bool = True
    workers: int | None = None

    def __post_init__(self) -> None:
        if self.image_size < 1:
            raise ValueError(f"image_size must be at least 1 pixel, got {self.image_size}")
        if self.workers is not None and self.workers < 0:
            raise ValueError(f"workers must be at least 0, got {self.workers}")

    @property
    def processes(self) -> int:
        """Workers to start."""
        return min(8, os.cpu_count() or 1) if self.workers is None else self.workers


@dataclass(frozen=True)
class FolderImages:
    """One part of an image folder: `Images` that are read from their files when a batch is asked for.

    Files are kept in an order shuffled once with a fixed seed, so that any first n of them are of all classes.
    """

    files: Sequence[File]
    class_names: tuple[str, ...]
    options: FolderOptions

    has_steps = False

    def __len__(self) -> int:
        return len(self.files)

    @property
    def sample_shape(self) -> tuple[int, int, int]:
        """(3, H, W): every image is read as red, green and blue."""
        return 3, self.options.image_size, self.options.image_size

    @property
    def classes(self) -> int:
        """Number of class folders."""
        return len(self.class_names)

    @property
    def in_unit_range(self) -> bool:
        """Only without normalisation."""
        return not self.options.normalize

    def as_input(self, images: Tensor) -> Tensor:
        """x / 255, and (x / 255 − mean) / std with `normalize`, per channel."""
        values = images.float().div_(255.0)
        if self.options.normalize:
            mean, std = (torch.tensor(v, device=images.device).view(3, 1, 1) for v in (MEAN, STD))
            values.sub_(mean).div_(std)
        return values

    def subset(self, start: int, stop: int) -> FolderImages:
        """Images start … stop − 1 of the shuffled order."""
        return FolderImages(self.files[start:stop], self.class_names, self.options)

    def pixels(self, count: int) -> Tensor:
        """The first `count` images, read now."""
        return next(self.subset(0, count).batches(max(1, min(count, len(self)))))[0]

    def batches(self, batch_size: int) -> Iterator[tuple[Tensor, Tensor]]:
        """Resized so that the shorter side is image_size · 256/224, then cut from the centre.

        Raises:
            DatasetNotFound: a file is gone or no image; the message names it.
        """
        return self._read([(index, None) for index in part] for part in _parts(range(len(self)), batch_size))

    def training_batches(self, batch_size: int, epochs: int, seed: int) -> Iterator[tuple[Tensor, Tensor]]:
        """A random part of the image (8 % to all of its area, sides 3:4 to 4:3) at image_size, mirrored half the time.

        Each image is augmented from a seed of its own, so that the batches do not depend on the number of workers.

        Raises:
            DatasetNotFound: a file is gone or no image; the message names it.
        """
        return self.training_batches_from(batch_size, epochs, seed, 0)

    def training_batches_from(
        self, batch_size: int, epochs: int, seed: int, start: int
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """`training_batches` without the first `start`, none of whose files is read.

        Raises:
            DatasetNotFound: a file is gone or no image; the message names it.
        """

        def keys() -> Iterator[list[Key]]:
            generator = torch.Generator().manual_seed(seed)
            for _ in range(epochs):
                order = torch.randperm(len(self), generator=generator).tolist()
                seeds = torch.randint(2**62, (len(self),), generator=generator).tolist()
                whole = list(zip(order, seeds, strict=True))[: len(self) // batch_size * batch_size]
                yield from _parts(whole, batch_size)

        return self._read(itertools.islice(keys(), start, None))

    def _read(self, keys: Iterator[list[Key]]) -> Iterator[tuple[Tensor, Tensor]]:
        loader: DataLoader[Any] = DataLoader(
            _Decoder(self.files, *_transforms(self.options.image_size)),
            batch_sampler=_Once(keys),
            num_workers=self.options.processes,
            collate_fn=_collate,
            pin_memory=torch.cuda.is_available(),
            generator=torch.Generator(),  # the loader draws from it, and must not draw from the model's
        )
        for batch in loader:
            if isinstance(batch, DatasetNotFound):
                raise batch
            images, labels = batch
            yield images, labels


def image_folder(options: FolderOptions) -> Split[FolderImages]:
    """Find the images of a folder; val/ serves as validation and as test images, as it does in papers on ImageNet.

    Raises:
        DatasetNotFound: no such folder, no train/ or val/, a class without images, or other classes in val/.
    """
    root = Path(options.folder)
    if not root.is_dir():
        raise DatasetNotFound(f"data.folder: {root} is no folder; give one that holds train/ and val/")
    train, val = (_part(root / name, options) for name in ("train", "val"))
    if train.class_names != val.class_names:
        differing = sorted(set(train.class_names) ^ set(val.class_names))
        raise DatasetNotFound(
            f"data.folder: {root / 'train'} and {root / 'val'} must hold the same class folders, but"
            f" {', '.join(differing[:3])}{' …' if len(differing) > 3 else ''} ({len(differing)} in all) are in one only"
        )
    return Split(train, val, val)


def _part(folder: Path, options: FolderOptions) -> FolderImages:
    if not folder.is_dir():
        raise DatasetNotFound(f"data.folder: {folder} is missing; the folder must hold train/ and val/")
    try:
        found = require("torchvision.datasets", "imagenet").ImageFolder(str(folder))
    except OSError as error:
        raise DatasetNotFound(
            f"data.folder: {folder} must hold one folder of images per class, but: {error}; add images, or remove the"
            " empty folder"
        ) from error
    order = torch.randperm(len(found.samples), generator=torch.Generator().manual_seed(0)).tolist()
    return FolderImages(tuple(found.samples[index] for index in order), tuple(found.classes), options)


@functools.cache
def _transforms(size: int) -> tuple[Callable[[Any], Tensor], Callable[[Any], Tensor]]:
    """From a PIL image to uint8 (3, size, size): for training, drawing from torch's generator, and for testing."""
    transforms = require("torchvision.transforms", "imagenet")
    to_bytes = transforms.PILToTensor()
    train = transforms.Compose(
        [transforms.RandomResizedCrop(size), transforms.RandomHorizontalFlip(), to_bytes],
    )
    resized = max(size, round(size * RESIZE_RATIO))
    test = transforms.Compose([transforms.Resize(resized), transforms.CenterCrop(size), to_bytes])
    return train, test


class _Decoder(Dataset[Any]):
    """Reads and transforms one image; in a worker, so a broken file is returned, for its message to stay one line."""

    def __init__(self, files: Sequence[File], train: Callable[[Any], Tensor], test: Callable[[Any], Tensor]) -> None:
        self._files, self._train, self._test = files, train, test
        self._load = require("torchvision.datasets.folder", "imagenet").default_loader

    def __getitem__(self, key: Key) -> tuple[Tensor, int] | DatasetNotFound:
        index, seed = key
        path, label = self._files[index]
        try:
            image = self._load(path)
        except Exception as error:  # Pillow raises OSError, SyntaxError, ValueError and more, by format
            return DatasetNotFound(f"data.folder: {path} cannot be read ({error}); replace or remove the file")
        if seed is None:
            return self._test(image), label
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(seed)
            return self._train(image), label


class _Once:
    """A batch sampler that hands out the given keys."""

    def __init__(self, keys: Iterator[list[Key]]) -> None:
        self._keys = keys

    def __iter__(self) -> Iterator[list[Key]]:
        return self._keys


def _collate(samples: list[tuple[Tensor, int] | DatasetNotFound]) -> tuple[Tensor, Tensor] | DatasetNotFound:
    good: list[tuple[Tensor, int]] = []
    for sample in samples:
        if isinstance(sample, DatasetNotFound):
            return sample
        good.append(sample)
    return torch.stack([image for image, _ in good]), torch.tensor([label for _, label in good])


def _parts(items: Sequence[Any], size: int) -> Iterator[Any]:
    return (items[start : start + size] for start in range(0, len(items), size))
