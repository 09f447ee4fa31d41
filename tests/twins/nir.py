"""NIR's neurons in plain numbers, and what two networks must share to be the same."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from hw_targets import emulate
from hw_targets.ir.network import Conv2d, Dense, Network, Synapses
from tests.twins.chip import run_slowly

T = 8


def bits(*shape: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return (torch.rand(T, 3, *shape, generator=generator) < 0.4).double()


def assert_spikes(network: Network, inputs: Any, expected: dict[str, NDArray[Any]]) -> None:
    ours = emulate(network, inputs)
    # The slow twin knows no recurrence and no delays.
    plain = not any(s.is_recurrent or s.delay is not None for s in network.synapses)
    twin = run_slowly(network, np.asarray(inputs)) if plain else ours
    assert expected
    for name, spikes in expected.items():
        assert 0.02 < spikes.mean() < 0.9, f"{name}: the test shows nothing"
        np.testing.assert_array_equal(ours.spikes[name], spikes, err_msg=name)
        np.testing.assert_array_equal(twin.spikes[name], spikes, err_msg=name)


def assert_equal(read: Network, other: Network, *, neurons: float) -> None:
    """The same populations and synapses; thresholds and decays to that relative precision."""
    assert [(p.name, p.shape, type(p.neuron)) for p in read.populations] == [
        (p.name, p.shape, type(p.neuron)) for p in other.populations
    ]
    assert read.time_steps == other.time_steps
    for ours, theirs in zip(read.populations, other.populations, strict=True):
        for key, value in vars(theirs.neuron).items():
            found = getattr(ours.neuron, key)
            assert found == (pytest.approx(value, rel=neurons) if isinstance(value, float) else value), (ours.name, key)
        bias, other_bias = (np.zeros(ours.shape[0]) if p.bias is None else p.bias for p in (ours, theirs))
        np.testing.assert_allclose(bias, other_bias, rtol=1e-6)
    assert {(s.source, s.target) for s in read.synapses} == {(s.source, s.target) for s in other.synapses}
    for mine, his in zip(order(read), order(other), strict=True):
        np.testing.assert_allclose(mine.op.weight, ungrouped(his.op), rtol=1e-6)


def order(network: Network) -> list[Synapses]:
    return sorted(network.synapses, key=lambda s: (s.target, s.source))


def ungrouped(op: Conv2d | Dense) -> NDArray[Any]:
    if isinstance(op, Dense) or op.groups == 1:
        return op.weight
    outs, ins, *taps = op.weight.shape
    whole = np.zeros((outs, op.groups * ins, *taps))
    for out in range(outs):
        start = out // (outs // op.groups) * ins
        whole[out, start : start + ins] = op.weight[out]
    return whole


class Twin:
    """One neuron of NIR's equations, by forward Euler or the exact solution for a constant input, in plain numbers."""

    def __init__(self, node: Any, index: int, dt: float, *, exact: bool) -> None:
        self.dt, self.exact = dt, exact
        self.value = {k: float(np.ravel(v)[index]) for k, v in vars(node).items() if isinstance(v, np.ndarray)}
        self.v, self.current = self.value["v_reset"], 0.0

    def towards(self, now: float, goal: float, tau: float) -> float:
        if self.exact:
            return goal + (now - goal) * float(np.exp(-self.dt / tau))
        return now + self.dt / tau * (goal - now)

    def step(self, x: float) -> int:
        p = self.value
        if "tau_syn" in p:
            x = self.current = self.towards(self.current, p["w_in"] * x, p["tau_syn"])
        if "v_leak" in p:
            self.v = self.towards(self.v, p["v_leak"] + p["r"] * x, p.get("tau", p.get("tau_mem", 0.0)))
        else:
            self.v += self.dt * p["r"] * x
        fired = self.v > p["v_threshold"]
        self.v = p["v_reset"] if fired else self.v
        return int(fired)
