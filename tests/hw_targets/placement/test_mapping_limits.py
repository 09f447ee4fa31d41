"""What cannot be placed is refused by name, before anything is cut; `fit` says it before training."""

from __future__ import annotations

import itertools
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from hw_targets.chips.chip import Chip
from hw_targets.errors import DoesNotFit, HardwareTargetError, InvalidChip, InvalidNetwork
from hw_targets.ir.activity import Activity
from hw_targets.ir.network import LIF, ChipNetwork, Conv2d, Dense, Network, Population, SpikeInput, Synapses
from hw_targets.placement import place
from hw_targets.placement.fit import check_fit, cores_needed
from hw_targets.placement.layers import matched_cores
from hw_targets.placement.tiles import clusters
from hw_targets.quantization.quantize import quantize
from hw_targets.targets.loihi.neuron import CubaLIF
from hw_targets.targets.loihi.target import LOIHI
from hw_targets.targets.registry import load_chip


def dense(sources: int, targets: int, chip: str, outputs: int = 1) -> ChipNetwork:
    """in → h → out, all weights 1 … 100."""
    populations = (
        Population("in", (sources,), SpikeInput()),
        Population("h", (targets,), CubaLIF(4)),
        Population("out", (outputs,), CubaLIF(4)),
    )
    rng = np.random.default_rng(0)
    shapes = ((targets, sources), (outputs, targets))
    first, second = (rng.integers(1, 100, shape).astype(np.int32) for shape in shapes)
    synapses = (Synapses("in", "h", Dense(first)), Synapses("h", "out", Dense(second)))
    return ChipNetwork(populations, synapses, chip=chip)


REFUSED = {
    "inputs_per_neuron": (
        dense(65, 4, ""),
        64,
        r"'h': neuron 0 has 65 synapses, 1 more than .*inputs_per_neuron",
    ),
    "output_neurons": (dense(16, 4, "", 9), 8, r"9 output neurons, 1 more than the 8 of odd \(output_neurons\)"),
    "hidden_neurons": (dense(16, 4, "", 9), 3, r"4 hidden neurons, 1 more than the 3 of odd \(hidden_neurons\)"),
    "destinations_per_neuron": (dense(4, 4, "", 2000), 1, r"has 2 destination cores, 1 more than the 1"),
}


@pytest.mark.parametrize("key", REFUSED)
def test_limits_of_one_neuron(key: str) -> None:
    network, limit, message = REFUSED[key]
    change: dict[str, Any] = {key: limit}
    with pytest.raises(DoesNotFit, match=message):
        place(network, replace(load_chip("loihi1"), name="odd", **change))


@pytest.mark.parametrize("name", ["dynapse2", "spinnaker2", "truenorth"])
def test_chips_known_by_their_limits_place_nothing(name: str) -> None:
    with pytest.raises(InvalidChip, match=f"place: {name} is known by its limits alone.*check_fit"):
        place(dense(3, 4, name), load_chip(name))


def test_chips_without_countable_cores() -> None:
    with pytest.raises(InvalidChip, match=r"place: odd .*neurons_per_core"):
        place(dense(3, 4, "odd"), replace(load_chip("loihi1"), name="odd", neurons_per_core=None))


def layered(kernel: tuple[int, ...], neuron: tuple[int, ...]) -> Chip:
    """Cores that hold one layer each."""
    words: dict[str, Any] = {"kernel_words_per_core": kernel, "neuron_words_per_core": neuron}
    return Chip("layered", target=LOIHI, cores_per_chip=len(kernel), largest_system_chips=1, **words)


