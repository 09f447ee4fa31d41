"""SpikingJelly's neurons and layers: exact on fresh inputs, or refused by name with an advice that works."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from spikingjelly.activation_based import functional, layer, neuron, surrogate
from spikingjelly.activation_based.neuron import few_spike
from torch import nn

from hw_targets import emulate, from_torch, spike_difference
from hw_targets.errors import UnsupportedModel
from tests.builders.torch_models import T, conv, images, prepared, spiking


def around(*middle: nn.Module, features: int = 108) -> nn.Module:
    return nn.Sequential(conv(2, 3), *middle, layer.Flatten(), layer.Linear(features, 4))


def assert_exact(model: nn.Module, mode: str = "m") -> None:
    """Read on one input and compared on another, spike for spike."""
    x, fresh = (images(T, 2, 2, 6, 6, seed=s).double() / 255 for s in (0, 9))
    single = mode == "s"
    read = from_torch(model, x[0] if single else x, time_steps=T if single else None)
    shown = fresh[0] if single else fresh
    difference = spike_difference(model, read, shown)
    assert difference.total == 0, difference
    assert min(difference.model.values()) > 0
    with torch.no_grad():
        functional.reset_net(model)
        theirs = sum(model(shown) for _ in range(T)) if single else model(shown).sum(0)
        functional.reset_net(model)
    np.testing.assert_allclose(emulate(read, shown).output, np.asarray(theirs), atol=1e-7)


NEURONS: dict[str, Callable[[], nn.Module]] = {
    "KLIF": lambda: klif(1.3, v_threshold=0.2),
    "KLIF, subtracting": lambda: klif(0.8, v_threshold=0.2, v_reset=None),
    "KLIF, scaled reset": lambda: klif(1.7, v_threshold=0.2, scale_reset=True, decay_input=False),
    "KLIF, scaled reset by subtraction": lambda: klif(1.7, v_threshold=0.2, scale_reset=True, v_reset=None),
    "LIF with a reset value": lambda: neuron.LIFNode(tau=1.7, v_threshold=0.1, v_reset=-0.3),
    "PLIF with a reset value": lambda: neuron.ParametricLIFNode(init_tau=3.0, v_threshold=0.3, v_reset=0.1),
    "SimpleIF": lambda: neuron.SimpleIFNode(v_threshold=0.4),
    "SimpleIF, subtracting": lambda: neuron.SimpleIFNode(v_threshold=0.4, v_reset=None),
    "SimpleLIF": lambda: neuron.SimpleLIFNode(tau=2.0, decay_input=True, v_threshold=0.2),
    "SimpleLIF without input decay": lambda: neuron.SimpleLIFNode(tau=2.0, decay_input=False, v_threshold=0.4),
}
SINGLE: dict[str, Callable[[], nn.Module]] = {
    "OTTT": lambda: neuron.OTTTLIFNode(tau=2.0, v_threshold=0.3),
    "SLTT": lambda: neuron.SLTTLIFNode(tau=2.0, v_threshold=0.2),
}


def klif(k: float, **options: Any) -> Any:
    node = neuron.KLIFNode(tau=2.0, **options)
    node.k.data.fill_(k)
    return node


@pytest.mark.parametrize("mode", ["m", "s"])
@pytest.mark.parametrize("build", NEURONS.values(), ids=NEURONS.keys())
def test_neurons(build: Callable[[], nn.Module], mode: str) -> None:
    torch.manual_seed(1)
    assert_exact(prepared(around(build()), mode), mode)


@pytest.mark.parametrize("build", SINGLE.values(), ids=SINGLE.keys())
def test_neurons_of_online_learning_are_lif_in_evaluation(build: Callable[[], nn.Module]) -> None:
    torch.manual_seed(1)
    assert_exact(prepared(around(build()), "s"), "s")


NOT_LIKE_THIS: dict[str, tuple[Callable[[], nn.Module], str]] = {
    "KLIF that grows": (lambda: klif(3.0), r"k = 3, by which its potential grows .* scale_reset=True"),
    "KLIF with a reset value": (lambda: klif(1.0, v_reset=-0.5), r"rectifies .* use v_reset=0.0"),
    "SimpleIF with a reset value": (lambda: neuron.SimpleIFNode(v_reset=-0.5), r"starts at 0 .* use v_reset=0.0"),
    "CUBA with a reset value": (lambda: neuron.CUBALIFNode(v_reset=-0.5), r"decays towards 0.* use v_reset=0.0"),
    "several spikes": (
        lambda: neuron.IFNode(surrogate_function=surrogate.MultiLevelSpikeCount(4)),
        r"surrogate function MultiLevelSpikeCount, .* use surrogate.ATan",
    ),
}


@pytest.mark.parametrize(("build", "says"), NOT_LIKE_THIS.values(), ids=NOT_LIKE_THIS.keys())
def test_options_that_are_refused(build: Callable[[], nn.Module], says: str) -> None:
    with pytest.raises(UnsupportedModel, match=f"from_torch: 1 .*{says}"):
        from_torch(prepared(around(build())), torch.rand(T, 2, 2, 6, 6).double())


def _table() -> Any:
    return few_spike.FewSpikeTable(torch.ones(T), torch.ones(T), torch.ones(T))


REFUSED_NEURONS: dict[str, tuple[Callable[[], nn.Module], str]] = {
    "PSN": (lambda: neuron.PSN(T), "several steps"),
    "MaskedPSN": (lambda: neuron.MaskedPSN(k=2, T=T), "several steps"),
    "SlidingPSN": (lambda: neuron.SlidingPSN(k=2), "several steps"),
    "GatedLIFNode": (lambda: neuron.GatedLIFNode(T), "gates"),
    "DSRIFNode": (lambda: neuron.DSRIFNode(), "threshold's size"),
    "DSRLIFNode": (lambda: neuron.DSRLIFNode(), "threshold's size"),
    "ActivationAwareIFNode": (lambda: neuron.ActivationAwareIFNode(), "offset"),
    "QIFNode": (lambda: neuron.QIFNode(), "non-linear"),
    "EIFNode": (lambda: neuron.EIFNode(), "non-linear"),
    "IzhikevichNode": (lambda: neuron.IzhikevichNode(), "second variable"),
    "ComplementaryLIFNode": (lambda: neuron.ComplementaryLIFNode(), "second memory"),
    "LIAFNode": (lambda: neuron.LIAFNode(torch.relu, False), "activation"),
    "ILIFNode": (lambda: neuron.ILIFNode(), "number of thresholds"),
    "HalfThresholdIFNode": (lambda: neuron.HalfThresholdIFNode(), "half its threshold"),
    "TernaryIFNode": (lambda: neuron.TernaryIFNode(), "both signs"),
    "TernaryLIFNode": (lambda: neuron.TernaryLIFNode(), "both signs"),
    "STBIFNode": (lambda: neuron.STBIFNode(1.0, 4), "both signs"),
    "MPBNLIFNode": (lambda: neuron.MPBNLIFNode(out_channels=3), "normalises its potential"),
    "RAFNode": (lambda: neuron.RAFNode(), "complex"),
    "NonSpikingIFNode": (lambda: neuron.NonSpikingIFNode(), "never fires"),
    "NonSpikingLIFNode": (lambda: neuron.NonSpikingLIFNode(), "never fires"),
}


@pytest.mark.parametrize(("build", "says"), REFUSED_NEURONS.values(), ids=REFUSED_NEURONS.keys())
def test_neurons_that_are_refused_by_name(build: Callable[[], nn.Module], says: str) -> None:
    node = build()
    with pytest.raises(UnsupportedModel) as caught:
        from_torch(prepared(around(node, spiking())), torch.rand(T, 2, 2, 6, 6).double())
    message = str(caught.value)
    assert message.startswith(f"from_torch: 1 ({type(node).__name__}) ")
    assert says in message
    assert "use IFNode, LIFNode, ParametricLIFNode, KLIFNode or CUBALIFNode" in message or "linear layer" in message


@pytest.mark.parametrize(
    "advised",
    [
        neuron.IFNode(v_threshold=0.3),
        neuron.LIFNode(v_threshold=0.2),
        neuron.ParametricLIFNode(v_threshold=0.2),
        neuron.KLIFNode(v_threshold=0.2),
        neuron.CUBALIFNode(v_threshold=0.4),
    ],
    ids=lambda node: type(node).__name__,
)
def test_the_neurons_that_refusals_advise_are_read(advised: nn.Module) -> None:
    torch.manual_seed(1)
    assert_exact(prepared(around(advised)))


def _thresholded() -> Any:
    return layer.ThresholdDependentBatchNorm2d(1.0, 0.3, 3)


NORMS: dict[str, Callable[[], nn.Module]] = {
    "tdBN": _thresholded,
    "BatchNorm2d": lambda: layer.BatchNorm2d(3),
    "SyncBatchNorm": lambda: layer.SeqToANNContainer(nn.SyncBatchNorm(3)),
    "TEBN with one scale": lambda: layer.TemporalEffectiveBatchNorm2d(T, 3),
}


@pytest.mark.parametrize("build", NORMS.values(), ids=NORMS.keys())
def test_batch_norms(build: Callable[[], nn.Module]) -> None:
    torch.manual_seed(1)
    norm = build()
    model = prepared(around(norm, spiking(0.2)))
    for module in norm.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            assert module.running_mean is not None
            assert module.running_var is not None
            module.running_mean.uniform_(-0.2, 0.2)
            module.running_var.uniform_(0.5, 1.5)
    assert_exact(model)


def _scaled_norm() -> nn.Module:
    norm: nn.Module = layer.TemporalEffectiveBatchNorm2d(T, 3)
    norm.scale = nn.Parameter(torch.arange(1.0, T + 1))
    return norm


REFUSED_LAYERS: dict[str, tuple[Callable[[], nn.Module], str, Callable[[], nn.Module]]] = {
    "TemporalEffectiveBatchNorm2d": (_scaled_norm, "other numbers in every step", _thresholded),
    "GroupNorm": (lambda: layer.GroupNorm(3, 3), "by its own mean", lambda: layer.BatchNorm2d(3)),
    "NeuNorm": (lambda: layer.NeuNorm(3, 6, 6), "trace", lambda: layer.BatchNorm2d(3)),
    "ReLU": (nn.ReLU, "no spike", lambda: spiking(0.2)),
    "Delay": (lambda: layer.Delay(1), "delays its input", nn.Identity),
    "MultiDimensionalAttention": (
        lambda: layer.MultiDimensionalAttention(T, 3, 2, 2), "attention", lambda: conv(3, 3, 1)
    ),
}  # fmt: skip


@pytest.mark.parametrize(("build", "says", "advised"), REFUSED_LAYERS.values(), ids=REFUSED_LAYERS.keys())
def test_layers_that_are_refused_by_name_and_what_is_read_instead(
    build: Callable[[], nn.Module], says: str, advised: Callable[[], nn.Module]
) -> None:
    torch.manual_seed(1)
    refused = build()
    with pytest.raises(UnsupportedModel) as caught:
        from_torch(prepared(around(refused, spiking(0.2))), torch.rand(T, 2, 2, 6, 6).double())
    assert f"1 ({type(refused).__name__})" in str(caught.value)
    assert says in str(caught.value)
    torch.manual_seed(1)
    assert_exact(prepared(around(advised(), spiking(0.2))))


def test_a_filter_behind_spikes_is_refused_and_the_lasting_current_advised() -> None:
    torch.manual_seed(1)
    with pytest.raises(UnsupportedModel, match=r"2 \(SynapseFilter\) filters .* use CUBALIFNode"):
        from_torch(prepared(around(spiking(), layer.SynapseFilter(), conv(3, 3))), torch.rand(T, 2, 2, 6, 6).double())
    assert_exact(prepared(around(spiking(), conv(3, 3, bias=False), neuron.CUBALIFNode(v_threshold=0.4))))


@pytest.mark.parametrize("mode", ["m", "s"])
@pytest.mark.parametrize("share", [1.0, -0.5])
def test_spikes_added_to_the_input_of_the_next_step(share: float, mode: str) -> None:
    torch.manual_seed(1)
    block = layer.ElementWiseRecurrentContainer(spiking(0.4), lambda y, x: share * y + x)
    assert_exact(prepared(around(block), mode), mode)


@pytest.mark.parametrize("mode", ["m", "s"])
@pytest.mark.parametrize("bias", [True, False])
def test_spikes_fed_back_through_a_layer(bias: bool, mode: str) -> None:
    torch.manual_seed(1)
    block = layer.LinearRecurrentContainer(neuron.LIFNode(v_threshold=0.1), 9, 9, bias)
    model = nn.Sequential(layer.Flatten(), layer.Linear(72, 9), block, layer.Linear(9, 4))
    assert_exact(prepared(model, mode), mode)


@pytest.mark.parametrize(
    "block",
    [
        lambda: layer.ElementWiseRecurrentContainer(spiking(), lambda y, x: y * x),
        lambda: layer.ElementWiseRecurrentContainer(nn.Sequential(conv(3, 3), spiking()), lambda y, x: y + x),
    ],
    ids=["a product", "more than neurons"],
)
def test_other_recurrences_are_refused(block: Callable[[], nn.Module]) -> None:
    with pytest.raises(UnsupportedModel, match=r"1 \(ElementWiseRecurrentContainer\) feeds back more .* y \+ x"):
        from_torch(prepared(around(block())), torch.rand(T, 2, 2, 6, 6).double())
