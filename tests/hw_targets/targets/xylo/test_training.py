"""Xylo's layers: forward in the chip's integers, gradients beside them, and read exactly."""

from __future__ import annotations

import copy
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import neuroprune
from hw_targets import (
    XyloLayer,
    compare_with_xylosim,
    emulate,
    from_torch,
    load_chip,
    prepare_qat,
    quantize,
    spike_difference,
    to_nir,
)
from hw_targets.errors import UnsupportedModel
from hw_targets.targets.xylo.dynamics.step import received as received_reference
from hw_targets.targets.xylo.training.functions import decayed, received, spikes_of, weights_of
from neuroprune.frameworks import framework_of
from neuroprune.training.loop import predictor
from tests.builders.xylosim import required_in_ci

CHIP = load_chip("xylo-audio2")


def network(
    *sizes: int, recurrent: bool = False, mode: str = "m", scale: float = 3.0, **arguments: Any
) -> nn.Sequential:
    """Hidden layers and an output."""
    layers = [
        XyloLayer(a, b, recurrent=recurrent, step_mode=mode, threshold=0.5, dash_mem=2 + i, **arguments)
        for i, (a, b) in enumerate(pairwise(sizes[:-1]))
    ]
    model = nn.Sequential(*layers, XyloLayer(sizes[-2], sizes[-1], output=True, step_mode=mode, threshold=0.7))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(scale)
    return model


def counts(steps: int, samples: int, channels: int, most: int = 3) -> Tensor:
    return (torch.rand(steps, samples, channels) < 0.4).float() * torch.randint(1, most + 1, (steps, samples, channels))


@pytest.mark.parametrize("recurrent", [False, True])
@pytest.mark.parametrize(("mode", "scale"), [("m", 2.0), ("m", 40.0), ("s", 2.0)])
def test_a_model_its_network_and_xylosim_agree(recurrent: bool, mode: str, scale: float) -> None:
    """Every spike, of saturating networks, too."""
    model = network(5, 12, 8, 3, recurrent=recurrent, mode=mode, scale=scale)
    inputs = counts(20, 4, 5, 1 if scale < 10 else 15)
    example = inputs if mode == "m" else inputs[0]
    read = from_torch(model, example, time_steps=20)
    assert read.in_integers
    integers = quantize(read, CHIP)
    whole = inputs.numpy().astype(np.int64)
    if mode == "m":
        for found in (read, integers):
            assert spike_difference(model, found, inputs).total == 0
    for module in model.modules():
        if isinstance(module, XyloLayer):
            module.reset()
    with torch.no_grad():
        sent = model(inputs) if mode == "m" else torch.stack([model(step) for step in inputs])
    saturations = sum(m.saturations for m in model if isinstance(m, XyloLayer))
    activity = emulate(integers, whole)
    assert np.array_equal(activity.spikes["2.neuron"], sent.numpy())
    assert sent.any()
    assert (saturations > 0) == (sum(activity.overflows.values()) > 0)
    assert saturations > 0 or scale < 10
    with required_in_ci():
        assert compare_with_xylosim(integers, whole).differences == 0


def test_sums_that_saturate_are_those_of_the_chip() -> None:
    """Term by term where it matters: at both ends, and back again."""
    torch.manual_seed(1)
    isyn = torch.randint(-32768, 32768, (6, 9)).float()
    sent, weights = torch.randint(0, 32, (6, 30)).float(), torch.randint(-127, 128, (9, 30)).float()
    found, held = received(isyn, sent, weights, 5)
    expected = received_reference(isyn.long().numpy(), sent.long().numpy(), weights.t().long().numpy(), 5)
    assert np.array_equal(found.numpy(), expected)
    assert held.any()
    few, _ = received(isyn * 0, (sent > 30).float(), weights, 0)
    assert np.array_equal(few.numpy(), ((sent > 30).float() @ weights.t()).numpy())


def gradient(output: Tensor, argument: Tensor) -> list[float]:
    (found,) = torch.autograd.grad(output.sum(), argument)
    values: list[float] = found.tolist()
    return values


