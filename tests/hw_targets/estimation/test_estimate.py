"""Messages, hops, energy and step times against a slow twin, on random networks, placements and positions."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import hw_targets
from hw_targets.app.report.words import duration
from hw_targets.chips.chip import Chip
from hw_targets.errors import HardwareTargetError, InvalidChip, InvalidNetwork
from hw_targets.estimation import Counts, Estimate, Times, estimate, in_chip_time
from hw_targets.estimation.mesh import default_positions
from hw_targets.estimation.times import published_times
from hw_targets.ir.activity import Activity
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
from tests.twins.energy import Prices, follow, slowest_cores

CHIP = Chip(
    "tiny",
    target=LOIHI,
    cores_per_chip=8,
    neurons_per_core=1000,
    mesh_columns=2,
    mesh_rows=2,
    cores_per_router=2,
    synop_pj=2.0,
    active_update_pj=8.0,
    inactive_update_pj=4.0,
    spike_in_tile_pj=0.5,
    hop_east_west_pj=3.0,
    hop_north_south_pj=5.0,
)
PRICES = Prices(3.5, 8.4, 5.3, 2.1, 4.1, 6.5)
TIMES = Times(*PRICES, barrier=((1, 100.0), (5, 300.0)), source="made up")


@st.composite
def networks(draw: st.DrawFn) -> ChipNetwork:
    """An input, a convolution, a dense layer that hears both (and itself), and a readout or spiking output."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    density = draw(st.sampled_from([0.0, 0.3, 1.0]))

    def weights(*shape: int) -> npt.NDArray[np.int32]:
        return np.where(rng.random(shape) < density, rng.integers(1, 9, shape), 0).astype(np.int32)

    shape = (draw(st.integers(1, 2)), draw(st.integers(1, 4)), draw(st.integers(2, 4)))
    neuron: Neuron = GradedInput(4, 15.0) if draw(st.booleans()) else SpikeInput()
    conv = Conv2d(weights(draw(st.integers(1, 2)), shape[0], 1, 2), (1, draw(st.integers(1, 2))), (0, 1))
    a, hidden = conv.output_shape(shape), draw(st.integers(1, 6))
    end: Neuron = Accumulator() if draw(st.booleans()) else CubaLIF(3)
    populations = (
        Population("in", shape, neuron),
        Population("a", a, CubaLIF(4)),
        Population("hidden", (hidden,), CubaLIF(4)),
        Population("out", (2,), end),
    )
    source, middle = int(np.prod(shape)), int(np.prod(a))
    groups = [Synapses("in", "a", conv), Synapses("a", "hidden", Dense(weights(hidden, middle)))]
    groups += [Synapses("in", "hidden", Dense(weights(hidden, source))) for _ in range(draw(st.integers(0, 2)))]
    groups.append(Synapses("hidden", "out", Dense(weights(2, hidden))))
    if draw(st.booleans()):
        groups.append(Synapses("hidden", "hidden", Dense(weights(hidden, hidden))))
    return ChipNetwork(populations, tuple(draw(st.permutations(groups))), chip="tiny", time_steps=2)


def random_placement(network: ChipNetwork, rng: np.random.Generator, folder: Path, chips: int = 1) -> Placement:
    """Neurons on any cores, populations mixed; cores at any position."""
    sizes = {p.name: p.size for p in network.populations if not p.is_input}
    assigned = rng.integers(0, int(rng.integers(1, 6)), sum(sizes.values()))
    assigned = np.unique(assigned, return_inverse=True)[1].astype(np.int32)  # without gaps
    parts = np.split(assigned, np.cumsum(list(sizes.values()))[:-1])
    np.savez(folder / "cores.npz", **dict(zip(sizes, parts, strict=True)))
    placement = load_placement(folder / "cores.npz", network, CHIP)
    where = rng.integers(0, (chips, 5, 4), (placement.core_count, 3))
    return replace(placement, positions=where)


def random_activity(network: ChipNetwork, rng: np.random.Generator, samples: int) -> Activity:
    spikes: dict[str, npt.NDArray[np.int64]] = {}
    for population in network.populations:
        highest = 15 if isinstance(population.neuron, GradedInput) else 1
        if not isinstance(population.neuron, Accumulator):
            shown = rng.random((2, samples, *population.shape)) < rng.random()
            spikes[population.name] = shown * rng.integers(1, highest + 1, shown.shape)
    return Activity(spikes, np.zeros((samples, 2), np.int64), {})


