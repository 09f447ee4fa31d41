"""Fully connected networks of snnTorch's tutorials and examples, as they are written there.

Source: github.com/jeshraghian/snntorch, MIT.
Constants that the tutorials keep in variables stand in their places, and batch sizes are taken from the data. What the
refusals advise is beside a network that is refused (`behind`, `mended`).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import snntorch as snn
import torch
from snntorch import surrogate
from torch import Tensor, nn
from torch.nn import functional as F

from examples.benchmarks.coverage.judge import Case, image, spikes

SPIKE_GRAD = surrogate.fast_sigmoid(slope=25)


class FullyConnected(nn.Module):
    """Tutorials 3 and 5, the IPU tutorial: 784-1000-10, an image shown in every step, or spikes of each step."""

    def __init__(self, num_steps: int, beta: float, *, of_steps: bool = False) -> None:
        super().__init__()
        self.fc1, self.lif1 = nn.Linear(784, 1000), snn.Leaky(beta=beta)
        self.fc2, self.lif2 = nn.Linear(1000, 10), snn.Leaky(beta=beta)
        self.num_steps, self.of_steps = num_steps, of_steps

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        mem1, mem2 = self.lif1.init_leaky(), self.lif2.init_leaky()
        spk2_rec, mem2_rec = [], []
        for step in range(self.num_steps):
            cur1 = self.fc1(x[step] if self.of_steps else x)
            spk1, mem1 = self.lif1(cur1, mem1)
            cur2 = self.fc2(spk1)
            spk2, mem2 = self.lif2(cur2, mem2)
            spk2_rec.append(spk2)
            mem2_rec.append(mem2)
        return torch.stack(spk2_rec, dim=0), torch.stack(mem2_rec, dim=0)


class Quickstart(nn.Module):
    """The quickstart's second network, whose last neurons have a learned beta each."""

    def __init__(self, kind: Callable[..., nn.Module] = snn.Leaky) -> None:
        super().__init__()
        self.fc1, self.lif1 = nn.Linear(784, 300), kind(beta=0.9)
        self.fc2, self.lif2 = nn.Linear(300, 10), kind(beta=torch.rand((10), dtype=torch.float), learn_beta=True)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        mem1, mem2 = self.lif1.reset_mem(), self.lif2.reset_mem()  # type: ignore[operator]
        spk2_rec, mem2_rec = [], []
        for _ in range(25):
            spk1, mem1 = self.lif1(self.fc1(x.flatten(1)), mem1)
            spk2, mem2 = self.lif2(self.fc2(spk1), mem2)
            spk2_rec.append(spk2)
            mem2_rec.append(mem2[0] if isinstance(mem2, tuple) else mem2)
        return torch.stack(spk2_rec), torch.stack(mem2_rec)


class Regression(nn.Module):
    """Regression I; as written it uses `li_out` for the hidden neurons too, `mended` uses `lif_hidden`."""

    def __init__(self, *, mended: bool = False, timesteps: int = 20, hidden: int = 64) -> None:
        super().__init__()
        self.timesteps, self.mended = timesteps, mended
        grad = surrogate.fast_sigmoid()
        options: dict[str, Any] = {"learn_beta": True, "spike_grad": grad}
        self.fc_in = nn.Linear(1, hidden)
        self.lif_in = snn.Leaky(beta=torch.rand(hidden), threshold=torch.rand(hidden), **options)
        self.fc_hidden = nn.Linear(hidden, hidden)
        self.lif_hidden = snn.Leaky(beta=torch.rand(hidden), threshold=torch.rand(hidden), **options)
        self.fc_out = nn.Linear(hidden, 1)
        self.li_out = snn.Leaky(beta=torch.rand(1), threshold=1.0, reset_mechanism="none", **options)

    def forward(self, x: Tensor) -> Tensor:
        mem_1, mem_2, mem_3 = self.lif_in.init_leaky(), self.lif_hidden.init_leaky(), self.li_out.init_leaky()
        mem_3_rec = []
        for step in range(self.timesteps):
            spk_in, mem_1 = self.lif_in(self.fc_in(x[step, :, :]), mem_1)
            neurons = self.lif_hidden if self.mended else self.li_out
            spk_hidden, mem_2 = neurons(self.fc_hidden(spk_in), mem_2)
            _, mem_3 = self.li_out(self.fc_out(spk_hidden), mem_3)
            mem_3_rec.append(mem_3)
        return torch.stack(mem_3_rec)


class Recurrent(nn.Module):
    """Regression II: two layers of RLeaky."""

    def __init__(self, timesteps: int = 20, hidden: int = 128) -> None:
        super().__init__()
        self.timesteps = timesteps
        self.fc1, self.rlif1 = nn.Linear(784, hidden), snn.RLeaky(beta=0.9, linear_features=hidden)
        self.fc2, self.rlif2 = nn.Linear(hidden, 10), snn.RLeaky(beta=0.9, linear_features=10)

    def forward(self, x: Tensor) -> Tensor:
        (spk1, mem1), (spk2, mem2) = self.rlif1.init_rleaky(), self.rlif2.init_rleaky()
        spk_recording = []
        for _ in range(self.timesteps):
            spk1, mem1 = self.rlif1(self.fc1(x), spk1, mem1)
            spk2, mem2 = self.rlif2(self.fc2(spk1), spk2, mem2)
            spk_recording.append(spk2)
        return torch.stack(spk_recording)


