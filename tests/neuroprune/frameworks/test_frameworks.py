"""What frameworks say of their neurons, against the frameworks' own forward passes, spike for spike."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pytest
import snntorch as snn
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from snntorch import surrogate
from spikingjelly.activation_based import functional, neuron
from torch import Tensor, nn

from hw_targets.frontends.torch.builder import as_lif
from neuroprune import SoftThresholdPruner, count_synops, to_hard_reset
from neuroprune.frameworks import UnsupportedNeuron, framework_of
from neuroprune.schedules import LATS
from neuroprune.training.loop import predictor
from tests.twins.neurons import run_equation

STEPS, NEURONS = 24, 16


def currents(seed: int, *, top: float = 1.0) -> Tensor:
    """(T, N) in 1/64, so that nothing a neuron with dyadic decays computes in a few steps is rounded; both signs."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(-16, int(64 * top), (STEPS, NEURONS), generator=generator).double() / 64


def own_spikes(module: nn.Module, inputs: Tensor) -> NDArray[np.int64]:
    """What a framework's neuron sends when called step by step from a fresh state."""
    framework = framework_of(module)
    assert framework is not None
    framework.reset(module)
    state: tuple[Tensor, ...] = ()
    spikes = []
    with torch.no_grad():
        for x in inputs:
            output = module(x[None], *state)
            spike, *state = output if isinstance(output, tuple) else (output,)  # type: ignore[assignment]
            spikes.append(spike[0])
    return torch.stack(spikes).long().numpy()


def assert_equation_holds(module: nn.Module, inputs: Tensor) -> NDArray[np.int64]:
    framework = framework_of(module)
    assert framework is not None
    fired = own_spikes(module, inputs)
    np.testing.assert_array_equal(run_equation(framework.equation(module), inputs.numpy()), fired)
    return fired


RESETS = ("zero", "subtract", "none")


@settings(max_examples=80, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    reset=st.sampled_from(RESETS),
    delay=st.booleans(),
    hidden=st.booleans(),
    synaptic=st.booleans(),
    beta=st.sampled_from([0.0, 0.5, 0.75, 1.0, 1.5, -0.5]),
    alpha=st.sampled_from([0.0, 0.5, 0.25]),
    learn=st.booleans(),
)
def test_snntorch_neurons_compute_what_their_equation_says(
    seed: int, reset: str, delay: bool, hidden: bool, synaptic: bool, beta: float, alpha: float, learn: bool
) -> None:
    options: dict[str, Any] = {"beta": torch.tensor(beta), "reset_mechanism": reset, "reset_delay": delay}
    options |= {"init_hidden": hidden, "learn_beta": learn, "learn_threshold": learn, "threshold": torch.tensor(1.0)}
    module = snn.Synaptic(torch.tensor(alpha), **options) if synaptic else snn.Leaky(**options)
    # Small enough for one subtraction to bring every potential below the threshold; see the next test.
    fired = assert_equation_holds(module.double(), currents(seed, top=0.5 if synaptic else 0.9))
    if reset != "none" and beta > 0:
        assert fired.mean() < 1


def each(seed: int, low: float, high: float) -> Tensor:
    """A value for each neuron, of a few bits."""
    generator = torch.Generator().manual_seed(seed)
    return (low + (high - low) * torch.randint(0, 9, (NEURONS,), generator=generator) / 8).double()


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    reset=st.sampled_from(RESETS),
    delay=st.booleans(),
    synaptic=st.booleans(),
    several=st.sets(st.sampled_from(["alpha", "beta", "threshold"]), min_size=1),
)
def test_decays_and_thresholds_of_each_neuron(
    seed: int, reset: str, delay: bool, synaptic: bool, several: set[str]
) -> None:
    values = {"alpha": torch.tensor(0.25), "beta": torch.tensor(0.5), "threshold": torch.tensor(1.0)}
    for index, name in enumerate(sorted(several)):
        values[name] = each(seed + index, *((0.5, 1.0) if name == "threshold" else (0.0, 1.0)))
    alpha = values.pop("alpha")
    options: dict[str, Any] = {**values, "reset_mechanism": reset, "reset_delay": delay}
    module = snn.Synaptic(alpha, **options) if synaptic else snn.Leaky(**options)
    assert_equation_holds(module.double(), currents(seed, top=0.5))


