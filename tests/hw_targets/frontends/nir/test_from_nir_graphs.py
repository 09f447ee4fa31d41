"""NIR graphs made by hand: each node against its equation, and what is refused."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import nir
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional as F

from hw_targets import emulate, from_nir, load_chip, quantize
from hw_targets.errors import InvalidNetwork, UnsupportedModel
from hw_targets.ir.network import Network
from tests.twins.nir import T, Twin, assert_spikes, bits


@settings(max_examples=25, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    kind=st.sampled_from(["IF", "LIF", "CubaLIF"]),
    dt=st.floats(1e-4, 1),
    exact=st.booleans(),
)
def test_any_parameters_by_an_independent_twin(seed: int, kind: str, dt: float, exact: bool) -> None:
    """Thresholds, resets, leaks and resistances of each neuron, time constants of each layer."""
    rng = np.random.default_rng(seed)
    each: dict[str, Any] = {
        "r": rng.uniform(0.5, 2, 5) / (dt if kind == "IF" else 1.0),
        "v_reset": rng.uniform(-0.3, 0.1, 5),
        "v_threshold": rng.uniform(0.2, 0.5, 5),
    }
    if kind != "IF":
        each["v_leak"] = rng.uniform(-0.1, 0.1, 5)
        each["tau" if kind == "LIF" else "tau_mem"] = np.full(5, dt * rng.uniform(1, 5))
    if kind == "CubaLIF":
        each |= {"tau_syn": np.full(5, dt * rng.uniform(1, 5)), "w_in": rng.uniform(0.5, 2, 5)}
    node = getattr(nir, kind)(**each)
    weight = rng.normal(size=(5, 4))
    graph = nir.NIRGraph.from_list(nir.Linear(weight), node)
    network = from_nir(graph, time_steps=T, dt=dt, solver="exponential" if exact else "euler")
    inputs = rng.integers(0, 2, (T, 2, 4))
    expected = np.zeros((T, 2, 5), dtype=np.int64)
    for sample in range(2):
        for index in range(5):
            twin = Twin(node, index, dt, exact=exact)
            expected[:, sample, index] = [twin.step(float(weight[index] @ x)) for x in inputs[:, sample]]
    np.testing.assert_array_equal(emulate(network, inputs).spikes[kind.lower()], expected)


def graph_of(*nodes: Any, shape: tuple[int, ...] = (2, 6, 6), **extra: Any) -> Any:
    """A chain, not type-checked, so that shapes may be missing."""
    named = {"input": nir.Input(np.array(shape)), **{f"n{i}": n for i, n in enumerate(nodes)}, **extra}
    named["output"] = nir.Output(None)
    names = ["input", *(f"n{i}" for i in range(len(nodes))), "output"]
    return nir.NIRGraph(named, list(pairwise(names)), type_check=False)


def integrate(*shape: int, threshold: float = 1.0) -> Any:
    return nir.IF(r=np.ones(shape), v_threshold=np.full(shape, threshold))


def kernel(outs: int = 3, ins: int = 2, *, groups: int = 1, padding: Any = (1, 1)) -> Any:
    weight = np.random.default_rng(0).normal(size=(outs, ins // groups, 3, 3))
    return nir.Conv2d(None, weight, (1, 1), padding, (1, 1), groups, np.zeros(outs))


def read(graph: Any, **options: Any) -> Network:
    return from_nir(graph, **{"time_steps": T, "dt": 1, **options})


def test_pools_scales_and_groups_are_folded_into_weights() -> None:
    pool = {"kernel_size": np.array([2, 2]), "stride": np.array([2, 2]), "padding": np.array([0, 0])}
    affine = nir.Affine(np.random.default_rng(1).normal(size=(4, 27)), np.full(4, 0.1))
    flat = nir.Flatten(None, 0, -1)
    layers = [kernel(4, groups=2, padding="same"), nir.Scale(np.array([0.5])), integrate(4, 6, 6, threshold=0.3)]
    tail = [kernel(3, 4), integrate(3, 3, 3, threshold=0.8), flat, affine, nir.Scale(np.arange(1, 5.0))]
    network = read(graph_of(*layers, nir.SumPool2d(**pool), nir.Scale(np.array([0.25])), *tail, integrate(4)))
    inputs = bits(2, 6, 6)
    state = [torch.zeros(()), torch.zeros(()), torch.zeros(())]
    expected = []
    for x in inputs:
        y = nn.functional.conv2d(x, torch.tensor(layers[0].weight), padding=1, groups=2) * 0.5
        for index, threshold in enumerate((0.3, 0.8, 1.0)):
            if index == 1:
                y = nn.functional.conv2d(nn.functional.avg_pool2d(y, 2), torch.tensor(tail[0].weight), padding=1)
            if index == 2:
                y = (y.flatten(1) @ torch.tensor(affine.weight).T + 0.1) * torch.arange(1, 5)
            state[index] = state[index] + y
            y = (state[index] > threshold).double()
            state[index] = state[index] * (1 - y)
        expected.append(y)
    assert_spikes(network, inputs, {"n10": torch.stack(expected).numpy()})


def test_threshold_nodes_and_delays() -> None:
    """y = [W·x delayed by 2 and by 0 … 3 steps > θ], without memory."""
    weight = np.random.default_rng(5).normal(size=(4, 3))
    lags = np.array([0.0, 0.02, 0.01, 0.03])
    nodes = [nir.Delay(np.full(3, 0.02)), nir.Linear(weight), nir.Threshold(np.array([0.1, 0.2, 0.3, 0.1]))]
    inputs = bits(3)
    network = from_nir(graph_of(*nodes, shape=(3,)), time_steps=T, dt=0.01)
    late = torch.cat([torch.zeros(2, 3, 3), inputs[:-2]]).numpy() @ weight.T
    assert_spikes(network, inputs, {"n2": (late > nodes[2].threshold).astype(int)})
    nodes[:2] = [nir.Linear(weight), nir.Delay(lags)]
    network = from_nir(graph_of(*nodes, shape=(3,)), time_steps=T, dt=0.01)
    current = inputs.numpy() @ weight.T
    for index, lag in enumerate((0, 2, 1, 3)):
        current[:, :, index] = np.concatenate([np.zeros((lag, 3)), current[: T - lag, :, index]])
    assert_spikes(network, inputs, {"n2": (current > nodes[2].threshold).astype(int)})


def test_subgraphs_are_flattened_and_edges_into_one_node_add() -> None:
    rng = np.random.default_rng(2)
    first, second, recurrent = (nir.Linear(rng.normal(size=s)) for s in ((5, 4), (5, 5), (5, 5)))
    cell = nir.NIRGraph(
        {"input": nir.Input(np.array([5])), "n": integrate(5), "w": recurrent, "output": nir.Output(np.array([5]))},
        [("input", "n"), ("n", "w"), ("w", "n"), ("n", "output")],
    )
    nodes = {"input": nir.Input(np.array([4])), "a": first, "b": second, "x": integrate(5), "y": cell}
    edges = [("input", "a"), ("a", "x"), ("x", "b"), ("a", "y"), ("b", "y"), ("y", "output")]
    network = read(nir.NIRGraph({**nodes, "output": nir.Output(np.array([5]))}, edges))
    assert [s.name for s in network.synapses] == ["input→x", "input→y.n", "x→y.n", "y.n→y.n"]
    inputs, v = bits(4).numpy(), {"x": np.zeros((3, 5)), "y": np.zeros((3, 5))}
    spikes: dict[str, list[Any]] = {"x": [], "y": [np.zeros((3, 5))]}
    for x in inputs:
        for name in "xy":
            current = x @ first.weight.T
            if name == "y":
                current = current + spikes["x"][-1] @ second.weight.T + spikes["y"][-1] @ recurrent.weight.T
            potential = v[name] + current
            spikes[name].append((potential > 1).astype(float))
            v[name] = potential * (1 - spikes[name][-1])
    assert_spikes(network, inputs, {"y.n": np.stack(spikes["y"][1:])})


LEAK: dict[str, Any] = {"r": np.ones(3), "v_leak": np.zeros(3)}
RESET = {"v_threshold": np.ones(3)}
LINEAR = nir.Linear(np.ones((3, 3)))


@pytest.mark.parametrize("synaptic", [False, True])
def test_a_leaky_readout_is_its_potential_after_the_last_step(synaptic: bool) -> None:
    weight, lag = np.random.default_rng(3).normal(size=(3, 4)), 0.4
    node = nir.LI(tau=np.full(3, 4.0), r=np.full(3, 2.0), v_leak=np.array([0.0, 0.5, -0.5]))
    if synaptic:
        node = nir.CubaLI(np.full(3, 1 / lag), node.tau, node.r, node.v_leak, w_in=np.full(3, 1.5))
    network = read(graph_of(nir.Linear(weight), node, shape=(4,)))
    inputs = bits(4).numpy()
    i, v = np.zeros((3, 3)), np.zeros((3, 3))
    for x in inputs:
        current = x @ weight.T
        if synaptic:
            current = i = i + lag * (1.5 * current - i)
        v = v + (node.v_leak - v + 2.0 * current) / 4.0
    np.testing.assert_allclose(emulate(network, inputs).output, v, rtol=1e-12)
    with pytest.raises(UnsupportedModel, match="n1 reads out a potential that leaks"):
        quantize(network, load_chip("loihi1"))


@pytest.mark.parametrize("reset", ["subtract", "none"])
@pytest.mark.parametrize("late", [False, True])
def test_resets_that_the_file_does_not_state_are_noted_or_given(reset: Any, late: bool) -> None:
    weight = np.random.default_rng(3).normal(size=(3, 4))
    graph = graph_of(nir.Linear(weight), nir.IF(r=np.ones(3), v_threshold=np.full(3, 0.7)), shape=(4,))
    assumed = read(graph)
    assert len(assumed.notes) == 1
    assert "does not say how n1 resets: assumed is to zero" in assumed.notes[0]
    given = read(graph, reset=reset, reset_delay=late)
    assert given.notes == ()
    inputs, v, before, expected = bits(4).numpy(), np.zeros((3, 3)), np.zeros((3, 3)), []
    for x in inputs:
        v = v + x @ weight.T - (0.7 * before if late and reset == "subtract" else 0)
        before = (v > 0.7).astype(float)
        v = v - (0.7 * before if not late and reset == "subtract" else 0)
        expected.append(before)
    assert_spikes(given, inputs, {"n1": np.stack(expected)})


def loop(*names: str, **nodes: Any) -> Any:
    """Input → w → the first of `names` → the next → … → the first, and from there to the output."""
    chain = {"input": nir.Input(np.array([3])), "w": LINEAR, **nodes, "output": nir.Output(np.array([3]))}
    edges = [("input", "w"), ("w", names[0]), *zip(names, [*names[1:], names[0]], strict=True), (names[0], "output")]
    return nir.NIRGraph(chain, edges, type_check=False)


REFUSED: dict[str, tuple[Any, str]] = {
    "two time constants": (
        graph_of(LINEAR, nir.LIF(tau=np.array([2.0, 2, 3]), **LEAK, **RESET), shape=(3,)),
        r"n1 \(LIF\) has tau from 2 to 3.*own",
    ),
    "neurons of one channel": (
        graph_of(kernel(), nir.IF(r=np.ones((3, 6, 6)), v_threshold=np.arange(1, 109.0).reshape(3, 6, 6))),
        "n1 .IF. has v_threshold that differs between the neurons of one channel",
    ),
    "a bias through a lasting current, and one through the leak": (
        graph_of(
            nir.Affine(np.ones((3, 3)), np.ones(3)),
            nir.CubaLIF(tau_mem=np.full(3, 2.0), tau_syn=np.full(3, 2.0), **{**LEAK, "v_leak": np.ones(3)}, **RESET),
            shape=(3,),
        ),
        r"n1 \(CubaLIF\) gets a bias through a synaptic current that lasts",
    ),
    "cycle": (
        loop("x", "p", "y", "q", x=integrate(3), p=LINEAR, y=integrate(3), q=LINEAR),
        "cycle leads through",
    ),
    "loop without neurons": (loop("p", "q", p=LINEAR, q=LINEAR), "in a loop without neurons"),
    "delayed loop": (
        loop("x", "d", "p", x=integrate(3), d=nir.Delay(np.ones(3)), p=LINEAR),
        "itself through a Delay",
    ),
    "two layers in a row with delays between": (
        graph_of(LINEAR, nir.Delay(np.arange(3.0)), LINEAR, integrate(3), shape=(3,)),
        r"n2 \(Linear\) mixes currents of different delays",
    ),
    "half a step": (graph_of(nir.Delay(np.full(3, 0.5)), LINEAR, integrate(3), shape=(3,)), "0.5 … 0.5 steps"),
    "delayed convolution": (graph_of(nir.Delay(np.ones(72)), kernel(), integrate(3, 6, 6)), "only dense layers"),
    "partial flatten": (graph_of(nir.Flatten(None, 1, -1), LINEAR, integrate(3)), "flattens axes 1 … -1"),
    "leads nowhere": (
        nir.NIRGraph(
            {"input": nir.Input(np.array([3])), "n": integrate(3), "lost": LINEAR, "output": nir.Output(np.array([3]))},
            [("input", "n"), ("n", "lost"), ("n", "output")],
            type_check=False,
        ),
        r"node lost \(Linear\) leads nowhere",
    ),
    "too few channels": (graph_of(kernel(3, 5), integrate(3, 6, 6)), r"n0 \(Conv2d\) takes 5 channels"),
    "declared shape": (
        graph_of(nir.Conv2d((7, 7), np.ones((3, 2, 3, 3)), 1, 1, 1, 1, np.zeros(3)), integrate(3, 6, 6)),
        r"declares an input of \(7, 7\)",
    ),
    "kernel too large": (
        graph_of(nir.Conv2d(None, np.ones((3, 2, 9, 9)), 1, 0, 1, 1, np.zeros(3)), integrate(3, 6, 6)),
        "its kernel is too large",
    ),
}


@pytest.mark.parametrize(("graph", "message"), REFUSED.values(), ids=REFUSED.keys())
def test_what_has_no_exact_counterpart_is_refused_by_name(graph: Any, message: str) -> None:
    with pytest.raises(UnsupportedModel, match=message):
        read(graph)


def test_linear_layers_in_a_row_are_one() -> None:
    first, second = np.arange(9.0).reshape(3, 3), np.arange(6.0).reshape(2, 3) - 2
    network = read(graph_of(nir.Affine(first, np.ones(3)), nir.Affine(second, np.ones(2)), integrate(2), shape=(3,)))
    np.testing.assert_array_equal(network.synapses[0].op.weight, second @ first)
    assert (network["n2"].bias == second.sum(1) + 1).all()


def test_a_padded_pool_of_currents_is_a_matrix() -> None:
    """A window at the border holds fewer of the convolution's values, which no kernel says."""
    pool = nir.AvgPool2d(np.array([2, 2]), np.array([2, 2]), np.array([1, 1]))
    weight = read(graph_of(kernel(), pool, integrate(3, 4, 4))).synapses[0].op.weight
    x = torch.rand(1, 2, 6, 6, dtype=torch.float64)
    expected = F.avg_pool2d(F.conv2d(x, torch.from_numpy(kernel().weight).double(), padding=1), 2, padding=1)
    np.testing.assert_allclose(weight @ x.numpy().reshape(-1), expected.numpy().reshape(-1))


