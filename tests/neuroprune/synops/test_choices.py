"""Values that are zero or a constant, as spikes say: counted as spikes times a constant; others are not."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from spikingjelly.activation_based import functional, neuron
from torch import Tensor, nn

from neuroprune import SynOps, count_synops
from tests.twins.dispatch import dispatch_count

Between = Callable[[Tensor], Tensor]
HALF = torch.tensor([[1.0, 0.0, 1.0, 0.0, 1.0, 0.0]])


class Net(nn.Module):
    """Spikes (N, 6), something between, and a layer that reads it."""

    def __init__(self, between: Between) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first, self.fire, self.last = nn.Linear(4, 6), neuron.IFNode(0.3), nn.Linear(6, 3)
        self.between = between

    def spikes(self, x: Tensor) -> Tensor:
        sent: Tensor = self.fire(self.first(x))
        return sent

    def forward(self, x: Tensor) -> Tensor:
        result: Tensor = self.last(self.between(self.spikes(x)))
        return result


def counted(between: Between) -> tuple[SynOps, Tensor]:
    """Counts, held to the dispatcher's, and the spikes."""
    x = torch.rand(20, 4, generator=torch.Generator().manual_seed(1))
    model = Net(between)

    def run(m: Any, y: Tensor) -> None:
        functional.reset_net(m)
        m(y)

    ours, theirs = count_synops(model, x, forward=run), dispatch_count(model, x, run)
    assert (ours.total, ours.dense, ours.macs) == (theirs.synops, theirs.dense, theirs.macs)
    functional.reset_net(model)
    with torch.no_grad():
        spikes = model.spikes(x)
    assert 0.2 < float(spikes.mean()) < 0.8
    return ours, spikes


#: What is between, and how many spikes arrive at each position of it.
SPIKES: dict[str, tuple[Between, Between]] = {
    "minus half": (lambda z: z - 0.5 * z, lambda z: 2 * z),
    "half minus": (lambda z: torch.sub(0.5 * z, z), lambda z: 2 * z),
    "with alpha": (lambda z: torch.sub(z, z.flip(1), alpha=0.5), lambda z: z + z.flip(1)),
    "difference": (lambda z: z - z.roll(1, 0), lambda z: z + z.roll(1, 0)),
    "in place": (lambda z: (z * 0.5).sub_(z), lambda z: 2 * z),
    "squared": (lambda z: (z * 0.5) ** 2, lambda z: z),
    "square": (lambda z: torch.square(0.25 * z).sqrt(), lambda z: z),
    "where they are": (lambda z: torch.where(z > 0, 0.3, 0.0), lambda z: z),
    "where they are not": (lambda z: torch.where(z > 0, torch.zeros(()), torch.tensor(0.3)), lambda z: 1 - z),
    "constants where they are": (lambda z: torch.where(z > 0, HALF * 0.2, 0.0), lambda z: z * HALF),
    "masked by a constant": (lambda z: torch.where(HALF > 0, z * 0.5, 0.0), lambda z: z * HALF),
    "masked by spikes": (lambda z: torch.where(z.flip(1) > 0, 0.0, z * 0.5), lambda z: z * (1 - z.flip(1))),
    "largest of a difference": (
        lambda z: F.max_pool1d((z - 0.25 * z).unsqueeze(1), 2, 1, 1).squeeze(1)[:, :6],
        lambda z: 2 * F.max_pool1d(z.unsqueeze(1), 2, 1, 1).squeeze(1)[:, :6],
    ),
    "masked_fill": (lambda z: (z * 0.5).masked_fill(HALF > 0, 0.0), lambda z: z * (1 - HALF)),
}


@pytest.mark.parametrize(("between", "arriving"), SPIKES.values(), ids=SPIKES.keys())
def test_spikes_times_a_constant(between: Between, arriving: Between) -> None:
    found, spikes = counted(between)
    assert (found.layers["last"].synops, found.layers["last"].macs) == (int(arriving(spikes).sum()) * 3, 0)
    assert found.uncounted == ()


#: What is no sum of spikes times constants.
REAL: dict[str, Between] = {
    "two numbers": lambda z: torch.where(z > 0, 0.3, 0.1),
    "sums squared": lambda z: (0.5 * z + 0.5 * z.roll(1, 0)) ** 2,
    "one minus": lambda z: 0.5 - z,
    "exponent below zero": lambda z: (z + 0.5) ** -1.0,
    "real values where": lambda z: torch.where(z > 0, torch.sigmoid(z), 0.0),
}


@pytest.mark.parametrize("between", REAL.values(), ids=REAL.keys())
def test_other_values_are_real(between: Between) -> None:
    found, spikes = counted(between)
    assert (found.layers["last"].synops, found.layers["last"].macs) == (0, spikes.numel() * 3)


def test_spikes_times_their_mean_are_real_and_named() -> None:
    """The mean is no constant: each spike brings a number of its sample's own."""
    found, spikes = counted(lambda z: z * z.mean())
    assert (found.layers["last"].synops, found.layers["last"].macs) == (0, spikes.numel() * 3)
    assert found.uncounted == ("Net (mul)",)
