"""Samples that are arrays: in memory, or in an .npz file of one's own."""

from __future__ import annotations

import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from neuroprune.training.data.base import DatasetNotFound, Split, shuffled

#: Part of an .npz without test samples that becomes the test set, and which samples these are.
TEST_FRACTION, SEED = 0.2, 0


@dataclass(frozen=True)
class ArraySet:
    """Samples (N, …) and labels (N,), in memory.

    Attributes:
        samples: uint8, which the model gets divided by `unit`, or float32, which it gets as they are.
        labels: int64.
        classes: number of classes.
        has_steps: axis 1 of `samples` is time: the model gets (T, N, …).
        unit: 255 for grey values, 1 for spikes, one or several.
    """

    samples: Tensor
    labels: Tensor
    classes: int
    has_steps: bool = False
    unit: int = 255

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def sample_shape(self) -> tuple[int, ...]:
        """Of one sample, its steps first where it has them."""
        return tuple(self.samples.shape[1:])

    @property
    def in_unit_range(self) -> bool:
        """Whether all samples, as the model gets them, lie in 0 … 1, or are whole numbers of spikes."""
        if not self.samples.numel() or (self.unit == 1 and self.samples.dtype == torch.uint8):
            return True
        low, high = (float(extreme) for extreme in torch.aminmax(self.samples))
        return low >= 0.0 and high <= (self.unit if self.samples.dtype == torch.uint8 else 1.0)

    def as_input(self, samples: Tensor) -> Tensor:
        """(N, …), or (T, N, …) of samples with steps."""
        values = samples.float().div_(self.unit) if samples.dtype == torch.uint8 else samples.float()
        return values.transpose(0, 1) if self.has_steps else values

    def subset(self, start: int, stop: int) -> ArraySet:
        """Samples start … stop − 1."""
        return ArraySet(self.samples[start:stop], self.labels[start:stop], self.classes, self.has_steps, self.unit)

    def pixels(self, count: int) -> Tensor:
        """The first `count` samples."""
        return self.samples[:count]

    def batches(self, batch_size: int) -> Iterator[tuple[Tensor, Tensor]]:
        """Slices, not copies."""
        for start in range(0, len(self), batch_size):
            yield self.samples[start : start + batch_size], self.labels[start : start + batch_size]

    def training_batches(self, batch_size: int, epochs: int, seed: int) -> Iterator[tuple[Tensor, Tensor]]:
        """A fresh permutation each epoch, all from one generator."""
        for chosen in shuffled(len(self), batch_size, epochs, seed):
            yield self.samples[chosen], self.labels[chosen]


def npz(path: str, *, steps: bool | None = None) -> Split[ArraySet]:
    """Arrays of an .npz file: `x_train`, `y_train`, `x_test` and `y_test`, or `x` and `y` alone.

    Args:
        path: the file. Samples (N, …) are uint8 (0 … 255 stand for 0 … 1), bool (spikes) or real numbers, which the
            model gets as they are; labels (N,) are whole numbers from 0 on. Of `x` and `y` alone a fifth, drawn with a
            fixed seed, is the test set; it is the validation set, too.
        steps: whether axis 1 of the samples is time, (N, T, …). None: it is where they have five axes,
            (N, T, C, H, W).

    Raises:
        DatasetNotFound: no such file, or one whose arrays are not as above; the message says which.
    """
    arrays = read_npz(path)
    known = ("x_train", "y_train", "x_test", "y_test") if "x_train" in arrays else ("x", "y")
    if missing := [key for key in known if key not in arrays]:
        raise DatasetNotFound(
            f"{path} lacks the array {missing[0]} (it has {', '.join(sorted(arrays)) or 'none'}); save x_train,"
            " y_train, x_test and y_test, or x and y"
        )
    parts = [(arrays[x], arrays[y]) for x, y in zip(known[::2], known[1::2], strict=True)]
    return split_of(path, parts, steps=steps)


def read_npz(path: str | Path) -> dict[str, npt.NDArray[Any]]:
    """All arrays of an .npz file, by name; pickled ones are not loaded.

    Raises:
        DatasetNotFound: it cannot be read.
    """
    try:
        with np.load(path, allow_pickle=False) as file:
            if not isinstance(file, np.lib.npyio.NpzFile):
                raise DatasetNotFound(f"{path} holds one array and no names; save it with numpy.savez")
            return {key: file[key] for key in file.files}
    except FileNotFoundError:
        raise DatasetNotFound(f"{path} does not exist; give the path of an .npz file") from None
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
        raise DatasetNotFound(f"{path} cannot be read as .npz ({error}); save it anew with numpy.savez") from error


def split_of(
    where: str,
    parts: list[tuple[npt.NDArray[Any], npt.NDArray[Any]]],
    *,
    steps: bool | None = None,
    unit: int = 255,
) -> Split[ArraySet]:
    """(samples, labels) for training and for testing, or one pair of which a fifth is for testing, as a `Split`.

    Raises:
        DatasetNotFound: samples or labels of another kind, or not as many of the one as of the other.
    """
    tensors = [_checked(where, *part) for part in parts]
    classes = max(int(labels.max()) for _, labels in tensors) + 1
    shapes = {tuple(samples.shape[1:]) for samples, _ in tensors}
    if len(shapes) > 1:
        raise DatasetNotFound(
            f"{where}: samples have shapes {sorted(shapes)}; training and test samples need one shape"
        )
    spikes = parts[0][0].dtype == np.bool_
    with_steps = tensors[0][0].dim() == 5 if steps is None else steps
    sets = [ArraySet(x, y, classes, with_steps, 1 if spikes else unit) for x, y in tensors]
    train, test = sets if len(sets) == 2 else _halves(where, sets[0])
    return Split(train, test, test)


def _halves(where: str, whole: ArraySet) -> tuple[ArraySet, ArraySet]:
    count = round(TEST_FRACTION * len(whole))
    if not 0 < count < len(whole):
        raise DatasetNotFound(f"{where}: {len(whole)} samples are too few to keep a fifth apart; give at least 5")
    order = torch.randperm(len(whole), generator=torch.Generator().manual_seed(SEED))
    mixed = ArraySet(whole.samples[order], whole.labels[order], whole.classes, whole.has_steps, whole.unit)
    return mixed.subset(0, len(whole) - count), mixed.subset(len(whole) - count, len(whole))


def _checked(where: str, samples: npt.NDArray[Any], labels: npt.NDArray[Any]) -> tuple[Tensor, Tensor]:
    if labels.ndim != 1 or labels.dtype.kind not in "iu" or not labels.size or labels.min() < 0:
        raise DatasetNotFound(
            f"{where}: labels have shape {labels.shape} and type {labels.dtype}; give whole numbers (N,) from 0 on"
        )
    if samples.ndim < 2 or len(samples) != len(labels):
        raise DatasetNotFound(f"{where}: samples of shape {samples.shape} for {len(labels)} labels; give (N, …)")
    if samples.dtype in (np.uint8, np.bool_):
        return torch.from_numpy(samples.astype(np.uint8)), torch.from_numpy(labels.astype(np.int64))
    if samples.dtype.kind != "f" or not np.isfinite(samples).all():
        raise DatasetNotFound(
            f"{where}: samples have type {samples.dtype}, or hold NaN; give uint8 (0 … 255), bool (spikes) or finite"
            " reals"
        )
    return torch.from_numpy(samples.astype(np.float32)), torch.from_numpy(labels.astype(np.int64))