def test_gradients_are_those_of_the_equations_without_rounding() -> None:
    x = torch.tensor([-5.0, 100.0, 7.0], requires_grad=True)
    assert gradient(decayed(x, 3), x) == [0.875] * 3
    weight = torch.tensor([0.5, 3.0, -0.013], requires_grad=True)
    found = weights_of(weight, 64)
    assert found.tolist() == [32.0, 127.0, -1.0]
    assert gradient(found, weight) == [64.0, 0.0, 64.0]
    v = torch.tensor([0.0, 50.0, 100.0, 350.0], requires_grad=True)
    sent = spikes_of(v, 100, 31)
    assert sent.tolist() == [0.0, 0.0, 1.0, 3.0]
    assert gradient(sent, v) == pytest.approx([0.01 / 25, 0.01 / 9, 0.01, 0.01])


def test_a_layer_learns() -> None:
    """One output is to spike where the first half of channels do, the other where the second does."""
    torch.manual_seed(0)
    model = network(6, 12, 2, scale=1.0)
    inputs, labels = counts(12, 40, 6, 1), torch.arange(40) % 2
    inputs[:, labels == 0, 3:] = 0
    inputs[:, labels == 1, :3] = 0
    optimizer = torch.optim.Adam(model.parameters(), lr=0.02)
    framework = framework_of(model)
    assert framework is not None
    for _ in range(40):
        framework.reset(model)
        loss = nn.functional.cross_entropy(model(inputs).sum(0), labels)
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]  # torch's
        optimizer.step()
    framework.reset(model)
    assert (model(inputs).sum(0).argmax(1) == labels).float().mean() > 0.95


def test_pruned_weights_stay_zero_in_integers() -> None:
    torch.manual_seed(0)
    model = network(6, 12, 2)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    pruner = neuroprune.SoftThresholdPruner(optimizer, neuroprune.ConstantThreshold(0.3))
    inputs = counts(8, 4, 6)
    model(inputs).sum().backward()
    optimizer.step()
    pruner.finalize()
    zeros = sum(int((p == 0).sum()) for p in model.parameters())
    found = from_torch(model, inputs)
    assert zeros > 10
    assert sum(int((s.op.weight == 0).sum()) for s in found.synapses) >= zeros


def test_biases_of_the_first_layer_are_exact_and_those_behind_are_refused() -> None:
    model, inputs = network(5, 8, 6, 2), counts(10, 3, 5)
    model[0].bias = nn.Parameter(torch.rand(8) * 0.3)
    integers = quantize(from_torch(model, inputs), CHIP)
    assert spike_difference(model, integers, inputs).total == 0
    model[1].bias = nn.Parameter(torch.rand(6) * 0.3)
    read = from_torch(model, inputs)
    with pytest.raises(UnsupportedModel, match=r"1.neuron has biases and hears its input 1 steps late.*bias=False"):
        quantize(read, CHIP)
    late = quantize(read, CHIP, approximate=True)
    assert "1.neuron has biases" in late.notes[0]
    assert spike_difference(model, late, inputs).total > 0


def test_predictions_are_of_the_output_spikes() -> None:
    model = network(5, 8, 2)
    images = counts(1, 7, 5)[0]
    framework = framework_of(model)
    assert framework is not None
    assert framework.name == "xylo"
    scores = predictor(model, 6)(model, images)
    framework.reset(model)
    assert torch.equal(scores, model(images.expand(6, 7, 5)).mean(0))
    for layer in model:
        assert isinstance(layer, XyloLayer)
        layer.step_mode = "s"
    assert torch.equal(scores, predictor(model, 6)(model, images))


def test_a_model_is_copied_and_saved_as_any_other() -> None:
    model = network(5, 8, 2, recurrent=True)
    twin = copy.deepcopy(model)
    assert set(model.state_dict()) == {"0.weight", "0.recurrent_weight", "1.weight"}
    twin.load_state_dict(model.state_dict())
    inputs = counts(4, 2, 5)
    assert torch.equal(model(inputs), twin(inputs))