LAPICQUES: tuple[dict[str, Any], ...] = (
    {"R": 5.1, "C": 5e-3, "time_step": 1e-3},
    {"R": 5, "C": 10},
    {"beta": 0.9},
    {"beta": 0.9, "R": 2.0},
    {"beta": 0.9, "C": 1.5},
)


@pytest.mark.parametrize("reset", RESETS)
@pytest.mark.parametrize("circuit", LAPICQUES)
def test_lapicque(circuit: dict[str, Any], reset: str) -> None:
    """Currents at which no potential comes near the threshold, so that rounding cannot matter."""
    module = snn.Lapicque(**circuit, threshold=0.5, reset_mechanism=reset).double()
    strength = 2.5 if "time_step" in circuit else 4.0 / float(module.R) if "R" in circuit or "C" in circuit else 6.0
    fired = assert_equation_holds(module, currents(5) * strength)
    assert 0 < fired.mean() < 1


@pytest.mark.parametrize("reset", ["zero", "none"])
@pytest.mark.parametrize("seed", range(3))
def test_alpha(seed: int, reset: str) -> None:
    alpha, beta = 0.5 + each(seed, 0.0, 0.4), each(seed + 1, 0.1, 0.45)
    for pair in ((torch.tensor(0.9), torch.tensor(0.8)), (alpha, beta)):
        module = snn.Alpha(*pair, threshold=0.5, reset_mechanism=reset).double()
        fired = assert_equation_holds(module, currents(seed) * 1.7)
        assert 0 < fired.mean() < 1


def test_a_potential_beyond_two_thresholds_withholds_the_next_spike() -> None:
    """snnTorch never subtracts twice: what is left above the threshold counts against the next spike."""
    module = snn.Leaky(1.0, reset_mechanism="subtract", reset_delay=False).double()
    inputs = torch.tensor([[3.5], [0.0], [0.0], [0.0]]).double()
    assert own_spikes(module, inputs)[:, 0].tolist() == [1, 1, 0, 0]
    framework = framework_of(module)
    assert framework is not None
    assert run_equation(framework.equation(module), inputs.numpy())[:, 0].tolist() == [1, 1, 0, 0]


@pytest.mark.parametrize(
    "exact",
    [
        snn.Leaky(0.5, reset_mechanism="zero"),
        snn.Leaky(0.5, reset_mechanism="zero", reset_delay=False),
        snn.Leaky(0.0, reset_mechanism="none"),
        snn.Synaptic(0.5, 0.5, reset_mechanism="zero", reset_delay=False),
        neuron.CUBALIFNode(),
        neuron.ParametricLIFNode(),
    ],
)
def test_neurons_with_the_spikes_of_a_reset_to_zero_within_the_step(exact: nn.Module) -> None:
    framework = framework_of(exact)
    assert framework is not None
    assert as_lif(framework.equation(exact), (1,)).resets_to_zero


@pytest.mark.parametrize(
    "other",
    [
        snn.Leaky(0.5),
        snn.Leaky(0.0, reset_mechanism="subtract", reset_delay=False),
        snn.Leaky(0.5, reset_mechanism="none"),
        snn.Synaptic(0.5, 0.5, reset_mechanism="zero"),
        neuron.IFNode(v_reset=None),
    ],
)
def test_neurons_with_other_spikes_say_so(other: nn.Module) -> None:
    framework = framework_of(other)
    assert framework is not None
    assert not as_lif(framework.equation(other), (1,)).resets_to_zero


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    kind=st.sampled_from(["IF", "LIF", "PLIF", "CUBA"]),
    decay_input=st.booleans(),
    soft=st.booleans(),
    tau=st.sampled_from([2.0, 4.0, 1.25]),
)
def test_spikingjelly_neurons_compute_what_their_equation_says(
    seed: int, kind: str, decay_input: bool, soft: bool, tau: float
) -> None:
    v_reset = None if soft else 0.0
    module: nn.Module
    if kind == "IF":
        module = neuron.IFNode(v_reset=v_reset)
    elif kind == "CUBA":
        module = neuron.CUBALIFNode(c_decay=0.5, v_decay=1 / tau, v_reset=v_reset)
    else:
        build = neuron.LIFNode if kind == "LIF" else neuron.ParametricLIFNode
        module = build(tau, decay_input=decay_input, v_threshold=0.25 if decay_input else 1.0, v_reset=v_reset)
    assert_equation_holds(module.double(), currents(seed))


