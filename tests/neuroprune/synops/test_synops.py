"""Synaptic operations: against loops over spikes and weights, a second convolution, and NeuroBench."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields
from math import prod
from typing import Any, TypeVar

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from spikingjelly.activation_based import neuron, surrogate
from torch import Tensor, nn

from neuroprune.synops.counter import SynOps, SynOpsCounter, count_synops
from tests.twins.synops import slow_synops_conv2d, slow_synops_linear

Module = TypeVar("Module", bound=nn.Module)


def spikes(*shape: int, rate: float = 0.3, most: int = 1, seed: int = 0) -> Tensor:
    """Spike counts 0..most as float32, each of ``most`` draws a spike with probability ``rate``."""
    draws = torch.rand(most, *shape, generator=torch.Generator().manual_seed(seed))
    return (draws < rate).sum(0).float()


def pruned(module: Module, keep: float = 0.4, seed: int = 1) -> Module:
    """Set all but about ``keep`` of the weights to zero."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for p in module.parameters():
            if p.dim() > 1:
                p.mul_(torch.rand(p.shape, generator=generator) < keep)
    return module


def by_second_pass(layer: nn.Module, x: Tensor) -> int:
    """SynOps of one layer by running its own arithmetic on 0/1 weights, in float64."""
    weight: Any = layer.weight
    before = weight.detach().clone()
    weight.data = (weight != 0).double()
    total = int(layer(x.double()).sum())
    weight.data = before
    return total


def count_layer(layer: nn.Module, x: Tensor) -> SynOps:
    return count_synops(nn.Sequential(layer), x)


pair = st.tuples(st.integers(1, 3), st.integers(1, 3))