def as_lists(
    placement: Placement, activity: Activity
) -> tuple[Mapping[str, list[int]], Mapping[str, list[list[list[int]]]]]:
    """Cores, and whether each neuron sent; accumulators silent."""
    shape = (activity.time_steps, activity.samples, -1)
    sent = {name: (values != 0).astype(int).reshape(shape).tolist() for name, values in activity.spikes.items()}
    for name, cores in placement.cores.items():
        sent.setdefault(name, np.zeros((*shape[:2], len(cores)), int).tolist())
    return {name: cores.tolist() for name, cores in placement.cores.items()}, sent


@settings(max_examples=60, deadline=None)
@given(networks(), st.integers(0, 2**32 - 1), st.integers(1, 2), st.integers(1, 2))
def test_counts_against_loops(
    tmp_path_factory: pytest.TempPathFactory, network: ChipNetwork, seed: int, samples: int, chips: int
) -> None:
    rng = np.random.default_rng(seed)
    placement = random_placement(network, rng, tmp_path_factory.mktemp("cores"), chips)
    activity = random_activity(network, rng, samples)
    found = estimate(placement, activity, CHIP)
    assert placement.positions is not None
    cores, sent = as_lists(placement, activity)
    tallies, outside = follow(network, cores, placement.positions.tolist(), sent)
    for field, column in zip(fields(found.cores), zip(*tallies, strict=True), strict=True):
        assert getattr(found.cores, field.name).tolist() == list(column), field.name
    everything = [sum(column) for column in zip(*tallies, outside, strict=True)]
    events, active, inactive, messages, received, east_west, north_south, off_chip = everything
    dense = found.total.dense_events
    assert found.total == Counts(events, dense, active, inactive, messages, east_west, north_south, off_chip)
    assert (messages, outside.sent) == (received, found.populations["in"].messages)
    joules = events * 2 + active * 8 + inactive * 4 + messages * 0.5 + east_west * 3 + north_south * 5
    assert found.energy == pytest.approx(joules * 1e-12 / samples)
    assert found.hops == (east_west + north_south) / samples
    assert sum(found.energy_of(name) or 0.0 for name in found.populations) == pytest.approx(found.energy)


@settings(max_examples=20, deadline=None)
@given(networks(), st.integers(0, 2**32 - 1))
def test_hops_and_messages_agree_with_the_placements_own_count(network: ChipNetwork, seed: int) -> None:
    """`place` counts them for itself, to arrange the cores; what inputs send it leaves out of the hops."""
    activity = random_activity(network, np.random.default_rng(seed), 2)
    chip = replace(CHIP, neurons_per_core=2)
    placement = place(network, chip, activity)
    found = estimate(placement, activity, chip)
    assert placement.mesh is not None
    assert placement.messages == found.total.messages
    on_chip = [counts for name, counts in found.populations.items() if name != "in"]
    assert placement.mesh.hops == sum(c.east_west_hops + c.north_south_hops for c in on_chip)
    assert placement.mesh.between_chips == sum(c.off_chip_messages for c in on_chip)


@settings(max_examples=40, deadline=None)
@given(networks(), st.integers(0, 2**32 - 1), st.integers(1, 2))
def test_step_times_against_loops(
    tmp_path_factory: pytest.TempPathFactory, network: ChipNetwork, seed: int, samples: int
) -> None:
    rng = np.random.default_rng(seed)
    placement = random_placement(network, rng, tmp_path_factory.mktemp("cores"))
    activity = random_activity(network, rng, samples)
    found = estimate(placement, activity, CHIP, times=TIMES)
    assert found.steps is not None
    assert found.time is not None
    assert placement.positions is not None
    cores, sent = as_lists(placement, activity)
    spiking = {name: values for name, values in sent.items() if name in activity.spikes}
    expected = slowest_cores(network, cores, placement.positions.tolist(), spiking, PRICES)
    got = np.stack((found.steps.neurons, found.steps.messages, found.steps.route), axis=1)
    np.testing.assert_allclose(got * 1e9, expected, rtol=1e-12, atol=1e-12)
    tiles = len(np.unique(placement.positions, axis=0))
    barrier = 100 + 200 * (min(tiles, 5) - 1) / 4
    total = sum(max(neurons, messages) + route + barrier for neurons, messages, route in expected)
    assert found.time == pytest.approx(total * 1e-9 / samples)