def test_every_layer_gets_a_core_with_the_memory_for_it() -> None:
    """Layers of 4·2^2 = 16, 4·2^3 = 32 and 8·2^1 = 16 kernel words; by greed the first would take the large core."""
    shapes = {"in": 4, "a": 4, "b": 8, "out": 2}
    populations = tuple(Population(n, (k,), SpikeInput() if n == "in" else CubaLIF(4)) for n, k in shapes.items())
    names = list(shapes)
    synapses = tuple(
        Synapses(a, b, Dense(np.ones((shapes[b], shapes[a]), np.int32))) for a, b in itertools.pairwise(names)
    )
    network = ChipNetwork(populations, synapses, time_steps=2, chip="layered")
    assert matched_cores(network, layered((32, 16, 16), (99, 99, 99))) == {"a": 2, "b": 0, "out": 1}
    placement = place(network, layered((32, 16, 16), (99, 99, 99)))
    assert (placement.core_count, placement.chips) == (3, 1)
    assert [core.population for core in placement.usage] == ["b", "out", "a"]
    with pytest.raises(DoesNotFit, match=r"cannot be dealt out .*kernel_words_per_core.*a 16 and 4, b 32 and 8"):
        place(network, layered((32, 8, 16), (99, 99, 99)))
    with pytest.raises(DoesNotFit, match="population 'b' needs 32 kernel_words_per_core of at most 16"):
        place(network, layered((16, 16, 16), (99, 99, 99)))
    with pytest.raises(DoesNotFit, match="takes 3 cores"):
        place(network, layered((32, 16), (99, 99)))


def test_integers_of_another_chip() -> None:
    with pytest.raises(InvalidNetwork, match="integers for 'loihi1', but the chip is 'loihi2'; quantize"):
        place(dense(3, 4, "loihi1"), load_chip("loihi2"))


def test_larger_than_the_largest_system() -> None:
    chip = Chip("small", target=LOIHI, cores_per_chip=2, neurons_per_core=4, largest_system_chips=3)
    assert place(dense(3, 23, "small"), chip).chips == 3
    with pytest.raises(DoesNotFit, match=r"takes 7 cores, .* 4 small chips of 2 .*, 1 more than the 3 of its largest"):
        place(dense(3, 24, "small"), chip)


def test_nan_activity() -> None:
    spikes = {"in": np.ones((1, 1, 3)), "h": np.full((1, 1, 4), np.nan), "out": np.zeros((1, 1, 1))}
    with pytest.raises(HardwareTargetError, match="activity of 'h' holds 4 values of 4 that are NaN"):
        place(dense(3, 4, "loihi1"), load_chip("loihi1"), Activity(spikes, np.zeros((1, 1), np.int64), {}))


@pytest.mark.parametrize("name", ["truenorth", "dynapse2", "spinnaker2"])
def test_chips_known_by_their_limits_are_not_quantized_for(name: str) -> None:
    network = Network(
        (Population("in", (2,), SpikeInput()), Population("h", (2,), LIF(1.0))),
        (Synapses("in", "h", Dense(np.ones((2, 2)))),),
    )
    with pytest.raises(InvalidChip, match=f"{name} is known by its limits alone"):
        quantize(network, load_chip(name))


def convolution(channels: int) -> Network:
    """in → a (3×3) → out."""
    populations = (
        Population("in", (channels, 8, 8), SpikeInput()),
        Population("a", (8, 8, 8), LIF(1.0)),
        Population("out", (4,), LIF(1.0)),
    )
    synapses = (
        Synapses("in", "a", Conv2d(np.zeros((8, channels, 3, 3)), padding=(1, 1))),
        Synapses("a", "out", Dense(np.zeros((4, 512)))),
    )
    return Network(populations, synapses)


def test_fit_names_the_sparsity_that_would_do() -> None:
    chip = load_chip("loihi1")
    assert [row.excess for row in check_fit(convolution(16), chip)] == [0, 0]
    row = check_fit(convolution(512), chip)[0]
    assert (row.fan_in, row.excess, row.fan_in_cap) == (4608, 512, 4096)
    assert row.sparsity == pytest.approx(1 - 4096 / 4608)
    assert "at least 11.2 % zeros (a fan-in cap of 4096)" in row.advice(chip)
    assert row.cells()[-1] == "over by 512, fits from 11.1 % zeros"


def test_fit_on_every_chip() -> None:
    network = convolution(16)
    assert all(row.limit is None for row in check_fit(network, load_chip("spinnaker2")))
    assert cores_needed(network, load_chip("spinnaker2")) is None
    assert cores_needed(network, load_chip("dynapse2")) == 3
    tight = {
        name: max(check_fit(network, load_chip(name)), key=lambda r: r.excess) for name in ("dynapse2", "xylo-imu")
    }
    assert (tight["dynapse2"].key, tight["dynapse2"].used, tight["dynapse2"].limit) == ("inputs_per_neuron", 512, 64)
    assert (tight["xylo-imu"].key, tight["xylo-imu"].used, tight["xylo-imu"].limit) == ("input_neurons", 16 * 64, 16)
    assert "zeros do not lower it" in tight["xylo-imu"].advice(load_chip("xylo-imu"))


