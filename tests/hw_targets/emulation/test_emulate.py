"""The emulator against a slow twin that runs one neuron at a time, and its refusals."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from hw_targets import emulate
from hw_targets.errors import InvalidNetwork
from hw_targets.ir.network import (
    LIF,
    Accumulator,
    ChipNetwork,
    Conv2d,
    Dense,
    GradedInput,
    Network,
    Population,
    SpikeInput,
    Synapses,
)
from hw_targets.targets.loihi.neuron import DYNAMICS, CubaLIF
from tests.builders.chip_networks import Array, assert_same, random_inputs, random_network, random_op, weights
from tests.twins.chip import conv_loop, loihi_step, matrix, run_slowly


@settings(max_examples=300, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    budget=st.sampled_from([12, 400, 30_000, 150_000]),
    graded=st.booleans(),
    per_step=st.booleans(),
    samples=st.integers(1, 3),
)
def test_every_spike_equals_the_slow_twin(seed: int, budget: int, graded: bool, per_step: bool, samples: int) -> None:
    network = random_network(seed, budget=budget, graded=graded)
    inputs = random_inputs(network, samples, seed + 1, per_step=per_step)
    assert_same(emulate(network, inputs), run_slowly(network, inputs))


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 10**6), budget=st.sampled_from([400, 150_000]))
def test_a_batch_equals_its_samples_one_by_one(seed: int, budget: int) -> None:
    network = random_network(seed, budget=budget, graded=True)
    inputs = random_inputs(network, 4, seed, per_step=True)
    together = emulate(network, inputs)
    alone = [emulate(network, inputs[:, i : i + 1]) for i in range(4)]
    for name in together.spikes:
        np.testing.assert_array_equal(together.spikes[name], np.concatenate([a.spikes[name] for a in alone], 1))
    np.testing.assert_array_equal(together.output, np.concatenate([a.output for a in alone]))
    assert together.overflows == {n: sum(a.overflows[n] for a in alone) for n in together.overflows}


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 10**6))
def test_the_twins_synapse_list_is_a_convolution(seed: int) -> None:
    """The reference itself, against its own loop and against torch: two wrong twins would hide a wrong emulator."""
    rng = np.random.default_rng(seed)
    op = random_op(rng, (4, 5, 4), 1000)
    image = rng.integers(0, 256, (4, 5, 4))
    if not isinstance(op, Conv2d):
        return
    by_loop = conv_loop(image, op.weight.astype(np.int64), op.stride, op.padding, op.dilation, op.groups)
    by_torch = F.conv2d(
        torch.from_numpy(image)[None].double(),
        torch.from_numpy(op.weight).double(),
        None,
        op.stride,
        op.padding,
        op.dilation,
        op.groups,
    )
    np.testing.assert_array_equal(matrix(op, (4, 5, 4)) @ image.ravel(), by_loop.ravel())
    np.testing.assert_array_equal(by_torch[0].numpy(), by_loop)


def one_neuron(
    neuron: CubaLIF | Accumulator, weight: int, *, steps: int, bias: int | None = None, graded: bool = False
) -> ChipNetwork:
    populations = (
        Population("in", (1,), GradedInput() if graded else SpikeInput()),
        Population("n", (1,), neuron, None if bias is None else np.array([bias], np.int32)),
    )
    synapses = (Synapses("in", "n", Dense(np.array([[weight]], np.int32))),)
    return ChipNetwork(populations, synapses, time_steps=steps)


def spike_train(network: ChipNetwork, values: list[int]) -> list[int]:
    result: list[int] = emulate(network, np.array(values)[:, None, None]).spikes["n"].ravel().tolist()
    return result


def test_worked_examples_from_the_formula() -> None:
    """Numbers computed by hand from facts-hardware.md, so that a slip shared by both twins would show."""
    # Strict threshold: v = 10·64 is not above 10 << 6; the second input takes it to 20.
    assert spike_train(one_neuron(CubaLIF(10), 10, steps=3), [1, 1, 1]) == [0, 1, 0]
    assert spike_train(one_neuron(CubaLIF(9), 10, steps=3), [1, 0, 1]) == [1, 0, 1]
    # Half leak: 640 → 320 + 640 = 960 → 480 + 640 = 1120 → 560 + 640 = 1200 > 18·64 = 1152.
    assert spike_train(one_neuron(CubaLIF(18, v_decay=2048), 10, steps=5), [1, 1, 1, 1, 1]) == [0, 0, 0, 1, 0]
    # Current decay by half: u = 640, 320, 160; v = 640, 960, 1120 > 17·64 = 1088; v is reset, u is not.
    assert spike_train(one_neuron(CubaLIF(17, i_decay=2048), 10, steps=4), [1, 0, 0, 0]) == [0, 0, 1, 0]
    # The same threshold is strict where there is a leak, too: 640 + 320 = 960 = 15·64 does not fire, 1120 > 960 does.
    assert spike_train(one_neuron(CubaLIF(15, v_decay=2048), 10, steps=3), [1, 1, 1]) == [0, 0, 1]
    # A bias alone charges the neuron: 4, 8, 12 > 11.
    assert spike_train(one_neuron(CubaLIF(11), 1, steps=4, bias=4), [0, 0, 0, 0]) == [0, 0, 1, 0]
    # Decay rounds toward zero: v = −64 → rz(−64·4095) = −63 → −62 …; floor would stay at −64.
    trace = []
    u, v = 0, 0
    for a in (-1, 0, 0):
        u, v, _, _ = loihi_step(u, v, a, 0, CubaLIF(5, v_decay=1))
        trace.append(v)
    assert trace == [-64, -63, -62]


def test_negative_potentials_decay_toward_zero() -> None:
    # −64 leaks 1/4096 a step, rounded toward zero: −63, −62, … so 64 more reach +2 > 0 after two steps. Rounding down
    # would leave it at −64, and 64 more at 0, which does not fire.
    populations = (Population("in", (2,), SpikeInput()), Population("n", (1,), CubaLIF(0, v_decay=1)))
    network = ChipNetwork(populations, (Synapses("in", "n", Dense(np.array([[-1, 1]], np.int32))),), time_steps=4)
    inputs = np.array([[1, 0], [0, 0], [0, 0], [0, 1]])[:, None]
    activity = emulate(network, inputs)
    assert activity.spikes["n"].ravel().tolist() == [0, 0, 0, 1]
    assert_same(activity, run_slowly(network, inputs))


def test_a_current_beyond_24_bits_wraps_and_is_counted() -> None:
    # 255·520 << 6 = 8 486 400 > 2^23 becomes −8 290 816: no spike where a sum would fire.
    network = one_neuron(CubaLIF(100), 520, steps=1, graded=True)
    activity = emulate(network, np.array([[255]]))
    assert activity.spikes["n"].item() == 0
    assert activity.overflows["n"] == 1
    # 2^23 itself is kept, as Lava does (u > 2^23 wraps), and then clipped in v.
    exact = emulate(one_neuron(CubaLIF(100), 1 << 17, steps=1), np.array([[1]]))
    assert (exact.spikes["n"].item(), exact.overflows["n"]) == (1, 1)
    # −2^23 wraps to +2^23.
    flipped = emulate(one_neuron(CubaLIF(100), -(1 << 17), steps=1), np.array([[1]]))
    assert (flipped.spikes["n"].item(), flipped.overflows["n"]) == (1, 2)


def test_potentials_saturate_and_are_counted() -> None:
    network = one_neuron(CubaLIF(1 << 17), -100_000, steps=4)
    values = np.array([1, 1, 1, 0])[:, None, None]
    activity = emulate(network, values)
    assert activity.overflows["n"] == 2  # the second and the third step would leave 24 bits
    assert_same(activity, run_slowly(network, values))
    summed = emulate(replace(one_neuron(Accumulator(), -100_000, steps=4), readout_dynamics=DYNAMICS), values)
    assert summed.output.item() == -(1 << 17)  # −(2^23 − 1) >> 6
    assert summed.overflows["n"] == 2


@pytest.mark.parametrize("terms", [2, 3, 5])
def test_equal_and_different_sew_terms_add(terms: int) -> None:
    rng = np.random.default_rng(terms)
    shape = (2, 4, 4)
    populations = [Population("in", shape, SpikeInput())]
    synapses = []
    shared = Conv2d(weights(rng, (3, 2, 3, 3), 60), padding=(1, 1))
    for i in range(terms):
        populations.append(Population(f"t{i}", shape, CubaLIF(20 * i + 5)))
        synapses.append(Synapses("in", f"t{i}", Conv2d(weights(rng, (2, 2, 3, 3), 60), padding=(1, 1))))
        synapses.append(Synapses(f"t{i}", "sum", shared))
    synapses.append(Synapses("in", "sum", Conv2d(weights(rng, (3, 2, 1, 1), 60))))
    populations.append(Population("sum", (3, 4, 4), CubaLIF(150), np.array([3, -4, 5], np.int32)))
    network = ChipNetwork(tuple(populations), tuple(synapses), time_steps=5)
    inputs = rng.integers(0, 2, (5, 2, *shape))
    activity = emulate(network, inputs)
    assert 0 < activity.spikes["sum"].mean() < 1
    assert_same(activity, run_slowly(network, inputs))


def test_equal_weights_on_sources_of_different_shape() -> None:
    """One dense layer after conv spikes (2, 1, 2) plus dense spikes (4,): the same matrix, two shapes."""
    rng = np.random.default_rng(0)
    last = Dense(weights(rng, (3, 4), 9))
    populations = (
        Population("in", (1, 2, 3), SpikeInput()),
        Population("a", (2, 1, 2), CubaLIF(2)),
        Population("b", (4,), CubaLIF(2)),
        Population("out", (3,), Accumulator()),
    )
    synapses = (
        Synapses("in", "a", Conv2d(weights(rng, (2, 1, 2, 2), 9))),
        Synapses("a", "b", Dense(weights(rng, (4, 4), 9))),
        Synapses("a", "out", last),
        Synapses("b", "out", last),
    )
    network = ChipNetwork(populations, synapses, time_steps=4)
    inputs = rng.integers(0, 2, (4, 3, 1, 2, 3))
    assert_same(emulate(network, inputs), run_slowly(network, inputs))


@pytest.mark.parametrize("chip", [True, False], ids=["chip", "real"])
def test_an_image_and_spikes_through_the_same_weights(chip: bool) -> None:
    """A SEW sum of the image itself and spikes: 255 + 1 must not wrap in 8 bits, nor the spike count as 1/255."""
    rng = np.random.default_rng(0)
    shared = Conv2d(weights(rng, (2, 2, 3, 3), 3), padding=(1, 1))
    own = Conv2d(weights(rng, (2, 2, 1, 1), 3))
    populations = (
        Population("in", (2, 4, 4), GradedInput()),
        Population("a", (2, 4, 4), CubaLIF(90) if chip else LIF(0.5)),
        Population("b", (2, 4, 4), CubaLIF(900) if chip else LIF(2.3)),
    )
    synapses = (Synapses("in", "a", own), Synapses("in", "b", shared), Synapses("a", "b", shared))
    network: ChipNetwork | Network = (ChipNetwork if chip else Network)(populations, synapses, time_steps=3)
    inputs = rng.integers(0, 256, (2, 2, 4, 4))
    inputs[0, 0] = 255
    ours, slow = emulate(network, inputs), run_slowly(network, inputs)
    for name in ("a", "b"):
        np.testing.assert_array_equal(ours.spikes[name], slow.spikes[name], err_msg=name)


def test_inputs_as_integers_reals_and_tensors_are_one() -> None:
    network = random_network(3, budget=400, graded=True)
    images = random_inputs(network, 2, 0, per_step=False)
    expected = emulate(network, images)
    for same in (
        images.astype(np.uint8),
        images / 255,
        (images / 255).astype(np.float32),
        torch.from_numpy(images),
        np.stack([images] * network.time_steps),
    ):
        np.testing.assert_array_equal(emulate(network, same).output, expected.output)
    assert expected.samples == 2
    assert expected.time_steps == network.time_steps


def test_the_inputs_are_left_alone() -> None:
    network = random_network(5, budget=400, graded=False)
    inputs = random_inputs(network, 3, 0, per_step=True)
    before = inputs.copy()
    first = emulate(network, inputs)
    np.testing.assert_array_equal(inputs, before)
    np.testing.assert_array_equal(emulate(network, inputs).output, first.output)


def test_outputs_are_integers_and_biases_are_per_channel() -> None:
    populations = (
        Population("in", (1, 2, 2), SpikeInput()),
        Population("n", (2, 2, 2), CubaLIF(4), np.array([5, 0], np.int32)),
    )
    network = ChipNetwork(populations, (Synapses("in", "n", Conv2d(np.zeros((2, 1, 1, 1), np.int32))),), time_steps=2)
    activity = emulate(network, np.zeros((1, 1, 2, 2), np.int64))
    np.testing.assert_array_equal(activity.spikes["n"][:, 0, 0], np.ones((2, 2, 2)))
    np.testing.assert_array_equal(activity.spikes["n"][:, 0, 1], np.zeros((2, 2, 2)))
    assert activity.output.dtype == np.int64
    assert activity.output.tolist() == [[2, 2, 2, 2, 0, 0, 0, 0]]


def picture_network() -> ChipNetwork:
    return ChipNetwork(
        (Population("picture", (1, 2, 2), GradedInput()), Population("n", (1, 2, 2), CubaLIF(4))),
        (Synapses("picture", "n", Conv2d(np.full((1, 1, 1, 1), 3, np.int32))),),
        time_steps=2,
    )


@pytest.mark.parametrize(
    ("inputs", "says"),
    [
        (np.zeros((2, 3), np.int64), "(2, 3)"),
        (np.zeros((2, 2), np.int64), "expected"),
        (np.full((1, 1, 2, 2), 256), "256"),
        (np.full((1, 1, 2, 2), -1), "-1"),
        (np.full((1, 1, 2, 2), 1.1), "0 … 1"),
        (np.full((1, 1, 2, 2), 200.0), "got values in 200 … 200"),
        (np.full((1, 1, 2, 2), np.nan), "nan"),
    ],
)
def test_inputs_of_another_shape_or_range_are_refused(inputs: Array, says: str) -> None:
    with pytest.raises(InvalidNetwork, match="picture") as caught:
        emulate(picture_network(), inputs)
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("value", [2, -1, 0.5])
def test_spikes_are_zeros_and_ones(value: float) -> None:
    with pytest.raises(InvalidNetwork, match="in takes integers 0 … 1"):
        emulate(one_neuron(CubaLIF(4), 1, steps=1), np.array([[value]]))


def test_views_lists_and_tensors_with_gradients_are_inputs() -> None:
    images = np.random.default_rng(0).integers(0, 3, (5, 1, 2, 2))
    wanted = emulate(picture_network(), np.ascontiguousarray(images[:, :, ::-1])).output
    assert len(np.unique(wanted)) > 1
    real = torch.tensor(images[:, :, ::-1] / 255, requires_grad=True)
    for same in (images[:, :, ::-1], images[:, :, ::-1].tolist(), real):
        np.testing.assert_array_equal(emulate(picture_network(), same).output, wanted)


def test_a_precision_that_numpy_lacks_is_refused() -> None:
    with pytest.raises(InvalidNetwork, match=r"dtype is torch\.bfloat16, expected torch\.float32 or"):
        emulate(picture_network(), np.zeros((1, 1, 2, 2), np.int64), dtype=torch.bfloat16)


def test_a_wrong_number_of_time_steps_is_refused() -> None:
    """(T, N, F) with another T than the network's `time_steps` is a mistake, not a shorter run."""
    with pytest.raises(InvalidNetwork, match=r"3|5"):
        emulate(one_neuron(CubaLIF(4), 1, steps=5), np.zeros((3, 1, 1), np.int64))


def test_several_inputs_or_outputs_are_refused_by_name() -> None:
    op = Dense(np.ones((1, 1), np.int32))
    left, right = Population("left", (1,), SpikeInput()), Population("right", (1,), SpikeInput())
    n, m = Population("n", (1,), CubaLIF(1)), Population("m", (1,), CubaLIF(1))
    with pytest.raises(InvalidNetwork, match="'left', 'right'"):
        emulate(
            ChipNetwork((left, right, n), (Synapses("left", "n", op), Synapses("right", "n", op))), np.zeros((1, 1))
        )
    with pytest.raises(InvalidNetwork, match="'n', 'm'"):
        emulate(ChipNetwork((left, n, m), (Synapses("left", "n", op), Synapses("left", "m", op))), np.zeros((1, 1)))
