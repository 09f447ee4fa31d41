"""Placement, connectivity and estimate against slow twins, on random small networks and chips."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from hw_targets.chips.chip import Chip
from hw_targets.errors import DoesNotFit, HardwareTargetError, InvalidChip, InvalidFile, InvalidNetwork
from hw_targets.estimation import estimate
from hw_targets.ir.activity import Activity
from hw_targets.ir.connectivity import edges, fan_in, fan_out
from hw_targets.ir.network import (
    Accumulator,
    ChipNetwork,
    Conv2d,
    Dense,
    GradedInput,
    Neuron,
    Population,
    SpikeInput,
    Synapses,
)
from hw_targets.placement import Placement, place
from hw_targets.targets.loihi.neuron import CubaLIF
from hw_targets.targets.loihi.target import LOIHI
from hw_targets.targets.registry import load_chip
from hw_targets.targets.saved_placements import load_placement
from tests.twins.placement import (
    all_synapses,
    breaks_a_limit,
    count_core,
    destination_counts,
    mesh_cost,
    recount,
)

Rng = np.random.Generator
LIMITLESS = Chip("limitless", target=LOIHI, cores_per_chip=4, neurons_per_core=1000, weight_bits=8)
REFUSED = re.compile(
    r"population '(\w+)': neuron (\d+) alone needs (\d+) [a-z ]+, (\d+) more than the (\d+) of a \w+ core \((\w+)\); "
    r"(prune .*)"
)


def weights(rng: Rng, shape: tuple[int, ...], density: float) -> npt.NDArray[np.int32]:
    """Few distinct values or many, so that lists of synapses repeat by chance as well as by convolution, or hardly."""
    values = np.array([-4, -2, 2, 126]) if rng.random() < 0.5 else np.arange(1, 128)
    return np.where(rng.random(shape) < density, rng.choice(values, size=shape), 0).astype(np.int32)


@st.composite
def convolutions(draw: st.DrawFn, channels: int, rng: Rng, density: float) -> Conv2d:
    def pair(low: int, high: int) -> tuple[int, int]:
        return draw(st.integers(low, high)), draw(st.integers(low, high))

    groups = draw(st.sampled_from([1, channels]))
    shape = (groups * draw(st.integers(1, 2)), channels // groups, *pair(1, 3))
    return Conv2d(weights(rng, shape, density), pair(1, 3), pair(0, 3), pair(1, 2), groups)


@st.composite
def networks(draw: st.DrawFn) -> ChipNetwork:
    """in → a → hidden → out, in → hidden twice over, (a, a' → b): convolutions, dense layers, skips, a doubled group.

    Sometimes hidden neurons also feed each other, and have delays.
    """
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    density = draw(st.sampled_from([0.0, 0.2, 0.6, 1.0]))
    source = (draw(st.integers(1, 2)), draw(st.integers(2, 5)), draw(st.integers(2, 5)))
    neuron: Neuron = GradedInput(4, 15.0) if draw(st.booleans()) else SpikeInput()
    populations = [Population("in", source, neuron)]
    first = draw(convolutions(source[0], rng, density))
    assume(min(first.output_shape(source)) > 0)
    populations.append(Population("a", first.output_shape(source), CubaLIF(4)))
    groups = [Synapses("in", "a", first)]
    if draw(st.booleans()):
        populations.append(Population("a2", populations[-1].shape, CubaLIF(4)))
        groups.append(Synapses("in", "a2", replace(first, weight=weights(rng, first.weight.shape, density))))
        second = draw(convolutions(populations[-1].shape[0], rng, density))
        assume(min(second.output_shape(populations[-1].shape)) > 0)
        populations.append(Population("b", second.output_shape(populations[-1].shape), CubaLIF(4)))
        groups += [Synapses("a", "b", second), Synapses("a2", "b", second)]
    hidden, out = draw(st.integers(1, 9)), draw(st.integers(1, 3))
    populations += [Population("hidden", (hidden,), CubaLIF(4)), Population("out", (out,), Accumulator())]
    for start, target, size in (("a", "hidden", hidden), ("in", "hidden", hidden), ("hidden", "out", out)):
        columns = next(p.size for p in populations if p.name == start)
        groups.append(Synapses(start, target, Dense(weights(rng, (size, columns), density))))
        if start == "in" and draw(st.booleans()):
            groups.append(Synapses(start, target, Dense(weights(rng, (size, columns), density))))
    if draw(st.booleans()):
        delay = rng.integers(0, 3, (hidden, hidden)) if draw(st.booleans()) else None
        groups.append(Synapses("hidden", "hidden", Dense(weights(rng, (hidden, hidden), density)), delay))
    return ChipNetwork(tuple(populations), tuple(groups), chip="tiny", time_steps=3)


@st.composite
def chips(draw: st.DrawFn) -> Chip:
    def maybe(low: int, high: int) -> int | None:
        return draw(st.none() | st.integers(low, high))

    form = draw(st.sampled_from(["entries", "weights", "nothing"]))
    widths = form == "entries" and draw(st.booleans())
    columns, rows, per_router = draw(st.sampled_from([(2, 2, 1), (1, 1, 4), (3, 1, 2)]))
    return Chip(
        "tiny",
        target=LOIHI,
        cores_per_chip=draw(st.integers(1, 4)),
        neurons_per_core=draw(st.integers(1, 12)),
        input_axons_per_core=maybe(12, 70),
        output_axons_per_core=maybe(2, 40),
        synaptic_bits_per_core=maybe(60, 4000),
        populations_per_core=maybe(1, 2),
        synapse_formats_per_core=maybe(1, 7) if form == "entries" else None,
        word_bits=draw(st.sampled_from([None, 8, 64])),
        weight_bits=None if form == "nothing" else 8,
        index_bits=4 if form == "entries" else None,
        index_bits_min=2 if widths else None,
        skip_bits=3 if widths else None,
        skip_bits_min=draw(st.none() | st.just(1)) if widths else None,
        delay_bits=maybe(6, 6),
        entry_synapses=draw(st.integers(1, 5)) if form == "entries" else None,
        entry_header_bits=draw(st.integers(1, 10)) if form == "entries" else None,
        list_tail_bits=maybe(1, 6) if form == "entries" else None,
        mesh_columns=columns,
        mesh_rows=rows,
        cores_per_router=per_router,
    )


def placed(network: ChipNetwork, chip: Chip) -> Placement | None:
    """The placement, or None after checking that the refusal is true."""
    try:
        return place(network, chip)
    except DoesNotFit as refusal:
        check_refusal(str(refusal), network, chip)
        return None


def check_refusal(message: str, network: ChipNetwork, chip: Chip) -> None:
    """A refusal names a neuron that the slow twin finds too large too, and by how much."""
    if "recurrent" in message:
        assert "output_axons_per_core" in message
        return
    match = REFUSED.fullmatch(message)
    assert match, message
    name, neuron, used, excess, limit, key, _ = match.groups()
    assert int(excess) == int(used) - int(limit) > 0
    assert getattr(chip, key) == int(limit)
    if key != "output_axons_per_core":
        alone = count_core(network, [(name, [int(neuron)])], chip, 0)
        assert getattr(alone, key.removesuffix("_per_core")) == int(used)


@settings(max_examples=100, deadline=None)
@given(networks(), chips())
def test_placement_holds_every_limit_and_every_synapse(network: ChipNetwork, chip: Chip) -> None:
    placement = placed(network, chip)
    if placement is None:
        return
    assert list(placement.cores) == [name for name in network.order if name != "in"]
    for name, cores in placement.cores.items():
        assert cores.shape == (network[name].size,)
        assert cores.dtype == np.int32
        assert int(cores.min()) >= 0
    slow = recount(network, chip, {name: cores.tolist() for name, cores in placement.cores.items()})
    assert [tuple(vars(core).values()) for core in placement.usage] == [tuple(core) for core in slow]
    assert not any(breaks_a_limit(core, chip) for core in slow)
    total = sum(len(all_synapses(group, network)) for group in network.synapses)
    assert sum(core.synapses for core in placement.usage) == total
    assert placement.chips * chip.cores_per_chip >= placement.core_count
    assert (placement.chips - 1) * chip.cores_per_chip < placement.core_count


@settings(max_examples=40, deadline=None)
@given(networks(), chips())
def test_destinations_and_mesh_against_loops(network: ChipNetwork, chip: Chip) -> None:
    placement = placed(network, chip)
    if placement is None:
        return
    cores = {name: assigned.tolist() for name, assigned in placement.cores.items()}
    destinations = destination_counts(network, cores)
    assert {name: counts.tolist() for name, counts in placement.destinations.items()} == destinations
    assert placement.positions is not None
    assert placement.mesh is not None
    assert placement.positions.shape == (placement.core_count, 3)
    mesh = placement.mesh
    assert (mesh.hops, mesh.between_chips, mesh.messages) == mesh_cost(network, cores, placement.positions.tolist())
    assert mesh.hops_lower_bound <= mesh.hops
    assert not mesh.is_measured
    _, used = np.unique(placement.positions, axis=0, return_counts=True)
    assert used.max() <= (chip.cores_per_router or 0)
    assert np.bincount(placement.positions[:, 0]).max() <= chip.cores_per_chip
    assert (placement.positions[:, 1:].max(0) < (chip.mesh_columns or 0, chip.mesh_rows or 0)).all()


@settings(max_examples=40, deadline=None)
@given(networks(), chips())
def test_no_placement_is_below_the_bound_of_neurons_and_axons(network: ChipNetwork, chip: Chip) -> None:
    placement = placed(network, chip)
    if placement is None:
        return
    for key, cores in placement.bounds.items():
        if key != "synaptic_bits_per_core":
            assert cores <= placement.core_count, key


@settings(max_examples=100, deadline=None)
@given(networks(), st.integers(0, 2**32 - 1))
def test_connectivity_against_loops(network: ChipNetwork, seed: int) -> None:
    rng = np.random.default_rng(seed)
    for group in network.synapses:
        slow = all_synapses(group, network)
        fast = edges(group, network)
        assert sorted(zip(*(part.tolist() for part in fast), strict=True)) == sorted(slow)
        some = rng.permutation(network[group.target].size)[:3]
        part = edges(group, network, some)
        assert sorted(zip(*(p.tolist() for p in part), strict=True)) == sorted(s for s in slow if s.target in some)
        for zeros in (False, True):
            listed = all_synapses(group, network, zeros)
            for count, end, field in ((fan_out, group.source, "source"), (fan_in, group.target, "target")):
                found = count(group, network, count_zeros=zeros)
                assert found.shape == network[end].shape
                assert found.dtype == np.int64
                neurons = [getattr(s, field) for s in listed]
                assert found.reshape(-1).tolist() == np.bincount(neurons or [0], minlength=found.size).tolist() or (
                    not neurons and not found.any()
                )


def test_edges_refuse_foreign_targets() -> None:
    network = chain(2, 3)
    with pytest.raises(IndexError, match="0 … 2"):
        edges(network.synapses[0], network, [3])
    assert edges(network.synapses[0], network, []).target.size == 0


def chain(*sizes: int, weight: int = 2, chip: str = "") -> ChipNetwork:
    """Dense layers of equal weights, input first."""
    kinds: list[Neuron] = [SpikeInput(), *[CubaLIF(4)] * (len(sizes) - 1)]
    populations = tuple(Population(f"p{i}", (n,), kinds[i]) for i, n in enumerate(sizes))
    groups = tuple(
        Synapses(f"p{i}", f"p{i + 1}", Dense(np.full((sizes[i + 1], n), weight, np.int32)))
        for i, n in enumerate(sizes[:-1])
    )
    return ChipNetwork(populations, groups, chip=chip)


def test_loihi1_fan_in_of_4096_fits_and_one_more_does_not() -> None:
    chip = load_chip("loihi1")
    assert place(chain(4096, 2), chip).usage[0].input_axons == 4096
    message = (
        r"population 'p1': neuron 0 alone needs 4097 input axons, 1 more than the 4096 of a loihi1 core"
        r" \(input_axons_per_core\); prune to a fan-in cap of 4096 source neurons, or narrow"
    )
    with pytest.raises(DoesNotFit, match=message):
        place(chain(4097, 2), chip)


def test_memory_and_output_limits_name_what_is_exceeded() -> None:
    chip = replace(LIMITLESS, synaptic_bits_per_core=30)
    distinct = Synapses("p0", "p1", Dense(np.arange(1, 6, dtype=np.int32)[None]))
    network = replace(chain(5, 1), synapses=(distinct,))
    with pytest.raises(DoesNotFit, match=r"'p1': neuron 0 alone needs 40 synaptic bits, 10 more than the 30"):
        place(network, chip)
    chip = replace(LIMITLESS, neurons_per_core=1, output_axons_per_core=2)
    with pytest.raises(DoesNotFit, match=r"'p1': neuron 0 alone needs 3 output axons, 1 more than the 2 .* it feeds"):
        place(chain(1, 1, 3), chip)


def test_output_axons_split_cores() -> None:
    chip = replace(LIMITLESS, neurons_per_core=8, output_axons_per_core=6)
    placement = place(chain(1, 8, 24), chip)
    assert np.bincount(placement.cores["p1"]).max() == 2
    assert placement.destinations["p0"].tolist() == [4]
    assert (placement.core_count, placement.chips) == (7, 2)


def test_entry_sizes_by_hand() -> None:
    chip = load_chip("loihi1")
    weight = np.zeros((1024, 3), np.int32)
    weight[:64, 0] = np.arange(1, 65)  # dense: 64·8 + 2·20 + 6 = 558 bits → 9 words
    weight[[0, 1023], 1] = 7  # sparse, 10 index bits: 2·18 + 10 + 6 = 52 bits → 1 word
    weight[[0, 1023], 2] = 7  # the same list, stored once
    network = replace(chain(3, 1024), synapses=(Synapses("p0", "p1", Dense(weight)),))
    assert [core.synaptic_bits for core in place(network, chip).usage] == [10 * 64]


@pytest.mark.parametrize(
    ("targets", "words"),
    [
        (range(60), 8),  # dense: 60·8 + 20 + 6 = 506 bits
        (range(64), 9),  # dense, two entries: 64·8 + 2·20 + 6 = 558
        (range(0, 180, 3), 10),  # run-length, 2 skip bits: 60·10 + 20 + 6 = 626; sparse 60·16 + 10 + 6 = 976
        (range(0, 1000, 40), 8),  # sparse, 10 index bits: 25·18 + 10 + 6 = 466
        ([0, 32, 64], 1),  # run-length opens an entry at each gap of 32; sparse, 8 index bits: 3·16 + 10 + 6 = 64
    ],
)
def test_each_encoding_by_hand(targets: Sequence[int], words: int) -> None:
    weight = np.zeros((1024, 1), np.int32)
    weight[list(targets), 0] = 1 + np.arange(len(targets)) % 100
    network = replace(chain(1, 1024), synapses=(Synapses("p0", "p1", Dense(weight)),))
    assert place(network, load_chip("loihi1")).usage[0].synaptic_bits == words * 64


def test_a_convolution_is_stored_once() -> None:
    kernel = Conv2d(np.arange(1, 10, dtype=np.int32).reshape(1, 1, 3, 3), padding=(1, 1))
    populations = (Population("in", (1, 8, 8), SpikeInput()), Population("a", (1, 8, 8), CubaLIF(4)))
    network = ChipNetwork(populations, (Synapses("in", "a", kernel),))
    usage = place(network, load_chip("loihi1")).usage
    shapes = 9  # interior, four edges, four corners
    assert usage[0].synaptic_bits is not None
    assert usage[0].synaptic_bits <= shapes * 3 * 64
    assert usage[0].synapses == len(all_synapses(network.synapses[0], network))


def test_channels_of_a_pixel_are_neighbours_on_the_core(tmp_path: Path) -> None:
    kernel = Conv2d(np.arange(1, 9, dtype=np.int32).reshape(8, 1, 1, 1))
    populations = (Population("in", (1, 4, 4), SpikeInput()), Population("a", (8, 4, 4), CubaLIF(4)))
    network = ChipNetwork(populations, (Synapses("in", "a", kernel),))
    placement = place(network, load_chip("loihi1"))
    assert placement.usage[0].synaptic_bits == 2 * 64  # dense: 8·8 + 2·10 + 6 = 90 bits; channel by channel far more
    placement.save(tmp_path / "placement.npz")
    assert load_placement(tmp_path / "placement.npz", network, load_chip("loihi1")).usage == placement.usage


def test_neurons_without_synapses_are_placed() -> None:
    network = ChipNetwork((Population("alone", (2, 3, 2), CubaLIF(1)),), ())
    placement = place(network, replace(LIMITLESS, neurons_per_core=5))
    assert sorted(np.bincount(placement.cores["alone"])) == [2, 5, 5]
    assert all(core.synaptic_bits == 0 for core in placement.usage)


def test_real_weights_are_refused() -> None:
    network = replace(chain(2, 2), synapses=(Synapses("p0", "p1", Dense(np.ones((2, 2)))),))
    with pytest.raises(InvalidNetwork, match=r"p0→p1 have float64 weights.*quantize"):
        place(network, LIMITLESS)


def test_unpublished_limits_are_reported() -> None:
    assert place(chain(2, 2), load_chip("loihi1")).not_enforced == ()
    unknown = place(chain(2, 2), load_chip("loihi2")).not_enforced
    assert [line.split(":")[0] for line in unknown] == [
        "input_axons_per_core",
        "output_axons_per_core",
        "synaptic_bits_per_core",
    ]


@settings(max_examples=40, deadline=None)
@given(network=networks(), chip=chips())
def test_save_and_load(network: ChipNetwork, chip: Chip, tmp_path_factory: pytest.TempPathFactory) -> None:
    placement = placed(network, chip)
    if placement is None:
        return
    path = tmp_path_factory.mktemp("placement") / "placement.npz"
    placement.save(path)
    with np.load(path) as archive:
        assert {name: archive[name].dtype for name in archive.files} == dict.fromkeys(placement.cores, np.dtype("i4"))
    loaded = load_placement(path, network, chip)
    assert loaded.usage == placement.usage
    for name, cores in placement.cores.items():
        np.testing.assert_array_equal(loaded.cores[name], cores)
        np.testing.assert_array_equal(loaded.destinations[name], placement.destinations[name])


def test_save_never_overwrites_unasked(tmp_path: Path) -> None:
    placement = place(chain(2, 3), load_chip("loihi1"))
    path = tmp_path / "placement.npz"
    path.write_bytes(b"mine")
    with pytest.raises(InvalidFile, match="exists already; choose another name or pass overwrite=True"):
        placement.save(path)
    assert path.read_bytes() == b"mine"
    placement.save(path, overwrite=True)
    first = path.read_bytes()
    placement.save(path, overwrite=True)
    assert path.read_bytes() == first
    assert [p.name for p in tmp_path.iterdir()] == ["placement.npz"]
    with pytest.raises(InvalidFile, match="is not a folder"):
        placement.save(tmp_path / "nowhere" / "placement.npz")


def test_a_population_may_bear_any_name(tmp_path: Path) -> None:
    network = ChipNetwork(tuple(Population(name, (2,), CubaLIF(1)) for name in ("file", "a/b.c", "→")), ())
    place(network, LIMITLESS).save(tmp_path / "placement.npz")
    assert list(load_placement(tmp_path / "placement.npz", network, LIMITLESS).cores) == ["file", "a/b.c", "→"]


def test_load_refuses_what_is_not_this_networks(tmp_path: Path) -> None:
    path = tmp_path / "placement.npz"
    place(chain(2, 3), load_chip("loihi1")).save(path)
    chip = load_chip("loihi1")
    with pytest.raises(InvalidFile, match=r"int32 \(3,\), expected int32 \(4,\)"):
        load_placement(path, chain(2, 4), chip)
    with pytest.raises(InvalidFile, match=r"places .*'p1'.* but the network has .*'p2'"):
        load_placement(path, chain(2, 3, 1), chip)
    with pytest.raises(InvalidFile, match="same populations but other weights, biases or thresholds"):
        load_placement(path, chain(2, 3, weight=3), chip)
    with pytest.raises(InvalidNetwork, match="integers for 'loihi2', but the chip is 'loihi1'; quantize"):
        load_placement(path, chain(2, 3, chip="loihi2"), chip)
    with pytest.raises(InvalidChip, match="unknown chip ''"):
        load_placement(path, chain(2, 3))
    with pytest.raises(InvalidFile, match=r"core 0 .* has neurons_per_core 3, 1 more than the 2 of limitless"):
        load_placement(path, chain(2, 3), replace(LIMITLESS, neurons_per_core=2))
    np.savez(path, p1=np.array([0, 2, 2], np.int32))
    with pytest.raises(InvalidFile, match="without gaps"):
        load_placement(path, chain(2, 3), chip)
    path.write_bytes(path.read_bytes()[:40])
    with pytest.raises(InvalidFile, match=r"is not an \.npz"):
        load_placement(path, chain(2, 3), chip)
    with pytest.raises(InvalidFile, match="cannot be read"):
        load_placement(tmp_path / "absent.npz", chain(2, 3), chip)


def activity_of(network: ChipNetwork, rng: Rng, samples: int = 2) -> Activity:
    """Random spikes for every population that sends."""
    spikes: dict[str, npt.NDArray[np.int64]] = {}
    for population in network.populations:
        highest = 15 if isinstance(population.neuron, GradedInput) else 1
        if not isinstance(population.neuron, Accumulator):
            spikes[population.name] = rng.integers(0, highest + 1, (3, samples, *population.shape))
    return Activity(spikes, np.zeros((samples, 1), np.int64), {})


@settings(max_examples=40, deadline=None)
@given(networks(), chips(), st.integers(0, 2**32 - 1))
def test_estimate_against_loops(network: ChipNetwork, chip: Chip, seed: int) -> None:
    if placed(network, chip) is None:
        return
    chip = replace(chip, synop_pj=2.0, active_update_pj=8.0, inactive_update_pj=4.0, spike_in_tile_pj=0.5)
    activity = activity_of(network, np.random.default_rng(seed))
    placement = place(network, chip, activity)
    result = estimate(placement, activity, chip)
    destinations = destination_counts(network, {name: cores.tolist() for name, cores in placement.cores.items()})
    flat = {name: (values != 0).reshape(6, -1).tolist() for name, values in activity.spikes.items()}
    messages = sum(sum(k for k, s in zip(destinations[n], step, strict=True) if s) for n in flat for step in flat[n])
    assert placement.messages == result.total.messages == messages
    for zeros, counted in ((False, result.total.synaptic_events), (True, result.total.dense_events)):
        listed = [(g.source, s.source) for g in network.synapses for s in all_synapses(g, network, zeros)]
        assert counted == sum(step[n] for name, n in listed for step in flat[name])
    active = sum(sum(step) for name in placement.cores if name in flat for step in flat[name])
    updates = 6 * sum(network[name].size for name in placement.cores)
    assert (result.total.active_updates, result.total.inactive_updates) == (active, updates - active)
    joules = (result.total.synaptic_events * 2 + active * 8 + (updates - active) * 4 + messages * 0.5) * 1e-12 / 2
    assert result.energy == pytest.approx(joules)
    assert sum(result.energy_of(p.name) or 0 for p in network.populations) == pytest.approx(joules)
    assert result.per_sample["messages"] == messages / 2


def test_unknown_coefficients_leave_energy_unknown() -> None:
    network, chip = chain(2, 3), load_chip("loihi2")
    activity = activity_of(network, np.random.default_rng(0))
    result = estimate(place(network, chip), activity, chip)
    assert result.energy is None
    assert result.energy_of("p1") is None
    assert set(result.energy_parts.values()) == {None}
    assert "mesh hops between cores" in result.not_modelled
    known = estimate(place(network, load_chip("loihi1")), activity, load_chip("loihi1"))
    assert known.energy is not None
    assert known.coefficients["synaptic_events"][:2] == (23.6, "pJ")
    assert "Davies 2018" in known.coefficients["synaptic_events"].source
    with pytest.raises(InvalidChip, match="made for 'loihi1', but the estimate is for 'loihi2'"):
        estimate(place(network, load_chip("loihi1")), activity, chip)


SPOILED = {
    "NaN, infinite or fractional": np.full((3, 2, 3), np.nan),
    "fractional, such as 0.5": np.full((3, 2, 3), 0.5),
    "negative, such as -1": np.full((3, 2, 3), -1),
    "above 1, such as 2": np.full((3, 2, 3), 2),
    r"has shape \(3, 2, 4\), expected \(3, 2, 3\)": np.zeros((3, 2, 4), int),
    r"has shape \(2, 2, 3\), expected \(3, 2, 3\)": np.zeros((2, 2, 3), int),
}


@pytest.mark.parametrize("message", SPOILED)
def test_spoiled_activity_is_refused(message: str) -> None:
    network = chain(2, 3)
    spikes = dict(activity_of(network, np.random.default_rng(0)).spikes)
    activity = Activity({**spikes, "p1": SPOILED[message]}, np.zeros((2, 1), np.int64), {})
    with pytest.raises(HardwareTargetError, match=f"activity of 'p1' .*{message}"):
        place(network, LIMITLESS, activity)
    with pytest.raises(HardwareTargetError, match=f"activity of 'p1' .*{message}"):
        estimate(place(network, LIMITLESS), activity, LIMITLESS)


def test_activity_of_another_network_is_refused() -> None:
    network = chain(2, 3)
    spikes = activity_of(network, np.random.default_rng(0)).spikes
    output = np.zeros((2, 1), np.int64)
    with pytest.raises(HardwareTargetError, match=r"lacks the spikes of \['p1'\]"):
        place(network, LIMITLESS, Activity({"p0": spikes["p0"]}, output, {}))
    with pytest.raises(HardwareTargetError, match=r"holds \['else'\], which the network does not send"):
        place(network, LIMITLESS, Activity({**spikes, "else": spikes["p0"]}, output, {}))
    with pytest.raises(HardwareTargetError, match="at least one step and one sample"):
        place(network, LIMITLESS, Activity({n: s[:, :0] for n, s in spikes.items()}, output[:0], {}))
