"""Every model of SpikingJelly 2.0's zoo as its constructor makes it, and every neuron and layer in a small network."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from types import SimpleNamespace
from typing import Any

import torch
from spikingjelly.activation_based import functional, layer, neuron, surrogate
from spikingjelly.activation_based.model import (
    masnn,
    maxformer,
    ms_resnet,
    parametric_lif_net,
    qkformer,
    sew_resnet,
    snas_net,
    spike_dhs,
    spike_driven_transformer,
    spikformer,
    spiking_resnet,
    spiking_vgg,
    spiking_vggws_ottt,
)
from torch import Tensor, nn

STEPS, SAMPLES = 2, 4


@dataclass(frozen=True)
class Case:
    """A model, what it takes, and how often it is called for a sample's steps."""

    build: Callable[[], nn.Module]
    shape: tuple[int, ...]
    mode: str = "m"

    def inputs(self, seed: int) -> Tensor:
        """Images, those of the steps one after the other where the model takes them so."""
        return torch.rand(self.shape, generator=torch.Generator().manual_seed(seed)).double()


def _sequence(*shape: int) -> tuple[int, ...]:
    return (STEPS, SAMPLES, *shape)


def _multi_step(build: Callable[..., nn.Module], **options: Any) -> Callable[[], nn.Module]:
    def made() -> nn.Module:
        model = build(spiking_neuron=neuron.IFNode, surrogate_function=surrogate.ATan(), detach_reset=True, **options)
        functional.set_step_mode(model, "m")
        return model

    return made


def _resnets() -> dict[str, Case]:
    depths = ("18", "34", "50", "101", "152")
    images, found = _sequence(3, 32, 32), dict[str, Case]()
    for prefix, module, options in (("sew", sew_resnet, {"cnf": "ADD"}), ("spiking", spiking_resnet, {})):
        names = [f"{prefix}_resnet{d}" for d in depths]
        names += [f"{prefix}_{kind}" for kind in ("resnext50_32x4d", "resnext101_32x8d")]
        names += [f"{prefix}_wide_{kind}" for kind in ("resnet50_2", "resnet101_2")]
        for name in names:
            found[name] = Case(_multi_step(getattr(module, name), num_classes=10, **options), images)
    for cnf in ("AND", "IAND"):
        found[f"sew_resnet18, {cnf}"] = Case(_multi_step(sew_resnet.sew_resnet18, num_classes=10, cnf=cnf), images)
    for name in ("ms_resnet18", "ms_resnet34", "max_resnet18"):
        build = getattr(ms_resnet, name)
        found[name] = Case(partial(build, T=STEPS, num_classes=10), (SAMPLES, 3, 32, 32))
    return found


def _vggs() -> dict[str, Case]:
    found = {}
    for depth in (11, 13, 16, 19):
        for name in (f"spiking_vgg{depth}", f"spiking_vgg{depth}_bn"):
            build = _multi_step(getattr(spiking_vgg, name), num_classes=10, v_threshold=0.02)
            found[name] = Case(build, _sequence(3, 32, 32))
    for name in ("ottt_spiking_vggws", *(f"ottt_spiking_vgg{d}{ws}" for d in (11, 13, 16, 19) for ws in ("", "_ws"))):
        build = getattr(spiking_vggws_ottt, name)
        found[name] = Case(partial(build, num_classes=10, v_threshold=0.3), (SAMPLES, 3, 32, 32), "s")
    return found


def _parametric() -> dict[str, Case]:
    shapes = {
        "MNISTNet": (1, 28, 28),
        "FashionMNISTNet": (1, 28, 28),
        "NMNISTNet": (2, 34, 34),
        "CIFAR10Net": (3, 32, 32),
        "CIFAR10DVSNet": (2, 128, 128),
        "DVSGestureNet": (2, 128, 128),
    }

    def build(name: str) -> Callable[[], nn.Module]:
        def made() -> nn.Module:
            options = {"init_tau": 2.0, "v_threshold": 0.05}
            net = getattr(parametric_lif_net, name)(channels=16, spiking_neuron=neuron.ParametricLIFNode, **options)
            functional.set_step_mode(net, "m")
            return net  # type: ignore[no-any-return]  # SpikingJelly has no types

        return made

    return {name: Case(build(name), _sequence(*shape)) for name, shape in shapes.items()}


