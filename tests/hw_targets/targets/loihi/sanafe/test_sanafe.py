"""Files for SANA-FE: what they say, what is refused, and SANA-FE itself as the judge of counts, energies and times."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from examples.benchmarks import sanafe_dvs, sanafe_program
from hw_targets import emulate, load_chip, place
from hw_targets.errors import HardwareTargetError, InvalidChip, InvalidFile, InvalidNetwork, UnsupportedModel
from hw_targets.estimation import estimate, in_chip_time
from hw_targets.ir.activity import Activity
from hw_targets.ir.network import (
    Accumulator,
    ChipNetwork,
    Conv2d,
    Dense,
    GradedInput,
    Neuron,
    Op,
    Population,
    SpikeInput,
    Synapses,
)
from hw_targets.placement import Placement
from hw_targets.targets.loihi.neuron import CubaLIF
from hw_targets.targets.loihi.sanafe.writer import FILES, export_sanafe, group_names
from hw_targets.targets.saved_placements import load_placement

needs_sanafe = pytest.mark.skipif(sanafe_program.missing() is not None, reason=str(sanafe_program.missing()))
STEPS = 5
LOIHI = load_chip("loihi1")
Weights = npt.NDArray[np.int32]


def weights(rng: np.random.Generator, *shape: int) -> Weights:
    """Even integers, half of them zero."""
    return np.where(rng.random(shape) < 0.5, 2 * rng.integers(-20, 25, shape), 0).astype(np.int32)


def network(seed: int, *, graded: bool, decay: int = 0, biased: bool = True) -> ChipNetwork:
    """Image → convolution → convolution → dense layer → readout; biases of both signs in every layer."""
    rng = np.random.default_rng(seed)
    entry: Neuron = GradedInput(4, 15.0) if graded else SpikeInput()
    threshold = 300 if graded else 40
    first, second = Conv2d(weights(rng, 3, 2, 3, 3), padding=(1, 1)), Conv2d(weights(rng, 4, 3, 3, 3), (2, 2), (1, 1))

    def bias(size: int) -> Weights | None:
        return rng.integers(-9, 30, size).astype(np.int32) if biased else None

    populations = (
        Population("image", (2, 5, 6), entry),
        Population("conv.1", first.output_shape((2, 5, 6)), CubaLIF(threshold, v_decay=decay), bias(3)),
        Population("conv 2→", second.output_shape((3, 5, 6)), CubaLIF(40, v_decay=decay), bias(4)),
        Population("dense", (7,), CubaLIF(30), bias(7)),
        Population("out", (3,), Accumulator(), bias(3)),
    )
    names = [p.name for p in populations]
    ops: tuple[Op, ...] = (first, second, Dense(weights(rng, 7, populations[2].size)), Dense(weights(rng, 3, 7)))
    synapses = tuple(Synapses(a, b, op) for a, b, op in zip(names, names[1:], ops, strict=False))
    return ChipNetwork(populations, synapses, chip="loihi1", time_steps=STEPS)


def shown(net: ChipNetwork, seed: int) -> npt.NDArray[np.int64]:
    """One sample: a static image, or spikes that change."""
    rng = np.random.default_rng(seed)
    entry = net.inputs[0]
    if isinstance(entry.neuron, GradedInput):
        image = rng.integers(0, 16, entry.shape)
        return np.broadcast_to(image, (STEPS, 1, *entry.shape)).astype(np.int64)
    return (rng.random((STEPS, 1, *entry.shape)) < 0.4).astype(np.int64)


def scattered(net: ChipNetwork, seed: int, folder: Path) -> Placement:
    """Neurons on any of seven cores, cores anywhere on a mesh of 3 × 4 routers."""
    rng = np.random.default_rng(seed)
    cores = {p.name: rng.integers(0, 7, p.size).astype(np.int32) for p in net.populations if not p.is_input}
    np.savez(folder / "cores.npz", **cores)
    chip = replace(LOIHI, populations_per_core=100)
    placement = load_placement(folder / "cores.npz", net, chip)
    return replace(placement, positions=rng.integers(0, (1, 3, 4), (7, 3)))


CASES: dict[str, Callable[[int], ChipNetwork]] = {
    "spikes, no leak": partial(network, graded=False),
    "an image, no leak": partial(network, graded=True),
    "an image, leak": partial(network, graded=True, decay=700),
    "spikes, leak, no bias": partial(network, graded=False, decay=300, biased=False),
}


@needs_sanafe
@pytest.mark.parametrize("case", CASES)
def test_sanafe_finds_the_same_spikes_events_energies_and_times(case: str, tmp_path: Path) -> None:
    net = CASES[case](3)
    inputs = shown(net, 4)
    activity = emulate(net, inputs)
    assert not any(activity.overflows.values())
    placement = scattered(net, 5, tmp_path)
    export_sanafe(placement, inputs[:, 0], tmp_path / "files")
    theirs = sanafe_program.simulate(tmp_path / "files")
    aligned = in_chip_time(activity, net)
    ours = estimate(placement, aligned, placement.chip)
    fired = check_spikes(aligned, theirs, net)
    assert fired > 100
    count, part = ours.total, {name: joules or 0.0 for name, joules in ours.energy_parts.items()}
    hops = count.east_west_hops + count.north_south_hops
    assert hops > 0
    assert {k: theirs["counts"][k] for k in ("spikes", "packets_sent", "neurons_fired", "hops")} == {
        "spikes": count.synaptic_events,
        "packets_sent": count.messages,
        "neurons_fired": fired,
        "hops": hops,
    }
    network_energy = part["messages"] + part["east_west_hops"] + part["north_south_hops"]
    soma = part["active_updates"] + part["inactive_updates"]
    assert theirs["energy"]["synapse"] == pytest.approx(part["synaptic_events"], rel=1e-9)
    assert theirs["energy"]["soma"] == pytest.approx(soma, rel=1e-9)
    assert theirs["energy"]["network"] == pytest.approx(network_energy, rel=1e-9)
    assert theirs["energy"]["total"] == pytest.approx(ours.energy, rel=1e-9)
    # One sample by itself, so that the estimate aligns it; SANA-FE's "simple" model leaves out the way on the mesh.
    steps = estimate(placement, activity, placement.chip).steps
    assert steps is not None
    np.testing.assert_allclose(np.maximum(steps.neurons, steps.messages) + steps.barrier, theirs["step_seconds"], 1e-9)


def check_spikes(aligned: Activity, theirs: dict[str, Any], net: ChipNetwork) -> int:
    """Every spike of every neuron; returns how many there are."""
    total = 0
    for name, group in group_names(net).items():
        values = aligned.spikes.get(name, np.zeros((1, 1), int))
        mine = np.argwhere(values.reshape(len(values), -1)).tolist()
        assert sorted(theirs["spikes"].get(group, [])) == mine, name
        total += len(mine)
    return total


@needs_sanafe
def test_sanafes_own_network_is_read_as_it_reads_it() -> None:
    """The weights of its DVS example; that they fire alike in SANA-FE is what the benchmark checks."""
    net = sanafe_dvs.dvs_network(sanafe_program.dvs_file(), 30)
    assert [p.shape for p in net.populations[1:]] == [
        (1, 32, 32), (16, 15, 15), (32, 13, 13), (64, 11, 11), (11, 9, 9), (11,)
    ]  # fmt: skip
    activity = emulate(net, np.zeros((30, 1, 1), np.int64))
    assert activity.spikes["conv1"].any()
    placement = sanafe_dvs.dvs_placement(net)
    assert placement.core_count == 42
    updated = sanafe_dvs.neurons_updated(net, activity, 30)
    assert 0 < updated <= 30 * sum(p.size for p in net.populations)


def lines(folder: Path, name: str) -> list[str]:
    return (folder / name).read_text().splitlines()


def test_what_the_files_say(tmp_path: Path) -> None:
    """One input neuron of value 3 → two neurons with thresholds 10 and biases 1, 2, on cores of two tiles."""
    populations = (
        Population("x", (2,), GradedInput(4, 15.0)),
        Population("y", (2,), CubaLIF(10, v_decay=1024), np.array([1, 2], np.int32)),
    )
    synapses = (Synapses("x", "y", Dense(np.array([[4, 5], [-6, 0]], np.int32))),)
    net = ChipNetwork(populations, synapses, chip="loihi1", time_steps=2)
    np.savez(tmp_path / "cores.npz", y=np.array([0, 1], np.int32))
    placement = replace(load_placement(tmp_path / "cores.npz", net, LOIHI), positions=np.array([[0, 0, 1], [0, 1, 0]]))
    export_sanafe(placement, np.array([[3, 0], [3, 0]]), tmp_path / "new" / "folder")
    folder = tmp_path / "new" / "folder"
    assert sorted(p.name for p in folder.iterdir()) == sorted(FILES)
    text = lines(folder, "network.yaml")
    assert "        - 0: {spikes: [1, 1]}" in text
    assert "        - 1: {spikes: [0, 0]}" in text
    assert "        - 1..1: [soma: {bias: 2}]" in text
    assert any("threshold: 10.0, leak_decay: 0.75, input_decay: 0.0, reset: 0.0" in line for line in text)
    edges = "{type: sparse, source_target_pairs: [[0, 0], [0, 1]], weight: [12, -18]}"
    assert f"    - g0 -> g1: {edges}" in text
    assert text[-4:] == [
        '  - g0.0: {core: 0.1, soma: "input[0]"}',
        '  - g0.1: {core: 0.1, soma: "input[1]"}',
        "  - g1.0..0: {core: 1.0, soma: lif}",
        "  - g1.1..1: {core: 2.0, soma: lif}",
    ]
    mesh = " ".join(lines(folder, "architecture.yaml"))
    for fact in ("width: 2, height: 2", "energy_process_spike: 23.6e-12", "energy_access_neuron: 52e-12"):
        assert fact in mesh
    assert "energy_spike_out: 29e-12" in mesh
    assert "latency_sync: 124.354838" in mesh
    run = json.loads((folder / "run.json").read_text())
    assert run["steps"] == 3
    assert run["groups"]["g1"] == {"population": "y", "neurons": 2, "bias": [1, 2], "first_step": 2, "last_step": 3}


def test_nothing_is_overwritten_unasked(tmp_path: Path) -> None:
    net = network(0, graded=False)
    placement, inputs = place(net, LOIHI), shown(net, 0)[:, 0]
    export_sanafe(placement, inputs, tmp_path / "run")
    before = {name: (tmp_path / "run" / name).read_bytes() for name in FILES}
    (tmp_path / "run" / FILES[0]).unlink()
    with pytest.raises(InvalidFile, match=r"holds \['network.yaml', 'run.json'\] already; .*--overwrite"):
        export_sanafe(placement, inputs, tmp_path / "run")
    assert not (tmp_path / "run" / FILES[0]).exists(), "nothing is written before all is checked"
    export_sanafe(placement, inputs, tmp_path / "run", overwrite=True)
    assert {name: (tmp_path / "run" / name).read_bytes() for name in FILES} == before
    (tmp_path / "file").write_text("mine")
    with pytest.raises(InvalidFile, match="file cannot be a folder"):
        export_sanafe(placement, inputs, tmp_path / "file")
    assert (tmp_path / "file").read_text() == "mine"


def with_skip(net: ChipNetwork) -> ChipNetwork:
    image, dense = net["image"], net["dense"]
    skip = Synapses("image", "dense", Dense(np.ones((dense.size, image.size), np.int32)))
    return replace(net, synapses=(*net.synapses, skip))


def lasting(net: ChipNetwork) -> ChipNetwork:
    slow = replace(net["dense"], neuron=CubaLIF(30, i_decay=2048))
    return replace(net, populations=tuple(slow if p.name == "dense" else p for p in net.populations))


def recurrent(net: ChipNetwork) -> ChipNetwork:
    back = Synapses("dense", "dense", Dense(np.eye(net["dense"].size, dtype=np.int32)))
    return replace(net, synapses=(*net.synapses, back))


def delayed(net: ChipNetwork) -> ChipNetwork:
    late = replace(net.synapses[-1], delay=np.full((1, 1), 2))
    return replace(net, synapses=(*net.synapses[:-1], late))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (recurrent, "synapses dense→dense: recurrent neurons would go on"),
        (delayed, "synapses dense→out: delays are not exported"),
        (with_skip, r"'dense' hears sources \[0, 2\] layers deep.*insert_relays"),
        (lasting, "'dense': i_decay is 2048.*only i_decay = 4096"),
    ],
)
def test_what_sanafe_cannot_run_exactly_is_refused(
    change: Callable[[ChipNetwork], ChipNetwork], message: str, tmp_path: Path
) -> None:
    net = change(network(0, graded=False))
    with pytest.raises(UnsupportedModel, match=message):
        export_sanafe(scattered(net, 0, tmp_path), shown(net, 0)[:, 0], tmp_path / "run")
    assert not (tmp_path / "run").exists()


def two_chips(placement: Placement) -> Placement:
    positions = np.zeros((placement.core_count, 3), np.int64)
    positions[-1, 0] = 1
    return replace(placement, positions=positions)


def without(key: str, placement: Placement) -> Placement:
    facts: dict[str, Any] = {key: None}
    return replace(placement, chip=replace(placement.chip, **facts))


REFUSED: dict[str, tuple[type[HardwareTargetError], Callable[[Placement], Placement]]] = {
    "SANA-FE simulates one chip, but the placement takes 2": (UnsupportedModel, two_chips),
    "states no synop_pj": (InvalidChip, partial(without, "synop_pj")),
    "states no hop_north_south_pj": (InvalidChip, partial(without, "hop_north_south_pj")),
}


@pytest.mark.parametrize("message", REFUSED)
def test_chips_that_sanafe_cannot_stand_for_are_refused(message: str, tmp_path: Path) -> None:
    error, change = REFUSED[message]
    net = network(0, graded=False)
    with pytest.raises(error, match=message):
        export_sanafe(change(place(net, LOIHI)), shown(net, 0)[:, 0], tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_inputs_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    net = network(0, graded=True)
    placement, inputs = place(net, LOIHI), shown(net, 0)[:, 0]
    spoiled = inputs.copy()
    spoiled[0, 0, 0, 0] = 15 if inputs[1, 0, 0, 0] != 15 else 14
    spoiled[1:, 0, 0, 0] = 3
    for wrong, error, message in (
        (spoiled, UnsupportedModel, "1 input neurons change their value between steps"),
        (inputs[:, :1], InvalidNetwork, "inputs are int64 (5, 1, 5, 6), expected integers (T, 2, 5, 6)"),
        (inputs / 2, InvalidNetwork, "inputs are float64"),
        (-inputs, InvalidNetwork, "inputs hold -15, expected 0 or more"),
    ):
        with pytest.raises(error, match=re.escape(message)):
            export_sanafe(placement, wrong, tmp_path / "run")
    with pytest.raises(InvalidNetwork, match="export_sanafe: got a ChipNetwork, expected a Placement"):
        export_sanafe(net, inputs, tmp_path / "run")  # type: ignore[arg-type]


def test_sanafe_is_never_imported_by_the_packages() -> None:
    root = Path(__file__).parents[5]
    for path in [*(root / "hw_targets").rglob("*.py"), *(root / "neuroprune").rglob("*.py")]:
        assert not re.search(r"^\s*(import|from) sanafe|import_module\(.sanafe", path.read_text(), re.M), path
