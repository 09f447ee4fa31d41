"""Time as people write it: images repeated in the model, containers, time second, readouts; exact on fresh inputs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from spikingjelly.activation_based import functional, layer
from torch import Tensor, nn

from hw_targets import emulate, from_torch, spike_difference
from hw_targets.errors import UnsupportedModel
from tests.builders.torch_models import Net, T, conv, images, prepared, spiking


def network(repeat: Callable[[Tensor], Tensor], finish: Callable[[Tensor], Any] = lambda y: y.mean(0)) -> nn.Module:
    return Net(
        lambda m, x: finish(m.fc(m.s1(m.c1(repeat(x))).flatten(2))),
        c1=conv(2, 3), s1=spiking(), fc=layer.Linear(108, 4),
    )  # fmt: skip


def assert_exact(model: nn.Module, shape: tuple[int, ...] = (2, 2, 6, 6), *, steps: int = T, **options: Any) -> Any:
    """Read on one input, and compared spike for spike and score for score on another."""
    model = prepared(model)
    read = from_torch(model, images(*shape).double() / 255, **options)
    assert read.time_steps == steps
    fresh = images(*shape, seed=5)
    difference = spike_difference(model, read, fresh.double() / 255)
    assert difference.total == 0
    assert sum(difference.model.values()) > 0
    with torch.no_grad():
        functional.reset_net(model)
        returned = model(fresh.double() / 255)
        functional.reset_net(model)
    return emulate(read, fresh).output, returned


REPEATS: dict[str, Callable[[Tensor], Tensor]] = {
    "unsqueeze and expand": lambda x: x.unsqueeze(0).expand(T, -1, -1, -1, -1),
    "expand alone": lambda x: x.expand(T, *x.shape),
    "broadcast_to": lambda x: torch.broadcast_to(x, (T, *x.shape)),
    "unsqueeze and repeat": lambda x: x.unsqueeze(0).repeat(T, 1, 1, 1, 1),
    "repeat alone": lambda x: x.repeat(T, 1, 1, 1, 1),
    "tile": lambda x: torch.tile(x, (T, 1, 1, 1, 1)),
    "repeat along the batch": lambda x: x.repeat(T, 1, 1, 1).view(T, *x.shape),
    "repeat_interleave": lambda x: x[None].repeat_interleave(T, 0),
    "repeat_interleave along the batch": (
        lambda x: x.repeat_interleave(T, 0).view(len(x), T, *x.shape[1:]).transpose(0, 1)
    ),
    "stack": lambda x: torch.stack([x] * T),
    "stack, then permuted": lambda x: torch.stack([x for _ in range(T)], dim=1).permute(1, 0, 2, 3, 4),
    "cat": lambda x: torch.cat([x.unsqueeze(0) for _ in range(T)]),
    "cat along the batch": lambda x: torch.cat([x] * T, 0).reshape(T, *x.shape),
}  # fmt: skip


@pytest.mark.parametrize("samples", [1, 3])
@pytest.mark.parametrize("repeat", REPEATS.values(), ids=REPEATS.keys())
def test_an_image_that_the_model_repeats(repeat: Callable[[Tensor], Tensor], samples: int) -> None:
    ours, theirs = assert_exact(network(repeat), (samples, 2, 6, 6))
    np.testing.assert_allclose(ours, theirs.numpy() * T, atol=1e-9)


def test_currents_that_the_model_repeats() -> None:
    """A convolution before the steps, as SpikingJelly's and many people's static encoders are."""
    model = Net(
        lambda m, x: m.fc(m.s1(m.b1(m.c1(x)).unsqueeze(0).repeat(T, 1, 1, 1, 1)).flatten(2)).sum(0),
        c1=nn.Conv2d(2, 3, 3, padding=1), b1=nn.BatchNorm2d(3), s1=spiking(), fc=layer.Linear(108, 4),
    )  # fmt: skip
    ours, theirs = assert_exact(model)
    np.testing.assert_allclose(ours, theirs.numpy(), atol=1e-9)


def test_a_model_that_repeats_for_other_steps_than_asked_is_refused() -> None:
    model = prepared(network(REPEATS["repeat alone"]))
    with pytest.raises(UnsupportedModel, match=r"loops over 4 steps, but time_steps is 7"):
        from_torch(model, images(2, 2, 6, 6).double() / 255, time_steps=7)


@pytest.mark.parametrize(
    "sides", [(0, 0, 0, 0, 0, 0, 0, 0, 0, 3), (0, 0, 0, 0, 0, 0, 0, 2), (1, 1, 1, 1, 0, 0, 0, 0, 3, 0)]
)
def test_steps_that_are_padded_on_are_refused(sides: tuple[int, ...]) -> None:
    """One step of an image and three empty ones are four steps, not one."""
    model = prepared(network(lambda x: nn.functional.pad(x[None], sides)))
    with pytest.raises(UnsupportedModel, match=r"pads by \(.*which adds steps or samples"):
        from_torch(model, images(2, 2, 6, 6).double() / 255)


def test_features_that_the_model_repeats() -> None:
    model = Net(
        lambda m, x: m.f2(m.s1(m.f1(x.unsqueeze(0).repeat(6, 1, 1)))).mean(0),
        f1=layer.Linear(9, 12), s1=spiking(0.1), f2=layer.Linear(12, 3),
    )  # fmt: skip
    ours, theirs = assert_exact(model, (3, 9), steps=6)
    np.testing.assert_allclose(ours, theirs.numpy() * 6, atol=1e-9)


def total(steps: Any) -> Tensor:
    return torch.stack(list(steps)).sum(0)


#: What is done to (T, N, 4), and what makes of it the sum over time.
READOUTS: dict[str, tuple[Callable[[Tensor], Any], Callable[[Any], Tensor]]] = {
    "mean with keepdim": (lambda y: y.mean(dim=0, keepdim=True), lambda r: r[0] * T),
    "mean over (0,)": (lambda y: y.mean((0,)), lambda r: r * T),
    "negative axis": (lambda y: y.sum(-3), lambda r: r),
    "time second": (lambda y: y.transpose(0, 1), lambda r: r.sum(1)),
    "time second, mean": (lambda y: y.permute(1, 0, 2).mean(1), lambda r: r * T),
    "sum over steps in a loop": (lambda y: sum(y[t] for t in range(T)), lambda r: r),
    "list of steps": (lambda y: [y[t] for t in range(T)], total),
    "unbound": (lambda y: y.unbind(0), total),
    "times a constant": (lambda y: y.mean(0) * 3.0, lambda r: r * T),
    "divided by T": (lambda y: y.sum(0) / T, lambda r: r * T),
    "divided by something else": (lambda y: y.sum(0) / 8, lambda r: r),
    "plus a bias": (lambda y: y.mean(0) + torch.arange(4.0), lambda r: r * T),
    "squeezed": (lambda y: y.unsqueeze(-1).squeeze(-1).sum(0), lambda r: r),
}


@pytest.mark.parametrize(("finish", "summed"), READOUTS.values(), ids=READOUTS.keys())
def test_readouts(finish: Callable[[Tensor], Any], summed: Callable[[Any], Tensor]) -> None:
    ours, theirs = assert_exact(network(REPEATS["stack"], finish))
    np.testing.assert_allclose(ours, summed(theirs).numpy(), atol=1e-9)


@pytest.mark.parametrize("function", ["softmax", "log_softmax", "argmax"])
def test_what_comes_after_the_scores_is_left_to_the_reader_and_noted(function: str) -> None:
    model = prepared(network(REPEATS["stack"], lambda y: getattr(torch, function)(y.mean(0), -1)))
    read = from_torch(model, images(2, 2, 6, 6).double() / 255)
    assert [function in note for note in read.notes] == [True]
    fresh = images(3, 2, 6, 6, seed=8)
    with torch.no_grad():
        theirs = model(fresh.double() / 255)
    ours = emulate(read, fresh).output.argmax(1)
    np.testing.assert_array_equal(ours, theirs.numpy() if function == "argmax" else theirs.argmax(1).numpy())


def test_functions_after_the_last_one_are_refused() -> None:
    model = prepared(network(REPEATS["stack"], lambda y: torch.softmax(y.mean(0), -1) * 2))
    with pytest.raises(UnsupportedModel, match="`mul` after `softmax`"):
        from_torch(model, images(2, 2, 6, 6).double() / 255)


@pytest.mark.parametrize("pack", [tuple, list, lambda pair: dict(zip("ab", pair, strict=True))])
def test_two_heads_are_one_readout_after_the_other(pack: Callable[[Any], Any]) -> None:
    model: nn.Module = Net(
        lambda m, x: pack(((a := m.f1(s := m.s1(m.c1(x)).flatten(2))).mean(0), m.f2(s).sum(0) + 0 * len(a))),
        c1=conv(2, 3), s1=spiking(), f1=layer.Linear(108, 4), f2=layer.Linear(108, 2),
    )  # fmt: skip
    model = prepared(model)
    read = from_torch(model, torch.rand(T, 2, 2, 6, 6).double())
    assert [p.name for p in read.outputs] == ["f1+f2"]
    fresh = images(T, 3, 2, 6, 6, seed=9)
    with torch.no_grad():
        returned = model(fresh.double() / 255)
    parts = list(returned.values()) if isinstance(returned, dict) else list(returned)
    expected = torch.cat([parts[0] * T, parts[1]], 1)
    np.testing.assert_allclose(emulate(read, fresh).output, expected.numpy(), atol=1e-9)
    assert any("2 tensors" in note for note in read.notes)


CONTAINERS: dict[str, Callable[[], nn.Module]] = {
    "SeqToANNContainer and MultiStepContainer": lambda: nn.Sequential(
        layer.SeqToANNContainer(nn.Conv2d(2, 3, 3, padding=1), nn.BatchNorm2d(3)),
        layer.MultiStepContainer(spiking()),
        layer.SeqToANNContainer(nn.Flatten(), nn.Linear(108, 4)),
    ),
    "StepModeContainer": lambda: nn.Sequential(
        layer.StepModeContainer(False, "m", nn.Conv2d(2, 3, 3, padding=1), nn.BatchNorm2d(3), nn.AvgPool2d(2)),
        layer.StepModeContainer(True, "m", spiking(0.2), nn.Flatten(), nn.Linear(27, 9), spiking(0.1)),
        layer.SeqToANNContainer(nn.Linear(9, 4)),
    ),
    "everything in one MultiStepContainer": lambda: nn.Sequential(
        layer.MultiStepContainer(
            nn.Conv2d(2, 3, 3, padding=1), spiking(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(27, 4)
        )
    ),
    "a max-pool in a SeqToANNContainer": lambda: nn.Sequential(
        conv(2, 3), spiking(), layer.SeqToANNContainer(nn.MaxPool2d(2), nn.Flatten(), nn.Linear(27, 4))
    ),
}


@pytest.mark.parametrize("build", CONTAINERS.values(), ids=CONTAINERS.keys())
def test_containers(build: Callable[[], nn.Module]) -> None:
    torch.manual_seed(1)
    model = prepared(build())
    read = from_torch(model, torch.rand(T, 2, 2, 6, 6).double())
    fresh = images(T, 3, 2, 6, 6, seed=9)
    difference = spike_difference(model, read, fresh.double() / 255)
    assert (difference.total, min(difference.model.values()) > 0) == (0, True)
    with torch.no_grad():
        functional.reset_net(model)
        theirs = model(fresh.double() / 255).sum(0)
    np.testing.assert_allclose(emulate(read, fresh).output, theirs.numpy(), atol=1e-9)


def test_neurons_know_their_names_in_containers() -> None:
    read = from_torch(prepared(CONTAINERS["StepModeContainer"]()), torch.rand(T, 2, 2, 6, 6).double())
    assert [p.name for p in read.populations] == ["input", "1.0", "1.3", "2.0"]


def test_counts_of_events_are_whole_numbers_that_stand_for_themselves() -> None:
    torch.manual_seed(1)
    model = prepared(nn.Sequential(conv(2, 3), spiking(2.0), layer.Flatten(), layer.Linear(108, 4)))
    counts, fresh = (torch.poisson(torch.full((T, 3, 2, 6, 6), rate)).double() for rate in (1.0, 0.7))
    read = from_torch(model, counts)
    assert (read["input"].neuron.unit_sent, read["input"].neuron.most_sent) == (1.0, 255)
    difference = spike_difference(model, read, fresh)
    assert difference.total == 0
    assert 0 < sum(difference.model.values()) < T * 3 * 108
    with torch.no_grad():
        functional.reset_net(model)
        theirs = model(fresh).sum(0)
    np.testing.assert_allclose(emulate(read, fresh).output, theirs.numpy(), atol=1e-9)
    with pytest.raises(UnsupportedModel, match=r"span 0 … 256, .* up to 255 .* shorter steps"):
        from_torch(model, counts.clamp(max=1) * 256)


class Joined(nn.Module):
    """Takes apart what stands for two inputs."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model

    def forward(self, x: Tensor) -> Any:
        return self.model((x[:, :, :2], x[:, :, 2:]))


def test_several_inputs_are_to_be_joined() -> None:
    """As `from_torch` advises."""
    torch.manual_seed(0)
    two: Any = Net(
        lambda m, x: m.fc(m.s2(m.c2(x[0]) + m.c3(m.s1(m.c1(x[1])))).flatten(2)),
        c1=conv(3, 3), s1=spiking(), c2=conv(2, 3), c3=conv(3, 3), s2=spiking(), fc=layer.Linear(108, 4),
    )  # fmt: skip
    two = prepared(two)
    left, right = (images(T, 2, n, 6, 6, seed=n, spikes=True).double() for n in (2, 3))
    with pytest.raises(
        UnsupportedModel, match=r"is a tuple of 2, but a network has one input; join .*model\(x\[:, :, :n"
    ):
        from_torch(two, (left, right))  # type: ignore[arg-type]  # what people try
    model = Joined(two)
    difference = spike_difference(model, from_torch(model, torch.cat((left, right), 2)), torch.cat((right, left), 2))
    assert (difference.total, min(difference.model.values()) > 0) == (0, True)
