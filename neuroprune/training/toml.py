"""Reading and writing recipes as TOML: keys checked, and changed from the command line."""

from __future__ import annotations

import dataclasses
import datetime
import math
import re
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib


#: Keys that need no quotes, and the characters that TOML never has as they are in a string, by name (TOML 1.0.0).
_BARE = re.compile(r"[A-Za-z0-9_-]+")
_ESCAPES = {"\b": r"\b", "\t": r"\t", "\n": r"\n", "\f": r"\f", "\r": r"\r", '"': r"\"", "\\": r"\\"}
#: Bits of a whole number; TOML promises 64, Python reads more in base 16 than it writes in base 10.
LONGEST_NUMBER = 4096


class InvalidRecipe(ValueError):
    """A recipe with a missing, unknown or ill-typed key; the message names it."""


def read_toml(path: str | Path, changes: Sequence[str] = ()) -> dict[str, Any]:
    """A file's content, with "table.key=value" changes applied.

    Raises:
        InvalidRecipe: no such file, no TOML, or no such change.
    """
    try:
        content = _parsed(Path(path).read_bytes().decode("utf-8"))
    except OSError as error:
        raise InvalidRecipe(f"{path} cannot be read: {error.strerror}") from error
    except ValueError as error:
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


def document(tables: Sequence[tuple[str, Mapping[str, Any]]]) -> str:
    """A TOML document of tables, each with its name and its keys; of the table without a name, which comes first, too.

    What reads back otherwise than it was is refused, so that nothing is saved that is not the same run.

    Raises:
        InvalidRecipe: a value that TOML does not have.
    """
    lines: list[str] = []
    wanted: dict[str, Any] = {}
    for name, values in tables:
        lines += ["", f"[{name}]"] if name else []
        lines += [_line(name, key, value) for key, value in values.items()]
        _table(wanted, name.split(".") if name else []).update(values)
    text = "\n".join(lines) + "\n"
    try:
        same = _same(_parsed(text), wanted)
    except (ValueError, RecursionError) as error:
        raise InvalidRecipe(f"the recipe's values cannot be saved as TOML: {error}; give other ones") from error
    if not same:
        raise InvalidRecipe(
            "the recipe's values read back otherwise than they were once saved as TOML; give other ones"
        )
    return text


def to_toml(value: object) -> str:
    """A value as TOML 1.0.0 writes it: a table as an inline one, a tuple as an array.

    Raises:
        InvalidRecipe: TOML has no such value.
    """
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(to_toml(v) for v in value) + "]"
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{_key(key)} = {to_toml(v)}" for key, v in value.items()) + "}"
    if isinstance(value, str):
        return _quoted(value)
    if type(value) in (int, float):
        return repr(value)
    if isinstance(value, (datetime.datetime, datetime.date, datetime.time)):
        return value.isoformat()
    raise InvalidRecipe(f"TOML has no {type(value).__name__}; give a number, a text, a date, a list or a table of them")


def _line(table: str, key: object, value: object) -> str:
    """`key = value`; a refusal names the key."""
    try:
        return f"{_key(key)} = {to_toml(value)}"
    except (ValueError, RecursionError) as error:  # of nesting, or of a number's digits, which Python limits
        raise InvalidRecipe(f"{'.'.join(filter(None, (table, str(key))))} cannot be saved: {error}") from error


def _key(key: object) -> str:
    if not isinstance(key, str):
        raise InvalidRecipe(f"keys are text in TOML, got {key!r}")
    return key if _BARE.fullmatch(key) else _quoted(key)


def _quoted(text: str) -> str:
    """A basic string: control characters escaped."""
    if any(0xD800 <= ord(character) < 0xE000 for character in text):
        raise InvalidRecipe(f"the text {text!r} holds half a character, which no file in UTF-8 can; spell it whole")
    escaped = (_ESCAPES.get(c) or (f"\\u{ord(c):04X}" if ord(c) < 0x20 or ord(c) == 0x7F else c) for c in text)
    return f'"{"".join(escaped)}"'


def _parsed(text: str) -> dict[str, Any]:
    """TOML's content.

    Raises:
        ValueError: it is none, is nested too deeply, or has a number of more digits than Python reads.
    """
    try:
        content = tomllib.loads(text)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    if _longest(content) > LONGEST_NUMBER:
        raise ValueError(f"it has a whole number of more than {LONGEST_NUMBER} bits")
    return content


def _longest(content: Any) -> int:
    """Bits of the longest whole number."""
    if isinstance(content, Mapping):
        content = list(content.values())
    if isinstance(content, list):
        return max(map(_longest, content), default=0)
    return content.bit_length() if isinstance(content, int) else 0


def _same(a: Any, b: Any) -> bool:
    """Equality of values, of their types, too (1, 1.0 and true differ), NaN equal to itself, tuples equal to lists."""
    if isinstance(a, Mapping) and isinstance(b, Mapping):
        return a.keys() == b.keys() and all(_same(a[key], b[key]) for key in a)
    if isinstance(a, (list, tuple)) and isinstance(b, (list, tuple)):
        return len(a) == len(b) and all(map(_same, a, b))
    if isinstance(a, float) and isinstance(b, float):
        return (math.isnan(a) and math.isnan(b)) or (a == b and math.copysign(1, a) == math.copysign(1, b))
    return type(a) is type(b) and repr(a) == repr(b)  # instants of other time zones are equal, too


def _table(content: dict[str, Any], names: Sequence[str]) -> dict[str, Any]:
    for name in names:
        content = content.setdefault(name, {})
    return content


def _apply(content: dict[str, Any], change: str) -> None:
    """Put one "table.key=value" into a recipe's content."""
    where, sign, text = change.partition("=")
    try:
        tables = _path(_parsed(f"{where} = 0")) if sign and "\n" not in where else []
    except ValueError:
        tables = []
    if not tables:
        raise InvalidRecipe(f"a change must read table.key=value, as in training.epochs=1, got {change!r}")
    *tables, key = tables
    for table in tables:
        content = content.setdefault(table, {})
        if not isinstance(content, dict):
            raise InvalidRecipe(f"{change!r}: {table} is no table of the recipe")
    content[key] = value_of(text)


def value_of(text: str) -> Any:
    """A value as TOML writes it; anything else is a text without its quotes."""
    try:
        values = _parsed(f"value = {text}")
    except ValueError:
        values = {}
    return values["value"] if values.keys() == {"value"} else text.strip()


def _path(content: Any) -> list[str]:
    """The keys that lead to a document's one value."""
    keys = []
    while isinstance(content, dict):
        ((key, content),) = content.items()
        keys.append(key)
    return keys