def test_what_hides_from_reading_is_found() -> None:
    model, inputs = network(5, 8, 2), counts(10, 3, 5)
    model[0].get_submodule("neuron").register_forward_hook(lambda _m, _i, output: output * 0 + 1)
    with pytest.raises(UnsupportedModel, match=r"0\.neuron answer .* in another way than the chip's integers"):
        from_torch(model, inputs)


def test_inputs_take_what_the_chip_does() -> None:
    model = network(5, 8, 2)
    assert from_torch(model, counts(6, 2, 5, 1)).inputs[0].neuron.most_sent == 15
    with pytest.raises(UnsupportedModel, match="the example's values span 0 … 16"):
        from_torch(model, counts(6, 2, 5) * 0 + 16)
    with pytest.raises(UnsupportedModel, match=r"values between whole numbers, .* take spikes; encode them first"):
        from_torch(model, torch.rand(6, 2, 5))


def test_refusals() -> None:
    cases: tuple[tuple[dict[str, Any], str], ...] = (
        ({"dash_syn": 0}, "dash_syn 0 .at least 1"),
        ({"step_mode": "x"}, "step_mode is 'x'"),
        ({"threshold": 1000.0}, "is 512000 on the chip, which holds 1 … 32767"),
        ({"output": True, "recurrent": True}, "outputs do not hear themselves"),
    )
    for arguments, message in cases:
        with pytest.raises(UnsupportedModel, match=message):
            XyloLayer(2, 2, **arguments)
    with pytest.raises(ValueError, match=r"expected 3 axes, \(T, N, 2\)"):
        XyloLayer(2, 2)(torch.zeros(4, 2))
    mixed = nn.Sequential(XyloLayer(2, 2), XyloLayer(2, 2, step_mode="s"))
    with pytest.raises(UnsupportedModel, match=r"step modes \['m', 's'\]; give all of them one"):
        from_torch(mixed, torch.zeros(3, 1, 2))
    model, inputs = network(5, 8, 2), counts(6, 2, 5)
    read = from_torch(model, inputs)
    with pytest.raises(UnsupportedModel, match="was trained in a chip's integers, which no node of NIR computes"):
        to_nir(read)
    with pytest.raises(UnsupportedModel, match="was trained on a chip's integers already"):
        prepare_qat(model, inputs, CHIP)
    with pytest.raises(UnsupportedModel, match="was trained in the integers of xylo"):
        quantize(read, load_chip("loihi1"))


@pytest.mark.parametrize("mode", ["m", "s"])
def test_operations_are_spikes_times_weights_that_are_not_zero_on_the_chip(mode: str) -> None:
    """Recurrent ones included, one step later; nothing of what is only looked at for saturation."""
    torch.manual_seed(0)
    first = XyloLayer(6, 10, recurrent=True, step_mode=mode)
    last = XyloLayer(10, 3, output=True, step_mode=mode)
    model = nn.Sequential(first, last)
    with torch.no_grad():
        first.weight.mul_(torch.rand_like(first.weight) < 0.6)
    x = 2.0 * (torch.rand(5, 2, 6) < 0.5).float()
    sent: list[Tensor] = []
    handle = first.neuron.register_forward_hook(lambda _m, _i, y: sent.append(y.detach().clone()))

    def run(m: Any, shown: Tensor) -> None:
        for module in m:
            module.reset()
        _ = m(shown) if mode == "m" else [m(step) for step in shown]

    run(model, x)
    handle.remove()
    spikes = torch.stack(sent)
    assert spikes[:-1].sum() > 10
    recurrent = first.chip_recurrent_weight
    assert recurrent is not None
    arriving = [(x, first.chip_weight), (spikes[:-1], recurrent), (spikes, last.chip_weight)]
    expected = [int((s.sum((0, 1)) * (w != 0).sum(0)).sum()) for s, w in arriving]
    found = neuroprune.count_synops(model, x, forward=run)
    assert (found.layers["0 (matmul)"].synops, found.layers["1 (matmul)"].synops) == (sum(expected[:2]), expected[2])
    assert (found.macs, found.uncounted) == (0, ())
