"""Every kind of snnTorch neuron and the ways in which its tutorials use them: the spikes are the model's own."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import snntorch as snn
import torch
from torch import Tensor, nn

from hw_targets import emulate, from_torch, load_chip, quantize, spike_difference
from hw_targets.errors import UnsupportedModel
from hw_targets.ir.network import Accumulator, Network
from tests.builders.snntorch_models import Loop, heaviside, own_spikes

T = 7
LOIHI = load_chip("loihi1")
OPTIONS: dict[str, Any] = {"threshold": 0.3, "spike_grad": heaviside}


#: Each makes a neuron for features (F,) or a grid (C, H, W), with further options.
Make = Callable[..., nn.Module]


def each(shape: tuple[int, ...], low: float, high: float) -> Tensor:
    """A value for every neuron of a list, or for every channel of a grid."""
    size = (shape[0], *[1] * (len(shape) - 1))
    return low + (high - low) * torch.rand(size, generator=torch.Generator().manual_seed(len(shape)))


def recurrent(kind: Any, *decays: float) -> Make:
    def make(shape: tuple[int, ...], **options: Any) -> nn.Module:
        where = {"linear_features": shape[0]} if len(shape) == 1 else {"conv2d_channels": shape[0], "kernel_size": 3}
        module: nn.Module = kind(*decays, **where, **{**OPTIONS, **options})
        return module

    return make


KINDS: dict[str, Make] = {
    "Leaky": lambda _, **o: snn.Leaky(0.9, **{**OPTIONS, **o}),
    "Leaky, each its own beta": lambda s, **o: snn.Leaky(each(s, 0.2, 1.0), **{**OPTIONS, "learn_beta": True, **o}),
    "Leaky, every position its own beta": lambda s, **o: snn.Leaky(
        torch.rand(s, generator=torch.Generator().manual_seed(1)), **{**OPTIONS, **o}
    ),
    "Leaky, each its own threshold": lambda s, **o: snn.Leaky(
        0.8, **{**OPTIONS, "threshold": each(s, 0.1, 0.6), "learn_threshold": True, **o}
    ),
    "Synaptic": lambda _, **o: snn.Synaptic(0.5, 0.8, **{**OPTIONS, **o}),
    "Synaptic, each its own alpha": lambda s, **o: snn.Synaptic(each(s, 0.0, 0.9), 0.8, **{**OPTIONS, **o}),
    "Lapicque": lambda _, **o: snn.Lapicque(R=5.1, C=0.5, time_step=0.2, **{**OPTIONS, **o}),
    "Lapicque of a beta": lambda _, **o: snn.Lapicque(beta=0.8, **{**OPTIONS, "threshold": 0.05, **o}),
    "RLeaky": recurrent(snn.RLeaky, 0.8),
    "RLeaky, each to itself": lambda _, **o: snn.RLeaky(0.8, V=-0.2, all_to_all=False, **{**OPTIONS, **o}),
    "RLeaky, each by its own weight": lambda s, **o: snn.RLeaky(
        0.8, V=each(s, -0.5, 0.5), all_to_all=False, **{**OPTIONS, **o}
    ),
    "RLeaky, each its own threshold": lambda s, **o: recurrent(snn.RLeaky, 0.8)(
        s, **{"threshold": each(s, 0.1, 0.6), **o}
    ),
    "RSynaptic": recurrent(snn.RSynaptic, 0.4, 0.7),
    "Alpha": lambda _, **o: snn.Alpha(0.8, 0.5, **{**OPTIONS, "threshold": 0.05, **o}),
}
RESETS: dict[str, dict[str, Any]] = {
    "subtract": {"reset_mechanism": "subtract"},
    "zero": {"reset_mechanism": "zero"},
    "none": {"reset_mechanism": "none"},
    "subtract at once": {"reset_mechanism": "subtract", "reset_delay": False},
    "zero at once": {"reset_mechanism": "zero", "reset_delay": False},
}
WITHOUT_RESET_DELAY = ("Lapicque", "RSynaptic", "Alpha")
LAYOUTS = ("steps", "image", "hidden")
#: Every kind with every reset, in one layout after the other.
CASES = [
    (kind, reset, LAYOUTS[(row + column) % 3])
    for row, kind in enumerate(KINDS)
    for column, (reset, options) in enumerate(RESETS.items())
    if "reset_delay" not in options or not kind.startswith(WITHOUT_RESET_DELAY)
]


def pixels(seed: int, *, steps: bool) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, ((T,) if steps else ()) + (3, 2, 6, 6), generator=generator)


def build(make: Make, reset: dict[str, Any], layout: str) -> nn.Module:
    """A convolution and a linear layer, whose neurons hide their states or not."""
    torch.manual_seed(4)
    options = {**reset, "init_hidden": layout == "hidden"}
    first, second = make((3, 6, 6), **options), make((5,), **options)
    convolution, linear = nn.Conv2d(2, 3, 3, padding=1), nn.Linear(27, 5)
    pool = [nn.AvgPool2d(2), nn.Flatten()]
    if layout == "hidden":
        return nn.Sequential(convolution, first, *pool, linear, second).double().eval()
    steps = T if layout == "image" else None
    return Loop([convolution, nn.Sequential(*pool, linear)], [first, second], steps=steps).double().eval()


def assert_own_spikes(model: nn.Module, network: Network, integers: Tensor, *, hidden: bool = False) -> None:
    """Every spike of every neuron in every step."""
    x = integers.double() / 255
    expected = own_spikes(model, x.expand(T, *x.shape) if hidden else x)
    ours = emulate(network, integers).spikes
    assert set(expected) <= set(ours)
    for name, spikes in expected.items():
        assert 0 < spikes.mean() < 1, f"{name} never or always fires: the test shows nothing"
        np.testing.assert_array_equal(ours[name].reshape(spikes.shape), spikes, err_msg=name)


@pytest.mark.parametrize(("kind", "reset", "layout"), CASES)
def test_every_spike_is_the_models_own(kind: str, reset: str, layout: str) -> None:
    model_of = KINDS[kind]
    if kind == "Alpha" and reset == "subtract":
        with pytest.raises(UnsupportedModel, match='use reset_mechanism="zero"'):
            from_torch(build(model_of, RESETS[reset], layout), pixels(0, steps=layout == "steps").double() / 255)
        return
    model = build(model_of, RESETS[reset], layout)
    example = pixels(0, steps=layout == "steps").double() / 255
    network = from_torch(model, example, time_steps=T if layout == "hidden" else None)
    assert (network.time_steps, network.notes) == (T, ())
    for seed in (0, 1):
        assert_own_spikes(model, network, pixels(seed, steps=layout == "steps"), hidden=layout == "hidden")


@pytest.mark.parametrize("kind", ["Leaky, each its own threshold", "Lapicque", "RLeaky"])
def test_the_measured_difference_is_none(kind: str) -> None:
    model = build(KINDS[kind], {"reset_mechanism": "zero"}, "image")
    x = pixels(0, steps=False).double() / 255
    network = from_torch(model, x)
    difference = spike_difference(model, network, x)
    assert difference.total == 0
    assert min(difference.model.values()) > 0


REFUSED_BY_CHIPS = {
    "Leaky, each its own beta": "learn_beta=True with a single beta",
    "Synaptic, each its own alpha": "single beta",
    "Alpha": "Synaptic",
    "Synaptic": "bias=False",
}


@pytest.mark.parametrize(("kind", "instead"), REFUSED_BY_CHIPS.items())
def test_what_chips_do_not_have_is_refused_by_them_alone(kind: str, instead: str) -> None:
    model = build(KINDS[kind], {"reset_mechanism": "zero"}, "image")
    network = from_torch(model, pixels(0, steps=False).double() / 255)
    with pytest.raises(UnsupportedModel, match=r"quantize: neurons\.0 ") as caught:
        quantize(network, LOIHI)
    assert instead in str(caught.value)


def test_a_threshold_for_each_neuron_is_one_on_the_chip() -> None:
    model = build(KINDS["Leaky, each its own threshold"], {"reset_mechanism": "zero"}, "image")
    chip = quantize(from_torch(model, pixels(0, steps=False).double() / 255), LOIHI)
    expected = own_spikes(model, pixels(2, steps=False).double() / 255)
    for name, spikes in emulate(chip, pixels(2, steps=False)).spikes.items():
        if name in expected:
            assert (spikes != expected[name]).mean() < 0.05


def test_thresholds_of_positions_are_refused_with_what_to_do() -> None:
    def make(threshold: Tensor) -> nn.Module:
        return nn.Sequential(
            nn.Conv2d(2, 3, 3, padding=1),
            snn.Leaky(0.8, threshold, spike_grad=heaviside, init_hidden=True, reset_mechanism="zero"),
            nn.Flatten(),
            nn.Linear(108, 4),
        ).double()

    x = pixels(0, steps=False).double() / 255
    with pytest.raises(UnsupportedModel, match=r"from_torch: 1 has thresholds .*\(C, 1, 1\)"):
        from_torch(make(torch.rand(6, 6) + 0.1), x, time_steps=T)
    assert from_torch(make(torch.rand(3, 1, 1) + 0.1), x, time_steps=T).time_steps == T


READOUTS: dict[str, Callable[[list[Tensor], list[tuple[Tensor, ...]]], Any]] = {
    "in every step": lambda _, states: torch.stack([s[-1] for s in states]),
    "a list": lambda _, states: [s[-1] for s in states],
    "the last alone": lambda _, states: states[-1][-1],
    "the last of all": lambda _, states: torch.stack([s[-1] for s in states])[-1],
}


@pytest.mark.parametrize("finish", READOUTS.values(), ids=READOUTS.keys())
@pytest.mark.parametrize("kind", ["Leaky", "Leaky, each its own beta", "Synaptic", "Lapicque"])
def test_a_potential_that_nothing_resets_is_a_readout(kind: str, finish: Callable[..., Any]) -> None:
    torch.manual_seed(2)
    hidden, last = KINDS["Leaky"]((9,)), KINDS[kind]((5,), reset_mechanism="none")
    layers: list[nn.Module] = [nn.Sequential(nn.Flatten(), nn.Linear(72, 9)), nn.Linear(9, 5)]
    model = Loop(layers, [hidden, last], finish=finish).double().eval()
    network = from_torch(model, pixels(0, steps=True).double() / 255)
    assert [p.name for p in network.outputs] == ["neurons.1"]
    assert isinstance(network["neurons.1"].neuron, Accumulator)
    with torch.no_grad():
        returned = model(pixels(1, steps=True).double() / 255)
    expected = returned if isinstance(returned, Tensor) and returned.dim() == 2 else returned[-1]
    np.testing.assert_allclose(emulate(network, pixels(1, steps=True)).output, expected.numpy(), atol=1e-12)


def test_spikes_and_potentials_returned_together_are_read_as_spikes() -> None:
    def finish(spikes: list[Tensor], states: list[tuple[Tensor, ...]]) -> Any:
        return torch.stack(spikes), torch.stack([s[-1] for s in states])

    layers: list[nn.Module] = [nn.Sequential(nn.Flatten(), nn.Linear(72, 9)), nn.Linear(9, 5)]
    torch.manual_seed(2)
    neurons = [KINDS["Leaky"]((9,)), KINDS["Leaky"]((5,), reset_mechanism="none")]
    model = Loop(layers, neurons, finish=finish).double().eval()
    network = from_torch(model, pixels(0, steps=True).double() / 255)
    assert_own_spikes(model, network, pixels(1, steps=True))


def current(_: list[Tensor], states: list[tuple[Tensor, ...]]) -> Tensor:
    return torch.stack([s[0] for s in states])


REFUSED: dict[str, tuple[Make, Callable[..., Any], str]] = {
    "a current": (KINDS["Synaptic"], current, "no potential"),
    "one that resets": (
        lambda s, **_: KINDS["Leaky"](s, reset_mechanism="zero"),
        READOUTS["in every step"],
        "resets to zero",
    ),
    "a difference": (KINDS["Alpha"], READOUTS["in every step"], "no potential"),
    "thresholds": (KINDS["Leaky, each its own threshold"], READOUTS["in every step"], "one threshold"),
    "an early step": (KINDS["Leaky"], lambda _, states: states[2][-1], "after step 2 of 7"),
    "a sum": (KINDS["Leaky"], lambda _, states: sum(s[-1] for s in states), "state of neurons.0"),
}


@pytest.mark.parametrize(("make", "finish", "says"), REFUSED.values(), ids=REFUSED.keys())
def test_other_states_are_no_readout(make: Make, finish: Callable[..., Any], says: str) -> None:
    layers: list[nn.Module] = [nn.Sequential(nn.Flatten(), nn.Linear(72, 5))]
    model = Loop(layers, [make((5,), reset_mechanism="none")], finish=finish).double()
    with pytest.raises(UnsupportedModel) as caught:
        from_torch(model, pixels(0, steps=True).double() / 255)
    assert "neurons.0" in str(caught.value)
    assert says in str(caught.value)


def test_the_spikes_a_recurrent_neuron_is_given_must_be_its_own() -> None:
    class Crossed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc, self.one, self.other = nn.Linear(6, 6), *(recurrent(snn.RLeaky, 0.8)((6,)) for _ in range(2))

        def forward(self, x: Tensor) -> Tensor:
            (spk1, mem1), (spk2, mem2) = self.one.reset_mem(), self.other.reset_mem()  # type: ignore[operator]
            spikes = []
            for step in x:
                spk1, mem1 = self.one(self.fc(step), spk2, mem1)
                spk2, mem2 = self.other(spk1, spk2, mem2)
                spikes.append(spk2)
            return torch.stack(spikes)

    with pytest.raises(UnsupportedModel, match="one is given a state that is not the one it returned"):
        from_torch(Crossed(), torch.rand(T, 2, 6))


def test_neurons_that_take_all_steps_at_once() -> None:
    class Whole(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            beta = torch.tensor([0.5, 0.7, 0.9, 0.2])
            self.fc1, self.lif1 = nn.Linear(6, 8), snn.StateLeaky(0.8, channels=8, threshold=0.3, spike_grad=heaviside)
            self.fc2, self.lif2 = nn.Linear(8, 4), snn.StateLeaky(beta, channels=4, threshold=0.2, spike_grad=heaviside)

        def forward(self, x: Tensor) -> Tensor:
            spikes, _ = self.lif1(self.fc1(x))
            spikes, _ = self.lif2(self.fc2(spikes))
            return spikes  # type: ignore[no-any-return]

    torch.manual_seed(1)
    model = Whole().double()
    network = from_torch(model, torch.rand(T, 2, 6).double())
    shown = torch.randint(0, 256, (T, 3, 6))
    ours = emulate(network, shown).spikes["lif2"]
    with torch.no_grad():
        np.testing.assert_array_equal(ours, model(shown.double() / 255).long().numpy())
    assert 0 < ours.mean() < 1


class Shared(nn.Module):
    """One max-pool behind two layers, in a loop, or in one pass over neurons that hide their states."""

    def __init__(self, *, loops: bool) -> None:
        super().__init__()
        options = {**OPTIONS, "init_hidden": not loops}
        self.conv1, self.lif1 = nn.Conv2d(2, 3, 3, padding=1), snn.Leaky(0.8, **options)
        self.conv2, self.lif2 = nn.Conv2d(3, 4, 2), snn.Leaky(0.8, **options)
        self.fc, self.lif3 = nn.Linear(4, 5), snn.Leaky(0.8, **options)
        self.pool, self.loops = nn.MaxPool2d(2), loops

    def forward(self, x: Tensor) -> Any:
        if not self.loops:
            spk = self.pool(self.lif2(self.conv2(self.pool(self.lif1(self.conv1(x))))))
            return self.lif3(self.fc(spk.flatten(1)))
        mem1, mem2, mem3 = (n.reset_mem() for n in (self.lif1, self.lif2, self.lif3))
        spikes = []
        for step in x:
            spk1, mem1 = self.lif1(self.conv1(step), mem1)
            spk2, mem2 = self.lif2(self.conv2(self.pool(spk1)), mem2)
            spk3, mem3 = self.lif3(self.fc(self.pool(spk2).flatten(1)), mem3)
            spikes.append(spk3)
        return torch.stack(spikes)


@pytest.mark.parametrize("loops", [True, False])
def test_one_max_pool_may_serve_several_layers(loops: bool) -> None:
    torch.manual_seed(3)
    model = Shared(loops=loops).double().eval()
    network = from_torch(model, pixels(0, steps=loops).double() / 255, time_steps=None if loops else T)
    assert {"pool", "pool 2"} <= {p.name for p in network.populations}
    assert_own_spikes(model, network, pixels(1, steps=loops), hidden=not loops)


def test_neurons_in_a_list_may_be_laid_out_as_a_grid() -> None:
    torch.manual_seed(3)
    model = nn.Sequential(
        *(nn.Flatten(), nn.Linear(72, 48), snn.Leaky(torch.rand(48), init_hidden=True, **OPTIONS)),
        *(nn.Unflatten(1, (3, 4, 4)), nn.Conv2d(3, 2, 3), snn.Leaky(0.8, init_hidden=True, **OPTIONS)),
    ).double()
    network = from_torch(model, pixels(0, steps=False).double() / 255, time_steps=T)
    assert network["2"].shape == (3, 4, 4)
    assert_own_spikes(model, network, pixels(1, steps=False), hidden=True)


def test_the_input_keeps_one_shape() -> None:
    model = nn.Sequential(nn.Unflatten(1, (2, 6, 6)), nn.Conv2d(2, 2, 3), snn.Leaky(0.8, init_hidden=True))
    with pytest.raises(
        UnsupportedModel, match=r"takes input, of shape \(72,\), as \(2, 6, 6\); give the model's input"
    ):
        from_torch(model, torch.rand(2, 72), time_steps=T)
