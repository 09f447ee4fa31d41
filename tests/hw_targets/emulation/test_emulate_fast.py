"""The emulator's short cuts (bytes, floating point, blocks of samples) against the slow twin."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Callable
from dataclasses import replace
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from torch.nn import functional as F

from hw_targets import emulate
from hw_targets.emulation import currents as emulate_currents
from hw_targets.emulation import emulate as emulate_module
from hw_targets.emulation import products as emulate_products
from hw_targets.emulation.losses import Losses
from hw_targets.emulation.products import Weights, facts_of, has_byte_products, in_bytes
from hw_targets.ir.network import ChipNetwork, Conv2d, Dense, GradedInput, Op, Pair, Population, Synapses
from hw_targets.targets.loihi.dynamics import engine as emulate_neurons
from hw_targets.targets.loihi.dynamics import float_states as emulate_floats
from hw_targets.targets.loihi.dynamics.engine import run_neurons
from hw_targets.targets.loihi.neuron import CubaLIF
from tests.builders.chip_networks import assert_same, random_inputs, random_network
from tests.twins.chip import loihi_step, run_slowly

Array = NDArray[Any]
CPU = torch.device("cpu")
pytestmark = pytest.mark.usefixtures("products_in_bytes")
needs_bytes = pytest.mark.skipif(not has_byte_products(), reason="torch multiplies no bytes here, or not exactly")


def use_bytes_wherever_they_serve(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(emulate_products, "SHORTEST_ROW", 1)
    patch.setattr(emulate_products, "_KNOWN", WeakKeyDictionary())


def random_product(seed: int) -> tuple[Op, torch.Tensor]:
    """An op of any layout with weights of up to eight bits, some zeros behind them, and uint8 for it to read."""
    rng = np.random.default_rng(seed)
    shift, top = int(rng.integers(0, 4)), int(rng.choice([1, 3, 127, 128, 255]))
    channels, samples = int(rng.integers(1, 40)), int(rng.integers(1, 5))

    def weight(*shape: int) -> Array:
        values: Array = rng.choice([-128, 127, *rng.integers(-128, 128, 20)], shape) << shift
        return values.astype(np.int32)

    if rng.random() < 0.4:
        return Dense(weight(int(rng.integers(1, 9)), channels)), torch.from_numpy(
            rng.integers(0, top + 1, (samples, channels)).astype(np.uint8)
        )
    kernel = tuple(int(k) for k in rng.integers(1, 4, 2))
    op = Conv2d(
        weight(int(rng.integers(1, 9)), channels, *kernel),
        stride=(int(rng.integers(1, 3)), int(rng.integers(1, 4))),
        padding=(int(rng.integers(0, 3)), int(rng.integers(0, 3))),
        dilation=(int(rng.integers(1, 3)), int(rng.integers(1, 3))),
    )
    size = (samples, channels, *rng.integers(5, 24, 2))
    image = torch.from_numpy(rng.integers(0, top + 1, size).astype(np.uint8))
    return op, image.contiguous(memory_format=torch.channels_last) if rng.random() < 0.5 else image


@needs_bytes
@settings(max_examples=200, deadline=None)
@given(seed=st.integers(0, 10**6))
def test_products_of_bytes_are_torchs_in_double_precision(seed: int) -> None:
    op, x = random_product(seed)
    weight, before = torch.from_numpy(op.weight).double(), x.clone()
    with pytest.MonkeyPatch.context() as patch:
        use_bytes_wherever_they_serve(patch)
        ours = in_bytes(op, x, Weights(torch.float64, CPU))
    if isinstance(op, Conv2d):
        theirs = F.conv2d(x.double(), weight, None, op.stride, op.padding, op.dilation)
    else:
        theirs = F.linear(x.double(), weight)
    assert ours is not None
    assert torch.equal(ours, theirs)
    assert torch.equal(x, before)


@needs_bytes
@pytest.mark.parametrize(
    ("values", "fit"),
    [([-256, 254], True), ([-128, 127], True), ([1024, -896], True), ([-256, 255], False), ([128, 1], False)],
)
def test_weights_that_do_not_fit_into_bytes_are_left_to_others(values: list[int], fit: bool) -> None:
    weight = np.zeros((2, 40), np.int32)
    weight[0, :2] = values
    x = torch.ones(3, 40, dtype=torch.uint8)
    found = in_bytes(Dense(weight), x, Weights(torch.float32, CPU))
    assert (found is not None) is fit
    assert found is None or found[:, 0].tolist() == [sum(values)] * 3
    for other in (x.int(), x.float(), x[:0]):
        assert in_bytes(Dense(weight), other, Weights(torch.float32, CPU)) is None
    assert in_bytes(Dense(weight + 0.5), x, Weights(torch.float32, CPU)) is None


@needs_bytes
def test_few_additions_are_left_to_floating_point(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(emulate_products, "FEWEST", 3 * 40 * 2)
    op = Dense(np.ones((2, 40), np.int32))
    found = [in_bytes(op, torch.ones(n, 40, dtype=torch.uint8), Weights(torch.float32, CPU)) for n in (2, 3)]
    assert [f is None for f in found] == [True, False]


@needs_bytes
def test_sums_that_leave_float32_are_left_to_others() -> None:
    """516 · 127 · 255 < 2^24 ≤ 519 · 127 · 255; spikes reach less, and sums of both signs half of it."""
    shown = {size: torch.full((2, size), 255, dtype=torch.uint8) for size in (516, 519)}
    for size, x in shown.items():
        found = in_bytes(Dense(np.full((3, size), 127, np.int32)), x, Weights(torch.float32, CPU))
        assert (found is not None) is (size == 516)
    op = Dense(np.full((3, 519), 2 * 127, np.int32))
    ours = in_bytes(op, shown[519] // 2, Weights(torch.float64, CPU))
    assert ours is not None
    assert torch.equal(ours, F.linear((shown[519] // 2).double(), torch.from_numpy(op.weight).double()))
    op.weight[:, ::2] = -2 * 127
    assert in_bytes(op, shown[519], Weights(torch.float32, CPU)) is not None


#: Kernel, stride, padding, dilation and image. The dilated ones crash torch 2.12's convolution of bytes, with AMX at
#: least; the others are as far from what is tested there.
ODD = (
    ((3, 1), (4, 2), (3, 0), (2, 3), (1, 31)),
    ((3, 1), (1, 3), (2, 1), (3, 3), (17, 2)),
    ((1, 1), (2, 3), (0, 0), (1, 3), (6, 9)),
    ((1, 1), (2, 3), (0, 1), (1, 1), (6, 9)),
    ((3, 3), (1, 1), (1, 1), (1, 1), (2, 9)),
    ((3, 3), (1, 2), (0, 0), (1, 1), (9, 4)),
)


@needs_bytes
@pytest.mark.parametrize(("kernel", "stride", "padding", "dilation", "image"), ODD)
def test_a_convolution_that_may_crash_is_not_called(
    kernel: Pair, stride: Pair, padding: Pair, dilation: Pair, image: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    def crash(*_: Any) -> torch.Tensor:
        raise AssertionError("called")

    monkeypatch.setattr(emulate_products, "_convolve", crash)
    monkeypatch.setattr(emulate_products, "SHORTEST_ROW", 1)
    op = Conv2d(np.arange(-12, 12 * kernel[0] * kernel[1] - 12, dtype=np.int32).reshape(1, 12, *kernel), stride)
    op = replace(op, padding=padding, dilation=dilation)
    x = torch.ones(2, 12, *image, dtype=torch.uint8)
    ours = in_bytes(op, x, Weights(torch.float32, CPU))
    assert ours is not None
    assert torch.equal(ours, F.conv2d(x.float(), torch.from_numpy(op.weight).float(), None, stride, padding, dilation))


@needs_bytes
def test_a_convolution_that_errs_on_noise_is_not_trusted(monkeypatch: pytest.MonkeyPatch) -> None:
    """As torch 2.12's with AMX does where four columns are four apart."""
    rng = np.random.default_rng(0)
    patches = Conv2d(rng.integers(-128, 128, (36, 32, 3, 4)).astype(np.int32), stride=(2, 4))
    usual = Conv2d(rng.integers(-128, 128, (36, 32, 3, 3)).astype(np.int32), padding=(1, 1))
    x, convolve = torch.from_numpy(rng.integers(0, 256, (2, 32, 9, 20)).astype(np.uint8)), emulate_products._convolve
    for fault in (0, 1):
        monkeypatch.setattr(emulate_products, "_convolve", lambda x, w, fault=fault: convolve(x, w) + fault)
        monkeypatch.setattr(emulate_products, "_KNOWN", WeakKeyDictionary())
        for op in (patches, usual):
            ours = in_bytes(op, x, Weights(torch.float64, CPU))
            assert ours is not None
            weight = torch.from_numpy(op.weight).double()
            assert torch.equal(ours, F.conv2d(x.double(), weight, None, op.stride, op.padding))
        trusted = facts_of(usual).bytes
        assert trusted is not None
        assert trusted.trusted == {(32, 9, 20): not fault}


