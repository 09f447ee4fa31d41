"""Fine-tuning on a chip's integers: the grids against the formulas, and the chip's spikes against the model's."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import snntorch as snn
import torch
from spikingjelly.activation_based import layer, neuron, surrogate
from torch import Tensor, nn

from hw_targets import emulate, export_netx, from_torch, load_chip, prepare_qat, quantize, spike_difference
from hw_targets.errors import HardwareTargetError, QuantizationError, UnsupportedModel
from hw_targets.ir.network import LIF, Accumulator, ChipNetwork, Network, Population
from hw_targets.quantization import qat
from hw_targets.quantization.qat import QATGrids, bias_offset
from neuroprune import ConstantThreshold, Grid, SoftThresholdPruner, frozen_batch_norm
from neuroprune.frameworks import framework_of
from neuroprune.models.sew_resnet import SmallSEWResNet

T = 3
LOIHI = load_chip("loihi1")
NARROW = replace(LOIHI, name="narrow", weight_bits=4)


def spiking() -> Any:
    return neuron.IFNode(surrogate_function=surrogate.ATan(), detach_reset=True)


class Plain(nn.Module):
    """A convolution with a bias under its batch-norm, an average pool, another one without batch-norm, a readout."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.norm, self.sn1 = layer.Conv2d(2, 4, 3, padding=1), layer.BatchNorm2d(4), spiking()
        self.pool, self.conv2, self.sn2 = layer.AvgPool2d(2), layer.Conv2d(4, 5, 3, padding=1), spiking()
        self.fc = layer.Linear(5 * 16, 3)
        for module in (self.conv1, self.norm, self.pool, self.conv2, self.fc, self.sn1, self.sn2):
            module.step_mode = "m"

    def forward(self, x: Tensor) -> Tensor:
        x = self.sn1(self.norm(self.conv1(x)))
        scores: Tensor = self.fc(self.sn2(self.conv2(self.pool(x))).flatten(2))
        return scores


class Looped(nn.Module):
    """snnTorch neurons without leak, which fire only above their threshold."""

    def __init__(self) -> None:
        super().__init__()
        options: dict[str, Any] = {"threshold": 1.0, "reset_mechanism": "zero", "reset_delay": False}
        self.conv, self.lif1 = nn.Conv2d(2, 4, 3, stride=2), snn.Leaky(1.0, **options)
        self.fc, self.lif2 = nn.Linear(36, 6), snn.Leaky(1.0, **options)

    def forward(self, x: Tensor) -> Tensor:
        v1, v2 = self.lif1.reset_mem(), self.lif2.reset_mem()
        spikes = []
        for step in range(T):
            s1, v1 = self.lif1(self.conv(x[step]), v1)
            s2, v2 = self.lif2(self.fc(s1.flatten(1)), v2)
            spikes.append(s2)
        return torch.stack(spikes)


MODELS: dict[str, Callable[[], nn.Module]] = {
    "sew": lambda: SmallSEWResNet([4, 6], in_channels=2, classes=3),
    "plain": Plain,
    "snntorch": Looped,
}


def pruned(name: str, seed: int = 0) -> nn.Module:
    """A model with a third of its weights zero and batch-norms of all kinds: factors of either sign, one of them 0."""
    torch.manual_seed(seed)
    model = MODELS[name]()
    with torch.no_grad():
        for p in model.parameters():
            if p.dim() > 1:
                p.mul_(2.0 * (torch.rand_like(p) > 1 / 3))
        for m in model.modules():
            if isinstance(m, nn.BatchNorm2d):
                m.get_buffer("running_mean").normal_(0, 0.3)
                m.get_buffer("running_var").uniform_(0.2, 2)
                m.weight.copy_(torch.rand_like(m.weight) + 0.5)
                m.weight[0].neg_()
                m.weight[1] = 0
                m.bias.normal_(0.3, 0.3)
    return model.eval()


