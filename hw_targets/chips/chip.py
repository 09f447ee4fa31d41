"""Chip descriptions: limits, number formats and energies, each with its source. What nobody published is absent.

A chip is a TOML file: `name`, `description`, and a `[facts]` table of `key = { value = …, source = "…" }` whose keys
are the numeric fields of `Chip`. A new chip is one new file in the `facts/` of its family in `hw_targets/targets/`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from hw_targets.chips.facts import ENTRY_FORMAT, MESH, PER_CORE, REQUIRED, TIMES, UNITS, Fact, check_fact
from hw_targets.chips.target import Target
from hw_targets.errors import InvalidChip


@dataclass(frozen=True)
class Chip:
    """What a chip can hold and what it costs; None means that nobody published it (and nothing is assumed).

    Units are in `UNITS`, and `sources[key]` says where a number comes from.
    A core's synaptic memory stores, per input axon, entries of at most `entry_synapses` synapses behind a header of
    `entry_header_bits`; an index takes `index_bits_min` to `index_bits`, a skip `skip_bits_min` to `skip_bits`, a list
    of synapses ends with `list_tail_bits` and is rounded up to words of `word_bits`. `populations_per_core` is how many
    kinds of neuron a core can hold. Routers form a mesh of `mesh_columns` × `mesh_rows`, each with `cores_per_router`;
    the barrier that ends a time step takes as long as they are many. `target` is the family of chips whose neurons it
    has; without one its integers are not known, and only `fit` answers.

    Raises:
        InvalidChip: a number that is not above zero, not finite, or of the wrong type, or numbers that contradict each
            other (the message names the key).
    """

    name: str
    cores_per_chip: int
    neurons_per_core: int | None = None
    input_axons_per_core: int | None = None
    output_axons_per_core: int | None = None
    synaptic_bits_per_core: int | None = None
    core_memory_bits: int | None = None
    populations_per_core: int | None = None
    synapse_formats_per_core: int | None = None
    inputs_per_neuron: int | None = None
    synapses_out_per_neuron: int | None = None
    destinations_per_neuron: int | None = None
    input_neurons: int | None = None
    output_neurons: int | None = None
    hidden_neurons: int | None = None
    average_fan_out: int | None = None
    input_projection_neurons: int | None = None
    output_projection_neurons: int | None = None
    synaptic_states_per_neuron: int | None = None
    kernel_words_per_core: tuple[int, ...] | None = None
    neuron_words_per_core: tuple[int, ...] | None = None
    largest_system_chips: int | None = None
    mesh_columns: int | None = None
    mesh_rows: int | None = None
    cores_per_router: int | None = None
    word_bits: int | None = None
    weight_bits: int | None = None
    index_bits: int | None = None
    index_bits_min: int | None = None
    skip_bits: int | None = None
    skip_bits_min: int | None = None
    delay_bits: int | None = None
    entry_synapses: int | None = None
    entry_header_bits: int | None = None
    list_tail_bits: int | None = None
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
    synop_ns: float | None = None
    active_update_ns: float | None = None
    inactive_update_ns: float | None = None
    spike_in_tile_ns: float | None = None
    hop_east_west_ns: float | None = None
    hop_north_south_ns: float | None = None
    barrier_one_router_ns: float | None = None
    barrier_all_routers_ns: float | None = None
    description: str = ""
    target: Target | None = None
    sources: Mapping[str, str] = field(default_factory=dict, hash=False)

    def __post_init__(self) -> None:
        for key in UNITS:
            value = getattr(self, key)
            if value is not None or key in REQUIRED:
                check_fact(f"chip {self.name!r}", key, value)
        self._check_together(
            ENTRY_FORMAT, ENTRY_FORMAT[1:], "describe how synapses are stored", ", or weight_bits alone"
        )
        self._check_together(MESH, MESH, "describe the mesh of routers", "")
        self._check_together(TIMES, TIMES, "describe how long a time step takes", "")
        for narrow, wide in (("index_bits_min", "index_bits"), ("skip_bits_min", "skip_bits")):
            low, high = getattr(self, narrow), getattr(self, wide)
            if low is not None and (high is None or low > high):
                raise InvalidChip(f"chip {self.name!r}: {narrow} is {low}, above {wide} ({high}); swap or correct them")
        for key in PER_CORE:
            if (words := getattr(self, key)) is not None and len(words) != self.cores_per_chip:
                raise InvalidChip(
                    f"chip {self.name!r}: {key} has {len(words)} numbers for {self.cores_per_chip} cores; give one each"
                )
        self._check_mesh()

    def _check_together(self, keys: tuple[str, ...], mark: tuple[str, ...], what: str, instead: str) -> None:
        """Refuse a description of which some facts are given and others are absent."""
        given = [key for key in mark if getattr(self, key) is not None]
        missing = [key for key in keys if getattr(self, key) is None]
        if given and missing:
            raise InvalidChip(
                f"chip {self.name!r}: {given} {what}, but {missing} are absent; give all of {list(keys)}{instead}"
            )

    def _check_mesh(self) -> None:
        if self.mesh_columns is None or self.mesh_rows is None or self.cores_per_router is None:
            return
        places = self.mesh_columns * self.mesh_rows * self.cores_per_router
        if places < self.cores_per_chip:
            raise InvalidChip(
                f"chip {self.name!r}: cores_per_chip is {self.cores_per_chip}, but a mesh of {self.mesh_columns} ×"
                f" {self.mesh_rows} routers with {self.cores_per_router} cores each holds {places}; correct one of them"
            )

    def supported(self, call: str) -> Target:
        """The chip's target.

        Raises:
            InvalidChip: it has none, so that `call` has no answer.
        """
        if self.target is None:
            raise InvalidChip(
                f"{call}: {self.name} is known by its limits alone: its neurons are not described here, since no"
                " simulator of its vendor judges them; ask `fit` (hw_targets.fit.check_fit), or, if its neurons"
                ' are those of a known family, name that in its file (target = "...")'
            )
        return self.target

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


def parse_chip(table: dict[str, Any], where: str, targets: Mapping[str, Target]) -> Chip:
    """The chip that a parsed TOML document describes.

    Raises:
        InvalidChip: a schema error; the message begins with `where` and names the key.
    """
    _check_keys(f"chip file {where!r}", table, ("name", "description", "target", "facts"), ("name", "facts"))
    for key in ("name", "description"):
        if not isinstance(table.get(key, ""), str) or table.get(key) == "":
            raise InvalidChip(f"chip file {where!r}: {key} must be text, but is {table[key]!r}")
    target = table.get("target")
    if target is not None and (not isinstance(target, str) or target not in targets):
        raise InvalidChip(
            f"chip file {where!r}: target is {target!r}, known are {', '.join(targets)}; leave it out for a chip that"
            " is known by its limits alone"
        )
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
        check_fact(f"chip file {where!r}", f"facts.{key}", fact["value"])
        if not isinstance(fact["source"], str) or not fact["source"].strip():
            raise InvalidChip(f"{here}: source is {fact['source']!r}; say where the number was published")
        value = fact["value"]
        values[key] = tuple(value) if key in PER_CORE else value
        sources[key] = fact["source"]
    found = None if target is None else targets[target]
    return Chip(name=table["name"], description=table.get("description", ""), target=found, sources=sources, **values)


def _check_keys(where: str, table: Mapping[str, Any], known: tuple[str, ...], required: tuple[str, ...]) -> None:
    """Refuse unknown and missing keys."""
    if extra := sorted(set(table) - set(known)):
        raise InvalidChip(f"{where}: unknown key {', '.join(extra)}; known are {', '.join(known)}")
    if missing := [key for key in required if key not in table]:
        raise InvalidChip(f"{where}: required key {', '.join(missing)} is missing; add it")
