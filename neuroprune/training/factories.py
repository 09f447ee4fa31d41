"""Callables that a recipe names, "package.module:callable": the user's own code, found and called.

Whoever runs a recipe, or a command on a run folder, executes what its factories name, as with any Python program.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Mapping
from typing import Any

from neuroprune.training.toml import InvalidRecipe


def built(name: str, key: str, factory: str, arguments: Mapping[str, Any]) -> Any:
    """What a factory gives for some arguments.

    Args:
        name: the recipe's, with which messages begin.
        key: where in the recipe it stands, such as model.factory.
        factory: "package.module:callable".
        arguments: its keyword arguments.

    Raises:
        InvalidRecipe: it is no such name, is part of Python itself, does not exist, or fails.
    """
    module, _, attribute = factory.partition(":")
    if not module or not attribute:
        raise InvalidRecipe(f'{name}: {key} is {factory!r}, expected "package.module:callable"')
    if module.split(".")[0] in sys.stdlib_module_names:
        raise InvalidRecipe(
            f"{name}: {key} {factory!r} is part of Python's standard library, which builds neither models nor data;"
            " name a callable of your own"
        )
    try:
        return getattr(importlib.import_module(module), attribute)(**arguments)
    except Exception as error:  # whatever the user's own factory raises is about the recipe
        raise InvalidRecipe(f"{name}: {key} {factory!r} cannot be built: {error}") from error