@settings(max_examples=30, deadline=None)
@given(networks(), st.integers(0, 2**32 - 1))
def test_an_activity_in_chip_time_is_the_same_later(
    tmp_path_factory: pytest.TempPathFactory, network: ChipNetwork, seed: int
) -> None:
    """Only idle updates, while the pipeline fills, are added."""
    rng = np.random.default_rng(seed)
    placement = random_placement(network, rng, tmp_path_factory.mktemp("cores"))
    activity = random_activity(network, rng, 2)
    aligned = in_chip_time(activity, network)
    assert (aligned.samples, aligned.time_steps) == (1, 2 * 2 + 3)
    once, later = estimate(placement, activity, CHIP).total, estimate(placement, aligned, CHIP).total
    neurons = sum(p.size for p in network.populations if not p.is_input)
    assert later == replace(once, inactive_updates=once.inactive_updates + 3 * neurons)
    for lag, name in enumerate(("in", "a", "hidden")):
        np.testing.assert_array_equal(aligned.spikes[name][lag : lag + 2, 0], activity.spikes[name][:, 0])
        np.testing.assert_array_equal(aligned.spikes[name][lag + 2 : lag + 4, 0], activity.spikes[name][:, 1])


def chain() -> tuple[ChipNetwork, Activity]:
    """Two inputs → three neurons → a readout; everything fires once."""
    populations = (
        Population("in", (2,), SpikeInput()),
        Population("hidden", (3,), CubaLIF(1)),
        Population("out", (1,), Accumulator()),
    )
    weights = Dense(np.ones((3, 2), np.int32)), Dense(np.ones((1, 3), np.int32))
    synapses = (Synapses("in", "hidden", weights[0]), Synapses("hidden", "out", weights[1]))
    network = ChipNetwork(populations, synapses, chip="tiny", time_steps=1)
    return network, Activity(
        {"in": np.ones((1, 1, 2), int), "hidden": np.ones((1, 1, 3), int)}, np.zeros((1, 1), int), {}
    )


def placed(tmp_path: Path, chip: Chip = CHIP, cores: tuple[int, ...] = (0, 0, 1, 2)) -> Placement:
    np.savez(tmp_path / "cores.npz", hidden=np.array(cores[:3], np.int32), out=np.array(cores[3:], np.int32))
    return load_placement(tmp_path / "cores.npz", replace(chain()[0], chip=chip.name), chip)


def test_hops_by_hand(tmp_path: Path) -> None:
    """Inputs enter at (0, 0); hidden neurons on (1, 0), (1, 0) and (0, 2), the readout on (3, 1)."""
    placement = replace(placed(tmp_path), positions=np.array([[0, 1, 0], [0, 0, 2], [0, 3, 1]]))
    found = estimate(placement, chain()[1], CHIP)
    assert found.populations["in"] == Counts(messages=4, east_west_hops=2, north_south_hops=4)
    sent = found.populations["hidden"]
    assert (sent.messages, sent.east_west_hops, sent.north_south_hops) == (3, 2 + 2 + 3, 1 + 1 + 1)
    assert found.energy_parts["east_west_hops"] == pytest.approx(9 * 3e-12)
    assert found.energy_parts["north_south_hops"] == pytest.approx(7 * 5e-12)
    assert found.hops == 16


def test_messages_that_leave_their_chip_have_no_hops_and_no_time(tmp_path: Path) -> None:
    placement = replace(placed(tmp_path), positions=np.array([[0, 0, 0], [0, 0, 0], [1, 5, 5]]))
    found = estimate(placement, chain()[1], CHIP, times=TIMES)
    assert (found.total.off_chip_messages, found.hops) == (3, 0)
    assert found.steps is None
    assert found.time is None


def test_positions_that_were_not_given_are_assumed_and_said_to_be(tmp_path: Path) -> None:
    expected = [[0, 0, 0], [0, 0, 0], [0, 0, 1], [0, 0, 1], [0, 1, 0], [0, 1, 0], [0, 1, 1], [0, 1, 1], [1, 0, 0]]
    positions = default_positions(9, CHIP)
    assert positions is not None
    assert positions.tolist() == expected
    found = estimate(replace(placed(tmp_path), positions=None), chain()[1], CHIP)
    given_there = estimate(replace(placed(tmp_path), positions=positions[:3]), chain()[1], CHIP)
    assert found.populations == given_there.populations
    assert any("positions of the cores (none were given" in line for line in found.not_modelled)
    assert not any("positions" in line for line in given_there.not_modelled)


def test_without_a_published_mesh_hops_and_times_are_unknown(tmp_path: Path) -> None:
    flat = replace(CHIP, mesh_columns=None, mesh_rows=None, cores_per_router=None)
    found = estimate(placed(tmp_path, flat), chain()[1], flat, times=TIMES)
    assert (found.hops, found.time, found.knows_mesh) == (None, None, False)
    assert "east_west_hops" not in found.energy_parts
    assert "mesh hops between cores" in found.not_modelled
    assert found.energy is not None


def test_unpublished_prices_per_hop_are_left_out_and_named(tmp_path: Path) -> None:
    chip = replace(CHIP, hop_north_south_pj=None)
    found = estimate(placed(tmp_path, chip), chain()[1], chip)
    assert "mesh hops between cores" in found.not_modelled
    assert set(found.energy_parts) == {"synaptic_events", "active_updates", "inactive_updates", "messages"}


