"""Reading and writing recipes as TOML: keys checked, and changed from the command line."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib


class InvalidRecipe(ValueError):
    """A recipe with a missing, unknown or ill-typed key; the message names it."""


def read_toml(path: str | Path, changes: Sequence[str] = ()) -> dict[str, Any]:
    """A file's content, with "table.key=value" changes applied.

    Raises:
        InvalidRecipe: no such file, no TOML, or no such change.
    """
    try:
        content: dict[str, Any] = tomllib.loads(Path(path).read_text())
    except OSError as error:
        raise InvalidRecipe(f"{path} cannot be read: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise InvalidRecipe(f"{path} is not valid TOML: {error}") from error
    for change in changes:
        _apply(content, change)
    return content


def check_keys(
    path: str | Path,
    prefix: str,
    table: Mapping[str, Any],
    known: Mapping[str, Any],
    required: frozenset[str] | set[str] = frozenset(),
) -> None:
    """Refuse keys of a table that are missing, unknown or of the wrong type.

    Raises:
        InvalidRecipe: the message names the key.
    """
    for key in sorted(required - set(table)):
        raise InvalidRecipe(f"{path}: the key {prefix}{key} is missing")
    for key, value in table.items():
        if key not in known:
            raise InvalidRecipe(f"{path}: unknown key {prefix}{key}; known are {sorted(known)}")
        if not isinstance(value, known[key]) or (isinstance(value, bool) and known[key] is not bool):
            raise InvalidRecipe(f"{path}: {prefix}{key} has the wrong type: {value!r}")


def field_types(kind: Any) -> dict[str, Any]:
    """What a dataclass's fields may be in TOML: whole numbers also stand for real ones."""
    known = {"int": int, "float": (int, float), "str": str, "bool": bool}
    return {f.name: known[str(f.type).removesuffix(" | None")] for f in dataclasses.fields(kind)}


def to_toml(value: object) -> str:
    """A value as TOML writes it."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(to_toml(v) for v in value) + "]"
    if isinstance(value, str):
        return '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'
    return repr(value)


def _apply(content: dict[str, Any], change: str) -> None:
    """Put one "table.key=value" into a recipe's content."""
    where, sign, text = change.partition("=")
    *tables, key = (part.strip() for part in where.split("."))
    if not sign or not key or not all(tables):
        raise InvalidRecipe(f"a change must read table.key=value, as in training.epochs=1, got {change!r}")
    try:
        value = tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        value = text.strip()
    for table in tables:
        content = content.setdefault(table, {})
        if not isinstance(content, dict):
            raise InvalidRecipe(f"{change!r}: {table} is no table of the recipe")
    content[key] = value