def test_weights_changed_in_place_are_seen_and_old_ones_forgotten() -> None:
    weight = np.arange(40, dtype=np.int32)[None] - 20
    op, x = Dense(weight), torch.ones(1, 40, dtype=torch.uint8)
    before, alive = facts_of(op), weakref.ref(op)
    assert facts_of(op) is before
    assert before.largest == 400
    for first in (100_000, 100):
        weight[0, 0] = first
        assert facts_of(op).largest == 400 - 20 + first
        found = in_bytes(op, x, Weights(torch.float32, CPU))
        assert (found is None) is (first > 127 or not has_byte_products())
        assert found is None or int(found) == first
    del op, before
    gc.collect()
    assert alive() is None


def test_a_product_that_saturates_is_not_trusted(monkeypatch: pytest.MonkeyPatch) -> None:
    def in_16_bits(product: Callable[..., torch.Tensor]) -> Callable[..., torch.Tensor]:
        """Pairs of factors are added in 16 bits; here all pairs are alike."""

        def saturating(x: torch.Tensor, w: Any) -> torch.Tensor:
            exact = product(x, w)
            pair = (exact / 32).clamp(-(1 << 15), (1 << 15) - 1)
            return pair * 32

        return saturating

    def absent(*_: Any) -> torch.Tensor:
        raise AttributeError("'_OpNamespace' 'onednn' object has no attribute 'qlinear_pointwise'")

    has_them = has_byte_products()
    for name in ("_multiply", "_convolve"):
        exact = getattr(emulate_products, name)
        for changed in (absent, in_16_bits(exact)):
            monkeypatch.setattr(emulate_products, name, changed)
            assert not has_byte_products.__wrapped__()
        monkeypatch.setattr(emulate_products, name, exact)
        assert has_byte_products.__wrapped__() is has_them


