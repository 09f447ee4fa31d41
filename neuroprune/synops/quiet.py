"""Modules of which it is known what they compute, so that their functions need not be watched one by one.

Watching a function costs some microseconds; a layer of a framework calls ten of them for one product.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from torch import Tensor, nn

from neuroprune.frameworks import Framework
from neuroprune.synops.known import is_parameter

#: Layers that multiply by their weight once.
_PRODUCTS = (nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.Linear)
_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)


class Quiet:
    """Which modules of a model are such.

    Attributes:
        neurons: they send spikes, and multiply by nothing.
        products: layers that multiply by their weight once.
        norms: batch-norms, whose result is real.
    """

    def __init__(self, modules: Iterable[nn.Module], neurons: Iterable[nn.Module], framework: Framework | None) -> None:
        """`neurons`: those whose output is spikes by definition."""
        self.neurons = frozenset(m for m in neurons if not _multiplies(m))
        plain = [m for m in modules if _is_plain(m, framework)]
        self.products = frozenset(m for m in plain if _multiplies_once(m))
        self.norms = frozenset(m for m in plain if isinstance(m, _NORMS))
        self._all = self.neurons | self.products | self.norms

    def knows(self, module: nn.Module) -> bool:
        """Whether a module is one of them."""
        return module in self._all

    def holds(self, module: nn.Module, args: tuple[Any, ...]) -> bool:
        """Whether one of them, called with these arguments, does what it is known for and nothing else."""
        if module in self.neurons:
            return True
        if len(args) != 1 or not isinstance(args[0], Tensor):
            return False
        # Somebody may have changed it since.
        changed = module._forward_pre_hooks or module._forward_hooks or "forward" in module.__dict__
        return not changed and (module in self.norms or _fits(module, args[0]))


def _is_plain(module: nn.Module, framework: Framework | None) -> bool:
    return type(module) in (*_PRODUCTS, *_NORMS) or (framework is not None and framework.is_plain_layer(module))


def _multiplies_once(module: Any) -> bool:
    """Whether it is such a layer, and does nothing before, as those that pad in another way than with zeros."""
    return isinstance(module, _PRODUCTS) and bool(getattr(module, "padding_mode", "zeros") == "zeros")


def _fits(module: Any, x: Tensor) -> bool:
    """Whether a layer's weight is its parameter, and its input has the channels or features that it takes."""
    if not is_parameter(module.weight):
        return False
    axis = 1 - module.weight.dim()
    wide = module.in_features if isinstance(module, nn.Linear) else module.in_channels
    return bool(x.dim() >= -axis and x.shape[axis] == wide)


def _multiplies(neurons: nn.Module) -> bool:
    """Whether neurons hold anything that they may multiply by: layers, weights, recorded states."""
    tensors = [*neurons.parameters(), *neurons.buffers()]
    return any(t.dim() >= 2 for t in tensors) or any(isinstance(m, _PRODUCTS) for m in neurons.modules())
