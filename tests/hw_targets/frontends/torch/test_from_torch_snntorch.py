"""snnTorch models as networks: the spikes are the model's own, or the model is refused in one sentence."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import snntorch as snn
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from torch import Tensor, nn

from hw_targets import dequantize, emulate, from_torch, load_chip, quantize, spike_difference
from hw_targets.errors import UnsupportedModel
from hw_targets.ir.network import LIF, ChipNetwork, Network
from hw_targets.targets.loihi.neuron import CubaLIF
from tests.builders.snntorch_models import heaviside, own_spikes, tuple_of
from tests.twins.chip import run_slowly

T = 6
LOIHI = load_chip("loihi1")


def leaky(beta: float = 0.75, threshold: float = 0.4, **options: Any) -> nn.Module:
    settings = {"threshold": threshold, "reset_mechanism": "zero", "spike_grad": heaviside, **options}
    module: nn.Module = snn.Leaky(beta, **settings)
    return module


def synaptic(alpha: float = 0.5, beta: float = 0.75, threshold: float = 0.6, **options: Any) -> nn.Module:
    chosen = {"threshold": threshold, "reset_mechanism": "zero", "reset_delay": False, **options}
    module: nn.Module = snn.Synaptic(alpha, beta, **{"spike_grad": heaviside, **chosen})
    return module


class Net(nn.Module):
    """Two spiking layers and whatever `finish` makes of the lists of spikes and potentials."""

    def __init__(
        self,
        make: Callable[..., nn.Module] = leaky,
        *,
        static: bool = False,
        finish: Callable[[Any, list[Tensor], list[Tensor]], Any] | None = None,
        bias: bool = True,
    ) -> None:
        super().__init__()
        self.conv, self.lif1 = nn.Conv2d(2, 3, 3, padding=1, bias=bias), make()
        self.pool, self.fc, self.lif2 = nn.AvgPool2d(2), nn.Linear(27, 5, bias=bias), make()
        self.static = static
        self.finish = finish or (lambda _, spikes, potentials: (torch.stack(spikes), torch.stack(potentials)))

    def forward(self, x: Tensor) -> Any:
        state1, state2 = tuple_of(self.lif1.reset_mem()), tuple_of(self.lif2.reset_mem())  # type: ignore[operator]
        spikes, potentials = [], []
        for step in range(T):
            spk1, *state1 = self.lif1(self.conv(x if self.static else x[step]), *state1)
            current = self.fc(self.pool(spk1).flatten(1))
            spk2, *state2 = self.lif2(current, *state2)
            spikes.append(spk2)
            potentials.append(state2[-1])
        return self.finish(self, spikes, potentials)


def hidden(make: Callable[..., nn.Module] = leaky, *, bias: bool = True) -> nn.Module:
    """The same layers as a sequence that takes one step per call."""
    return nn.Sequential(
        nn.Sequential(nn.Conv2d(2, 3, 3, padding=1, bias=bias), make(init_hidden=True)),
        nn.AvgPool2d(2),
        nn.Flatten(),
        nn.Linear(27, 5, bias=bias),
        make(init_hidden=True, output=True),
    )


def pixels(seed: int = 0, *, steps: bool = True, samples: int = 3) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, ((T,) if steps else ()) + (samples, 2, 6, 6), generator=generator)


def assert_spikes(network: Network | ChipNetwork, inputs: Tensor, expected: dict[str, NDArray[np.int64]]) -> None:
    ours = emulate(network, inputs)
    twin = run_slowly(network, inputs.numpy())
    assert expected
    for name, spikes in expected.items():
        assert 0 < spikes.mean() < 1, f"{name} never or always fires: the test shows nothing"
        np.testing.assert_array_equal(ours.spikes[name], spikes, err_msg=name)
        np.testing.assert_array_equal(twin.spikes[name], spikes, err_msg=name)


KINDS: dict[str, Callable[..., nn.Module]] = {
    "leaky": leaky,
    "leaky, reset within the step": lambda **o: leaky(reset_delay=False, **o),
    "leaky that never forgets": lambda **o: leaky(1.0, **o),
    "leaky that remembers nothing and never resets": lambda **o: leaky(0.0, 0.2, reset_mechanism="none", **o),
    "learned": lambda **o: leaky(0.6, 0.3, learn_beta=True, learn_threshold=True, **o),
    "synaptic": synaptic,
    "synaptic that never forgets": lambda **o: synaptic(0.9, 1.0, **o),
    "synaptic without a lasting current": lambda **o: synaptic(0.0, 0.8, 0.4, **o),
}


@pytest.mark.parametrize("layout", ["loop over steps", "loop over an image", "hidden"])
@pytest.mark.parametrize("make", KINDS.values(), ids=KINDS.keys())
def test_every_spike_is_the_models_own(make: Callable[..., nn.Module], layout: str) -> None:
    torch.manual_seed(4)
    model = hidden(make) if layout == "hidden" else Net(make, static=layout.endswith("image"))
    model = model.double().eval()
    integers = pixels(steps=layout == "loop over steps")
    shown = integers.double() / 255
    network = from_torch(model, shown, time_steps=T if layout == "hidden" else None)
    assert network.time_steps == T
    assert network.notes == ()
    expected = own_spikes(model, shown.expand(T, *shown.shape) if layout == "hidden" else shown)
    assert_spikes(network, integers, expected)
    assert [p.name for p in network.outputs] == ["4" if layout == "hidden" else "lif2"]


@settings(max_examples=15, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    alpha=st.floats(0, 1),
    beta=st.floats(0, 1),
    threshold=st.floats(0.2, 0.8),
    lasting=st.booleans(),
)
def test_any_decays_and_thresholds(seed: int, alpha: float, beta: float, threshold: float, lasting: bool) -> None:
    torch.manual_seed(seed)
    make = (lambda: synaptic(alpha, beta, threshold)) if lasting else (lambda: leaky(beta, threshold))
    model = Net(make).double().eval()
    integers = pixels(seed, samples=2)
    network = from_torch(model, integers.double() / 255)
    ours = emulate(network, integers)
    for name, spikes in own_spikes(model, integers.double() / 255).items():
        np.testing.assert_array_equal(ours.spikes[name], spikes, err_msg=name)


def load_weights(model: nn.Module, network: Network) -> None:
    """The network's weights, biases and thresholds into a model of one convolution or linear layer per population."""
    layers = [m for m in model.modules() if isinstance(m, (nn.Conv2d, nn.Linear))]
    neurons = [m for m in model.modules() if isinstance(m, snn.SpikingNeuron)]
    firing = [p for p in network.populations if isinstance(p.neuron, LIF)]
    for layer, node, population in zip(layers, neurons, firing, strict=True):
        (synapses,) = network.incoming(population.name)
        layer.weight.data = torch.from_numpy(synapses.op.weight).reshape(layer.weight.shape).to(layer.weight)
        if population.bias is not None:
            assert layer.bias is not None
            layer.bias.data = torch.from_numpy(population.bias).to(layer.weight)
        assert isinstance(population.neuron, LIF)
        node.threshold = torch.tensor(population.neuron.v_threshold)