def test_arguments_and_graphs_that_contradict_themselves() -> None:
    fine = graph_of(LINEAR, integrate(3), shape=(3,))
    with pytest.raises(InvalidNetwork, match="pass time_steps"):
        from_nir(fine)
    for wrong in ({"time_steps": 0}, {"time_steps": 1.5}, {"dt": 0}, {"dt": float("nan")}, {"solver": "rk4"}):
        with pytest.raises(InvalidNetwork, match=r"expected |must be a whole number"):
            read(fine, **wrong)
    with pytest.raises(InvalidNetwork, match=r"got a list, expected a nir\.NIRGraph"):
        read([])
    with pytest.raises(InvalidNetwork, match="does not say the input's shape"):
        read(nir.NIRGraph({**fine.nodes, "input": nir.Input(None)}, fine.edges, type_check=False))
    with pytest.raises(InvalidNetwork, match="n0: 1 of 9 values of weight are NaN"):
        read(graph_of(nir.Linear(np.where(np.eye(3), [1, 1, np.nan], 1)), integrate(3), shape=(3,)))
    with pytest.raises(InvalidNetwork, match="declares the shape"):
        read(nir.NIRGraph({**fine.nodes, "output": nir.Output(np.array([4]))}, fine.edges, type_check=False))
    with pytest.raises(InvalidNetwork, match="names 'ghost', which is no node"):
        read(nir.NIRGraph(fine.nodes, [*fine.edges, ("ghost", "n1")], type_check=False))
    with pytest.raises(InvalidNetwork, match="occurs twice"):
        read(nir.NIRGraph(fine.nodes, [*fine.edges, fine.edges[0]], type_check=False))
