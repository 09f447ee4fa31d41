"""Torch models made up at random: SpikingJelly's or snnTorch's modules, in every way they are put together."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from examples.benchmarks.truth.neurons import ChipNeuron


@dataclass(frozen=True)
class Block:
    """One layer of neurons: [pool] → [flatten] → conv or linear → [norm] → [+ side current] → neurons → [join].

    `side` and `join_with` are indices of values: 0 the input, i + 1 what block i sends. `main_sources` counts the
    populations whose spikes add up in what the block reads.
    """

    pool: int = 0
    flatten: bool = False
    side: int | None = None
    join: str = ""
    join_with: int = 0
    main_sources: int = 1


@dataclass
class Value:
    """What is known of a tensor while a model is made up."""

    shape: tuple[int, ...]
    sources: frozenset[str]
    binary: bool = True


class Net(nn.Module):
    """Blocks one after the other, and perhaps a linear readout."""

    def __init__(self, layout: str) -> None:
        super().__init__()
        self.layout = layout
        self.blocks: list[Block] = []
        self.parts = nn.ModuleDict()

    def forward(self, x: Tensor) -> Tensor:
        """What a loop over time, or one call, returns."""
        if self.layout != "loop":
            return self._step(x, {})
        states: dict[int, tuple[Tensor, ...]] = {}
        return torch.stack([self._step(step, states) for step in x])

    def _step(self, x: Tensor, states: dict[int, tuple[Tensor, ...]]) -> Tensor:
        values = [x]
        for i, block in enumerate(self.blocks):
            signal = self._through(values[-1], i, "pool", "flat", "layer", "norm")
            if block.side is not None:
                signal = signal + self._through(values[block.side], i, "side")
            spikes = self._fire(i, signal, states)
            if block.join:
                spikes = _join(block.join, spikes, values[block.join_with])
            values.append(spikes)
        return self._through(values[-1], len(self.blocks), "pool", "flat", "layer")

    def _through(self, signal: Tensor, index: int, *names: str) -> Tensor:
        for name in names:
            if f"{name}{index}" in self.parts:
                signal = self.parts[f"{name}{index}"](signal)
        return signal

    def _fire(self, index: int, current: Tensor, states: dict[int, tuple[Tensor, ...]]) -> Tensor:
        node: Any = self.parts[f"fire{index}"]
        if self.layout != "loop" or isinstance(node, ChipNeuron):
            spikes: Tensor = node(current)
            return spikes
        fresh = node.reset_mem() if index not in states else states[index]
        fired, *after = node(current, *(fresh if isinstance(fresh, tuple) else (fresh,)))
        states[index] = tuple(after)
        assert isinstance(fired, Tensor)
        return fired


def _join(kind: str, spikes: Tensor, other: Tensor) -> Tensor:
    """Spike-element-wise operations (Fang et al., NeurIPS 2021); IAND inverts what the block sends."""
    if kind == "ADD":
        return spikes + other
    return spikes * other if kind == "AND" else (1 - spikes) * other


@dataclass
class Model:
    """A model made up at random, with what it is to be fed. `inputs` are integers (T, N, *shape)."""

    net: Net
    inputs: Tensor
    graded: bool
    description: list[str]
    features: Counter[str] = field(default_factory=Counter)

    @property
    def shown(self) -> Tensor:
        """The inputs as the model takes them: spikes, or values 0 … 1."""
        return self.inputs.double() / (255 if self.graded else 1)

    @property
    def example(self) -> tuple[Tensor, int | None]:
        """What `from_torch` is given: an input, and T where the model takes one step."""
        example = torch.full_like(self.shown, 0.5 if self.graded else 0.0)
        whole = self.net.layout in ("multi-step", "loop")
        return (example, None) if whole else (example[0], len(example))