@pytest.mark.parametrize("layout", ["loop", "hidden"])
@pytest.mark.parametrize("seed", range(3))
def test_the_model_with_the_chips_weights_spikes_as_the_chip(layout: str, seed: int) -> None:
    """Without decays the chip computes exactly; with them it rounds states, which no real-valued model does.

    In float32 with snnTorch's own surrogate: thresholds lie half a unit from what a potential can be.
    """
    torch.manual_seed(seed)

    class Dense(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc1, self.lif1 = nn.Linear(20, 15), leaky(1.0, spike_grad=None)
            self.fc2, self.lif2 = nn.Linear(15, 6), leaky(1.0, spike_grad=None)

        def forward(self, x: Tensor) -> Tensor:
            mem1, mem2, spikes = torch.zeros(1), torch.zeros(1), []
            for step in x:
                spk1, mem1 = self.lif1(self.fc1(step), mem1)
                spk2, mem2 = self.lif2(self.fc2(spk1), mem2)
                spikes.append(spk2)
            return torch.stack(spikes)

    one_step = nn.Sequential(
        nn.Linear(20, 15),
        leaky(1.0, spike_grad=None, init_hidden=True),
        nn.Linear(15, 6),
        leaky(1.0, spike_grad=None, init_hidden=True),
    )
    model = (Dense() if layout == "loop" else one_step).eval()
    x = torch.randint(0, 2, (T, 4, 20)).float()
    chip = quantize(from_torch(model, x if layout == "loop" else x[0], time_steps=T), LOIHI)
    load_weights(model, dequantize(chip))
    assert_spikes(chip, x.long(), own_spikes(model, x))


def test_a_tie_with_the_threshold_stays_silent_on_the_chip_too() -> None:
    """snnTorch fires above the threshold, SpikingJelly at it: 4 · 0.25 = 1 is not above 1."""
    model = nn.Sequential(nn.Linear(4, 1, bias=False), leaky(1.0, 1.0, init_hidden=True)).double()
    torch.nn.init.constant_(model[0].weight, 0.25)  # type: ignore[arg-type]
    x = torch.ones(1, 4).double()
    network = from_torch(model, x, time_steps=2)
    chip = quantize(network, LOIHI)
    expected = own_spikes(model, x.expand(2, 1, 4))["1"]
    assert expected.ravel().tolist() == [0, 1]
    for either in (network, chip):
        np.testing.assert_array_equal(emulate(either, x.long()).spikes["1"], expected)


def test_decays_that_4096_does_not_hold_are_noted() -> None:
    model = nn.Sequential(nn.Linear(4, 3, bias=False), synaptic(0.5, 0.9, init_hidden=True)).double()
    chip = quantize(from_torch(model, torch.rand(2, 4).double(), time_steps=3), LOIHI)
    neuron = chip["1"].neuron
    assert isinstance(neuron, CubaLIF)
    assert (neuron.i_decay, neuron.v_decay) == (2048, 410)
    assert len(chip.notes) == 1
    assert "0.1" in chip.notes[0]
    assert "410/4096" in chip.notes[0]


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10**6), alpha=st.sampled_from([0.0, 0.5, 0.99, 1.0]), size=st.sampled_from([0.1, 1.0, 10.0]))
def test_lasting_currents_stay_within_24_bits_for_any_input(seed: int, alpha: float, size: float) -> None:
    torch.manual_seed(seed)
    model = nn.Sequential(nn.Linear(400, 5, bias=False), synaptic(alpha, 0.5, init_hidden=True)).double()
    with torch.no_grad():
        model[0].weight.abs_().mul_(size)  # type: ignore[operator]
    chip = quantize(from_torch(model, torch.ones(1, 400).double(), time_steps=20), LOIHI)
    assert emulate(chip, torch.ones(1, 400)).overflows == {"1": 0}


