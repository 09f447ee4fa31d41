"""Callables that a recipe names, "package.module:callable": the user's own code, found and called.

Whoever runs a recipe, or a command on a run folder, executes what its factories name, as with any Python program.
"""

from __future__ import annotations

import importlib
import inspect
import sys
from collections.abc import Mapping
from typing import Any

from neuroprune.training.toml import InvalidRecipe


def built(name: str, key: str, factory: str, arguments: Mapping[str, Any], base: type = object) -> Any:
    """What a factory gives for some arguments.

    Only what is a function, or a class, of a module outside Python's standard library is called, however it got into
    the module that the recipe names: a recipe does not run `os.system` by the name of another module's import.

    Args:
        name: the recipe's, with which messages begin.
        key: where in the recipe it stands, such as model.factory.
        factory: "package.module:callable".
        arguments: its keyword arguments.
        base: what a class must derive from.

    Raises:
        InvalidRecipe: it is no such name, is part of Python itself, does not exist, is neither a function nor such a
            class, or fails.
    """
    module, _, attribute = factory.partition(":")
    if not module or not attribute:
        raise InvalidRecipe(f'{name}: {key} is {factory!r}, expected "package.module:callable"')
    _check_origin(name, key, factory, module)
    try:
        found = getattr(importlib.import_module(module), attribute)
    except Exception as error:  # whatever importing the user's own module raises is about the recipe
        raise InvalidRecipe(f"{name}: {key} {factory!r} cannot be built: {error}") from error
    is_function = not inspect.isclass(found) and inspect.isfunction(inspect.unwrap(found))
    if not (is_function or (inspect.isclass(found) and issubclass(found, base))):
        kind = "a class" if base is object else f"a class derived from {base.__module__}.{base.__qualname__}"
        given = f"the class {found.__qualname__}" if inspect.isclass(found) else f"a {type(found).__name__}"
        raise InvalidRecipe(f"{name}: {key} {factory!r} is {given}, expected a function of your own, or {kind}")
    _check_origin(name, key, factory, found.__module__)
    try:
        return found(**arguments)
    except Exception as error:  # whatever the user's own factory raises is about the recipe
        raise InvalidRecipe(f"{name}: {key} {factory!r} cannot be built: {error}") from error


def _check_origin(name: str, key: str, factory: str, module: str | None) -> None:
    if (module or "builtins").split(".")[0] in sys.stdlib_module_names:
        raise InvalidRecipe(
            f"{name}: {key} {factory!r} is part of Python's standard library, which builds neither models nor data;"
            " name a callable of your own"
        )