def images(samples: int, seed: int = 0) -> Tensor:
    """(T, N, C, H, W), grey levels of eight bits."""
    generator = torch.Generator().manual_seed(seed)
    return (torch.randint(0, 256, (samples, 2, 8, 8), generator=generator) / 255).expand(T, -1, -1, -1, -1)


def tune(model: nn.Module, grids: QATGrids, steps: int, lr: float = 0.05) -> SoftThresholdPruner:
    optimizer = torch.optim.SGD(list(grids.rounding), lr=lr, momentum=0.9)
    pruner = SoftThresholdPruner(optimizer, ConstantThreshold(0.0), rounding=grids.rounding)
    pruner.freeze()
    framework = framework_of(model)
    assert framework is not None
    with frozen_batch_norm(model):
        model.train()
        for step in range(steps):
            framework.reset(model)
            optimizer.zero_grad()
            wanted = torch.randint(0, 3, (16,), generator=torch.Generator().manual_seed(step))
            torch.autograd.backward(nn.functional.cross_entropy(model(images(16, step)).mean(0), wanted))
            optimizer.step()
    framework.reset(model)
    model.eval()
    return pruner


def rounding_error(network: Network, chip: ChipNetwork) -> float:
    """The largest distance of a real weight from its integer, in units."""
    errors = []
    for real, whole in zip(network.synapses, chip.synapses, strict=True):
        unit = chip.scales[real.target] / (255.0 if network[real.source] is network.inputs[0] else 1.0)
        errors.append(np.abs(real.op.weight * unit - whole.op.weight).max())
    return float(max(errors))


# ------------------------------------------------------------------------------------------- the chip is the model


@pytest.mark.parametrize("chip", [LOIHI, NARROW], ids=lambda chip: chip.name)
@pytest.mark.parametrize("name", MODELS)
def test_the_chip_spikes_as_the_fine_tuned_model(name: str, chip: Any, tmp_path: Path) -> None:
    model = pruned(name)
    zeros = {key: p == 0 for key, p in model.named_parameters() if p.dim() > 1}
    before = copy.deepcopy(model.state_dict())
    seen = images(20, seed=1) if name == "sew" else None
    grids = prepare_qat(model, images(2), chip, calibration=seen, for_format="netx")
    assert grids.notes == ()
    tune(model, grids, 12).finalize()
    network = from_torch(model, images(2))
    integers = quantize(network, chip, scales=grids.scales, for_format="netx")
    assert integers.scales == grids.scales
    assert rounding_error(network, integers) < 1e-4
    found = spike_difference(model, integers, images(40, seed=99))
    assert found.total == 0
    assert all(count > 0 for count in found.model.values()), found.model
    for key, value in model.named_parameters():
        assert key not in zeros or not value[zeros[key]].any(), "pruned weights stay zero"
    moved = sum(int((value != before[key]).any()) for key, value in model.state_dict().items())
    assert moved == len(grids.rounding), "weights and biases moved, batch-norm did not"
    export_netx(integers, tmp_path / "model.net")


def test_readouts_are_whole_numbers_too() -> None:
    model = pruned("sew")
    grids = prepare_qat(model, images(2), LOIHI)
    tune(model, grids, 5).finalize()
    integers = quantize(from_torch(model, images(2)), LOIHI, scales=grids.scales)
    with torch.no_grad():
        scores = model(images(30, seed=5)).sum(0).numpy()
    exact = emulate(integers, images(30, seed=5)[0]).output / grids.scales[integers.outputs[0].name]
    assert np.abs(scores - exact).max() < 1e-4


