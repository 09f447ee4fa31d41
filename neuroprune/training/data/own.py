"""A data set of one's own: what a recipe's `[data] factory` gives, checked before anything is trained."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from neuroprune.training.data.base import DataSet, Split
from neuroprune.training.factories import built
from neuroprune.training.toml import InvalidRecipe

#: Data sets of this package, by the short name that `[data] factory` may have; each is one file here and one line.
NAMED: Mapping[str, str] = {
    "arrays": "neuroprune.training.data.arrays:npz",
    "events": "neuroprune.training.data.events:events",
    "saccades": "neuroprune.training.data.saccades:saccades",
    "signals": "neuroprune.training.data.signals:signals",
    "tonic": "neuroprune.training.data.events:tonic",
}
#: Their arguments that are paths.
PATHS = ("path", "train", "test", "folder")
#: What `DataSet` asks for.
REQUIRED = (
    *("__len__", "sample_shape", "classes", "in_unit_range"),
    *("as_input", "subset", "pixels", "batches", "training_batches"),
)


def own_data(name: str, factory: str, arguments: Mapping[str, Any]) -> Split[DataSet]:
    """What a name of `NAMED`, or "package.module:callable", gives: a `Split`, or (training, test) data sets.

    A callable of that form is the user's own code, and is executed. Of two sets the test set is the
    validation set, too.

    Raises:
        InvalidRecipe: there is no such callable, it fails, or what it gives lacks something a data set must have; the
            message begins with `name` and says what.
    """
    found = built(name, "data.factory", NAMED.get(factory, factory), arguments)
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


def with_absolute_paths(factory: str, arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Arguments of one of `NAMED`, its paths made absolute: a run folder's copy of the recipe is read from anywhere."""
    if factory not in NAMED:
        return dict(arguments)
    return {
        key: str(Path(value).expanduser().absolute()) if key in PATHS and isinstance(value, str) else value
        for key, value in arguments.items()
    }