class Exoplanets(nn.Module):
    """The exoplanet hunter's, one step, with max-pools over features; `mended`: average pools, in a loop."""

    def __init__(self, *, mended: bool = False) -> None:
        super().__init__()
        self.fc1, self.lif1 = nn.Linear(3197, 128), snn.Leaky(beta=0.5, spike_grad=SPIKE_GRAD)
        self.fc2, self.lif2 = nn.Linear(128 if mended else 64, 64), snn.Leaky(beta=0.5, spike_grad=SPIKE_GRAD)
        self.fc3 = nn.Linear(64 if mended else 32, 2)
        self.mended = mended

    def forward(self, x: Tensor) -> Tensor:
        mem1, mem2 = self.lif1.init_leaky(), self.lif2.init_leaky()
        if not self.mended:
            spk1, mem1 = self.lif1(F.max_pool1d(self.fc1(x), 2), mem1)
            spk2, mem2 = self.lif2(F.max_pool1d(self.fc2(spk1), 2), mem2)
            return self.fc3(spk2.view(len(x), -1))  # type: ignore[no-any-return]
        scores = []
        for _ in range(10):
            spk1, mem1 = self.lif1(self.fc1(x), mem1)
            spk2, mem2 = self.lif2(self.fc2(spk1), mem2)
            scores.append(self.fc3(spk2))
        return torch.stack(scores)


class ForwardForward(nn.Module):
    """A layer of the forward-forward tutorial: a normalised input, a potential sent on; `mended`: spikes."""

    def __init__(self, *, mended: bool = False) -> None:
        super().__init__()
        self.fc, self.activation, self.mended = nn.Linear(784, 500, bias=False), snn.Leaky(beta=0.8), mended

    def forward(self, x: Tensor) -> Tensor:
        mem = self.activation.init_leaky()
        if not self.mended:
            direction = x / (torch.norm(x, p=2, dim=1, keepdim=True) + 1e-4)
            _, potential = self.activation(torch.mm(direction, self.fc.weight.T), mem)
            return potential  # type: ignore[no-any-return]
        spikes = []
        for _ in range(10):
            spk, mem = self.activation(self.fc(x), mem)
            spikes.append(spk)
        return torch.stack(spikes)


class StateSpace(nn.Module):
    """Tutorial 8: neurons that take all steps at once."""

    def __init__(self) -> None:
        super().__init__()
        self.fc1, self.lif1 = nn.Linear(784, 1000), snn.StateLeaky(beta=0.95, channels=1)
        self.fc2, self.lif2 = nn.Linear(1000, 10), snn.StateLeaky(beta=0.95, channels=1)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        spk1, _ = self.lif1(self.fc1(x))
        spk2, mem2 = self.lif2(self.fc2(spk1))
        return spk2, mem2


class Parallel(nn.Module):
    """`rnn_test_train.py`: LeakyParallel."""

    def __init__(self) -> None:
        super().__init__()
        self.lif1 = snn.LeakyParallel(784, 200, beta=0.95, learn_beta=True, threshold=1)
        self.lif2 = snn.LeakyParallel(200, 10, beta=0.95, learn_beta=False, threshold=1)

    def forward(self, x: Tensor) -> Tensor:
        return self.lif2(self.lif1(x.flatten(2)))  # type: ignore[no-any-return]


DENSE: tuple[Case, ...] = (
    Case("tutorial 3: fully connected", lambda: FullyConnected(25, 0.99, of_steps=True), spikes(25, 2, 784)),
    Case("tutorial 5: Net", lambda: FullyConnected(25, 0.95), image(2, 784)),
    Case("IPU tutorial: Model", lambda: FullyConnected(25, 0.9), image(2, 784)),
    Case("tutorial 8: Net", StateSpace, image(5, 2, 784)),
    Case("quickstart: Net", Quickstart, image(2, 1, 28, 28)),
    Case("regression I: Net", Regression, image(20, 2, 1), instead=lambda: Regression(mended=True)),
    Case("regression II: Net", Recurrent, image(2, 784)),
    Case("exoplanet hunter: Net", Exoplanets, image(2, 3197), instead=lambda: Exoplanets(mended=True)),
    Case("forward-forward: LeakyLayer", ForwardForward, image(2, 784), instead=lambda: ForwardForward(mended=True)),
    Case("delta SNNs: Net", lambda: Quickstart(snn.DeltaLeaky), image(2, 1, 28, 28), instead=Quickstart),
    Case("rnn_test_train: Net", Parallel, image(25, 2, 784), instead=lambda: FullyConnected(25, 0.95, of_steps=True)),
)