FINISHES: dict[str, Callable[[Any, list[Tensor], list[Tensor]], Any]] = {
    "spikes alone": lambda _, spikes, __: torch.stack(spikes, dim=0),
    "a list": lambda _, spikes, __: spikes,
    "sum": lambda _, spikes, __: torch.stack(spikes).sum(0),
    "mean": lambda _, spikes, __: torch.stack(spikes).mean(dim=0),
    "python's sum": lambda _, spikes, __: sum(spikes),
    "python's mean": lambda _, spikes, __: sum(spikes) / T,
    "potentials beside": lambda _, spikes, potentials: (torch.stack(spikes).sum(0), potentials),
}


@pytest.mark.parametrize("finish", FINISHES.values(), ids=FINISHES.keys())
def test_ways_to_return_spikes(finish: Callable[[Any, list[Tensor], list[Tensor]], Any]) -> None:
    torch.manual_seed(4)
    model = Net(finish=finish).double().eval()
    integers = pixels()
    network = from_torch(model, integers.double() / 255)
    assert_spikes(network, integers, own_spikes(model, integers.double() / 255))
    assert [p.name for p in network.outputs] == ["lif2"]


def test_a_readout_after_the_last_neurons_sums_over_steps() -> None:
    class Readout(Net):
        def __init__(self) -> None:
            super().__init__()
            self.out = nn.Linear(5, 4)

        def forward(self, x: Tensor) -> Tensor:
            spikes, _ = super().forward(x)
            return torch.stack([self.out(s) for s in spikes]).sum(0)

    torch.manual_seed(4)
    model = Readout().double().eval()
    integers = pixels()
    x = integers.double() / 255
    network = from_torch(model, x)
    with torch.no_grad():
        np.testing.assert_allclose(emulate(network, integers).output, model(x).numpy(), atol=1e-9)
    assert [p.name for p in network.outputs] == ["out"]