def test_a_parametric_leak_is_read_after_training() -> None:
    module = neuron.ParametricLIFNode(init_tau=2.0, decay_input=False).double()
    with torch.no_grad():
        module.w.add_(0.7)
    framework = framework_of(module)
    assert framework is not None
    assert framework.equation(module).v_decay == pytest.approx(1 / (1 + np.exp(-0.7)))
    assert_equation_holds(module, currents(3))


REFUSED = {
    "inhibition": (lambda: snn.Leaky(0.5, inhibition=True), "inhibition=False"),
    "state_quant": (lambda: snn.Leaky(0.5, state_quant=lambda x: x), "state_quant=False"),
    "graded": (lambda: snn.Leaky(0.5, graded_spikes_factor=2.0), "graded_spikes_factor = 2.0"),
    "no threshold": (lambda: snn.Leaky(0.5, threshold=0.0), "raise it"),
    "one threshold of zero": (lambda: snn.Leaky(0.5, threshold=torch.tensor([1.0, 0.0])), "raise it"),
    "smooth": (lambda: snn.Leaky(0.5, spike_grad=torch.sigmoid), "snntorch.surrogate"),
    "Alpha": (lambda: snn.Alpha(alpha=0.9, beta=0.8, reset_mechanism="subtract"), 'reset_mechanism="zero"'),
    "RSynaptic": (lambda: snn.RSynaptic(0.5, 0.8, all_to_all=False, reset_delay=False), "reset_delay=True"),
    "Delta": (lambda: snn.DeltaLeaky(beta=0.5), "use Leaky"),
    "parallel": (lambda: snn.LeakyParallel(4, 4, beta=0.5), "use Linear and Leaky"),
    "LSTM": (lambda: snn.SLSTM(4, 4), "use RSynaptic"),
    "truncated": (lambda: snn.StateLeaky(0.5, channels=4, kernel_truncation_steps=2), "use None"),
    "potentials": (lambda: snn.StateLeaky(0.5, channels=4, output=False), "output=True"),
    "CUBA around a reset value": (lambda: neuron.CUBALIFNode(v_reset=0.1), "v_reset=0.0"),
    "QIF": (lambda: neuron.QIFNode(), "CUBALIFNode"),
}


@pytest.mark.parametrize(("build", "says"), REFUSED.values(), ids=REFUSED.keys())
def test_other_neurons_are_refused_with_what_to_do(build: Any, says: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        module = build()
    framework = framework_of(module)
    assert framework is not None
    with pytest.raises(UnsupportedNeuron) as caught:
        framework.equation(module)
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)


def test_equal_values_per_neuron_are_one_value() -> None:
    module = snn.Leaky(torch.full((4,), 0.5), threshold=torch.full((4,), 2.0), reset_mechanism="zero")
    framework = framework_of(module)
    assert framework is not None
    assert (framework.equation(module).v_decay, framework.equation(module).v_threshold) == (0.5, 2.0)


SURROGATES = ("atan", "fast_sigmoid", "sigmoid", "heaviside", "triangular", "straight_through_estimator")


@pytest.mark.parametrize("name", SURROGATES)
def test_snntorch_surrogates_send_spikes(name: str) -> None:
    framework = framework_of(snn.Leaky(0.5))
    assert framework is not None
    assert framework.sends_spikes(snn.Leaky(0.5, spike_grad=getattr(surrogate, name)()))
    assert not framework.sends_spikes(snn.Leaky(0.5, spike_grad=torch.sigmoid))
    assert not framework.sends_spikes(snn.Leaky(0.5, graded_spikes_factor=0.5))


