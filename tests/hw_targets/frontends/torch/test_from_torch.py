"""Reading torch models: the network spikes as the model does, or the model is refused in one sentence."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from spikingjelly.activation_based import functional, layer, neuron
from torch import Tensor, nn

from hw_targets import emulate, from_torch
from hw_targets.errors import HardwareTargetError, InvalidNetwork, UnsupportedModel
from hw_targets.ir.network import LIF, Accumulator, GradedInput, Network, SpikeInput
from neuroprune.models.sew_resnet import SmallSEWResNet
from tests.builders.torch_models import Net, T, assert_same, classifier, conv, images, observed, prepared, spiking

#: With these weights all neurons of all models fire sometimes, none always.
SEED = 1


LAYERS: dict[str, Callable[[], nn.Module]] = {
    "conv with bias": lambda: classifier(conv(2, 3, bias=True), features=108),
    "conv without bias": lambda: classifier(conv(2, 3, bias=False), features=108),
    "grouped, strided, dilated": lambda: classifier(conv(2, 4, groups=2, stride=2, dilation=2, padding=2), features=36),
    "unequal kernel, stride, padding, dilation": lambda: classifier(
        layer.Conv2d(2, 3, (2, 3), stride=(1, 2), padding=(1, 2), dilation=(2, 1)), features=3 * 6 * 4
    ),
    "a flatten before neurons that charge by a fraction": lambda: nn.Sequential(
        conv(2, 3), layer.Flatten(), neuron.LIFNode(v_threshold=0.1, step_mode="m"), layer.Linear(108, 3)
    ),
    "padding same": lambda: classifier(layer.Conv2d(2, 3, 3, padding="same", dilation=2), features=108),
    "padding valid": lambda: classifier(layer.Conv2d(2, 3, 3, padding="valid"), features=48),
    "depthwise then pointwise": lambda: nn.Sequential(
        conv(2, 4, groups=2), spiking(), conv(4, 3, 1), spiking(), layer.Flatten(), layer.Linear(108, 3)
    ),
    "batch-norm after a biased conv": lambda: classifier(conv(2, 3), layer.BatchNorm2d(3), features=108),
    "batch-norm without affine": lambda: classifier(conv(2, 3), layer.BatchNorm2d(3, affine=False), features=108),
    "two batch-norms": lambda: classifier(conv(2, 3), layer.BatchNorm2d(3), layer.BatchNorm2d(3), features=108),
    "batch-norm of spikes": lambda: nn.Sequential(
        conv(2, 3), spiking(), layer.BatchNorm2d(3), spiking(0.5), layer.Flatten(), layer.Linear(108, 3)
    ),
    "batch-norm of an average pool": lambda: nn.Sequential(
        conv(2, 3), spiking(), layer.AvgPool2d(2), layer.BatchNorm2d(3), spiking(), layer.Flatten(), layer.Linear(27, 3)
    ),
    "average pool of a convolution": lambda: nn.Sequential(
        conv(2, 3), layer.BatchNorm2d(3), layer.AvgPool2d(2), spiking(0.3), layer.Flatten(), layer.Linear(27, 3)
    ),
    "overlapping average pool of a strided, dilated, depthwise convolution": lambda: nn.Sequential(
        conv(2, 4, groups=2),
        spiking(),
        layer.Conv2d(4, 4, (2, 3), stride=(1, 2), padding=(1, 2), dilation=(2, 1), groups=2),
        layer.AvgPool2d((2, 3), stride=1),
        spiking(0.2),
        layer.Flatten(),
        layer.Linear(40, 3),
    ),
    "average pool of a sum of spikes and a convolution": lambda: Net(
        lambda m, x: m.fc(m.flat(m.s2(m.pool((a := m.s1(m.c1(x))) + m.c2(a))))),
        c1=conv(2, 3),
        s1=spiking(),
        c2=conv(3, 3),
        pool=layer.AvgPool2d(2),
        s2=spiking(0.3),
        flat=layer.Flatten(),
        fc=layer.Linear(27, 3),
    ),
    "votes": lambda: nn.Sequential(
        conv(2, 3), spiking(), layer.Flatten(), layer.Linear(108, 12), spiking(0.2), layer.VotingLayer(4)
    ),
    "batch-norm after linear": lambda: nn.Sequential(
        conv(2, 3),
        spiking(),
        layer.Flatten(),
        layer.Linear(108, 9),
        layer.BatchNorm1d(9),
        spiking(0.2),
        layer.Linear(9, 3),
    ),
    "batch-norm of the image": lambda: nn.Sequential(
        layer.BatchNorm2d(2), spiking(), conv(2, 3), spiking(), layer.Flatten(), layer.Linear(108, 3)
    ),
    "neurons on the image": lambda: nn.Sequential(spiking(0.9), layer.Flatten(), layer.Linear(72, 3)),
    "average pool before linear": lambda: nn.Sequential(
        conv(2, 3), spiking(), layer.AvgPool2d(2), layer.Flatten(), layer.Linear(27, 3)
    ),
    "overlapping padded pool before linear": lambda: nn.Sequential(
        conv(2, 3), spiking(), layer.AvgPool2d(3, stride=2, padding=1), layer.Flatten(), layer.Linear(27, 3)
    ),
    "pool that leaves a border before linear": lambda: nn.Sequential(
        conv(2, 3), spiking(), layer.AvgPool2d((2, 4), stride=(3, 4)), layer.Flatten(), layer.Linear(6, 3)
    ),
    "average pool before conv": lambda: nn.Sequential(
        conv(2, 3), spiking(), layer.AvgPool2d(2), conv(3, 4), spiking(), layer.Flatten(), layer.Linear(36, 3)
    ),
    "padded pool before an unpadded, dilated conv": lambda: nn.Sequential(
        conv(2, 3),
        spiking(),
        layer.AvgPool2d(3, stride=1, padding=1),
        conv(3, 4, 3, padding=0, dilation=2, stride=2),
        spiking(),
        layer.Flatten(),
        layer.Linear(4, 3),
    ),
    "overlapping pool before a grouped, strided conv": lambda: nn.Sequential(
        conv(2, 4),
        spiking(),
        layer.AvgPool2d(2, stride=1),
        conv(4, 4, 2, padding=0, groups=2, stride=2),
        spiking(),
        layer.Flatten(),
        layer.Linear(16, 3),
    ),
    "window smaller than its stride before a padded conv": lambda: nn.Sequential(
        conv(2, 3),
        spiking(),
        layer.AvgPool2d(1, stride=2),
        conv(3, 4),
        spiking(0.2),
        layer.Flatten(),
        layer.Linear(36, 3),
    ),
    "average pool into neurons": lambda: nn.Sequential(
        conv(2, 3), spiking(), layer.AvgPool2d(2), spiking(0.6), layer.Flatten(), layer.Linear(27, 3)
    ),
    "adaptive pool to 1": lambda: nn.Sequential(
        conv(2, 3), spiking(), layer.AdaptiveAvgPool2d(1), layer.Flatten(), layer.Linear(3, 3)
    ),
    "adaptive pool to (3, 2)": lambda: nn.Sequential(
        conv(2, 3),
        spiking(),
        layer.AdaptiveAvgPool2d((3, 2)),
        conv(3, 4, 1),
        spiking(0.2),
        layer.Flatten(),
        layer.Linear(24, 3),
    ),
    "max-pool of spikes": lambda: nn.Sequential(
        conv(2, 3), spiking(0.5), layer.MaxPool2d(2), conv(3, 4), spiking(), layer.Flatten(), layer.Linear(36, 3)
    ),
    "overlapping padded dilated max-pool": lambda: nn.Sequential(
        conv(2, 3),
        spiking(1.5),
        layer.MaxPool2d(3, stride=2, padding=1, dilation=2),
        layer.Flatten(),
        layer.Linear(12, 3),
    ),
    "dropout and identity": lambda: nn.Sequential(
        nn.Identity(),
        conv(2, 3),
        layer.Dropout2d(0.5),
        spiking(),
        layer.Dropout(0.5),
        layer.Flatten(),
        nn.Dropout(0.5),
        layer.Linear(108, 3),
    ),
    "IF with threshold and reset": lambda: classifier(conv(2, 3), features=108, threshold=0.4, v_reset=-0.2),
    "IF with positive reset": lambda: classifier(conv(2, 3), features=108, threshold=0.8, v_reset=0.3),
    "two linear layers with neurons": lambda: nn.Sequential(
        layer.Flatten(),
        layer.Linear(72, 9),
        spiking(),
        layer.Linear(9, 9, bias=False),
        spiking(0.2),
        layer.Linear(9, 3),
    ),
    "ends in neurons": lambda: nn.Sequential(
        conv(2, 3), spiking(), layer.Flatten(), layer.Linear(108, 4), spiking(0.2)
    ),
    "ends in a convolution": lambda: nn.Sequential(conv(2, 3), spiking(), conv(3, 2)),
    "ends in a batch-norm": lambda: nn.Sequential(conv(2, 3), spiking(), conv(3, 2), layer.BatchNorm2d(2, eps=0.1)),
    "ends in an average pool": lambda: nn.Sequential(conv(2, 3), spiking(), layer.AvgPool2d(2)),
}


@pytest.mark.parametrize("mode", ["m", "s"])
@pytest.mark.parametrize("build", LAYERS.values(), ids=LAYERS.keys())
def test_every_spike_and_the_output_are_the_models_own(build: Callable[[], nn.Module], mode: str) -> None:
    torch.manual_seed(SEED)
    assert_same(build(), mode=mode)


@pytest.mark.parametrize("decay_input", [True, False])
@pytest.mark.parametrize(("tau", "threshold"), [(2.0, 0.15), (1.3, 0.2), (20.0, 0.03)])
def test_lif_neurons(decay_input: bool, tau: float, threshold: float) -> None:
    node = neuron.LIFNode(tau=tau, decay_input=decay_input, v_threshold=threshold)
    model = nn.Sequential(conv(2, 3), layer.BatchNorm2d(3), node, layer.Flatten(), layer.Linear(108, 3))
    network = assert_same(model)
    assert network["2"].neuron == LIF(threshold, 1 / tau)


def test_lif_without_input_decay_may_have_a_reset_value() -> None:
    node = neuron.LIFNode(tau=2.0, decay_input=False, v_threshold=0.5, v_reset=-0.25)
    network = assert_same(nn.Sequential(conv(2, 3), node, layer.Flatten(), layer.Linear(108, 3)))
    assert network["1"].neuron == LIF(0.75, 0.5)


@pytest.mark.parametrize("mode", ["m", "s"])
@pytest.mark.parametrize("neuron_type", ["IF", "LIF"])
@pytest.mark.parametrize("stem_pool", [False, True])
def test_sew_resnet(mode: str, neuron_type: Any, stem_pool: bool) -> None:
    torch.manual_seed(3)
    model = SmallSEWResNet(
        (3, 4),
        neuron_type=neuron_type,
        in_channels=2,
        classes=5,
        stem_stride=1,
        stem_pool=stem_pool,
        step_mode=mode,  # type: ignore[arg-type]
    )
    network = assert_same(model, (2, 2, 8, 8), mode=mode, slow=mode == "m")
    assert network.time_steps == T
    assert [p.name for p in network.outputs] == ["fc"]
    assert isinstance(network["fc"].neuron, Accumulator)
    assert isinstance(network["input"].neuron, GradedInput)


SEW: dict[str, Callable[[], nn.Module]] = {
    "into conv": lambda: Net(
        lambda m, x: m.fc(m.flat(m.s3(m.c3((a := m.s1(m.c1(x))) + m.s2(m.c2(a)))))),
        c1=conv(2, 3),
        s1=spiking(),
        c2=conv(3, 3),
        s2=spiking(),
        c3=conv(3, 2),
        s3=spiking(),
        flat=layer.Flatten(),
        fc=layer.Linear(72, 3),
    ),
    "into average pool and linear": lambda: Net(
        lambda m, x: m.fc(m.flat(m.pool((a := m.s1(m.c1(x))) + m.s2(m.c2(a))))),
        c1=conv(2, 3),
        s1=spiking(),
        c2=conv(3, 3),
        s2=spiking(),
        pool=layer.AvgPool2d(3, stride=2, padding=1),
        flat=layer.Flatten(),
        fc=layer.Linear(27, 3),
    ),
    "into linear": lambda: Net(
        lambda m, x: m.fc(m.flat((a := m.s1(m.c1(x))) + m.s2(m.c2(a)))),
        c1=conv(2, 3),
        s1=spiking(),
        c2=conv(3, 3),
        s2=spiking(),
        flat=layer.Flatten(),
        fc=layer.Linear(108, 3),
    ),
    "three terms, in place": lambda: Net(
        lambda m, x: m.fc(m.flat(_three(m, x))),
        c1=conv(2, 3),
        s1=spiking(),
        c2=conv(3, 3),
        s2=spiking(),
        c3=conv(3, 3),
        s3=spiking(),
        flat=layer.Flatten(),
        fc=layer.Linear(108, 3),
    ),
    "a sum with itself": lambda: Net(
        lambda m, x: m.fc(m.flat(m.s2(m.c2((a := m.s1(m.c1(x))) + a)))),
        c1=conv(2, 3),
        s1=spiking(),
        c2=conv(3, 3),
        s2=spiking(),
        flat=layer.Flatten(),
        fc=layer.Linear(108, 3),
    ),
    "sum of two convolutions": lambda: Net(
        lambda m, x: m.fc(m.flat(m.s2(m.c2(a := m.s1(m.c1(x))) + m.b3(m.c3(a))))),
        c1=conv(2, 3),
        s1=spiking(),
        c2=conv(3, 3),
        c3=conv(3, 3, 1),
        b3=layer.BatchNorm2d(3),
        s2=spiking(),
        flat=layer.Flatten(),
        fc=layer.Linear(108, 3),
    ),
    "one convolution used twice": lambda: Net(
        lambda m, x: m.fc(m.flat(m.s2(m.c2(m.s1(m.c2(m.s0(m.c0(x)))))))),
        c0=conv(2, 3),
        s0=spiking(),
        s1=spiking(),
        c2=conv(3, 3),
        s2=spiking(),
        flat=layer.Flatten(),
        fc=layer.Linear(108, 3),
    ),
    "two linear layers on conv spikes": lambda: Net(
        lambda m, x: m.f1(b := m.flat(m.s1(m.c1(x)))) + m.f2(b),
        c1=conv(2, 3),
        s1=spiking(),
        flat=layer.Flatten(),
        f1=layer.Linear(108, 3),
        f2=layer.Linear(108, 3),
    ),
    "as the output": lambda: Net(
        lambda m, x: (a := m.s1(m.c1(x))) + m.s2(m.c2(a)), c1=conv(2, 3), s1=spiking(), c2=conv(3, 3), s2=spiking()
    ),
    "one linear layer after conv spikes and dense spikes": lambda: Net(
        lambda m, x: m.fc((a := m.flat(m.s1(m.c1(x)))) + m.s2(m.f2(a))),
        c1=layer.Conv2d(2, 2, 5),
        s1=spiking(),
        flat=layer.Flatten(),
        f2=layer.Linear(8, 8),
        s2=spiking(0.1),
        fc=layer.Linear(8, 3),
    ),
    "the image and spikes": lambda: Net(
        lambda m, x: m.fc(m.flat(m.s2(m.c2(x + m.s1(m.c1(x)))))),
        c1=conv(2, 2),
        s1=spiking(),
        c2=conv(2, 3),
        s2=spiking(),
        flat=layer.Flatten(),
        fc=layer.Linear(108, 3),
    ),
}


def _three(m: Any, x: Tensor) -> Tensor:
    total: Tensor = m.s1(m.c1(x)).clone()
    first = m.s2(m.c2(total))
    total += first
    total = torch.add(total, m.s3(m.c3(first)))
    return total.contiguous()


@pytest.mark.parametrize("build", SEW.values(), ids=SEW.keys())
def test_sums(build: Callable[[], nn.Module]) -> None:
    torch.manual_seed(SEED)
    assert_same(build())


def _front(m: Any, x: Tensor) -> Tensor:
    spikes: Tensor = m.s1(m.c1(x))
    return spikes


def body(forward: Callable[[Any, Tensor], Any], **parts: nn.Module) -> nn.Module:
    """conv `c1` and neurons `s1` of shape (3, 6, 6) out of (2, 6, 6), a linear layer `fc`, and what else is given."""
    return Net(forward, c1=conv(2, 3), s1=spiking(), fc=layer.Linear(108, 3), **parts)


TORCH_OPS: dict[str, Callable[[Any, Tensor], Any]] = {
    "torch.flatten": lambda m, x: m.fc(torch.flatten(_front(m, x), -3)),
    "Tensor.flatten": lambda m, x: m.fc(_front(m, x).flatten(2)),
    "reshape": lambda m, x: m.fc(_front(m, x).reshape(*x.shape[:2], -1)),
    "view and clone": lambda m, x: m.fc(_front(m, x).clone().contiguous().view(*x.shape[:2], 108)),
    "detach and to": lambda m, x: m.fc(_front(m, x).detach().to(torch.float64).flatten(2)),
    "time folded into the batch": lambda m, x: m.fc(_front(m, x).flatten(0, 1).flatten(1).view(*x.shape[:2], 108)),
}


@pytest.mark.parametrize("forward", TORCH_OPS.values(), ids=TORCH_OPS.keys())
def test_functional_flattening(forward: Callable[[Any, Tensor], Any]) -> None:
    assert_same(body(forward))


@pytest.mark.parametrize(
    "forward",
    [
        lambda m, x: m.fc(_front(m, x).flatten(2)).mean(0),
        lambda m, x: torch.mean(m.fc(_front(m, x).flatten(2)), dim=0),
        lambda m, x: m.fc(_front(m, x).flatten(2).mean(0)),
    ],
    ids=["method", "function", "before the readout"],
)
def test_mean_over_time_inside_the_model(forward: Callable[[Any, Tensor], Any]) -> None:
    assert_same(body(forward), averaged=True)


def test_spike_inputs() -> None:
    model = nn.Sequential(conv(2, 3), spiking(), layer.MaxPool2d(2), layer.Flatten(), layer.Linear(27, 3))
    network = assert_same(model, spikes=True)
    assert isinstance(network["input"].neuron, SpikeInput)
    flat = assert_same(nn.Sequential(layer.Linear(9, 5), spiking(0.2), layer.Linear(5, 3)), (2, 9), spikes=True)
    assert flat["input"].shape == (9,)


def test_spikes_that_change_with_time() -> None:
    model = prepared(nn.Sequential(conv(2, 3), spiking(), layer.Flatten(), layer.Linear(108, 3)))
    x = images(T, 3, 2, 6, 6, spikes=True).double()
    network = from_torch(model, x)
    output, fired = observed(model, x, "m")
    ours = emulate(network, x)
    np.testing.assert_array_equal(ours.spikes["1"], fired["1"])
    np.testing.assert_allclose(ours.output, output.sum(0), atol=1e-9)


def test_names_shapes_and_steps() -> None:
    model = prepared(classifier(conv(2, 3, bias=False), layer.BatchNorm2d(3), features=108))
    network = from_torch(model, torch.rand(5, 1, 2, 6, 6).double())
    assert [p.name for p in network.populations] == ["input", "2", "4"]
    assert [p.shape for p in network.populations] == [(2, 6, 6), (3, 6, 6), (3,)]
    assert [(s.source, s.target) for s in network.synapses] == [("input", "2"), ("2", "4")]
    assert network.time_steps == 5
    assert network["4"].bias is not None
    np.testing.assert_array_equal(network["4"].bias, model[4].bias.detach().numpy())  # type: ignore[index]
    assert network.synapses[0].op.weight.dtype == np.float64


def test_pruned_zeros_stay_zero() -> None:
    model: Any = prepared(classifier(conv(2, 3), layer.BatchNorm2d(3), features=108))
    with torch.no_grad():
        model[0].weight[:, :, 0] = 0
    weight = from_torch(model, torch.rand(2, 1, 2, 6, 6).double()).synapses[0].op.weight
    assert (weight[:, :, 0] == 0).all()
    assert (weight[:, :, 1:] != 0).all()


def test_the_network_does_not_change_with_the_model_afterwards() -> None:
    model: Any = prepared(classifier(conv(2, 3), features=108))
    network = from_torch(model, torch.rand(2, 1, 2, 6, 6).double())
    before = network.synapses[0].op.weight.copy()
    with torch.no_grad():
        model[0].weight.zero_()
    np.testing.assert_array_equal(network.synapses[0].op.weight, before)


# --- refusals ---------------------------------------------------------------------------------------------------------


def twice() -> nn.Module:
    return Net(
        lambda m, x: m.fc(m.flat(m.node(m.c2(m.node(m.c1(x)))))),
        c1=conv(2, 3),
        c2=conv(3, 3),
        node=spiking(),
        flat=layer.Flatten(),
        fc=layer.Linear(108, 3),
    )


REFUSED: dict[str, tuple[Callable[[], nn.Module], tuple[str, ...]]] = {
    "ReLU": (
        lambda: nn.Sequential(conv(2, 3), nn.ReLU(), spiking(), layer.Flatten(), layer.Linear(108, 3)),
        ("1 (ReLU)",),
    ),
    "spikes times currents": (
        lambda: body(lambda m, x: m.fc(((a := _front(m, x)) * m.c2(a)).flatten(2)), c2=conv(3, 3)),
        ("multiplies", "currents"),
    ),
    "transposition": (lambda: body(lambda m, x: m.fc(_front(m, x).transpose(3, 4).flatten(2))), ("transpose",)),
    "max-pool of a sum": (
        lambda: Net(
            lambda m, x: m.fc(m.pool((a := _front(m, x)) + m.s2(m.c2(a))).flatten(2)),
            c1=conv(2, 3),
            s1=spiking(),
            c2=conv(3, 3),
            s2=spiking(),
            pool=layer.MaxPool2d(2),
            fc=layer.Linear(27, 3),
        ),
        ("pool ", "sum of spikes"),
    ),
    "max-pool of the image": (
        lambda: nn.Sequential(layer.MaxPool2d(2), conv(2, 3), spiking(), layer.Flatten(), layer.Linear(27, 3)),
        ("0 ", "image"),
    ),
    "max-pool of currents": (
        lambda: nn.Sequential(conv(2, 3), layer.MaxPool2d(2), spiking(), layer.Flatten(), layer.Linear(27, 3)),
        ("1 ", "max-pool"),
    ),
    "shared neurons": (twice, ("node ", "twice")),
    "batch-norm without statistics": (
        lambda: classifier(conv(2, 3), layer.BatchNorm2d(3, track_running_stats=False), features=108),
        ("1 ", "running statistics"),
    ),
    "linear on an image": (
        lambda: nn.Sequential(layer.Linear(6, 6), spiking(), layer.Flatten(), layer.Linear(72, 3)),
        ("0 ", "flatten"),
    ),
    "linear on a pool that was not flattened": (
        lambda: nn.Sequential(conv(2, 3), spiking(), layer.AdaptiveAvgPool2d(1), layer.Linear(1, 3)),
        ("3 ", "flatten"),
    ),
    "an output that has nothing to do with the input": (
        lambda: body(lambda m, x: (_front(m, x), torch.zeros(3))[1]),
        ("one tensor",),
    ),
    "a layer on a constant": (
        lambda: body(lambda m, x: m.c2(torch.zeros(T, 2, 2, 6, 6).double()) + _front(m, x), c2=conv(2, 3)),
        ("c2 ",),
    ),
}


@pytest.mark.parametrize(("build", "says"), REFUSED.values(), ids=REFUSED.keys())
def test_refused_in_one_sentence_that_names_the_module(build: Callable[[], nn.Module], says: tuple[str, ...]) -> None:
    model = prepared(build()).train()
    parameters = {k: v.clone() for k, v in model.state_dict().items()}
    with pytest.raises(UnsupportedModel) as caught:
        from_torch(model, torch.rand(T, 2, 2, 6, 6).double())
    message = str(caught.value)
    assert message.startswith("from_torch: ")
    assert "\n" not in message
    for words in says:
        assert words in message
    assert_untouched(model, training=True)
    for key, value in model.state_dict().items():
        torch.testing.assert_close(value, parameters[key], rtol=0, atol=0)


def assert_untouched(model: nn.Module, *, training: bool) -> None:
    assert all(m.training == training for m in model.modules())
    for m in model.modules():
        assert not m._forward_hooks
        assert not m._forward_pre_hooks
        if isinstance(m, neuron.BaseNode):
            assert m.v == (0.0 if m.v_reset is None else m.v_reset)


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("mode", ["m", "s"])
def test_the_model_is_left_as_it_was_with_its_neurons_reset(training: bool, mode: str) -> None:
    model = prepared(classifier(conv(2, 3), layer.BatchNorm2d(3), features=108), mode).train(training)
    x = torch.rand(T, 2, 2, 6, 6).double()
    x = x if mode == "m" else x[0]
    model(x)  # leaves charge behind
    statistics = {k: v.clone() for k, v in model.state_dict().items()}
    network = from_torch(model, x, time_steps=T)
    assert_untouched(model, training=training)
    for key, value in model.state_dict().items():
        torch.testing.assert_close(value, statistics[key], rtol=0, atol=0)
    assert x.grad_fn is None
    # … and the charge had no influence on what was read
    functional.reset_net(model)
    np.testing.assert_array_equal(
        network.synapses[0].op.weight, from_torch(model, x, time_steps=T).synapses[0].op.weight
    )


def test_modules_that_were_frozen_by_hand_stay_frozen() -> None:
    """`model.train()` with a batch-norm in evaluation mode is common in fine-tuning."""
    model: Any = prepared(classifier(conv(2, 3), layer.BatchNorm2d(3), features=108)).train()
    model[1].eval()
    from_torch(model, torch.rand(T, 2, 2, 6, 6).double())
    assert [m.training for m in model] == [True, False, True, True, True]


def test_an_exception_of_the_models_own_leaves_no_hooks() -> None:
    def fail(_m: Any, _x: Tensor) -> Tensor:
        raise KeyError("my own bug")

    model = prepared(body(fail)).train()
    with pytest.raises(KeyError, match="my own bug"):
        from_torch(model, torch.rand(T, 2, 2, 6, 6).double())
    assert_untouched(model, training=True)


@pytest.mark.parametrize(("low", "high"), [(-0.5, 1.0), (0.0, 2.0), (0.0, 255.0), (float("nan"), 1.0)])
def test_inputs_outside_0_to_1_are_refused(low: float, high: float) -> None:
    x = torch.rand(T, 2, 2, 6, 6).double()
    x[0, 0, 0, 0, 0], x[0, 0, 0, 0, 1] = low, high
    with pytest.raises(UnsupportedModel, match=r"0 … 1"):
        from_torch(prepared(classifier(conv(2, 3), features=108)), x)


@pytest.mark.parametrize("shape", [(2, 2, 6, 6), (T, 2, 6, 6), (T, 2, 2, 6), (T, 2, 3, 6, 6), (T, 2, 2, 5, 5), (6,)])
def test_an_example_of_the_wrong_shape_is_refused(shape: tuple[int, ...]) -> None:
    model = prepared(classifier(conv(2, 3), features=108))
    with pytest.raises(UnsupportedModel) as caught:
        from_torch(model, torch.rand(shape).double())
    assert str(shape) in str(caught.value)
    assert "\n" not in str(caught.value)
    assert_untouched(model, training=False)


def test_an_ordinary_network_is_refused() -> None:
    ann = nn.Sequential(nn.Conv2d(2, 3, 3), nn.ReLU(), nn.Flatten(), nn.Linear(48, 3))
    with pytest.raises(UnsupportedModel, match="no spiking neurons"):
        from_torch(ann, torch.rand(2, 2, 6, 6))


def test_a_single_step_model_needs_time_steps() -> None:
    model = prepared(classifier(conv(2, 3), features=108), "s")
    with pytest.raises(UnsupportedModel, match="time_steps="):
        from_torch(model, torch.rand(2, 2, 6, 6).double())


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_weights_that_are_no_numbers_are_refused(bad: float) -> None:
    model: Any = prepared(classifier(conv(2, 3), features=108))
    with torch.no_grad():
        model[4 - 1].weight[0, :2] = bad
    with pytest.raises(InvalidNetwork, match="2 of 324 weights are NaN or infinite"):
        from_torch(model, torch.rand(T, 2, 2, 6, 6).double())
    assert_untouched(model, training=False)


@pytest.mark.parametrize("where", ["conv bias", "running variance"])
def test_biases_that_are_no_numbers_are_refused(where: str) -> None:
    model: Any = prepared(classifier(conv(2, 3), layer.BatchNorm2d(3), features=108))
    with torch.no_grad():
        (model[0].bias if where == "conv bias" else model[1].running_var)[0] = float("nan")
    with pytest.raises(InvalidNetwork, match="NaN"):
        from_torch(model, torch.rand(T, 2, 2, 6, 6).double())


# --- exact or refused: what must never be read as something else ------------------------------------------------------

TRAPS: dict[str, tuple[Callable[[], nn.Module], bool]] = {
    "the transposed image (mT)": (lambda: body(lambda m, x: m.fc(_front(m, x).mT.flatten(2))), False),
    "torch.add with alpha": (
        lambda: body(
            lambda m, x: m.fc(torch.add(a := _front(m, x), m.s2(m.c2(a)), alpha=2).flatten(2)), c2=conv(3, 3),
            s2=spiking(),
        ),
        False,
    ),
    "assignment to a slice": (lambda: body(lambda m, x: m.fc(_cut(_front(m, x)).flatten(2))), False),
    "neurons after the mean over time": (
        lambda: body(
            lambda m, x: m.fc2(m.s2(m.fc(_front(m, x).flatten(2).mean(0)))), s2=spiking(0.05), fc2=nn.Linear(3, 3)
        ),
        True,
    ),
    "truncation to integers": (
        lambda: Net(
            lambda m, x: m.fc(m.s1(m.c1(x).to(torch.int32).to(torch.float64)).flatten(2)),
            c1=conv(2, 3), s1=spiking(1.0), fc=layer.Linear(108, 3),
        ),
        False,
    ),
    "weight standardisation": (
        lambda: Net(
            lambda m, x: m.fc(_front(m, x).flatten(2)), c1=layer.WSConv2d(2, 3, 3, padding=1), s1=spiking(),
            fc=layer.Linear(108, 3),
        ),
        False,
    ),
    "a subclass with a forward of its own": (
        lambda: Net(
            lambda m, x: m.fc(_front(m, x).flatten(2)), c1=conv(2, 3), s1=spiking(), fc=Halved(108, 3)
        ),
        False,
    ),
    "batch-norm over flattened currents": (
        lambda: Net(
            lambda m, x: m.fc(m.s1(m.bn(m.c1(x).flatten(2)))),
            c1=conv(2, 3), bn=layer.BatchNorm1d(108), s1=spiking(), fc=layer.Linear(108, 3),
        ),
        False,
    ),
    "plain torch layers between folded time": (
        lambda: Net(
            lambda m, x: m.fc(m.s1(m.c1(x.flatten(0, 1)).view(*x.shape[:2], 3, 6, 6)).flatten(2)),
            c1=nn.Conv2d(2, 3, 3, padding=1), s1=spiking(), fc=layer.Linear(108, 3),
        ),
        False,
    ),
    "neurons on folded time": (
        lambda: Net(
            lambda m, x: m.fc(m.s1(m.f1(x.flatten(2).flatten(0, 1))).view(*x.shape[:2], 9)),
            f1=nn.Linear(72, 9), s1=spiking(), fc=layer.Linear(9, 3),
        ),
        False,
    ),
}  # fmt: skip


class Halved(layer.Linear):  # type: ignore[misc]
    """A linear layer that does more than its type says."""

    def forward(self, x: Tensor) -> Tensor:
        half: Tensor = super().forward(x) * 0.5
        return half


def _cut(spikes: Tensor) -> Tensor:
    spikes[..., 0] = 0
    return spikes


@pytest.mark.parametrize(("build", "averaged"), TRAPS.values(), ids=TRAPS.keys())
def test_exact_or_refused_never_something_else(build: Callable[[], nn.Module], averaged: bool) -> None:
    model = prepared(build())
    integers = images(T, 2, 6, 6)
    x = (integers.double() / 255).expand(T, *integers.shape)
    try:
        network = from_torch(model, x)
    except HardwareTargetError as error:
        message = str(error)
    else:
        message = "from_torch: exact"
        assert_equal_output(model, network, integers, x, averaged=averaged)
    assert message.startswith("from_torch: ")


def assert_equal_output(model: nn.Module, network: Network, integers: Tensor, x: Tensor, *, averaged: bool) -> None:
    output, _ = observed(model, x, "m")
    total = output * T if averaged else output.sum(0)
    np.testing.assert_allclose(emulate(network, integers).output, total.reshape(len(integers), -1), atol=1e-9)


def test_functional_dropout_that_stays_active_is_no_identity() -> None:
    model = prepared(body(lambda m, x: m.fc(F.dropout(_front(m, x), 0.5, training=True).flatten(2))))
    with pytest.raises(UnsupportedModel, match="dropout"):
        from_torch(model, torch.rand(T, 2, 2, 6, 6).double())


def test_spikingjellys_container_of_stateless_layers() -> None:
    """`SeqToANNContainer` is how SpikingJelly's own models wrap plain torch layers: exact, or refused in words."""
    model = Net(
        lambda m, x: m.fc(m.s1(m.c1(x)).flatten(2)),
        c1=layer.SeqToANNContainer(nn.Conv2d(2, 3, 3, padding=1), nn.BatchNorm2d(3)), s1=spiking(step_mode="m"),
        fc=layer.Linear(108, 3, step_mode="m"),
    ).double().eval()  # fmt: skip
    x = (images(2, 2, 6, 6).double() / 255).expand(T, 2, 2, 6, 6)
    try:
        network = from_torch(model, x)
    except UnsupportedModel:
        return
    np.testing.assert_allclose(
        emulate(network, images(2, 2, 6, 6)).output, observed(model, x, "m")[0].sum(0), atol=1e-9
    )


def test_neurons_may_be_called_input() -> None:
    model = Net(lambda m, x: m.fc(m.input(m.c1(x)).flatten(2)), c1=conv(2, 3), input=spiking(), fc=layer.Linear(108, 3))
    message = ""
    try:
        from_torch(prepared(model), torch.rand(T, 2, 2, 6, 6).double())
    except UnsupportedModel as error:
        message = str(error)
    assert "twice" not in message, "the neurons called `input` are used once"


def test_public_names_are_functions() -> None:
    """`from hw_targets import from_torch` must give the function, not the module of that name."""
    import hw_targets

    for name in hw_targets.__all__:
        value = getattr(hw_targets, name)
        assert not isinstance(value, type(hw_targets)), f"hw_targets.{name} is a module"