def test_fit_counts_the_words_of_a_layer() -> None:
    """c·2^(⌈log2 k²⌉ + ⌈log2 f⌉) = 16·2^(4 + 3) kernel words; 8·2^(3 + 3) neuron words."""
    network, chip = convolution(16), load_chip("speck")
    small = replace(chip, kernel_words_per_core=(2047,) * 9)
    row = check_fit(network, small)[0]
    assert (row.key, row.used, row.limit) == ("kernel_words_per_core", 2048, 2047)
    small = replace(chip, neuron_words_per_core=(511,) * 9)
    row = check_fit(network, small)[0]
    assert (row.key, row.used, row.limit) == ("neuron_words_per_core", 512, 511)


def test_neurons_with_common_sources_share_cores() -> None:
    """Eight hidden groups of neurons, shuffled, each with sources of its own: a core that takes one group is full."""
    rng = np.random.default_rng(0)
    group, source_group = rng.permutation(np.arange(64) % 8), rng.permutation(np.arange(320) % 8)
    weight = np.where(group[:, None] == source_group, rng.integers(1, 99, (64, 320)), 0).astype(np.int32)
    populations = (Population("in", (320,), SpikeInput()), Population("h", (64,), CubaLIF(4)))
    network = ChipNetwork(populations, (Synapses("in", "h", Dense(weight)),))
    placement = place(
        network, Chip("narrow", target=LOIHI, cores_per_chip=8, neurons_per_core=64, input_axons_per_core=40)
    )
    assert placement.core_count == placement.lower_bound == 8
    assert all(len(set(group[placement.cores["h"] == core])) == 1 for core in range(8))


def test_channels_with_common_sources_share_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same as a convolution of two pixels, each of which takes a core for every group of channels."""
    rng = np.random.default_rng(0)
    group, source_group = rng.permutation(np.arange(64) % 8), rng.permutation(np.arange(320) % 8)
    weight = np.where(group[:, None] == source_group, rng.integers(1, 99, (64, 320)), 0).astype(np.int32)
    populations = (Population("in", (320, 1, 2), SpikeInput()), Population("h", (64, 1, 2), CubaLIF(4)))
    network = ChipNetwork(populations, (Synapses("in", "h", Conv2d(weight[:, :, None, None])),))
    chip = Chip("narrow", target=LOIHI, cores_per_chip=8, neurons_per_core=64, input_axons_per_core=40)
    assert place(network, chip).core_count > 16  # a small layer's channels stay in order
    monkeypatch.setattr(clusters, "MANY_CORES", 16)
    placement = place(network, chip)
    assert placement.core_count == placement.lower_bound == 16
    for core in range(16):
        held = np.flatnonzero(placement.cores["h"] == core)
        assert len(set(group[held // 2])) == len(set(held % 2)) == 1


def test_populations_share_a_core() -> None:
    chip = replace(load_chip("loihi1"), populations_per_core=2)
    assert [core.neurons_of for core in place(dense(4, 8, "loihi1", 3), chip).usage] == [(("h", 8), ("out", 3))]
    apart = place(dense(4, 8, "loihi1", 3), replace(chip, populations_per_core=1))
    assert [core.population for core in apart.usage] == ["h", "out"]


def test_chains_of_cores_lie_next_to_each_other() -> None:
    """Eight layers of one full core each, one router per core: no message needs more than one hop."""
    sizes = [4] * 9
    populations = tuple(Population(f"p{k}", (n,), CubaLIF(4) if k else SpikeInput()) for k, n in enumerate(sizes))
    synapses = tuple(Synapses(f"p{k}", f"p{k + 1}", Dense(np.eye(4, dtype=np.int32) * 9)) for k in range(8))
    chip = Chip(
        "grid", target=LOIHI, cores_per_chip=8, neurons_per_core=4, mesh_columns=4, mesh_rows=2, cores_per_router=1
    )
    placement = place(ChipNetwork(populations, synapses), chip)
    assert placement.mesh is not None
    assert placement.mesh.hops == placement.mesh.messages == 7 * 4