def test_loihis_numbers_and_sources(tmp_path: Path) -> None:
    loihi = load_chip("loihi1")
    found = estimate(placed(tmp_path, loihi), chain()[1], loihi)
    assert found.coefficients["east_west_hops"][:2] == (3.0, "pJ")
    assert all("Davies 2018" in price.source for price in found.coefficients.values())
    times = published_times(loihi)
    assert times is not None
    assert (times.barrier_ns(1), times.barrier_ns(32), times.barrier_ns(40)) == (113.0, 465.0, 465.0)
    assert times.barrier_ns(2) == pytest.approx(113 + 352 / 31)
    assert found.steps is not None
    assert "Davies 2018" in found.steps.source


def test_times_are_the_chip_files_whatever_its_name() -> None:
    loihi = load_chip("loihi1")
    times = published_times(replace(loihi, name="mine"))
    assert times == published_times(loihi)
    assert times is not None
    slower = published_times(replace(loihi, hop_east_west_ns=9.0))
    assert slower == replace(times, east_west_hop=9.0)
    assert published_times(replace(loihi, mesh_columns=None, mesh_rows=None, cores_per_router=None)) is None
    with pytest.raises(InvalidChip, match=r"how long a time step takes, but \['synop_ns'\] are absent"):
        replace(loihi, synop_ns=None)


@pytest.mark.parametrize(("seconds", "text"), [(None, "unknown"), (0.0, "0 s"), (4.1e-4, "410.00 µs"), (2.5, "2.50 s")])
def test_times_as_the_report_writes_them(seconds: float | None, text: str) -> None:
    assert duration(seconds) == text


def test_the_function_and_its_package_share_a_name() -> None:
    assert hw_targets.estimate is estimate
    assert hw_targets.Estimate is Estimate


def test_what_is_not_a_placement_of_this_network_is_refused(tmp_path: Path) -> None:
    placement, activity = placed(tmp_path), chain()[1]
    with pytest.raises(InvalidChip, match="made for 'tiny', but the estimate is for 'loihi1'"):
        estimate(placement, activity, load_chip("loihi1"))
    absent = replace(placement, cores={"hidden": placement.cores["hidden"]})
    with pytest.raises(HardwareTargetError, match=r"of another network: it places \['hidden'\], its network has"):
        estimate(absent, activity, CHIP)
    short = replace(placement, cores={**placement.cores, "hidden": placement.cores["hidden"][:2]})
    with pytest.raises(
        HardwareTargetError, match=r"'hidden' has cores of shape \(2,\), expected \(3,\) with indices 0 … 2"
    ):
        estimate(short, activity, CHIP)
    beyond = replace(placement, cores={**placement.cores, "out": np.array([3], np.int32)})
    with pytest.raises(HardwareTargetError, match=r"'out' has cores .* indices 0 … 2"):
        estimate(beyond, activity, CHIP)
    with pytest.raises(HardwareTargetError, match=r"positions are int64 \(2, 3\), expected integers \(3, 3\)"):
        estimate(replace(placement, positions=np.zeros((2, 3), np.int64)), activity, CHIP)
    with pytest.raises(HardwareTargetError, match="positions hold -1, expected 0 or more"):
        estimate(replace(placement, positions=-np.ones((3, 3), np.int64)), activity, CHIP)


@pytest.mark.parametrize(("position", "name"), [(0, "Placement"), (1, "Activity"), (2, "Chip")])
def test_arguments_of_another_type_are_refused(position: int, name: str, tmp_path: Path) -> None:
    arguments: list[object] = [placed(tmp_path), chain()[1], CHIP]
    arguments[position] = "loihi1"
    with pytest.raises(InvalidNetwork, match=f"estimate: got a str, expected a {name}"):
        estimate(*arguments)  # type: ignore[arg-type]


@pytest.mark.parametrize("wrong", [np.nan, -1, 0.5, 2])
def test_spoiled_activity_is_refused(wrong: float, tmp_path: Path) -> None:
    activity = chain()[1]
    spoiled = {**activity.spikes, "hidden": np.full((1, 1, 3), wrong)}
    with pytest.raises(HardwareTargetError, match="activity of 'hidden' holds 3 values of 3 that are"):
        estimate(placed(tmp_path), replace(activity, spikes=spoiled), CHIP)
    with pytest.raises(HardwareTargetError, match=r"lacks the spikes of \['hidden'\]"):
        estimate(placed(tmp_path), replace(activity, spikes={"in": activity.spikes["in"]}), CHIP)