def test_without_the_offset_of_biases_potentials_at_the_threshold_go_either_way(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    differing = []
    for offset in (bias_offset, lambda *_: 0.0):
        monkeypatch.setattr(qat, "bias_offset", offset)
        model = pruned("sew")
        grids = prepare_qat(model, images(2), NARROW)
        tune(model, grids, 3).finalize()
        integers = quantize(from_torch(model, images(2)), NARROW, scales=grids.scales)
        differing.append(spike_difference(model, integers, images(40, seed=99)).total)
    assert differing[0] == 0
    assert differing[1] > 20


def test_the_offset_stays_within_what_rounding_forgives() -> None:
    for steps in (1, 2, 4, 300):
        offset = bias_offset(Population("p", (1,), LIF(1.0)), steps)
        assert 0 < steps * offset < 0.5
        assert round(7 + offset) == 7
        assert bias_offset(Population("p", (1,), LIF(1.0, strict=True)), steps) == -offset
    assert bias_offset(Population("p", (1,), Accumulator()), 4) == 0


# ----------------------------------------------------------------------------------------------- grids, by the formulas


def test_steps_are_sigma_over_gamma_and_scale() -> None:
    model = pruned("plain")
    assert isinstance(model, Plain)
    grids = prepare_qat(model, images(2), LOIHI)
    scale1, scale2, scale3 = (grids.scales[name] for name in ("sn1", "sn2", "fc"))
    gain = (model.norm.weight / (model.norm.running_var + model.norm.eps).sqrt()).detach().double()
    live = gain != 0
    expected = {
        "conv1.weight": 255 / (gain.abs() * scale1),  # the image counts in grey levels
        "conv1.bias": 1 / (gain.abs() * scale1),
        "norm.bias": torch.full((4,), 1 / scale1),
        "conv2.weight": torch.full((5,), 4 / scale2),  # a weight is spread over a pool of four
        "conv2.bias": torch.full((5,), 1 / scale2),
        "fc.weight": torch.full((3,), 1 / scale3),
        "fc.bias": torch.full((3,), 1 / scale3),
    }
    assert {name for name, p in model.named_parameters() if p in grids.rounding} == set(expected)
    for name, steps in expected.items():
        grid = grids.rounding[model.get_parameter(name)]
        rows = live if name.startswith("conv1") else slice(None)
        assert torch.allclose(grid.step.flatten()[rows], steps.double()[rows], rtol=1e-6), name
        limit = LOIHI.bias_mantissa_bits if name.endswith("bias") else LOIHI.weight_bits
        assert limit is not None
        assert (grid.quant_min, grid.quant_max) == (1 - 2 ** (limit - 1), 2 ** (limit - 1) - 1)


def test_zero_points_take_up_what_batch_norm_adds() -> None:
    model = pruned("sew")
    grids = prepare_qat(model, images(2), LOIHI)
    norm = model.get_submodule("bn1")
    assert isinstance(norm, nn.BatchNorm2d)
    grid = grids.rounding[norm.get_parameter("bias")]
    sigma = (norm.get_buffer("running_var").double() + norm.eps).sqrt()
    adds = -norm.get_buffer("running_mean").double() * norm.weight.detach().double() / sigma
    assert grid.zero_point is not None
    assert torch.allclose(grid.zero_point, adds * grids.scales["sn1"] - 1 / (2 * T + 2))
    whole = torch.arange(-3.0, 1.0).double()
    folded = ((whole - grid.zero_point) * grid.step + adds) * grids.scales["sn1"]
    assert torch.allclose(folded, whole + 1 / (2 * T + 2))


def test_the_model_is_left_as_it_was() -> None:
    model = pruned("sew").train()
    before = copy.deepcopy(model.state_dict())
    prepare_qat(model, images(2), LOIHI)
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())
    assert all(m.training for m in model.modules())


def test_kernels_that_end_in_one_synapse_share_its_range() -> None:
    """Two convolutions of one source, added before the neurons."""

    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.stem, self.sn = layer.Conv2d(2, 3, 3, padding=1, step_mode="m"), spiking()
            self.a = layer.Conv2d(3, 3, 3, padding=1, bias=False, step_mode="m")
            self.b, self.last = layer.Conv2d(3, 3, 3, padding=1, step_mode="m"), spiking()
            self.sn.step_mode = self.last.step_mode = "m"

        def forward(self, x: Tensor) -> Tensor:
            x = self.sn(self.stem(x))
            spikes: Tensor = self.last(self.a(x) + self.b(x))
            return spikes

    torch.manual_seed(0)
    model = Twice().eval()
    grids = prepare_qat(model, images(2), LOIHI, for_format="netx")
    limits = [grids.rounding[model.get_parameter(f"{name}.weight")].quant_max for name in "ab"]
    assert sum(limits) <= 127
    assert min(limits) > 30
    tune(model, grids, 0).finalize()
    assert quantize(from_torch(model, images(2)), LOIHI, scales=grids.scales)


