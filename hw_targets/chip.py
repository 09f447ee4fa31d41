"""Chip descriptions: limits, number formats and energies, each with its source. What nobody published is absent.

A chip is a TOML file: `name`, `description`, and a `[facts]` table of `key = { value = …, source = "…" }` whose keys
are the numeric fields of `Chip`. A new chip is one new file in `hw_targets/chips/`; nothing else changes.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib import resources
from math import isfinite
from pathlib import Path
from typing import Any, NamedTuple

from hw_targets.errors import InvalidChip

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

UNITS: Mapping[str, str] = {
    "cores_per_chip": "cores",
    "neurons_per_core": "neurons",
    "input_axons_per_core": "axons",
    "output_axons_per_core": "axons",
    "synaptic_bits_per_core": "bits",
    "word_bits": "bits",
    "weight_bits": "bits",
    "index_bits": "bits",
    "entry_synapses": "synapses",
    "entry_header_bits": "bits",
    "threshold_mantissa_bits": "bits",
    "bias_mantissa_bits": "bits, signed",
    "decay_bits": "bits",
    "state_bits": "bits, signed",
    "max_delay": "steps",
    "synop_pj": "pJ",
    "active_update_pj": "pJ",
    "inactive_update_pj": "pJ",
    "spike_in_tile_pj": "pJ",
    "hop_east_west_pj": "pJ",
    "hop_north_south_pj": "pJ",
}
"""Unit of every fact a chip may state; those in pJ are real numbers, the others whole numbers, all above zero."""
REQUIRED = ("cores_per_chip", "neurons_per_core")
ENTRY_FORMAT = ("weight_bits", "index_bits", "entry_synapses", "entry_header_bits")


class Fact(NamedTuple):
    """One published number of a chip; `source` is empty for a chip built by hand."""

    key: str
    value: float
    unit: str
    source: str


@dataclass(frozen=True)
class Chip:
    """What a chip can hold and what it costs; None means that nobody published it (and nothing is assumed).

    Units are in `UNITS`, and `sources[key]` says where a number comes from.
    A core's synaptic memory stores, per input axon, entries of at most `entry_synapses` synapses behind a header of
    `entry_header_bits`; an index takes `index_bits`, a list of synapses is rounded up to words of `word_bits`.

    Raises:
        InvalidChip: a number that is not above zero, not finite, or of the wrong type (the message names the key).
    """

    name: str
    cores_per_chip: int
    neurons_per_core: int
    input_axons_per_core: int | None = None
    output_axons_per_core: int | None = None
    synaptic_bits_per_core: int | None = None
    word_bits: int | None = None
    weight_bits: int | None = None
    index_bits: int | None = None
    entry_synapses: int | None = None
    entry_header_bits: int | None = None
    threshold_mantissa_bits: int | None = None
    bias_mantissa_bits: int | None = None
    decay_bits: int | None = None
    state_bits: int | None = None
    max_delay: int | None = None
    synop_pj: float | None = None
    active_update_pj: float | None = None
    inactive_update_pj: float | None = None
    spike_in_tile_pj: float | None = None
    hop_east_west_pj: float | None = None
    hop_north_south_pj: float | None = None
    description: str = ""
    sources: Mapping[str, str] = field(default_factory=dict, hash=False)

    def __post_init__(self) -> None:
        for key in UNITS:
            value = getattr(self, key)
            if value is not None or key in REQUIRED:
                _check_number(f"chip {self.name!r}", key, value)
        given = [key for key in ENTRY_FORMAT[1:] if getattr(self, key) is not None]
        missing = [key for key in ENTRY_FORMAT if getattr(self, key) is None]
        if given and missing:
            raise InvalidChip(
                f"chip {self.name!r}: {given} describe how synapses are stored, but {missing} are absent;"
                f" give all of {list(ENTRY_FORMAT)}, or weight_bits alone"
            )

    @property
    def knows_entry_format(self) -> bool:
        """Whether the cost of a list of synapses is published, so that memory use is exact."""
        return all(getattr(self, key) is not None for key in ENTRY_FORMAT)

    @property
    def facts(self) -> tuple[Fact, ...]:
        """Every published number with unit and source, in the order of `UNITS`."""
        known = [(key, getattr(self, key), unit) for key, unit in UNITS.items()]
        return tuple(Fact(k, v, unit, self.sources.get(k, "")) for k, v, unit in known if v is not None)

    @property
    def unknown(self) -> tuple[str, ...]:
        """Keys of the facts nobody published."""
        return tuple(key for key in UNITS if getattr(self, key) is None)


def available_chips() -> tuple[str, ...]:
    """Names `load_chip` knows, sorted."""
    folder = resources.files("hw_targets").joinpath("chips")
    names = (entry.name for entry in folder.iterdir())
    return tuple(sorted(name.removesuffix(".toml") for name in names if name.endswith(".toml")))


def load_chip(name_or_path: str | os.PathLike[str]) -> Chip:
    """A built-in chip by name, or one described by a `.toml` file.

    Raises:
        InvalidChip: an unknown name or missing file, text that is not TOML, or a schema error (the key is named).
    """
    given = os.fspath(name_or_path)
    try:
        if given in available_chips():
            text = resources.files("hw_targets").joinpath("chips", f"{given}.toml").read_text(encoding="utf-8")
        elif given.endswith(".toml"):
            text = Path(given).read_text(encoding="utf-8")
        else:
            known = ", ".join(available_chips())
            raise InvalidChip(f"unknown chip {given!r}: known are {known}; or give a path that ends in .toml")
        table = tomllib.loads(text)
    except OSError as error:
        raise InvalidChip(f"chip file {given!r} cannot be read: {error.strerror}; check the path") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise InvalidChip(f"chip file {given!r} is not TOML: {error}") from error
    return _parse(table, given)


def _parse(table: dict[str, Any], where: str) -> Chip:
    """The chip a parsed TOML document describes."""
    _check_keys(f"chip file {where!r}", table, ("name", "description", "facts"), ("name", "facts"))
    for key in ("name", "description"):
        if not isinstance(table.get(key, ""), str) or table.get(key) == "":
            raise InvalidChip(f"chip file {where!r}: {key} must be text, but is {table[key]!r}")
    facts = table["facts"]
    if not isinstance(facts, dict):
        raise InvalidChip(f"chip file {where!r}: facts must be a table, but is {facts!r}; write [facts]")
    _check_keys(f"chip file {where!r}, facts", facts, tuple(UNITS), REQUIRED)
    values: dict[str, Any] = {}
    sources: dict[str, str] = {}
    for key, fact in facts.items():
        here = f"chip file {where!r}, facts.{key}"
        if not isinstance(fact, dict):
            raise InvalidChip(f'{here}: is {fact!r}; write {key} = {{ value = …, source = "…" }}')
        _check_keys(here, fact, ("value", "source"), ("value", "source"))
        _check_number(f"chip file {where!r}", f"facts.{key}", fact["value"], is_real=key.endswith("_pj"))
        if not isinstance(fact["source"], str) or not fact["source"].strip():
            raise InvalidChip(f"{here}: source is {fact['source']!r}; say where the number was published")
        values[key], sources[key] = fact["value"], fact["source"]
    return Chip(name=table["name"], description=table.get("description", ""), sources=sources, **values)


def _check_keys(where: str, table: Mapping[str, Any], known: tuple[str, ...], required: tuple[str, ...]) -> None:
    """Refuse unknown and missing keys."""
    if extra := sorted(set(table) - set(known)):
        raise InvalidChip(f"{where}: unknown key {', '.join(extra)}; known are {', '.join(known)}")
    if missing := [key for key in required if key not in table]:
        raise InvalidChip(f"{where}: required key {', '.join(missing)} is missing; add it")


def _check_number(where: str, key: str, value: object, *, is_real: bool | None = None) -> None:
    """Refuse what is not a number above zero; whole unless the key is an energy."""
    is_real = key.endswith("_pj") if is_real is None else is_real
    kind = "a number" if is_real else "a whole number"
    accepted = (int, float) if is_real else (int,)
    if isinstance(value, bool) or not isinstance(value, accepted) or not isfinite(value) or value <= 0:
        raise InvalidChip(
            f"{where}: {key} is {value!r}, but must be {kind} above 0; leave it out if it is not published"
            if key.removeprefix("facts.") not in REQUIRED
            else f"{where}: {key} is {value!r}, but must be {kind} above 0"
        )
