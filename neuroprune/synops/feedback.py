"""Synapses that a block applies itself, step by step, so that no hook of theirs sees what crosses them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from neuroprune.frameworks import spikes_of


class Feedback:
    """What the neurons of a recurrent block of lava-dl's slayer sent in one step, on its way back to them in the next.

    Such a block calls its neurons once a step and multiplies with its `recurrent_synapse`'s weight by itself
    (lava-dl 0.6.0 `slayer/utils/recurrent.py`). Spikes of the last step of a call cross no synapse.
    """

    def __init__(self, block: Any, count: Callable[[nn.Module, Tensor], None]) -> None:
        self._block, self._count = block, count
        self._sent: Tensor | None = None

    @staticmethod
    def is_in(module: nn.Module) -> bool:
        """Whether a module is such a block."""
        parts = (getattr(module, name, None) for name in ("neuron", "input_synapse", "recurrent_synapse"))
        return all(isinstance(part, nn.Module) for part in parts)

    def hooks(self) -> Iterator[RemovableHandle]:
        """Registers them."""
        yield self._block.register_forward_pre_hook(self._forget)
        yield self._block.neuron.register_forward_hook(self._step)
        yield self._block.register_forward_hook(self._forget)

    def _forget(self, *_: Any) -> None:
        self._sent = None

    def _step(self, _neuron: nn.Module, _args: Any, output: Any) -> None:
        if self._sent is not None:
            self._count(self._block.recurrent_synapse, self._sent)
        self._sent = spikes_of(output)
