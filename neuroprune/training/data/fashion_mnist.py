"""Fashion-MNIST (Xiao et al., 2017, arXiv 1708.07747): 60 000 + 10 000 grey images of 28×28 in 10 classes."""

from __future__ import annotations

import gzip
import struct
import zlib
from pathlib import Path

import numpy as np
import torch

from neuroprune.training.data.base import DatasetNotFound, Split
from neuroprune.training.data.images import ImageSet

#: Where Debian's package `dataset-fashion-mnist` puts the files.
DEBIAN_FOLDER = Path("/usr/share/datasets/fashion-mnist")
CACHE_FOLDER = Path.home() / ".cache" / "neuroprune"
_FILES = {"train": "train", "test": "t10k"}


def fashion_mnist(folder: Path | None = None, *, validation: int = 5000) -> Split[ImageSet]:
    """Load Fashion-MNIST from `folder`, from Debian's package, or through torchvision's download.

    Raises:
        DatasetNotFound: none of these has it; the message names the ways to get it.
    """
    if folder is None:
        folder = DEBIAN_FOLDER if DEBIAN_FOLDER.is_dir() else _download()
    train, test = (_read(folder, name) for name in ("train", "test"))
    cut = len(train) - validation
    return Split(train.subset(0, cut), train.subset(cut, len(train)), test)


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
    values = np.frombuffer(content, np.uint8, offset=min(header, len(content)))
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