@settings(max_examples=150, deadline=None)
@given(
    size=st.tuples(st.integers(3, 6), st.integers(3, 6)),
    kernel=pair,
    stride=pair,
    padding=st.tuples(st.integers(0, 3), st.integers(0, 3)),
    dilation=st.tuples(st.integers(1, 2), st.integers(1, 2)),
    groups=st.integers(1, 3),
    per_group=pair,
    keep=st.sampled_from([0.0, 0.2, 0.7, 1.0]),
    most=st.integers(1, 3),
    seed=st.integers(0, 999),
)
def test_conv2d_equals_following_every_spike_along_every_synapse(
    size: tuple[int, int],
    kernel: tuple[int, int],
    stride: tuple[int, int],
    padding: tuple[int, int],
    dilation: tuple[int, int],
    groups: int,
    per_group: tuple[int, int],
    keep: float,
    most: int,
    seed: int,
) -> None:
    kernel = tuple(min(k, (s + 2 * p - 1) // d + 1) for k, s, p, d in zip(kernel, size, padding, dilation, strict=True))  # type: ignore[assignment]
    geometry = {"stride": stride, "padding": padding, "dilation": dilation, "groups": groups}
    layer = nn.Conv2d(per_group[0] * groups, per_group[1] * groups, kernel, **geometry)  # type: ignore[arg-type]
    pruned(layer, keep, seed)
    x = spikes(2, per_group[0] * groups, *size, most=most, seed=seed)
    weight = layer.weight.detach().numpy()
    counted = count_layer(layer, x)
    assert counted.total == slow_synops_conv2d(x.numpy(), weight, **geometry)  # type: ignore[arg-type]
    assert counted.dense == slow_synops_conv2d(x.numpy(), 0 * weight + 1, **geometry)  # type: ignore[arg-type]
    assert counted.macs == counted.dense_macs == 0


@settings(max_examples=30, deadline=None)
@given(
    n=st.integers(0, 4),
    wide=st.integers(1, 9),
    out=st.integers(1, 9),
    most=st.integers(1, 4),
    seed=st.integers(0, 999),
)
def test_linear_equals_following_every_spike(n: int, wide: int, out: int, most: int, seed: int) -> None:
    layer, x = pruned(nn.Linear(wide, out), seed=seed), spikes(n, wide, most=most, seed=seed)
    counted = count_layer(layer, x)
    assert counted.total == slow_synops_linear(x.numpy(), layer.weight.detach().numpy())
    assert counted.dense == int(x.sum()) * out


@pytest.mark.parametrize(
    ("layer", "shape"),
    [
        (nn.Conv1d(4, 6, 5, stride=3, padding=2, groups=2, bias=False), (3, 4, 17)),
        (nn.Conv2d(3, 4, (4, 3), padding="same", dilation=(1, 2), bias=False), (2, 3, 7, 8)),
        (nn.Conv2d(3, 4, 3, padding="valid", bias=False), (2, 3, 7, 8)),
        (nn.Conv2d(3, 4, 3, padding=2, stride=2, padding_mode="circular", bias=False), (2, 3, 7, 8)),
        (nn.Conv2d(3, 4, 3, padding=1, padding_mode="reflect", bias=False), (2, 3, 7, 8)),
        (nn.Conv2d(3, 4, 5, padding=(2, 1), padding_mode="replicate", bias=False), (2, 3, 7, 8)),
        (nn.Conv3d(2, 4, (1, 3, 2), stride=(1, 2, 1), padding=1, groups=2, bias=False), (2, 2, 4, 5, 6)),
        (nn.Conv2d(3, 4, 3, bias=False), (3, 7, 8)),
    ],
    ids=lambda v: type(v).__name__ if isinstance(v, nn.Module) else None,
)
def test_every_kind_of_convolution_equals_a_second_convolution(layer: nn.Module, shape: tuple[int, ...]) -> None:
    x = spikes(*shape, most=2)
    assert count_layer(pruned(layer), x).total == by_second_pass(layer, x) > 0


def neurobench_acs(model: nn.Module, x: Tensor) -> float:
    from neurobench.metrics.workload import SynapticOperations
    from neurobench.models import TorchModel

    wrapped, metric = TorchModel(model), SynapticOperations()
    wrapped.register_hooks()
    result = metric(wrapped, wrapped(x), (x, None))
    wrapped.cleanup_hooks()
    assert result["Effective_MACs"] == 0
    return float(result["Effective_ACs"]) * len(x)


class Fire(nn.Module):
    """Stateless neuron: a spike where the input exceeds the threshold."""

    def forward(self, x: Tensor) -> Tensor:
        return (x > 0.1).float()


def test_agrees_with_neurobench_on_binary_spikes() -> None:
    torch.manual_seed(0)
    net = nn.Sequential(
        nn.Conv2d(2, 8, 3, stride=2, padding=1),
        Fire(),
        nn.Conv2d(8, 6, 3),
        Fire(),
        nn.Flatten(),
        nn.Linear(96, 10),
    )
    x = spikes(5, 2, 12, 12)
    counted = count_synops(pruned(net, 0.1), x)
    assert counted.total == neurobench_acs(net, x) > 0
    assert all(layer.synops > 0 for layer in counted.layers.values())


class SewBlock(nn.Module):
    """out = x + fire(conv(x)): a SEW residual of two spike trains, read by a second convolution."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Conv2d(3, 3, 3, padding=1)
        self.after = nn.Conv2d(3, 4, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.after(x + (self.inner(x) > 0).float())
        return out


def test_sew_sum_of_two_spikes_is_two_spikes() -> None:
    torch.manual_seed(0)
    block, x = pruned(SewBlock()), spikes(2, 3, 6, 6)
    second = (block.inner(x) > 0).float()
    assert (x + second).max() == 2
    weight = block.after.weight.detach().numpy()
    expected = sum(slow_synops_conv2d(s.numpy(), weight, padding=(1, 1)) for s in (x, second))
    assert count_synops(block, x).layers["after"].synops == expected


POOLS: list[Callable[[], nn.Module]] = [
    lambda: nn.AvgPool2d(2),
    lambda: nn.AvgPool2d(3, stride=1, padding=1),
    lambda: nn.AvgPool2d(2, divisor_override=3),
    lambda: nn.AdaptiveAvgPool2d(1),
    lambda: nn.AdaptiveAvgPool2d((2, 3)),
    lambda: nn.Sequential(nn.AvgPool2d(2), nn.AvgPool2d(3)),
]


@pytest.mark.parametrize("flatten", [nn.Flatten(), nn.Identity()])
@pytest.mark.parametrize("make", POOLS)
@pytest.mark.parametrize("rate", [0.3, 1.0])  # at rate 1 pooled values are integers, and still not single spikes
def test_average_pool_folds_into_the_layer_behind_it(
    make: Callable[[], nn.Module], flatten: nn.Module, rate: float
) -> None:
    x, pool = spikes(2, 3, 6, 6, rate=rate), make()
    fixed: list[Any] = [m for m in pool.modules() if isinstance(m, nn.AvgPool2d)]
    areas = [m.divisor_override or m.kernel_size**2 for m in fixed]
    y = pool(x.double())
    area = prod(areas) if areas else 36 // y.shape[-1] // y.shape[-2]
    delivered = (y * area).round()  # whole spikes per pooled position
    layer = nn.Linear(int(flatten(y).shape[-1]), 5)
    net = nn.Sequential(pool, flatten, pruned(layer))
    counted = count_synops(net, x)
    rows = flatten(delivered).reshape(-1, layer.in_features).numpy()
    assert counted.total == slow_synops_linear(rows, layer.weight.detach().numpy()) > 0
    assert counted.macs == 0
    assert {entry.kind for entry in counted.layers.values()} == {"pooled"}


class CopyThenFc(nn.Module):
    def __init__(self, pool: nn.Module) -> None:
        super().__init__()
        self.pool, self.fc = pool, pruned(nn.Linear(9, 4))

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.fc(self.pool(x).permute(0, 2, 3, 1).clone().flatten(1))
        return out


def test_pooled_spikes_are_recognised_in_a_copy() -> None:
    x = spikes(2, 1, 21, 21)
    net = CopyThenFc(nn.AvgPool2d(7))
    rows = (nn.functional.avg_pool2d(x.double(), 7) * 49).round().reshape(2, 9).numpy()
    assert count_synops(net, x).total == slow_synops_linear(rows, net.fc.weight.detach().numpy())


def windows(pool: Any, size: int) -> list[range]:
    """Positions inside each window of one axis, from the pools' definitions."""
    if isinstance(pool, nn.AdaptiveAvgPool2d):
        outputs = int(pool.output_size)  # type: ignore[arg-type]
        return [range(i * size // outputs, -(-(i + 1) * size // outputs)) for i in range(outputs)]
    inside = []
    for start in range(-pool.padding, size + pool.padding, pool.stride):
        last = start + pool.kernel_size
        if last <= size + pool.padding or (pool.ceil_mode and start < size):
            inside.append(range(max(start, 0), min(last, size)))
    return inside


@pytest.mark.parametrize(
    "pool",
    [
        nn.AvgPool2d(3, 2, 1, count_include_pad=False),
        nn.AvgPool2d(2, ceil_mode=True),
        nn.AdaptiveAvgPool2d(3),
        nn.AvgPool2d(3, 2, 1, divisor_override=2),
    ],
)
@pytest.mark.parametrize("rate", [0.5, 1.0])
def test_windows_with_a_divisor_each_deliver_their_spikes(pool: nn.Module, rate: float) -> None:
    x, net = spikes(2, 1, 5, 5, rate=rate), CopyThenFc(pool)
    one = windows(pool, 5)
    rows = [
        [sum(float(sample[0, y, c]) for y in rows for c in columns) for rows in one for columns in one] for sample in x
    ]
    counted = count_synops(net, x)
    assert counted.total == slow_synops_linear(np.array(rows), net.fc.weight.detach().numpy()) > 0
    assert counted.layers["fc"].kind == "pooled"


@pytest.mark.parametrize(
    ("pool", "area"),
    [
        (lambda x: F.avg_pool2d(x, 7), 49),
        (lambda x: F.adaptive_avg_pool2d(x, 3), 49),
        (lambda x: F.avg_pool1d(x.flatten(2), 49), 49),
        (lambda x: x.unflatten(3, (3, 7)).mean(4)[:, :, ::7], 7),
    ],
)
def test_pools_by_functions_are_pools(pool: Callable[[Tensor], Tensor], area: int) -> None:
    class Pooled(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc = pruned(nn.Linear(9, 4))

        def forward(self, x: Tensor) -> Tensor:
            out: Tensor = self.fc(pool(x).flatten(1))
            return out

    net, x = Pooled(), spikes(2, 1, 21, 21)
    rows = (pool(x.double()) * area).round().flatten(1).numpy()
    assert count_synops(net, x).total == slow_synops_linear(rows, net.fc.weight.detach().numpy()) > 0


def test_real_frames_are_never_pooled_spikes_of_an_earlier_step() -> None:
    """A frame of quarters, after a pool of four in the step before."""

    class TwoWays(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.pool, self.fc = nn.AvgPool2d(2), nn.Linear(4, 3)

        def forward(self, x: Tensor) -> Tensor:
            out: Tensor = self.fc((self.pool(x) if x.shape[-1] == 4 else x).flatten(1))
            return out

    net, frames = TwoWays(), [spikes(2, 1, 4, 4), torch.full((2, 1, 2, 2), 0.75)]
    counted = count_synops(net, frames, forward=lambda model, steps: [model(x) for x in steps])
    assert (counted.total, counted.macs) == (3 * int(frames[0].sum()), 3 * 8)


@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_a_static_image_is_macs_listed_apart(sign: float) -> None:
    net = pruned(nn.Sequential(nn.Conv2d(3, 4, 3, stride=2, padding=1), Fire(), nn.Flatten(), nn.Linear(64, 5)))
    image = sign * torch.rand(2, 3, 8, 8) if sign > 0 else -spikes(2, 3, 8, 8)
    counted = count_synops(net, image)
    weight = net[0].weight.detach().numpy()  # type: ignore[operator]
    everywhere = torch.ones(2, 3, 8, 8).numpy()
    first = counted.layers["0"]
    assert (first.kind, first.synops, first.dense) == ("real", 0, 0)
    assert counted.macs == first.macs == slow_synops_conv2d(everywhere, weight, (2, 2), (1, 1))
    assert first.dense_macs == slow_synops_conv2d(everywhere, 0 * weight + 1, (2, 2), (1, 1))
    assert counted.total == counted.layers["3"].synops


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), 1e-30, 1.0000001, -1.0])
def test_one_value_that_is_no_spike_makes_the_layer_macs(bad: float) -> None:
    x = spikes(4, 50)
    x[2, 17] = bad
    assert count_layer(nn.Linear(50, 3), x).layers["0"].kind == "real"


def test_totals_beyond_float32_are_exact() -> None:
    x = torch.ones(3, 6001)
    x[0, 0] = 2.0**24  # this position alone sums to 2^24 + 2 over the batch
    x[1, 0] = 3.0
    layer = nn.Linear(6001, 1001)
    expected = (2**24 + 3 + 1 + 3 * 6000) * 1001
    assert count_layer(layer, x).total == expected > 2**24
    ones = torch.ones(1, 1).expand(2**24 + 3, 1)  # no single value is large, their float32 sum would be off
    assert count_layer(nn.Linear(1, 1), ones).total == 2**24 + 3


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_other_dtypes_count_the_same(dtype: torch.dtype) -> None:
    x = spikes(700, 40, rate=0.9)  # more spikes per position than bfloat16 or float16 can count to
    layer = pruned(nn.Linear(40, 7))
    expected = slow_synops_linear(x.numpy(), layer.weight.detach().numpy())
    assert count_layer(layer.to(dtype), x.to(dtype)).total == expected


def test_multi_step_equals_single_step_in_spikingjelly() -> None:
    pytest.importorskip("spikingjelly")
    from spikingjelly.activation_based import functional, layer, neuron

    torch.manual_seed(0)
    net = nn.Sequential(
        layer.Conv2d(2, 6, 3, padding=1, bias=False),
        neuron.IFNode(v_threshold=0.2),
        layer.AvgPool2d(2),
        layer.Conv2d(6, 6, 3),
        neuron.IFNode(v_threshold=0.2),
        layer.Flatten(),
        layer.Linear(24, 5),
    )
    pruned(net)
    x = spikes(4, 3, 2, 8, 8)  # (T, N, C, H, W)
    functional.set_step_mode(net, "m")
    multi = count_synops(net, x)
    functional.reset_net(net)
    functional.set_step_mode(net, "s")
    single = count_synops(net, x, forward=lambda model, steps: [model(step) for step in steps])
    assert multi == single
    assert [entry.kind for entry in multi.layers.values()] == ["spikes", "pooled", "spikes"]
    assert all(entry.synops > 0 for entry in multi.layers.values())


def test_counter_accumulates_and_sees_weights_change_between_passes() -> None:
    net, x = nn.Sequential(nn.Linear(8, 4)), torch.ones(2, 8)
    with SynOpsCounter(net) as counter:
        net(x)
        with torch.no_grad():
            net[0].weight[:3] = 0  # type: ignore[operator]
        net(x)
        net[0].weight = nn.Parameter(torch.zeros(4, 8))
        net(x)
    net(x)  # outside the block: not counted
    assert counter.result().total == 2 * 8 * (4 + 1 + 0)
    assert counter.result().dense == 2 * 8 * 4 * 3
    counter.reset()
    assert counter.result().total == 0


def test_edits_through_data_are_seen_by_the_next_count() -> None:
    net, x = nn.Sequential(nn.Linear(8, 4)), torch.ones(2, 8)
    assert count_synops(net, x).total == 64
    net[0].weight.data[:2] = 0  # type: ignore[operator]
    assert count_synops(net, x).total == 32


def hooks_in(model: nn.Module) -> int:
    return sum(len(m._forward_hooks) + len(m._forward_pre_hooks) for m in model.modules())


def test_hooks_are_removed_also_after_an_exception() -> None:
    net = nn.Sequential(nn.Conv2d(1, 2, 3), nn.AvgPool2d(2), nn.Flatten(), nn.Linear(8, 2))
    count_synops(net, spikes(1, 1, 6, 6))
    assert hooks_in(net) == 0
    with pytest.raises(RuntimeError, match="shapes cannot be multiplied"):
        count_synops(net, spikes(1, 1, 9, 9))
    assert hooks_in(net) == 0


def test_runs_in_the_mode_the_model_is_in_and_without_gradients() -> None:
    seen: list[tuple[bool, bool]] = []
    net = nn.Sequential(nn.Linear(4, 4)).eval()
    net.register_forward_hook(lambda module, _, out: seen.append((module.training, out.requires_grad)))
    count_synops(net, torch.ones(1, 4))
    count_synops(net.train(), torch.ones(1, 4))
    assert seen == [(False, False), (True, False)]


def test_results_are_python_integers_and_sum_over_layers() -> None:
    net = nn.Sequential(nn.Conv2d(1, 2, 3), Fire(), nn.Flatten(), nn.Linear(32, 2))
    for x in (spikes(2, 1, 6, 6), torch.rand(2, 1, 6, 6)):
        counted = count_synops(net, x)
        for name in ("total", "dense", "macs", "dense_macs"):
            assert type(getattr(counted, name)) is int
        for layer in counted.layers.values():
            assert all(type(getattr(layer, f.name)) in (int, str) for f in fields(layer))
        assert counted.total == sum(layer.synops for layer in counted.layers.values())
        assert counted.macs == sum(layer.macs for layer in counted.layers.values())


def test_unused_layers_are_zero_and_other_weighted_modules_are_named() -> None:
    net = nn.ModuleDict({"a": nn.Linear(3, 2), "idle": nn.Linear(3, 2), "up": nn.GRU(1, 1)})
    counted = count_synops(net, torch.ones(1, 3), forward=lambda model, x: model["a"](x))  # type: ignore[index]
    assert (counted.layers["idle"].kind, counted.layers["idle"].synops) == ("unused", 0)
    assert counted.total == 6
    assert counted.uncounted == ("up",)


def test_layer_called_by_keyword_on_both_spikes_and_reals_is_mixed() -> None:
    layer = nn.Linear(3, 2)
    with SynOpsCounter(layer) as counter:
        layer(input=torch.ones(1, 3))
        layer(torch.full((1, 3), 0.3))
    entry = counter.result().layers["Linear"]
    assert (entry.kind, entry.synops, entry.macs) == ("mixed", 6, 6)


def test_a_model_without_synapses_is_refused() -> None:
    with pytest.raises(
        ValueError, match=r"Sequential .*: 0 Conv1d/2d/3d, Conv.*or Linear layers, at least 1 needed, .*; pass"
    ):
        count_synops(nn.Sequential(nn.ReLU()), torch.ones(1))


def test_nan_weights_are_refused_by_layer_name() -> None:
    net = nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 5))
    with torch.no_grad():
        net[1].weight[0, :2] = float("nan")  # type: ignore[operator]
    with pytest.raises(ValueError, match=r"layer '1': 2 of 20 weights are NaN, 0 allowed.*; load a checkpoint"):
        count_synops(net, torch.ones(1, 3))
    assert hooks_in(net) == 0


def test_infinite_weights_are_synapses() -> None:
    layer = nn.Linear(2, 2)
    with torch.no_grad():
        layer.weight.copy_(torch.tensor([[float("inf"), -float("inf")], [0.0, 0.0]]))
    assert count_layer(layer, torch.ones(1, 2)).total == 2


def test_what_neurons_sent_is_trusted_only_while_nobody_wrote_to_it() -> None:
    """Spikes of neurons need no check, but a tensor that was changed since is real-valued again."""

    class Written(nn.Module):
        def __init__(self, write: bool) -> None:
            super().__init__()
            self.sn, self.fc, self.write = neuron.IFNode(), nn.Linear(4, 3), write

        def forward(self, x: Tensor) -> Tensor:
            spikes: Tensor = self.sn(x)
            if self.write:
                spikes.sub_(0.5)
            out: Tensor = self.fc(spikes)
            return out

    x = torch.tensor([[2.0, 2.0, 0.0, 2.0]])
    assert count_synops(Written(write=False), x).total == 3 * 3
    written = count_synops(Written(write=True), x)
    assert (written.total, written.macs) == (0, 4 * 3)


@pytest.mark.parametrize("way", range(8))
def test_spikes_times_a_constant_are_spikes(way: int) -> None:
    """Whatever the constant, it folds into the weights of the layer behind; where it is zero nothing arrives."""
    gains = torch.tensor([0.3, -1.5, 0.0, 2.0])

    class Scaled(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.sn, self.fc = neuron.IFNode(step_mode="m"), pruned(nn.Linear(4, 3))
            self.gain = nn.Parameter(torch.tensor(0.7))

        def forward(self, x: Tensor) -> Tensor:
            s: Tensor = self.sn(x)
            scaled = [
                lambda: s * 0.7,
                lambda: s / 3,
                lambda: self.gain * s,
                lambda: s.clone().mul_(0.7),
                lambda: (s + s) * 0.7 + s * 0.1,
                lambda: torch.cat([s[..., :2] * 0.5, s[..., 2:]], -1),
                lambda: (s * 0.7).add_(0),
                lambda: (s * 0.7).add_(s).add_(s * 2),
            ][way]()
            out: Tensor = self.fc(scaled * gains)
            return out

    net, x = Scaled(), torch.rand(6, 5, 4, generator=torch.Generator().manual_seed(3))
    sent = neuron.IFNode(step_mode="m")(x) * (gains != 0) * (3 if way in (4, 7) else 1)
    counted = count_synops(net, x)
    assert counted.total == slow_synops_linear(sent.flatten(0, 1).numpy(), net.fc.weight.detach().numpy()) > 0
    assert (counted.macs, counted.layers["fc"].kind, counted.uncounted) == (0, "spikes", ())


def test_spikes_times_what_depends_on_data_are_real() -> None:
    class Gated(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.sn, self.gate, self.fc = neuron.IFNode(), nn.Linear(4, 4), nn.Linear(4, 3)

        def forward(self, x: Tensor) -> Tensor:
            out: Tensor = self.fc(self.sn(x) * torch.sigmoid(self.gate(x)))
            return out

    counted = count_synops(Gated(), torch.full((2, 4), 1.5))
    assert (counted.total, counted.layers["fc"].macs) == (0, 2 * 4 * 3)


def test_what_a_layer_of_black_and_white_frames_does_is_for_the_user_to_say() -> None:
    net = nn.Sequential(nn.AvgPool2d(2), nn.Flatten(), nn.Linear(4, 3), neuron.IFNode(), nn.Linear(3, 2))
    x = spikes(2, 1, 4, 4)
    assert count_synops(net, x).layers["2"].kind == "pooled"
    net[3].reset()  # type: ignore[operator]
    analog = count_synops(net, x, analog_input=True)
    assert (analog.layers["2"].kind, analog.layers["4"].kind) == ("real", "spikes")
    assert analog.layers["2"].macs == 2 * 4 * 3
    steps = count_synops(net, torch.stack([x, x]), forward=lambda m, xs: [m(y) for y in xs], analog_input=True)
    assert steps.layers["2"].macs == 2 * 2 * 4 * 3


def test_a_surrogate_that_replaces_the_step_sends_no_spikes() -> None:
    smooth = nn.Sequential(neuron.IFNode(surrogate_function=surrogate.Sigmoid(spiking=False)), nn.Linear(4, 3))
    counted = count_synops(smooth, torch.rand(2, 4))
    assert (counted.total, counted.macs) == (0, 2 * 4 * 3)


@pytest.mark.lava
@pytest.mark.parametrize("delay_shift", [True, False])
def test_feedback_of_a_slayer_block_equals_following_every_spike(delay_shift: bool) -> None:
    """What the neurons send in all steps but the last of a call crosses their own synapses."""
    pytest.importorskip("lava.lib.dl.slayer", reason="lava-dl is not installed")
    from lava.lib.dl import slayer

    lif = {"threshold": 1.0, "current_decay": 0.5, "voltage_decay": 0.1}
    block = slayer.block.cuba.Recurrent(dict(lif), 6, 5, delay_shift=delay_shift)
    for synapse in (block.input_synapse, block.recurrent_synapse):
        nn.init.normal_(synapse.weight, 0.4)
    model = pruned(nn.Sequential(block, slayer.block.cuba.Dense(dict(lif), 5, 3, delay_shift=False)))
    sent: list[Tensor] = []
    block.neuron.register_forward_hook(lambda _module, _args, output: sent.append(output[..., 0].detach().clone()))
    inputs = [spikes(4, 6, 7, seed=seed) for seed in range(2)]
    with SynOpsCounter(model) as counter, torch.no_grad():
        for x in inputs:
            model(x)
    assert len(sent) == 14
    assert 0 < float(torch.stack(sent).mean()) < 1
    back = [step.numpy() for i, step in enumerate(sent) if i % 7 != 6]
    weight = block.recurrent_synapse.weight.detach().flatten(1).numpy()
    counted = counter.result().layers
    assert counted["0.recurrent_synapse"].synops == sum(slow_synops_linear(step, weight) for step in back)
    assert counted["0.recurrent_synapse"].dense == sum(5 * int(step.sum()) for step in back)
    assert counted["0.recurrent_synapse"].kind == "spikes"
    first = block.input_synapse.weight.detach().flatten(1).numpy()
    shown = sum(slow_synops_linear(x[..., t].numpy(), first) for x in inputs for t in range(7))
    assert counted["0.input_synapse"].synops == shown
