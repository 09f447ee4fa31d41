"""What may be stated of a chip: the keys, units and kinds of its facts."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import groupby
from typing import NamedTuple

from hw_targets.errors import InvalidChip

UNITS: Mapping[str, str] = {
    "cores_per_chip": "cores",
    "neurons_per_core": "neurons",
    "input_axons_per_core": "axons",
    "output_axons_per_core": "axons",
    "synaptic_bits_per_core": "bits",
    "core_memory_bits": "bits, of neurons and synapses together",
    "populations_per_core": "populations",
    "synapse_formats_per_core": "formats",
    "inputs_per_neuron": "synapses",
    "synapses_out_per_neuron": "synapses",
    "destinations_per_neuron": "cores",
    "input_neurons": "neurons",
    "output_neurons": "neurons",
    "hidden_neurons": "neurons",
    "average_fan_out": "synapses of a hidden neuron, averaged over all that the chip has",
    "input_projection_neurons": "hidden neurons that may hear inputs",
    "output_projection_neurons": "hidden neurons that outputs may hear",
    "synaptic_states_per_neuron": "states",
    "kernel_words_per_core": "words, one number per core",
    "neuron_words_per_core": "words, one number per core",
    "largest_system_chips": "chips",
    "mesh_columns": "routers of a chip",
    "mesh_rows": "routers of a chip",
    "cores_per_router": "cores",
    "word_bits": "bits",
    "weight_bits": "bits",
    "index_bits": "bits",
    "index_bits_min": "bits",
    "skip_bits": "bits",
    "skip_bits_min": "bits",
    "delay_bits": "bits",
    "entry_synapses": "synapses",
    "entry_header_bits": "bits",
    "list_tail_bits": "bits",
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
    "synop_ns": "ns",
    "active_update_ns": "ns",
    "inactive_update_ns": "ns",
    "spike_in_tile_ns": "ns",
    "hop_east_west_ns": "ns",
    "hop_north_south_ns": "ns",
    "barrier_one_router_ns": "ns",
    "barrier_all_routers_ns": "ns",
}
"""Unit of every fact a chip may state; those in pJ and ns are real numbers, the others whole ones, all above zero."""
LIMITS = (*tuple(UNITS)[: tuple(UNITS).index("mesh_columns")], "max_delay")
"""Facts that a network may exceed. The others say how synapses are stored, how wide integers are, where cores lie, and
what things cost."""
REQUIRED = ("cores_per_chip",)
PER_CORE = ("kernel_words_per_core", "neuron_words_per_core")
"""Facts that are one number for each core of a chip, as its cores differ."""
MESH = ("mesh_columns", "mesh_rows", "cores_per_router")
TIMES = tuple(key for key, unit in UNITS.items() if unit == "ns")
"""What a time step is made of, known as a whole or not at all."""
ENTRY_FORMAT = ("weight_bits", "index_bits", "entry_synapses", "entry_header_bits")


LARGEST = 1 << 62
"""No fact of a chip is larger, though a file may spell longer numbers."""


class Fact(NamedTuple):
    """One published number of a chip; `source` is empty for a chip built by hand."""

    key: str
    value: float | tuple[int, ...]
    unit: str
    source: str

    @property
    def text(self) -> str:
        """The value as one prints it: 1,024, or 16,384 × 3, 32,768 × 2 for one number per core."""
        if not isinstance(self.value, tuple):
            return f"{self.value:,}"
        runs = [(value, len(list(same))) for value, same in groupby(self.value)]
        return ", ".join(f"{value:,} × {count}" for value, count in runs)


def check_fact(where: str, key: str, value: object) -> None:
    """Refuse what is not a number above zero (whole unless it is an energy or a time), or a list where one is due.

    Raises:
        InvalidChip: the message begins with `where` and names the key.
    """
    if key.removeprefix("facts.") in PER_CORE:
        if not isinstance(value, (list, tuple)) or not value:
            raise InvalidChip(f"{where}: {key} is {value!r}, but must be a list of whole numbers, one for each core")
        for word in value:
            _check_number(where, key, word)
    else:
        _check_number(where, key, value)


def _check_number(where: str, key: str, value: object) -> None:
    is_real = key.endswith(("_pj", "_ns"))
    kind = "a number" if is_real else "a whole number"
    accepted = (int, float) if is_real else (int,)
    if isinstance(value, bool) or not isinstance(value, accepted) or not 0 < value <= LARGEST:
        optional = key.removeprefix("facts.") not in REQUIRED
        hint = "; leave it out if it is not published" if optional else ""
        long = isinstance(value, int) and value > LARGEST
        given = "longer than any" if long else repr(value)[:80]
        raise InvalidChip(f"{where}: {key} is {given}, but must be {kind} above 0{hint}")
