"""What changes with the step, or with the input, is seen after reading, and refused."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from spikingjelly.activation_based import base, functional, layer, neuron
from torch import Tensor, nn

from hw_targets import emulate, from_torch, spike_difference
from hw_targets.errors import UnsupportedModel
from hw_targets.frontends.torch.watch import like

STEPS = 5


def spikes(*shape: int) -> Tensor:
    return (torch.rand(shape, generator=torch.Generator().manual_seed(3)) < 0.5).float()


class Counting(nn.Module):
    """Adds something of its own to every step but the first."""

    def __init__(self) -> None:
        super().__init__()
        self.calls = 0

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        x.data += 0.5 * ((self.calls - 1) % STEPS)
        return x


class Remembering(base.MemoryModule):  # type: ignore[misc]  # SpikingJelly has no types
    """Neurons that hear their own spikes of the step before, by a loop of the user's own."""

    def __init__(self) -> None:
        super().__init__()
        self.sub_module = node()
        self.last: Tensor | float
        self.register_memory("last", 0.0)

    def single_step_forward(self, x: Tensor) -> Tensor:
        spikes: Tensor = self.sub_module(x + self.last)
        self.last = spikes
        return spikes


class Asking(nn.Module):
    """Does one thing with the example and another with anything else."""

    def __init__(self, example: Tensor) -> None:
        super().__init__()
        self.fc, self.sn, self.example = nn.Linear(12, 6), neuron.IFNode(v_reset=0.0), example

    def forward(self, x: Tensor) -> Tensor:
        current = self.fc(x)
        if not torch.equal(x, self.example):
            current.data.neg_()
        spikes: Tensor = self.sn(current)
        return spikes


def node(**options: Any) -> nn.Module:
    made: nn.Module = neuron.IFNode(v_threshold=0.5, **options)
    return made


def changing(kind: str) -> tuple[nn.Module, Tensor]:
    if kind == "recurrence":
        return nn.Sequential(nn.Linear(12, 16), node(), nn.Linear(16, 8), Remembering(), nn.Linear(8, 6)), spikes(8, 12)
    if kind == "statistics":
        norm = layer.BatchNormThroughTime2d(STEPS, 4)
        model = nn.Sequential(nn.Conv2d(1, 4, 3, bias=False), norm, node(), nn.Flatten(), nn.Linear(144, 6))
        for number, part in enumerate(m for m in model.modules() if isinstance(m, nn.BatchNorm2d)):
            assert part.running_mean is not None
            part.running_mean.fill_(0.1 * number)
        return model, torch.rand(4, 1, 8, 8)
    return nn.Sequential(nn.Linear(12, 8), Counting(), node(), nn.Linear(8, 6)), spikes(8, 12)


@pytest.mark.parametrize("kind", ["recurrence", "statistics", "counter"])
def test_a_model_that_changes_with_the_step_is_refused(kind: str) -> None:
    model, x = changing(kind)
    functional.reset_net(model)
    with pytest.raises(UnsupportedModel):
        from_torch(model.eval(), x, time_steps=STEPS)


@pytest.mark.parametrize("kind", ["recurrence", "statistics"])
def test_the_message_names_the_neurons_and_the_step(kind: str) -> None:
    model, x = changing(kind)
    with pytest.raises(UnsupportedModel, match=r"from step [12] on, the current of (3\.sub_module|2) is .* recurrence"):
        from_torch(model.eval(), x, time_steps=STEPS)


def test_a_model_that_knows_the_example_is_refused() -> None:
    x = spikes(8, 12)
    with pytest.raises(UnsupportedModel, match=r"on a second input .* the current of sn"):
        from_torch(Asking(x).eval(), x, time_steps=STEPS)


