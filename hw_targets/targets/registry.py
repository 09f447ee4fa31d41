"""Every target, and the chips that each describes; a new family is one folder here and one line in `TARGETS`."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING

from hw_targets.chips.chip import Chip, parse_chip
from hw_targets.chips.target import Target
from hw_targets.errors import InvalidChip
from hw_targets.targets.dynapcnn.target import DYNAPCNN
from hw_targets.targets.loihi.target import LOIHI
from hw_targets.targets.xylo.target import XYLO

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

if TYPE_CHECKING:
    from importlib.resources.abc import Traversable

#: Families of chips with dynamics, by the name that chip files call them.
TARGETS: Mapping[str, Target] = {LOIHI.name: LOIHI, XYLO.name: XYLO, DYNAPCNN.name: DYNAPCNN}
#: What chips were called before there were several of their kind.
FORMER_NAMES = {"xylo": "xylo-audio2"}
#: Folders of this package that hold `facts/*.toml`.
FAMILIES = (*TARGETS, "limits_only")


def available_chips() -> tuple[str, ...]:
    """Names `load_chip` knows, sorted."""
    return tuple(sorted(_files()))


def load_chip(name_or_path: str | os.PathLike[str]) -> Chip:
    """A built-in chip by name, or one described by a `.toml` file.

    Raises:
        InvalidChip: what is neither, an unknown name or missing file, text that is not TOML, or a schema error (the key
            is named).
    """
    given = name_or_path if isinstance(name_or_path, str) else _path(name_or_path)
    try:
        if (name := FORMER_NAMES.get(given, given)) in (known := _files()):
            text = known[name].read_text(encoding="utf-8")
        elif given.endswith(".toml"):
            text = Path(given).read_text(encoding="utf-8")
        else:
            names = ", ".join(available_chips())
            raise InvalidChip(f"unknown chip {given!r}: known are {names}; or give a path that ends in .toml")
        return parse_chip(tomllib.loads(text), given, TARGETS)
    except OSError as error:
        raise InvalidChip(f"chip file {given!r} cannot be read: {error.strerror}; check the path") from error
    except RecursionError:
        raise InvalidChip(f"chip file {given!r} is not TOML that can be read: it is nested too deeply") from None
    except InvalidChip:
        raise
    except ValueError as error:  # no TOML, no UTF-8, or a number of more digits than Python reads or names
        raise InvalidChip(f"chip file {given!r} is not TOML: {error}") from error


def _path(given: object) -> str:
    """Of a path object."""
    if isinstance(given, os.PathLike) and isinstance(path := os.fspath(given), str):
        return path
    raise InvalidChip(
        f"load_chip: got a {type(given).__name__}, expected a chip's name, such as 'loihi1', or the path of a chip file"
        " that ends in .toml"
    )


def _files() -> dict[str, Traversable]:
    """The built-in chip files by name."""
    found: dict[str, Traversable] = {}
    for family in FAMILIES:
        folder = resources.files("hw_targets").joinpath("targets", family, "facts")
        found |= {f.name.removesuffix(".toml"): f for f in folder.iterdir() if f.name.endswith(".toml")}
    return found
