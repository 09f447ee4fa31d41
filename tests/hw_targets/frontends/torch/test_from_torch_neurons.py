"""More of SpikingJelly on the chip: PLIF, CUBA-LIF, SEW AND and IAND, one-dimensional layers, loops in forward."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from spikingjelly.activation_based import functional, layer, neuron
from spikingjelly.activation_based.model.sew_resnet import sew_function
from torch import Tensor, nn

from hw_targets import dequantize, emulate, export_netx, from_torch, load_chip, quantize, spike_difference
from hw_targets.errors import UnsupportedModel
from hw_targets.ir.network import LIF
from hw_targets.targets.loihi.lava.check import compare_with_lava
from hw_targets.targets.loihi.neuron import CubaLIF
from tests.builders.lava import LavaProcess
from tests.builders.torch_models import Net, T, assert_same, classifier, conv, images, observed, prepared, spiking
from tests.twins.chip import run_slowly

LOIHI = load_chip("loihi1")


def behind(node: nn.Module, *, bias: bool = True) -> nn.Module:
    return nn.Sequential(conv(2, 3, bias=bias), node, layer.Flatten(), layer.Linear(108, 3))


@pytest.mark.parametrize("mode", ["m", "s"])
@pytest.mark.parametrize("decay_input", [True, False])
@pytest.mark.parametrize("init_tau", [1.3, 2.0, 9.0])
def test_parametric_lif(init_tau: float, decay_input: bool, mode: str) -> None:
    torch.manual_seed(1)
    node = neuron.ParametricLIFNode(init_tau, decay_input, v_threshold=0.25 / (init_tau if decay_input else 1.0))
    assert_same(behind(node), mode=mode)


@pytest.mark.parametrize("mode", ["m", "s"])
@pytest.mark.parametrize(("c_decay", "v_decay"), [(0.5, 0.75), (0.0, 0.9), (0.8, 0.0), (1.0, 1.0)])
def test_cuba_lif(c_decay: float, v_decay: float, mode: str) -> None:
    torch.manual_seed(1)
    network = assert_same(behind(neuron.CUBALIFNode(c_decay, v_decay, v_threshold=0.4), bias=False), mode=mode)
    assert network["1"].neuron == LIF(0.4, v_decay=1 - v_decay, i_decay=1 - c_decay)


def test_cuba_lif_becomes_the_chips_own_neuron() -> None:
    torch.manual_seed(1)
    model = prepared(behind(neuron.CUBALIFNode(0.5, 0.75, v_threshold=0.4), bias=False))
    x = images(2, 2, 6, 6).double().div(255).expand(T, 2, 2, 6, 6)
    chip = quantize(from_torch(model, x), LOIHI)
    node = chip["1"].neuron
    assert isinstance(node, CubaLIF)
    assert (node.v_decay, node.i_decay) == (1024, 2048)
    assert chip.notes == ()
    real = dequantize(chip)["1"].neuron
    assert isinstance(real, LIF)
    assert (real.v_decay, real.i_decay) == (0.25, 0.5)


SOFT = [neuron.IFNode, neuron.LIFNode, neuron.ParametricLIFNode, neuron.CUBALIFNode]


@pytest.mark.parametrize("soft", SOFT)
@pytest.mark.parametrize("mode", ["m", "s"])
def test_a_soft_reset_is_read_as_it_is(soft: Any, mode: str) -> None:
    """Every spike of every step, from a potential that keeps what is above the threshold."""
    torch.manual_seed(1)
    model = prepared(behind(soft(v_threshold=0.05, v_reset=None), bias=soft is not neuron.CUBALIFNode), mode)
    x = images(2, 2, 6, 6).double().div(255)
    network = from_torch(model, x.expand(T, *x.shape) if mode == "m" else x, time_steps=T)
    assert isinstance(lif := network["1"].neuron, LIF)
    assert (lif.reset, network.notes) == ("subtract", ())
    _, fired = observed(model, x.expand(T, *x.shape), mode)
    assert 0 < fired["1"].mean() < 1
    np.testing.assert_array_equal(emulate(network, images(2, 2, 6, 6)).spikes["1"], fired["1"])
    np.testing.assert_array_equal(run_slowly(network, images(2, 2, 6, 6).numpy()).spikes["1"], fired["1"])
    hard = from_torch(model, x.expand(T, *x.shape) if mode == "m" else x, time_steps=T, approximate=True)
    assert (emulate(hard, images(2, 2, 6, 6)).spikes["1"] != fired["1"]).any(), "the test shows something"


@pytest.mark.parametrize("soft", SOFT)
def test_soft_reset_is_approximated_only_on_request(soft: Any) -> None:
    torch.manual_seed(1)
    model = prepared(behind(soft(v_threshold=0.2, v_reset=None), bias=False))
    x = images(2, 2, 6, 6).double().div(255).expand(T, 2, 2, 6, 6)
    with pytest.raises(UnsupportedModel, match=r"quantize: 1 resets by subtraction, .*v_reset=0\.0"):
        quantize(from_torch(model, x), LOIHI)
    network = from_torch(model, x, approximate=True)
    assert "1 resets by subtraction" in network.notes[0]
    difference = spike_difference(model, network, x)
    _, fired = observed(model, x, "m")
    ours = emulate(network, images(2, 2, 6, 6))
    assert difference.different == {"1": int((fired["1"] != ours.spikes["1"]).sum())}
    assert difference.total > 0
    assert str(difference.total) in str(difference)


def sew(connect: str) -> nn.Module:
    def forward(m: Any, x: Tensor) -> Tensor:
        a = m.s1(m.c1(x))
        b = sew_function(a, m.s2(m.c2(a)), connect)
        c = sew_function(m.s3(m.c3(b)), b, connect)
        result: Tensor = m.fc(m.flat(m.pool(c)))
        return result

    kernels = {"c1": conv(2, 3), "c2": conv(3, 3), "c3": conv(3, 3)}
    # Products of spikes are rare, so thresholds are low.
    neurons = {"s1": spiking(0.2), "s2": spiking(0.1), "s3": spiking(0.05)}
    end = {"pool": layer.MaxPool2d(2), "flat": layer.Flatten(), "fc": layer.Linear(27, 3)}
    return Net(forward, **kernels, **neurons, **end)


@pytest.mark.parametrize("mode", ["m", "s"])
@pytest.mark.parametrize("connect", ["AND", "IAND"])
def test_sew_and_iand_are_threshold_neurons_that_forget(connect: str, mode: str) -> None:
    torch.manual_seed(2)
    network = assert_same(sew(connect), mode=mode)
    made = [p for p in network.populations if " and " in p.name]
    assert [p.name for p in made] == (
        ["s1 and s2", "s3 and s1 and s2"] if connect == "AND" else ["s1 and not s2", "s3 and not s1 and not s2"]
    )
    assert {p.neuron for p in made} == {LIF(2.0 if connect == "AND" else 1.0, v_decay=1.0)}


@pytest.mark.parametrize("connect", ["AND", "IAND"])
def test_products_are_exact_in_the_chips_integers_and_in_its_file(connect: str, tmp_path: Path) -> None:
    torch.manual_seed(2)
    model = prepared(sew(connect))
    x = images(2, 2, 6, 6)
    chip = quantize(from_torch(model, x.double().div(255).expand(T, *x.shape)), LOIHI)
    spikes = emulate(chip, x).spikes
    a, b = spikes["s1"], spikes["s2"]
    name, product = ("s1 and s2", a * b) if connect == "AND" else ("s1 and not s2", a * (1 - b))
    assert 0 < product.sum() < a.sum()
    np.testing.assert_array_equal(spikes[name], product)
    export_netx(chip, tmp_path / "model.net")


def line(*front: nn.Module, features: int) -> nn.Module:
    return nn.Sequential(*front, spiking(), layer.Flatten(), layer.Linear(features, 3))


ONE_DIMENSIONAL: dict[str, Callable[[], nn.Module]] = {
    "conv": lambda: line(layer.Conv1d(2, 4, 3, padding=1), features=48),
    "strided, dilated, grouped": lambda: line(
        layer.Conv1d(2, 4, 3, stride=2, dilation=2, padding=3, groups=2), features=28
    ),
    "padding same": lambda: line(layer.Conv1d(2, 3, 3, padding="same", dilation=2), features=36),
    "batch-norm": lambda: line(layer.Conv1d(2, 4, 3), layer.BatchNorm1d(4), features=40),
    "two": lambda: line(
        layer.Conv1d(2, 4, 3, padding=1), spiking(), layer.Conv1d(4, 3, 5, padding=2, bias=False), features=36
    ),
    "average pool": lambda: nn.Sequential(
        layer.Conv1d(2, 4, 3), spiking(), layer.AvgPool1d(2), layer.Conv1d(4, 3, 2), spiking(), layer.Flatten(),
        layer.Linear(12, 3),
    ),
    "adaptive pool": lambda: nn.Sequential(
        layer.Conv1d(2, 4, 3, padding=1), spiking(), layer.AdaptiveAvgPool1d(4), layer.Flatten(), layer.Linear(16, 3)
    ),
    "max-pool": lambda: nn.Sequential(
        layer.Conv1d(2, 4, 3, padding=1), spiking(0.6), layer.MaxPool1d(3, stride=2, padding=1), layer.Flatten(),
        layer.Linear(24, 3),
    ),
}  # fmt: skip


@pytest.mark.parametrize("mode", ["m", "s"])
@pytest.mark.parametrize("build", ONE_DIMENSIONAL.values(), ids=ONE_DIMENSIONAL.keys())
def test_one_dimensional_layers_are_of_height_one(build: Callable[[], nn.Module], mode: str) -> None:
    torch.manual_seed(1)
    model = prepared(build(), mode)
    integers = images(2, 2, 12)
    x = (integers.double() / 255).expand(T, *integers.shape)
    network = from_torch(model, x if mode == "m" else x[0], time_steps=None if mode == "m" else T)
    assert network.inputs[0].shape == (2, 1, 12)
    output, fired = observed(model, x, mode)
    ours = emulate(network, integers.unsqueeze(2))
    np.testing.assert_allclose(ours.output, output.sum(0), atol=1e-9)
    for name, expected in fired.items():
        assert 0 < expected.mean() < 1, f"{name} never or always fires: the test shows nothing"
        np.testing.assert_array_equal(ours.spikes[name], expected.reshape(ours.spikes[name].shape), err_msg=name)
    assert spike_difference(model, network, x if mode == "m" else x[0]).total == 0
    assert not quantize(network, LOIHI).notes


class Folded(nn.Module):
    """Time and batch as one axis around layers that know no time."""

    def __init__(self, *parts: nn.Module) -> None:
        super().__init__()
        self.parts = nn.Sequential(*parts)

    def forward(self, x: Tensor) -> Tensor:
        folded: Tensor = self.parts(x.flatten(0, 1))
        return folded.view(*x.shape[:2], *folded.shape[1:])


#: What a single channel of height 1 looks like must not depend on the batch.
ONE_CHANNEL: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "2-D": (lambda: line(layer.Conv2d(1, 1, (3, 2)), features=5), (1, 3, 6)),
    "2-D, max-pool": (
        lambda: line(layer.Conv2d(1, 1, (3, 2)), spiking(), layer.MaxPool2d((1, 2), 1), features=4), (1, 3, 6)
    ),
    "1-D": (lambda: line(layer.Conv1d(1, 1, 2), spiking(), layer.Conv1d(1, 1, 1), features=5), (1, 6)),
    "1-D, folded": (
        lambda: line(Folded(nn.Conv1d(1, 1, 2)), spiking(), Folded(nn.Conv1d(1, 1, 1, bias=False)), features=5), (1, 6)
    ),
}  # fmt: skip


@pytest.mark.parametrize("samples", [1, 2])
@pytest.mark.parametrize("mode", ["m", "s"])
@pytest.mark.parametrize(("build", "shape"), ONE_CHANNEL.values(), ids=ONE_CHANNEL.keys())
def test_one_channel_of_height_one_is_flattened_in_any_batch(
    build: Callable[[], nn.Module], shape: tuple[int, ...], mode: str, samples: int
) -> None:
    torch.manual_seed(1)
    model = build()
    if mode == "s" and any(isinstance(m, Folded) for m in model.modules()):
        pytest.skip("a single step has no time to fold")
    for parameter in model.parameters():
        parameter.data.abs_()  # so that the few neurons fire
    prepared(model, mode)
    integers = images(samples, *shape)
    x = (integers.double() / 255).expand(T, *integers.shape)
    network = from_torch(model, x if mode == "m" else x[0], time_steps=None if mode == "m" else T)
    output, fired = observed(model, x, mode)
    ours = emulate(network, integers if len(shape) == 3 else integers.unsqueeze(2))
    np.testing.assert_allclose(ours.output, output.sum(0), atol=1e-9)
    for name, expected in fired.items():
        np.testing.assert_array_equal(ours.spikes[name], expected.reshape(ours.spikes[name].shape), err_msg=name)
    assert all(spikes.any() for spikes in fired.values())


class Loop(nn.Module):
    """A single-step SpikingJelly network run for T steps inside forward, as many examples do."""

    def __init__(self, how: str) -> None:
        super().__init__()
        self.body, self.how = classifier(conv(2, 3), layer.BatchNorm2d(3), features=108), how

    def forward(self, x: Tensor) -> Tensor:
        if self.how == "over steps":
            return torch.stack([self.body(step) for step in x])
        if self.how == "mean of an image":
            return torch.stack([self.body(x) for _ in range(T)]).mean(0)
        total: Any = 0.0
        for _ in range(T):
            total = total + self.body(x)
        result: Tensor = total / T
        return result


@pytest.mark.parametrize("how", ["over steps", "mean of an image", "running mean of an image"])
def test_a_loop_in_forward_over_single_step_modules(how: str) -> None:
    torch.manual_seed(1)
    model = prepared(Loop(how), "s")
    integers = images(2, 2, 6, 6)
    x = integers.double() / 255
    shown = x.expand(T, *x.shape) if how == "over steps" else x
    network = from_torch(model, shown)
    assert network.time_steps == T
    functional.reset_net(model)
    with torch.no_grad():
        own = model(shown)
    functional.reset_net(model)
    total = own.sum(0) if how == "over steps" else own * T
    np.testing.assert_allclose(emulate(network, integers).output, total, atol=1e-9)
    assert spike_difference(model, network, shown).total == 0


def twice_as_many(m: Any, x: Tensor) -> Tensor:
    a = m.s1(m.c1(x))
    a.detach().mul_(2.0)
    result: Tensor = m.fc(a.flatten(2))
    return result


def largest(m: Any, x: Tensor) -> Tensor:
    a = m.s1(m.c1(x))
    result: Tensor = m.fc((a + torch.max(a, 2, keepdim=True).values).flatten(2))
    return result


def products_of_complements(m: Any, x: Tensor) -> Tensor:
    a = m.s1(m.c1(x))
    result: Tensor = m.fc(((1 - a) * (1.0 - a)).flatten(2))
    return result


@pytest.mark.parametrize(
    ("forward", "says"),
    [
        (twice_as_many, "in place"),
        (largest, "max"),
        (products_of_complements, "1 − spikes by 1 − spikes"),
    ],
)
def test_what_only_looks_harmless_is_refused(forward: Callable[[Any, Tensor], Tensor], says: str) -> None:
    model = prepared(Net(forward, c1=conv(2, 3), s1=spiking(), fc=layer.Linear(108, 3)))
    with pytest.raises(UnsupportedModel) as caught:
        from_torch(model, torch.rand(T, 2, 2, 6, 6).double())
    assert says in str(caught.value)


def test_what_the_output_does_not_depend_on_may_be_anything() -> None:
    def forward(m: Any, x: Tensor) -> Tensor:
        a = m.s1(m.c1(x))
        m.rate = a.exp().max()
        result: Tensor = m.fc(a.flatten(2))
        return result

    torch.manual_seed(1)
    assert_same(Net(forward, c1=conv(2, 3), s1=spiking(), fc=layer.Linear(108, 3)))


@pytest.mark.lava
def test_lava_agrees_on_lasting_currents_and_on_neurons_that_forget(tmp_path: Path, lava: LavaProcess) -> None:
    def forward(m: Any, x: Tensor) -> Tensor:
        a = m.s1(m.c1(x))
        result: Tensor = m.fc(m.flat(sew_function(a, m.s2(m.c2(a)), "IAND")))
        return result

    torch.manual_seed(2)
    cuba = neuron.CUBALIFNode(0.5, 0.75, v_threshold=0.4)
    parts = {"c1": conv(1, 2, bias=False), "s1": cuba, "c2": conv(2, 2), "s2": spiking(0.2)}
    model = prepared(Net(forward, **parts, flat=layer.Flatten(), fc=layer.Linear(32, 3)))
    x = images(1, 1, 4, 4)
    chip = quantize(from_torch(model, x.double().div(255).expand(T, *x.shape)), LOIHI)
    assert any(isinstance(p.neuron, CubaLIF) and p.neuron.i_decay == 2048 for p in chip.populations)
    assert any(isinstance(p.neuron, CubaLIF) and p.neuron.v_decay == 4096 for p in chip.populations)
    export_netx(chip, tmp_path / "model.net")
    with lava.running():
        result = compare_with_lava(chip, tmp_path / "model.net", x.numpy())
    assert result.compared > 20
    assert (result.differences, result.readout_differences) == (0, 0)
