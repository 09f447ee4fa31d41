"""sinabs' models: read with several spikes a step and a lower bound, and the same spikes on Speck as sinabs says."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from hw_targets import emulate, from_torch, load_chip, place, quantize, spike_difference
from hw_targets.errors import UnsupportedModel
from hw_targets.targets.dynapcnn.core import cores_of
from hw_targets.targets.dynapcnn.sinabs.check import SinabsUnavailable, backend, compare_with_sinabs
from neuroprune.frameworks import framework_of
from tests.builders.lava import CI

STEPS = 7

try:
    LAYERS, ACTIVATION, _ = backend()
except SinabsUnavailable as error:
    if CI:
        raise
    pytest.skip(str(error), allow_module_level=True)


def neurons(**options: Any) -> nn.Module:
    """One step a call, cut off below −1."""
    found: nn.Module = LAYERS.IAFSqueeze(**({"num_timesteps": 1, "min_v_mem": -1.0} | options))
    return found


def model() -> nn.Sequential:
    """(N, 2, 8, 8) → (N, 6), in every layer neurons that send several spikes a step."""
    torch.manual_seed(0)
    net = nn.Sequential(
        nn.Conv2d(2, 4, 3), neurons(), LAYERS.SumPool2d(2),
        nn.Conv2d(4, 5, 3, padding=1, bias=False), neurons(reset_fn=ACTIVATION.MembraneReset()),
        nn.Flatten(), nn.Linear(45, 6), neurons(),
    )  # fmt: skip
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.mul_(4.0 if parameter.dim() > 1 else 1.0)
    return net


def events(seed: int) -> Tensor:
    """(T, N, 2, 8, 8)."""
    return (torch.rand(STEPS, 3, 2, 8, 8, generator=torch.Generator().manual_seed(seed)) < 0.4).float()


def responses(net: nn.Module, shown: Tensor) -> tuple[Tensor, list[Tensor]]:
    """Outputs (T, N, 6), and every neuron layer's spikes."""
    framework = framework_of(net)
    assert framework is not None
    framework.reset(net)
    sent: list[list[Tensor]] = []
    layers = [m for m in net.children() if framework.is_neuron(m)]
    for m in layers:
        sent.append([])
        m.register_forward_hook(lambda _m, _i, output, here=sent[-1]: here.append(output.detach().clone()))
    with torch.no_grad():
        output = torch.stack([net(x) for x in shown])
    return output, [torch.stack(each) for each in sent]


def test_every_spike_of_every_neuron_on_fresh_inputs() -> None:
    net = model()
    network = from_torch(net, events(0)[0], time_steps=STEPS)
    output, spikes = responses(net, events(1))
    activity = emulate(network, events(1))
    found = [p.name for p in network.populations if not p.is_input]
    for name, theirs in zip(found, spikes, strict=True):
        np.testing.assert_array_equal(activity.spikes[name], theirs.numpy())
    assert max(int(each.max()) for each in spikes) >= 3, "several a step"
    np.testing.assert_array_equal(activity.output, output.sum(0).numpy())
    assert not (output.sum(0) == 0).all()


def test_on_speck_it_is_a_core_a_layer_and_sinabs_agrees() -> None:
    chip = load_chip("speck")
    found = quantize(from_torch(model(), events(0)[0], time_steps=STEPS), chip)
    assert [core.kernel.pool for core in cores_of(found)] == [1, 2, 1]
    assert place(found, chip).core_count == 3
    verdict = compare_with_sinabs(found, events(2))
    assert verdict.differences == 0
    assert verdict.spikes > 300


@pytest.mark.parametrize(
    ("made", "said"),
    [
        (lambda: LAYERS.IAF(), "takes all steps at once.*IAFSqueeze"),
        (lambda: LAYERS.IAFSqueeze(batch_size=3), "takes several steps a call; use IAFSqueeze.num_timesteps=1"),
        (lambda: neurons(tau_syn=2.0), "decays a current in the step it arrives in"),
        (lambda: neurons(reset_fn=ACTIVATION.MembraneReset(0.5)), "resets in another way"),
        (lambda: neurons(spike_fn=ACTIVATION.MaxSpike(3)), "fires in another way"),
    ],
)
def test_what_is_refused_says_what_to_use(made: Any, said: str) -> None:
    net = nn.Sequential(nn.Conv2d(2, 4, 3), made())
    with pytest.raises(UnsupportedModel, match=said):
        from_torch(net, events(0)[0], time_steps=STEPS)


def test_a_leaky_neuron_of_one_spike_is_read_and_refused_by_the_chip() -> None:
    leaky = LAYERS.LIFSqueeze(tau_mem=5.0, spike_fn=ACTIVATION.SingleSpike, num_timesteps=1)
    linear = nn.Linear(128, 5)
    with torch.no_grad():
        linear.weight.mul_(20.0)
    net = nn.Sequential(nn.Flatten(), linear, leaky)
    network = from_torch(net, events(0)[0], time_steps=STEPS)
    output, _ = responses(net, events(1))
    np.testing.assert_array_equal(emulate(network, events(1)).output, output.sum(0).numpy())
    assert output.sum() > 10
    with pytest.raises(UnsupportedModel, match=r"leaks .*IAFSqueeze\(num_timesteps=1\)"):
        quantize(network, load_chip("speck"))


@pytest.mark.parametrize("pool", [nn.MaxPool2d(2), LAYERS.SumPool2d(2)])
def test_pools_of_numbers_of_spikes(pool: nn.Module) -> None:
    """The largest number is read where neurons send one spike a step; a sum is always."""

    def net(**options: Any) -> nn.Module:
        torch.manual_seed(0)
        parts = nn.Sequential(
            nn.Conv2d(2, 4, 3, bias=False), neurons(**options), pool, nn.Conv2d(4, 4, 1), neurons(**options)
        )
        with torch.no_grad():
            next(parts.parameters()).mul_(6.0)
        return parts

    single = net(spike_fn=ACTIVATION.SingleSpike)
    assert spike_difference(single, from_torch(single, events(0)[0], time_steps=STEPS), events(1)[0]).total == 0
    if not isinstance(pool, nn.MaxPool2d):
        return
    with pytest.raises(UnsupportedModel, match=r"2 max-pools .* numbers of spikes of 1, .*SumPool2d.*SingleSpike"):
        from_torch(net(), events(0)[0], time_steps=STEPS)