def test_a_readout_of_summed_spikes_would_add_its_bias_once() -> None:
    class Readout(Net):
        def __init__(self) -> None:
            super().__init__()
            self.out = nn.Linear(5, 4)

        def forward(self, x: Tensor) -> Tensor:
            result: Tensor = self.out(super().forward(x)[0].sum(0))
            return result

    with pytest.raises(UnsupportedModel, match="adds its bias to a sum over steps, once"):
        from_torch(Readout().double(), pixels().double() / 255)


REFUSED: dict[str, tuple[Callable[[], nn.Module], tuple[str, ...]]] = {
    "potentials of neurons that reset": (
        lambda: Net(finish=lambda _, __, potentials: torch.stack(potentials)),
        ("potential of lif2, which resets to zero", 'reset_mechanism="none"'),
    ),
    "spikes plus potentials": (
        lambda: Net(finish=lambda _, spikes, potentials: spikes[0] + potentials[0]),
        ("state of lif2",),
    ),
    "the last step alone": (lambda: Net(finish=lambda _, spikes, __: spikes[-1]), ("step 5", "torch.stack")),
    "the first steps alone": (lambda: Net(finish=lambda _, spikes, __: sum(spikes[:4])), ("4 steps", "torch.stack")),
    "steps in another order": (lambda: Net(finish=lambda _, spikes, __: torch.stack(spikes[::-1])), ("stack",)),
}


@pytest.mark.parametrize(("build", "says"), REFUSED.values(), ids=REFUSED.keys())
def test_refused_in_one_sentence(build: Callable[[], nn.Module], says: tuple[str, ...]) -> None:
    model = build().double()
    with pytest.raises(UnsupportedModel) as caught:
        from_torch(model, pixels().double() / 255)
    message = str(caught.value)
    assert message.startswith("from_torch: ")
    assert "\n" not in message
    for words in says:
        assert words in message
    assert all(not m._forward_hooks and not m._forward_pre_hooks and m.training for m in model.modules())


class Wrong(nn.Module):
    """Loops that do not pass on what they were given."""

    def __init__(self, how: str) -> None:
        super().__init__()
        self.fc1, self.lif1, self.fc2, self.lif2 = nn.Linear(4, 4), leaky(), nn.Linear(4, 4), leaky()
        self.how = how

    def forward(self, x: Tensor) -> Tensor:
        mem1, mem2, spk1, spikes = torch.zeros(1), torch.zeros(1), None, []
        for step in range(len(x) - (1 if self.how == "one step short" else 0)):
            before = spk1
            spk1, mem1 = self.lif1(self.fc1(x[step]), mem1)
            if self.how == "a state that is reset":
                mem1 = torch.zeros_like(mem1)
            if self.how == "a state that is changed":
                mem1 = 0.9 * mem1
            if self.how == "a neuron that runs ahead":
                self.lif2(self.fc2(spk1), mem2)
            before = spk1 if before is None else before
            current = self.fc2(before if self.how == "a delayed connection" else spk1)
            if self.how == "a delayed sum":
                current = current + self.fc1(before)
            spk2, mem2 = self.lif2(current, mem2)
            spikes.append(spk2)
        return torch.stack(spikes)


@pytest.mark.parametrize(
    ("how", "says"),
    [
        ("one step short", "5 of the 6 steps"),
        ("a state that is reset", "lif1 is given a state"),
        ("a state that is changed", "lif1 is given a state"),
        ("a delayed connection", "gets step 0 in its step 1"),
        ("a delayed sum", "step 1 with step 0"),
        ("a neuron that runs ahead", "lif2 "),
    ],
)
def test_loops_that_are_none_are_refused(how: str, says: str) -> None:
    with pytest.raises(UnsupportedModel) as caught:
        from_torch(Wrong(how), torch.rand(T, 2, 4))
    assert says in str(caught.value)


def test_steps_that_contradict_the_loop_are_refused() -> None:
    with pytest.raises(UnsupportedModel, match="loops over 6 steps, but time_steps is 4"):
        from_torch(Net(static=True), torch.rand(2, 2, 6, 6), time_steps=4)