class Looping(nn.Module):
    """The usual snnTorch network: states in forward, a loop over x[step], all spikes and potentials returned."""

    def __init__(self) -> None:
        super().__init__()
        self.fc1, self.lif1 = nn.Linear(16, 12), snn.Leaky(0.9, reset_mechanism="zero", threshold=0.3)
        self.fc2, self.lif2 = nn.Linear(12, 3), snn.Leaky(0.9, reset_mechanism="zero", threshold=0.3)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        mem1, mem2 = self.lif1.init_leaky(), self.lif2.init_leaky()
        spikes, potentials = [], []
        for step in range(x.size(0)):
            spk1, mem1 = self.lif1(self.fc1(x[step].flatten(1)), mem1)
            spk2, mem2 = self.lif2(self.fc2(spk1), mem2)
            spikes.append(spk2)
            potentials.append(mem2)
        return torch.stack(spikes), torch.stack(potentials)


def hidden() -> nn.Sequential:
    """The same with `init_hidden`, nested so that snntorch.utils.reset would miss the first neurons."""
    leaky = {"beta": 0.9, "reset_mechanism": "zero", "threshold": 0.3, "init_hidden": True}
    front = nn.Sequential(nn.Flatten(), nn.Linear(16, 12), snn.Leaky(**leaky))
    return nn.Sequential(front, nn.Linear(12, 3), snn.Leaky(**leaky, output=True))


@pytest.mark.parametrize("build", [Looping, hidden])
def test_prediction_training_and_pruning_of_snntorch_models(build: Any) -> None:
    torch.manual_seed(0)
    model = build()
    predict = predictor(model, 5)
    images, labels = torch.rand(32, 1, 4, 4), torch.arange(32) % 3
    images[:, 0, 0] = labels[:, None].float() / 2
    optimizer = torch.optim.SGD(model.parameters(), lr=0.2)
    pruner = SoftThresholdPruner(optimizer, LATS(l1=2e-3))
    losses = []
    for _ in range(30):
        scores = predict(model, images)
        assert scores.shape == (32, 3)
        assert torch.equal(predict(model, images), scores), "the state of one prediction leaked into the next"
        loss = nn.functional.cross_entropy(4 * scores, labels)
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        losses.append(loss.item())
    pruner.finalize()
    assert losses[-1] < losses[0]
    linear = next(m for m in model.modules() if isinstance(m, nn.Linear))
    assert 0 < int((linear.weight == 0).sum()) < linear.weight.numel()


@pytest.mark.parametrize("build", [Looping, hidden])
def test_synops_of_snntorch_models_are_those_of_their_spikes(build: Any) -> None:
    torch.manual_seed(1)
    model = build().eval()
    steps, images = 5, torch.rand(4, 1, 4, 4)
    second = model.fc2 if isinstance(model, Looping) else model[1]
    with torch.no_grad():
        second.weight[:, ::2] = 0.0
    sent: list[Tensor] = []
    handle = second.register_forward_pre_hook(lambda _, inputs: sent.append(inputs[0]))
    counted = count_synops(model, images, forward=lambda m, x: predictor(m, steps)(m, x))
    handle.remove()
    spikes = torch.stack(sent)
    assert spikes.shape == (steps, 4, 12)
    assert 0 < float(spikes.mean()) < 1
    layer = next(layer for layer in counted.layers.values() if layer.kind == "spikes")
    assert layer.synops == int((spikes[..., 1::2]).sum()) * 3
    assert layer.dense == int(spikes.sum()) * 3


def test_a_model_that_passes_some_states_on_itself_owns_the_loop() -> None:
    mixed = nn.Sequential(snn.Leaky(0.5), snn.Leaky(0.5, init_hidden=True))
    framework = framework_of(mixed)
    assert framework is not None
    assert (framework.time_axis(mixed), framework.neuron_time_axis(mixed)) == (0, None)