def test_currents_may_double_while_the_model_is_fine_tuned(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a readout whose scale is as large as the state allows."""
    chip = replace(LOIHI, state_bits=18)

    def doubled() -> ChipNetwork:
        model = pruned("sew")
        grids = prepare_qat(model, images(2), chip)
        tune(model, grids, 0).finalize()
        with torch.no_grad():
            model.get_parameter("fc.weight").mul_(2)
        return quantize(from_torch(model, images(2)), chip, scales=grids.scales)

    assert doubled()
    monkeypatch.setattr(qat, "_roomy", lambda formats: formats)
    with pytest.raises(QuantizationError, match="of fc a current may reach 2048, where the chip's state ends"):
        doubled()


def test_a_population_without_a_bias_is_named() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(layer.Linear(5, 4, bias=False), neuron.IFNode())
    grids = prepare_qat(model, (torch.rand(1, 5) > 0.5).float(), LOIHI, time_steps=2)
    assert len(grids.notes) == 1
    assert grids.notes[0].startswith("1: no parameter is its bias")
    pooled = nn.Sequential(layer.Conv2d(2, 3, 3), neuron.IFNode(), nn.MaxPool2d(2))
    assert prepare_qat(pooled, (torch.rand(1, 2, 6, 6) > 0.5).float(), LOIHI, time_steps=2).notes == ()


def test_leaks_and_thresholds_beyond_single_precision_are_named() -> None:
    torch.manual_seed(0)
    spikes = (torch.rand(1, 5) > 0.5).float()
    leaky = nn.Sequential(layer.Linear(5, 4), neuron.LIFNode(tau=2.0))
    assert ["leaks" in note for note in prepare_qat(leaky, spikes, LOIHI, time_steps=2).notes] == [True]
    model = nn.Sequential(layer.Linear(5, 4), neuron.IFNode(v_threshold=100.0))
    assert prepare_qat(model, spikes, LOIHI, time_steps=4).notes == ()
    long = prepare_qat(model, spikes, LOIHI, time_steps=100)
    assert len(long.notes) == 1
    assert "single precision" in long.notes[0]


# ------------------------------------------------------------------------------------------------------------ refusals


def test_refuses_a_model_that_left_its_grid() -> None:
    model = pruned("sew")
    grids = prepare_qat(model, images(2), LOIHI)
    tune(model, grids, 2).finalize()
    norm = model.get_submodule("bn1")
    for name, value in (("weight", norm.get_parameter("weight")), ("running_var", norm.get_buffer("running_var"))):
        kept = value.detach().clone()
        with torch.no_grad():
            value.mul_(1.03)
        with pytest.raises(
            QuantizationError, match=r"weights of .*→sn1 lie up to .* not trained on it; keep batch-norm"
        ):
            quantize(from_torch(model, images(2)), LOIHI, scales=grids.scales)
        with torch.no_grad():
            value.copy_(kept)
        assert quantize(from_torch(model, images(2)), LOIHI, scales=grids.scales), name


def test_refuses_scales_that_are_not_the_networks() -> None:
    model = pruned("sew")
    grids = prepare_qat(model, images(2), LOIHI)
    tune(model, grids, 0).finalize()
    network = from_torch(model, images(2))
    with pytest.raises(QuantizationError, match="give one of the two"):
        quantize(network, LOIHI, images(5), scales=grids.scales)
    with pytest.raises(QuantizationError, match="no number above 0 for sn1"):
        quantize(network, LOIHI, scales={key: s for key, s in grids.scales.items() if key != "sn1"})
    with pytest.raises(QuantizationError, match="no number above 0 for sn1"):
        quantize(network, LOIHI, scales={**grids.scales, "sn1": float("nan")})
    with pytest.raises(QuantizationError, match="limit 127"):
        quantize(network, LOIHI, scales={**grids.scales, "fc": 1000 * grids.scales["fc"]})
    with pytest.raises(QuantizationError, match="a current may reach"):
        quantize(network, replace(LOIHI, state_bits=14), scales=grids.scales)
    higher = replace(network["sn1"], neuron=LIF(1.001))
    moved = replace(network, populations=tuple(higher if p.name == "sn1" else p for p in network.populations))
    with pytest.raises(QuantizationError, match="threshold of sn1 lie up to"):
        quantize(moved, LOIHI, scales=grids.scales)


class Odd(nn.Module):
    """One layer and neurons, and whatever comes in between."""

    def __init__(self, first: nn.Module, *rest: nn.Module) -> None:
        super().__init__()
        self.first, self.rest, self.sn = first, nn.Sequential(*rest), spiking()

    def forward(self, x: Tensor) -> Tensor:
        spikes: Tensor = self.sn(self.rest(self.first(x)))
        return spikes


def test_refuses_what_is_no_factor_per_channel() -> None:
    def refused(message: str, model: nn.Module, example: Tensor) -> None:
        with pytest.raises(UnsupportedModel, match=message) as caught:
            prepare_qat(model.eval(), example, LOIHI, time_steps=2)
        assert isinstance(caught.value, HardwareTargetError)

    torch.manual_seed(0)
    spikes = (torch.rand(1, 2, 6, 6) > 0.5).float()
    overlapping = Odd(neuron.IFNode(), layer.AvgPool2d(3, 1), layer.Conv2d(2, 3, 2))
    refused("rest.1.weight reaches the network's weights by several factors", overlapping, spikes)
    normed = Odd(nn.utils.parametrizations.weight_norm(layer.Linear(5, 4)))
    refused("remove parametrizations", normed, (torch.rand(1, 5) > 0.5).float())


def test_refuses_what_was_trained_on_integers_already(monkeypatch: pytest.MonkeyPatch) -> None:
    def slayer(*arguments: Any, **options: Any) -> Network:
        network = from_torch(*arguments, **options)
        trained = (replace(p, neuron=LIF(1.0, unit=64)) if p.name == "sn1" else p for p in network.populations)
        return replace(network, populations=tuple(trained))

    monkeypatch.setattr(qat, "from_torch", slayer)
    with pytest.raises(UnsupportedModel, match="sn1 was trained on a chip's integers already"):
        prepare_qat(pruned("sew"), images(2), LOIHI)


def test_refuses_one_layer_on_two_scales() -> None:
    class Shared(nn.Module):
        def __init__(self, bias: bool) -> None:
            super().__init__()
            self.fc, self.a, self.b = nn.Linear(5, 5, bias=bias), spiking(), neuron.IFNode(v_threshold=0.3)

        def forward(self, x: Tensor) -> Tensor:
            spikes: Tensor = self.b(self.fc(self.a(self.fc(x))))
            return spikes

    torch.manual_seed(0)
    with pytest.raises(UnsupportedModel, match=r"fc\.weight is used on several scales"):
        prepare_qat(Shared(bias=False).eval(), (torch.rand(1, 5) > 0.5).float(), LOIHI, time_steps=2)


def test_grids_are_grids() -> None:
    model = pruned("plain")
    assert all(isinstance(grid, Grid) for grid in prepare_qat(model, images(2), LOIHI).rounding.values())


def test_scales_that_a_format_does_not_allow_are_refused() -> None:
    model = pruned("sew")
    grids = prepare_qat(model, images(2), LOIHI)
    tune(model, grids, 0).finalize()
    network = from_torch(model, images(2))
    assert quantize(network, LOIHI, scales=grids.scales).file_format == ""
    with pytest.raises(QuantizationError, match=r"the integer thresholds are \{.*prepare_qat\(..., for_format=...\)"):
        quantize(network, LOIHI, scales=grids.scales, for_format="netx")
