"""One tensor for `from_torch`, `count_synops` and `emulate`, in every layout that a model takes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from spikingjelly.activation_based import functional, layer, neuron
from torch import Tensor, nn

from hw_targets import emulate, from_torch
from hw_targets.errors import InvalidNetwork
from hw_targets.ir.network import LIF, Dense, Network, Population, SpikeInput, Synapses
from neuroprune import count_synops
from tests.builders.torch_models import Net

T, N = 4, 3


def spikes(*shape: int) -> Tensor:
    return (torch.rand(shape, generator=torch.Generator().manual_seed(0)) < 0.5).double()


def pixels(*shape: int) -> Tensor:
    return torch.randint(0, 256, shape, generator=torch.Generator().manual_seed(0)).double() / 255


def small(size: int, *front: nn.Module, mode: str = "m") -> nn.Module:
    parts = nn.Sequential(*front, neuron.IFNode(0.1), layer.Flatten(), layer.Linear(size, 3), neuron.IFNode(0.1))
    functional.set_step_mode(parts, mode)
    return parts.double().eval()


def looping(*front: nn.Module, size: int) -> nn.Module:
    """Repeats an image, or loops over frames, by itself."""
    body = small(size, *front, mode="s")
    return Net(lambda self, x: torch.stack([self.body(x) for _ in range(T)]), body=body).eval()


def over_frames(*front: nn.Module, size: int) -> nn.Module:
    return Net(lambda self, x: torch.stack([self.body(y) for y in x]), body=small(size, *front, mode="s")).eval()


def turned(size: int, *front: nn.Module) -> nn.Module:
    """Takes (N, T, …), and turns it to where its neurons take time."""
    return Net(lambda self, x: self.body(x.transpose(0, 1)), body=small(size, *front)).eval()


def second_in_a_loop(*front: nn.Module, size: int) -> nn.Module:
    """Takes (N, T, …), a step at a time."""
    body = small(size, *front, mode="s")
    return Net(lambda self, x: sum(self.body(x[:, t]) for t in range(x.shape[1])) / x.shape[1], body=body).eval()


#: A model, and what it takes.
LAYOUTS: dict[str, tuple[Callable[[], nn.Module], Tensor]] = {
    "(T, N, C, H, W)": (lambda: small(32, layer.Conv2d(1, 2, 3, padding=1)), spikes(T, N, 1, 4, 4)),
    "(T, N, C, H, W) of reals": (lambda: small(32, layer.Conv2d(1, 2, 3, padding=1)), pixels(T, N, 1, 4, 4)),
    "(T, N, C, L)": (lambda: small(16, layer.Conv1d(1, 2, 3, padding=1)), spikes(T, N, 1, 8)),
    "(T, N, F)": (lambda: small(5, layer.Linear(6, 5)), spikes(T, N, 6)),
    "(N, C, H, W)": (lambda: looping(layer.Conv2d(1, 2, 3, padding=1), size=32), pixels(N, 1, 4, 4)),
    "(N, C, L)": (lambda: looping(layer.Conv1d(1, 2, 3, padding=1), size=16), pixels(N, 1, 8)),
    "(N, F)": (lambda: looping(layer.Linear(6, 5), size=5), pixels(N, 6)),
    "frames (T, N, C, H, W)": (lambda: over_frames(layer.Conv2d(1, 2, 3), size=8), spikes(T, N, 1, 4, 4)),
    "(N, T, C, H, W)": (lambda: turned(32, layer.Conv2d(1, 2, 3, padding=1)), spikes(N, T, 1, 4, 4)),
    "(N, T, C, H, W) with as many of each": (
        lambda: turned(32, layer.Conv2d(1, 2, 3, padding=1)),
        spikes(T, T, 1, 4, 4),
    ),
    "(N, T, C, L) of reals": (lambda: turned(16, layer.Conv1d(1, 2, 3, padding=1)), pixels(N, T, 1, 8)),
    "frames (N, T, C, H, W)": (lambda: second_in_a_loop(layer.Conv2d(1, 2, 3), size=8), spikes(N, T, 1, 4, 4)),
    "frames (1, T, F)": (lambda: second_in_a_loop(layer.Linear(6, 5), size=5), spikes(1, T, 6)),
    "frames (N, 1, F)": (lambda: second_in_a_loop(layer.Linear(6, 5), size=5), spikes(N, 1, 6)),
    "frames (T, N, C, L)": (lambda: over_frames(layer.Conv1d(1, 2, 3), size=12), pixels(T, N, 1, 8)),
}


def sent(model: nn.Module, x: Tensor) -> list[Tensor]:
    """Spikes (T, N, …) of both layers of neurons."""
    nodes = [m for m in model.modules() if isinstance(m, neuron.BaseNode)]
    seen: dict[nn.Module, list[Tensor]] = {m: [] for m in nodes}
    handles = [m.register_forward_hook(lambda m, _, y: seen[m].append(y)) for m in nodes]
    functional.reset_net(model)
    with torch.no_grad():
        model(x)
    functional.reset_net(model)
    for handle in handles:
        handle.remove()
    # Modules that take all steps are called once.
    whole = any(getattr(m, "step_mode", "s") == "m" for m in nodes)
    return [s[0] if whole else torch.stack(s) for s in seen.values()]


@pytest.mark.parametrize("name", LAYOUTS)
def test_the_same_tensor_goes_everywhere(name: str) -> None:
    torch.manual_seed(0)
    make, x = LAYOUTS[name]
    model = make()
    expected = sent(model, x)
    network = from_torch(model, x)
    activity = emulate(network, x)
    for theirs, ours in zip(expected, list(activity.spikes.values())[1:], strict=True):
        np.testing.assert_array_equal(ours, theirs.reshape(ours.shape))
    assert 0 < expected[0].mean() < 1
    assert count_synops(model, x).layers["body.3" if hasattr(model, "body") else "3"].synops > 0


def test_a_network_of_frames_with_time_second_takes_no_others() -> None:
    network = from_torch(turned(32, layer.Conv2d(1, 2, 3, padding=1)), x := spikes(N, T, 1, 4, 4))
    with pytest.raises(InvalidNetwork, match=r"expected .* or \(N, T, \*shape\) as its model takes them with"):
        emulate(network, x.transpose(0, 1))
    with pytest.raises(InvalidNetwork, match=r"pass \(N, T, \*\(1, 4, 4\)\) as its model takes them, or"):
        emulate(network, x[:, 0])
    asked = emulate(network, x[:, 0], static=True)
    np.testing.assert_array_equal(asked.output, emulate(network, x[:, :1].expand(N, T, 1, 4, 4)).output)


def test_counts_of_events_change_from_step_to_step_too() -> None:
    x = torch.poisson(torch.full((T, N, 1, 4, 4), 1.0), generator=torch.Generator().manual_seed(0)).double()
    network = from_torch(small(32, layer.Conv2d(1, 2, 3, padding=1)), x)
    with pytest.raises(InvalidNetwork, match="one frame of several"):
        emulate(network, x[0])


@pytest.mark.parametrize("graded", [True, False])
def test_one_frame_of_several_is_not_shown_in_every_step(graded: bool) -> None:
    x = (pixels if graded else spikes)(T, N, 1, 4, 4)
    network = from_torch(small(32, layer.Conv2d(1, 2, 3, padding=1)), x)
    with pytest.raises(InvalidNetwork, match=r"one frame of several; pass \(T, N, \*\(1, 4, 4\)\), or static=True"):
        emulate(network, x[0])
    asked = emulate(network, x[0], static=True)
    shown = emulate(network, x[:1].expand(T, N, 1, 4, 4))
    np.testing.assert_array_equal(asked.output, shown.output)


def test_a_static_example_says_that_its_images_stay() -> None:
    x = pixels(N, 1, 4, 4)
    network = from_torch(small(32, layer.Conv2d(1, 2, 3, padding=1)), x.expand(T, N, 1, 4, 4))
    whole = emulate(network, x.expand(T, N, 1, 4, 4)).output
    np.testing.assert_array_equal(emulate(network, x).output, whole)
    np.testing.assert_array_equal(emulate(network, x[0]).output, whole[:1])


def test_a_single_step_model_is_called_as_often_as_its_sample_lasts() -> None:
    model, x = small(32, layer.Conv2d(1, 2, 3, padding=1), mode="s"), pixels(N, 1, 4, 4)
    network = from_torch(model, x, time_steps=T)
    assert emulate(network, x).spikes["1"].shape[0] == T
    counted = count_synops(model, x, time_steps=T)
    functional.reset_net(model)
    assert counted == count_synops(model, x, forward=lambda m, y: [m(y) for _ in range(T)])
    with pytest.raises(ValueError, match="forward already says how the model runs"):
        count_synops(model, x, forward=lambda m, y: m(y), time_steps=T)


def linear(shape: tuple[int, ...], steps: int, **options: Any) -> Network:
    size = int(np.prod(shape))
    populations = (Population("in", shape, SpikeInput(**options)), Population("n", (2,), LIF(1.0)))
    weights = np.arange(2.0 * size).reshape(2, size) / size
    return Network(populations, (Synapses("in", "n", Dense(weights)),), time_steps=steps)


def test_signals_and_samples_without_a_batch() -> None:
    network, x = linear((2, 1, 5), 3), spikes(3, 4, 2, 5)
    whole = emulate(network, x)
    np.testing.assert_array_equal(emulate(network, x.unsqueeze(3)).output, whole.output)
    np.testing.assert_array_equal(
        emulate(network, x[0, 0]).output, emulate(network, x[:1, :1].expand(3, 1, 2, 5)).output
    )
    np.testing.assert_array_equal(emulate(network, x[0]).output, emulate(network, x[:1].expand(3, 4, 2, 5)).output)
    flat = linear((5,), 3)
    np.testing.assert_array_equal(emulate(flat, x[0, 0, 0]).output, emulate(flat, x[0, :1, 0]).output)


def test_time_may_come_last_where_the_model_takes_it_so() -> None:
    x = spikes(3, 4, 2, 5)
    first = emulate(linear((2, 1, 5), 3), x)
    last = linear((2, 1, 5), 3, time_last=True, changes=True)
    np.testing.assert_array_equal(emulate(last, x.movedim(0, -1)).output, first.output)
    np.testing.assert_array_equal(emulate(last, x).output, first.output)
    with pytest.raises(InvalidNetwork, match="do not fit in"):
        emulate(linear((2, 1, 5), 3), x.movedim(0, -1))
    with pytest.raises(InvalidNetwork, match="may be one frame of several"):
        emulate(last, x[0])


@pytest.mark.parametrize("name", ["(N, C, H, W)", "(N, C, L)", "(N, F)"])
def test_one_sample_without_its_batch_goes_everywhere(name: str) -> None:
    torch.manual_seed(0)
    make, x = LAYOUTS[name]
    model = make()
    one, whole = from_torch(model, x[0]), from_torch(model, x)
    assert [(p.name, p.shape) for p in one.populations] == [(p.name, p.shape) for p in whole.populations]
    np.testing.assert_array_equal(emulate(one, x[0]).output, emulate(whole, x).output[:1])
    counted = count_synops(model, x[0])
    functional.reset_net(model)
    assert counted == count_synops(model, x[:1])
    functional.reset_net(model)
    with pytest.raises(RuntimeError, match=r"mat1|channels|size"):
        count_synops(model, x[..., :-1, :3])


@pytest.mark.parametrize("steps", [0, True, "3", 2.5])
def test_steps_that_are_no_number_are_refused_and_those_of_numpy_are_taken(steps: Any) -> None:
    model = small(4, mode="s")
    with pytest.raises(InvalidNetwork, match=f"from_torch: time_steps must be a whole number >= 1, got {steps!r}"):
        from_torch(model, spikes(2, 4), time_steps=steps)
    assert from_torch(model, spikes(2, 4), time_steps=np.int64(3)).time_steps == 3  # type: ignore[arg-type]


@pytest.mark.parametrize("given", [None, "spikes", [object()]])
def test_what_is_no_network_or_holds_no_numbers_is_refused(given: Any) -> None:
    network = from_torch(small(4), spikes(T, 2, 4))
    with pytest.raises(InvalidNetwork, match=f"got a {type(given).__name__} of .* as inputs, expected a tensor"):
        emulate(network, given)
    with pytest.raises(InvalidNetwork, match=f"got a {type(given).__name__}, expected a ChipNetwork"):
        emulate(given, spikes(T, 2, 4))
