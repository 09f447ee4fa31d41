"""Fashion-MNIST as a sensor with two polarities would see it: events where the image moves, as N-MNIST was recorded.

The image is shifted by a pixel a step along the three saccades of a triangle (Orchard et al., Frontiers in Neuroscience
2015, section 2.2). A pixel sends an ON event where it became brighter than before by more than a threshold, an OFF
event where it became darker.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from neuroprune.training.data.arrays import ArraySet
from neuroprune.training.data.base import Split
from neuroprune.training.data.fashion_mnist import fashion_mnist
from neuroprune.training.data.images import ImageSet

#: Directions (down, right) of the three saccades, one after the other.
SACCADES = ((1, 1), (-1, 1), (0, -2))


def saccades(
    steps: int = 6, *, threshold: float = 0.1, folder: str | None = None, samples: int | None = None
) -> Split[ArraySet]:
    """Fashion-MNIST's training, validation and test images as binary events (T, N, 2, 28, 28): ON, then OFF.

    Args:
        steps: T, shared out equally over the three saccades.
        threshold: change of brightness, in 0 … 1, above which a pixel sends an event.
        folder: where Fashion-MNIST's files are; None as for `fashion_mnist`.
        samples: of each part only so many (None: all; a step of all takes 0.1 GiB).

    Raises:
        DatasetNotFound: there is no Fashion-MNIST.
    """
    images = fashion_mnist(None if folder is None else Path(folder))
    train, validation, test = (
        part.subset(0, samples or len(part)) for part in (images.train, images.validation, images.test)
    )
    return Split(*(as_events(part, steps, threshold) for part in (train, validation, test)))


def as_events(images: ImageSet, steps: int = 6, threshold: float = 0.1) -> ArraySet:
    """Images of one channel as a set of binary events."""
    seen = saccade_events(images.images[:, 0].numpy(), steps, threshold)
    return ArraySet(torch.from_numpy(seen), images.labels, images.classes, has_steps=True, unit=1)


def saccade_events(images: npt.NDArray[np.uint8], steps: int, threshold: float) -> npt.NDArray[np.uint8]:
    """(N, T, 2, H, W) of images (N, H, W): e = [±(I(now) − I(before)) > threshold], I being 0 outside of the image."""
    found = np.zeros((len(images), steps, 2, *images.shape[1:]), np.uint8)
    limit, place = threshold * 255, np.zeros(2, int)
    before = images.astype(np.int16)
    for step in range(steps):
        place += SACCADES[step * len(SACCADES) // steps]
        now = _shifted(images, *place).astype(np.int16)
        found[:, step, 0] = now - before > limit
        found[:, step, 1] = before - now > limit
        before = now
    return found


def _shifted(images: npt.NDArray[np.uint8], down: int, right: int) -> npt.NDArray[np.uint8]:
    """The images moved, zeros coming in."""
    height, width = images.shape[1:]
    moved = np.zeros_like(images)
    into = slice(max(down, 0), height + min(down, 0)), slice(max(right, 0), width + min(right, 0))
    out_of = slice(max(-down, 0), height - max(down, 0)), slice(max(-right, 0), width - max(right, 0))
    moved[(slice(None), *into)] = images[(slice(None), *out_of)]
    return moved
