"""Synaptic operations as a term of the loss, so that training makes spikes rare where they cost much."""

from __future__ import annotations

import warnings
from typing import Any

import torch
from torch import Tensor, nn

from neuroprune._numbers import check_whole
from neuroprune.synops.inputs import beside_checkpoints, check_model, trained_on

#: Layers whose synaptic operations are counted.
LAYERS = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)


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

    Layers are `torch.nn.Linear`, `Conv1d` to `Conv3d` and what derives from them; those that read the image, real
    values that nothing is trained in front of, have no synaptic operations and are left out. Behind an average pool a
    spike counts as the fraction that the pool makes of it. `uncounted` names other modules with weights, which are not
    in it; it warns of them. It looks at passes in training mode with gradients enabled alone, and adds up in single
    precision at least. A copy of the model is not watched.

    Args:
        model: whose layers.
        every: passes of a layer for which its fan-out is kept; it is that of the weights that are zero then.

    Raises:
        TypeError: the model is no module.
        ValueError: `every` below 1, or a model without such layers.
        RuntimeError: in `backward()`, where a layer runs under activation checkpointing with `use_reentrant=True`.
    """

    def __init__(self, model: nn.Module, *, every: int = 10) -> None:
        check_model("SynOpsLoss", model)
        self.every = check_whole(self, "every", every)
        layers, uncounted = list[nn.Module](), list[str]()
        for name, module in model.named_modules():
            if isinstance(module, LAYERS):
                layers.append(module)
            elif any(p.dim() >= 2 for p in module.parameters(recurse=False)):
                uncounted.append(name)
        self.uncounted = tuple(uncounted)
        if not layers:
            raise ValueError(f"SynOpsLoss: {type(model).__name__} has no Linear or Conv1d/2d/3d layers to count")
        if uncounted:
            warnings.warn(
                f"SynOpsLoss: {', '.join(uncounted)} have weights, but are no Linear or Conv1d/2d/3d layers: their"
                " operations are not in the loss",
                UserWarning,
                stacklevel=2,
            )
        self._found: list[Tensor] = []
        self._fan_out: dict[nn.Module, tuple[int, Tensor]] = {}
        self._handles: list[Any] = [layer.register_forward_pre_hook(self._see, with_kwargs=True) for layer in layers]

    def __call__(self, samples: int) -> Tensor:
        """Synaptic operations per sample since the last call, a scalar; what was seen is forgotten.

        Args:
            samples: how many were seen since then.

        Raises:
            ValueError: `samples` below 1, or no pass in training mode since then.
        """
        samples = check_whole(self, "samples", samples)
        if not self._handles:
            raise ValueError(
                "SynOpsLoss: it watches no model: it was closed, or is a copy; make a new one, SynOpsLoss(model)"
            )
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

    def __getstate__(self) -> dict[str, Any]:
        """Of a copy, as a copied model has one in its hooks: nothing that was seen, and nothing to watch."""
        return {**self.__dict__, "_found": [], "_fan_out": {}, "_handles": []}

    def _see(self, layer: nn.Module, arguments: tuple[Any, ...], named: dict[str, Any]) -> None:
        if not self._handles or (values := trained_on(layer, arguments, named)) is None:
            return
        with beside_checkpoints():
            # The fan-out's type is at least single precision, which the product and its sum take over.
            self._found.append((values * self._fan_out_of(layer, values)).sum())

    def _fan_out_of(self, layer: nn.Module, values: Tensor) -> Tensor:
        passes, found = self._fan_out.get(layer, (0, None))
        kernel: Any = () if isinstance(layer, nn.Linear) else layer.kernel_size
        shape = values.shape[-len(kernel) - 1 :]
        if found is None or passes % self.every == 0 or found.shape != shape:
            found = fan_out(layer, shape).to(values.device)
        self._fan_out[layer] = (passes + 1, found)
        return found


def fan_out(layer: nn.Module, shape: tuple[int, ...]) -> Tensor:
    """Non-zero synapses that leave every input position of a layer, of the shape of one input, single precision.

    It is ∂(Σ layer_{[w ≠ 0]}(x))/∂x. Double precision where the layer has it.

    Raises:
        TypeError: another layer than Linear, Conv1d, Conv2d or Conv3d.
    """
    if not isinstance(layer, LAYERS):
        raise TypeError(f"fan_out: expected Linear, Conv1d, Conv2d or Conv3d, got {type(layer).__name__}")
    weight = layer.weight.detach()
    mask = (weight != 0).to(torch.promote_types(weight.dtype, torch.float32))
    if isinstance(layer, nn.Linear):
        return mask.sum(0)
    with torch.enable_grad(), torch.autocast(mask.device.type, enabled=False):
        one = torch.zeros(1, *shape, device=mask.device, dtype=mask.dtype, requires_grad=True)
        total = layer._conv_forward(one, mask, None).sum()
    return torch.autograd.grad(total, one)[0][0]