def _searched() -> dict[str, Case]:
    options = {"timestep": STEPS, "second_avgpooling": 2, "dataset": "cifar10", "threshold": 1.0, "tau": 4 / 3}
    matrix = torch.tensor([[0, 3, 1, 2], [0, 0, 2, 3], [0, 0, 0, 1], [0, 2, 0, 0]])
    found = {
        f"SNASNet, {kind}": Case(
            partial(snas_net.SNASNet, SimpleNamespace(celltype=kind, **options), matrix),
            (SAMPLES, 3, 32, 32),
            "loop",
        )
        for kind in ("forward", "backward")
    }
    dhs = SimpleNamespace(fea_step=3, fea_num_layers=8, fea_block_multiplier=3, fea_filter_multiplier=48)

    def build() -> nn.Module:
        net = spike_dhs.SpikeDHS(3, dhs)
        functional.set_step_mode(net, "m")
        return net  # type: ignore[no-any-return]  # as above

    return found | {"SpikeDHS": Case(build, (SAMPLES, 3, 32, 32))}


def _attending() -> dict[str, Case]:
    images = (SAMPLES, 3, 32, 32)
    small = {"T": STEPS, "num_classes": 10}
    return {
        "masnn_dvs128_gesture": Case(lambda: masnn.masnn_dvs128_gesture(T=16), (16, 1, 2, 32, 32)),
        "att_ms_resnet18": Case(lambda: masnn.att_ms_resnet18(**small), images),
        "spikformer_ti": Case(lambda: spikformer.spikformer_ti(img_size_h=32, img_size_w=32, **small), images),
        "spikformer_s": Case(lambda: spikformer.spikformer_s(img_size_h=32, img_size_w=32, **small), images),
        "spikformer_cifar10": Case(lambda: spikformer.spikformer_cifar10(**small), images),
        "maxformer_10_384": Case(lambda: maxformer.maxformer_10_384(**small), images),
        "maxformer_cifar": Case(lambda: maxformer.maxformer_cifar(**small), images),
        "qkformer_10_384": Case(lambda: qkformer.qkformer_10_384(**small), images),
        "sdt_8_384": Case(lambda: spike_driven_transformer.sdt_8_384(**small), images),
    }


def zoo() -> Mapping[str, Case]:
    """By name, in the order of the table."""
    return {**_parametric(), **_resnets(), **_vggs(), **_searched(), **_attending()}


