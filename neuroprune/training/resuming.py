"""All that changes from step to step in a training run, so that it can go on as if it had never stopped."""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor, nn
from torch.amp.grad_scaler import GradScaler

from neuroprune.pruning.pruner import SoftThresholdPruner


@dataclass(frozen=True)
class Running:
    """The parts of a run; what `state` gives and `load` takes is everything that the steps so far have changed in them.

    The order of the data follows from the seed and the number of steps, so that it is no part of the state.
    """

    model: nn.Module
    optimizer: torch.optim.Optimizer
    scheduler: torch.optim.lr_scheduler.LRScheduler
    scaler: GradScaler
    pruner: SoftThresholdPruner | None

    def state(self) -> dict[str, Any]:
        """Nested dicts, lists and tuples of numbers, text and tensors, which are references."""
        state: dict[str, Any] = {
            "model": dict(self.model.state_dict()),
            "buffers": _unsaved_buffers(self.model),
            "optimizer": self.optimizer.state_dict(),
            "scheduler": self.scheduler.state_dict(),
            "scaler": self.scaler.state_dict(),
            "random": random_state(),
        }
        if self.pruner is not None:
            state["pruner"] = self.pruner.state_dict()
        return state

    @torch.no_grad()
    def load(self, state: Mapping[str, Any]) -> None:
        """Take a state over; the pruner's comes after the weights, which it writes, and the random numbers come last.

        Raises:
            ValueError, RuntimeError, KeyError: it belongs to another model, optimizer or pruner.
        """
        if ("pruner" in state) != (self.pruner is not None):
            raise ValueError("one of the two runs is pruned, the other is not")
        self.model.load_state_dict(state["model"])
        for name, buffer in _unsaved_buffers(self.model).items():
            buffer.copy_(state["buffers"][name])
        self.optimizer.load_state_dict(state["optimizer"])
        self.scheduler.load_state_dict(state["scheduler"])
        self.scaler.load_state_dict(state["scaler"])
        if self.pruner is not None:
            self.pruner.load_state_dict(state["pruner"])
        set_random_state(state["random"])


class Progress(Protocol):
    """Whoever keeps the states of a run, and stops it."""

    def begin(self, running: Running) -> int:
        """Load the state to go on from, if there is one; the number of steps that are done."""
        ...

    def done(self, steps: int, running: Running) -> None:
        """So many steps are done. What it raises ends the run."""
        ...


def random_state() -> dict[str, Any]:
    """Torch's generators (the CPU's, and the GPUs' if they were used), NumPy's and Python's."""
    kind, keys, position, has_normal, normal = np.random.get_state(legacy=True)  # noqa: NPY002 - what models may draw from
    version, words, next_normal = random.getstate()
    cuda: Any = torch.cuda
    return {
        "torch": torch.get_rng_state(),
        "cuda": cuda.get_rng_state_all() if cuda.is_initialized() else [],
        "numpy": (str(kind), torch.tensor(np.asarray(keys, np.int64)), int(position), int(has_normal), float(normal)),
        "python": (version, torch.tensor(words), next_normal),
    }


def set_random_state(state: Mapping[str, Any]) -> None:
    """Set what `random_state` gave; GPUs' only where there are as many."""
    torch.set_rng_state(state["torch"])
    if state["cuda"] and torch.cuda.is_available() and torch.cuda.device_count() == len(state["cuda"]):
        torch.cuda.set_rng_state_all(state["cuda"])
    kind, keys, *rest = state["numpy"]
    np.random.set_state((kind, keys.numpy().astype(np.uint32), *rest))  # noqa: NPY002 - what models may draw from
    version, words, next_normal = state["python"]
    random.setstate((version, tuple(words.tolist()), next_normal))


def _unsaved_buffers(model: nn.Module) -> dict[str, Tensor]:
    """Buffers that a model keeps out of its state_dict."""
    saved = model.state_dict().keys()
    return {name: buffer for name, buffer in model.named_buffers() if name not in saved}