def test_a_forward_of_one_step_with_fresh_states_cannot_go_on() -> None:
    class OneStep(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc, self.lif = nn.Linear(4, 3), leaky()

        def forward(self, x: Tensor) -> Any:
            return self.lif(self.fc(x), self.lif.init_leaky())  # type: ignore[operator]

    with pytest.raises(UnsupportedModel, match="init_hidden=True"):
        from_torch(OneStep(), torch.rand(2, 4), time_steps=5)
    assert from_torch(OneStep(), torch.rand(2, 4)).time_steps == 1


RESETS: dict[str, Callable[..., nn.Module]] = {
    "subtraction": lambda **o: leaky(0.5, 0.2, reset_mechanism="subtract", **o),
    "subtraction within the step": lambda **o: leaky(0.9, 0.1, reset_mechanism="subtract", reset_delay=False, **o),
    "no reset": lambda **o: leaky(0.5, 0.4, reset_mechanism="none", **o),
    "a synaptic's late reset": lambda **o: synaptic(reset_delay=True, **o),
    "a synaptic's late subtraction": lambda **o: synaptic(reset_mechanism="subtract", reset_delay=True, **o),
    "a synaptic's subtraction within the step": lambda **o: synaptic(reset_mechanism="subtract", **o),
}


@pytest.mark.parametrize("layout", ["loop", "hidden"])
@pytest.mark.parametrize("make", RESETS.values(), ids=RESETS.keys())
def test_every_reset_is_read_as_it_is(make: Callable[..., nn.Module], layout: str) -> None:
    torch.manual_seed(4)
    model = (Net(make, bias=False) if layout == "loop" else hidden(make, bias=False)).double().eval()
    integers = pixels(steps=layout == "loop")
    x = integers.double() / 255
    network = from_torch(model, x, time_steps=None if layout == "loop" else T)
    assert network.notes == ()
    expected = own_spikes(model, x if layout == "loop" else x.expand(T, *x.shape))
    assert_spikes(network, integers, expected)
    with pytest.raises(UnsupportedModel, match=r"quantize: .* reset.*reset_mechanism=.zero., reset_delay=False"):
        quantize(network, LOIHI)
    chip = quantize(network, LOIHI, approximate=True)
    assert all("here it resets to zero in the step it fires" in note for note in chip.notes[:2])


APPROXIMATED: dict[str, Callable[..., nn.Module]] = {
    "subtraction": lambda **o: leaky(reset_mechanism="subtract", **o),
    "subtraction within the step": lambda **o: leaky(reset_mechanism="subtract", reset_delay=False, **o),
    "synaptic, late": lambda **o: synaptic(reset_delay=True, **o),
}


@pytest.mark.parametrize("layout", ["loop", "hidden"])
@pytest.mark.parametrize("make", APPROXIMATED.values(), ids=APPROXIMATED.keys())
def test_what_is_approximated_is_noted_and_measured(make: Callable[..., nn.Module], layout: str) -> None:
    torch.manual_seed(4)
    model = (Net(make, static=True) if layout == "loop" else hidden(make)).double().eval()
    integers = pixels(steps=False)
    x = integers.double() / 255
    network = from_torch(model, x, time_steps=T, approximate=True)
    names = [p.name for p in network.populations if isinstance(p.neuron, LIF)]
    assert all(any(note.startswith(f"{name} ") for note in network.notes) for name in names)
    assert set(network.notes) <= set(quantize(network, LOIHI).notes)
    difference = spike_difference(model, network, x)
    expected = own_spikes(model, x.expand(T, *x.shape) if layout == "hidden" else x)
    ours = emulate(network, integers)
    assert difference.different == {n: int((ours.spikes[n] != s).sum()) for n, s in expected.items()}
    assert difference.model == {n: int(s.sum()) for n, s in expected.items()}
    assert difference.network == {n: int(ours.spikes[n].sum()) for n in expected}
    assert difference.total > 0


@pytest.mark.parametrize("layout", ["loop over steps", "loop over an image", "hidden"])
def test_the_measured_difference_of_an_exact_network_is_none(layout: str) -> None:
    torch.manual_seed(4)
    model = (hidden() if layout == "hidden" else Net(static=layout.endswith("image"))).double().eval()
    x = pixels(steps=layout == "loop over steps").double() / 255
    network = from_torch(model, x, time_steps=T if layout == "hidden" else None)
    difference = spike_difference(model, network, x)
    assert difference.total == 0
    assert min(difference.model.values()) > 0