#: One of each class of neurons and layers that can be made without data; those not listed need another machine or data.
_NEURONS: Mapping[str, Callable[[], nn.Module]] = {
    name: getattr(neuron, name)
    for name in (
        *("IFNode", "LIFNode", "ParametricLIFNode", "KLIFNode", "CUBALIFNode", "SimpleIFNode"),
        *("DSRIFNode", "DSRLIFNode", "ActivationAwareIFNode", "QIFNode", "EIFNode", "IzhikevichNode"),
        *("ComplementaryLIFNode", "ILIFNode", "HalfThresholdIFNode", "TernaryIFNode", "TernaryLIFNode", "RAFNode"),
        *("NonSpikingIFNode", "NonSpikingLIFNode"),
    )
} | {
    "SimpleLIFNode": partial(neuron.SimpleLIFNode, tau=2.0, decay_input=True),
    "PSN": partial(neuron.PSN, STEPS),
    "SlidingPSN": partial(neuron.SlidingPSN, k=2),
    "MaskedPSN": partial(neuron.MaskedPSN, k=2, T=STEPS),
    "GatedLIFNode": partial(neuron.GatedLIFNode, STEPS),
    "LIAFNode": partial(neuron.LIAFNode, torch.relu, False),
    "STBIFNode": partial(neuron.STBIFNode, 1.0, 4),
    "MPBNLIFNode": partial(neuron.MPBNLIFNode, out_channels=4),
}
_SINGLE_STEP = ("OTTTLIFNode", "SLTTLIFNode")
_LAYERS: Mapping[str, Callable[[], nn.Module]] = {
    "Conv2d": partial(layer.Conv2d, 4, 4, 3, padding=1),
    "Conv2d, circular": partial(layer.Conv2d, 4, 4, 3, padding=1, padding_mode="circular"),
    "ConvTranspose2d": partial(layer.ConvTranspose2d, 4, 4, 3, padding=1),
    "WSConv2d": partial(layer.WSConv2d, 4, 4, 3, padding=1),
    "Upsample": partial(layer.Upsample, scale_factor=1),
    "AvgPool2d": partial(layer.AvgPool2d, 3, 1, 1),
    "AdaptiveAvgPool2d": partial(layer.AdaptiveAvgPool2d, 8),
    "MaxPool2d": partial(layer.MaxPool2d, 3, 1, 1),
    "Dropout": layer.Dropout,
    "Dropout2d": layer.Dropout2d,
    "BatchNorm2d": partial(layer.BatchNorm2d, 4),
    "ThresholdDependentBatchNorm2d": partial(layer.ThresholdDependentBatchNorm2d, 1.0, 1.0, 4),
    "TemporalEffectiveBatchNorm2d, trained": lambda: _per_step(layer.TemporalEffectiveBatchNorm2d(STEPS, 4)),
    "NeuNorm": partial(layer.NeuNorm, 4, 8, 8),
    "GroupNorm": partial(layer.GroupNorm, 2, 4),
    "SynapseFilter": layer.SynapseFilter,
    "Delay": partial(layer.Delay, 1),
    "SeqToANNContainer": lambda: layer.SeqToANNContainer(nn.Conv2d(4, 4, 3, padding=1), nn.BatchNorm2d(4)),
    "MultiStepContainer": lambda: layer.MultiStepContainer(nn.Conv2d(4, 4, 1), neuron.IFNode(v_threshold=0.1)),
    "StepModeContainer": lambda: layer.StepModeContainer(True, "m", nn.Conv2d(4, 4, 1)),
    "ElementWiseRecurrentContainer": lambda: layer.ElementWiseRecurrentContainer(neuron.IFNode(), torch.add),
    "MultiDimensionalAttention": partial(layer.MultiDimensionalAttention, STEPS, 4, 2, 2),
}


def _per_step(norm: Any) -> nn.Module:
    norm.scale = nn.Parameter(torch.arange(1.0, STEPS + 1))
    return norm  # type: ignore[no-any-return]  # SpikingJelly has no types


def _in_between(make: Callable[[], nn.Module], *, spikes: bool, mode: str = "m") -> nn.Module:
    """A neuron behind a convolution, or a layer behind neurons and before others."""
    first = [layer.Conv2d(2, 4, 3, padding=1), *([neuron.IFNode(v_threshold=0.2)] if spikes else [])]
    last = [neuron.IFNode(v_threshold=0.2), layer.Flatten(), layer.Linear(256, 4)]
    middle: Any = make()
    if isinstance(getattr(middle, "v_threshold", None), float):
        middle.v_threshold = 0.1  # so that neurons of all kinds fire
    model = nn.Sequential(*first, middle, *last)
    functional.set_step_mode(model, mode)
    return model


def parts() -> Mapping[str, Case]:
    """Neurons and layers by the names of their classes."""
    shape = _sequence(2, 8, 8)
    found = {f"neuron.{k}": Case(partial(_in_between, make, spikes=False), shape) for k, make in _NEURONS.items()}
    for name in _SINGLE_STEP:
        found[f"neuron.{name}"] = Case(
            partial(_in_between, getattr(neuron, name), spikes=False, mode="s"), shape[1:], "s"
        )
    return found | {f"layer.{k}": Case(partial(_in_between, make, spikes=True), shape) for k, make in _LAYERS.items()}