@pytest.mark.parametrize("v_reset", [0.0, None])
def test_a_model_that_does_neither_is_read_and_exact(v_reset: float | None) -> None:
    model = nn.Sequential(nn.Linear(12, 16), node(v_reset=v_reset), nn.Linear(16, 8), node(v_reset=v_reset)).eval()
    network = from_torch(model, spikes(8, 12), time_steps=STEPS)
    fresh = (torch.rand(64, 12) < 0.5).float()
    assert spike_difference(model, network, fresh).total == 0
    assert np.asarray(emulate(network, fresh).spikes["3"]).any()


def test_the_model_is_left_as_it_was() -> None:
    model = nn.Sequential(nn.Linear(12, 16), node(v_reset=0.0), nn.Dropout(0.5), nn.Linear(16, 8)).train()
    before = torch.get_rng_state()
    from_torch(model, spikes(8, 12), time_steps=STEPS)
    assert all(m.training for m in model.modules())
    assert model[1].v == 0.0
    assert torch.equal(torch.get_rng_state(), before)


def test_the_second_input_has_the_examples_values() -> None:
    x = torch.rand(3, 2, 5)
    assert not torch.equal(like(x), x)
    assert torch.equal(like(x).flatten().sort().values, x.flatten().sort().values)


@pytest.mark.parametrize("read", [bool, float, int, Tensor.item, Tensor.tolist])
def test_a_model_that_reads_values_in_python_is_refused(read: Any) -> None:
    """Its branch may be one that no input of ours takes."""

    class Branching(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc, self.sn = nn.Linear(12, 6), neuron.IFNode(v_reset=0.0)

        def forward(self, x: Tensor) -> Tensor:
            fired: Tensor = self.sn(self.fc(x))
            if read(fired.sum()) == 1e6:
                return 1 - fired
            return fired

    with pytest.raises(UnsupportedModel, match=r"the model \(Branching\) reads a tensor's values in Python"):
        from_torch(Branching(), spikes(2, 12), time_steps=STEPS)


def test_neurons_that_are_changed_on_the_way_are_refused() -> None:
    model = Raising()
    with pytest.raises(UnsupportedModel, match="sn changes its threshold, decay or reset from one step to another"):
        from_torch(model, spikes(2, 12), time_steps=STEPS)


def test_neurons_that_skip_a_step_are_refused() -> None:
    with pytest.raises(UnsupportedModel, match=f"sn ran in {STEPS - 1} of {STEPS} steps; call it once in every step"):
        from_torch(Raising(skip=2), spikes(2, 12), time_steps=STEPS)


class Raising(nn.Module):
    """Raises the threshold in every step, or skips one."""

    def __init__(self, skip: int | None = None) -> None:
        super().__init__()
        self.fc, self.sn, self.calls, self.skip = nn.Linear(12, 6), neuron.IFNode(v_reset=0.0), 0, skip

    def forward(self, x: Tensor) -> Tensor:
        current: Tensor = self.fc(x)
        step, self.calls = self.calls % STEPS, self.calls + 1
        if self.skip is None:
            self.sn.v_threshold = 1.0 + 0.1 * step
        elif step == self.skip:
            return current * 0
        fired: Tensor = self.sn(current)
        return fired


@pytest.mark.parametrize("within", ["reset", "written", "replaced"])
def test_states_that_change_between_steps_are_refused(within: str) -> None:
    """However few spikes they change."""

    class Forgetting(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc, self.sn = nn.Linear(12, 6), neuron.IFNode(v_threshold=50.0, v_reset=0.0)

        def forward(self, x: Tensor) -> Tensor:
            out = []
            for t in range(len(x)):
                if t == 2 and within == "reset":
                    self.sn.reset()
                elif t == 2 and within == "written":
                    self.sn.v.mul_(0.5)
                elif t == 2:
                    self.sn.v = self.sn.v + 1.0
                out.append(self.sn(self.fc(x[t])))
            return torch.stack(out)

    with pytest.raises(UnsupportedModel, match=r"from_torch: the states of sn are changed between two steps"):
        from_torch(Forgetting(), spikes(STEPS, 2, 12))
