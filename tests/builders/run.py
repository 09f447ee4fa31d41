"""A small net in training with its optimizer and pruner, and exact copies and comparisons of all their state."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from neuroprune import Schedule, SoftThresholdPruner

Groups: TypeAlias = list[dict[str, Any]]
MakeOptimizer: TypeAlias = Callable[[Groups], Optimizer]


class Net(nn.Module):
    """Two pruned layers, one with prune=False, and one that never gets a gradient."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first, self.second, self.head = nn.Linear(8, 12), nn.Linear(12, 6), nn.Linear(6, 2)
        self.unused = nn.Linear(3, 3)

    def forward(self, x: Tensor) -> Tensor:
        output: Tensor = self.head(torch.relu(self.second(torch.relu(self.first(x)))))
        return output


class SmallRun:
    """Training on batches that depend on the step number alone."""

    def __init__(self, make: MakeOptimizer, rule: Schedule) -> None:
        self.net = net = Net()
        groups: Groups = [
            {"params": [*net.first.parameters(), *net.unused.parameters()]},
            {"params": list(net.second.parameters()), "max_sparsity": 0.95},
            {"params": list(net.head.parameters()), "prune": False},
        ]
        self.optimizer = make(groups)
        self.pruner = SoftThresholdPruner(self.optimizer, rule)

    def loss(self, step: int) -> Tensor:
        generator = torch.Generator().manual_seed(step)
        x, y = torch.randn(16, 8, generator=generator), torch.randn(16, 2, generator=generator)
        loss: Tensor = (self.net(x) - y).square().mean()
        return loss

    def backward(self, step: int) -> None:
        self.optimizer.zero_grad()
        torch.autograd.backward(self.loss(step))

    def train(self, first: int, last: int) -> None:
        for step in range(first, last):
            self.backward(step)
            self.optimizer.step()

    def saved(self) -> Any:
        """A copy of weights, optimizer state, θ, thresholds and all else the pruner keeps."""
        found: list[Any] = [part.state_dict() for part in (self.net, self.optimizer, self.pruner)]
        return copy.deepcopy([*found, self.pruner.thresholds, self.pruner.l1, self.pruner.step])


def weights(module: nn.Module) -> dict[str, Tensor]:
    """A copy of parameters and buffers."""
    return {name: value.detach().clone() for name, value in module.state_dict().items()}


def same(a: Any, b: Any) -> bool:
    """Equality of nested states, tensors bit for bit; NaN equals nothing."""
    if isinstance(a, Tensor) or isinstance(b, Tensor):
        return isinstance(a, Tensor) and isinstance(b, Tensor) and a.dtype == b.dtype and torch.equal(a, b)
    if isinstance(a, dict):
        return isinstance(b, dict) and a.keys() == b.keys() and all(same(a[key], b[key]) for key in a)
    if isinstance(a, (list, tuple)):
        return len(a) == len(b) and all(same(x, y) for x, y in zip(a, b, strict=True))
    return bool(a == b)
