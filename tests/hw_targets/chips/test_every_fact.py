"""Every limit of every chip file, lowered to just below what a network needs: refused by its name, or listed."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from hw_targets import available_chips, load_chip, place, quantize
from hw_targets.chips.chip import Chip
from hw_targets.chips.facts import LIMITS, PER_CORE, UNITS
from hw_targets.errors import DoesNotFit, HardwareTargetError, InvalidChip
from hw_targets.ir.network import LIF, ChipNetwork, Conv2d, Dense, Network, Population, SpikeInput, Synapses
from hw_targets.placement.fit import check_fit, cores_needed
from hw_targets.placement.limits import check_system

RNG = np.random.default_rng(0)


def small() -> Network:
    """in → a (3×3) → b → out, and in → out with delays: four layers, weights 0.1 … 1."""
    populations = (
        Population("in", (2, 3, 3), SpikeInput()),
        Population("a", (5, 3, 3), LIF(1.0)),
        Population("b", (6,), LIF(1.0)),
        Population("out", (3,), LIF(1.0)),
    )
    synapses = (
        Synapses("in", "a", Conv2d(RNG.uniform(0.1, 1, (5, 2, 3, 3)), padding=(1, 1))),
        Synapses("a", "b", Dense(RNG.uniform(0.1, 1, (6, 45)))),
        Synapses("b", "out", Dense(RNG.uniform(0.1, 1, (3, 6)))),
        Synapses("b", "out", Dense(RNG.uniform(0.1, 1, (3, 6))), np.full((1, 1), 3)),
    )
    return Network(populations, synapses, time_steps=4)


NETWORK = small()
INTEGERS = quantize(NETWORK, load_chip("loihi1"))


def refusal(chip: Chip) -> str:
    """What the chip refuses about the network, "" if nothing."""
    try:
        if chip.target is not None:
            place(replace(INTEGERS, chip=chip.name), chip)
            return ""
        rows = check_fit(NETWORK, chip)
        if too_large := [row for row in rows if row.excess]:
            raise DoesNotFit(" ".join(row.advice(chip) + (row.key or "") for row in too_large))
        check_system(cores_needed(NETWORK, chip) or 0, chip)
    except HardwareTargetError as error:
        return str(error)
    return ""


def with_limit(chip: Chip, key: str, value: int) -> Chip:
    """The chip with another limit, alone where others follow from it."""
    changes: dict[str, Any] = {key: (value,) * chip.cores_per_chip if key in PER_CORE else value}
    if key == "cores_per_chip":
        changes |= {name: (getattr(chip, name)[0],) * value for name in PER_CORE if getattr(chip, name) is not None}
        # So that more chips cannot make up for it, nor larger cores.
        changes |= {"largest_system_chips": 1} | ({} if chip.neurons_per_core is None else {"neurons_per_core": 10})
    if key == "neurons_per_core":
        changes["largest_system_chips"] = None  # more cores hold as much
    if key == "largest_system_chips":
        changes |= {"cores_per_chip": 1} | ({} if chip.neurons_per_core is None else {"neurons_per_core": 10})
        changes |= {name: (1 << 20,) for name in PER_CORE if getattr(chip, name) is not None}
    return replace(chip, **changes)


def least(chip: Chip, key: str) -> int:
    """The smallest limit with which the network is still accepted; 1 where any will do."""
    low, high = 0, max(1, *(v if isinstance(v := getattr(chip, key), tuple) else (v,)))
    if refusal(with_limit(chip, key, high)):
        high *= 1 << 12
    while high - low > 1:
        middle = (low + high) // 2
        if refusal(with_limit(chip, key, middle)):
            low = middle
        else:
            high = middle
    return int(high)


def facts() -> list[tuple[str, str]]:
    return [(n, key) for n in available_chips() for key in LIMITS if getattr(load_chip(n), key) is not None]


def roomy(name: str) -> Chip:
    """The chip with limits that the network keeps, so that each can be lowered by itself."""
    chip = load_chip(name)
    keys = (
        "inputs_per_neuron",
        "synapses_out_per_neuron",
        "destinations_per_neuron",
        "input_neurons",
        "output_neurons",
    )
    larger: dict[str, Any] = {key: 1000 for key in keys if getattr(chip, key) is not None}
    if chip.average_fan_out is not None:
        larger["hidden_neurons"] = 60  # among which few synapses are many
    return replace(chip, **larger)


@pytest.mark.parametrize(("name", "key"), facts())
def test_a_limit_just_below_the_need_is_refused_or_listed(name: str, key: str) -> None:
    chip = roomy(name)
    assert refusal(chip) == "", "the network fits to begin with"
    need = least(chip, key)
    if need > 1:
        assert key in refusal(with_limit(chip, key, need - 1))
        return
    with pytest.raises(InvalidChip, match=key):  # 0: no chip has that
        with_limit(chip, key, 0)
    listed = () if chip.target is not None else check_fit(NETWORK, chip).not_enforced
    always_enough = {"neurons_per_core", "populations_per_core", "synapse_formats_per_core"}
    always_enough |= {"output_axons_per_core", "destinations_per_neuron"}  # one core takes all targets of a neuron
    always_enough |= {"synaptic_states_per_neuron"}  # what is lowered uses one
    assert key in always_enough or any(note.startswith(f"{key}:") for note in listed), "a limit nobody looks at"


def test_limits_are_the_facts_before_the_mesh_and_the_delay() -> None:
    """Each fact is a limit, says how synapses are stored or integers are held, where cores lie, or what things cost."""
    others = {key for key in UNITS if key not in LIMITS}
    stored = {key for key in others if key.endswith(("_bits", "_bits_min")) or key == "entry_synapses"}
    mesh = {"mesh_columns", "mesh_rows", "cores_per_router"}
    assert others - stored - mesh == {key for key in others if key.endswith(("_pj", "_ns"))}


def test_1001_hidden_neurons_do_not_fit_xylo() -> None:
    def network(hidden: int, outputs: int) -> Network:
        shapes = (Population("in", (16,), SpikeInput()), Population("h", (hidden,), LIF(1.0)))
        one, two = Dense(np.eye(hidden, 16)), Dense(np.eye(outputs, hidden))
        end = Population("out", (outputs,), LIF(1.0))
        return Network((*shapes, end), (Synapses("in", "h", one), Synapses("h", "out", two)))

    chip = replace(
        load_chip("xylo-audio2"),
        synapses_out_per_neuron=2000,
        average_fan_out=None,
        input_projection_neurons=None,
        output_projection_neurons=None,
    )
    assert not any(row.excess for row in check_fit(network(1000, 8), chip))
    (row,) = [row for row in check_fit(network(1001, 7), chip) if row.excess]
    assert (row.key, row.used, row.limit) == ("hidden_neurons", 1001, 1000)
    (row,) = [row for row in check_fit(network(1000, 9), chip) if row.excess]
    assert (row.key, row.used, row.limit) == ("output_neurons", 9, 8)


def test_nothing_is_filled_in() -> None:
    """A fact that is taken away is not known, and the chip's target does not know it either."""
    chip = load_chip("loihi1")
    for key in ("weight_bits", "state_bits", "bias_mantissa_bits", "threshold_mantissa_bits", "decay_bits"):
        keys = ("index_bits", "index_bits_min", "entry_synapses", "entry_header_bits") if key == "weight_bits" else ()
        absent: dict[str, Any] = dict.fromkeys((key, *keys))
        with pytest.raises(HardwareTargetError, match=f"loihi1 does not state {key}, without which"):
            quantize(NETWORK, replace(chip, **absent))
    assert isinstance(INTEGERS, ChipNetwork)
