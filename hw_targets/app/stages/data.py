"""The samples of a run: those it trains on, and those a chip is shown."""

from __future__ import annotations

from typing import Any

import numpy as np
from torch import Tensor

from neuroprune.training.data.base import DataSet, Split
from neuroprune.training.data.fashion_mnist import fashion_mnist
from neuroprune.training.data.image_folder import image_folder
from neuroprune.training.data.own import own_data
from neuroprune.training.recipe import InvalidRecipe, Recipe

#: Training images that `quantize` calibrates on.
CALIBRATION_IMAGES = 100


def load_data(recipe: Recipe) -> Split[DataSet]:
    """The recipe's samples, bounded by its limits (`test_limit` of a folder or factory is its validation's, too).

    Raises:
        DatasetNotFound: there are none, or their folder is not laid out as it must be.
        InvalidRecipe: the recipe's own data set is none; the message says what it lacks.
    """
    if recipe.data_factory is not None:
        own = own_data(recipe.name, recipe.data_factory, recipe.data_arguments)
        limit = recipe.test_limit
        validation, test = (part.subset(0, limit or len(part)) for part in (own.validation, own.test))
        return Split[DataSet](own.train.subset(0, recipe.train_limit or len(own.train)), validation, test)
    if recipe.folder is None:
        data = fashion_mnist()
        train_set = data.train.subset(0, recipe.train_limit or len(data.train))
        return Split[DataSet](train_set, data.validation, data.test.subset(0, recipe.test_limit or len(data.test)))
    found = image_folder(recipe.folder)
    test = found.test.subset(0, recipe.test_limit or len(found.test))
    return Split[DataSet](found.train.subset(0, recipe.train_limit or len(found.train)), test, test)


def chip_images(recipe: Recipe) -> DataSet:
    """The recipe's test images, for a chip.

    Raises:
        InvalidRecipe: as `chip_data`.
    """
    return chip_data(recipe).test


def chip_data(recipe: Recipe) -> Split[DataSet]:
    """The recipe's samples, for a chip.

    Raises:
        InvalidRecipe: the model was trained on normalised images, which a chip does not take.
    """
    data = load_data(recipe)
    check_unit_range(recipe, data.test)
    return data


def check_unit_range(recipe: Recipe, images: DataSet) -> None:
    """Refuse images that a chip does not take.

    Raises:
        InvalidRecipe: they are normalised.
    """
    if not images.in_unit_range:
        raise InvalidRecipe(
            f"{recipe.name}: a chip takes inputs of 0 … 1, but this model was trained on normalised ones; train it with"
            " data.normalize = false"
        )


def calibration_images(data: Split[DataSet]) -> Tensor:
    """Some training images, always the same and of mixed classes, as `quantize` takes them."""
    count = min(CALIBRATION_IMAGES, len(data.train))
    images, _ = next(data.train.training_batches(count, 1, 0))
    return network_input(data.train, images)


def network_input(data: DataSet, samples: Tensor) -> Tensor:
    """Samples of a set as `emulate` and `quantize` take them: (N, *shape), or (T, N, *shape) where they have steps.

    It is what the model takes, too; inputs of 0 … 1 are rounded to the chip's integers there.
    """
    return data.as_input(samples)


def first_samples(data: DataSet, count: int) -> Tensor:
    """The first `count` samples of a set, as `network_input`."""
    return network_input(data, data.pixels(count))


def lava_images(data: DataSet, samples: int) -> np.ndarray[Any, np.dtype[np.float32]]:
    """The first `samples` samples, as `compare_with_lava` takes them."""
    images: np.ndarray[Any, np.dtype[np.float32]] = first_samples(data, samples).numpy()
    return images