@pytest.mark.parametrize("way", ["bytes wherever they serve", "no bytes", "one sample at a time", "no floats"])
@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 10**6), budget=st.sampled_from([12, 400, 30_000, 150_000]), per_step=st.booleans())
def test_every_way_gives_the_slow_twins_spikes(way: str, seed: int, budget: int, per_step: bool) -> None:
    network = random_network(seed, budget=budget, graded=seed % 2 == 0)
    inputs = random_inputs(network, 3, seed + 1, per_step=per_step)
    usual = emulate(network, inputs)
    with pytest.MonkeyPatch.context() as patch:
        if way == "bytes wherever they serve":
            use_bytes_wherever_they_serve(patch)
        elif way == "no bytes":
            patch.setattr(emulate_currents, "in_bytes", lambda *_: None)
        elif way == "one sample at a time":
            patch.setattr(emulate_floats, "BLOCK", 1)
            patch.setattr(emulate_module, "_samples_at_once", lambda *_: 2)
        else:
            patch.setattr(emulate_neurons, "run_fast", lambda *_, **__: None)
        ours = emulate(network, inputs)
    assert_same(ours, run_slowly(network, inputs))
    assert dict(ours.out_of_range) == dict(usual.out_of_range)


@settings(max_examples=150, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    largest=st.sampled_from([3, 5_000, 60_000, (1 << 17) + 2, (1 << 18) - 1, 1 << 19]),
    static=st.booleans(),
    v_decay=st.sampled_from([0, 1, 410, 2048, 4095, 4096]),
    i_decay=st.sampled_from([4096, 4096, 0, 1, 2048]),
)
def test_states_at_the_edge_of_their_range(seed: int, largest: int, static: bool, v_decay: int, i_decay: int) -> None:
    """Currents up to, and beyond, what one wrap takes back; resets in between; each neuron by hand."""
    rng = np.random.default_rng(seed)
    steps, samples, size = 6, 3, 4
    neuron = CubaLIF(int(rng.integers(-3, largest)), v_decay, i_decay)
    bias = rng.integers(-largest // 4, largest // 4 + 1, size).astype(np.int32) if rng.random() < 0.5 else None
    a = rng.integers(-largest, largest + 1, (1 if static else steps, samples, size))
    edge = rng.choice([1 << 17, -(1 << 17), (1 << 17) - 1, 1 - (1 << 17), largest], a.shape)
    a = np.where((rng.random(a.shape) < 0.3) & (np.abs(edge) <= largest), edge, a)
    current = torch.from_numpy(a.astype(np.float32)).expand(steps, samples, size)
    resets, losses = frozenset({3}) if seed % 2 else frozenset[int](), Losses()
    ours = run_neurons(Population("n", (size,), neuron, bias), current, losses, resets=resets, largest=largest)
    lost = 0
    for n in range(samples):
        for i in range(size):
            u = v = 0
            for t in range(steps):
                u, v = (0, 0) if t in resets else (u, v)
                own = 0 if bias is None else int(bias[i])
                u, v, spike, one = loihi_step(u, v, int(current[t, n, i]), own, neuron)
                lost += one
                assert int(ours[t, n, i]) == spike, (t, n, i)
    overflow = losses.overflow()
    assert overflow.wraps + overflow.clips == lost


@pytest.mark.parametrize("channels", [1, 2])
def test_an_output_one_column_wide(channels: int) -> None:
    """Channels last of a single channel made torch 2.12's convolution wrong here."""
    rng = np.random.default_rng(channels)
    for seed in range(20):
        op = Conv2d(rng.integers(-3, 4, (2, channels, 2, 3)).astype(np.int32), stride=(1, 2))
        again = Conv2d(rng.integers(-3, 4, (1, 2, 1, 1)).astype(np.int32))
        last = Conv2d(rng.integers(-3, 4, (2, 1, 2, 1)).astype(np.int32))
        shape = (channels, 5, 4)
        populations = (Population("in", shape, GradedInput()), Population("n", (2, 4, 1), CubaLIF(99)))
        others = (Population("m", (1, 4, 1), CubaLIF(1, v_decay=9)), Population("o", (2, 3, 1), CubaLIF(0)))
        synapses = (Synapses("in", "n", op), Synapses("n", "m", again), Synapses("m", "o", last))
        network = ChipNetwork((*populations, *others), synapses, time_steps=2)
        inputs = np.random.default_rng(seed).integers(0, 256, (2, *shape))
        assert_same(emulate(network, inputs), run_slowly(network, inputs))


def test_spikes_of_blocks_are_joined_in_order_and_shape(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    op = Conv2d((2 * rng.integers(-9, 10, (6, 40, 3, 3))).astype(np.int32), stride=(1, 2), padding=(1, 0))
    populations = (
        Population("in", (40, 5, 7), GradedInput()),
        Population("n", (6, 5, 3), CubaLIF(4000, v_decay=512), rng.integers(-900, 900, 90).astype(np.int32)),
    )
    network = ChipNetwork(populations, (Synapses("in", "n", op),), time_steps=3)
    images = rng.integers(0, 256, (7, 40, 5, 7)).astype(np.uint8)
    together = emulate(network, images)
    monkeypatch.setattr(emulate_module, "_samples_at_once", lambda *_: 3)
    apart = emulate(network, images)
    assert 0.02 < together.spikes["n"].mean() < 0.98
    assert apart.spikes["n"].shape == (3, 7, 6, 5, 3)
    np.testing.assert_array_equal(apart.spikes["n"], together.spikes["n"])
    np.testing.assert_array_equal(apart.output, together.output)
    assert_same(apart, run_slowly(network, images.astype(np.int64)))
