"""Parts that fill input axons, and parts that fill output axons: on one core where each leaves the other room."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hw_targets.chips.chip import Chip
from hw_targets.ir.connectivity import Ints
from hw_targets.ir.network import ChipNetwork, Conv2d, Population, SpikeInput, Synapses
from hw_targets.placement import place
from hw_targets.placement.cores.cost import Part, core_order
from hw_targets.placement.packing import balance
from hw_targets.placement.packing.balance import KEPT_INPUT, KEPT_OUTPUT, leaving_room
from hw_targets.placement.tiles import clusters
from hw_targets.placement.tiles.tiling import sequential
from hw_targets.targets.loihi.neuron import CubaLIF
from hw_targets.targets.loihi.target import LOIHI
from tests.twins.placement import breaks_a_limit, recount

CHIP = Chip(
    "axons",
    target=LOIHI,
    cores_per_chip=99,
    neurons_per_core=8,
    input_axons_per_core=40,
    output_axons_per_core=80,
    synaptic_bits_per_core=1 << 20,
    weight_bits=8,
)


def two_sided(rng: np.random.Generator, heard: int, channels: int = 80, size: int = 1) -> ChipNetwork:
    """in → s (each neuron hears one input) → x (each hears `heard` channels of s): s sends to many cores."""
    weight = np.zeros((24, channels), np.int32)
    for row in weight:
        row[rng.choice(channels, heard, replace=False)] = rng.integers(1, 99, heard)
    populations = (
        Population("in", (channels, size, size), SpikeInput()),
        Population("s", (channels, size, size), CubaLIF(4)),
        Population("x", (24, size, size), CubaLIF(4)),
    )
    ops = (Conv2d(np.eye(channels, dtype=np.int32)[:, :, None, None]), Conv2d(weight[:, :, None, None]))
    return ChipNetwork(populations, (Synapses("in", "s", ops[0]), Synapses("s", "x", ops[1])))


def cut(network: ChipNetwork, name: str, sends: dict[str, Ints]) -> list[Part]:
    """Runs of neurons, each as long as fits."""
    return sequential(network, name, core_order(network[name]), sends[name], CHIP)


def taken(parts: list[Part]) -> tuple[int, dict[str, float]]:
    """How many parts, and the input axons they take from each source."""
    found: dict[str, float] = {}
    for part in parts:
        for reach in part.reach:
            found[reach.source] = found.get(reach.source, 0.0) + reach.neurons().size
    return len(parts), found


def test_both_sides_leave_room(monkeypatch: pytest.MonkeyPatch) -> None:
    network = two_sided(np.random.default_rng(0), 38)
    sends = {p.name: np.zeros(p.size, np.int64) for p in network.populations}
    parts = cut(network, "x", sends)
    assert len(parts) == 24
    assert leaving_room(network, "x", *taken(parts), sends, CHIP) is None  # few parts
    monkeypatch.setattr(balance, "MANY_PARTS", 10)
    assert leaving_room(network, "x", *taken(parts), sends, CHIP) == replace(
        CHIP, input_axons_per_core=int(KEPT_INPUT * 40)
    )
    assert leaving_room(network, "x", *taken(parts), sends, replace(CHIP, output_axons_per_core=None)) is None
    for part in parts:
        for reach in part.reach:
            reach.add_to(sends[reach.source])
    before = cut(network, "s", sends)
    assert leaving_room(network, "s", *taken(before), sends, CHIP) == replace(
        CHIP, output_axons_per_core=int(KEPT_OUTPUT * 80)
    )


def test_no_room_is_left_without_a_partner(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same layer straight behind inputs, which live off chip."""
    monkeypatch.setattr(balance, "MANY_PARTS", 10)
    whole = two_sided(np.random.default_rng(0), 38)
    populations = (Population("s", (80, 1, 1), SpikeInput()), whole["x"])
    network = ChipNetwork(populations, (Synapses("s", "x", whole.incoming("x")[0].op),))
    sends = {p.name: np.zeros(p.size, np.int64) for p in network.populations}
    assert leaving_room(network, "x", *taken(cut(network, "x", sends)), sends, CHIP) is None


@settings(max_examples=12, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(6, 12), st.integers(1, 2))
def test_cores_hold_every_limit(seed: int, heard: int, size: int) -> None:
    network = two_sided(np.random.default_rng(seed), heard, 20, size)
    chip = replace(CHIP, input_axons_per_core=heard + 1, output_axons_per_core=40)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(balance, "MANY_PARTS", 4)
        patch.setattr(clusters, "MANY_CORES", 1)
        placement = place(network, chip)
    slow = recount(network, chip, {name: cores.tolist() for name, cores in placement.cores.items()})
    assert [tuple(vars(core).values()) for core in placement.usage] == [tuple(core) for core in slow]
    assert not any(breaks_a_limit(core, chip) for core in slow)
    assert sum(core.synapses for core in slow) == 20 * size**2 + 24 * heard * size**2