def test_neurons_of_one_step_and_of_all_steps_do_not_mix() -> None:
    whole, mixed = snn.StateLeaky(0.5, channels=4), nn.Sequential(snn.StateLeaky(0.5, channels=4), snn.Leaky(0.5))
    framework = framework_of(mixed)
    assert framework is not None
    assert framework.neuron_time_axis(whole) == 0
    with pytest.raises(UnsupportedNeuron, match="mixes StateLeaky"):
        framework.neuron_time_axis(mixed)


def test_a_model_that_sums_its_spikes_up_is_predicted_as_it_is() -> None:
    class Summing(Looping):
        def forward(self, x: Tensor) -> Tensor:  # type: ignore[override]
            return super().forward(x)[0].sum(0)

    torch.manual_seed(0)
    images = torch.rand(2, 1, 4, 4)
    model = Summing()
    assert torch.equal(predictor(model, 5)(model, images), model(images.expand(5, *images.shape)))


class Showing(Looping):
    """Shows one image in every step itself, as tutorial 5 does; `finish` makes what it returns of both records."""

    def __init__(self, finish: Any) -> None:
        super().__init__()
        self.finish = finish

    def forward(self, x: Tensor) -> Any:
        return self.finish(*super().forward(x.flatten(1).expand(STEPS, *x.flatten(1).shape)))


FINISHES: dict[str, Any] = {
    "both": lambda spikes, potentials: (spikes, potentials),
    "spikes": lambda spikes, _: spikes,
    "a list": lambda spikes, _: list(spikes),
    "the mean": lambda spikes, _: spikes.mean(0),
}


@pytest.mark.parametrize("finish", FINISHES.values(), ids=FINISHES.keys())
def test_a_model_that_shows_its_image_itself_is_predicted_as_it_is(finish: Any) -> None:
    torch.manual_seed(0)
    images, model = torch.rand(2, 1, 4, 4), Showing(finish).train()
    expected = Looping.forward(model, images.flatten(1).expand(STEPS, 2, 16))[0].mean(0)
    assert torch.equal(predictor(model, STEPS)(model, images), expected)
    assert model.training


def test_who_counts_sees_one_call_of_a_model_that_shows_its_image_itself() -> None:
    torch.manual_seed(0)
    images, model = torch.rand(2, 16), Showing(FINISHES["both"]).eval()
    counted = count_synops(model, images, forward=predictor(model, STEPS))
    assert counted.total == count_synops(model, images).total > 0


@pytest.mark.parametrize("hidden", [True, False])
def test_a_readout_is_predicted_by_its_last_potential(hidden: bool) -> None:
    torch.manual_seed(0)
    images = torch.rand(2, 16)
    model: nn.Module = Showing(FINISHES["both"])
    if hidden:
        options = {"reset_mechanism": "zero", "threshold": 0.3, "init_hidden": True}
        model = nn.Sequential(
            *(nn.Linear(16, 12), snn.Leaky(0.9, **options), nn.Linear(12, 3), snn.Leaky(0.9, output=True, **options))
        )
    to_hard_reset(model, readout="3" if hidden else "lif2")
    framework = framework_of(model)
    assert framework is not None
    framework.reset(model)
    expected = [model(images)[1] for _ in range(STEPS)][-1] if hidden else model(images)[1][-1]
    assert torch.equal(predictor(model, STEPS)(model, images), expected)


def test_a_potential_returned_alone_is_what_is_predicted() -> None:
    torch.manual_seed(0)
    images, model = torch.rand(2, 16), Showing(lambda _, potentials: potentials)
    model.lif2 = snn.Leaky(0.9, reset_mechanism="none")
    assert torch.equal(predictor(model, STEPS)(model, images), model(images)[-1])


def test_resetting_spikingjelly_still_works() -> None:
    model = nn.Sequential(neuron.CUBALIFNode())
    model(torch.ones(1, 3))
    framework = framework_of(model)
    assert framework is not None
    framework.reset(model)
    assert model[0].v == 0.0
    functional.reset_net(model)
