"""A data set of one's own: what a recipe's `[data] factory` gives, checked before anything is trained."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from neuroprune.training.data.base import DataSet, Split
from neuroprune.training.factories import built
from neuroprune.training.toml import InvalidRecipe

#: What `DataSet` asks for.
REQUIRED = (
    *("__len__", "sample_shape", "classes", "in_unit_range"),
    *("as_input", "subset", "pixels", "batches", "training_batches"),
)


def own_data(name: str, factory: str, arguments: Mapping[str, Any]) -> Split[DataSet]:
    """What "package.module:callable" gives for some arguments: a `Split`, or (training, test) data sets.

    The callable is the user's own code, and is executed. Of two sets the test set is the validation set, too.

    Raises:
        InvalidRecipe: there is no such callable, it fails, or what it gives lacks something a data set must have; the
            message begins with `name` and says what.
    """
    found = built(name, "data.factory", factory, arguments)
    parts = (found.train, found.validation, found.test) if isinstance(found, Split) else found
    if not isinstance(parts, (tuple, list)) or len(parts) not in (2, 3):
        raise InvalidRecipe(
            f"{name}: data.factory {factory!r} gives a {type(found).__name__}, expected a Split, or a pair of data sets"
            " (training, test)"
        )
    for part in parts:
        if missing := [key for key in REQUIRED if not hasattr(part, key)]:
            raise InvalidRecipe(
                f"{name}: data.factory {factory!r} gives a {type(part).__name__} without {', '.join(missing)};"
                " neuroprune.training.data.DataSet says what each is"
            )
    return Split(parts[0], parts[1], parts[-1])
