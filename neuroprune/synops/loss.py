"""Synaptic operations as a term of the loss, so that training makes spikes rare where they cost much."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from neuroprune.synops.spikes import is_analog

#: Layers whose synaptic operations are counted.
LAYERS = (nn.Linear, nn.Conv1d, nn.Conv2d)


class SynOpsLoss:
    """Synaptic operations of the last forward passes, differentiable with respect to the spikes:

        synops = SynOpsLoss(model)
        loss = F.cross_entropy(model(x), y) + 1e-6 * synops(len(y))     # per sample
        loss.backward()
        ...
        synops.close()

    It is Σ_l Σ_p s_p·fan_out_p over the layers l and their input positions p: spikes times the non-zero synapses they
    cross (`count_synops` reports the same number, as a whole one). Its slope with respect to a spike is the fan-out,
    which the surrogate gradient carries to the neuron; weights get none through their own being zero or not. Beside
    the loss it is the energy term of Sorbaro et al., "Optimizing the Energy Consumption of Spiking Neural Networks for
    Neuromorphic Applications" (2020), who square its distance from a target.

    Layers are `torch.nn.Linear`, `Conv1d`, `Conv2d` and what derives from them; those that read the image, real values
    that nothing is trained in front of, have no synaptic operations and are left out. Behind an average pool a spike
    counts as the fraction that the pool makes of it. `uncounted` names other modules with weights, which are not in it.
    It looks at passes in training mode with gradients enabled alone.

    Args:
        model: whose layers.
        every: passes of a layer for which its fan-out is kept; it is that of the weights that are zero then.

    Raises:
        ValueError: `every` below 1, or a model without such layers.
    """

    def __init__(self, model: nn.Module, *, every: int = 10) -> None:
        if every < 1:
            raise ValueError(f"SynOpsLoss: every must be at least 1, got {every}")
        layers, uncounted = list[nn.Module](), list[str]()
        for name, module in model.named_modules():
            if isinstance(module, LAYERS):
                layers.append(module)
            elif any(p.dim() >= 2 for p in module.parameters(recurse=False)):
                uncounted.append(name)
        self.uncounted = tuple(uncounted)
        if not layers:
            raise ValueError(f"SynOpsLoss: {type(model).__name__} has no Linear, Conv1d or Conv2d layers to count")
        self.every = every
        self._found: list[Tensor] = []
        self._fan_out: dict[nn.Module, tuple[int, Tensor]] = {}
        self._handles: list[Any] = [layer.register_forward_pre_hook(self._see) for layer in layers]

    def __call__(self, samples: int) -> Tensor:
        """Synaptic operations per sample since the last call, a scalar; what was seen is forgotten.

        Args:
            samples: how many were seen since then.

        Raises:
            ValueError: no pass in training mode since then.
        """
        if not self._found:
            raise ValueError(
                "SynOpsLoss: no layer has read spikes in training mode since the last call; run the model first, with"
                " gradients enabled"
            )
        total = torch.stack(self._found).sum() / samples
        self._found = []
        return total

    def close(self) -> None:
        """Watch the model no more."""
        for handle in self._handles:
            handle.remove()
        self._handles.clear()
        self._found, self._fan_out = [], {}

    def _see(self, layer: nn.Module, arguments: tuple[Any, ...]) -> None:
        if not (layer.training and torch.is_grad_enabled() and isinstance(arguments[0], Tensor)):
            return
        values = arguments[0]
        if not is_analog(values):
            self._found.append((values * self._fan_out_of(layer, values)).sum())

    def _fan_out_of(self, layer: nn.Module, values: Tensor) -> Tensor:
        passes, found = self._fan_out.get(layer, (0, None))
        axes = 1 if isinstance(layer, nn.Linear) else 3 if isinstance(layer, nn.Conv2d) else 2
        shape = values.shape[-axes:]
        if found is None or passes % self.every == 0 or found.shape != shape:
            found = fan_out(layer, shape).to(values)
        self._fan_out[layer] = (passes + 1, found)
        return found


def fan_out(layer: nn.Module, shape: tuple[int, ...]) -> Tensor:
    """Non-zero synapses that leave every input position of a layer, of the shape of one input.

    It is ∂(Σ layer_{[w ≠ 0]}(x))/∂x.

    Raises:
        TypeError: another layer than Linear, Conv1d or Conv2d.
    """
    if isinstance(layer, nn.Linear):
        return (layer.weight.detach() != 0).sum(0)
    if not isinstance(layer, (nn.Conv1d, nn.Conv2d)):
        raise TypeError(f"fan_out: expected Linear, Conv1d or Conv2d, got {type(layer).__name__}")
    mask = (layer.weight.detach() != 0).to(layer.weight)
    with torch.enable_grad():
        one = torch.zeros(1, *shape, device=mask.device, dtype=mask.dtype, requires_grad=True)
        total = layer._conv_forward(one, mask, None).sum()
    return torch.autograd.grad(total, one)[0][0]
