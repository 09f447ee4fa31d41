"""Converting how neurons reset, in place: what they compute afterwards, and what is refused."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import snntorch as snn
import torch
from spikingjelly.activation_based import functional, neuron
from torch import Tensor, nn
from torch.nn import functional as F

import neuroprune
from neuroprune.frameworks import UnsupportedNeuron, framework_of
from tests.builders.snntorch_models import heaviside

T = 12


def sent(module: nn.Module, inputs: Tensor) -> list[list[int]]:
    """Spikes (T, N) of neurons that hide their states."""
    framework = framework_of(module)
    assert framework is not None
    framework.reset(module)
    with torch.no_grad():
        return [module(x[None])[0].int().tolist() for x in inputs]


def hard(inputs: Tensor, keep: Callable[[Tensor, Tensor, Tensor], tuple[Tensor, Tensor]]) -> list[list[int]]:
    """Spikes of neurons that are set to zero whenever they exceed 1."""
    state, v, found = torch.zeros_like(inputs[0]), torch.zeros_like(inputs[0]), []
    for x in inputs:
        state, v = keep(x, state, v)
        fired = v > 1
        v = v.masked_fill(fired, 0.0)
        found.append(fired.int().tolist())
    return found


def currents() -> Tensor:
    """In 1/64, so that nothing is rounded at a threshold."""
    return torch.randint(0, 64, (T, 9), generator=torch.Generator().manual_seed(3)).double() / 64


OPTIONS: dict[str, Any] = {"init_hidden": True, "spike_grad": heaviside}


@pytest.mark.parametrize("reset", ["subtract", "zero"])
@pytest.mark.parametrize("delay", [True, False])
@pytest.mark.parametrize("synaptic", [True, False])
def test_snntorch_neurons_are_set_to_zero_when_they_fire(reset: str, delay: bool, synaptic: bool) -> None:
    options = {**OPTIONS, "reset_mechanism": reset, "reset_delay": delay}
    module = (snn.Synaptic(0.25, 0.5, **options) if synaptic else snn.Leaky(0.5, **options)).double()
    model = nn.Sequential(nn.Identity(), module)
    was_hard = reset == "zero" and (not delay or not synaptic)
    assert neuroprune.to_hard_reset(model) == (() if was_hard else ("1",))
    assert neuroprune.to_hard_reset(model) == ()
    expected = hard(
        currents(),
        (lambda x, u, v: (0.25 * u + x, 0.5 * v + 0.25 * u + x)) if synaptic else (lambda x, u, v: (u, 0.5 * v + x)),
    )
    assert sent(module, currents()) == expected
    assert sent(copy.deepcopy(module), currents()) == expected
    assert 0 < np.mean(expected) < 1


def test_spikingjelly_neurons_are_set_to_zero_when_they_fire() -> None:
    model = nn.Sequential(neuron.IFNode(v_reset=None), neuron.LIFNode(2.0, v_reset=0.0))
    assert neuroprune.to_hard_reset(model) == ("0",)
    assert [m.v_reset for m in model] == [0.0, 0.0]
    functional.reset_net(model)
    with torch.no_grad():
        assert [int(model[0](torch.tensor([[0.75]]))) for _ in range(4)] == [0, 1, 0, 1]


def test_a_mechanism_changed_by_hand_is_half_a_change() -> None:
    """snnTorch goes on subtracting, so that neither the old nor the new name of the reset would be true."""
    module = snn.Leaky(0.5, **OPTIONS).double()
    before = sent(module, currents())
    module.reset_mechanism = "zero"
    assert sent(module, currents()) == before
    framework = framework_of(module)
    assert framework is not None
    with pytest.raises(UnsupportedNeuron, match=r"says reset_mechanism='zero' but computes 'subtract'.*to_hard_reset"):
        framework.equation(module)
    assert neuroprune.to_hard_reset(module) == ("",)
    assert framework.equation(module).reset == "zero"
    assert sent(module, currents()) == hard(currents(), lambda x, u, v: (u, 0.5 * v + x))


def test_a_readout_sums_what_it_gets_and_learns_nothing_of_its_own() -> None:
    module = snn.Leaky(0.5, init_hidden=True, output=True, learn_beta=True, learn_threshold=True)
    model = nn.Sequential(nn.Linear(3, 4), module)
    assert neuroprune.to_hard_reset(model, readout="1") == ("1",)
    assert neuroprune.to_hard_reset(model, readout="1") == ()
    assert list(module.parameters()) == []
    inputs, labels = torch.rand(T, 5, 3), torch.tensor([0, 1, 2, 3, 0])
    spikes, potentials = (torch.stack(part) for part in zip(*(model(x) for x in inputs), strict=True))
    assert not spikes.any()
    torch.testing.assert_close(potentials[-1], model[0](inputs).sum(0))
    loss = neuroprune.readout_loss(potentials, labels)
    torch.testing.assert_close(loss, F.cross_entropy(model[0](inputs).mean(0), labels))
    loss.backward()  # type: ignore[no-untyped-call]  # torch's
    assert all(p.grad is not None and bool(p.grad.isfinite().all()) for p in model.parameters())


REFUSED: dict[str, tuple[Callable[[], nn.Module], str | None, str]] = {
    "no neurons": (lambda: nn.Linear(2, 2), None, "no spiking neurons"),
    "no such readout": (lambda: nn.Sequential(snn.Leaky(0.5)), "lif2", r"'lif2' names no neurons.*\['0'\]"),
    "another readout": (lambda: nn.Sequential(snn.Synaptic(0.5, 0.5)), "0", "0: Synaptic .* use snntorch.Leaky"),
    "a readout of SpikingJelly": (lambda: nn.Sequential(neuron.IFNode()), "0", "leave the last neurons out"),
    "Lapicque": (lambda: nn.Sequential(snn.Lapicque(beta=0.5)), None, "0: Lapicque .* use Leaky"),
    "Alpha": (lambda: nn.Sequential(snn.Alpha(0.9, 0.8)), None, "0: Alpha .* use Synaptic"),
    "RSynaptic": (lambda: nn.Sequential(snn.RSynaptic(0.5, 0.8, all_to_all=False)), None, "0: RSynaptic .* use RLeaky"),
    "LSTM": (lambda: nn.Sequential(snn.SLSTM(2, 2)), None, "0: SLSTM .* use RSynaptic"),
}


@pytest.mark.parametrize(("build", "readout", "says"), REFUSED.values(), ids=REFUSED.keys())
def test_refused_with_what_to_use_instead(build: Callable[[], nn.Module], readout: str | None, says: str) -> None:
    with pytest.raises(UnsupportedNeuron, match=f"to_hard_reset: .*{says}"):
        neuroprune.to_hard_reset(build(), readout=readout)


@pytest.mark.parametrize(
    "advised",
    [
        snn.Leaky(beta=1 - 0.2 / (5.1 * 0.5)),
        snn.Synaptic(0.9, 0.8, reset_delay=False),
        snn.RLeaky(0.8, all_to_all=False, reset_delay=False),
        snn.Lapicque(beta=0.5, reset_mechanism="none"),
    ],
)
def test_what_is_advised_works(advised: nn.Module) -> None:
    neuroprune.to_hard_reset(advised)
    framework = framework_of(advised)
    assert framework is not None
    found = framework.equation(advised)
    assert (found.reset, found.reset_delay) in (("zero", False), ("none", False))


def test_sinabs_neurons_are_made_with_their_reset() -> None:
    layers = pytest.importorskip("sinabs.layers")
    activation = pytest.importorskip("sinabs.activation")
    as_made = {"num_timesteps": 1, "reset_fn": activation.MembraneReset(), "spike_fn": activation.SingleSpike}
    assert neuroprune.to_hard_reset(nn.Sequential(layers.IAFSqueeze(**as_made))) == ()
    with pytest.raises(UnsupportedNeuron, match=r"0: IAFSqueeze .*reset_fn=MembraneReset\(\), spike_fn=SingleSpike"):
        neuroprune.to_hard_reset(nn.Sequential(layers.IAFSqueeze(num_timesteps=1)))


def test_xylos_own_neurons_stay_as_they_are() -> None:
    from hw_targets.targets.xylo.training.layer import XyloLayer

    with pytest.raises(UnsupportedNeuron, match="Xylo's own neuron"):
        neuroprune.to_hard_reset(XyloLayer(2, 3))
